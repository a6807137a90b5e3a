"""Operators that only move data: views, copies, concatenation, gather, resize, padding, sorting.

Views (reshape, transpose, slice, expand) move nothing in eager mode; a runtime that copies for
them says so in its fusion rules. A gather (embedding, index) reads the rows it returns and its
indices, not the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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
    per_output,
    total_bytes,
)

RESIZE_FLOPS = {"nearest": 0, "linear": 4, "bilinear": 8, "bicubic": 40, "trilinear": 16}
"""Element-wise operations an output element: taps x (product + sum)."""


def view_cost(op: Draft) -> Cost:
    """Nothing moves."""
    return Cost(0, 0, 0, 0, 0)


def gather_cost(op: Draft) -> Cost:
    """Reads what it returns, and the indices."""
    out = total_bytes(op.outputs)
    indices = total_bytes([spec for spec in op.inputs if not spec.is_float])
    return Cost(0, 0, out + indices, out)


def scatter_cost(op: Draft) -> Cost:
    """Reads and writes the updated rows; ``inputs[-1]`` is the update."""
    update = op.inputs[-1].nbytes if op.inputs else 0
    moved = min(update, total_bytes(op.outputs)) if op.attrs.get("inplace") else None
    return Cost(0, 0, moved, moved)


def fill_cost(op: Draft) -> Cost:
    """Writes only."""
    return Cost(0, 0, 0, None)


def resize_cost(op: Draft) -> Cost:
    """Interpolation taps an output element, by mode."""
    return Cost(0, RESIZE_FLOPS[op.attrs["mode"]] * op.outputs[0].numel)


def sort_cost(op: Draft) -> Cost:
    """n log2 n comparisons a sorted row (``attrs["length"]``)."""
    elements, length = op.inputs[0].numel, op.attrs["length"]
    return Cost(0, int(elements * math.log2(max(2, length))))


def fft_cost(op: Draft) -> Cost:
    """5 n log2 n real operations a complex transform of n points (Cooley-Tukey, radix 2)."""
    elements = max(op.inputs[0].numel, op.outputs[0].numel)
    return Cost(0, int(5 * elements * math.log2(max(2, op.attrs["length"]))))


def nms_cost(op: Draft) -> Cost:
    """Every pair of boxes once: 16 operations an intersection over union."""
    boxes = op.inputs[0].shape[0] if op.inputs[0].shape else 0
    return Cost(0, 16 * boxes * boxes // 2)


def roi_cost(op: Draft) -> Cost:
    """Four bilinear taps of 8 operations an output element (2 x 2 samples a bin)."""
    return Cost(0, 4 * 8 * op.outputs[0].numel)


def _resize(mode: str) -> tuple[str, Attrs]:
    return "resize", {"mode": mode}


def _sort(call: AtenCall) -> tuple[str, Attrs]:
    shape = call.args[0].shape
    return "sort", {"length": int(shape[-1]) if len(shape) else 1}


def _fft(call: AtenCall) -> tuple[str, Attrs]:
    dims = call.args[1]
    return "fft", {"length": math.prod(int(call.args[0].shape[d]) for d in dims)}


def _fft_last(dims: int) -> Callable[[AtenCall], tuple[str, Attrs]]:
    def rule(call: AtenCall) -> tuple[str, Attrs]:
        return "fft", {"length": math.prod(int(n) for n in call.args[0].shape[-dims:])}

    return rule


def _cat(call: AtenCall) -> tuple[str, Attrs]:
    return "concat", {"axis": int(call.get(1, "dim", 0) or 0)}


def _permute(call: AtenCall) -> tuple[str, Attrs]:
    order = call.get(1, "dims")
    return "transpose", {"order": tuple(int(i) for i in order)} if order is not None else {}


def _slice(call: AtenCall) -> tuple[str, Attrs]:
    return "slice", {"axis": int(call.get(1, "dim", 0) or 0)}


def _split(call: AtenCall) -> tuple[str, Attrs]:
    return "slice", {"axis": int(call.get(2, "dim", 0) or 0)}


_VIEWS = {
    "reshape": "view _unsafe_view _reshape_alias unsqueeze squeeze detach alias view_as_complex "
    "view_as_real view_dtype flatten reshape lift_fresh unfold _conj _neg_view "
    "resolve_conj resolve_neg real imag unflatten view_as squeeze_copy".split(),
    "transpose": "t transpose permute movedim moveaxis swapaxes swapdims numpy_T mT".split(),
    "slice": "slice select narrow unbind diagonal as_strided".split(),
    "expand": "expand broadcast_to expand_as".split(),
}
_COPIES = (
    "clone copy _to_copy contiguous repeat roll flip rot90 tril triu im2col col2im pixel_shuffle "
    "pixel_unshuffle channel_shuffle reshape_copy view_copy tile repeat_interleave "
    "slice_scatter select_scatter diagonal_scatter fill index_fill constant_pad_nd "
    "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d _pad_circular diag_embed meshgrid unfold_copy native_channel_shuffle "
    "pad to type_as float half block_diag hstack vstack lift_fresh_copy detach_copy"
).split()
_GATHERS = (
    "embedding index index_select gather take take_along_dim embedding_bag _embedding_bag "
    "_embedding_bag_forward_only masked_select nonzero nonzero_static _unsafe_index bucketize "
    "searchsorted unique2 _unique2 one_hot"
).split()
_SCATTERS = (
    "scatter scatter_add scatter_reduce index_put _index_put_impl index_add index_copy "
    "masked_scatter _unsafe_index_put"
).split()
_FILLS = (
    "zeros ones full empty empty_like zeros_like ones_like full_like new_zeros new_ones new_full "
    "new_empty arange linspace rand randn rand_like randn_like randint eye scalar_tensor "
    "empty_strided new_empty_strided tril_indices triu_indices zero logspace normal uniform "
    "randperm normal_functional lift range"
).split()
_RESIZES = {
    "upsample_nearest1d": "nearest", "upsample_nearest2d": "nearest",
    "upsample_nearest3d": "nearest", "_upsample_nearest_exact1d": "nearest",
    "_upsample_nearest_exact2d": "nearest", "upsample_linear1d": "linear",
    "upsample_bilinear2d": "bilinear", "_upsample_bilinear2d_aa": "bilinear",
    "upsample_bicubic2d": "bicubic", "_upsample_bicubic2d_aa": "bicubic",
    "upsample_trilinear3d": "trilinear", "grid_sampler_2d": "bilinear",
    "grid_sampler_3d": "trilinear",
}  # fmt: skip


def _aten_table() -> dict[str, AtenRule]:
    rules: dict[str, AtenRule] = {}
    for kind, names in _VIEWS.items():
        rules.update({f"aten.{name}": (kind, {}) for name in names})
    rules["aten.permute"] = _permute
    rules["aten.slice"] = rules["aten.select"] = rules["aten.narrow"] = _slice
    for name in ("split", "split_with_sizes", "chunk", "tensor_split"):
        rules[f"aten.{name}"] = _split
    for kind, group in (("copy", _COPIES), ("gather", _GATHERS), ("scatter", _SCATTERS),
                        ("fill", _FILLS)):  # fmt: skip
        rules.update({f"aten.{name}": (kind, {"fn": name}) for name in group})
    rules["aten.cat"] = rules["aten.concat"] = _cat
    rules["aten.stack"] = _cat
    rules.update({f"aten.{name}": _resize(mode) for name, mode in _RESIZES.items()})
    rules["aten.topk"] = rules["aten.sort"] = rules["aten.argsort"] = _sort
    rules["aten._fft_r2c"] = rules["aten._fft_c2r"] = rules["aten._fft_c2c"] = _fft
    for prefix in ("", "r", "ir", "i", "h", "ih"):
        rules[f"aten.fft_{prefix}fft"], rules[f"aten.fft_{prefix}fft2"] = _fft_last(1), _fft_last(2)
    rules["torchvision.nms"] = ("nms", {})
    for name in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool"):
        rules[f"torchvision.{name}"] = ("roi", {"fn": name})
    return rules


def _onnx_resize(node: OnnxNode) -> tuple[str, Attrs]:
    mode = str(node.attributes.get("mode", "nearest"))
    return _resize({"linear": "bilinear", "cubic": "bicubic"}.get(mode, "nearest"))


def _onnx_concat(node: OnnxNode) -> tuple[str, Attrs]:
    rank = max(1, len(node.outputs[0].shape))
    return "concat", {"axis": int(node.attributes.get("axis", 1)) % rank}


def _onnx_transpose(node: OnnxNode) -> tuple[str, Attrs]:
    order = node.attributes.get("perm") or range(len(node.outputs[0].shape))[::-1]
    return "transpose", {"order": tuple(int(i) for i in order)}


def _onnx_gather(node: OnnxNode) -> tuple[str, Attrs]:
    index = node.inputs[1]
    if 1 in node.static and index is not None and index.numel == 1:
        return "slice", {"axis": int(node.attributes.get("axis", 0))}
    return "gather", {"fn": "embedding" if 0 in node.static else "gather"}


def _onnx_fft(node: OnnxNode) -> tuple[str, Attrs]:
    x, out = node.inputs[0], node.outputs[0]
    if node.op_type == "STFT":
        window = node.constants.get(3) or (2.0 * out.shape[-2],)
        return "fft", {"length": int(window[0])}
    rest = out.numel // max(1, max(out.shape[1:-1], default=1))
    return "fft", {"length": max(1, (x.numel if x else 1) // max(1, rest))}


def _onnx_sort(node: OnnxNode) -> tuple[str, Attrs]:
    x = node.inputs[0]
    return "sort", {"length": x.shape[-1] if x and x.shape else 1}


def _onnx_axis(node: OnnxNode) -> tuple[str, Attrs]:
    rank = max(1, len(node.outputs[0].shape))
    return "slice", {"axis": int(node.attributes.get("axis", 0)) % rank}


def _onnx_table() -> dict[str, OnnxRule]:
    rules: dict[str, OnnxRule] = {}
    for kind, names in {
        "reshape": "Reshape Flatten Squeeze Unsqueeze Identity",
        "expand": "Expand",
        "copy": "Tile Pad DepthToSpace SpaceToDepth Cast CastLike Trilu ReverseSequence "
        "CenterCropPad Col2Im Compress",
        "gather": "GatherElements GatherND NonZero Unique OneHot MaxUnpool",
        "scatter": "Scatter ScatterElements ScatterND",
        "fill": "Constant ConstantOfShape Range EyeLike RandomNormal RandomUniform Shape Size "
        "RandomNormalLike RandomUniformLike Multinomial AffineGrid",
    }.items():
        rules.update({name: (kind, {"fn": name.lower()}) for name in names.split()})
    rules["Transpose"], rules["Concat"] = _onnx_transpose, _onnx_concat
    rules["Slice"] = ("slice", {})
    rules["Split"], rules["Gather"] = _onnx_axis, _onnx_gather
    rules["DFT"] = rules["STFT"] = _onnx_fft
    rules["Resize"] = rules["Upsample"] = _onnx_resize
    rules["GridSample"] = _resize("bilinear")
    rules["TopK"] = _onnx_sort
    rules["NonMaxSuppression"] = ("nms", {})
    rules["RoiAlign"] = rules["MaxRoiPool"] = ("roi", {"fn": "roi_align"})
    return rules


FAMILY = Family(
    kinds=(
        Kind("reshape", view_cost, "view"),
        Kind("transpose", view_cost, "view"),
        Kind("slice", view_cost, "view"),
        Kind("expand", view_cost, "view"),
        Kind("copy", per_output(0)),
        Kind("concat", per_output(0)),
        Kind("gather", gather_cost),
        Kind("scatter", scatter_cost),
        Kind("fill", fill_cost),
        Kind("resize", resize_cost),
        Kind("sort", sort_cost),
        Kind("fft", fft_cost),
        Kind("nms", nms_cost),
        Kind("roi", roi_cost),
    ),
    aten=_aten_table(),
    onnx=_onnx_table(),
)
