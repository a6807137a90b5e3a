"""torch.export archives: counted as by hand and as traced, read without torch, never unpickled."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="archives are made with torch")

import torch
from exported_nets import nets

from predictor.errors import ModelError, PredictorError
from predictor.frontends import pt2_file
from predictor.frontends.pt2 import read_pt2
from predictor.frontends.torch_module import trace
from predictor.graph import Graph

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")
CASES = nets()


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pt2")
    found = {}
    for name, case in CASES.items():
        found[name] = folder / f"{name}.pt2"
        torch.export.save(torch.export.export(case.module, case.inputs), found[name])
    batch = torch.export.Dim("batch")
    case = CASES["block"]
    program = torch.export.export(case.module, case.inputs, dynamic_shapes=({0: batch},))
    found["open"] = folder / "open.pt2"
    torch.export.save(program, found["open"])
    return found


@pytest.mark.parametrize("name", sorted(CASES))
def test_counts_are_those_by_hand(archives: dict[str, Path], name: str) -> None:
    graph = read_pt2(archives[name])
    assert (graph.macs, graph.params) == (CASES[name].macs, CASES[name].params)
    assert not graph.unknown
    assert graph.name == name
    assert Graph.from_dict(graph.to_dict()) == graph


@pytest.mark.parametrize("name", sorted(CASES))
def test_heavy_operators_are_those_of_a_trace(archives: dict[str, Path], name: str) -> None:
    heavy = {"conv", "linear", "matmul", "attention", "rnn", "norm", "activation", "resize"}

    def of(graph: Graph) -> list[Any]:
        return [(op.name, op.kind, dict(op.attrs), op.outputs[:1], op.macs, op.params)
                for op in graph.ops if op.kind in heavy]  # fmt: skip

    traced = trace(CASES[name].module, CASES[name].inputs)
    assert of(read_pt2(archives[name])) == of(traced)


def test_an_open_batch(archives: dict[str, Path]) -> None:
    one, five = read_pt2(archives["open"]), read_pt2(archives["open"], batch=5)
    assert "dimension 0 is open; read with the example's 2" in one.notes[0]
    assert one.macs == CASES["block"].macs
    assert five.batch == 5
    assert five.macs == CASES["block"].macs // 2 * 5
    assert {op.outputs[0].shape[0] for op in five.ops if op.kind == "linear"} == {5}


def test_a_fixed_batch(archives: dict[str, Path]) -> None:
    assert read_pt2(archives["block"], batch=2) == read_pt2(archives["block"])
    with pytest.raises(ModelError, match=r"batch 2 fixed.*dynamic_shapes"):
        read_pt2(archives["block"], batch=4)
    with pytest.raises(ModelError, match="1 or more"):
        read_pt2(archives["block"], batch=0)


def test_a_tied_weight_counts_once(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(50, 8)
            self.head = torch.nn.Linear(8, 50, bias=False)
            self.head.weight = self.table.weight
            self.register_buffer("scale", torch.ones(8))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.table(ids) * self.scale)

    path = tmp_path / "tied.pt2"
    torch.export.save(torch.export.export(Tied(), (torch.zeros(2, 7, dtype=torch.int64),)), path)
    graph = read_pt2(path)
    assert graph.params == 400
    assert graph.macs == 2 * 7 * 8 * 50
    assert [w.role for w in graph.weights].count("buffer") == 1
    assert graph.input_specs[0].dtype == "int64"


def test_no_gradient_regions_are_read_in_place(tmp_path: Path) -> None:
    class Frozen(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                x = self.layer(x)
            return torch.relu(x + 1)

    path = tmp_path / "frozen.pt2"
    torch.export.save(torch.export.export(Frozen(), (torch.zeros(2, 8),)), path)
    assert [op.kind for op in read_pt2(path).ops] == ["linear", "elementwise", "activation"]


def test_reading_loads_no_torch(archives: dict[str, Path]) -> None:
    code = (
        f"import sys, predictor.frontends.pt2 as m; m.read_pt2({str(archives['block'])!r});"
        "assert not {'torch', 'onnx', 'pickle5'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- damage -------------------------------------------------------------------------------------


def _graph_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if "/models/" in n)
        return json.loads(archive.read(name))


def _save(path: Path, program: Any, member: str = "m/models/model.json") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, program if isinstance(program, str) else json.dumps(program))
    return path


def test_the_older_flat_layout_reads_too(archives: dict[str, Path], tmp_path: Path) -> None:
    program = _graph_of(archives["block"])
    old = _save(tmp_path / "block.pt2", program, "serialized_exported_program.json")
    assert read_pt2(old) == read_pt2(archives["block"])


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("data.txt", "x", "holds no exported graph"),
        ("archive/data.pkl", "x", "is a pickle"),
        ("m/data/aotinductor/model/a.so", "x", "AOTInductor"),
        ("m/models/model.json", "{", "no readable"),
        ("m/models/model.json", "[1, 2]", "no exported program"),
        ("m/models/model.json", "[" * 100_000, "no readable"),
        (
            "m/models/model.json",
            '{"graph_module": {}, "schema_version": {"major": 99}}',
            "version 99",
        ),
        ("m/models/model.json", '{"graph_module": {"graph": []}}', "damaged"),
    ],
)
def test_wrong_archives(tmp_path: Path, member: str, content: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read_pt2(_save(tmp_path / "x.pt2", content, member))


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no readable"):
        read_pt2(tmp_path / "absent.pt2")
    with pytest.raises(ModelError, match="is a folder"):
        read_pt2(tmp_path)
    path = tmp_path / "text.pt2"
    path.write_text("hello")
    with pytest.raises(ModelError, match="no readable"):
        read_pt2(path)


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pt2_file, "MAX_JSON_BYTES", 1 << 20)
    path = _save(tmp_path / "bomb.pt2", " " * (2 << 20))
    with pytest.raises(ModelError, match="unpacks to over 1 MB"):
        read_pt2(path)


def test_a_missing_tensor_is_named(archives: dict[str, Path], tmp_path: Path) -> None:
    program = _graph_of(archives["block"])
    program["graph_module"]["graph"]["nodes"][3]["inputs"][0]["arg"] = {
        "as_tensor": {"name": "gone"}
    }
    with pytest.raises(ModelError, match="'gone' is not made by any earlier node"):
        read_pt2(_save(tmp_path / "x.pt2", program))


def _damage(value: Any, rng: random.Random) -> None:
    """One change at a random depth of a JSON value."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        inner = value[key]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.9:
            value = inner
            continue
        choice = rng.choice([None, -1, 1 << 62, "x", [], {}, True, 1.5, "delete", {"as_int": 0}])
        if choice == "delete":
            del value[key]
        else:
            value[key] = choice
        return


@pytest.mark.parametrize("name", sorted(CASES))
def test_damaged_graphs_give_a_graph_or_a_clear_error(
    archives: dict[str, Path], tmp_path: Path, name: str
) -> None:
    whole = _graph_of(archives[name])
    text = json.dumps(whole)
    refused = 0
    for number in range(40):
        rng = random.Random(f"{name}{number}")
        program = json.loads(text)
        for _ in range(rng.choice([1, 3])):
            _damage(program["graph_module"], rng)
        try:
            assert isinstance(read_pt2(_save(tmp_path / "x.pt2", program)), Graph)
        except PredictorError:
            refused += 1
    assert refused >= 8


def test_damaged_bytes_give_a_graph_or_a_clear_error(
    archives: dict[str, Path], tmp_path: Path
) -> None:
    data = archives["lstm"].read_bytes()
    refused = 0
    for number in range(40):
        rng = random.Random(number)
        changed = bytearray(data[: rng.randrange(len(data))] if number % 2 else data)
        for _ in range(30):
            if changed:
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        path = tmp_path / "x.pt2"
        path.write_bytes(bytes(changed))
        try:
            assert isinstance(read_pt2(path), Graph)
        except PredictorError:
            refused += 1
    assert refused >= 20
