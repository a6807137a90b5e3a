"""Convolutions: 1d, 2d, 3d, grouped, depthwise, dilated, transposed, deformable.

MACs of a convolution = output elements x (C_in / groups) x kernel positions; of a transposed one
= input elements x (C_out / groups) x kernel positions. A 3x3 convolution from 3 to 64 channels on
a 224 x 224 map is 64 x 224 x 224 x 3 x 9 = 86,704,128 MACs, 173,408,256 FLOPs.
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
    pair,
)


def conv_cost(op: Draft) -> Cost:
    """MACs as above; one addition an output element where there is a bias."""
    x, out, attrs = op.inputs[0], op.outputs[0], op.attrs
    spatial = math.prod(attrs["kernel"])
    groups = attrs["groups"]
    channel_axis = len(x.shape) - len(attrs["kernel"]) - 1
    if attrs.get("transposed"):
        macs = x.numel * (out.shape[channel_axis] // groups) * spatial
    else:
        macs = out.numel * (x.shape[channel_axis] // groups) * spatial
    return Cost(macs, out.numel if attrs.get("bias") else 0)


def deform_cost(op: Draft) -> Cost:
    """A convolution plus bilinear sampling: 4 products, 3 sums and 2 position updates a tap."""
    base = conv_cost(op)
    x, out = op.inputs[0], op.outputs[0]
    taps = out.numel // out.shape[1] * x.shape[1] * math.prod(op.attrs["kernel"])
    return base._replace(elementwise_flops=base.elementwise_flops + 9 * taps)


def conv_gemm(op: Op) -> Gemm:
    """Implicit matrix product: m = batch x output positions, n = C_out / g, k = C_in / g x taps."""
    x, out, attrs = op.inputs[0], op.outputs[0], op.attrs
    groups, taps = attrs["groups"], math.prod(attrs["kernel"])
    axis = len(x.shape) - len(attrs["kernel"]) - 1
    k, n = x.shape[axis] // groups * taps, out.shape[axis] // groups
    m = (x if attrs.get("transposed") else out).numel // max(
        1, (x if attrs.get("transposed") else out).shape[axis]
    )
    if attrs.get("transposed"):
        return Gemm(groups, m, n * taps, k // taps)
    return Gemm(groups, m, n, k)


def _aten_convolution(call: AtenCall) -> tuple[str, Attrs]:
    weight = call.args[1]
    kernel = tuple(int(size) for size in weight.shape[2:])
    dims = len(kernel)
    return "conv", {
        "kernel": kernel,
        "stride": pair(call.args[3], dims),
        "padding": pair(call.args[4], dims),
        "dilation": pair(call.args[5], dims),
        "groups": int(call.args[8]),
        "transposed": bool(call.args[6]),
        "bias": call.args[2] is not None,
    }


def _aten_conv(call: AtenCall) -> tuple[str, Attrs]:
    """conv1d/2d/3d as called: (input, weight, bias, stride, padding, dilation, groups)."""
    kernel = tuple(int(size) for size in call.args[1].shape[2:])
    dims = len(kernel)
    dilation, padding = pair(call.get(5, "dilation", 1), dims), call.get(4, "padding", 0)
    if isinstance(padding, str):
        same = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
        padding = same if padding == "same" else 0
    return "conv", {
        "kernel": kernel,
        "stride": pair(call.get(3, "stride", 1), dims),
        "padding": pair(padding, dims),
        "dilation": dilation,
        "groups": int(call.get(6, "groups", 1)),
        "transposed": False,
        "bias": call.get(2, "bias") is not None,
    }


def _aten_conv_transpose(call: AtenCall) -> tuple[str, Attrs]:
    """(input, weight, bias, stride, padding, output_padding, groups, dilation)."""
    kernel = tuple(int(size) for size in call.args[1].shape[2:])
    dims = len(kernel)
    return "conv", {
        "kernel": kernel,
        "stride": pair(call.get(3, "stride", 1), dims),
        "padding": pair(call.get(4, "padding", 0), dims),
        "dilation": pair(call.get(7, "dilation", 1), dims),
        "groups": int(call.get(6, "groups", 1)),
        "transposed": True,
        "bias": call.get(2, "bias") is not None,
    }


def _aten_deform(call: AtenCall) -> tuple[str, Attrs]:
    weight = call.args[1]
    return "deform_conv", {
        "kernel": tuple(int(size) for size in weight.shape[2:]),
        "stride": (int(call.args[5]), int(call.args[6])),
        "groups": int(call.args[11]),
        "bias": True,
    }


def _onnx_conv(node: OnnxNode) -> tuple[str, Attrs]:
    quantised = node.op_type == "QLinearConv"
    weight = node.inputs[3 if quantised else 1]
    kernel = tuple(weight.shape[2:]) if weight else tuple(node.attributes["kernel_shape"])
    dims = len(kernel)
    pads = tuple(node.attributes.get("pads", (0,) * (2 * dims)))
    bias = {"QLinearConv": 8, "DeformConv": 3}.get(node.op_type, 2)
    return "deform_conv" if node.op_type == "DeformConv" else "conv", {
        "kernel": kernel,
        "stride": pair(node.attributes.get("strides", 1), dims),
        "padding": pads[:dims],
        "dilation": pair(node.attributes.get("dilations", 1), dims),
        "groups": int(node.attributes.get("group", 1)),
        "transposed": node.op_type == "ConvTranspose",
        "bias": node.op_type != "ConvInteger"
        and len(node.inputs) > bias
        and node.inputs[bias] is not None,
    }


FAMILY = Family(
    kinds=(
        Kind("conv", conv_cost, "matrix", conv_gemm),
        Kind("deform_conv", deform_cost, "matrix", conv_gemm),
    ),
    aten={
        "aten.convolution": _aten_convolution,
        "aten._convolution": _aten_convolution,
        "aten.conv1d": _aten_conv,
        "aten.conv2d": _aten_conv,
        "aten.conv3d": _aten_conv,
        "aten.conv_transpose1d": _aten_conv_transpose,
        "aten.conv_transpose2d": _aten_conv_transpose,
        "aten.conv_transpose3d": _aten_conv_transpose,
        "torchvision.deform_conv2d": _aten_deform,
    },
    onnx={
        "Conv": _onnx_conv,
        "ConvTranspose": _onnx_conv,
        "FusedConv": _onnx_conv,
        "QLinearConv": _onnx_conv,
        "ConvInteger": _onnx_conv,
        "DeformConv": _onnx_conv,
    },
)
