"""Matrix products: linear layers, matmul, bmm, einsum.

MACs of a product = output elements x contracted length. ``linear`` is a product with a weight,
``matmul`` one of two activations (or of a stack of weights, as experts are).
"""

from __future__ import annotations

import math

from predictor.graph import Op
from predictor.operators.base import (
    AtenCall,
    Attrs,
    Cost,
    Draft,
    Family,
    Gemm,
    Kind,
    OnnxNode,
)


def product_cost(op: Draft) -> Cost:
    """Output elements x ``k`` MACs; one addition an output element where there is a bias."""
    out = op.outputs[0].numel
    return Cost(out * op.attrs["k"], out if op.attrs.get("bias") else 0)


def linear_gemm(op: Op) -> Gemm:
    """All leading dimensions are rows."""
    out = op.outputs[0]
    n = out.shape[-1] if out.shape else 1
    return Gemm(1, out.numel // max(1, n), n, op.attrs["k"])


def matmul_gemm(op: Op) -> Gemm:
    """All leading dimensions but the last two are the batch."""
    shape = op.outputs[0].shape
    if len(shape) < 2:
        return Gemm(1, 1, op.outputs[0].numel, op.attrs["k"])
    return Gemm(math.prod(shape[:-2]), shape[-2], shape[-1], op.attrs["k"])


def bilinear_cost(op: Draft) -> Cost:
    """y_o = x1 W_o x2: (in1 x in2 + in2) MACs an output element."""
    in1, in2 = op.inputs[0].shape[-1], op.inputs[1].shape[-1]
    return Cost(op.outputs[0].numel * (in1 * in2 + in2))


def einsum_cost(op: Draft) -> Cost:
    """Product of the sizes of all indices: one MAC each (two operands; the plain contraction).

    ``attrs["k"]`` is the product of the sizes that are summed over, where a frontend knows it.
    """
    if "k" in op.attrs:
        return Cost(op.outputs[0].numel * op.attrs["k"])
    sizes: dict[str, int] = {}
    left = op.attrs["equation"].replace(" ", "").split("->")[0]
    operands = (*op.inputs, *op.weights)
    for term, spec in zip(left.split(","), operands, strict=False):
        sizes.update(zip(term, spec.shape, strict=False))
    return Cost(math.prod(sizes.values()) if sizes else 0)


def _mm(call: AtenCall) -> tuple[str, Attrs]:
    return "matmul", {"k": int(call.args[0].shape[-1])}


def _addmm(call: AtenCall) -> tuple[str, Attrs]:
    return "matmul", {"k": int(call.args[1].shape[-1]), "bias": True}


def _addbmm(call: AtenCall) -> tuple[str, Attrs]:
    """All products of the batch are added up, so the batch is contracted too."""
    batch = call.args[1].shape
    return "matmul", {"k": int(batch[0]) * int(batch[-1]), "bias": True}


def _linear(call: AtenCall) -> tuple[str, Attrs]:
    bias = call.get(2, "bias")
    return "linear", {"k": int(call.args[0].shape[-1]), "bias": bias is not None}


def _onnx_matmul(node: OnnxNode) -> tuple[str, Attrs]:
    first, slot = node.inputs[0], 3 if node.op_type == "QLinearMatMul" else 1
    second = node.inputs[slot] if slot < len(node.inputs) else None
    axis = -2 if node.attributes.get("transA") and first and len(first.shape) > 1 else -1
    k = first.shape[axis] if first and first.shape else 1
    if slot in node.static and 0 not in node.static and second and len(second.shape) == 2:
        return "linear", {"k": k, "bias": False}
    return "matmul", {"k": k}


def _onnx_gemm(node: OnnxNode) -> tuple[str, Attrs]:
    first = node.inputs[0]
    axis = 0 if node.attributes.get("transA") else -1
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    kind = "linear" if 1 in node.static and 0 not in node.static else "matmul"
    return kind, {"k": first.shape[axis] if first else 1, "bias": has_bias}


def _einsum(equation: str, shapes: list[tuple[int, ...]]) -> tuple[str, Attrs]:
    """``k`` is the product of the sizes of the indices that the result lacks."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for term, shape in zip(left.split(","), shapes, strict=False):
        head, _, tail = term.partition("...")
        sizes.update(zip(head, shape, strict=False))
        sizes.update(zip(reversed(tail), reversed(shape), strict=False))
    if not arrow:
        right = "".join(letter for letter in sizes if left.count(letter) == 1)
    k = math.prod(n for letter, n in sizes.items() if letter not in right)
    return "einsum", {"equation": equation, "k": k}


def _aten_einsum(call: AtenCall) -> tuple[str, Attrs]:
    return _einsum(str(call.args[0]), [tuple(t.shape) for t in call.args[1]])


def _onnx_einsum(node: OnnxNode) -> tuple[str, Attrs]:
    shapes = [spec.shape for spec in node.inputs if spec is not None]
    return _einsum(str(node.attributes.get("equation", "")), shapes)


FAMILY = Family(
    kinds=(
        Kind("linear", product_cost, "matrix", linear_gemm),
        Kind("matmul", product_cost, "matrix", matmul_gemm),
        Kind("bilinear", bilinear_cost, "matrix"),
        Kind("einsum", einsum_cost, "matrix"),
    ),
    aten={
        "aten.linear": _linear,
        "aten.matmul": _mm, "aten.einsum": _aten_einsum,
        "aten.mm": _mm, "aten.bmm": _mm, "aten.mv": _mm, "aten.dot": _mm, "aten.vdot": _mm,
        "aten._int_mm": _mm, "aten._scaled_mm": _mm,
        "aten.addmm": _addmm, "aten.baddbmm": _addmm, "aten.addbmm": _addbmm, "aten.addmv": _addmm,
        "aten._grouped_mm": _mm,
        "aten._trilinear": ("bilinear", {}),
    },
    onnx={"MatMul": _onnx_matmul, "Gemm": _onnx_gemm, "Einsum": _onnx_einsum,
          "MatMulInteger": _onnx_matmul, "QLinearMatMul": _onnx_matmul,
          "FusedMatMul": _onnx_matmul, "FusedGemm": _onnx_gemm},
)  # fmt: skip
