"""What is known of an ONNX tensor, and the small constants that shapes are computed from.

Chains such as Shape -> Gather -> Concat -> Reshape are evaluated with numpy on tensors of at most
:data:`~predictor.frontends.onnx_file.MAX_VALUES` elements; larger constants stay shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from predictor.frontends.onnx_file import (
    MAX_VALUES,
    Array,
    element_type,
    tensor_spec,
    tensor_value,
)
from predictor.graph import TensorSpec

Shape = tuple[int, ...]


class Unfit(Exception):
    """Shapes, attributes or values of a node do not fit together; the reader adds the place."""


class Unknown(Exception):
    """The output shape of a node cannot be worked out; the reader looks for a declared one."""


@dataclass(slots=True, eq=False)
class Tensor:
    """A tensor of the model. ``id`` is -1 for constants, whose ``roots`` are initializers.

    ``value`` holds the numbers of small constants, and of small tensors computed from shapes.
    """

    name: str
    spec: TensorSpec
    id: int = -1
    value: Array | None = None
    roots: tuple[Tensor, ...] = ()
    stored: bool = False
    """True for initializers: what the file stores, as opposed to what is derived from it."""

    @property
    def constant(self) -> bool:
        """True for what no input can change."""
        return self.id < 0


class Call:
    """A node as shape rules see it: typed access to attributes, shapes and values."""

    __slots__ = ("attrs", "inputs", "n_outputs", "op_type", "opset")

    def __init__(
        self, op_type: str, attrs: dict[str, Any], inputs: Sequence[Tensor | None],
        n_outputs: int, opset: int,
    ) -> None:  # fmt: skip
        self.op_type, self.attrs, self.inputs = op_type, attrs, inputs
        self.n_outputs, self.opset = n_outputs, opset

    def has(self, slot: int) -> bool:
        """True where the input is given."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def tensor(self, slot: int) -> Tensor:
        """The input, which must be given."""
        found = self.inputs[slot] if slot < len(self.inputs) else None
        if found is None:
            raise Unfit(f"input {slot} is missing")
        return found

    def shape(self, slot: int = 0) -> Shape:
        """Shape of an input that must be given."""
        return self.tensor(slot).spec.shape

    def ranked(self, slot: int, low: int, high: int | None = None) -> Shape:
        """Shape of an input whose rank must lie in ``low`` .. ``high``."""
        shape = self.shape(slot)
        if len(shape) < low or (high is not None and len(shape) > high):
            raise Unfit(f"input {slot} has the shape {list(shape)}, {low} dimensions are needed")
        return shape

    def dtype(self, slot: int = 0) -> str:
        """Element type of an input that must be given."""
        return self.tensor(slot).spec.dtype

    def value(self, slot: int) -> Array:
        """Numbers of a constant input; Unknown where it is computed at run time."""
        found = self.tensor(slot).value
        if found is None:
            raise Unknown(f"the values of input {slot} ('{self.tensor(slot).name}') are not known")
        return found

    def numbers(self, slot: int) -> list[int]:
        """A constant input as integers."""
        return [int(n) for n in self.value(slot).reshape(-1)]

    def integer(self, key: str, default: int | None = None) -> int:
        """An integer attribute."""
        found = self.attrs.get(key, default)
        if not isinstance(found, int):
            raise Unfit(f"attribute '{key}' {'is missing' if found is None else 'is no integer'}")
        return found

    def ints(self, key: str, default: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """A list of integers, or ``default``."""
        found = self.attrs.get(key)
        if found is None:
            return None if default is None else tuple(default)
        if not isinstance(found, tuple) or not all(isinstance(n, int) for n in found):
            raise Unfit(f"attribute '{key}' is no list of integers")
        return found

    def text(self, key: str, default: str) -> str:
        """A text attribute."""
        found = self.attrs.get(key, default)
        if not isinstance(found, str):
            raise Unfit(f"attribute '{key}' is no text")
        return found

    def axis(self, rank: int, default: int | None = None, key: str = "axis") -> int:
        """An axis attribute, counted from 0."""
        return wrap(self.integer(key, default), rank)

    def listed(self, key: str, slot: int) -> list[int] | None:
        """Integers that are an attribute in older operator sets and an input in newer ones."""
        if key in self.attrs:
            found = self.ints(key)
            return None if found is None else list(found)
        return self.numbers(slot) if self.has(slot) else None


def wrap(axis: int, rank: int) -> int:
    """A negative axis counted from the end; Unfit outside the range."""
    if not -rank <= axis < max(rank, 1):
        raise Unfit(f"axis {axis} does not exist in {rank} dimensions")
    return axis % rank if rank else 0


def constant_of(attrs: dict[str, Any], label: str, folder: Any) -> tuple[TensorSpec, Array | None]:
    """Spec and numbers of a Constant node."""
    for key, dtype in (("value_int", "int64"), ("value_ints", "int64"),
                       ("value_float", "float32"), ("value_floats", "float32")):  # fmt: skip
        if key in attrs:
            numbers = np.array(attrs[key], dtype)
            return TensorSpec(numbers.shape, dtype), numbers if numbers.size <= MAX_VALUES else None
    if "value" in attrs and hasattr(attrs["value"], "dims"):
        spec = tensor_spec(attrs["value"], label)
        return spec, tensor_value(attrs["value"], spec, folder)
    if "sparse_value" in attrs and hasattr(attrs["sparse_value"], "dims"):
        sparse = attrs["sparse_value"]
        return TensorSpec(tuple(sparse.dims), element_type(sparse.values.data_type, label)), None
    raise Unfit("a Constant without a tensor or number")


def evaluate(call: Call) -> list[Array] | None:
    """The outputs of a node as numbers, where its inputs' numbers are known and few; else None."""
    if call.op_type in ("Shape", "Size"):
        return _shape_of(call)
    function = _FUNCTIONS.get(call.op_type)
    if function is None or not call.inputs:
        return None
    if any(t is not None and t.value is None for t in call.inputs):
        return None
    try:
        with np.errstate(all="ignore"):
            results = function(call)
    except (ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError, Unknown):
        return None  # the shape rule of the operator finds the mistake and words it
    if results is None or sum(result.size for result in results) > MAX_VALUES:
        return None
    return results


def _shape_of(call: Call) -> list[Array]:
    shape = call.shape()
    if call.op_type == "Size":
        return [np.array(math.prod(shape), np.int64)]
    end = call.integer("end", len(shape))
    return [np.array(shape[slice(call.integer("start", 0), end)], np.int64)]


def _v(call: Call, slot: int) -> Array:
    return call.value(slot)


def _binary(function: Callable[..., Any]) -> Callable[[Call], list[Array]]:
    return lambda call: [np.asarray(function(*(_v(call, i) for i in range(len(call.inputs)))))]


def _divide(call: Call) -> list[Array] | None:
    a, b = _v(call, 0), _v(call, 1)
    if a.dtype.kind not in "iu":
        return [np.asarray(a / b)]
    if not b.all():
        return None
    return [np.asarray(np.trunc(a.astype(np.longdouble) / b).astype(a.dtype))]


def _modulo(call: Call) -> list[Array] | None:
    a, b = _v(call, 0), _v(call, 1)
    if b.dtype.kind in "iu" and not b.all():
        return None
    return [np.asarray((np.fmod if call.integer("fmod", 0) else np.mod)(a, b))]


def _cast(call: Call) -> list[Array] | None:
    dtype = element_type(call.integer("to"), "Cast")
    known = dtype in ("float32", "float64", "float16", "bool") or "int" in dtype
    return [_v(call, 0).astype(dtype)] if known and dtype not in ("int4", "uint4") else None


def _small(*sizes: int) -> bool:
    return all(n >= 0 for n in sizes) and math.prod(sizes) <= MAX_VALUES


def _fill(call: Call) -> list[Array] | None:
    sizes = call.numbers(0)
    if not _small(*sizes):
        return None
    tensor = call.attrs.get("value")
    if tensor is None:
        return [np.zeros(sizes, np.float32)]
    value = tensor_value(tensor, tensor_spec(tensor, "value"), None)
    return None if value is None else [np.full(sizes, value.reshape(-1)[0], value.dtype)]


def _range(call: Call) -> list[Array] | None:
    start, limit, delta = (_v(call, i).reshape(-1)[0] for i in range(3))
    if not delta or not abs((limit - start) / delta) <= MAX_VALUES:
        return None
    values: Array = np.arange(start, limit, delta)
    return [values.astype(_v(call, 0).dtype)]


def _expand(call: Call) -> list[Array] | None:
    sizes = np.broadcast_shapes(call.shape(), tuple(call.numbers(1)))
    return [np.broadcast_to(_v(call, 0), sizes)] if _small(*sizes) else None


def _tile(call: Call) -> list[Array] | None:
    repeats = call.numbers(1)
    if not _small(*(n * r for n, r in zip(call.shape(), repeats, strict=True))):
        return None
    return [np.tile(_v(call, 0), repeats)]


def _slice(call: Call) -> list[Array]:
    x = _v(call, 0)
    starts, ends, axes, steps = slice_arguments(call)
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -x.shape[axis] else end
        index[wrap(axis, x.ndim)] = slice(start, stop, step)
    return [x[tuple(index)]]


def slice_arguments(call: Call) -> tuple[list[int], list[int], list[int], list[int]]:
    """Starts, ends, axes and steps of a Slice in any operator set."""
    if "starts" in call.attrs:
        starts, ends = list(call.ints("starts") or ()), list(call.ints("ends", ()) or ())
        axes = list(call.ints("axes", range(len(starts))) or ())
        steps = [1] * len(starts)
    else:
        starts, ends = call.numbers(1), call.numbers(2)
        axes = call.numbers(3) if call.has(3) else list(range(len(starts)))
        steps = call.numbers(4) if call.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise Unfit("starts, ends, axes and steps do not belong together")
    return starts, ends, axes, steps


def _squeeze(call: Call) -> list[Array]:
    axes = call.listed("axes", 1)
    return [np.squeeze(_v(call, 0), None if axes is None else tuple(axes))]


def _unsqueeze(call: Call) -> list[Array]:
    return [np.expand_dims(_v(call, 0), tuple(call.listed("axes", 1) or ()))]


def _reshape(call: Call) -> list[Array]:
    x = _v(call, 0)
    sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(call.numbers(1))]
    return [x.reshape(sizes)]


def _reduce(function: Callable[..., Any]) -> Callable[[Call], list[Array]]:
    def run(call: Call) -> list[Array]:
        axes = call.listed("axes", 1)
        if axes is not None and not axes and call.integer("noop_with_empty_axes", 0):
            return [_v(call, 0)]
        keep = bool(call.integer("keepdims", 1))
        x = _v(call, 0)
        return [np.asarray(function(x, axis=tuple(axes) if axes else None, keepdims=keep))
                .astype(x.dtype)]  # fmt: skip

    return run


def _split(call: Call) -> list[Array]:
    x = _v(call, 0)
    axis = call.axis(x.ndim, 0)
    sizes = call.listed("split", 1)
    if sizes is None:
        return list(np.array_split(x, call.n_outputs, axis))
    return list(np.split(x, np.cumsum(sizes)[:-1], axis))


def _gather(call: Call) -> list[Array]:
    return [np.asarray(np.take(_v(call, 0), _v(call, 1), axis=call.integer("axis", 0)))]


def _concat(call: Call) -> list[Array]:
    return [np.concatenate([_v(call, i) for i in range(len(call.inputs))], call.integer("axis"))]


def _transpose(call: Call) -> list[Array]:
    return [np.transpose(_v(call, 0), call.ints("perm"))]


_FUNCTIONS: dict[str, Callable[[Call], list[Array] | None]] = {
    "Add": _binary(np.add), "Sub": _binary(np.subtract), "Mul": _binary(np.multiply),
    "Div": _divide, "Mod": _modulo, "Neg": _binary(np.negative), "Abs": _binary(np.abs),
    "Floor": _binary(np.floor), "Ceil": _binary(np.ceil), "Round": _binary(np.round),
    "Sqrt": _binary(np.sqrt), "Equal": _binary(np.equal), "Greater": _binary(np.greater),
    "Less": _binary(np.less), "GreaterOrEqual": _binary(np.greater_equal),
    "LessOrEqual": _binary(np.less_equal), "And": _binary(np.logical_and),
    "Or": _binary(np.logical_or), "Not": _binary(np.logical_not), "Where": _binary(np.where),
    "Reciprocal": _binary(np.reciprocal), "Sign": _binary(np.sign),
    "Max": lambda call: [np.asarray(np.maximum.reduce([_v(call, i)
                         for i in range(len(call.inputs))]))],
    "Min": lambda call: [np.asarray(np.minimum.reduce([_v(call, i)
                         for i in range(len(call.inputs))]))],
    "Identity": lambda call: [_v(call, 0)], "Cast": _cast, "ConstantOfShape": _fill,
    "Range": _range, "Expand": _expand, "Tile": _tile, "Slice": _slice, "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze, "Reshape": _reshape, "Split": _split, "Gather": _gather,
    "Concat": _concat, "Transpose": _transpose, "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum), "ReduceMax": _reduce(np.max), "ReduceMin": _reduce(np.min),
    "Flatten": lambda call: [_v(call, 0).reshape(
        math.prod(call.shape()[: call.integer("axis", 1)]), -1)],
    "NonZero": lambda call: [np.array(np.nonzero(_v(call, 0)), np.int64)],
}  # fmt: skip
