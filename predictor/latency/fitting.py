"""Fit the physical model to measured totals: least squares on logarithms, with priors.

Every row is a sum of kernels (a layer row: of one). Parameters are shared on several levels, each
row naming its levels from coarse to fine (generation, board, ...): the row's parameters are the
sum of a common vector and one deviation a level, deviations being pulled to zero. With little
data a board therefore borrows the shape of its generation and keeps its own scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from predictor.kernels.features import Features, Floats
from predictor.latency.physical import (
    INDEX,
    MEDIAN,
    NAMES,
    SPREAD,
    Hardware,
    gradient,
)


@dataclass(frozen=True, slots=True)
class FitRow:
    """One measured figure: ``latency_ms`` of ``features`` on ``hardware``.

    ``levels`` are the groups that the row belongs to; ``whole`` rows carry the constant of a
    call, layer rows do not; ``weight`` is its say in the fit.
    """

    features: Features
    hardware: Hardware
    latency_ms: float
    levels: tuple[str, ...] = ()
    whole: bool = True
    weight: float = 1.0


_Batch = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Features, dict[str, Floats]]
"""Rows, each kernel's place among them, the kernels and their hardware."""


def _batch(rows: Sequence[FitRow], own: npt.NDArray[np.intp]) -> _Batch:
    mine = [rows[i] for i in own]
    where = np.repeat(np.arange(len(mine)), [len(row.features) for row in mine])
    hardware = {
        name: np.array([getattr(row.hardware, name) for row in mine])[where]
        for name in Hardware.__slots__
    }
    return own, where, Features.join([row.features for row in mine]), hardware


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted logarithms: the common vector and the deviation of each level's group."""

    common: Floats
    deviations: Mapping[str, Floats] = field(default_factory=dict)

    def theta(self, levels: Sequence[str]) -> Floats:
        """Parameters for a row of these levels; a group never seen deviates by nothing."""
        zero = np.zeros(len(NAMES))
        theta = self.common.copy()
        for group in levels:
            theta += self.deviations.get(group, zero)
        return theta


def level_spread(level: str) -> Floats:
    """How far a group may deviate (standard deviation of logarithms), by the level's prefix.

    ``gen:`` (generation and software era) all parameters, moderately; ``board:`` only the three
    overall factors and the call; ``series:`` the same, widely; ``only:`` the factors, tightly.
    """
    overall = np.zeros(len(NAMES))
    for name in ("all.compute", "all.memory", "all.launch"):
        overall[INDEX[name]] = 1.0
    if level.startswith("gen:"):
        return 0.35 * np.minimum(SPREAD, 0.7) / 0.7
    if level.startswith("series:"):
        spread = 0.5 * overall
        spread[INDEX["call_us"]] = 0.5
        return spread
    if level.startswith("board:"):
        spread = 0.15 * overall
        spread[INDEX["call_us"]] = 0.5
        return spread
    return 0.07 * overall


class _Problem:
    """All rows as one long list of kernels, so that a pass is a few array operations."""

    def __init__(self, rows: Sequence[FitRow], spreads: Mapping[str, Floats]) -> None:
        self.rows = rows
        # Rows with the same levels share their parameters: they are evaluated together.
        members: dict[tuple[str, ...], list[int]] = {}
        for i, row in enumerate(rows):
            members.setdefault(row.levels, []).append(i)
        self.batches = [_batch(rows, np.array(own)) for own in members.values()]
        self.target = np.log(np.array([row.latency_ms for row in rows]) * 1e-3)
        self.weight = np.sqrt(np.array([row.weight for row in rows]))
        self.whole = np.array([row.whole for row in rows], dtype=float)
        self.groups = sorted({group for row in rows for group in row.levels})
        self.free = {g: np.flatnonzero(spreads[g] > 0) for g in self.groups}
        self.spread = {g: spreads[g] for g in self.groups}
        self.columns = [self._columns(levels) for levels in members]
        self.member = {
            g: np.array([g in row.levels for row in rows], dtype=float) for g in self.groups
        }

    def _columns(self, levels: Sequence[str]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Which unknowns rows of these levels depend on, and the parameter that each is."""
        count = len(NAMES)
        starts, at = {}, count
        for group in self.groups:
            starts[group] = at
            at += len(self.free[group])
        own = [starts[g] + np.arange(len(self.free[g])) for g in dict.fromkeys(levels)]
        names = [self.free[g] for g in dict.fromkeys(levels)]
        return np.concatenate([np.arange(count), *own]), np.concatenate([np.arange(count), *names])

    def thetas(self, fit: Fit) -> Floats:
        theta = np.tile(fit.common, (len(self.rows), 1))
        for group in self.groups:
            theta += self.member[group][:, None] * fit.deviations[group]
        return theta

    def evaluate(self, fit: Fit) -> tuple[Floats, Floats]:
        """Log predictions, and their Jacobian by each row's own parameters (rows x names)."""
        theta = self.thetas(fit)
        rows, names = len(self.rows), len(NAMES)
        total, jacobian = np.zeros(rows), np.zeros((rows, names))
        for own, where, features, hardware in self.batches:
            times, parts = gradient(features, hardware, theta[own[0]])
            total[own] = np.bincount(where, times.total, minlength=len(own))
            for indices, values in parts:
                ok = indices >= 0
                flat = np.bincount(
                    where[ok] * names + indices[ok], values[ok], minlength=len(own) * names
                )
                jacobian[own] += flat.reshape(len(own), names)
        call = self.whole * 1e-6 * np.exp(theta[:, INDEX["call_us"]])
        total += call
        jacobian[:, INDEX["call_us"]] += call
        return np.log(total), jacobian / total[:, None]


def fit_rows(
    rows: Sequence[FitRow],
    *,
    noise: float = 0.08,
    steps: int = 25,
    robust: float = 3.0,
    spread: Floats = SPREAD,
    median: Floats = MEDIAN,
) -> Fit:
    """The maximum a posteriori fit, by damped Gauss-Newton steps.

    Args:
        rows: measured figures.
        noise: standard deviation of a figure's logarithm; public figures of one board differ by
            10 to 25 % between sources.
        robust: residuals beyond this many ``noise`` count less (Huber), so that one wrong figure
            does not bend the fit. Scores never leave a row out.
        spread: prior spread of the common vector.
        median: prior median of the common vector, logarithms.
    """
    groups = sorted({group for row in rows for group in row.levels})
    problem = _Problem(rows, {group: level_spread(group) for group in groups})
    fit = Fit(median.copy(), {group: np.zeros(len(NAMES)) for group in groups})
    damping, cost = 1e-2, np.inf
    log_prediction, jacobian = problem.evaluate(fit)
    for _ in range(steps):
        residual = (log_prediction - problem.target) / noise * problem.weight
        huber = np.minimum(1.0, robust / np.maximum(np.abs(residual), 1e-9))
        scale = np.sqrt(huber) * problem.weight / noise
        step = _solve(problem, fit, scale, log_prediction, jacobian, damping, spread,
                      median)  # fmt: skip
        trial = _moved(problem, fit, step)
        new_prediction, new_jacobian = problem.evaluate(trial)
        new_cost = _cost(problem, trial, new_prediction, noise, robust, spread, median)
        if new_cost < cost:
            gain = cost - new_cost
            fit, cost = trial, new_cost
            log_prediction, jacobian = new_prediction, new_jacobian
            damping = max(damping / 4, 1e-6)
            if gain < 1e-4 * cost:
                break
        else:
            damping *= 8
            if damping > 1e6:
                break
    return fit


def _solve(
    problem: _Problem, fit: Fit, scale: Floats, log_prediction: Floats, jacobian: Floats,
    damping: float, spread: Floats, median: Floats,
) -> Floats:  # fmt: skip
    residual = (problem.target - log_prediction) * scale
    precision = np.concatenate(
        [1 / spread**2] + [1 / problem.spread[g][problem.free[g]] ** 2 for g in problem.groups]
    )
    offset = np.concatenate(
        [median - fit.common] + [-fit.deviations[g][problem.free[g]] for g in problem.groups]
    )
    normal, right = np.diag(precision * (1 + damping)), precision * offset
    design = jacobian * scale[:, None]
    # Rows touch only their own groups: most of the normal matrix stays empty.
    for (own, *_), (columns, names) in zip(problem.batches, problem.columns, strict=True):
        mine = design[own]
        square = mine.T @ mine
        normal[np.ix_(columns, columns)] += square[np.ix_(names, names)]
        right[columns] += (mine.T @ residual[own])[names]
    step = np.linalg.solve(normal, right)
    return np.asarray(step, dtype=np.float64)


def _moved(problem: _Problem, fit: Fit, step: Floats) -> Fit:
    step = np.clip(step, -0.7, 0.7)
    size = len(NAMES)
    common = fit.common + step[:size]
    deviations, at = {}, size
    for group in problem.groups:
        free = problem.free[group]
        deviation = fit.deviations[group].copy()
        deviation[free] += step[at : at + len(free)]
        at += len(free)
        deviations[group] = deviation
    return Fit(common, deviations)


def _cost(
    problem: _Problem, fit: Fit, log_prediction: Floats, noise: float, robust: float,
    spread: Floats, median: Floats,
) -> float:  # fmt: skip
    residual = np.abs((log_prediction - problem.target) / noise * problem.weight)
    huber = np.where(residual < robust, 0.5 * residual**2, robust * (residual - 0.5 * robust))
    prior = 0.5 * np.sum(((fit.common - median) / spread) ** 2)
    for group in problem.groups:
        free = problem.free[group]
        prior += 0.5 * np.sum((fit.deviations[group][free] / problem.spread[group][free]) ** 2)
    return float(np.sum(huber) + prior)
