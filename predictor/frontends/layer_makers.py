"""What each layer type of a layer list puts into the graph.

Every maker gives the operators that tracing the equivalent ``torch.nn`` module gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from predictor.builder import Value
from predictor.errors import ModelError
from predictor.frontends.layer_parts import Layer
from predictor.layer_types import ACTIVATIONS, BINARY, REDUCTIONS, UNARY


def _conv(layer: Layer) -> Value:
    dims, x = int(layer.type[-2]), layer.x
    if len(x.shape) != dims + 2:
        raise ModelError(f"reads {dims + 2} axes (N, C, ...), got {list(x.shape)}")
    groups = x.shape[1] if layer["groups"] == "depthwise" else layer["groups"]
    out = layer["out"]
    if out is None:
        if layer["groups"] != "depthwise":
            raise ModelError("'out' is missing: output channels")
        out = x.shape[1]
    padding = layer["padding"]
    more: dict[str, Any] = {}
    if layer.type.startswith("conv_transpose"):
        extra = layer.sides(layer["output_padding"], "output_padding")
        more = {"transposed": True, "output_padding": extra}
    return layer.b.conv(
        x, out, layer.sides(layer["kernel"], "kernel"), groups=groups, bias=layer["bias"],
        stride=layer.sides(layer["stride"], "stride"),
        padding=padding if isinstance(padding, str) else layer.sides(padding, "padding"),
        dilation=layer.sides(layer["dilation"], "dilation"), name=layer.name, **more,
    )  # fmt: skip


def _linear(layer: Layer) -> Value:
    return layer.b.linear(layer.x, layer["out"], bias=layer["bias"], name=layer.name)


def _attention(layer: Layer) -> Value:
    shapes = [list(x.shape) for x in layer.xs]
    q, k, v = shapes
    if any(len(shape) != 4 for shape in shapes) or q[0] != k[0] or k[:2] != v[:2] or q[1] % k[1]:
        raise ModelError(f"q, k and v are each (batch, heads, steps, size), got {shapes}")
    return layer.b.attention(*layer.xs, causal=layer["causal"], name=layer.name)


def _multi_head_attention(layer: Layer) -> Value:
    b, name, bias = layer.b, layer.name, layer["bias"]
    query, key = layer.x, layer.xs[1] if len(layer.xs) > 1 else layer.x
    value = layer.xs[2] if len(layer.xs) > 2 else key
    shapes = [list(x.shape) for x in (query, key, value)]
    if any(len(s) != 3 or s[0] != shapes[0][0] for s in shapes) or shapes[1][1] != shapes[2][1]:
        raise ModelError(f"query, key and value are each (batch, steps, features), got {shapes}")
    batch, steps, width = query.shape
    heads, kv_heads = layer["heads"], layer["kv_heads"] or layer["heads"]
    size = layer["head_dim"] or width // heads
    if (not layer["head_dim"] and width % heads) or heads % kv_heads or not size:
        raise ModelError(f"{heads} heads and {kv_heads} kv_heads do not divide {width} features")
    widths = [heads * size, kv_heads * size, kv_heads * size]
    if query.id == key.id == value.id and layer["packed"]:
        together = b.linear(query, sum(widths), bias=bias, name=f"{name}.qkv")
        parts = b.split(together, widths, axis=2, name=f"{name}.split")
    else:
        parts = [
            b.linear(x, out, bias=bias, name=f"{name}.{word}")
            for x, out, word in zip((query, key, value), widths, "qkv", strict=True)
        ]
    split = []
    for part, count, word in zip(parts, (heads, kv_heads, kv_heads), "qkv", strict=True):
        apart = b.reshape(part, (*part.shape[:2], count, size), name=f"{name}.{word}_heads")
        split.append(b.transpose(apart, (0, 2, 1, 3), name=f"{name}.{word}_first"))
    x = b.attention(split[0], split[1], split[2], causal=layer["causal"], name=f"{name}.attention")
    x = b.transpose(x, (0, 2, 1, 3), name=f"{name}.heads_last")
    x = b.reshape(x, (batch, steps, heads * size), name=f"{name}.join")
    return b.linear(x, width, bias=bias, name=f"{name}.out")


def _rnn(layer: Layer) -> Value:
    return layer.b.rnn(
        layer.x, layer["hidden"], mode=layer.type, layers=layer["layers"], bias=layer["bias"],
        bidirectional=layer["bidirectional"], batch_first=layer["batch_first"], name=layer.name,
    )  # fmt: skip


def _norm(layer: Layer) -> Value:
    b, x, least = layer.b, layer.x, 1 if layer.type in ("layer_norm", "rms_norm") else 2
    if len(x.shape) < max(least, layer.keys.get("axes", 0)):
        raise ModelError(f"reads more axes than {list(x.shape)} has")
    if layer.type == "layer_norm":
        return b.layer_norm(x, axes=layer["axes"], name=layer.name)
    if layer.type == "group_norm":
        return b.group_norm(x, layer["groups"], name=layer.name)
    plain = {"batch_norm": b.batch_norm, "rms_norm": b.rms_norm, "instance_norm": b.instance_norm}
    return plain[layer.type](x, name=layer.name)


def _activation(layer: Layer) -> Value:
    b, x = layer.b, layer.x
    if layer.type == "glu":
        axis = layer.axis(layer["axis"])
        if x.shape[axis] % 2:
            raise ModelError(f"axis {axis} of {list(x.shape)} has no two halves")
        return b.op("activation", [x], [_with(x, axis, x.shape[axis] // 2)], name=layer.name,
                    attrs={"fn": "glu"})[0]  # fmt: skip
    if layer.type == "prelu":
        if layer["per_channel"] and len(x.shape) < 2:
            raise ModelError(f"reads (N, C, ...), got {list(x.shape)}")
        slopes = x.shape[1] if layer["per_channel"] else 1
        return b.op("activation", [x], [x.shape], name=layer.name, attrs={"fn": "prelu"},
                    weights=[("weight", (slopes,), "parameter")])[0]  # fmt: skip
    return b.activation(x, layer.type, name=layer.name)


def _softmax(layer: Layer) -> Value:
    layer.axis(layer["axis"])
    return layer.b.softmax(layer.x, name=layer.name)


def _elementwise(layer: Layer) -> Value:
    return layer.b.elementwise(layer.type, *layer.xs, name=layer.name)


def _reduce(layer: Layer) -> Value:
    x, given = layer.x, layer["axes"]
    axes = {layer.axis(a) for a in ((given,) if isinstance(given, int) else given)}
    kept = [
        1 if i in axes else n for i, n in enumerate(x.shape) if i not in axes or layer["keepdim"]
    ]
    return layer.b.op("reduce", [x], [kept], name=layer.name, attrs={"fn": layer.type})[0]


def _learned(layer: Layer) -> Value:
    """scale and position_embedding: an element-wise operator with a weight of its own."""
    x = layer.x
    if not x.shape:
        raise ModelError("reads at least one axis, got a single number")
    if layer.type == "scale":
        fn, shape = "mul", x.shape[-1:]
    else:
        fn, shape = "add", (1, *x.shape[1:])
    return layer.b.op("elementwise", [x], [x.shape], name=layer.name, attrs={"fn": fn},
                      weights=[("weight", shape, "parameter")])[0]  # fmt: skip


def _class_token(layer: Layer) -> Value:
    x = layer.x
    if len(x.shape) != 3:
        raise ModelError(f"reads (batch, steps, features), got {list(x.shape)}")
    return layer.b.op("concat", [x], [_with(x, 1, x.shape[1] + 1)], name=layer.name,
                      attrs={"axis": 1},
                      weights=[("weight", (1, 1, x.shape[2]), "parameter")])[0]  # fmt: skip


def _pool(layer: Layer) -> Value:
    stride = layer["kernel"] if layer["stride"] is None else layer["stride"]
    kernel, pads = layer.sides(layer["kernel"], "kernel"), layer.sides(layer["padding"], "padding")
    if any(2 * pad > size for pad, size in zip(pads, kernel, strict=True)):
        raise ModelError(f"padding {list(pads)} is more than half of kernel {list(kernel)}")
    return layer.b.pool(
        layer.x, layer.type[:3], kernel, stride=layer.sides(stride, "stride"), padding=pads,
        ceil_mode=layer["ceil_mode"], name=layer.name,
    )  # fmt: skip


def _global_pool(layer: Layer) -> Value:
    layer.sides(1, "size")
    out = layer.b.global_pool(layer.x, layer.type[7:10], name=layer.name)
    if layer["flatten"]:
        out = layer.b.reshape(out, out.shape[:2], name=f"{layer.name}.flatten")
    return out


def _adaptive_pool(layer: Layer) -> Value:
    size = layer.sides(layer["size"], "size")
    return layer.b.op("pool", [layer.x], [(*layer.x.shape[:2], *size)], name=layer.name,
                      attrs={"type": layer.type[9:12], "adaptive": True})[0]  # fmt: skip


def _resize(layer: Layer) -> Value:
    scale, sides = layer["scale"], layer.sides(1, "size")
    if scale is not None:
        size = tuple(math.floor(n * scale) for n in layer.x.shape[2:])
    else:
        size = layer.sides(layer["size"], "size")
    if min(size) < 1:
        raise ModelError(f"scale {scale} leaves nothing of {list(layer.x.shape[2:])}")
    wanted = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}.get(layer["mode"])
    if wanted not in (None, len(sides)):
        raise ModelError(f"mode {layer['mode']} is for {wanted} sides, got {list(layer.x.shape)}")
    return layer.b.resize(layer.x, size, layer["mode"], name=layer.name)


def _concat(layer: Layer) -> Value:
    if len({len(x.shape) for x in layer.xs}) > 1:
        raise ModelError(f"{[list(x.shape) for x in layer.xs]} differ in their number of axes")
    return layer.b.concat(layer.xs, layer.axis(layer["axis"]), name=layer.name)


def _embedding(layer: Layer) -> Value:
    if layer.x.spec.is_float:
        raise ModelError(
            f"reads whole numbers, got {layer.x.spec.dtype}; declare the input as "
            f"{{shape: {list(layer.x.shape)}, dtype: int64}}"
        )
    return layer.b.embedding(layer.x, layer["rows"], layer["width"], name=layer.name)


def _squeeze_excite(layer: Layer) -> Value:
    b, x, name = layer.b, layer.x, layer.name
    layer.sides(1, "size")
    width = layer["width"] or max(1, x.shape[1] // layer["reduction"])
    gate = b.global_pool(x, name=f"{name}.pool")
    gate = b.activation(b.conv(gate, width, 1, name=f"{name}.reduce"), layer["activation"],
                        name=f"{name}.{layer['activation']}")  # fmt: skip
    gate = b.activation(b.conv(gate, x.shape[1], 1, name=f"{name}.expand"), layer["gate"],
                        name=f"{name}.{layer['gate']}")  # fmt: skip
    return b.mul(x, gate, name=f"{name}.mul")


def _flatten(layer: Layer) -> Value:
    x, first, last = layer.x, layer.axis(layer["start"]), layer.axis(layer["end"])
    if first > last:
        raise ModelError(f"start {first} is after end {last} of {list(x.shape)}")
    shape = (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
    return layer.b.reshape(x, shape, name=layer.name)


def _reshape(layer: Layer) -> Value:
    x, shape = layer.x, list(layer["shape"])
    for i, size in enumerate(shape):
        if size == 0 and i >= len(x.shape):
            raise ModelError(f"shape {shape}: there is no size {i} in {list(x.shape)} to keep")
        shape[i] = x.shape[i] if size == 0 else size
    if shape.count(-1) > 1:
        raise ModelError(f"shape {shape} has more than one -1")
    return layer.b.reshape(x, shape, name=layer.name)


def _transpose(layer: Layer) -> Value:
    if layer.type == "permute":
        order = [layer.axis(axis) for axis in layer["order"]]
    else:
        order = list(range(len(layer.x.shape)))
        one, two = (layer.axis(axis) for axis in layer["axes"])
        order[one], order[two] = two, one
    return layer.b.transpose(layer.x, order, name=layer.name)


def _split(layer: Layer) -> list[Value]:
    axis, sizes = layer.axis(layer["axis"]), layer["sizes"]
    if sizes is None:
        size, parts = layer.x.shape[axis], layer["parts"]
        if size % parts:
            raise ModelError(f"{parts} parts do not divide axis {axis} of {list(layer.x.shape)}")
        sizes = [size // parts] * parts
    return layer.b.split(layer.x, sizes, axis, name=layer.name)


def _slice(layer: Layer) -> Value:
    axis, x = layer.axis(layer["axis"]), layer.x
    size = x.shape[axis]
    if layer.type == "select":
        if not -size <= layer["index"] < size:
            raise ModelError(f"index {layer['index']} is outside axis {axis} of {list(x.shape)}")
        shape = [n for i, n in enumerate(x.shape) if i != axis]
    else:
        left = len(range(size)[layer["start"] : layer["stop"] : layer["step"]])
        if not left:
            raise ModelError(f"start {layer['start']} to stop {layer['stop']} of {size} is empty")
        shape = _with(x, axis, left)
    return layer.b.op("slice", [x], [shape], name=layer.name, attrs={"axis": axis})[0]


def _pad(layer: Layer) -> Value:
    x, pads = layer.x, layer["padding"]
    shape, sides = list(x.shape), len(layer.sides(1, "padding"))
    pads = [pads] * 2 * sides if isinstance(pads, int) else list(pads)
    if len(pads) % 2 or len(pads) > 2 * sides:
        raise ModelError(f"padding {pads}: two numbers a side, at most {sides} sides")
    for i in range(0, len(pads), 2):
        shape[-1 - i // 2] += pads[i] + pads[i + 1]
    return _copy(layer, shape, "constant_pad_nd")


def _shuffle(layer: Layer) -> Value:
    shape = list(layer.x.shape)
    if len(shape) != 4:
        raise ModelError(f"reads (N, C, H, W), got {shape}")
    if layer.type == "channel_shuffle":
        if shape[1] % layer["groups"]:
            raise ModelError(f"{layer['groups']} groups do not divide {shape[1]} channels")
        return _copy(layer, shape, "channel_shuffle")
    r = layer["factor"]
    down = layer.type == "pixel_unshuffle"
    if (down and (shape[2] % r or shape[3] % r)) or (not down and shape[1] % (r * r)):
        raise ModelError(f"factor {r} does not divide {shape}")
    channels, height, width = shape[1:]
    to = [channels * r * r, height // r, width // r] if down else [
        channels // (r * r), height * r, width * r]  # fmt: skip
    return _copy(layer, [shape[0], *to], layer.type)


def _copy(layer: Layer, shape: Sequence[int], fn: str, dtype: str | None = None) -> Value:
    return layer.b.op("copy", [layer.x], [shape], name=layer.name, attrs={"fn": fn}, dtype=dtype)[0]


def _cast(layer: Layer) -> Value:
    return _copy(layer, layer.x.shape, "_to_copy", layer["dtype"])


def _nothing(layer: Layer) -> Value:
    return layer.x


def _with(x: Value, axis: int, size: int) -> list[int]:
    return [size if i == axis else n for i, n in enumerate(x.shape)]


Maker = Callable[[Layer], Value | list[Value]]
MAKERS: dict[str, Maker] = {
    **{f"{word}{d}d": _conv for word in ("conv", "conv_transpose") for d in (1, 2, 3)},
    "linear": _linear, "matmul": lambda layer: layer.b.matmul(*layer.xs, name=layer.name),
    "attention": _attention, "multi_head_attention": _multi_head_attention,
    "lstm": _rnn, "gru": _rnn, "rnn": _rnn, "embedding": _embedding,
    "squeeze_excite": _squeeze_excite,
    **dict.fromkeys(
        ("batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm"), _norm
    ),
    **dict.fromkeys(ACTIVATIONS, _activation), "softmax": _softmax,
    **dict.fromkeys((*UNARY, *BINARY), _elementwise), **dict.fromkeys(REDUCTIONS, _reduce),
    "scale": _learned, "position_embedding": _learned, "class_token": _class_token,
    "max_pool": _pool, "avg_pool": _pool,
    "global_max_pool": _global_pool, "global_avg_pool": _global_pool,
    "adaptive_max_pool": _adaptive_pool, "adaptive_avg_pool": _adaptive_pool,
    "resize": _resize, "upsample": _resize, "concat": _concat, "flatten": _flatten,
    "reshape": _reshape, "transpose": _transpose, "permute": _transpose, "split": _split,
    "slice": _slice, "select": _slice, "pad": _pad, "pixel_shuffle": _shuffle,
    "pixel_unshuffle": _shuffle, "channel_shuffle": _shuffle, "cast": _cast,
    "dropout": _nothing, "identity": _nothing,
}  # fmt: skip
"""Maker by layer type; a test holds the keys equal to :func:`predictor.layer_types.layer_types`."""
