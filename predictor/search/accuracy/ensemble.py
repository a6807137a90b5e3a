"""``ensemble``, also ``zero-cost``: several proxies as one score, against a fixed sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from predictor.errors import ConfigError
from predictor.search.accuracy.images import Data
from predictor.search.accuracy.jacov import Jacov
from predictor.search.accuracy.options import Maker, Options
from predictor.search.accuracy.size import Params
from predictor.search.accuracy.synflow import SynFlow
from predictor.search.candidate import Candidate, Signal, SignalError

if TYPE_CHECKING:
    from predictor.search.space import SearchSpace

REFERENCE = 32
"""Candidates that every score is compared with."""
FURTHEST = 6.0
"""Standard deviations; beyond them scores are as good as at them."""


class Ensemble(Signal):
    """Sum over proxies of the log of a candidate's rank among random candidates of its space.

    The ranks' logarithms are added as in Lee and Ham, "AZ-NAS: Assembling Zero-Cost Proxies for
    Network Architecture Search", CVPR 2024, equation 9: what one proxy finds bad, another does not
    make good. There, ranks are among all candidates of a search; here among ``reference`` random
    ones that the seed draws once for a space, so that a score depends on the candidate alone.
    Between and beyond them ranks are interpolated, see :func:`normal_score`. Scores are 0 at most.
    """

    name = "ensemble"

    def __init__(
        self,
        data: Data = None,
        *,
        seed: int = 0,
        reference: int = REFERENCE,
        members: Sequence[Signal] | None = None,
    ) -> None:
        """Make the members.

        Args:
            data: what they run on, see :data:`~predictor.search.accuracy.images.Data`.
            seed: of their weights and batches, and of the reference sample.
            reference: size of that, 2 or more; each costs as much as a score.
            members: other signals than the default ones, each with a name of its own.

        Raises:
            ConfigError: too small a reference, or members that share a name.
            MissingExtra: PyTorch or scikit-learn is not installed.
        """
        if reference < 2:
            raise ConfigError(f"ensemble: a reference of {reference} candidates: 2 at least")
        self.members = default_members(data, seed) if members is None else tuple(members)
        if len({member.name for member in self.members}) != len(self.members) or not self.members:
            raise ConfigError("ensemble: its members need names, each its own")
        self.seed, self.reference = seed, reference
        self._space: SearchSpace | None = None
        self._sample: dict[str, list[float]] = {}
        self._seen: dict[str, dict[str, float]] = {}

    def score(self, candidate: Candidate) -> float:
        """Rank the candidate; the first call also scores the reference sample.

        Raises:
            SignalError: a member cannot score it.
        """
        if self._space is not candidate.space:
            self._seen = {}
            self._sample = self._drawn(candidate.space)
            self._space = candidate.space
        return combined(self.raw(candidate), self._sample)

    def raw(self, candidate: Candidate) -> dict[str, float]:
        """What each member says, by its name."""
        found = self._seen.get(candidate.key)
        if found is None:
            found = {member.name: member.score(candidate) for member in self.members}
            self._seen[candidate.key] = found
        return found

    def close(self) -> None:
        """Close the members."""
        for member in self.members:
            member.close()

    def _drawn(self, space: SearchSpace) -> dict[str, list[float]]:
        sample: dict[str, list[float]] = {member.name: [] for member in self.members}
        errors: list[str] = []
        for candidate in reference_sample(space, self.seed, self.reference):
            try:
                raw = self.raw(candidate)
            except SignalError as error:
                errors.append(str(error))
                continue
            for name, value in raw.items():
                sample[name].append(value)
        if self.reference - len(errors) < 2:
            raise SignalError(f"ensemble: no random candidate could be scored: {errors[0]}")
        return sample


def default_members(data: Data, seed: int) -> tuple[Signal, ...]:
    """The shipped members; docs/zero-cost.md tells how they were chosen."""
    return (SynFlow(data, seed=seed), Jacov(data, seed=seed), Params())


def reference_sample(space: SearchSpace, seed: int, count: int) -> list[Candidate]:
    """The candidates that others are ranked among: independent even draws."""
    chance = Random(seed)
    return [Candidate(space, space.random(chance)) for _ in range(count)]


def combined(raw: Mapping[str, float], sample: Mapping[str, Sequence[float]]) -> float:
    """Sum over members of log rank (as a share), each against its column of the sample."""
    return sum(log_rank(value, sample[name]) for name, value in raw.items())


def log_rank(value: float, sample: Sequence[float]) -> float:
    """log of the share of candidates that score lower, estimated from a sample of them."""
    score = normal_score(value, sample)
    return math.log(0.5 * math.erfc(-score / math.sqrt(2)))


def normal_score(value: float, sample: Sequence[float]) -> float:
    """In how many standard deviations of a normal distribution a value stands in a sample.

    The k-th of n sorted values stands at the quantile (k - 0.5) / n (Hazen's plotting position),
    equal ones at their mean; between them lines, and beyond the ends the line through the
    quartiles' distance. So values above all of the sample still differ. At most 6 on either side.
    """
    ordered = np.sort(np.asarray(sample, dtype=float))
    normal = NormalDist()
    places = np.array([normal.inv_cdf((k + 0.5) / len(ordered)) for k in range(len(ordered))])
    known, index = np.unique(ordered, return_inverse=True)
    heights = np.bincount(index, places) / np.bincount(index)
    slope = _slope(ordered)
    if value < known[0]:
        score = heights[0] - (known[0] - value) * slope
    elif value > known[-1]:
        score = heights[-1] + (value - known[-1]) * slope
    else:
        score = np.interp(value, known, heights)
    return float(min(max(score, -FURTHEST), FURTHEST))


def _slope(ordered: npt.NDArray[np.float64]) -> float:
    """Standard deviations a unit, from the quartiles; a sample without spread: no distance counts
    as far."""
    low, high = np.quantile(ordered, (0.25, 0.75))
    spread = float(high - low) or float(ordered[-1] - ordered[0])
    return 1.349 / spread if spread > 0 else 1e300


def _make(rest: str, options: Options) -> Signal:
    return Ensemble(options.data, seed=options.seed)


SIGNALS: dict[str, Maker] = {"ensemble": _make, "zero-cost": _make}
