"""Channels in blocks: where ONNX Runtime reorders, and what fusion that allows."""

import pytest

from predictor.builder import GraphBuilder
from predictor.kernels.blocked import in_blocks, runs_in_blocks
from predictor.kernels.lowering import prepare


def kinds(graph):
    return [[op.attrs.get("fn") or op.kind for op in kernel.ops]
            for kernel in prepare(graph, "fp32", "onnxruntime").kernels]  # fmt: skip


@pytest.mark.parametrize(
    ("channels", "made", "groups", "blocked"),
    [
        (3, 16, 1, True),  # few channels are read as they lie
        (12, 17, 1, True),
        (19, 32, 1, False),
        (24, 24, 24, True),
        (26, 26, 26, False),
        (32, 32, 4, True),
        (32, 32, 8, False),  # 4 channels a group fill no block
    ],
)
def test_which_convolutions_run_in_blocks(channels, made, groups, blocked):
    b = GraphBuilder("conv")
    graph = b.finish(b.conv(b.input((1, channels, 8, 8)), made, 3, groups=groups))
    (op,) = graph.ops
    assert runs_in_blocks(op) is blocked
    marked = [o for o in in_blocks(graph).ops if o.kind == "conv"]
    assert bool(marked[0].attrs.get("channels_last")) is blocked


def test_an_image_is_reordered_once_for_all_who_read_it():
    b = GraphBuilder("two")
    x = b.conv(b.input((1, 3, 8, 8)), 16, 3)
    graph = b.finish(b.softmax(x), b.elementwise("exp", x))
    assert kinds(graph) == [["conv"], ["reorder"], ["softmax"], ["exp"]]


def test_into_blocks_and_out_again():
    b = GraphBuilder("se")
    x = b.conv(b.input((1, 16, 8, 8)), 16, 3, padding=1)
    gate = b.input((1, 16, 1, 1))
    graph = b.finish(b.conv(b.mul(x, gate), 16, 1))
    assert kinds(graph) == [["reorder"], ["conv"], ["reorder"], ["mul"], ["reorder"], ["conv"],
                            ["reorder"]]  # fmt: skip
    directions = [op.attrs["into_blocks"] for op in in_blocks(graph).ops if op.kind == "copy"]
    assert directions == [True, False, True, False]


def test_an_addition_joins_the_first_operand_that_can_take_it():
    b = GraphBuilder("branches")
    x = b.input((1, 3, 8, 8))
    first = b.conv(x, 16, 3, padding=1, name="first")
    second = b.activation(b.conv(x, 16, 1, name="second"), "relu")
    graph = b.finish(b.add(first, second))
    # The second has an activation already; the first waits for it.
    assert kinds(graph) == [["conv", "relu"], ["conv", "add"], ["reorder"]]


def test_an_addition_of_two_activations_is_a_kernel():
    b = GraphBuilder("late")
    x = b.input((1, 3, 8, 8))
    left = b.activation(b.conv(x, 16, 1), "relu")
    right = b.activation(b.conv(x, 16, 3, padding=1), "leaky_relu")
    assert kinds(b.finish(b.add(left, right))) == [["conv", "relu"], ["conv", "leaky_relu"],
                                                   ["add"], ["reorder"]]  # fmt: skip


def test_outside_of_blocks_nothing_is_added_to_a_convolution():
    b = GraphBuilder("odd")
    x = b.input((1, 18, 8, 8))
    graph = b.finish(b.activation(b.add(b.conv(x, 18, 3, padding=1), x), "relu"))
    assert kinds(graph) == [["conv"], ["add"], ["relu"]]


def test_a_batch_norm_by_itself_takes_an_activation_in_blocks_only():
    def net(channels):
        b = GraphBuilder("norm")
        x = b.pool(b.conv(b.input((1, 3, 9, 9)), channels, 3), "max", 2)
        return b.finish(b.activation(b.batch_norm(x), "relu"))

    assert kinds(net(16))[-2:] == [["norm", "relu"], ["reorder"]]
    assert kinds(net(18))[-2:] == [["norm"], ["relu"]]


def test_concatenations_stay_in_blocks_where_every_part_fills_them():
    def net(channels):
        b = GraphBuilder("concat")
        x = b.input((1, 3, 8, 8))
        return b.finish(b.concat([b.conv(x, channels, 1), b.conv(x, channels, 3, padding=1)]))

    assert kinds(net(16)) == [["conv"], ["conv"], ["concat"], ["reorder"]]
    assert kinds(net(12)) == [["conv"], ["conv"], ["reorder"], ["reorder"], ["concat"]]


def test_turning_an_image_out_of_blocks_is_one_reordering():
    b = GraphBuilder("next")
    x = b.conv(b.input((1, 3, 8, 8)), 16, 1)
    x = b.layer_norm(b.transpose(x, (0, 2, 3, 1)))
    graph = b.finish(b.conv(b.transpose(x, (0, 3, 1, 2)), 16, 1))
    assert kinds(graph) == [["conv"], ["transpose"], ["norm"], ["transpose"], ["conv"], ["reorder"]]
