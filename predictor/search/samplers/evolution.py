"""Regularised evolution: the best of a few of the youngest is varied, the oldest is forgotten.

Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from predictor.front import Values
from predictor.search.problem import Problem
from predictor.search.samplers.proposer import Done, Proposer, sampler_of
from predictor.search.samplers.standing import standings

if TYPE_CHECKING:
    import optuna

POPULATION = 30
SAMPLE = 8
"""Of the population, how many compete to be varied."""
TRIES = 4
"""How many times as many variations are priced as one strategy needs, to find one within limits."""


class RegularisedEvolution(Proposer):
    """See the module's text. For a front, candidates compete by how far it lies beyond them."""

    def propose(self, done: Sequence[Done], taken: set[str], chance: Random) -> Values | None:
        """A variation of the fittest of a sample; random ones until there is a population."""
        problem = self.problem
        if len(done) >= POPULATION:
            young = done[-POPULATION:]
            fitness = standings(young, problem, front=self.front)
            sample = chance.sample(range(len(young)), SAMPLE)
            parent = young[max(sample, key=lambda i: fitness[i])].values
            for count in (1, 2, 3):
                varied = [problem.space.mutated(parent, chance, count)
                          for _ in range(TRIES * problem.draws // 8)]  # fmt: skip
                fresh = [v for v in problem.within(varied) if problem.key(v) not in taken]
                if fresh:
                    return fresh[0]
        found = problem.feasible(chance, 1, taken)
        return found[0] if found else None


def _make(problem: Problem, seed: int, front: bool) -> optuna.samplers.BaseSampler:
    return sampler_of(RegularisedEvolution(problem, front=front), seed)


SAMPLERS = {"evolution": _make}
