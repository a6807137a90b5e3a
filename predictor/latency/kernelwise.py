"""Trees per class of kernels, trained on kernels timed inside running networks of one device.

They predict log(measured / roofline), the roofline being that of :mod:`predictor.latency.rates`: so
sizes outside the measured ones follow it, and small kernels the cost of a call. One device is one
hardware: absolute sizes are columns here, unlike in :mod:`predictor.latency.boosted`, whose storage
and evaluation this shares. The file also holds the hardware that the rooflines were taken on, so a
later edit of the device's facts does not move predictions.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from predictor.errors import ArtifactError
from predictor.graph import Graph, Kernel
from predictor.kernels.details import Details
from predictor.kernels.features import CLASSES, Features, Floats
from predictor.latency.boosted import DAMAGE, Forest
from predictor.latency.physical import Hardware, Times, floor_s
from predictor.latency.rates import PARTS, Rates, parts, variants

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
    "log_weights_before", "log_before",
)  # fmt: skip
"""What the trees see of a kernel: sizes, shape of the work, routine, place in the caches."""

CHAINS = 4.0
"""Exponent of the smooth maximum of host chain and device chain."""
TILE = 64
"""Side of the output tiles that are counted as waves over the units."""
VERSION = 1
"""Raised when parts, variants or columns change their meaning: trees stand on what they meant."""
KEPT = 200_000
"""Kernels whose predictions are kept: a search asks for the same ones again and again."""
_HARDWARE = tuple(Hardware.__slots__)
_OWN = {"version": int, "hardware": float, "rate_keys": np.int64, "rate_table": float,
        "threads": int, "spread": float}  # fmt: skip


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
        "log_weights_before": _log(d.weights_before, 1e4), "log_before": _log(d.before, 1e4),
    }  # fmt: skip
    return np.column_stack([found[name] for name in COLUMNS])


def network_ms(
    kernels_ms: Floats, operators: Floats, scale: float, host_us: float, *, overlaps: bool
) -> Floats:
    """Milliseconds of networks whose kernels take ``kernels_ms`` and that launch ``operators``.

    On a processor the host's work stands between the kernels; on a GPU (``overlaps``) it runs
    beside them, and the longer of the two chains counts, by a smooth maximum.
    """
    host_ms = 1e-3 * host_us * operators
    if not overlaps:
        result: Floats = scale * kernels_ms + host_ms
        return result
    both: Floats = ((scale * kernels_ms) ** CHAINS + host_ms**CHAINS) ** (1 / CHAINS)
    return both


def _log(x: Floats, least: float = 1e-12) -> Floats:
    result: Floats = np.log10(np.maximum(x, least))
    return result


@dataclass(frozen=True, slots=True)
class Kernelwise:
    """A forest with a class a tree, and what its roofline stands on.

    ``spread`` is, by class, the 90 % quantile of ``|log(predicted / measured)|`` of kernels of
    families that were left out (NaN: never measured). ``pace`` is how much longer each part of the
    roofline takes at another power mode.
    """

    forest: Forest
    hardware: Hardware
    rates: Rates
    threads: int = 1
    spread: Floats = field(default_factory=lambda: np.full(len(CLASSES), np.nan))
    pace: Floats = field(default_factory=lambda: np.ones(len(PARTS)))
    _known: dict[bytes, float] = field(default_factory=dict, repr=False, compare=False)

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """Numbers of the classes that were measured."""
        return np.unique(self.forest.root_class).astype(np.int64)

    def at(self, own: Hardware, other: Hardware) -> Kernelwise:
        """The same on ``other`` hardware: kernels change as their rooflines do from ``own``."""
        ratio = np.array([
            1.0, 1.0, 1.0, own.peak_flops / other.peak_flops, own.vector_flops / other.vector_flops,
            *[own.bandwidth / other.bandwidth] * 3,
        ])  # fmt: skip
        return replace(self, pace=self.pace * ratio)

    def times(self, features: Features, details: Details) -> Times:
        """Seconds a kernel, and how much of its roofline each bound makes; classes that were not
        measured take the roofline's parts at usual rates."""
        matrix = columns(features, details, self.hardware, self.threads)
        keys = [
            bytes((cls,)) + row.tobytes()
            for cls, row in zip(features.cls.tolist(), matrix, strict=True)
        ]
        new = {key: i for i, key in enumerate(keys) if key not in self._known}
        if len(self._known) + len(new) > KEPT:
            self._known.clear()
            new = {key: i for i, key in enumerate(keys)}
        if new:
            at = np.fromiter(new.values(), dtype=np.intp)
            found = self.log_factors(features.cls[at], matrix[at])
            self._known.update(zip(new, found.tolist(), strict=True))
        factor = np.exp(np.array([self._known[key] for key in keys], dtype=float))
        variant = variants(features, details, self.threads)
        own = parts(features, details, self.hardware) * self.pace
        return self.rates.times(own, variant, factor)

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
        stored["version"] = np.array([VERSION])
        stored["rate_keys"], stored["rate_table"] = self.rates.keys, self.rates.table
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
        if own["version"].tolist() != [VERSION]:
            raise ArtifactError(
                f"{place}: version {own['version'].tolist()}, this version reads [{VERSION}]; "
                "reinstall, or train anew: predict-latency train"
            )
        hardware, threads, spread = own["hardware"], own["threads"], own["spread"]
        rates = Rates(own["rate_keys"], own["rate_table"])
        ok = (
            forest.by_class
            and forest.columns == COLUMNS
            and hardware.shape == (len(_HARDWARE),)
            and bool((np.isfinite(hardware) & (hardware > 0)).all())
            and rates.sound()
            and threads.shape == (1,)
            and 1 <= threads[0] <= 4096
            and spread.shape == (len(CLASSES),)
            and bool((np.isnan(spread) | ((spread > 0) & (spread < 20))).all())
        )
        if not ok:
            raise ArtifactError(f"{place}: its parts do not fit together; reinstall, or train anew")
        return cls(forest, Hardware(*hardware.tolist()), rates, int(threads[0]), spread)


def launched(runtime: str, graph: Graph, kernels: Sequence[Kernel]) -> float:
    """Operators that the host handles one by one: kernels, and in eager mode views as half one
    each, since they only pass the dispatcher."""
    views = sum(op.is_view for op in graph.ops) if runtime == "eager" else 0
    return len(kernels) + 0.5 * views


def with_classes(forest: Forest, root_class: npt.NDArray[np.int32]) -> Forest:
    """``forest`` with the class that each tree answers for, and nothing else beside the trees."""
    nothing = np.full(len(CLASSES), np.nan)
    return replace(forest, root_class=root_class, offset=np.zeros(len(CLASSES)), wait_us=nothing)
