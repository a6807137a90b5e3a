"""What ONNX Runtime's optimiser removes, and what it must not be thought to remove."""

from dataclasses import replace

from predictor.builder import GraphBuilder
from predictor.graph import TensorSpec
from predictor.kernels.onnx_graph import optimised
from predictor.operators import make_op


def kinds(graph):
    return [op.attrs.get("fn") or op.kind for op in optimised(graph).ops if op.kind != "reshape"]


def with_ops(graph, ops):
    return replace(graph, ops=tuple(ops))


def test_equal_functions_of_one_tensor_run_once():
    b = GraphBuilder("cell")
    x = b.input((1, 16, 8, 8))
    left = b.conv(b.activation(x, "relu"), 16, 3, padding=1)
    right = b.conv(b.activation(x, "relu"), 16, 1)
    assert kinds(b.finish(b.add(left, right))).count("relu") == 1


def test_what_a_graph_does_not_tell_apart_is_not_merged():
    b = GraphBuilder("scales")
    x = b.input((1, 16))
    # Two constants, two rows: numbers that the graph does not hold.
    graph = b.finish(b.add(b.elementwise("mul", x), b.elementwise("mul", x)))
    assert kinds(graph) == ["mul", "mul", "add"]


def test_rows_that_are_taken_one_by_one_are_one_split():
    b = GraphBuilder("rows")
    x = b.input((3, 4, 8))
    graph = b.finish(x)
    row = TensorSpec((4, 8))
    ops = [make_op("", "slice", "aten.select.int", (TensorSpec((3, 4, 8)),), (row,), (), (0,),
                   (tensor,), (), {"axis": 0}) for tensor in (1, 2, 3)]  # fmt: skip
    whole = with_ops(graph, ops)
    (split,) = optimised(replace(whole, output_ids=(1, 2, 3))).ops
    assert split.output_ids == (1, 2, 3)
    some = optimised(replace(with_ops(graph, ops[:2]), output_ids=(1, 2))).ops
    assert len(some) == 2  # a part that nobody takes: slices by themselves


def test_scales_and_turns_beside_a_product_are_part_of_it():
    b = GraphBuilder("attention")
    q, k = b.input((1, 4, 9, 8)), b.input((1, 4, 9, 8))
    scores = b.matmul(b.elementwise("mul", q), b.transpose(k, (0, 1, 3, 2)))
    graph = b.finish(b.softmax(b.elementwise("mul", scores)))
    assert kinds(graph) == ["matmul", "softmax"]


def test_a_turn_with_another_reader_stays():
    b = GraphBuilder("shared")
    q, k = b.input((1, 4, 9, 9)), b.input((1, 4, 9, 9))
    turned = b.transpose(k, (0, 1, 3, 2))
    graph = b.finish(b.matmul(q, turned), b.softmax(turned))
    assert kinds(graph) == ["transpose", "matmul", "softmax"]


def test_a_copy_that_is_a_result_keeps_its_number():
    b = GraphBuilder("copy")
    x = b.input((1, 4))
    graph = b.finish(b.softmax(x))
    spec = TensorSpec((1, 4))
    soft = graph.ops[0]
    clone = make_op("", "copy", "aten.clone.default", (spec,), (spec,), (), soft.output_ids,
                    (99,), (), {"fn": "clone"})  # fmt: skip
    ops = optimised(replace(graph, ops=(soft, clone), output_ids=(99,))).ops
    assert [op.kind for op in ops] == ["softmax", "reshape"]
    assert ops[-1].output_ids == (99,)


def test_multiplications_by_zero_run():
    b = GraphBuilder("none")
    x = b.conv(b.input((1, 16, 8, 8)), 16, 3)
    graph = b.finish(b.add(x, b.elementwise("mul", x)))
    zero = [replace(op, attrs={**op.attrs, "zero": True}) if op.attrs.get("fn") == "mul" else op
            for op in graph.ops]  # fmt: skip
    assert kinds(with_ops(graph, zero)) == ["conv", "mul", "add"]
