"""The roofline of one device with rates of its own: what a call, an operation and a byte cost.

A kernel's roofline has eight parts: a launch, more of it by what went through the caches before,
one for each product that a routine calls by itself, the operations of products, those of
element-wise work, and bytes read, written and of weights. Each variant of a class of kernels (the
routine that a library takes, the order in memory, the function computed) has a rate for each part,
fitted on kernels timed in place; the sum is the base that trees correct. A variant without enough
kernels takes the rates of its class, a class that was never measured :data:`USUAL`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from predictor.kernels.details import DILATED, LIBRARY, UNFOLDED, Details
from predictor.kernels.features import CLASS_INDEX, CLASSES, Features, Floats, Ints
from predictor.latency.physical import Hardware, Times

PARTS = ("launch", "cold", "calls", "products", "elementwise", "read", "write", "weights")
LAUNCH_S = 1e-6
"""The part of a launch or call, so that its rate is in microseconds."""
USUAL = (5.0, 1.0, 1.0, 1.2, 1.0, 0.7, 0.7, 1.0)
"""Microseconds a launch and a call, and what other parts count by, where nothing says better."""
LEAST_S = 1e-9
ROW_START = 4.0
"""Elements that beginning a row of an unfolded convolution costs as much as copying: it is copied
row by row, and short rows take longer."""
COLD_BYTES = 1e4
"""Bytes before a kernel from which it starts colder, by so much for each power of ten."""
CODES = 10_000
GENERAL = CODES - 1
"""Codes of variants in a class; the last stands for the class as a whole."""
VECTOR = 8
"""Channels that convolution routines keep in one vector; others are filled up."""
FEW_ROWS, FEW_COLUMNS = 4, 8
"""Products with as few rows or columns are bound by their weights, or by their calls."""
_CONVOLUTIONS = [CLASS_INDEX[name] for name in ("conv", "pointwise", "grouped", "depthwise")]
_PRODUCTS = [CLASS_INDEX[name] for name in ("linear", "matmul")]
_ELEMENTWISE = CLASS_INDEX["elementwise"]
_PLAIN = [CLASS_INDEX[name] for name in ("attention", "rnn", "softmax")]


def parts(features: Features, details: Details, hardware: Hardware) -> Floats:
    """Seconds (kernels x :data:`PARTS`) at the hardware's peaks.

    A convolution that is unfolded into a matrix product writes and reads that matrix too. Batched
    products, and grouped convolutions outside the library, are a product after the other. Small
    kernels take up to twice as long where much has gone through the caches since the last of
    their kind.
    """
    f = features
    inside = np.isin(f.cls, _CONVOLUTIONS) & (details.path == LIBRARY)
    calls = np.where(inside | (f.macs == 0), 0.0, f.groups)
    activations = np.maximum(f.read_bytes - f.weight_bytes, 0.0)
    unfolded = np.isin(details.path, (UNFOLDED, DILATED))
    copied = 8 * f.m * f.k * f.groups * (0.5 + ROW_START / np.maximum(details.width, 1.0))
    activations = activations + np.where(unfolded, copied, 0.0)
    return np.column_stack([
        LAUNCH_S * f.steps, LAUNCH_S * np.log10(1 + details.before / COLD_BYTES),
        LAUNCH_S * calls, 2 * f.macs / hardware.peak_flops,
        f.elementwise_flops / hardware.vector_flops, activations / hardware.bandwidth,
        f.write_bytes / hardware.bandwidth, f.weight_bytes / hardware.bandwidth,
    ])  # fmt: skip


def variants(features: Features, details: Details, threads: int = 1) -> Ints:
    """The number of each kernel's variant, its class among it."""
    f, d = features, details
    path = d.path if threads == 1 else d.path_threads
    alone, grouped = (f.cls == CLASS_INDEX[name] for name in ("depthwise", "grouped"))
    odd = (alone & ((f.groups % VECTOR > 0) | (f.n > 1))) | (
        grouped & ((f.n % VECTOR > 0) | (f.k / f.taps % VECTOR > 0))
    )
    convolution = 8 * path + 4 * d.channels_last + 2 * ((f.stride > 1) & alone) + odd
    convolution = convolution + 64 * (alone & (f.n > 1))
    product = 2 * (f.m <= FEW_ROWS) + 1 * (f.n <= FEW_COLUMNS)
    steps = (d.run < f.outputs).astype(float)
    function = 8 * (d.function + 1)
    moved = function + 4 * d.channels_last + 2 * (d.copy_run > 0) + (d.run <= 1)
    code = np.select(
        [np.isin(f.cls, _CONVOLUTIONS), np.isin(f.cls, _PRODUCTS), f.cls == _ELEMENTWISE,
         np.isin(f.cls, _PLAIN)],
        [convolution, product, function + 2 * d.in_place + steps, 0.0], moved,
    )  # fmt: skip
    found: Ints = f.cls * CODES + np.minimum(code, GENERAL - 1).astype(np.int64)
    return found


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates by variant: ``keys`` in rising order, a row of ``table`` (x :data:`PARTS`) each."""

    keys: Ints
    table: Floats

    def of(self, variant: Ints) -> Floats:
        """Rates (kernels x :data:`PARTS`): of the variant, else its class, else the usual ones."""
        found: Floats = np.tile(np.array(USUAL), (len(variant), 1))
        if not len(self.keys):
            return found
        for key in (variant // CODES * CODES + GENERAL, variant):
            at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
            hit = self.keys[at] == key
            found[hit] = self.table[at[hit]]
        return found

    def seconds(self, parts_s: Floats, variant: Ints) -> Floats:
        """The sum of the parts at their rates."""
        total: Floats = (parts_s * self.of(variant)).sum(axis=1)
        return np.maximum(total, LEAST_S)

    def times(self, parts_s: Floats, variant: Ints, factor: Floats) -> Times:
        """Seconds a kernel, ``factor`` times the base, and what makes them up."""
        each = parts_s * self.of(variant) * factor[:, None]
        total: Floats = np.maximum(each.sum(axis=1), LEAST_S)
        launch, compute, memory = (each[:, a:b].sum(axis=1) for a, b in ((0, 3), (3, 5), (5, 8)))
        return Times(total, compute, memory, launch)

    def sound(self) -> bool:
        """Whether what was read from a file can be rates."""
        return (
            self.keys.ndim == 1
            and self.table.shape == (len(self.keys), len(PARTS))
            and bool((np.diff(self.keys) > 0).all())
            and bool(((self.keys >= 0) & (self.keys < CODES * len(CLASSES))).all())
            and bool((np.isfinite(self.table) & (self.table >= 0)).all())
        )
