"""Pooling: window elements - 1 comparisons or additions an output (average: one division more)."""

from __future__ import annotations

import math

from predictor.operators.base import AtenCall, Attrs, Cost, Draft, Family, Kind, OnnxNode, pair


def pool_cost(op: Draft) -> Cost:
    """``attrs["kernel"]`` is the window; adaptive and global pools touch every input once."""
    x, out = op.inputs[0], op.outputs[0]
    if op.attrs.get("adaptive"):
        return Cost(0, x.numel + out.numel, write_bytes=out.nbytes)
    window = math.prod(op.attrs["kernel"])
    # Indices that max_pool2d_with_indices also returns are not written by inference kernels.
    return Cost(0, out.numel * window, write_bytes=out.nbytes)


def _windowed(kind: str, dims: int) -> object:
    def rule(call: AtenCall) -> tuple[str, Attrs]:
        kernel = pair(call.get(1, "kernel_size"), dims)
        stride = call.get(2, "stride") or kernel
        return "pool", {
            "type": kind, "kernel": kernel, "stride": pair(stride, dims),
            "padding": pair(call.get(3, "padding", 0) or 0, dims),
        }  # fmt: skip

    return rule


def _adaptive(kind: str) -> tuple[str, Attrs]:
    return "pool", {"type": kind, "adaptive": True}


def _onnx_window(kind: str) -> object:
    def rule(node: OnnxNode) -> tuple[str, Attrs]:
        kernel = tuple(int(k) for k in node.attributes["kernel_shape"])
        dims = len(kernel)
        pads = tuple(node.attributes.get("pads", (0,) * (2 * dims)))
        return "pool", {
            "type": kind, "kernel": kernel, "padding": pads[:dims],
            "stride": pair(node.attributes.get("strides", 1), dims),
        }  # fmt: skip

    return rule


FAMILY = Family(
    kinds=(Kind("pool", pool_cost),),
    aten={
        "aten.max_pool1d": _windowed("max", 1),
        "aten.max_pool2d_with_indices": _windowed("max", 2),
        "aten.max_pool2d": _windowed("max", 2),
        "aten.max_pool3d_with_indices": _windowed("max", 3),
        "aten.max_pool3d": _windowed("max", 3),
        "aten.avg_pool1d": _windowed("avg", 1),
        "aten.avg_pool2d": _windowed("avg", 2),
        "aten.avg_pool3d": _windowed("avg", 3),
        "aten._adaptive_avg_pool2d": _adaptive("avg"),
        "aten._adaptive_avg_pool3d": _adaptive("avg"),
        "aten.adaptive_avg_pool1d": _adaptive("avg"),
        "aten.adaptive_avg_pool2d": _adaptive("avg"),
        "aten.adaptive_avg_pool3d": _adaptive("avg"),
        "aten.adaptive_max_pool2d": _adaptive("max"),
        "aten.adaptive_max_pool3d": _adaptive("max"),
    },
    onnx={
        "MaxPool": _onnx_window("max"),
        "AveragePool": _onnx_window("avg"),
        "LpPool": _onnx_window("lp"),
        "GlobalAveragePool": _adaptive("avg"),
        "GlobalMaxPool": _adaptive("max"),
    },
)
