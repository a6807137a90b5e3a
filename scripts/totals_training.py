"""Fit the whole-model experts and their forest to one target's totals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from predictor.kernels.features import Features, Floats
from predictor.latency.boosted import Forest, from_lightgbm
from predictor.latency.descriptors import NAMES, describe, linear_columns
from predictor.latency.fitting import FitRow, fit_rows
from predictor.latency.intervals import conformal_quantile
from predictor.latency.physical import Hardware, floor_s, kernel_times
from predictor.latency.totals import FURTHEST, Answer, Totals

PHYSICAL_ROWS = 260
"""Rows of the physical fit, drawn at random: more change nothing but the time."""
PHYSICAL_NOISE = 0.12
RIDGE = 2e-3
"""Pull of the linear expert's weights to zero, each in the size of its column."""
TRUST = 0.6
"""The forest's share on networks unlike all fitted ones. 1, 3/4 and 3/5 were looked at on left-out
families of the tables: 3/5 is better on the GPUs by up to 0.5 points, worse on the CPU by 0.6."""
TREES = {"learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 8, "feature_fraction": 0.5,
         "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 1.0}  # fmt: skip
ROUNDS = 300
DISTANCE_BINS = 4


@dataclass(frozen=True, slots=True)
class TotalRow:
    """A network's measured latency on a target, with what folds and reports need."""

    features: Features
    hardware: Hardware
    latency_ms: float
    model: str
    family: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class TotalsFit:
    """Physical parameters (logarithms) and the experts over them."""

    theta: Floats
    totals: Totals

    def answer(self, row: TotalRow) -> Answer:
        """What the fit says of a row's network."""
        times = kernel_times(row.features, row.hardware, self.theta)
        return self.totals.answer(row.features, row.hardware, times, floor_seconds(row))


def floor_seconds(row: TotalRow) -> Floats:
    """The roofline of each kernel."""
    return floor_s(row.features, row.hardware)


def fit_totals(rows: Sequence[TotalRow], *, seed: int = 0) -> TotalsFit:
    """Fit everything to ``rows``; the interval's widths are those of :func:`with_widths`."""
    target = np.log(np.array([row.latency_ms for row in rows]) * 1e-3)
    theta = _physical(rows, seed)
    weights = _linear_weights(rows, target)
    physical, floor, linear, table = _experts(rows, theta, weights)
    trained = [_boosted(table, target - expert, seed) for expert in (linear, floor, physical)]
    center = table.mean(axis=0)
    scale = np.maximum(table.std(axis=0), 1e-3)
    reference = np.clip((table - center) / scale, -FURTHEST, FURTHEST)
    totals = Totals(
        weights=weights, forest=_mean_forest(trained), center=center, scale=scale,
        reference=_distinct(reference).astype(np.float16).astype(np.float64),
        threshold=_threshold(reference, [row.family for row in rows]), trust=TRUST,
        edges=np.zeros(0), widths=np.array([0.5]),
    )  # fmt: skip
    return TotalsFit(theta, totals)


def with_widths(fit: TotalsFit, distances: Floats, errors: Floats) -> TotalsFit:
    """The 90 % half-width by distance, from networks that were left out of fits.

    Bins hold equal counts; further away is never narrower.
    """
    order = np.argsort(distances)
    bins = np.array_split(order, min(DISTANCE_BINS, max(1, len(order) // 40)))
    edges = np.array([distances[b[-1]] for b in bins[:-1]])
    widths = [conformal_quantile([float(e) for e in np.abs(errors[b])]) for b in bins]
    return TotalsFit(fit.theta, replace(fit.totals, edges=edges,
                                        widths=np.maximum.accumulate(widths)))  # fmt: skip


def _physical(rows: Sequence[TotalRow], seed: int) -> Floats:
    """Common parameters, and an even draw from each device's rows."""
    by_device: dict[Hardware, list[TotalRow]] = {}
    for row in rows:
        by_device.setdefault(row.hardware, []).append(row)
    draw = random.Random(seed)
    chosen = [
        row for part in by_device.values()
        for row in draw.sample(part, min(len(part), PHYSICAL_ROWS))
    ]  # fmt: skip
    fit = fit_rows(
        [FitRow(row.features, row.hardware, row.latency_ms, (), False) for row in chosen],
        noise=PHYSICAL_NOISE, steps=15,
    )  # fmt: skip
    return fit.common


def _linear_weights(rows: Sequence[TotalRow], target: Floats) -> Floats:
    """Non-negative least squares on relative errors."""
    from scipy.optimize import nnls

    columns = np.array([linear_columns(row.features, row.hardware) for row in rows])
    design = columns / np.exp(target)[:, None]
    size = np.sqrt((design**2).mean(axis=0)) + 1e-12
    pull = np.sqrt(RIDGE * len(rows)) * np.eye(len(size))
    goal = np.r_[np.ones(len(rows)), np.zeros(len(size))]
    weights: Floats = nnls(np.vstack([design / size, pull]), goal)[0] / size
    return weights


def _experts(
    rows: Sequence[TotalRow], theta: Floats, weights: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Logarithms of the physical, roofline and linear seconds, and the descriptors."""
    physical, floor, linear, table = [], [], [], []
    for row in rows:
        times = kernel_times(row.features, row.hardware, theta)
        bottom = floor_seconds(row)
        line = max(float(linear_columns(row.features, row.hardware) @ weights), 1e-6)
        physical.append(np.log(times.total.sum()))
        floor.append(np.log(bottom.sum()))
        linear.append(np.log(line))
        table.append(describe(row.features, row.hardware, times, bottom, line))
    return np.array(physical), np.array(floor), np.array(linear), np.array(table)


def _boosted(table: Floats, residual: Floats, seed: int) -> Forest:
    import lightgbm

    offset = float(residual.mean())
    options = {
        **TREES,
        "objective": "l2",
        "verbose": -1,
        "num_threads": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "boost_from_average": False,
    }
    data = lightgbm.Dataset(table, residual - offset)
    forest = from_lightgbm(lightgbm.train(options, data, ROUNDS), NAMES)
    # The mean rides on the first tree: a forest has no constant of its own.
    value = forest.value.copy()
    first = slice(0, int(forest.roots[1]))
    value[first] = np.where(forest.feature[first] < 0, value[first] + offset, value[first])
    return replace(forest, value=value)


def _mean_forest(forests: Sequence[Forest]) -> Forest:
    """One forest whose sum is the mean of those."""
    starts = np.cumsum([0, *(len(f.feature) for f in forests)])[:-1]

    def joined(name: str, move: bool) -> Floats:
        return np.concatenate([
            getattr(f, name) + (start if move else 0) for f, start in zip(forests, starts,
                                                                         strict=True)
        ])  # fmt: skip

    return Forest(
        joined("feature", False).astype(np.int32), joined("threshold", False),
        joined("left", True).astype(np.int32), joined("right", True).astype(np.int32),
        joined("value", False) / len(forests), joined("roots", True).astype(np.int32), NAMES,
    )  # fmt: skip


def _distinct(reference: Floats) -> Floats:
    """Without networks that stand twice (another pretraining, another image size next door)."""
    kept: Floats = np.unique(np.round(reference, 1), axis=0, return_index=True)[1]
    return reference[np.sort(kept)]


def _threshold(reference: Floats, families: Sequence[str]) -> float:
    """The distance that best tells a network of a known family from one of a new family.

    From the fitted rows alone: the nearest other network, and the nearest of another family.
    """
    names = np.array(families)
    single = reference.astype(np.float32)
    squares = (single**2).sum(axis=1)
    apart = squares[:, None] + squares[None, :] - 2 * single @ single.T
    apart = np.sqrt(np.maximum(apart, 0) / single.shape[1])
    np.fill_diagonal(apart, np.inf)
    near = apart.min(axis=1)
    foreign = np.where(names[:, None] == names[None, :], np.inf, apart).min(axis=1)
    foreign = foreign[np.isfinite(foreign)]
    candidates = np.quantile(near, np.linspace(0.05, 0.99, 95))
    wrong = [(near > c).mean() + (foreign <= c).mean() if len(foreign) else c for c in candidates]
    return float(candidates[int(np.argmin(wrong))])
