"""A Gaussian process over groups of features: what is learned from few evaluations.

Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1, with a
Matern-5/2 kernel of the distance over all groups, each with a length scale. Scales and noise are a
grid's best in marginal likelihood (equation 2.30), one after the other; the signal's variance is
then known in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictor.front import Value

Floats = npt.NDArray[np.float64]
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


def encoded(
    places: Sequence[npt.NDArray[np.int64]], known: Sequence[Sequence[Value]]
) -> list[Floats]:
    """Groups of features of architectures: values as categories, and numbers as places in order.

    Args:
        places: for each parameter, the place of every architecture's value among those it can have.
        known: for each parameter, those values.
    """
    hot, ordinal = [], []
    for place, values in zip(places, known, strict=True):
        hot.append(np.eye(len(values))[place] / math.sqrt(2))
        if len(values) > 2 and all(_is_number(value) for value in values):
            ordinal.append((place / (len(values) - 1))[:, None])
    return [np.concatenate(part, axis=1) for part in (hot, ordinal) if part]


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Process:
    """Groups of features (one matrix each, points x features) and a value a point.

    Args:
        groups: the points.
        y: their values; the mean is taken off by itself.
        kernel: length scales and noise; None chooses them on the first :data:`TUNED_ON` points.
    """

    def __init__(self, groups: Sequence[Floats], y: Floats, kernel: Kernel | None = None) -> None:
        self.groups = groups
        self.mean = float(y.mean())
        self.kernel = kernel or tuned([g[:TUNED_ON] for g in groups], y[:TUNED_ON] - self.mean)
        covariance = _covariance(groups, groups, self.kernel, noisy=True)
        self.lower = np.asarray(np.linalg.cholesky(covariance), np.float64)
        half = np.linalg.solve(self.lower, y - self.mean)
        self.weights = np.linalg.solve(self.lower.T, half)
        self.variance = max(float(half @ half) / len(y), 1e-12)

    def predict(self, groups: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Mean and standard deviation at other points, without the noise of an evaluation."""
        cross = _covariance(groups, self.groups, self.kernel, noisy=False)
        half = np.linalg.solve(self.lower, cross.T)
        left = np.clip(1 - (half**2).sum(0), 0, None)
        return self.mean + cross @ self.weights, np.sqrt(self.variance * left)


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


def tuned(groups: Sequence[Floats], y: Floats) -> Kernel:
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
