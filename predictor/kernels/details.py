"""Shapes that :class:`~predictor.kernels.features.Features` does not keep, for learned models.

What a library does with an operator depends on more than its size: which of its algorithms takes
this shape, how far it runs before the memory order makes it step, whether the result is written
over the input. All of it is read from operators alone, so layer lists have it too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from predictor.graph import Kernel, Op, TensorSpec
from predictor.kernels.features import Floats
from predictor.kernels.memo import remembered

WORDS = (
    # Cheap an element, then dearer; numbers are stored in fitted models, so append only.
    "", "add", "sub", "rsub", "mul", "relu", "threshold", "relu6", "hardtanh", "clamp", "clip",
    "clamp_min", "clamp_max", "maximum", "minimum", "max", "min", "abs", "neg", "square", "where",
    "masked_fill", "eq", "ne", "lt", "gt", "ge", "le", "sum", "leaky_relu", "prelu",
    "hardsigmoid", "hardswish", "div", "reciprocal", "sqrt", "rsqrt", "floor_divide", "remainder",
    "round", "floor", "exp", "elu", "sigmoid", "silu", "tanh", "erf", "gelu", "softplus", "mish",
    "log", "pow", "sin", "cos",
    "batch", "layer", "group", "instance", "rms", "lrn",
    "avg", "adaptive avg", "adaptive max", "lp",
    "mean", "prod", "amax", "amin", "var", "std", "var_mean", "std_mean", "norm",
    "linalg_vector_norm", "all", "any", "argmax", "argmin", "logsumexp", "cumsum",
    "clone", "contiguous", "copy", "_to_copy", "concat", "constant_pad_nd", "roll", "repeat",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "fill", "zeros", "ones", "full",
    "empty_like", "arange", "embedding", "index", "index_select", "gather", "take",
    "nearest", "linear", "bilinear", "bicubic", "trilinear", "reorder",
)  # fmt: skip
"""Functions of operators, in the order of their codes; others share :data:`UNKNOWN_WORD`."""

UNKNOWN_WORD = -1.0
_CODE = {word: float(i) for i, word in enumerate(WORDS)}

WINDOW = 4
"""Kernels back that what stands in the caches is taken from."""

SMALL_INPUT = 20480
"""Elements of an input up to which PyTorch leaves a plain convolution to its own routine."""
LARGE_BATCH = 16
"""Images from which PyTorch leaves a 1x1 convolution to the library."""

NO_PATH, LIBRARY, PRODUCT, UNFOLDED, DILATED, TRANSPOSED = range(6)


@dataclass(frozen=True, slots=True)
class Details:
    """One column a quantity, one entry a kernel; they describe the kernel's anchor.

    ``images`` is the first dimension of the first input, ``channels`` the input channels of a
    convolution, ``height`` and ``width`` the last two output dimensions; ``taps_high`` and
    ``taps_wide`` the window, ``padded`` its padding, ``dilation`` its spacing; ``path`` which of
    PyTorch's CPU routines takes a convolution with one thread (:data:`NO_PATH` and on),
    ``path_threads`` the same with several; ``function`` the code of its word in :data:`WORDS`;
    ``in_place`` 1 where the result is written over the input; ``channels_last`` 1 where the first
    input has them so. ``operands`` are the tensors read,
    ``smallest`` the smallest one's elements by those of the output; ``run`` how many elements
    follow one another in memory until a broadcast, reduction or concatenation steps; ``row`` how
    many elements one output is made of, where it is a reduction of any kind. ``copy_run`` is the
    same run for a copy that the strides of an input force first, 0 where there is none. ``before``
    are the bytes that the last :data:`WINDOW` kernels moved, ``weights_before`` those of their
    weights: what has passed the caches meanwhile. Both are 0 for a kernel that runs alone.
    """

    images: Floats
    channels: Floats
    height: Floats
    width: Floats
    taps_high: Floats
    taps_wide: Floats
    padded: Floats
    dilation: Floats
    path: Floats
    path_threads: Floats
    function: Floats
    in_place: Floats
    channels_last: Floats
    operands: Floats
    smallest: Floats
    run: Floats
    row: Floats
    copy_run: Floats
    before: Floats
    weights_before: Floats

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: npt.NDArray[np.intp]) -> Details:
        """The kernels at ``index``."""
        return Details(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def join(parts: Sequence[Details]) -> Details:
        """All kernels of ``parts``, one after the other."""
        return Details(
            *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Details))
        )


@remembered
def details_of(kernels: Sequence[Kernel]) -> Details:
    """The details of ``kernels``, in order."""
    own = len(fields(Details)) - 2
    table = np.array([_row(kernel) for kernel in kernels], dtype=np.float64).reshape(-1, own)
    moved = _before([kernel.read_bytes + kernel.write_bytes for kernel in kernels])
    weights = _before([kernel.weight_bytes for kernel in kernels])
    columns = [np.ascontiguousarray(table[:, i]) for i in range(own)]
    return Details(*columns, moved, weights)  # type: ignore[call-arg]


def _before(values: Sequence[int]) -> Floats:
    """For each, the sum of the :data:`WINDOW` before it."""
    total = np.concatenate([[0.0], np.cumsum(np.array(values, dtype=np.float64))])
    at = np.arange(len(values))
    result: Floats = total[at] - total[np.maximum(at - WINDOW, 0)]
    return result


def _row(kernel: Kernel) -> tuple[float, ...]:
    op = kernel.ops[kernel.anchor]
    attrs, kind = op.attrs, op.kind
    x = op.inputs[0].shape if op.inputs else ()
    out = op.outputs[0].shape if op.outputs else ()
    height = out[-2] if len(out) > 1 else 1
    width = out[-1] if out else 1
    high = wide = dilation = 1
    padded = path = threaded = 0
    channels = x[1] if len(x) > 2 else (x[-1] if x else 1)
    window = attrs.get("kernel")
    if window:
        high, wide = window[-2] if len(window) > 1 else 1, window[-1]
        padded = max(attrs.get("padding") or (0,))
    if kind == "conv":
        dilation = max(attrs["dilation"])
        path, threaded = (convolution_path(op, threads) for threads in (1, 2))
    outputs = math.prod(out)
    smallest = 1.0
    if len(op.inputs) > 1 and outputs:
        smallest = min(math.prod(spec.shape) for spec in op.inputs) / outputs
    run, row = _run_and_row(op, x, out)
    return (
        x[0] if x else 1, channels, height, width, high, wide, padded, dilation, path, threaded,
        _CODE.get(_word(op), UNKNOWN_WORD), bool(attrs.get("inplace")),
        attrs.get("order") == "last" or bool(attrs.get("channels_last")), len(op.inputs), smallest,
        min(run, attrs.get("run", run)), row, _copy_run(kernel),
    )  # fmt: skip


def _copy_run(kernel: Kernel) -> int:
    return min((op.attrs["run"] for op in kernel.ops if op.attrs.get("forced")), default=0)


def _word(op: Op) -> str:
    attrs = op.attrs
    if op.kind == "concat":
        return "concat"
    word = attrs.get("fn") or attrs.get("type") or attrs.get("mode") or ""
    return f"adaptive {word}" if attrs.get("adaptive") else str(word)


def convolution_path(op: Op, threads: int) -> int:
    """The routine that PyTorch's CPU backend takes for a 32-bit convolution in eager mode.

    The rules of ``use_mkldnn`` in ``aten/src/ATen/native/Convolution.cpp``: with one thread and
    fewer than 16 images, a plain 1x1 convolution is a matrix product; one image of few elements
    stays with PyTorch's own routine unless the kernel is larger than 3x3 or grouped.
    """
    attrs, x = op.attrs, op.inputs[0].shape
    if attrs["transposed"]:
        return TRANSPOSED
    window, dilated = attrs["kernel"], max(attrs["dilation"]) > 1
    strided = max(attrs["stride"]) > 1
    sides = tuple(window[-2:]) if len(window) > 1 else (1, *window)
    worthy = (
        strided or dilated or x[0] >= LARGE_BATCH or sides != (1, 1) or threads > 1
    )  # a library pays off
    large = attrs["groups"] > 1 or min(sides) > 3 or x[0] > 1 or math.prod(x) > SMALL_INPUT
    if (worthy and large) or len(window) > 2:
        return LIBRARY
    if dilated:
        return DILATED
    plain = sides == (1, 1) and not strided and not max(attrs["padding"])
    return PRODUCT if plain else UNFOLDED


def _run_and_row(op: Op, x: tuple[int, ...], out: tuple[int, ...]) -> tuple[float, float]:
    kind = op.kind
    if kind in ("elementwise", "activation"):
        return _broadcast_run(op.inputs, out), 1.0
    if kind == "norm":
        if op.attrs.get("type") in ("layer", "rms"):
            row = op.weights[0].numel if op.weights else (x[-1] if x else 1)
            return row, row
        area = math.prod(x[2:])
        return area, area
    if kind == "softmax":
        return (x[-1], x[-1]) if x else (1.0, 1.0)
    if kind in ("reduce", "pool", "scan"):
        return _reduced(x, out)
    if kind == "concat" and op.attrs.get("order") == "last":
        return min((spec.shape[1] for spec in op.inputs), default=1), 1.0
    if kind == "concat":
        axis = op.attrs["axis"] % max(1, len(out))
        return min((math.prod(spec.shape[axis:]) for spec in op.inputs), default=1), 1.0
    if kind == "copy" and "run" in op.attrs:
        return op.attrs["run"], 1.0
    return (out[-1] if out else 1), 1.0


def _reduced(x: tuple[int, ...], out: tuple[int, ...]) -> tuple[float, float]:
    """How far a reduction reads on, or works on columns side by side; and what it reduces."""
    row = math.prod(x) / max(1, math.prod(out))
    if len(x) == len(out):
        kept = [a == b for a, b in zip(x, out, strict=True)]
    else:
        kept = [len(out) > 0 and x[-1:] == out[-1:]] * len(x)
    run = 1
    for size, same in zip(reversed(x), reversed(kept), strict=True):
        if same != kept[-1]:
            break
        run *= size
    return run, row


def _broadcast_run(inputs: Sequence[TensorSpec], out: tuple[int, ...]) -> float:
    """Elements of the output until one of the operands steps differently from the others."""
    total = math.prod(out)
    run = total
    for spec in inputs:
        shape = spec.shape
        if shape == out or math.prod(shape) <= 1:
            continue
        own, pattern = 1, None
        for i in range(1, len(out) + 1):
            size = out[-i]
            if size == 1:
                continue
            same = len(shape) >= i and shape[-i] == size
            if pattern is None:
                pattern = same
            elif same != pattern:
                break
            own *= size
        run = min(run, own)
    return float(run)
