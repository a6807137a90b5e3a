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
import numpy.typing as npt

from predictor.errors import ArtifactError
from predictor.kernels.features import Features, Floats
from predictor.latency.boosted import DAMAGE, Forest
from predictor.latency.descriptors import (
    ADDITIVE,
    LINEAR_COUNT,
    NAMES,
    additive,
    described,
    linear_columns,
    linear_rows,
)
from predictor.latency.physical import Hardware, Times


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
class Answers:
    """The same for many networks, one entry each."""

    total_s: Floats
    log_error: Floats
    distance: Floats
    known: npt.NDArray[np.bool_]


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
        sums = self.columns(features, hardware, times, floor_s).sum(axis=0)
        found = self.answers(sums[None], np.array([times.total.max()]), hardware)
        return Answer(float(found.total_s[0]), float(found.log_error[0]),
                      float(found.distance[0]), bool(found.known[0]))  # fmt: skip

    def columns(
        self, features: Features, hardware: Hardware, times: Times, floor_s: Floats
    ) -> Floats:
        """Kernels x columns whose sums :meth:`answers` takes."""
        own = additive(features, hardware, times, floor_s)
        if not self.weights.any():
            return own
        return np.hstack([own, linear_rows(features, hardware)])

    @property
    def width(self) -> int:
        """How many columns :meth:`columns` has."""
        return ADDITIVE + (LINEAR_COUNT if self.weights.any() else 0)

    def answers(self, sums: Floats, largest_s: Floats, hardware: Hardware) -> Answers:
        """What is said of networks (rows) from sums of :meth:`columns`, each network's slowest
        kernel given in seconds."""
        whole_s, floor_s = sums[:, 0], sums[:, 1]
        linear_s = whole_s
        if self.weights.any():
            linear_s = np.maximum(sums[:, ADDITIVE:] @ self.weights, 1e-6)
        rows = described(sums[:, :ADDITIVE], largest_s, hardware, linear_s)
        said = np.log([linear_s, whole_s, floor_s])
        plain = (said[0] + said[1]) / 2
        learned = np.array(self.mix) @ said + self.forest.predict(rows)
        distance = self.distances(rows)
        known = distance <= self.threshold
        share = np.where(known, 1.0, self.trust)
        width = self.widths[np.searchsorted(self.edges, distance)]
        return Answers(np.exp(share * learned + (1 - share) * plain), width, distance, known)

    def linear_s(self, features: Features, hardware: Hardware) -> float:
        """The linear expert's seconds; at least a microsecond."""
        return max(float(linear_columns(features, hardware) @ self.weights), 1e-6)

    def distances(self, rows: Floats) -> Floats:
        """Root mean square distance of each row to the nearest fitted network, in usual spreads."""
        away = np.clip((rows - self.center) / self.scale, -FURTHEST, FURTHEST)
        nearest = np.zeros(len(rows))
        size = (self.reference * self.reference).sum(axis=1)
        for start in range(0, len(rows), CHUNK):
            part = away[start : start + CHUNK]
            close = ((part @ self.reference.T) * -2 + size).argmin(axis=1)
            off = part - self.reference[close]
            nearest[start : start + CHUNK] = (off * off).mean(axis=1)
        return np.sqrt(nearest)

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


CHUNK = 256
"""Networks compared at once: so many fit the caches."""
FURTHEST = 8.0
"""A descriptor further off than this many spreads is no further off."""
_STORED = ("weights", "center", "scale", "reference", "numbers", "edges", "widths")
