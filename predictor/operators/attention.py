"""Scaled dot-product attention as one operator, whichever path the framework would take.

MACs = B x H x L x S x (E + E_v): scores and their product with the values. A causal mask does
not reduce the count (the convention of torch's counter; kernels that skip masked tiles do less).
Softmax and scale are 5 + 1 element-wise operations a score.
"""

from __future__ import annotations

import math

from predictor.graph import Op
from predictor.operators.base import AtenCall, Attrs, Cost, Draft, Family, Gemm, Kind, OnnxNode


def attention_cost(op: Draft) -> Cost:
    """Inputs are q (..., L, E), k (..., S, E), v (..., S, E_v); fused, so scores are not stored."""
    q, k, v = op.inputs[:3]
    scores = math.prod(q.shape[:-1]) * k.shape[-2]
    return Cost(scores * (q.shape[-1] + v.shape[-1]), 6 * scores)


def attention_gemm(op: Op) -> Gemm:
    """The first of the two products: batch x heads of (L x E) @ (E x S)."""
    q, k = op.inputs[:2]
    return Gemm(math.prod(q.shape[:-2]), q.shape[-2], k.shape[-2], q.shape[-1])


def _sdpa(call: AtenCall) -> tuple[str, Attrs]:
    return "attention", {"causal": bool(call.get(5, "is_causal", False))}


def _fused(call: AtenCall) -> tuple[str, Attrs]:
    return "attention", {"causal": False}


def _onnx(node: OnnxNode) -> tuple[str, Attrs]:
    always = node.op_type == "GroupQueryAttention"
    flags = node.attributes.get("is_causal"), node.attributes.get("unidirectional")
    return "attention", {"causal": always or any(flags)}


FAMILY = Family(
    kinds=(Kind("attention", attention_cost, "matrix", attention_gemm),),
    aten={
        "aten.scaled_dot_product_attention": _sdpa,
        "aten._scaled_dot_product_flash_attention": _fused,
        "aten._scaled_dot_product_flash_attention_for_cpu": _fused,
        "aten._scaled_dot_product_efficient_attention": _fused,
        "aten._scaled_dot_product_cudnn_attention": _fused,
        "aten._scaled_dot_product_fused_attention_overrideable": _fused,
        "aten._scaled_dot_product_attention_math": _fused,
    },
    onnx={"Attention": _onnx, "MultiHeadAttention": _onnx, "GroupQueryAttention": _onnx},
)
