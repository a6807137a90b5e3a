"""What every space keeps: keys that read back, one form of a network, graphs that are the module's."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from predictor.config import parse_config
from predictor.frontends.layer_list import graph_of
from predictor.frontends.load import load_graph
from predictor.graph import Graph
from predictor.pipeline import Predictor
from predictor.search.space import SearchSpace
from predictor.search.spaces.find import SPACES, load_space

EXAMPLES = Path(__file__).parents[2] / "examples"
BLOCKS = str(EXAMPLES / "space-blocks.yaml")
SEEDS = 20


@pytest.fixture(scope="module")
def jetson() -> Predictor:
    return Predictor("jetson")


def small(name: str) -> SearchSpace:
    """The space, without its largest networks."""
    space = load_space(name).space
    if name == "vit":
        return space.narrowed({"resolution": [160, 224], "depth": [2, 4], "patch": [16, 32]})
    if name == "decoder":
        return space.narrowed({"layers": [2, 4], "hidden": [256, 384, 512], "vocab": [32000],
                               "sequence": [128, 256]})  # fmt: skip
    if name == "resnet":
        return space.narrowed({"depth_2": [1, 2, 3], "depth_3": [1, 2, 3]})
    return space


def costs(graph: Graph) -> Counter[Any]:
    return Counter((op.kind, op.macs, op.read_bytes, op.write_bytes, op.params)
                   for op in graph.ops if not op.is_view)  # fmt: skip


NAMES = [*SPACES, BLOCKS]
named = pytest.mark.parametrize("name", NAMES, ids=[Path(name).stem for name in NAMES])


@named
def test_keys_read_back(name: str) -> None:
    space = load_space(name).space
    for seed in range(SEEDS):
        values = space.random(Random(seed))
        key = space.key(values)
        assert space.values(key) == values
        assert space.canonical(values) == values
        assert space.key(space.values(key)) == key


@named
def test_a_network_has_one_form(name: str) -> None:
    """Whatever is drawn, its canonical values make the same operators under the same key."""
    space, chance = small(name), Random(0)
    for _ in range(SEEDS):
        values = {word: chance.choice(known) for word, known in space.parameters.items()}
        own = space.canonical(values)
        assert space.canonical(own) == own
        assert space.key(values) == space.key(own)
        graph, other = space.graph(values), space.graph(own)
        assert graph.ops == other.ops
        assert graph.name == other.name


@named
def test_neighbours_differ(name: str) -> None:
    space, chance = load_space(name).space, Random(1)
    values = space.random(chance)
    for count in (1, 2, 5):
        other = space.mutated(values, chance, count)
        assert space.key(other) != space.key(values)
        assert space.canonical(other) == other


@named
def test_a_configuration_is_the_network(name: str, jetson: Predictor, tmp_path: Path) -> None:
    space = small(name)
    for seed in range(5):
        values = space.random(Random(seed))
        graph = space.graph(values)
        text = yaml.safe_dump(space.config(values), sort_keys=False)
        config = parse_config(text)
        if isinstance(config.model, str):
            file = tmp_path / "config.yaml"
            file.write_text(text)
            again = load_graph(file)
        else:
            again = graph_of(config)
        assert costs(again) == costs(graph)
        assert [op.kind for op in again.ops] == [op.kind for op in graph.ops]
        assert again.params == graph.params
        one, other = (jetson.estimate(g).latency_ms for g in (graph, again))
        assert other == pytest.approx(one, rel=1e-9)


# -- against tracing ------------------------------------------------------------------------------


def traced(space: SearchSpace, values: Mapping[str, Any]) -> Graph:
    torch = pytest.importorskip("torch", reason="tracing needs torch")
    from predictor import trace

    with torch.device("meta"):
        module = space.module(values)
        shape = (1, *space.input_shape(values))
        ids = None if space.input_dtype() == "float32" else torch.zeros(shape, dtype=torch.int64)
    return trace(module, shape if ids is None else ids)


traceable = pytest.mark.parametrize(
    ("name", "count"),
    [("resnet", 8), ("vit", 12), (BLOCKS, 12), ("ofa", 2), ("fbnet", 2), ("nasbench201", 2)],
    ids=["resnet", "vit", "space-blocks", "ofa", "fbnet", "nasbench201"],
)


@traceable
def test_the_graph_is_the_module_s(name: str, count: int, jetson: Predictor) -> None:
    space = small(name)
    for seed in range(count):
        values = space.random(Random(100 + seed))
        graph, again = space.graph(values), traced(space, values)
        assert costs(again) == costs(graph), space.key(values)
        assert again.params == graph.params
        one, other = (jetson.estimate(g).latency_ms for g in (graph, again))
        assert other == pytest.approx(one, rel=1e-6), space.key(values)


def test_a_decoder_s_module_works_as_much(jetson: Predictor) -> None:
    """Rotary positions are two operators in the graph and a few more in the module."""
    space = small("decoder")
    for seed in range(4):
        values = space.random(Random(seed))
        graph, again = space.graph(values), traced(space, values)
        assert (again.macs, again.params) == (graph.macs, graph.params)
        one, other = (jetson.estimate(g).latency_ms for g in (graph, again))
        assert other == pytest.approx(one, rel=0.1)


@pytest.mark.parametrize("name", ["resnet", "vit", BLOCKS], ids=["resnet", "vit", "space-blocks"])
def test_modules_run(name: str) -> None:
    torch = pytest.importorskip("torch", reason="running needs torch")
    space = small(name)
    values = space.random(Random(3))
    with torch.no_grad():
        scores = space.module(values).eval()(torch.zeros(2, *space.input_shape(values)))
    assert scores.shape[0] == 2
    assert len(scores.shape) == 2


def test_a_class_that_only_has_a_module(jetson: Predictor) -> None:
    pytest.importorskip("torch", reason="the class is written in torch")
    space = load_space(EXAMPLES / "space-python.yaml").space
    assert space.size == 2 * 3 * 3 * 2
    for seed in range(5):
        values = space.random(Random(seed))
        assert space.values(space.key(values)) == values
        graph = space.graph(values)
        config = space.config(values)
        again = graph_of(parse_config(yaml.safe_dump(config)))
        assert costs(again) == costs(graph)
        one, other = (jetson.estimate(g).latency_ms for g in (graph, again))
        assert other == pytest.approx(one, rel=1e-9)


def test_no_framework_is_needed() -> None:
    """Drawing, building and writing networks loads no heavy package."""
    code = (
        "import sys; from random import Random\n"
        "from predictor.search.spaces.find import SPACES, load_space\n"
        f"for name in [*SPACES, {BLOCKS!r}]:\n"
        "    space = load_space(name).space\n"
        "    values = space.random(Random(0)); space.graph(values); space.config(values)\n"
        "print([m for m in ('torch', 'onnx', 'optuna', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=EXAMPLES.parent, check=False)  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr
