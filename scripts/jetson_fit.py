"""The Jetson fit: physical parameters by board, then one forest for what all of them miss.

The forest sees a network's descriptors and predicts log(measured / physical model). It is trained
on the whole networks of all boards together, after every physical fit anew. Four settings of it
were looked at on left-out networks and families (100 to 200 trees of 7 to 15 leaves, 60 of 4): all
improved both, by 0.5 to 1.2 and 0.9 to 1.6 points of the median.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from predictor.kernels.features import Floats
from predictor.latency.boosted import Forest, from_lightgbm
from predictor.latency.descriptors import LINEAR_COUNT, NAMES, describe
from predictor.latency.fitting import Fit, FitRow, fit_rows
from predictor.latency.physical import INDEX, floor_s, kernel_times
from predictor.latency.totals import FURTHEST, Totals

TREES = {"learning_rate": 0.05, "num_leaves": 7, "min_data_in_leaf": 10, "feature_fraction": 0.4,
         "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 3.0}  # fmt: skip
ROUNDS = 200
FAR_QUANTILE = 0.99
"""Beyond this quantile of the distances between fitted networks, a network is unlike them."""


@dataclass(frozen=True, slots=True)
class BoostedFit(Fit):
    """A fit, and the forest over it; ``table`` are the descriptors of the fitted networks."""

    forest: Forest | None = None
    table: Floats = field(default_factory=lambda: np.zeros((0, len(NAMES))))

    def correction(self, row: FitRow) -> float:
        """log(measured / physical) that the forest expects of a row; 0 for a single layer."""
        if self.forest is None or len(row.features) < 2:
            return 0.0
        return float(self.forest.predict(described(self, row)[None])[0])

    def totals(self, width: float) -> Totals:
        """What ships: the forest over the physical expert alone, one width for all distances."""
        assert self.forest is not None
        center, scale = self.table.mean(axis=0), np.maximum(self.table.std(axis=0), 1e-3)
        reference = np.clip((self.table - center) / scale, -FURTHEST, FURTHEST)
        kept = np.sort(np.unique(np.round(reference, 1), axis=0, return_index=True)[1])
        reference = reference[kept].astype(np.float16).astype(np.float64)
        apart = np.sqrt(((reference[:, None] - reference[None]) ** 2).mean(axis=2))
        np.fill_diagonal(apart, np.inf)
        return Totals(
            weights=np.zeros(LINEAR_COUNT), forest=self.forest, center=center, scale=scale,
            reference=reference, threshold=float(np.quantile(apart.min(axis=1), FAR_QUANTILE)),
            trust=1.0, edges=np.zeros(0), widths=np.array([width]), mix=(0.0, 1.0, 0.0),
        )  # fmt: skip


def boosted_fit(rows: Sequence[FitRow]) -> BoostedFit:
    """Fit the physical model to all rows, and the forest to the networks among them."""
    import lightgbm

    fit = fit_rows(rows)
    networks = [row for row in rows if len(row.features) > 1]
    table = np.array([described(fit, row) for row in networks])
    missed = np.array([np.log(1e-3 * row.latency_ms / _seconds(fit, row)) for row in networks])
    options = {
        **TREES,
        "objective": "l2",
        "verbose": -1,
        "num_threads": 1,
        "seed": 0,
        "deterministic": True,
        "force_row_wise": True,
        "boost_from_average": False,
    }
    booster = lightgbm.train(options, lightgbm.Dataset(table, missed), ROUNDS)
    return BoostedFit(fit.common, fit.deviations, from_lightgbm(booster, NAMES), table)


def described(fit: Fit, row: FitRow) -> Floats:
    """Descriptors of a row's network, as :meth:`Totals.answer` has them without a linear expert."""
    hw = row.hardware
    times = kernel_times(row.features, hw, fit.theta(row.levels))
    return describe(row.features, hw, times, floor_s(row.features, hw), float(times.total.sum()))


def _seconds(fit: Fit, row: FitRow) -> float:
    theta = fit.theta(row.levels)
    seconds = float(kernel_times(row.features, row.hardware, theta).total.sum())
    return seconds + (1e-6 * float(np.exp(theta[INDEX["call_us"]])) if row.whole else 0.0)
