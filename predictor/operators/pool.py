"""Pooling: window elements - 1 comparisons or additions an output (average: one division more)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from predictor.operators.base import (
    AtenCall,
    AtenRule,
    Attrs,
    Cost,
    Draft,
    Family,
    Kind,
    OnnxNode,
    OnnxRule,
    pair,
)


def pool_cost(op: Draft) -> Cost:
    """``attrs["kernel"]`` is the window; adaptive and global pools touch every input once."""
    x, out = op.inputs[0], op.outputs[0]
    if op.attrs.get("adaptive"):
        return Cost(0, x.numel + out.numel, write_bytes=out.nbytes)
    window = math.prod(op.attrs["kernel"])
    # Indices that max_pool2d_with_indices also returns are not written by inference kernels.
    return Cost(0, out.numel * window, write_bytes=out.nbytes)


def _windowed(kind: str, dims: int) -> AtenRule:
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


def _onnx_window(kind: str) -> OnnxRule:
    def rule(node: OnnxNode) -> tuple[str, Attrs]:
        kernel = tuple(int(k) for k in node.attributes["kernel_shape"])
        dims = len(kernel)
        pads = tuple(node.attributes.get("pads", (0,) * (2 * dims)))
        return "pool", {
            "type": kind, "kernel": kernel, "padding": pads[:dims],
            "stride": pair(node.attributes.get("strides", 1), dims),
        }  # fmt: skip

    return rule


def spatial_mean(rank: int, axes: Sequence[int]) -> tuple[str, Attrs]:
    """A mean over all positions of (N, C, *spatial) is a global average pool, however written."""
    spatial = {axis % rank for axis in axes} == set(range(2, rank)) if rank > 2 else False
    return _adaptive("avg") if spatial and rank > 3 else ("reduce", {"fn": "mean"})


def _aten_mean(call: AtenCall) -> tuple[str, Attrs]:
    axes = call.get(1, "dim")
    axes = (axes,) if isinstance(axes, int) else tuple(axes or ())
    return spatial_mean(len(call.args[0].shape), axes)


def _onnx_mean(node: OnnxNode) -> tuple[str, Attrs]:
    x = node.inputs[0]
    axes = node.attributes.get("axes") or node.constants.get(1) or ()
    return spatial_mean(len(x.shape) if x else 0, [int(axis) for axis in axes])


FAMILY = Family(
    kinds=(Kind("pool", pool_cost),),
    aten={
        "aten.mean.dim": _aten_mean,
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
        "ReduceMean": _onnx_mean,
        "GlobalAveragePool": _adaptive("avg"),
        "GlobalMaxPool": _adaptive("max"),
        "GlobalLpPool": _adaptive("lp"),
    },
)
