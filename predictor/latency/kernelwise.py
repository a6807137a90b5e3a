"""Trees per class of kernels, trained on kernels timed inside running networks of one device.

They predict log(measured / roofline), the roofline's parts (a launch, arithmetic, bytes read,
written and of weights) added up at rates that were fitted for the class: so sizes outside the
measured ones follow the roofline, and small kernels the cost of a call. One device is one hardware:
absolute sizes are columns here, unlike in :mod:`predictor.latency.boosted`, whose storage and
evaluation this shares. The file also holds the hardware that the rooflines were taken on, so a
later edit of the device's facts does not move predictions.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from predictor.errors import ArtifactError
from predictor.kernels.details import Details
from predictor.kernels.features import CLASSES, Features, Floats
from predictor.latency.boosted import DAMAGE, Forest
from predictor.latency.physical import Hardware, floor_s

COLUMNS = (
    "log_roofline", "log_compute_share", "log_intensity", "log_macs", "log_elementwise",
    "log_weights", "log_read", "log_write", "log_bytes", "log_activations_l2", "log_weights_l2",
    "log_outputs", "log_waves", "waves_fill", "log_m", "log_n", "log_k", "log_groups",
    "n_remainder_4", "n_remainder_8", "n_remainder_16", "k_remainder_8", "m_remainder_8",
    "taps", "stride", "winograd", "flops_an_output", "elementwise_share", "steps", "launches",
    "channels_last", "images", "log_channels", "channels_remainder_8", "channels_remainder_16",
    "log_height", "log_width", "width_remainder_8", "taps_high", "taps_wide", "padded", "dilation",
    "path", "function", "in_place", "operands", "log_smallest", "log_run", "run_remainder_8",
    "log_row", "log_rows", "log_packed_b_l2", "log_unfolded_l2", "log_copy_run",
)  # fmt: skip
"""What the trees see of a kernel: sizes, shape of the work, routine, place in the caches."""

PARTS = ("launch", "products", "elementwise", "read", "write", "weights")
"""What a kernel's roofline is made of; a class has a rate for each."""
LAUNCH_S = 1e-6
"""The part of a launch, so that its rate is in microseconds."""
TILE = 64
"""Side of the output tiles that are counted as waves over the units."""
KEPT = 200_000
"""Kernels whose predictions are kept: a search asks for the same ones again and again."""
_HARDWARE = tuple(Hardware.__slots__)
_OWN = {"hardware": float, "rates": float, "threads": int, "spread": float}


def columns(features: Features, details: Details, hardware: Hardware, threads: int = 1) -> Floats:
    """The matrix (kernels x :data:`COLUMNS`); ``threads`` is what a CPU runtime uses."""
    f, d = features, details
    tiles = f.groups * np.ceil(f.m / TILE) * np.ceil(f.n / TILE)
    waves = tiles / hardware.units
    outputs = np.maximum(f.outputs, 1.0)
    compute = 2 * f.macs / hardware.peak_flops + f.elementwise_flops / hardware.vector_flops
    activations = np.maximum(f.bytes - f.weight_bytes, 0.0)
    found = {
        "log_roofline": _log(floor_s(f, hardware), 1e-9),
        "log_compute_share": _log(compute, 1e-12) - _log(f.bytes / hardware.bandwidth, 1e-12),
        "log_intensity": _log(2 * f.macs + 1) - _log(f.bytes + 1),
        "log_macs": _log(f.macs + 1), "log_elementwise": _log(f.elementwise_flops + 1),
        "log_weights": _log(f.weight_bytes + 1), "log_read": _log(f.read_bytes + 1),
        "log_write": _log(f.write_bytes + 1), "log_bytes": _log(f.bytes + 1),
        "log_activations_l2": _log((activations + 1) / hardware.l2_bytes),
        "log_weights_l2": _log((f.weight_bytes + 1) / hardware.l2_bytes),
        "log_outputs": _log(outputs / hardware.units), "log_waves": _log(waves),
        "waves_fill": waves / np.ceil(waves),
        "log_m": _log(f.m), "log_n": _log(f.n), "log_k": _log(f.k), "log_groups": _log(f.groups),
        "n_remainder_4": f.n % 4, "n_remainder_8": f.n % 8, "n_remainder_16": f.n % 16,
        "k_remainder_8": f.k % 8, "m_remainder_8": f.m % 8,
        "taps": f.taps, "stride": f.stride, "winograd": f.winograd,
        "flops_an_output": f.elementwise_flops / outputs,
        "elementwise_share": f.elementwise_flops / (2 * f.macs + f.elementwise_flops + 1),
        "steps": f.steps, "launches": f.launches, "channels_last": d.channels_last,
        "images": d.images, "log_channels": _log(np.maximum(d.channels, 1.0)),
        "channels_remainder_8": d.channels % 8, "channels_remainder_16": d.channels % 16,
        "log_height": _log(np.maximum(d.height, 1.0)), "log_width": _log(np.maximum(d.width, 1.0)),
        "width_remainder_8": d.width % 8, "taps_high": d.taps_high, "taps_wide": d.taps_wide,
        "padded": d.padded, "dilation": d.dilation,
        "path": d.path if threads == 1 else d.path_threads,
        "function": d.function, "in_place": d.in_place, "operands": d.operands,
        "log_smallest": _log(d.smallest, 1e-9), "log_run": _log(np.maximum(d.run, 1.0)),
        "run_remainder_8": d.run % 8, "log_row": _log(np.maximum(d.row, 1.0)),
        "log_rows": _log(outputs / np.maximum(d.row, 1.0), 1e-3),
        "log_packed_b_l2": _log(4 * f.n * f.k / hardware.l2_bytes),
        "log_unfolded_l2": _log(4 * f.m * f.k / hardware.l2_bytes),
        "log_copy_run": _log(d.copy_run, 0.1),
    }  # fmt: skip
    return np.column_stack([found[name] for name in COLUMNS])


def parts(features: Features, hardware: Hardware) -> Floats:
    """Seconds (kernels x :data:`PARTS`) at the hardware's peaks."""
    f = features
    activations = np.maximum(f.read_bytes - f.weight_bytes, 0.0)
    return np.column_stack([
        LAUNCH_S * f.steps, 2 * f.macs / hardware.peak_flops,
        f.elementwise_flops / hardware.vector_flops, activations / hardware.bandwidth,
        f.write_bytes / hardware.bandwidth, f.weight_bytes / hardware.bandwidth,
    ])  # fmt: skip


def base_s(parts_s: Floats, cls: npt.NDArray[np.int64], rates: Floats) -> Floats:
    """Seconds of kernels of these parts at the rates of their classes."""
    result: Floats = np.maximum((parts_s * rates[cls]).sum(axis=1), 1e-9)
    return result


def _log(x: Floats, least: float = 1e-12) -> Floats:
    result: Floats = np.log10(np.maximum(x, least))
    return result


@dataclass(frozen=True, slots=True)
class Kernelwise:
    """A forest with a class a tree, and what its roofline stands on.

    ``rates`` (classes x :data:`PARTS`) multiply the roofline's parts, in the order of classes.
    ``spread`` is, by class, the 90 % quantile of ``|log(predicted / measured)|`` of kernels of
    families that were left out (NaN: never measured).
    """

    forest: Forest
    hardware: Hardware
    rates: Floats
    threads: int = 1
    spread: Floats = field(default_factory=lambda: np.full(len(CLASSES), np.nan))
    _known: dict[bytes, float] = field(default_factory=dict, repr=False, compare=False)

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """Numbers of the classes that were measured."""
        return np.unique(self.forest.root_class).astype(np.int64)

    def answers(self, features: Features) -> npt.NDArray[np.bool_]:
        """Which kernels are of a class that was measured."""
        return np.isin(features.cls, self.classes)

    def seconds(self, features: Features, details: Details) -> Floats:
        """Seconds a kernel; usual rates of the roofline where :meth:`answers` is False."""
        matrix = columns(features, details, self.hardware, self.threads)
        log_factor = np.zeros(len(features))
        keys = [
            bytes((cls,)) + row.tobytes() for cls, row in zip(features.cls, matrix, strict=True)
        ]
        new = {key: i for i, key in enumerate(keys) if key not in self._known}
        if new:
            if len(self._known) > KEPT:
                self._known.clear()
                new = {key: i for i, key in enumerate(keys)}
            at = np.fromiter(new.values(), dtype=np.intp)
            found = self.log_factors(features.cls[at], matrix[at])
            self._known.update(zip(new, found.tolist(), strict=True))
        log_factor[:] = [self._known[key] for key in keys]
        base = base_s(parts(features, self.hardware), features.cls, self.rates)
        result: Floats = base * np.exp(log_factor)
        return result

    def log_factors(self, cls: npt.NDArray[np.int64], matrix: Floats) -> Floats:
        """log(seconds / base) for rows of :func:`columns`, each by the trees of its class."""
        result = np.zeros(len(matrix))
        for kind in np.unique(cls):
            roots = self.forest.roots[self.forest.root_class == kind]
            mine = np.flatnonzero(cls == kind)
            if len(roots):
                result[mine] = self.forest.walk(matrix[mine], roots)
        return result

    def to_bytes(self) -> bytes:
        """One ``.npz`` file: the forest's arrays, and this module's own beside them."""
        buffer = io.BytesIO()
        with np.load(io.BytesIO(self.forest.to_bytes()), allow_pickle=False) as arrays:
            stored = {name: arrays[name] for name in arrays.files}
        stored["rates"] = self.rates.ravel()
        stored["hardware"] = np.array([getattr(self.hardware, name) for name in _HARDWARE])
        stored["threads"] = np.array([self.threads])
        stored["spread"] = self.spread
        np.savez_compressed(buffer, **stored)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, place: str = "kernelwise.npz") -> Kernelwise:
        """Inverse of :meth:`to_bytes`.

        Raises:
            ArtifactError: the file is damaged, or its parts do not fit together.
        """
        forest = Forest.from_bytes(data, place, known=COLUMNS)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                own: dict[str, Any] = {
                    name: arrays[name].astype(kind, casting="same_kind")
                    for name, kind in _OWN.items()
                }
        except DAMAGE as error:
            raise ArtifactError(f"{place}: {error}. The file is damaged; reinstall") from None
        hardware, threads, spread = own["hardware"], own["threads"], own["spread"]
        rates = own["rates"]
        ok = (
            forest.by_class
            and forest.columns == COLUMNS
            and hardware.shape == (len(_HARDWARE),)
            and bool((np.isfinite(hardware) & (hardware > 0)).all())
            and rates.shape == (len(CLASSES) * len(PARTS),)
            and bool((np.isfinite(rates) & (rates >= 0)).all())
            and threads.shape == (1,)
            and 1 <= threads[0] <= 4096
            and spread.shape == (len(CLASSES),)
            and bool((np.isnan(spread) | ((spread > 0) & (spread < 20))).all())
        )
        if not ok:
            raise ArtifactError(f"{place}: its parts do not fit together; reinstall, or train anew")
        table = rates.reshape(len(CLASSES), len(PARTS))
        return cls(forest, Hardware(*hardware.tolist()), table, int(threads[0]), spread)


def with_classes(forest: Forest, root_class: npt.NDArray[np.int32]) -> Forest:
    """``forest`` with the class that each tree answers for, and nothing else beside the trees."""
    nothing = np.full(len(CLASSES), np.nan)
    return replace(forest, root_class=root_class, offset=np.zeros(len(CLASSES)), wait_us=nothing)
