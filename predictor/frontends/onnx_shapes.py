"""Output shapes of ONNX operators, family by family, from input shapes and small constants.

Rules follow the operator definitions of opset 1 to 24 and of the com.microsoft domain where ONNX
Runtime writes it. They are plain Python: the C++ inference of the onnx package may take the
process down on a damaged file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from predictor.frontends.onnx_file import element_type
from predictor.frontends.onnx_shapes_nn import NN_RULES
from predictor.frontends.onnx_values import Call, Shape, Unfit, Unknown, slice_arguments, wrap
from predictor.graph import TensorSpec

Rule = Callable[[Call], Sequence[Shape | TensorSpec]]


def output_specs(call: Call) -> list[TensorSpec]:
    """Specs of all outputs.

    Raises:
        Unfit: the node contradicts its operator's definition.
        Unknown: no rule, or the shape depends on values that only exist at run time.
    """
    rule = RULES.get(call.op_type)
    if rule is None:
        raise Unknown(f"no shape rule for the operator {call.op_type}")
    default = _default_dtype(call)
    outs = [s if isinstance(s, TensorSpec) else TensorSpec(tuple(s), default) for s in rule(call)]
    if len(outs) < call.n_outputs:
        raise Unknown(f"output {len(outs)} of {call.op_type} has no shape rule")
    return outs[: call.n_outputs]


def broadcast(*shapes: Shape) -> Shape:
    """Numpy's broadcasting; Unfit where sizes differ and none is 1."""
    rank = max((len(s) for s in shapes), default=0)
    sizes = [1] * rank
    for shape in shapes:
        for i, n in enumerate(shape, rank - len(shape)):
            if sizes[i] == 1:
                sizes[i] = n
            elif n not in (1, sizes[i]):
                raise Unfit(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast")
    return tuple(sizes)


_BOOL = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not",
         "IsNaN", "IsInf"}  # fmt: skip
_INT64 = {"ArgMax", "ArgMin", "Shape", "Size", "NonZero", "NonMaxSuppression"}


def _default_dtype(call: Call) -> str:
    kind = call.op_type
    if kind in _BOOL:
        return "bool"
    if kind in _INT64:
        return "int64"
    if kind in ("ConvInteger", "MatMulInteger"):
        return "int32"
    slot = {"Where": 1, "DequantizeLinear": 1, "OneHot": 2, "QLinearMatMul": 7,
            "QLinearConv": 7}.get(kind, 0)  # fmt: skip
    if kind in ("Cast", "EyeLike", "RandomNormal", "RandomUniform", "RandomNormalLike",
                "RandomUniformLike", "Multinomial", "Bernoulli"):  # fmt: skip
        number = call.attrs.get("to" if kind == "Cast" else "dtype")
        if number is not None or kind == "Cast":
            return element_type(call.integer("to" if kind == "Cast" else "dtype"), kind)
        if kind in ("RandomNormal", "RandomUniform", "Multinomial"):
            return "int32" if kind == "Multinomial" else "float32"
    if kind == "QuantizeLinear":
        return call.dtype(2) if call.has(2) else "uint8"
    if kind == "CastLike":
        slot = 1
    return call.dtype(slot) if call.has(slot) else "float32"


# -- element-wise, norms ----------------------------------------------------------------------


def _same(call: Call) -> list[Shape]:
    return [call.shape()] * max(1, call.n_outputs)


def _elementwise(call: Call) -> list[Shape]:
    if call.opset < 7 and call.has(1) and call.integer("broadcast", 0):
        return [call.shape()]  # before opset 7 the second input fits into the first at an axis
    return [broadcast(*(t.spec.shape for t in call.inputs if t is not None))]


def _prelu(call: Call) -> list[Shape]:
    broadcast(call.shape(), call.shape(1)) if call.opset >= 9 else None
    return [call.shape()]


def _channel_norm(call: Call) -> list[Shape]:
    x = call.ranked(0, 2)
    for slot in range(1, 5 if call.op_type == "BatchNormalization" else 3):
        size = call.shape(slot)
        groups = call.op_type == "GroupNormalization" and size == (call.integer("num_groups"),)
        if size != (x[1],) and not groups:
            raise Unfit(f"input {slot} has the shape {list(size)}, the data {x[1]} channels")
    return [x] + [(x[1],)] * (call.n_outputs - 1)


def _layer_norm(call: Call) -> list[Shape | TensorSpec]:
    x = call.ranked(0, 1)
    axis = call.axis(len(x), -1)
    if call.has(1):
        broadcast(x[axis:], call.shape(1))
    rest = (*x[:axis], *(1 for _ in x[axis:]))
    return [x, TensorSpec(rest), TensorSpec(rest)]


def _skip_norm(call: Call) -> list[Shape | TensorSpec]:
    x = call.ranked(0, 2)
    broadcast(x, call.shape(1))
    if call.shape(2) != x[-1:]:
        raise Unfit(f"gamma has the shape {list(call.shape(2))}, the data {x[-1]} features")
    rest = TensorSpec((*x[:-1], 1))
    return [x, rest, rest, x]


def _dropout(call: Call) -> list[Shape | TensorSpec]:
    return [call.shape(), TensorSpec(call.shape(), "bool")]


def _dynamic_quantize(call: Call) -> list[TensorSpec]:
    return [TensorSpec(call.shape(), "uint8"), TensorSpec(()), TensorSpec((), "uint8")]


# -- reductions, sorting ----------------------------------------------------------------------


def _reduce(call: Call) -> list[Shape]:
    x = call.shape()
    keep = bool(call.integer("keepdims", 1))
    if call.op_type.startswith("Arg"):
        axes: set[int] = {call.axis(len(x), 0)}
    else:
        given = call.listed("axes", 1)
        if not given and call.integer("noop_with_empty_axes", 0):
            return [x]
        axes = {wrap(a, len(x)) for a in given} if given else set(range(len(x)))
    return [tuple(1 if i in axes else n for i, n in enumerate(x) if keep or i not in axes)]


def _top_k(call: Call) -> list[Shape | TensorSpec]:
    x = call.ranked(0, 1)
    axis = call.axis(len(x), -1)
    count = call.integer("k") if "k" in call.attrs else call.numbers(1)[0]
    if not 0 <= count <= x[axis]:
        raise Unfit(f"k = {count} of {x[axis]}")
    shape = (*x[:axis], count, *x[axis + 1 :])
    return [shape, TensorSpec(shape, "int64")]


def _nonzero(call: Call) -> list[Shape]:
    return [(max(1, len(call.shape())), math.prod(call.shape()))]


def _nms(call: Call) -> list[Shape]:
    boxes, scores = call.ranked(0, 3, 3), call.ranked(1, 3, 3)
    most = call.numbers(2)[0] if call.has(2) and call.tensor(2).value is not None else boxes[1]
    return [(scores[0] * scores[1] * min(max(most, 0), boxes[1]), 3)]


def _unique(call: Call) -> list[Shape | TensorSpec]:
    x = call.shape()
    if "axis" in call.attrs:
        n, out = x[call.axis(len(x))], x
    else:
        n, out = math.prod(x), (math.prod(x),)
    return [out] + [TensorSpec((n,), "int64")] * 3


UPPER_BOUNDS = {"NonZero", "NonMaxSuppression", "Unique", "Compress"}
"""Operators whose output length depends on the data: the largest possible one is taken."""

# -- data movement ----------------------------------------------------------------------------


def _reshape(call: Call) -> list[Shape]:
    x = call.shape()
    wanted = call.listed("shape", 1)
    if wanted is None:
        raise Unfit("no shape is given")
    keep_zero = bool(call.integer("allowzero", 0))
    sizes = []
    for i, n in enumerate(wanted):
        if n == 0 and not keep_zero:
            if i >= len(x):
                raise Unfit(f"size 0 at position {i} copies a dimension that {list(x)} lacks")
            n = x[i]
        sizes.append(n)
    if sizes.count(-1) == 1:
        rest = math.prod(n for n in sizes if n != -1)
        sizes[sizes.index(-1)] = math.prod(x) // rest if rest else 0
    if any(n < 0 for n in sizes) or math.prod(sizes) != math.prod(x):
        raise Unfit(f"{list(x)} cannot take the shape {wanted[:16]}")
    return [tuple(sizes)]


def _flatten(call: Call) -> list[Shape]:
    x = call.shape()
    axis = call.integer("axis", 1)
    if not -len(x) <= axis <= len(x):
        raise Unfit(f"axis {axis} does not exist in {len(x)} dimensions")
    axis += len(x) if axis < 0 else 0
    return [(math.prod(x[:axis]), math.prod(x[axis:]))]


def _squeeze(call: Call) -> list[Shape]:
    x = call.shape()
    given = call.listed("axes", 1)
    axes = {i for i, n in enumerate(x) if n == 1} if given is None else {
        wrap(a, len(x)) for a in given
    }  # fmt: skip
    if any(x[i] != 1 for i in axes):
        raise Unfit(f"axes {sorted(axes)} of {list(x)} are not all of size 1")
    return [tuple(n for i, n in enumerate(x) if i not in axes)]


def _unsqueeze(call: Call) -> list[Shape]:
    x = call.shape()
    given = call.listed("axes", 1) or []
    rank = len(x) + len(given)
    axes = {wrap(a, rank) for a in given}
    if len(axes) != len(given) or rank > 64:
        raise Unfit(f"axes {given[:16]} repeat or are too many")
    rest = iter(x)
    return [tuple(1 if i in axes else next(rest) for i in range(rank))]


def _transpose(call: Call) -> list[Shape]:
    x = call.shape()
    order = call.ints("perm", range(len(x))[::-1]) or ()
    if sorted(order) != list(range(len(x))):
        raise Unfit(f"perm {list(order[:16])} is no order of {len(x)} axes")
    return [tuple(x[i] for i in order)]


def _concat(call: Call) -> list[Shape]:
    shapes = [t.spec.shape for t in call.inputs if t is not None]
    if not shapes:
        raise Unfit("nothing to join")
    axis = call.axis(len(shapes[0]), 1 if call.opset < 4 else None)
    rest = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
    if len(rest) > 1 or any(len(s) != len(shapes[0]) or not s for s in shapes):
        raise Unfit(f"{[list(s) for s in shapes[:4]]} do not join along axis {axis}")
    total = sum(s[axis] for s in shapes)
    return [(*shapes[0][:axis], total, *shapes[0][axis + 1 :])]


def _split(call: Call) -> list[Shape]:
    x = call.ranked(0, 1)
    axis = call.axis(len(x), 0)
    sizes = call.listed("split", 1)
    if sizes is None:
        parts = call.integer("num_outputs", call.n_outputs)
        if parts < 1 or parts != call.n_outputs:
            raise Unfit(f"{parts} parts for {call.n_outputs} outputs")
        each = -(-x[axis] // parts)
        sizes = [max(0, min(each, x[axis] - i * each)) for i in range(parts)]
    if sum(sizes) != x[axis] or min(sizes, default=0) < 0 or len(sizes) != call.n_outputs:
        raise Unfit(f"parts {sizes[:16]} of size {x[axis]} for {call.n_outputs} outputs")
    return [(*x[:axis], n, *x[axis + 1 :]) for n in sizes]


def _slice(call: Call) -> list[Shape]:
    sizes = list(call.ranked(0, 1))
    for start, end, axis, step in zip(*slice_arguments(call), strict=True):
        i = wrap(axis, len(sizes))
        stop = None if step < 0 and end < -sizes[i] else end
        sizes[i] = len(range(*slice(start, stop, step).indices(sizes[i])))
    return [tuple(sizes)]


def _gather(call: Call) -> list[Shape]:
    x = call.ranked(0, 1)
    axis = call.axis(len(x), 0)
    return [(*x[:axis], *call.shape(1), *x[axis + 1 :])]


def _gather_nd(call: Call) -> list[Shape]:
    x, index, batch = call.ranked(0, 1), call.ranked(1, 1), call.integer("batch_dims", 0)
    if not 0 <= batch + index[-1] <= len(x):
        raise Unfit(f"indices {list(index)} reach deeper than {list(x)}")
    return [(*index[:-1], *x[batch + index[-1] :])]


def _pad(call: Call) -> list[Shape]:
    x = call.shape()
    pads = call.listed("pads" if "pads" in call.attrs else "paddings", 1) or []
    axes = [wrap(a, len(x)) for a in call.numbers(3)] if call.has(3) else list(range(len(x)))
    if len(pads) != 2 * len(axes):
        raise Unfit(f"{len(pads)} pads for {len(axes)} axes")
    sizes = list(x)
    for i, axis in enumerate(axes):
        sizes[axis] += pads[i] + pads[i + len(axes)]
    return [tuple(sizes)]


def _expand(call: Call) -> list[Shape]:
    return [broadcast(call.shape(), tuple(call.numbers(1)))]


def _tile(call: Call) -> list[Shape]:
    x, repeats = call.shape(), call.numbers(1)
    if len(repeats) != len(x):
        raise Unfit(f"{len(repeats)} repeats for {len(x)} dimensions")
    return [tuple(n * r for n, r in zip(x, repeats, strict=True))]


def _one_hot(call: Call) -> list[Shape]:
    x = call.shape()
    axis, depth = call.axis(len(x) + 1, -1), call.numbers(1)[0]
    return [(*x[:axis], depth, *x[axis:])]


def _range(call: Call) -> list[Shape]:
    start, limit, delta = (call.value(i).reshape(-1)[0].item() for i in range(3))
    if not delta:
        raise Unfit("a step of 0")
    return [(max(0, math.ceil((limit - start) / delta)),)]


def _depth_space(call: Call) -> list[Shape]:
    n, c, h, w = call.ranked(0, 4, 4)
    b = call.integer("blocksize")
    to_space = call.op_type == "DepthToSpace"
    if b < 1 or (c % (b * b) if to_space else h % b or w % b):
        raise Unfit(f"block size {b} does not divide {[n, c, h, w]}")
    return [(n, c // (b * b), h * b, w * b) if to_space else (n, c * b * b, h // b, w // b)]


def _compress(call: Call) -> list[Shape]:
    x = call.shape()
    return [x if "axis" in call.attrs else (math.prod(x),)]


def _shaped(call: Call) -> list[Shape]:
    return [call.ints("shape") or ()]


def _fill(call: Call) -> list[Shape | TensorSpec]:
    tensor: Any = call.attrs.get("value")
    dtype = "float32" if tensor is None else element_type(tensor.data_type, "value")
    return [TensorSpec(tuple(call.numbers(0)), dtype)]


_SAME = (
    "Relu LeakyRelu Elu Celu Selu Sigmoid Gelu FastGelu QuickGelu Tanh HardSigmoid HardSwish Mish "
    "Swish Softplus Softsign ThresholdedRelu Shrink Abs Neg Sqrt Reciprocal Exp Log Sin Cos Tan "
    "Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Erf Floor Ceil Round Sign Not BitwiseNot IsNaN "
    "IsInf Clip Softmax LogSoftmax Hardmax CumSum LRN LpNormalization MeanVarianceNormalization "
    "Identity Cast CastLike Trilu ReverseSequence QuantizeLinear DequantizeLinear "
    "Scatter ScatterElements ScatterND EyeLike RandomNormalLike RandomUniformLike Bernoulli "
    "RotaryEmbedding Affine Scale ParametricSoftplus ScaledTanh Inverse TensorScatter"
)
_BROADCAST = (
    "Add Sub Mul Div Pow Mod Max Min Mean Sum And Or Xor BitwiseAnd BitwiseOr BitwiseXor BitShift "
    "Equal Greater GreaterOrEqual Less LessOrEqual Where BiasGelu BiasAdd"
)

REDUCTIONS = (
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip

RULES: dict[str, Rule] = {
    **NN_RULES,
    **dict.fromkeys(_SAME.split(), _same),
    **dict.fromkeys(_BROADCAST.split(), _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduce),
    "ArgMax": _reduce, "ArgMin": _reduce, "TopK": _top_k, "NonZero": _nonzero,
    "NonMaxSuppression": _nms, "Unique": _unique, "Compress": _compress,
    "PRelu": _prelu, "Dropout": _dropout, "DynamicQuantizeLinear": _dynamic_quantize,
    "BatchNormalization": _channel_norm, "InstanceNormalization": _channel_norm,
    "GroupNormalization": _channel_norm, "LayerNormalization": _layer_norm,
    "RMSNormalization": _layer_norm, "SimplifiedLayerNormalization": _layer_norm,
    "SkipLayerNormalization": _skip_norm, "SkipSimplifiedLayerNormalization": _skip_norm,
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Transpose": _transpose, "Concat": _concat, "Split": _split, "Slice": _slice,
    "Gather": _gather, "GatherElements": lambda call: [call.shape(1)], "GatherND": _gather_nd,
    "Pad": _pad, "Expand": _expand, "Tile": _tile, "OneHot": _one_hot, "Range": _range,
    "DepthToSpace": _depth_space, "SpaceToDepth": _depth_space, "ConstantOfShape": _fill,
    "Shape": lambda call: [(len(call.shape()),)], "Size": lambda call: [()],
    "RandomNormal": _shaped, "RandomUniform": _shaped,
    "Det": lambda call: [call.ranked(0, 2)[:-2]],
    "Multinomial": lambda call: [(call.ranked(0, 2, 2)[0], call.integer("sample_size", 1))],
}  # fmt: skip
