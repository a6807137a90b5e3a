"""90 % intervals from errors on what was never fitted.

A target's bundle holds the 90 % quantile of ``|log(predicted / measured)|`` over left-out families
(split conformal prediction with one group: Lei et al., JASA 2018). Kernels that no figure covers
widen it in proportion to their share of the latency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

OWN_PROTOCOLS = ("family", "source")
"""Left-out errors that a target with figures of its own is judged by: a network of a new family,
and figures that another source took. The wider one counts, as a query may be either."""
SIBLING_PROTOCOLS = ("board",)
"""Left-out errors that a board without figures is judged by: those of its siblings."""

DATASHEET_LOG_ERROR = {"gpu": 0.7, "cpu": 1.35, "npu": 1.35}
"""90 % quantile of ``|log(predicted / measured)|`` where nothing was fitted for a target, by
the kind of device: the prior's efficiencies against the published figures of fourteen GPUs (0.46 to
1.08 each) and five CPU targets (0.78 to 1.44)."""

UNCOVERED_LOG_ERROR = 0.95
"""The same for single kernels that no figure covers on a target that has figures."""


def conformal_quantile(errors: Sequence[float], level: float = 0.9) -> float:
    """The ceil((n + 1) level) / n quantile of ``errors``, which covers ``level`` of new ones.

    With too few errors for that (n < 9 at 90 %), the largest, widened by (n + 1) / n.
    """
    ordered = sorted(abs(error) for error in errors)
    if not ordered:
        return max(DATASHEET_LOG_ERROR.values())
    rank = math.ceil((len(ordered) + 1) * level)
    if rank > len(ordered):
        return ordered[-1] * (len(ordered) + 1) / len(ordered)
    return ordered[rank - 1]


def base_log_error(quantiles: Mapping[str, float], *, siblings_only: bool) -> float:
    """The 90 % quantile that a target's interval starts from, by protocol of its bundle."""
    wanted = SIBLING_PROTOCOLS if siblings_only else OWN_PROTOCOLS
    known = [quantiles[protocol] for protocol in wanted if protocol in quantiles]
    return max(known or DATASHEET_LOG_ERROR.values())


def widened(base: float, uncovered_share: float) -> float:
    """``base`` log error, and uncovered kernels' own, as independent errors of the sum."""
    return math.hypot(base, UNCOVERED_LOG_ERROR * uncovered_share)


def interval(latency_ms: float, log_error: float) -> tuple[float, float]:
    """(low, high) in milliseconds."""
    return latency_ms * math.exp(-log_error), latency_ms * math.exp(log_error)


_STUDENT_95 = {2: 6.31, 3: 2.92, 4: 2.35, 5: 2.13, 6: 2.02, 7: 1.94, 8: 1.89}
"""95 % quantile of Student's t for so many values, by their number."""


def few_rows_quantile(log_errors: Sequence[float]) -> float:
    """Half-width that covers 90 % of new errors, from those of a few rows left out one by one.

    The conformal quantile where there are nine or more; with fewer, which cannot reach 90 %, the
    wider of it and Student's half-width for one more value.
    """
    count = len(log_errors)
    conformal = conformal_quantile(list(log_errors))
    if count not in _STUDENT_95:
        return max(conformal, 1e-3)
    rms = math.sqrt(sum(error * error for error in log_errors) / count)
    return max(conformal, _STUDENT_95[count] * rms * math.sqrt(1 + 1 / count), 1e-3)
