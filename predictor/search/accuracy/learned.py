"""Accuracy learned from candidates that were evaluated: a Gaussian process over their values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictor.errors import ConfigError
from predictor.front import Value, Values

Floats = npt.NDArray[np.float64]
LARGEST = 2000
"""Points of a fit; its time grows with their cube. Of more, a seeded draw."""
TUNED_ON = 300
"""Points that the length scales are chosen on."""
SCALES = (0.3, 0.6, 1.0, 1.7, 3.0, 5.0, 10.0, 1e3)
NOISES = (1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
JITTER = 1e-8


@dataclass(frozen=True, slots=True)
class Kernel:
    """Length scales of each group of features, and the noise's variance per that of the signal."""

    scales: tuple[float, ...]
    noise: float


class LearnedAccuracy:
    """Mean and deviation of the accuracy of architectures that were not evaluated.

    A Gaussian process (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006,
    algorithm 2.1) with a Matern-5/2 kernel of three groups of features, each with a length scale:
    one-hot values of parameters, the places of numbers among a parameter's values, and logarithms
    of sizes. Scales and noise are the grid's best in marginal likelihood (equation 2.30), one after
    the other; the signal's variance is then known in closed form.
    """

    def __init__(self, parameters: Mapping[str, Sequence[Value]], *, seed: int = 0) -> None:
        """Know the space.

        Args:
            parameters: the values of each parameter, in their order.
            seed: of the draw where there are too many points.
        """
        self.parameters = {name: tuple(values) for name, values in parameters.items()}
        self.seed = seed
        self.kernel: Kernel | None = None
        self._groups: list[Floats] = []
        self._mean = self._variance = 0.0
        self._lower: Floats = np.zeros((0, 0))
        self._weights: Floats = np.zeros(0)
        self._size_shift: Floats = np.zeros(0)
        self._size_scale: Floats = np.ones(0)
        self._size_names: tuple[str, ...] = ()

    def fit(
        self,
        values: Sequence[Values],
        accuracies: Sequence[float],
        sizes: Sequence[Mapping[str, float]] | None = None,
    ) -> LearnedAccuracy:
        """Learn.

        Args:
            values: architectures.
            accuracies: of each, in any unit; ``predict`` answers in it.
            sizes: figures of each above 0, such as macs and params, the same for all; optional.

        Raises:
            ConfigError: fewer than two points, lengths that differ, a value that the space lacks,
                or an accuracy that is not finite.
        """
        y: Floats = np.asarray(accuracies, dtype=np.float64)
        if len(values) != len(y) or len(y) < 2 or not np.isfinite(y).all():
            raise ConfigError(
                f"learned accuracy: {len(values)} architectures and {len(y)} accuracies: two or "
                "more, each with its own finite accuracy"
            )
        rows = np.random.default_rng(self.seed).permutation(len(y))[:LARGEST]
        picked = None if sizes is None else [sizes[i] for i in rows]
        self._size_names = tuple(sorted(picked[0])) if picked else ()
        groups = self._features([values[i] for i in rows], picked, learn=True)
        y = y[rows]
        self._mean = float(y.mean())
        self.kernel = _tuned([g[:TUNED_ON] for g in groups], y[:TUNED_ON] - self._mean)
        self._groups = groups
        covariance = _covariance(groups, groups, self.kernel, noisy=True)
        self._lower = np.asarray(np.linalg.cholesky(covariance), np.float64)
        half = np.linalg.solve(self._lower, y - self._mean)
        self._weights = np.linalg.solve(self._lower.T, half)
        self._variance = max(float(half @ half) / len(y), 1e-12)
        return self

    def predict(
        self, values: Sequence[Values], sizes: Sequence[Mapping[str, float]] | None = None
    ) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the accuracy (without the noise of an evaluation).

        Raises:
            ConfigError: nothing was fitted, or sizes are given at one time only.
        """
        if self.kernel is None:
            raise ConfigError("learned accuracy: fit it first")
        if not values:
            return np.zeros(0), np.zeros(0)
        groups = self._features(values, sizes, learn=False)
        cross = _covariance(groups, self._groups, self.kernel, noisy=False)
        mean = self._mean + cross @ self._weights
        half = np.linalg.solve(self._lower, cross.T)
        left = np.clip(1 - (half**2).sum(0), 0, None)
        return mean, np.sqrt(self._variance * left)

    def _features(
        self, values: Sequence[Values], sizes: Sequence[Mapping[str, float]] | None, *, learn: bool
    ) -> list[Floats]:
        """One matrix a group: one-hot, ordinal, sizes."""
        if (sizes is None) != (not self._size_names) or (sizes and len(sizes) != len(values)):
            raise ConfigError(
                "learned accuracy: give sizes of every architecture, in fit and after"
            )
        hot, ordinal = [], []
        for name, known in self.parameters.items():
            index = np.array([self._place(name, v) for v in values])
            hot.append(np.eye(len(known))[index] / math.sqrt(2))
            if len(known) > 2 and all(_numeric(v) for v in known):
                ordinal.append((index / (len(known) - 1))[:, None])
        groups = [np.concatenate(part, axis=1) for part in (hot, ordinal) if part]
        if sizes:
            table = np.array([[float(s[name]) for name in self._size_names] for s in sizes])
            logs = np.log(np.clip(table, 1e-12, None))
            if learn:
                self._size_shift = logs.mean(0)
                self._size_scale = np.where(logs.std(0) > 0, logs.std(0), 1.0)
            groups.append((logs - self._size_shift) / self._size_scale)
        return groups

    def _place(self, name: str, values: Values) -> int:
        known = self.parameters[name]
        if name not in values or values[name] not in known:
            raise ConfigError(
                f"learned accuracy: {name}={values.get(name)} is none of the space's values: "
                f"{', '.join(map(str, known))}"
            )
        return known.index(values[name])


def _numeric(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _covariance(
    a: Sequence[Floats], b: Sequence[Floats], kernel: Kernel, *, noisy: bool
) -> Floats:  # fmt: skip
    """Matern-5/2 of the scaled distances; the signal's variance is 1."""
    square = np.zeros((len(a[0]), len(b[0])))
    for left, right, scale in zip(a, b, kernel.scales, strict=True):
        both = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * left @ right.T
        square += np.clip(both, 0, None) / scale**2
    distance = np.sqrt(5 * square)
    found: Floats = (1 + distance + distance**2 / 3) * np.exp(-distance)
    if noisy:
        found = found + (kernel.noise + JITTER) * np.eye(len(found))
    return found


def _likelihood(groups: Sequence[Floats], y: Floats, kernel: Kernel) -> float:
    """log marginal likelihood with the best signal variance, bar constants."""
    try:
        lower = np.linalg.cholesky(_covariance(groups, groups, kernel, noisy=True))
    except np.linalg.LinAlgError:
        return -math.inf
    half = np.linalg.solve(lower, y)
    variance = max(float(half @ half) / len(y), 1e-12)
    return -0.5 * len(y) * math.log(variance) - float(np.log(np.diag(lower)).sum())


def _tuned(groups: Sequence[Floats], y: Floats) -> Kernel:
    """The grid's best, one axis after another, twice around."""
    best = Kernel((1.7,) * len(groups), 1e-2)
    top = _likelihood(groups, y, best)
    for _ in range(2):
        for axis in range(len(groups) + 1):
            for choice in SCALES if axis < len(groups) else NOISES:
                scales = list(best.scales)
                if axis < len(groups):
                    scales[axis] = choice
                noise = best.noise if axis < len(groups) else choice
                tried = Kernel(tuple(scales), noise)
                found = _likelihood(groups, y, tried)
                if found > top:
                    best, top = tried, found
    return best
