"""What eager mode adds to a graph: casts under autocast, copies that strides force."""

import random

import numpy as np
import pytest

from predictor.builder import GraphBuilder
from predictor.graph import TensorSpec
from predictor.kernels.autocast import autocast
from predictor.kernels.fusion import fuse
from predictor.kernels.layout import channels_last, contiguous, is_contiguous, lay_out, viewed
from predictor.kernels.lowering import lower
from predictor.operators import make_op


def mlp():
    b = GraphBuilder("mlp")
    x = b.input((4, 16, 64))
    y = b.linear(b.layer_norm(x), 128)
    return b.finish(b.add(x, b.linear(b.activation(y, "gelu"), 64)))


def types(graph):
    return [(op.kind, op.attrs.get("fn"), op.outputs[0].dtype) for op in graph.ops]


def test_autocast_types_and_casts_by_hand():
    """Layer norm stays fp32, products are half, the residual sum takes the wider of its inputs."""
    found = [t for t in types(autocast(mlp(), "float16")) if t[1] != "cast"]
    kinds = {kind: dtype for kind, _, dtype in found}
    assert kinds == {"norm": "float32", "linear": "float16", "activation": "float16",
                     "elementwise": "float32"}  # fmt: skip
    casts = [op for op in autocast(mlp(), "float16").ops if op.attrs.get("fn") == "cast"]
    activations = [op for op in casts if op.input_ids]
    assert len(activations) == 1  # what layer norm made, for the first product
    assert activations[0].read_bytes == 4 * 16 * 64 * 4
    assert activations[0].write_bytes == 4 * 16 * 64 * 2
    weights = sum(op.inputs[0].numel for op in casts if not op.input_ids)
    assert weights == 64 * 128 + 128 + 128 * 64 + 64


def test_autocast_leaves_arithmetic_alone():
    graph = mlp()
    mixed = autocast(graph, "bfloat16")
    assert sum(op.macs for op in mixed.ops) == graph.macs
    assert {op.outputs[0].dtype for op in mixed.ops if op.kind == "linear"} == {"bfloat16"}


def test_a_weight_used_twice_is_cast_once():
    graph = mlp()
    doubled = autocast(
        type(graph)(**{f: getattr(graph, f) for f in graph.__slots__} | {"ops": graph.ops * 2}),
        "float16",
    )
    casts = [op for op in doubled.ops if op.attrs.get("fn") == "cast" and not op.input_ids]
    assert len(casts) == 4


def test_views_follow_torch():
    torch = pytest.importorskip("torch")
    draw = random.Random(0)
    for _ in range(800):
        shape = [draw.choice([1, 2, 3, 4]) for _ in range(draw.randint(1, 4))]
        order = draw.sample(range(len(shape)), len(shape))
        tensor = torch.zeros(shape).permute(order)
        new, left = [], tensor.numel()
        while left > 1 and len(new) < 3:
            new.append(draw.choice([d for d in range(1, left + 1) if left % d == 0]))
            left //= new[-1]
        new = draw.sample([*new, left], len(new) + 1)
        try:
            wanted = tensor.view(new).stride()
        except RuntimeError:
            wanted = None
        mine = viewed(tuple(tensor.shape), tensor.stride(), new)
        assert (mine is None) == (wanted is None), (shape, order, new)
        if wanted is not None:
            assert [a for a, n in zip(mine, new, strict=True) if n > 1] == [
                a for a, n in zip(wanted, new, strict=True) if n > 1
            ]


def transposed_then(kind, attrs, out):
    """(2, 8, 6) read as (2, 6, 8), then an operator."""
    x, y = TensorSpec((2, 8, 6)), TensorSpec((2, 6, 8))
    ops = (
        make_op("t", "transpose", "t", (x,), (y,), (), (1,), (2,), (), {"order": (0, 2, 1)}),
        make_op("op", kind, kind, (y,), (out,), (), (2,), (3,), (), attrs),
    )
    b = GraphBuilder("g")
    graph = b.finish(b.activation(b.input((2, 8, 6)), "relu"))
    return type(graph)(**{f: getattr(graph, f) for f in graph.__slots__} | {
        "ops": ops, "input_ids": (1,), "input_specs": (x,), "output_ids": (3,)})  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "attrs", "copies"),
    [("norm", {"type": "layer"}, 1), ("softmax", {}, 1), ("activation", {"fn": "relu"}, 0)],
)
def test_who_copies_what_is_not_contiguous(kind, attrs, copies):
    graph = lay_out(transposed_then(kind, attrs, TensorSpec((2, 6, 8))))
    assert sum(op.attrs.get("fn") == "contiguous" for op in graph.ops) == copies


def test_channels_last_images_reach_every_convolution():
    b = GraphBuilder("cnn")
    x = b.conv(b.input((2, 4, 16, 16)), 8, (3, 3), padding=1)
    graph = b.finish(b.conv(b.activation(x, "relu"), 8, (1, 1)))
    marks = [op.attrs.get("channels_last", False)
             for op in lower(graph, "fp32", "eager", "nhwc").ops if op.kind == "conv"]  # fmt: skip
    assert marks == [True, True]
    assert not any(op.attrs.get("channels_last") for op in lower(graph, "fp32", "eager").ops)


def test_runtimes_that_choose_their_layout_are_left_alone():
    graph = mlp()
    assert lower(graph, "fp32", "tensorrt") is graph


def test_contiguity():
    assert contiguous((2, 3, 4)) == (12, 4, 1)
    assert is_contiguous((2, 1, 4), (4, 99, 1))
    assert channels_last((2, 8, 4, 4), (128, 1, 32, 8))
    assert not channels_last((2, 8, 4, 4), contiguous((2, 8, 4, 4)))


def test_named_attention_fuses_no_chain_written_by_hand():
    b = GraphBuilder("attention")
    q, k, v = (b.input((1, 2, 8, 16), name=n) for n in "qkv")
    scores = b.softmax(b.matmul(q, b.transpose(k, (0, 1, 3, 2))))
    graph = b.finish(b.matmul(scores, v))
    assert len(fuse(graph, "eager")) == 3
    assert len(fuse(graph, "tensorrt")) < 3


def test_features_carry_the_layout():
    from predictor.kernels.features import featurize

    b = GraphBuilder("cnn")
    graph = b.finish(b.conv(b.input((2, 4, 16, 16)), 8, (3, 3), padding=1))
    marks = featurize(fuse(lower(graph, "fp32", "eager", "nhwc"), "eager")).channels_last
    assert np.array_equal(marks, [1.0])
