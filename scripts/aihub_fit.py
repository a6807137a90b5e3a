"""How firmly the prior holds, and how little an odd figure counts, chosen inside every fit.

Compilers treat some operators so differently by runtime (3D convolutions behind TFLite take thirty
times as long as by QNN) that a few figures would bend the fit, and sixty networks leave parameters
undecided that the prior should hold. How much of either is best is decided on networks left out of
the rows at hand, so that no fold's answer depends on what that fold leaves out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from predictor.latency.fitting import Fit, FitRow, fit_rows
from predictor.latency.physical import INDEX, SPREAD, kernel_times

SETTINGS = ((3.0, 1.0), (1.0, 1.0), (1.0, 0.5))
"""Residuals beyond this many standard deviations count less; the prior's spread is scaled."""
BLOCKS = 3
RUNTIME = "gen:npu-qnn-"
"""The choice is made on one device's rows of one runtime: the others time the same networks."""


def chosen_fit(rows: Sequence[FitRow]) -> Fit:
    """The fit of all rows, with the settings that predict left-out networks best."""
    own = [row for row in rows if any(level.startswith(RUNTIME) for level in row.levels)]
    counts = Counter(row.levels for row in own)
    judges = [row for row in own if row.levels == max(counts, key=lambda k: (counts[k], k))]
    makers = [partial(fit_rows, robust=robust, spread=scale * SPREAD)
              for robust, scale in SETTINGS]  # fmt: skip
    best = min(makers, key=lambda maker: _error(maker, judges)) if judges else makers[0]
    return best(rows)


def _error(maker: partial[Fit], rows: Sequence[FitRow]) -> float:
    """Mean size of log(predicted / measured) on networks that were left out.

    Networks are cut into blocks in the order of the table, where relatives are neighbours.
    """
    networks = list(dict.fromkeys(id(row.features) for row in rows))
    block = {network: BLOCKS * i // len(networks) for i, network in enumerate(networks)}
    errors = []
    for k in range(BLOCKS):
        fit = maker([row for row in rows if block[id(row.features)] != k])
        errors += [_log_error(fit, row) for row in rows if block[id(row.features)] == k]
    return float(np.mean(np.abs(errors)))


def _log_error(fit: Fit, row: FitRow) -> float:
    theta = fit.theta(row.levels)
    seconds = float(kernel_times(row.features, row.hardware, theta).total.sum())
    seconds += row.whole * 1e-6 * float(np.exp(theta[INDEX["call_us"]]))
    return float(np.log(seconds * 1e3 / row.latency_ms))
