"""Kernels as numbers: the one place where features are made, for training and for prediction.

A :class:`Features` is a set of numpy columns, one entry a kernel. Sizes are absolute; models take
ratios of them, so that what they learn carries over to sizes that were never measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from predictor.graph import Kernel, Op
from predictor.operators import gemm_of, unit_of

CLASSES = (
    "conv", "pointwise", "depthwise", "grouped", "linear", "matmul", "attention", "rnn",
    "norm", "pool", "elementwise", "softmax", "reduce", "copy", "gather", "resize", "other",
)  # fmt: skip
"""Kernel classes; efficiencies are fitted for each."""

CLASS_INDEX = {name: index for index, name in enumerate(CLASSES)}
MATRIX_CLASSES = CLASSES[:8]

_BY_KIND = {
    "linear": "linear", "matmul": "matmul", "bilinear": "matmul", "einsum": "matmul",
    "attention": "attention", "rnn": "rnn", "norm": "norm", "pool": "pool",
    "elementwise": "elementwise", "activation": "elementwise", "softmax": "softmax",
    "reduce": "reduce", "scan": "reduce", "copy": "copy", "concat": "copy", "slice": "copy",
    "transpose": "copy", "expand": "copy", "reshape": "copy", "fill": "copy",
    "gather": "gather", "scatter": "gather", "resize": "resize",
}  # fmt: skip

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Features:
    """One column a quantity, one entry a kernel. Bytes and counts are for the whole batch.

    ``m, n, k`` with ``groups`` is the matrix product that the kernel amounts to (1 where it is
    none); ``outputs`` its independent output elements; ``taps`` kernel positions; ``winograd`` 1
    for dense 3x3 convolutions of stride 1; ``launches`` how many operators eager mode launches;
    ``steps`` how many passes follow one another inside (time steps of an RNN), each a launch;
    ``channels_last`` 1 for convolutions whose input has its channels last in memory.
    """

    cls: Ints
    macs: Floats
    elementwise_flops: Floats
    read_bytes: Floats
    write_bytes: Floats
    weight_bytes: Floats
    m: Floats
    n: Floats
    k: Floats
    groups: Floats
    outputs: Floats
    taps: Floats
    stride: Floats
    winograd: Floats
    launches: Floats
    steps: Floats
    channels_last: Floats

    def __len__(self) -> int:
        return len(self.cls)

    @property
    def bytes(self) -> Floats:
        """Bytes read and written."""
        return self.read_bytes + self.write_bytes

    def take(self, index: npt.NDArray[np.intp]) -> Features:
        """The kernels at ``index``."""
        return Features(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def join(parts: Sequence[Features]) -> Features:
        """All kernels of ``parts``, one after the other."""
        return Features(
            *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Features))
        )


def class_of(kernel: Kernel) -> str:
    """The class of a kernel: that of its anchor, convolutions told apart by shape."""
    op = kernel.ops[kernel.anchor]
    if op.kind in ("conv", "deform_conv"):
        return _conv_class(op)
    if op.kind == "matmul" and any(other.kind == "softmax" for other in kernel.ops):
        return "attention"
    known = _BY_KIND.get(op.kind)
    if known is None:
        return "linear" if unit_of(op.kind) == "matrix" else "other"
    return known


def _conv_class(op: Op) -> str:
    groups, taps = op.attrs["groups"], math.prod(op.attrs["kernel"])
    if groups == 1:
        return "conv" if taps > 1 else "pointwise"
    axis = len(op.inputs[0].shape) - len(op.attrs["kernel"]) - 1
    return "depthwise" if groups == op.inputs[0].shape[axis] else "grouped"


def featurize(kernels: Sequence[Kernel]) -> Features:
    """The columns of ``kernels``, in order."""
    rows = [_row(kernel) for kernel in kernels]
    if not rows:
        return Features(np.zeros(0, np.int64), *(np.zeros(0) for _ in range(16)))
    table = np.array(rows, dtype=np.float64)
    return Features(table[:, 0].astype(np.int64), *(table[:, i] for i in range(1, 17)))


def _row(kernel: Kernel) -> tuple[float, ...]:
    op = kernel.ops[kernel.anchor]
    macs = flops = 0
    for part in kernel.ops:
        macs += part.macs
        flops += part.elementwise_flops
    gemm = gemm_of(op)
    taps = stride = 1
    winograd = 0
    if op.kind == "conv":
        kernel_size = op.attrs["kernel"]
        taps, stride = math.prod(kernel_size), max(op.attrs["stride"])
        winograd = int(
            kernel_size == (3, 3) and stride == 1 and op.attrs["groups"] == 1
            and max(op.attrs["dilation"]) == 1 and not op.attrs["transposed"]
        )  # fmt: skip
    elif op.kind == "pool" and "kernel" in op.attrs:
        taps = math.prod(op.attrs["kernel"])
    steps = op.attrs["steps"] * op.attrs["layers"] if op.kind == "rnn" else 1
    groups, m, n, k = gemm or (1, 1, 1, 1)
    return (
        CLASS_INDEX[class_of(kernel)], macs, flops, kernel.read_bytes, kernel.write_bytes,
        kernel.weight_bytes, m, n, k, groups, op.parallelism, taps, stride, winograd,
        len(kernel.ops), steps, float(op.attrs.get("channels_last", False)),
    )  # fmt: skip
