"""Strategies that propose whole candidates: the bridge to Optuna."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from predictor.front import Value, Values
from predictor.search.problem import Problem

if TYPE_CHECKING:
    import optuna

ABOUT = "about"
"""Attribute of a trial: its key and figures, as JSON."""


@dataclass(frozen=True, slots=True)
class Done:
    """An evaluated candidate."""

    key: str
    values: Values
    accuracy: float
    figures: Mapping[str, float]


class Proposer(ABC):
    """A strategy that proposes a candidate within the limits from those that were evaluated."""

    def __init__(self, problem: Problem, *, front: bool) -> None:
        self.problem, self.front = problem, front

    @abstractmethod
    def propose(self, done: Sequence[Done], taken: set[str], chance: Random) -> Values | None:
        """The next candidate, not of ``taken``; None where there is no other.

        ``done`` are those with an accuracy, in the order of their trials.
        """


def sampler_of(proposer: Proposer, seed: int) -> optuna.samplers.BaseSampler:
    """The Optuna sampler that asks ``proposer``.

    What it draws depends on the seed and on how many trials came before; those whose worker died
    do not count, so the trial that is done in place of one proposes what that one would have.
    """
    from optuna.samplers import BaseSampler
    from optuna.trial import TrialState

    class Proposing(BaseSampler):
        def __init__(self) -> None:
            self._done: dict[int, Done] = {}
            self._taken: dict[int, str] = {}
            self._dead: set[int] = set()
            self._final: set[int] = set()
            self.exhausted = False
            """The strategy found nothing else within the limits."""

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            """All parameters at once."""
            return dict(distributions(proposer.problem))

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            """A candidate; a random one where there is no other within the limits."""
            self._read(study.get_trials(deepcopy=False), trial.number)
            chance = Random(f"{seed} {trial.number - len(self._dead)}")
            done = [self._done[number] for number in sorted(self._done)]
            found = proposer.propose(done, set(self._taken.values()), chance)
            self.exhausted = found is None
            return dict(found or proposer.problem.space.random(chance))

        def sample_independent(
            self, study: Any, trial: Any, param_name: str, param_distribution: Any
        ) -> Value:
            """Never asked: all parameters are sampled together."""
            raise NotImplementedError(param_name)

        def _read(self, trials: Sequence[Any], own: int) -> None:
            for trial in trials:
                number = trial.number
                if number == own or number in self._final:
                    continue
                if trial.state.is_finished():
                    self._final.add(number)
                if trial.state == TrialState.FAIL and "failed" not in trial.user_attrs:
                    self._taken.pop(number, None)  # its worker died: it may be tried again
                    self._dead.add(number)
                    continue
                about = trial.user_attrs.get(ABOUT)
                if about is None:
                    continue
                found = json.loads(about)
                self._taken[number] = found["key"]
                if trial.state == TrialState.COMPLETE:
                    values = proposer.problem.space.canonical(trial.params)
                    self._done[number] = Done(found["key"], values, trial.values[0],
                                              found["figures"])  # fmt: skip

    return Proposing()


def distributions(problem: Problem) -> dict[str, Any]:
    """Optuna's distributions of a space: numbers in even steps as numbers, others as categories."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    found: dict[str, Any] = {}
    for name, values in problem.space.parameters.items():
        numbers = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
        steps = {b - a for a, b in itertools.pairwise(numbers)}
        if len(numbers) == len(values) and len(steps) == 1 and min(steps) > 0:
            found[name] = IntDistribution(numbers[0], numbers[-1], step=min(steps))
        else:
            found[name] = CategoricalDistribution(tuple(values))
    return found


def suggested(trial: optuna.Trial, name: str, kind: Any) -> Value:
    """The value of a parameter that a trial has."""
    from optuna.distributions import CategoricalDistribution

    found: Value
    if isinstance(kind, CategoricalDistribution):
        found = trial.suggest_categorical(name, kind.choices)  # type: ignore[assignment]
    else:
        found = trial.suggest_int(name, kind.low, kind.high, step=kind.step)
    return found
