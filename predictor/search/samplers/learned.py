"""The default: accuracy is learned from what was evaluated, and the most promising comes next.

A Gaussian process over the parameters' values and the sizes of a candidate (MACs, parameters,
latencies) says of thousands of candidates within the limits how good they may be; the one with the
largest expected improvement over the best (Jones et al., 1998), or over the front below its
latencies, is evaluated. A candidate that may turn out over budget is worth as much less as that is
likely. Candidates are drawn evenly and as variations of the best. Accuracies are
learned as normal quantiles of their ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from predictor.front import Values
from predictor.kernels.features import Floats
from predictor.search.gaussian import Kernel, Process, encoded
from predictor.search.problem import Problem, table
from predictor.search.samplers.proposer import Done, Proposer, sampler_of
from predictor.search.samplers.standing import best_below, normal_ranks, objectives, standings

if TYPE_CHECKING:
    import optuna

FIRST = 20
"""Evaluations before anything is learned."""
RETUNED = 20
"""Evaluations between two choices of the length scales."""
PARENTS = 10
"""Of the best, how many are varied."""
MOST = 1000
"""Evaluations that are learned from: the best and the latest."""


class Learned(Proposer):
    """See the module's text."""

    def __init__(self, problem: Problem, *, front: bool) -> None:
        super().__init__(problem, front=front)
        self._kernel: Kernel | None = None
        self._tuned_at = 0
        self._places = {name: {value: i for i, value in enumerate(values)}
                        for name, values in problem.space.parameters.items()}  # fmt: skip

    def propose(self, done: Sequence[Done], taken: set[str], chance: Random) -> Values | None:
        """The candidate with the largest expected improvement; random ones at first."""
        if len(done) < FIRST:
            found = self.problem.feasible(chance, 1, taken)
            return found[0] if found else None
        pool = self._pool(done, taken, chance)
        if not pool:
            return None
        own = _latest(done)
        scores = normal_ranks(np.array([one.accuracy for one in own]))
        figures = self.problem.price(pool)
        known = [one.figures for one in own]
        self._tune(done)
        process = self._learn([one.values for one in own], known, scores)
        mean, spread = process.predict(self._groups(pool, figures))
        if not self.front:
            # Scores are 0 at the median, so a risk takes its share of mean and spread alike.
            best = np.full(len(pool), (self.problem.weights(known) * scores).max())
            left = self.problem.weights(figures)
            mean, spread = left * mean, left * spread
        else:
            names = objectives(self.problem)
            best = best_below(table(known, names), scores, table(figures, names))
            best = np.where(np.isinf(best), scores.min(), best)
        return pool[int(np.argmax(expected_improvement(mean, spread, best)))]

    def _pool(self, done: Sequence[Done], taken: set[str], chance: Random) -> list[Values]:
        """Candidates within the limits that were not taken: drawn, and varied from the best."""
        problem, space = self.problem, self.problem.space
        drawn = [space.random(chance) for _ in range(2 * problem.draws)]
        fitness = standings(done, problem, front=self.front)
        order = sorted(range(len(done)), key=lambda i: (-fitness[i], i))[:PARENTS]
        for i in order:
            counts = chance.choices((1, 2, 3), (6, 3, 1), k=2 * problem.draws // PARENTS)
            drawn += [space.mutated(done[i].values, chance, count) for count in counts]
        fresh = {problem.key(values): values for values in drawn}
        found = problem.within([v for key, v in fresh.items() if key not in taken])
        return found or problem.feasible(chance, KEPT_FEASIBLE, taken)

    def _tune(self, done: Sequence[Done]) -> None:
        """Choose the length scales anew where it is time; on the trials up to then alone, so that
        a search that is resumed goes on as if it had not ended."""
        until = len(done) // RETUNED * RETUNED
        if until != self._tuned_at:
            self._kernel = None
            own = _latest(done[:until])
            scores = normal_ranks(np.array([one.accuracy for one in own]))
            known = [one.figures for one in own]
            self._kernel = self._learn([one.values for one in own], known, scores).kernel
            self._tuned_at = until

    def _learn(
        self, values: Sequence[Values], figures: Sequence[Mapping[str, float]], scores: Floats
    ) -> Process:
        logs = np.log(np.maximum(table(figures, self.problem.sizes), 1e-12))
        self._shift, spread = logs.mean(axis=0), logs.std(axis=0)
        self._scale = np.where(spread > 1e-9, spread, 1.0)
        return Process(self._groups(values, figures), scores, self._kernel)

    def _groups(
        self, values: Sequence[Values], figures: Sequence[Mapping[str, float]]
    ) -> list[Floats]:
        """Values as categories, values as places in their order, logarithms of sizes."""
        places = [np.array([known[one[name]] for one in values])
                  for name, known in self._places.items()]  # fmt: skip
        groups = encoded(places, [list(known) for known in self._places.values()])
        logs = np.log(np.maximum(table(figures, self.problem.sizes), 1e-12))
        return [*groups, (logs - self._shift) / self._scale]


KEPT_FEASIBLE = 64
"""Candidates that are looked for where neither draws nor variations keep the limits."""


def expected_improvement(mean: Floats, spread: Floats, best: Floats) -> Floats:
    """Expected excess of a normal variable over ``best``."""
    from scipy.special import ndtr

    spread = np.maximum(spread, 1e-12)
    above = (mean - best) / spread
    density = np.exp(-0.5 * above**2) / np.sqrt(2 * np.pi)
    found: Floats = spread * (above * ndtr(above) + density)
    return found


def _latest(done: Sequence[Done]) -> Sequence[Done]:
    if len(done) <= MOST:
        return done
    half = MOST // 2
    best = sorted(done[:-half], key=lambda one: -one.accuracy)[:half]
    return [*best, *done[-half:]]


def _make(problem: Problem, seed: int, front: bool) -> optuna.samplers.BaseSampler:
    return sampler_of(Learned(problem, front=front), seed)


SAMPLERS = {"learned": _make}
