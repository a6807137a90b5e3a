"""Learning from whole-model totals: what a network as a whole is like, in ratios and a few sizes.

Most published figures are one number a network. Three experts state its latency: the roofline, the
fitted kernel model, and a sum that is linear in the work and traffic of each class of kernels. A
forest over the network's descriptors (shares and averages of its kernels) has learned what each of
them misses; the mean of the three corrected experts, in logarithms, is the answer.

A network unlike all that were fitted is told by its distance to the nearest of them: the further
away, the wider the interval, and beyond ``threshold`` the forest's word counts less.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from predictor.errors import ArtifactError
from predictor.kernels.features import CLASSES, MATRIX_CLASSES, Features, Floats
from predictor.latency.boosted import DAMAGE, Forest
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


def describe(
    features: Features, hardware: Hardware, times: Times, floor_s: Floats, linear_s: float
) -> Floats:
    """The vector of :data:`NAMES` for one network.

    ``times`` are the physical model's seconds a kernel, ``floor_s`` the roofline's, ``linear_s``
    the linear expert's for the whole network.
    """
    f = features
    total, floor = float(times.total.sum()), float(floor_s.sum())
    macs, moved = float(f.macs.sum()), float(f.bytes.sum())
    weight = times.total / max(total, _TINY)
    matrix = (f.macs > 0).astype(np.float64)
    gemm = matrix * f.macs / max(macs, _TINY)
    parts = times.compute.sum() + times.memory.sum() + times.launch.sum() + _TINY
    head = [
        np.log10(total / floor), np.log10(total), np.log10(floor), np.log10(len(f)),
        np.log10(f.launches.sum() / len(f)), np.log10((2 * macs + 1) / (moved + 1)),
        np.log10((f.elementwise_flops.sum() + 1) / (macs + 1)), f.weight_bytes.sum() / (moved + 1),
        times.compute.sum() / parts, times.memory.sum() / parts, times.launch.sum() / parts,
        float(weight[times.compute > times.memory].sum()), np.log10(weight.max()),
        float(gemm[f.winograd > 0].sum()), float(gemm[f.stride > 1].sum()),
        np.log10((f.weight_bytes.sum() + 1) / hardware.l2_bytes),
        np.log10((moved / len(f) + 1) / hardware.l2_bytes),
    ]  # fmt: skip
    count = len(CLASSES)
    return np.concatenate([
        head,
        np.bincount(f.cls, weight, minlength=count),
        np.bincount(f.cls, gemm, minlength=count)[: len(MATRIX_CLASSES)],
        np.bincount(f.cls, f.bytes, minlength=count) / (moved + 1),
        _averages(f, hardware, weight, matrix),
        [_mean(f.taps, weight * (f.cls == CLASSES.index(name))) for name in ("conv", "depthwise")],
        [float(gemm[f.n % size != 0].sum()) for size in _REMAINDERS],
        [float(gemm[f.k % size != 0].sum()) for size in _REMAINDERS],
        [np.log10(linear_s / total), np.log10(linear_s / floor)],
    ])  # fmt: skip


def _averages(f: Features, hardware: Hardware, weight: Floats, matrix: Floats) -> list[float]:
    """Means of logarithms, of matrix kernels where only they have the quantity."""
    blocks = f.groups * np.ceil(f.m / TILE) * np.ceil(f.n / TILE)
    own = weight * matrix
    return [
        _mean(np.log10(f.k), own), _mean(np.log10(f.n), own), _mean(np.log10(f.m), own),
        _mean(np.log10(blocks / hardware.units), own),
        _mean(np.log10((2 * f.macs + 1) / (f.bytes + 1)), weight),
        _mean(np.log10((f.outputs + 1) / hardware.units), weight),
    ]  # fmt: skip


def _mean(values: Floats, weight: Floats) -> float:
    total = float(weight.sum())
    return float((values * weight).sum()) / total if total > 0 else 0.0


_FEW_ROWS, _SOME_ROWS = 16, 64
"""Products with so few rows read their weights and hardly compute."""
_LINEAR_PARTS = len(MATRIX_CLASSES)


def linear_columns(features: Features, hardware: Hardware) -> Floats:
    """Seconds of work and traffic at the device's peaks, by class and circumstance.

    The linear expert's latency is their sum with one weight each, none of them negative.
    """
    f, parts, count = features, _LINEAR_PARTS, len(CLASSES)
    work = 2 * f.macs / hardware.peak_flops
    moved = np.maximum(f.bytes - f.weight_bytes, 0.0) / hardware.bandwidth
    weights = f.weight_bytes / hardware.bandwidth
    matrix = f.macs > 0
    few = matrix & (f.m <= _FEW_ROWS)
    some = matrix & (f.m > _FEW_ROWS) & (f.m <= _SOME_ROWS)
    last = f.channels_last > 0
    # Convolutions, products, depthwise: tensor cores take eight channels at a time.
    side = np.select([f.cls == CLASSES.index("depthwise"), f.cls < 4], [2, 0], 1)

    def by_class(values: Floats, upto: int = parts) -> Floats:
        return np.bincount(f.cls, values, minlength=count)[:upto].astype(np.float64)

    return np.concatenate([
        by_class(work * ~few), by_class(moved, count), by_class(weights * ~few),
        by_class(weights * few), by_class(weights * some), by_class(work * some),
        by_class(moved * last, 4), by_class(work * last, 4),
        np.bincount(side, work * (f.k % 8 != 0), minlength=3),
        np.bincount(side, work * (f.n % 8 != 0), minlength=3),
        [len(f) * 1e-6, f.elementwise_flops.sum() / hardware.vector_flops,
         work[f.winograd > 0].sum(), work[f.stride > 1].sum(), (work * 50 / f.k).sum(),
         (work * 16 / f.n).sum(), (work * 64 / f.m).sum()],
    ])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What :class:`Totals` says of a network.

    ``log_error`` is the half-width of the 90 % interval in logarithms; ``distance`` that to the
    nearest fitted network (1 is the usual spread of a descriptor), ``known`` whether it is near.
    """

    total_s: float
    log_error: float
    distance: float
    known: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """The experts and the forest of one target; see the module's text.

    ``weights`` belong to :func:`linear_columns`. ``forest`` says the mean correction of the three
    experts. ``center``, ``scale`` and ``reference`` (fitted networks x descriptors) make the
    distance; ``trust`` is the forest's share beyond ``threshold``; ``widths`` the interval's
    half-width between the distances ``edges``. ``mix`` is what the linear, physical and roofline
    expert each say in the mean that the forest corrects; without weights the linear one is silent.
    """

    weights: Floats
    forest: Forest
    center: Floats
    scale: Floats
    reference: Floats
    threshold: float
    trust: float
    edges: Floats
    widths: Floats
    mix: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)

    def answer(
        self, features: Features, hardware: Hardware, times: Times, floor_s: Floats
    ) -> Answer:
        """Seconds of the whole network, and how far it is from what was fitted."""
        whole_s = float(times.total.sum())
        linear_s = self.linear_s(features, hardware) if self.weights.any() else whole_s
        row = describe(features, hardware, times, floor_s, linear_s)
        said = np.log([linear_s, whole_s, floor_s.sum()])
        plain = (said[0] + said[1]) / 2
        learned = said @ np.array(self.mix) + self.forest.predict(row[None])[0]
        distance = self.distance(row)
        known = distance <= self.threshold
        share = 1.0 if known else self.trust
        width = self.widths[int(np.searchsorted(self.edges, distance))]
        total = float(np.exp(share * learned + (1 - share) * plain))
        return Answer(total, float(width), distance, bool(known))

    def linear_s(self, features: Features, hardware: Hardware) -> float:
        """The linear expert's seconds; at least a microsecond."""
        return max(float(linear_columns(features, hardware) @ self.weights), 1e-6)

    def distance(self, row: Floats) -> float:
        """Root mean square distance to the nearest fitted network, in usual spreads."""
        away = np.clip((row - self.center) / self.scale, -FURTHEST, FURTHEST) - self.reference
        return float(np.sqrt((away * away).mean(axis=1).min()))

    def to_bytes(self) -> bytes:
        """One ``.npz`` without pickles."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, forest=np.frombuffer(self.forest.to_bytes(), np.uint8), weights=self.weights,
            center=self.center, scale=self.scale, reference=self.reference.astype(np.float16),
            numbers=np.array([self.threshold, self.trust, *self.mix]), edges=self.edges,
            widths=self.widths,
        )  # fmt: skip
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, place: str = "totals.npz") -> Totals:
        """Inverse of :meth:`to_bytes`.

        Raises:
            ArtifactError: the file is damaged.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                stored = arrays["forest"].astype(np.uint8).tobytes()
                forest = Forest.from_bytes(stored, place, NAMES)
                floats = {name: arrays[name].astype(np.float64, casting="same_kind")
                          for name in _STORED}  # fmt: skip
        except DAMAGE as error:
            raise ArtifactError(f"{place}: {error}. The file is damaged; reinstall") from None
        numbers = floats.pop("numbers")
        fits = (
            forest.columns == NAMES
            and all(floats[n].shape == (len(NAMES),) for n in ("center", "scale"))
            and floats["reference"].ndim == 2 and floats["reference"].shape[1] == len(NAMES)
            and len(floats["reference"]) > 0 and numbers.shape == (5,)
            and floats["weights"].shape == (LINEAR_COUNT,)
            and floats["widths"].shape == (len(floats["edges"]) + 1,)
            and all(bool(np.isfinite(v).all()) for v in (*floats.values(), numbers))
            and bool((floats["scale"] > 0).all() and (floats["widths"] > 0).all())
        )  # fmt: skip
        if not fits:
            raise ArtifactError(f"{place}: the arrays do not fit together; reinstall")
        threshold, trust, *mix = map(float, numbers)
        return cls(forest=forest, threshold=threshold, trust=trust, mix=(mix[0], mix[1], mix[2]),
                   **floats)  # fmt: skip


FURTHEST = 8.0
"""A descriptor further off than this many spreads is no further off."""
LINEAR_COUNT = 6 * len(MATRIX_CLASSES) - len(MATRIX_CLASSES) + len(CLASSES) + 8 + 6 + 7
_STORED = ("weights", "center", "scale", "reference", "numbers", "edges", "widths")
