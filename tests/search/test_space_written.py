"""Graphs written as layer lists: every layer type, reuse, several inputs and outputs, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from predictor.builder import GraphBuilder
from predictor.config import load_config, parse_config
from predictor.errors import ModelError
from predictor.frontends.layer_list import build_layers, graph_of
from predictor.frontends.load import load_graph
from predictor.graph import Graph
from predictor.layer_types import layer_types
from predictor.search.spaces.written import config_of, layers_of

EXAMPLES = Path(__file__).parents[2] / "examples"
IMAGE, ROWS = (2, 8, 12, 12), (2, 6, 8)

CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "conv1d": ({"out": 4, "kernel": 3, "stride": 2, "padding": 1}, (2, 8, 9)),
    "conv2d": ({"out": 6, "kernel": [3, 1], "dilation": 2, "groups": 2, "bias": False}, IMAGE),
    "conv3d": ({"out": 4, "kernel": 2, "padding": "same"}, (1, 2, 5, 5, 5)),
    "conv_transpose1d": ({"out": 4, "kernel": 3, "stride": 2, "output_padding": 1}, (2, 8, 9)),
    "conv_transpose2d": ({"out": 4, "kernel": 4, "stride": 2, "padding": 1}, IMAGE),
    "conv_transpose3d": ({"out": 4, "kernel": 2, "stride": [1, 2, 2]}, (1, 2, 5, 5, 5)),
    "linear": ({"out": 5, "bias": False}, ROWS),
    "lstm": ({"hidden": 5, "layers": 2, "bidirectional": True}, ROWS),
    "gru": ({"hidden": 5, "bias": False}, ROWS), "rnn": ({"hidden": 5, "batch_first": False}, ROWS),
    "multi_head_attention": ({"heads": 2, "causal": True}, ROWS),
    "squeeze_excite": ({}, IMAGE), "layer_norm": ({"axes": 2}, ROWS),
    "group_norm": ({"groups": 4}, IMAGE), "prelu": ({"per_channel": True}, IMAGE),
    "glu": ({"axis": 1}, IMAGE), "softmax": ({}, ROWS), "mean": ({"axes": [2, 3]}, IMAGE),
    "sum": ({"axes": -1, "keepdim": True}, ROWS), "amax": ({"axes": 1}, ROWS),
    "amin": ({"axes": 2}, ROWS), "argmax": ({"axes": 2}, ROWS),
    "class_token": ({}, ROWS), "position_embedding": ({}, ROWS), "scale": ({}, ROWS),
    "max_pool": ({"kernel": 3, "stride": 2, "padding": 1, "ceil_mode": True}, (1, 4, 12, 12)),
    "avg_pool": ({"kernel": [2, 3]}, IMAGE), "adaptive_max_pool": ({"size": 3}, IMAGE),
    "adaptive_avg_pool": ({"size": [3, 4]}, IMAGE),
    "global_avg_pool": ({"flatten": True}, IMAGE), "global_max_pool": ({}, IMAGE),
    "resize": ({"size": [24, 20], "mode": "bilinear"}, IMAGE), "upsample": ({"scale": 2}, IMAGE),
    "flatten": ({"start": 2}, IMAGE), "reshape": ({"shape": [0, 4, -1]}, IMAGE),
    "transpose": ({"axes": [1, 2]}, ROWS), "permute": ({"order": [0, 2, 3, 1]}, IMAGE),
    "slice": ({"start": 2, "stop": 8, "step": 2}, IMAGE), "select": ({"index": 1}, IMAGE),
    "pad": ({"padding": [1, 1, 2, 2]}, IMAGE), "pixel_shuffle": ({"factor": 2}, IMAGE),
    "pixel_unshuffle": ({"factor": 2}, IMAGE), "cast": ({"dtype": "float16"}, ROWS),
}  # fmt: skip
"""Keys and input of layers that need some; others are written without any."""
APART = {"matmul", "attention", "embedding", "concat", "split", "channel_shuffle", "dropout",
         "identity", "add", "sub", "mul", "div", "pow", "maximum", "minimum"}  # fmt: skip
"""Tested below, or no operators."""


def rows(graph: Graph) -> list[Any]:
    return [(op.kind, op.macs, op.elementwise_flops, op.params, op.read_bytes, op.write_bytes,
             op.inputs, op.outputs) for op in graph.ops]  # fmt: skip


def again(graph: Graph) -> Graph:
    return graph_of(parse_config(yaml.safe_dump(config_of(graph), sort_keys=False)))


@pytest.mark.parametrize("type_", sorted(set(layer_types()) - APART))
def test_every_type(type_: str) -> None:
    keys, shape = CASES.get(type_, ({}, IMAGE))
    graph = build_layers([{"type": type_, **keys}], [shape])
    made = build_layers(layers_of(graph), [shape])
    assert rows(made) == rows(graph)
    assert made.params == graph.params


def test_types_apart_and_reuse_and_sharing() -> None:
    layers: list[Any] = [
        {"type": "embedding", "rows": 50, "width": 16, "from": "ids", "share": "words"},
        {"type": "linear", "out": 48, "name": "qkv"},
        {"type": "split", "parts": 3, "axis": 2, "name": "parts"},
        {"type": "reshape", "shape": [0, 0, 2, 8], "from": "parts.0", "name": "q"},
        {"type": "reshape", "shape": [0, 0, 2, 8], "from": "parts.1", "name": "k"},
        {"type": "reshape", "shape": [0, 0, 2, 8], "from": "parts.2", "name": "v"},
        {"type": "attention", "causal": True, "from": ["q", "k", "v"], "name": "mixed"},
        {"type": "mul", "from": ["mixed", "q"]},
        {"type": "concat", "axis": 3, "from": ["previous", "k", "v"]},
        {"type": "flatten", "start": 2},
        {"type": "linear", "out": 16, "name": "back"},
        {"type": "transpose", "axes": [1, 2], "name": "turned"},
        {"type": "matmul", "from": ["back", "turned"]},
        {"type": "linear", "out": 16},
        {"type": "add", "from": ["previous", "features"], "name": "end"},
        {"type": "linear", "out": 50, "bias": False, "share": "words"},
        {"type": "linear", "out": 2, "from": "end", "name": "second"},
    ]
    inputs = {"ids": {"shape": [1, 6], "dtype": "int64"}, "features": [1, 6, 16]}
    graph = build_layers(layers, inputs)
    made = again(graph)
    assert rows(made) == rows(graph)
    assert made.params == graph.params
    assert len(made.output_ids) == len(graph.output_ids) == 2
    assert made.input_names == graph.input_names
    assert made.input_specs == graph.input_specs


def test_outputs_that_are_read_are_said() -> None:
    b = GraphBuilder("two ends")
    x = b.linear(b.input((1, 8)), 8, name="a.b")
    y = b.linear(b.activation(x), 4, name="a_b")
    graph = b.finish(x, y)
    config = config_of(graph)
    assert config["model"]["outputs"] == ["a_b", "a_b_2"]
    assert config["inputs"] == [1, 8]
    assert rows(again(graph)) == rows(graph)
    assert again(graph).output_ids == graph.output_ids


@pytest.mark.parametrize("name", ["config", "branches", "mobilenet_v2", "transformer", "lstm",
                                  "two_inputs"])  # fmt: skip
def test_examples(name: str) -> None:
    graph = graph_of(load_config(EXAMPLES / f"{name}.yaml"))
    made = again(graph)
    assert rows(made) == rows(graph)
    assert made.params == graph.params


@pytest.mark.parametrize("name", [
    "ofa:ks=7,e=6,d=4", "fbnet:" + "-".join("0" * 22),
    "nasbench201:|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|skip_connect~2|",
])  # fmt: skip
def test_families(name: str) -> None:
    graph = load_graph(name)
    made = again(graph)
    assert rows(made) == rows(graph)
    assert [op.attrs.get("kernel") for op in made.ops] == [
        op.attrs.get("kernel") for op in graph.ops
    ]


def test_another_batch_fits() -> None:
    graph = graph_of(load_config(EXAMPLES / "transformer.yaml"))
    config = parse_config(yaml.safe_dump(config_of(graph), sort_keys=False))
    assert graph_of(config, batch=3).macs == 3 * graph.macs


def test_what_no_layer_is_is_refused() -> None:
    b = GraphBuilder("odd")
    x = b.input((1, 8))
    odd = b.op("elementwise", [x], [x.shape], name="turn", attrs={"fn": "mul"})[0]
    with pytest.raises(
        ModelError,
        match=r"^turn: no layer type makes this operator \(elementwise mul of 1 tensor\); keep",
    ):
        layers_of(b.finish(odd))
    b = GraphBuilder("strange")
    x = b.input((1, 8))
    with pytest.raises(ModelError, match=r"r: no layer type .*\(copy roll of 1 tensor\)"):
        layers_of(b.finish(*b.op("copy", [x], [x.shape], name="r", attrs={"fn": "roll"})))


def test_axes_that_only_one_order_gives() -> None:
    """A traced transposition says shapes alone."""
    b = GraphBuilder("turned")
    x = b.input((1, 4, 6, 8))
    known = b.op("transpose", [x], [(1, 6, 8, 4)])[0]
    assert layers_of(b.finish(known))[0]["order"] == [0, 2, 3, 1]
    b = GraphBuilder("either")
    x = b.input((1, 4, 4, 8))
    with pytest.raises(ModelError, match="no layer type"):
        layers_of(b.finish(b.op("transpose", [x], [(1, 4, 8, 4)])[0]))


def test_several_results_of_which_one_is_read() -> None:
    """A traced pooling gives its positions too."""
    b = GraphBuilder("pooled")
    x = b.input((1, 4, 8, 8))
    attrs = {"type": "max", "kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    y = b.op("pool", [x], [(1, 4, 4, 4)] * 2, name="pool", attrs=attrs)
    assert layers_of(b.finish(b.activation(y[0])))[0] == {
        "type": "max_pool",
        "kernel": 2,
        "name": "pool",
    }
    with pytest.raises(ModelError, match="reads something that no layer makes"):
        layers_of(b.finish(b.activation(y[1], name="odd")))


def test_a_graph_that_would_cost_something_else_is_refused() -> None:
    b = GraphBuilder("biased")
    x = b.input((1, 8))
    y = b.op("norm", [x], [x.shape], name="n", attrs={"type": "rms"})[0]  # without its weight
    with pytest.raises(ModelError, match="costs something else"):
        config_of(b.finish(y))


def test_weights_shared_in_part_are_refused() -> None:
    b = GraphBuilder("tied")
    x = b.input((1, 8))
    y = b.linear(b.linear(x, 8, name="one"), 8, name="two")
    graph = b.finish(y)
    first, second = graph.ops
    half = replace(second, weight_ids=(first.weight_ids[0], second.weight_ids[1]))
    with pytest.raises(ModelError, match="shares some of its weights"):
        layers_of(replace(graph, ops=(first, half)))
