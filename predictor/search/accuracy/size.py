"""Size as a signal: the baselines that every other one should beat."""

from __future__ import annotations

from predictor.search.accuracy.options import Maker
from predictor.search.candidate import Candidate, Signal


class Params(Signal):
    """Number of parameters."""

    name = "params"

    def score(self, candidate: Candidate) -> float:
        """Parameters of the graph."""
        return float(candidate.graph.params)


class Flops(Signal):
    """Floating-point operations, 2 x MACs."""

    name = "flops"

    def score(self, candidate: Candidate) -> float:
        """FLOPs of the graph at batch 1."""
        return float(candidate.graph.flops)


SIGNALS: dict[str, Maker] = {
    "params": lambda rest, options: Params(),
    "flops": lambda rest, options: Flops(),
}
