"""Normalisation. Element-wise operations an element, inference:

batch norm 2 (scale and shift, the statistics being constants); layer, group and instance norm 8
(mean 1, variance 3, normalise 2, scale and shift 2); RMS norm 4 (square, sum, two products); local
response norm 2 a window element + 3.
"""

from __future__ import annotations

from predictor.operators.base import (
    AtenCall,
    Attrs,
    Cost,
    Draft,
    Family,
    Kind,
    OnnxNode,
    total_bytes,
)

NORM_FLOPS = {"batch": 2, "layer": 8, "group": 8, "instance": 8, "rms": 4}


def norm_cost(op: Draft) -> Cost:
    """``attrs["type"]``: batch, layer, group, instance, rms or lrn; the second pass is on chip."""
    elements = op.inputs[0].numel
    # Statistics that a framework's operator also returns are not written by inference kernels.
    written = total_bytes([spec for spec in op.outputs if spec.shape == op.outputs[0].shape])
    if op.attrs["type"] == "lrn":
        return Cost(0, elements * (2 * op.attrs.get("size", 5) + 3), write_bytes=written)
    return Cost(0, elements * NORM_FLOPS[op.attrs["type"]], write_bytes=written)


def _rule(kind: str) -> tuple[str, Attrs]:
    return "norm", {"type": kind}


def _onnx_lrn(node: OnnxNode) -> tuple[str, Attrs]:
    return "norm", {"type": "lrn", "size": int(node.attributes.get("size", 5))}


def _onnx_group(node: OnnxNode) -> tuple[str, Attrs]:
    return "norm", {"type": "group", "groups": int(node.attributes["num_groups"])}


def _called_group(call: AtenCall) -> tuple[str, Attrs]:
    return "norm", {"type": "group", "groups": int(call.args[1])}


def _group(call: AtenCall) -> tuple[str, Attrs]:
    return "norm", {"type": "group", "groups": int(call.args[6])}


FAMILY = Family(
    kinds=(Kind("norm", norm_cost),),
    aten={
        "aten.native_batch_norm": _rule("batch"),
        "aten._native_batch_norm_legit": _rule("batch"),
        "aten._native_batch_norm_legit_no_training": _rule("batch"),
        "aten.cudnn_batch_norm": _rule("batch"),
        "aten._batch_norm_with_update": _rule("batch"),
        "aten._batch_norm_no_update": _rule("batch"),
        "aten.batch_norm": _rule("batch"),
        "aten.native_layer_norm": _rule("layer"),
        "aten.layer_norm": _rule("layer"),
        "aten.native_group_norm": _group,
        "aten.group_norm": _called_group,
        "aten.instance_norm": _rule("instance"),
        "aten._fused_rms_norm": _rule("rms"),
        "aten.rms_norm": _rule("rms"),
    },
    onnx={
        "BatchNormalization": _rule("batch"), "LayerNormalization": _rule("layer"),
        "GroupNormalization": _onnx_group, "InstanceNormalization": _rule("instance"),
        "MeanVarianceNormalization": _rule("instance"), "LpNormalization": _rule("rms"),
        "SkipSimplifiedLayerNormalization": _rule("rms"),
        "RMSNormalization": _rule("rms"), "SimplifiedLayerNormalization": _rule("rms"),
        "SkipLayerNormalization": _rule("layer"), "LRN": _onnx_lrn,
    },
)  # fmt: skip
