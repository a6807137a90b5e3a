"""90 % intervals from errors on what was never fitted.

A target's bundle holds the 90 % quantile of ``|log(predicted / measured)|`` over left-out families
(split conformal prediction with one group: Lei et al., JASA 2018). Kernels that no figure covers
widen it in proportion to their share of the latency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

PROTOCOLS = ("family", "board", "model")
"""Which left-out errors an interval is taken from, best first."""

DATASHEET_LOG_ERROR = 0.95
"""90 % quantile of ``|log(predicted / measured)|`` where nothing was fitted for a target: prior
efficiencies against the measured Jetson, GPU and CPU targets; see docs/accuracy.md."""

UNCOVERED_LOG_ERROR = 0.95
"""The same for single kernels without any figure."""


def conformal_quantile(errors: Sequence[float], level: float = 0.9) -> float:
    """The ceil((n + 1) level) / n quantile of ``errors``, which covers ``level`` of new ones.

    With too few errors for that (n < 9 at 90 %), the largest, widened by (n + 1) / n.
    """
    ordered = sorted(abs(error) for error in errors)
    if not ordered:
        return DATASHEET_LOG_ERROR
    rank = math.ceil((len(ordered) + 1) * level)
    if rank > len(ordered):
        return ordered[-1] * (len(ordered) + 1) / len(ordered)
    return ordered[rank - 1]


def widened(base: float, uncovered_share: float) -> float:
    """``base`` log error, and uncovered kernels' own, as independent errors of the sum."""
    return math.hypot(base, UNCOVERED_LOG_ERROR * uncovered_share)


def interval(latency_ms: float, log_error: float) -> tuple[float, float]:
    """(low, high) in milliseconds."""
    return latency_ms * math.exp(-log_error), latency_ms * math.exp(log_error)
