"""A new target as a mixture of known ones, from a few measurements.

Latency is a sum of parts, so a target is sought as a weighted sum of what sources predict plus
corrections along physical directions (shares of the predicted time: classes of kernels, compute,
memory, launches), both in milliseconds:

    t(model) = sum_d w_d s_d(model) + sum_j c_j z_j(model)

Errors are relative, so everything is divided by a base, one hypothesis being one base (all sources
alike, or one of them), spreads of the weights and a noise. Under each hypothesis the posterior is
that of a Gaussian process (Rasmussen and Williams, 2006, chapters 2 and 5); hypotheses are averaged
by their evidence. As every one of them is linear in the same terms, so is the average: a mixture
costs a dot product, and with a single measurement it is that source times one factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from predictor.kernels.features import Floats

SOURCE_SPREADS = (0.1, 0.3, 1.0)
"""Spread of the weights of sources around their base, a hypothesis each."""
DIRECTION_SPREADS = (0.0, 0.1, 0.3, 1.0)
"""Relative effect that a direction of usual size may have, a hypothesis each."""
NOISES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Relative standard deviation of a measurement about the mixture, a hypothesis each."""
SCALE_SPREAD = 0.3
"""What a base's one factor may be wrong by after it is set on the measurements."""
PRIOR_SCALE_SPREAD = 0.7
"""How far (logarithm) a target's one factor may lie from 1 before anything is measured."""
WIDEST = 4.0
"""A mixture leaves its base by no more than this factor: far away, corrections mean little."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Weights of sources and directions, all of milliseconds.

    ``base`` are the weights of the hypotheses' bases alone, which bound the sum; ``noise`` is the
    relative standard deviation of measurements about it.
    """

    sources: Floats
    directions: Floats
    base: Floats
    noise: float

    def predict(self, sources_ms: Floats, directions_ms: Floats) -> Floats:
        """Milliseconds for models (rows) from what each source and direction says of them."""
        base = sources_ms @ self.base
        total = sources_ms @ self.sources + directions_ms @ self.directions
        bounded: Floats = np.clip(total, base / WIDEST, base * WIDEST)
        return bounded


@dataclass(frozen=True, slots=True)
class Spreads:
    """The hypotheses: see the constants of this module."""

    source: tuple[float, ...] = SOURCE_SPREADS
    direction: tuple[float, ...] = DIRECTION_SPREADS
    noise: tuple[float, ...] = NOISES


class Fitted:
    """All hypotheses on the measurements of one target.

    Args:
        sources_ms: models x sources, what each source predicts.
        directions_ms: models x directions.
        measured_ms: one figure a model.
    """

    def __init__(
        self, sources_ms: Floats, directions_ms: Floats, measured_ms: Floats,
        spreads: Spreads | None = None,
    ) -> None:  # fmt: skip
        spreads = spreads or Spreads()
        count = sources_ms.shape[1]
        self.factors = np.exp(_shrunk_scale(sources_ms, measured_ms))
        scaled = sources_ms * self.factors
        self.bases = np.eye(count)
        if count > 1:
            self.bases = np.vstack([np.full(count, 1 / count), self.bases])
        # All alike is one hypothesis, a single source another; both as likely beforehand.
        prior = np.log(np.r_[1.0, np.full(count, 1 / count)] if count > 1 else np.ones(1))
        self._scaled, self._directions = scaled, directions_ms
        grid = list(product(spreads.source if count > 1 else (0.0,), spreads.direction,
                            spreads.noise))  # fmt: skip
        self._grid = np.array(grid)
        self._solve(scaled, directions_ms, measured_ms, prior)

    def _solve(
        self, scaled: Floats, directions_ms: Floats, measured_ms: Floats, prior: Floats
    ) -> None:
        rows, count = scaled.shape
        self._terms, evidence, solutions = [], [], []
        for weights, prior_log in zip(self.bases, prior, strict=True):
            base = scaled @ weights
            away, pushed, sizes = self._relative(scaled, directions_ms, base)
            source, direction, noise = self._grid.T
            kernel = (
                SCALE_SPREAD**2
                + (source**2)[:, None, None] * (away @ away.T) / np.sqrt(count)
                + (direction**2)[:, None, None] * (pushed @ pushed.T)
            )
            kernel = kernel + (noise**2)[:, None, None] * np.eye(rows)
            lower = np.linalg.cholesky(kernel)
            residual = measured_ms / base - 1.0
            half = np.linalg.solve(lower, np.broadcast_to(residual[:, None], (len(noise), rows, 1)))
            alpha = np.linalg.solve(np.swapaxes(lower, 1, 2), half)[..., 0]
            log_determinant = np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(1)
            evidence.append(
                prior_log - 0.5 * (half[..., 0] ** 2).sum(1) - log_determinant - np.log(base).sum()
            )
            solutions.append(alpha)
            self._terms.append((base, away, pushed, sizes))
        logs = np.array(evidence)
        self.share = np.exp(logs - logs.max())
        self.share /= self.share.sum()
        self._alphas = solutions

    @staticmethod
    def _relative(
        scaled: Floats, directions_ms: Floats, base: Floats, sizes: Floats | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """Sources' distance from the base, directions over it, and the directions' usual size."""
        away = scaled / base[:, None] - 1.0
        pushed = directions_ms / base[:, None]
        if sizes is None:
            sizes = np.sqrt((pushed**2).mean(0)) + 1e-3
        return away, pushed / sizes, sizes

    def mixture(self) -> Mixture:
        """The average over hypotheses."""
        count, directions = self._scaled.shape[1], self._directions.shape[1]
        source_weights, direction_weights = np.zeros(count), np.zeros(directions)
        base_weights = np.zeros(count)
        noise = 0.0
        for h, weights in enumerate(self.bases):
            _, away, pushed, sizes = self._terms[h]
            share, alpha = self.share[h], self._alphas[h]
            source, direction, noises = self._grid.T
            # t = base (1 + constant + sum_d (s_d / base - 1) g_d + sum_j z_j / base / size_j c_j)
            constant = share @ (SCALE_SPREAD**2 * alpha.sum(1))
            gains = (share * source**2) @ (alpha @ away) / np.sqrt(count)
            source_weights += gains + weights * (share.sum() + constant - gains.sum())
            direction_weights += (share * direction**2) @ (alpha @ pushed) / sizes
            base_weights += weights * share.sum()
            noise += float(share @ noises)
        return Mixture(source_weights * self.factors, direction_weights,
                       base_weights * self.factors, noise)  # fmt: skip

    def variance(self, sources_ms: Floats, directions_ms: Floats) -> Floats:
        """Relative variance of predictions for other models: within hypotheses and between."""
        scaled = sources_ms * self.factors
        centre = self.mixture().predict(sources_ms, directions_ms)
        total = np.zeros(len(scaled))
        order = np.argsort(-self.share, axis=None)[:40]
        kept = self.share.ravel()[order].sum()
        for flat in order:
            h, g = np.unravel_index(flat, self.share.shape)
            base, away, pushed, sizes = self._terms[h]
            there = scaled @ self.bases[h]
            other_away, other_pushed, _ = self._relative(scaled, directions_ms, there, sizes)
            source, direction, noise = self._grid[g]
            s2 = source**2 / np.sqrt(scaled.shape[1])
            inner = SCALE_SPREAD**2 + s2 * away @ away.T + direction**2 * pushed @ pushed.T
            cross = (SCALE_SPREAD**2 + s2 * other_away @ away.T
                     + direction**2 * other_pushed @ pushed.T)  # fmt: skip
            own = (SCALE_SPREAD**2 + s2 * (other_away**2).sum(1)
                   + direction**2 * (other_pushed**2).sum(1))  # fmt: skip
            kernel = inner + noise**2 * np.eye(len(base))
            within = own - (cross * np.linalg.solve(kernel, cross.T).T).sum(1)
            mean = there * (1 + cross @ self._alphas[h][g])
            total += (
                self.share[h, g]
                / kept
                * (np.maximum(within, 0) * (there / centre) ** 2 + (mean / centre - 1) ** 2)
            )
        return total


def _shrunk_scale(sources_ms: Floats, measured_ms: Floats) -> Floats:
    """Logarithm of each source's one factor, pulled to 0 where the rows disagree about it."""
    ratio = np.log(measured_ms)[:, None] - np.log(sources_ms)
    rows = len(ratio)
    variance = ratio.var(axis=0, ddof=1) if rows > 1 else np.full(ratio.shape[1], 0.04)
    keep = PRIOR_SCALE_SPREAD**2 / (PRIOR_SCALE_SPREAD**2 + variance / rows)
    scale: Floats = keep * ratio.mean(axis=0)
    return scale


def most_uncertain(
    here: tuple[Floats, Floats], there: tuple[Floats, Floats], measured_ms: Floats, count: int
) -> list[tuple[int, float]]:
    """Which models to measure next: index and relative standard deviation, one after the other.

    Each is taken as if it were measured then, with what is predicted of it. ``here`` are sources
    and directions of the measured models, ``there`` those of the candidates.
    """
    sources, directions = here
    measured = measured_ms
    left = list(range(len(there[0])))
    picked: list[tuple[int, float]] = []
    while left and len(picked) < count:
        fitted = Fitted(sources, directions, measured)
        spread = np.sqrt(fitted.variance(there[0][left], there[1][left]))
        at = int(np.argmax(spread))
        best = left.pop(at)
        picked.append((best, float(spread[at])))
        row = slice(best, best + 1)
        said = fitted.mixture().predict(there[0][row], there[1][row])
        sources = np.vstack([sources, there[0][row]])
        directions = np.vstack([directions, there[1][row]])
        measured = np.append(measured, said)
    return picked
