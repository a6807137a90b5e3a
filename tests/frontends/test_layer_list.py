"""Layer lists: counts against hand-computed values and published ones, names, ties, overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from predictor.config import load_config
from predictor.errors import ConfigError, ModelError
from predictor.frontends.layer_list import build_layers, graph_of, input_specs
from predictor.frontends.layer_makers import MAKERS
from predictor.graph import Graph, TensorSpec
from predictor.layer_types import ACTIVATIONS, BINARY, UNARY, layer_types
from predictor.operators import KINDS
from predictor.operators import elementwise as operators

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def out_shapes(graph: Graph) -> list[tuple[int, ...]]:
    """Shapes of what the graph returns."""
    specs = dict(zip(graph.input_ids, graph.input_specs, strict=True))
    for op in graph.ops:
        specs.update(zip(op.output_ids, op.outputs, strict=True))
    return [specs[i].shape for i in graph.output_ids]


def one(layer: Any, *shape: int, dtype: str = "float32") -> Graph:
    """The graph of one layer."""
    return build_layers([layer], {"x": TensorSpec(shape, dtype)})


# -- tables ---------------------------------------------------------------------------------------


def test_the_tables_agree() -> None:
    assert set(MAKERS) == set(layer_types())
    assert set(ACTIVATIONS) == set(operators.ACTIVATION_FLOPS)
    assert set(UNARY) <= set(operators.UNARY)
    assert set(BINARY) <= set(operators.BINARY)


# -- whole networks -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [  # params as published by torchvision and OpenAI; MACs by hand from the layers
        ("config", 11_689_512, 1_814_073_344),
        ("mobilenet_v2", 3_504_872, 300_774_272),
        ("transformer", 86_567_656, None),
        ("gpt2", 124_439_808, None),
    ],
)
def test_examples_have_the_published_counts(name: str, params: int, macs: int | None) -> None:
    graph = graph_of(load_config(EXAMPLES / f"{name}.yaml"))
    assert graph.params == params
    assert macs is None or graph.macs == macs
    assert all(op.kind in KINDS and op.known for op in graph.ops)


def test_a_vision_transformer_by_hand() -> None:
    steps, width = 197, 768
    block = steps * width * (3 * width + width + 2 * 4 * width) + 2 * steps * steps * width
    macs = 196 * width * 3 * 16 * 16 + 12 * block + width * 1000
    assert graph_of(load_config(EXAMPLES / "transformer.yaml")).macs == macs


def test_gpt2_ties_its_output_layer() -> None:
    graph = graph_of(load_config(EXAMPLES / "gpt2.yaml"))
    steps, width = 1024, 768
    block = steps * width * 12 * width + 2 * steps * steps * width
    assert graph.macs == 12 * block + steps * width * 50257
    assert graph.ops[0].weight_ids == graph.ops[-1].weight_ids


def test_overrides_of_batch_and_resolution() -> None:
    config = load_config(EXAMPLES / "config.yaml")
    plain, wide = graph_of(config), graph_of(config, batch=8)
    assert wide.batch == 8
    assert wide.macs == 8 * plain.macs
    assert wide.params == plain.params
    tall = graph_of(config, resolution=(448, 224))
    assert tall.input_specs[0].shape == (1, 3, 448, 224)
    # All but the classifier doubles with the height.
    assert tall.macs - 512_000 == 2 * (plain.macs - 512_000)
    with pytest.raises(ModelError, match="resolution is for image inputs"):
        build_layers(["relu"], [(1, 5)], resolution=32)


def test_a_small_cnn_by_hand() -> None:
    graph = build_layers(
        [
            {"type": "conv2d", "out": 8, "kernel": [3, 5], "stride": 2, "padding": "same"},
            "relu",
            {"type": "conv2d", "groups": "depthwise", "kernel": 3, "padding": 1, "bias": False},
            {"type": "global_avg_pool", "flatten": True},
            {"type": "linear", "out": 10},
        ],
        [(2, 3, 15, 16)],
    )
    assert graph.macs == 2 * (8 * 8 * 8 * 3 * 15 + 8 * 8 * 8 * 9 + 8 * 10)
    assert graph.params == 8 * 3 * 15 + 8 + 8 * 9 + 8 * 10 + 10
    assert out_shapes(graph) == [(2, 10)]


# -- single layers --------------------------------------------------------------------------------


@settings(max_examples=80)
@given(
    dims=st.integers(1, 3), size=st.integers(4, 9), kernel=st.integers(1, 3),
    stride=st.integers(1, 3), padding=st.integers(0, 2), dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]), bias=st.booleans(),
)  # fmt: skip
def test_convolutions_of_any_kind(
    dims: int, size: int, kernel: int, stride: int, padding: int, dilation: int, groups: int,
    bias: bool,
) -> None:  # fmt: skip
    """The definition: every output element sums kernel positions of its group's channels."""
    spans = [
        start
        for start in range(0, size + 2 * padding, stride)
        if start + dilation * (kernel - 1) < size + 2 * padding
    ]
    assume(spans)
    layer = {"type": f"conv{dims}d", "out": 8, "kernel": kernel, "stride": stride,
             "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}  # fmt: skip
    graph = one(layer, 2, 4, *[size] * dims)
    positions = len(spans) ** dims
    assert out_shapes(graph) == [(2, 8, *[len(spans)] * dims)]
    assert graph.macs == 2 * 8 * positions * (4 // groups) * kernel**dims
    assert graph.params == 8 * (4 // groups) * kernel**dims + 8 * bias


@settings(max_examples=40)
@given(
    st.integers(1, 4), st.integers(1, 3), st.booleans(), st.booleans(),
    st.sampled_from(["lstm", "gru", "rnn"]),
)  # fmt: skip
def test_recurrent_layers(hidden: int, layers: int, two: bool, bias: bool, kind: str) -> None:
    gates, ways = {"lstm": 4, "gru": 3, "rnn": 1}[kind], 1 + two
    widths = [5] + [hidden * ways] * (layers - 1)
    params = sum(ways * gates * hidden * (w + hidden + 2 * bias) for w in widths)
    layer = {"type": kind, "hidden": hidden, "layers": layers, "bidirectional": two, "bias": bias}
    graph = one(layer, 3, 7, 5)
    assert graph.params == params
    assert graph.macs == 21 * sum(ways * gates * hidden * (w + hidden) for w in widths)
    assert out_shapes(graph) == [(3, 7, hidden * ways)]


@pytest.mark.parametrize("packed", [True, False])
def test_grouped_query_attention_by_hand(packed: bool) -> None:
    layer = {"type": "multi_head_attention", "heads": 4, "kv_heads": 2, "head_dim": 6,
             "packed": packed}  # fmt: skip
    graph = one(layer, 2, 5, 32)
    projections = 32 * (24 + 12 + 12) + 24 * 32
    assert graph.params == projections + 24 + 12 + 12 + 32
    assert graph.macs == 2 * 5 * projections + 2 * 4 * 5 * 5 * 12
    assert sum(op.kind == "linear" for op in graph.ops) == (2 if packed else 4)


def test_cross_attention_reads_its_memory() -> None:
    graph = build_layers(
        [{"type": "multi_head_attention", "heads": 2, "bias": False, "from": ["words", "image"]}],
        {"words": (1, 3, 8), "image": (1, 7, 12)},
    )
    assert graph.params == 8 * 8 + 12 * 8 * 2 + 8 * 8
    assert graph.macs == 3 * 64 + 7 * 96 * 2 + 3 * 64 + 2 * 2 * 3 * 7 * 4
    assert out_shapes(graph) == [(1, 3, 8)]


@pytest.mark.parametrize(
    ("layer", "shape", "result"),
    [
        ({"type": "max_pool", "kernel": 3, "stride": 2, "padding": 1}, (1, 4, 7, 8), (1, 4, 4, 4)),
        ({"type": "max_pool", "kernel": 2, "ceil_mode": True}, (1, 4, 7), (1, 4, 4)),
        ({"type": "adaptive_avg_pool", "size": [2, 3]}, (1, 4, 7, 8), (1, 4, 2, 3)),
        ("global_max_pool", (1, 4, 7, 8), (1, 4, 1, 1)),
        ({"type": "conv_transpose2d", "out": 2, "kernel": 4, "stride": 2, "padding": 1},
         (1, 4, 7, 8), (1, 2, 14, 16)),
        ({"type": "upsample", "scale": 1.5}, (1, 4, 7, 8), (1, 4, 10, 12)),
        ({"type": "resize", "size": 5, "mode": "bicubic"}, (1, 4, 7, 8), (1, 4, 5, 5)),
        ({"type": "flatten", "start": 2}, (1, 4, 7, 8), (1, 4, 56)),
        ({"type": "reshape", "shape": [0, -1, 2]}, (3, 4, 2), (3, 4, 2)),
        ({"type": "transpose", "axes": [1, -1]}, (3, 4, 2), (3, 2, 4)),
        ({"type": "permute", "order": [2, 0, 1]}, (3, 4, 2), (2, 3, 4)),
        ({"type": "slice", "axis": 1, "start": 1, "step": 2}, (3, 6), (3, 3)),
        ({"type": "slice", "axis": 1, "start": -2}, (3, 6), (3, 2)),
        ({"type": "select", "axis": 0, "index": -1}, (3, 6), (6,)),
        ({"type": "pad", "padding": [1, 2]}, (1, 4, 7, 8), (1, 4, 7, 11)),
        ({"type": "pixel_shuffle", "factor": 2}, (1, 4, 7, 8), (1, 1, 14, 16)),
        ({"type": "pixel_unshuffle", "factor": 2}, (1, 1, 14, 16), (1, 4, 7, 8)),
        ({"type": "mean", "axes": [-1, 1]}, (3, 4, 2), (3,)),
        ({"type": "sum", "axes": 1, "keepdim": True}, (3, 4, 2), (3, 1, 2)),
        ({"type": "glu", "axis": 1}, (3, 4, 2), (3, 2, 2)),
        ("class_token", (3, 4, 2), (3, 5, 2)),
        ({"type": "squeeze_excite", "reduction": 2}, (1, 4, 7, 8), (1, 4, 7, 8)),
        ({"type": "dropout", "rate": 0.3}, (3, 4), (3, 4)),
    ],
)  # fmt: skip
def test_shapes(layer: Any, shape: tuple[int, ...], result: tuple[int, ...]) -> None:
    assert out_shapes(one(layer, *shape)) == [result]


@pytest.mark.parametrize(
    ("layer", "shape", "params"),
    [
        ("batch_norm", (1, 6, 4), 12),
        ({"type": "layer_norm", "axes": 2}, (1, 6, 4), 48),
        ("rms_norm", (1, 6, 4), 4),
        ({"type": "group_norm", "groups": 3}, (1, 6, 4), 12),
        ("instance_norm", (1, 6, 4), 0),
        ("prelu", (1, 6, 4), 1),
        ({"type": "prelu", "per_channel": True}, (1, 6, 4), 6),
        ("scale", (1, 6, 4), 4),
        ("position_embedding", (2, 6, 4), 24),
        ("class_token", (2, 6, 4), 4),
        ({"type": "squeeze_excite", "width": 2}, (1, 6, 4), 6 * 2 + 2 + 2 * 6 + 6),
    ],
)
def test_parameters(layer: Any, shape: tuple[int, ...], params: int) -> None:
    assert one(layer, *shape).params == params


def test_dropout_and_identity_are_no_operators() -> None:
    assert build_layers(["dropout", "identity", "relu"], [(1, 2)]).ops[0].kind == "activation"


def test_an_embedding_reads_whole_numbers_and_gives_floats() -> None:
    graph = one({"type": "embedding", "rows": 9, "width": 4}, 2, 3, dtype="int64")
    assert graph.ops[0].outputs[0] == TensorSpec((2, 3, 4), "float32")
    with pytest.raises(ModelError, match="dtype: int64"):
        one({"type": "embedding", "rows": 9, "width": 4}, 2, 3)


# -- names, blocks, ties --------------------------------------------------------------------------


def test_repetitions_have_weights_of_their_own_unless_tied() -> None:
    def params(**more: Any) -> int:
        inner = {"type": "linear", "out": 8, **more}
        return build_layers([{"type": "repeat", "times": 5, "layers": [inner]}], [(1, 8)]).params

    assert params() == 5 * 72
    assert params(share="all") == 72


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 6))
def test_a_repetition_equals_its_layers_written_out(times: int, width: int) -> None:
    body: list[Any] = [{"type": "linear", "out": width}, "relu"]
    first = {"type": "linear", "out": width}
    short = build_layers([first, {"type": "repeat", "times": times, "layers": body}], [(1, 3)])
    long = build_layers([first, *body * times], [(1, 3)])
    assert [(op.kind, op.macs, op.input_ids, op.output_ids) for op in short.ops] == [
        (op.kind, op.macs, op.input_ids, op.output_ids) for op in long.ops
    ]


def test_names_inside_a_repetition_are_its_own() -> None:
    graph = build_layers(
        [
            {"type": "linear", "out": 4, "name": "fc"},
            {"type": "repeat", "times": 2, "name": "stage", "layers": [
                {"type": "linear", "out": 4, "name": "fc"},
                {"type": "add", "from": ["fc", "block_input"]},
            ]},
            {"type": "add", "from": ["stage.0.fc", "fc"], "name": "end"},
        ],
        [(1, 4)],
    )  # fmt: skip
    by_name = {op.name: op for op in graph.ops}
    assert by_name["end"].input_ids == (
        by_name["stage.0.fc"].output_ids[0], by_name["fc"].output_ids[0],
    )  # fmt: skip
    assert by_name["stage.1.add_1"].input_ids == (
        by_name["stage.1.fc"].output_ids[0], by_name["stage.0.add_1"].output_ids[0],
    )  # fmt: skip
    with pytest.raises(ModelError, match="no layer or input above is called 'inner'"):
        build_layers(
            [{"type": "repeat", "times": 1, "layers": [{"type": "relu", "name": "inner"}]},
             {"type": "relu", "from": "inner"}],
            [(1, 4)],
        )  # fmt: skip


def test_what_nothing_reads_is_returned() -> None:
    layers = [{"type": "linear", "out": 4, "name": "a"}, {"type": "linear", "out": 5, "from": "a"},
              {"type": "linear", "out": 6, "from": "a"}]  # fmt: skip
    assert out_shapes(build_layers(layers, [(1, 3)])) == [(1, 5), (1, 6)]
    assert out_shapes(build_layers(layers, [(1, 3)], outputs=["a"])) == [(1, 4)]


def test_an_input_that_nothing_reads_is_noted() -> None:
    graph = build_layers([{"type": "relu", "from": "a"}], {"a": (1, 2), "b": (1, 2)})
    assert graph.notes == ("input 'b' is read by no layer",)


def test_inputs_in_every_form() -> None:
    assert list(input_specs((1, 3))) == ["input"]
    assert list(input_specs([(1, 3), (2,)])) == ["input_0", "input_1"]
    named = input_specs({"a": {"shape": [2, 3], "dtype": "int64"}}, batch=7)
    assert named == {"a": TensorSpec((7, 3), "int64")}


def test_python_callers_meet_the_same_grammar() -> None:
    with pytest.raises(ConfigError, match=r"model\.layers\[0\]\.kernl: unknown key"):
        build_layers([{"type": "conv2d", "out": 3, "kernl": 3}], [(1, 3, 8, 8)])
    with pytest.raises(ModelError, match=r"layers\[0\] \(conv2d 'stem'\): groups=2 divides"):
        build_layers(
            [{"type": "conv2d", "out": 4, "kernel": 3, "groups": 2, "name": "stem"}],
            [(1, 3, 8, 8)],
        )


# -- against torch --------------------------------------------------------------------------------


def test_the_same_operators_as_tracing_torch() -> None:
    """Kinds, shapes, costs and parameters of a traced module, operator by operator."""
    torch = pytest.importorskip("torch", reason="compares with a traced torch module")
    recorder = pytest.importorskip("predictor.frontends.torch_module", reason="traces torch")
    nn = torch.nn
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 10), nn.Softmax(-1),
    )  # fmt: skip
    traced = recorder.trace(module, (2, 3, 32, 32))
    listed = build_layers(
        [
            {"type": "conv2d", "out": 8, "kernel": 3, "stride": 2, "padding": 1, "bias": False},
            "batch_norm", "relu", {"type": "max_pool", "kernel": 2},
            {"type": "conv2d", "kernel": 3, "padding": 1, "groups": "depthwise"}, "silu",
            {"type": "adaptive_avg_pool", "size": 2}, "flatten", {"type": "linear", "out": 10},
            "softmax",
        ],
        [(2, 3, 32, 32)],
    )  # fmt: skip

    def rows(graph: Graph) -> list[Any]:
        return [
            (op.kind, op.outputs[0].shape, op.macs, op.elementwise_flops, op.params,
             op.read_bytes, op.write_bytes)
            for op in graph.ops
        ]  # fmt: skip

    assert rows(listed) == rows(traced)
