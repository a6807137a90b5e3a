"""Candidates drawn evenly from those within the limits: what every strategy has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from predictor.front import Values
from predictor.search.problem import Problem
from predictor.search.samplers.proposer import Done, Proposer, sampler_of

if TYPE_CHECKING:
    import optuna


class RandomChoice(Proposer):
    """See the module's text."""

    def propose(self, done: Sequence[Done], taken: set[str], chance: Random) -> Values | None:
        """One that was not taken yet."""
        found = self.problem.feasible(chance, 1, taken)
        return found[0] if found else None


def _make(problem: Problem, seed: int, front: bool) -> optuna.samplers.BaseSampler:
    return sampler_of(RandomChoice(problem, front=front), seed)


SAMPLERS = {"random": _make}
