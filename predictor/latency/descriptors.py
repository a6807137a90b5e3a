"""What a network as a whole is like: descriptors in ratios and a few sizes, and the linear expert.

Everything is worked out from sums over kernels, so that the sums of parts that were looked at once
describe any network made of them.
"""

from __future__ import annotations

import numpy as np

from predictor.kernels.features import CLASSES, MATRIX_CLASSES, Features, Floats, Ints
from predictor.latency.physical import TILE, Hardware, Times

_TINY = 1e-30
_AVERAGED = ("log_k", "log_n", "log_m", "log_waves", "log_intensity", "log_outputs_a_unit")
_REMAINDERS = (8, 64)

NAMES: tuple[str, ...] = (
    "log_physical_over_floor", "log_physical", "log_floor", "log_kernels", "log_launches_a_kernel",
    "log_intensity", "log_elementwise_a_mac", "weight_share", "compute_share", "memory_share",
    "launch_share", "compute_bound_share", "log_largest_kernel_share", "winograd_share",
    "strided_share", "log_weight_bytes_over_cache", "log_activation_bytes_over_cache",
    *(f"time_{name}" for name in CLASSES),
    *(f"macs_{name}" for name in MATRIX_CLASSES),
    *(f"bytes_{name}" for name in CLASSES),
    *(f"mean_{name}" for name in _AVERAGED),
    *(f"mean_taps_{name}" for name in ("conv", "depthwise")),
    *(f"n_off_{size}" for size in _REMAINDERS), *(f"k_off_{size}" for size in _REMAINDERS),
    "log_linear_over_physical", "log_linear_over_floor",
)  # fmt: skip
"""Descriptors of a network, in order."""

_COUNT, _MATRIX = len(CLASSES), len(MATRIX_CLASSES)
_TAPS = ("conv", "depthwise")
_PLAIN = (
    "time", "floor", "macs", "bytes", "elementwise", "weights", "launches", "kernels", "compute",
    "memory", "launch", "compute_bound", "winograd", "strided", "matrix_time",
)  # fmt: skip
_WIDTHS = {
    **dict.fromkeys(_PLAIN, 1), "time_by": _COUNT, "macs_by": _COUNT, "bytes_by": _COUNT,
    "means": len(_AVERAGED), "taps": 2 * len(_TAPS), "off": 2 * len(_REMAINDERS),
}  # fmt: skip
_STARTS = dict(zip(_WIDTHS, np.cumsum([0, *list(_WIDTHS.values())[:-1]]).tolist(), strict=True))
ADDITIVE = sum(_WIDTHS.values())
"""Columns of :func:`additive`."""


def additive(features: Features, hardware: Hardware, times: Times, floor_s: Floats) -> Floats:
    """Kernels x :data:`ADDITIVE` columns, whose sums :func:`described` takes.

    ``times`` are the physical model's seconds a kernel, ``floor_s`` the roofline's.
    """
    f, t = features, times.total
    matrix = (f.macs > 0).astype(np.float64)
    rows = np.arange(len(f))
    found = np.zeros((len(f), ADDITIVE))
    plain = (
        t, floor_s, f.macs, f.bytes, f.elementwise_flops, f.weight_bytes, f.launches,
        np.ones(len(f)), times.compute, times.memory, times.launch,
        t * (times.compute > times.memory), f.macs * (f.winograd > 0), f.macs * (f.stride > 1),
        t * matrix,
    )  # fmt: skip
    found[:, : len(plain)] = np.column_stack(plain)
    for name, values in (("time_by", t), ("macs_by", f.macs), ("bytes_by", f.bytes)):
        found[rows, _STARTS[name] + f.cls] = values
    found[:, _at("means")] = _averaged(f, hardware, t, t * matrix)
    taps = []
    for name in _TAPS:
        own = t * (f.cls == CLASSES.index(name))
        taps += [own, own * f.taps]
    found[:, _at("taps")] = np.column_stack(taps)
    found[:, _at("off")] = np.column_stack(
        [f.macs * (side % size != 0) for side in (f.n, f.k) for size in _REMAINDERS]
    )
    return found


def _at(name: str) -> slice:
    return slice(_STARTS[name], _STARTS[name] + _WIDTHS[name])


def _averaged(f: Features, hardware: Hardware, every: Floats, own: Floats) -> Floats:
    """Logarithms times their weights: of matrix kernels where only they have the quantity."""
    blocks = f.groups * np.ceil(f.m / TILE) * np.ceil(f.n / TILE)
    return np.column_stack([
        np.log10(f.k) * own, np.log10(f.n) * own, np.log10(f.m) * own,
        np.log10(blocks / hardware.units) * own,
        np.log10((2 * f.macs + 1) / (f.bytes + 1)) * every,
        np.log10((f.outputs + 1) / hardware.units) * every,
    ])  # fmt: skip


def described(sums: Floats, largest_s: Floats, hardware: Hardware, linear_s: Floats) -> Floats:
    """Networks x :data:`NAMES`.

    Args:
        sums: networks x columns, :func:`additive` added up over the kernels of each.
        largest_s: the seconds of each network's slowest kernel.
        hardware: the device.
        linear_s: what the linear expert says of each network, seconds.
    """
    one = {name: sums[:, _STARTS[name]] for name in _PLAIN}
    time, floor, macs = one["time"], one["floor"], one["macs"]
    total, worked = np.maximum(time, _TINY), np.maximum(macs, _TINY)
    moved, count = one["bytes"], one["kernels"]
    parts = one["compute"] + one["memory"] + one["launch"] + _TINY
    head = [
        np.log10(time / floor), np.log10(time), np.log10(floor), np.log10(count),
        np.log10(one["launches"] / count), np.log10((2 * macs + 1) / (moved + 1)),
        np.log10((one["elementwise"] + 1) / (macs + 1)), one["weights"] / (moved + 1),
        one["compute"] / parts, one["memory"] / parts, one["launch"] / parts,
        one["compute_bound"] / total, np.log10(largest_s / total),
        one["winograd"] / worked, one["strided"] / worked,
        np.log10((one["weights"] + 1) / hardware.l2_bytes),
        np.log10((moved / count + 1) / hardware.l2_bytes),
    ]  # fmt: skip
    weights = np.column_stack([one["matrix_time"]] * 4 + [time] * 2)
    taps = sums[:, _at("taps")]
    return np.column_stack([
        *head, sums[:, _at("time_by")] / total[:, None],
        (sums[:, _at("macs_by")] / worked[:, None])[:, :_MATRIX],
        sums[:, _at("bytes_by")] / (moved + 1)[:, None],
        _ratio(sums[:, _at("means")], weights), _ratio(taps[:, 1::2], taps[:, ::2]),
        sums[:, _at("off")] / worked[:, None],
        np.log10(linear_s / time), np.log10(linear_s / floor),
    ])  # fmt: skip


def _ratio(above: Floats, below: Floats) -> Floats:
    result: Floats = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return result


def describe(
    features: Features, hardware: Hardware, times: Times, floor_s: Floats, linear_s: float
) -> Floats:
    """The vector of :data:`NAMES` for one network; arguments as in :func:`additive`."""
    sums = additive(features, hardware, times, floor_s).sum(axis=0)
    largest = np.array([times.total.max()])
    found: Floats = described(sums[None], largest, hardware, np.array([linear_s]))[0]
    return found


_FEW_ROWS, _SOME_ROWS = 16, 64
"""Products with so few rows read their weights and hardly compute."""
LINEAR_COUNT = 5 * _MATRIX + _COUNT + 8 + 6 + 7
"""Columns of :func:`linear_rows`."""


def linear_columns(features: Features, hardware: Hardware) -> Floats:
    """Seconds of work and traffic at the device's peaks, by class and circumstance.

    The linear expert's latency is their sum with one weight each, none of them negative.
    """
    found: Floats = linear_rows(features, hardware).sum(axis=0)
    return found


def linear_rows(features: Features, hardware: Hardware) -> Floats:
    """The same for each kernel (kernels x :data:`LINEAR_COUNT`)."""
    f = features
    work = 2 * f.macs / hardware.peak_flops
    moved = np.maximum(f.bytes - f.weight_bytes, 0.0) / hardware.bandwidth
    weights = f.weight_bytes / hardware.bandwidth
    matrix = f.macs > 0
    few = matrix & (f.m <= _FEW_ROWS)
    some = matrix & (f.m > _FEW_ROWS) & (f.m <= _SOME_ROWS)
    last = f.channels_last > 0
    # Convolutions, products, depthwise: tensor cores take eight channels at a time.
    side = np.select([f.cls == CLASSES.index("depthwise"), f.cls < 4], [2, 0], 1)

    def by(place: Ints, values: Floats, upto: int) -> Floats:
        found = np.zeros((len(f), upto))
        inside = np.flatnonzero(place < upto)
        found[inside, place[inside]] = values[inside]
        return found

    return np.column_stack([
        by(f.cls, work * ~few, _MATRIX), by(f.cls, moved, _COUNT),
        by(f.cls, weights * ~few, _MATRIX), by(f.cls, weights * few, _MATRIX),
        by(f.cls, weights * some, _MATRIX),
        by(f.cls, work * some, _MATRIX), by(f.cls, moved * last, 4), by(f.cls, work * last, 4),
        by(side, work * (f.k % 8 != 0), 3), by(side, work * (f.n % 8 != 0), 3),
        np.full(len(f), 1e-6), f.elementwise_flops / hardware.vector_flops,
        work * (f.winograd > 0), work * (f.stride > 1), work * 50 / f.k, work * 16 / f.n,
        work * 64 / f.m,
    ])  # fmt: skip
