"""A search: ask for a candidate, price it, check the limits, ask for its accuracy; all of Optuna.

Limits go to Optuna as constraints of every trial. A candidate that misses one is told so at once
and costs no evaluation. Trials carry the architecture, its figures and the worker that has them as
attributes, so any process that opens the storage can go on, and optuna-dashboard can show them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError
from predictor.front import Limit, SearchResult, State, Trial, pareto
from predictor.search import samplers
from predictor.search.candidate import Signal
from predictor.search.loop import ERROR, FAILED, Loop
from predictor.search.problem import Problem
from predictor.search.samplers.proposer import ABOUT
from predictor.search.samplers.standing import objectives
from predictor.search.storage import (
    leave,
    open_storage,
    told_if_gone,
    working,
)

if TYPE_CHECKING:
    import optuna

TASK = "search"
"""Attribute of a study: what it is a search of."""
AIMS = ("best", "front")


@dataclass
class Search:
    """What to do with a problem.

    ``signal`` says how good a candidate is; ``trials`` how many are evaluated, those of earlier
    runs and of other workers on the same storage counted; ``aim`` is ``best`` (the most accurate
    within the limits) or ``front`` (all trade-offs of accuracy and latency); ``storage`` as in
    :func:`~predictor.search.storage.open_storage`, ``name`` the study's name in it; ``seconds``
    ends the search earlier, and so does ``stop`` once it is true, asked before every trial;
    ``prunes`` lets the signal's intermediate values end a trial.
    """

    problem: Problem
    signal: Signal
    trials: int = 200
    aim: str = "best"
    sampler: str = samplers.DEFAULT
    seed: int = 0
    storage: str | None = None
    name: str = "search"
    seconds: float | None = None
    prunes: bool = True
    say: Callable[[str], None] = field(default=lambda text: None, repr=False)
    stop: Callable[[], bool] = field(default=lambda: False, repr=False)
    study: optuna.Study | None = field(default=None, init=False, repr=False)
    """The study that is under way, or was."""

    def run(self) -> SearchResult:
        """Search until all trials are done, the time is up, or nothing is left to try.

        Trials that other workers have are waited for: should one die, its trial is done here.

        Raises:
            BudgetExceeded: no candidate keeps the limits.
            ConfigError: the storage holds another search under that name.
            MeasurementError: the storage went away.
            SignalError: the signal failed again and again; finished trials are kept.
        """
        if self.aim not in AIMS:
            raise ConfigError(f"unknown aim '{self.aim}': use best or front")
        start = time.monotonic()
        self.problem.refuse_unmeetable(self.seed)
        with told_if_gone(self.storage), working() as worker:
            study = self.study = self._study(worker)
            try:
                notes = Loop(self, study, start, worker).run()
            except BaseException:
                with contextlib.suppress(Exception):  # what ended the search is what is told
                    leave(study, worker)
                raise
            return self.result(study, time.monotonic() - start, notes)

    # -- the study ------------------------------------------------------------------------------

    def _study(self, worker: str) -> optuna.Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # failures are in the result
        front = self.aim == "front"
        costs = len(objectives(self.problem)) if front else 0
        up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        sampler = samplers.find(self.sampler, self.problem, self.seed, front=front)
        pruner = optuna.pruners.MedianPruner() if self.prunes else optuna.pruners.NopPruner()
        study = optuna.create_study(
            storage=open_storage(self.storage, worker), sampler=sampler, pruner=pruner,
            study_name=self.name, directions=[up, *[down] * costs], load_if_exists=True,
        )  # fmt: skip
        self._refuse_another(study)
        return study

    def _task(self) -> dict[str, Any]:
        """What must be the same for two processes to work on one study."""
        problem = self.problem
        return {
            "space": problem.space.name,
            "parameters": {name: list(values) for name, values in problem.space.parameters.items()},
            "devices": list(problem.pricer.targets),
            "limits": [[limit.name, limit.limit] for limit in problem.limits],
            "margin": problem.margin, "caution": problem.caution,
            "batch": problem.pricer.batch, "scope": problem.pricer.scope,
            "signal": self.signal.name, "aim": self.aim,
        }  # fmt: skip

    def _refuse_another(self, study: optuna.Study) -> None:
        own = self._task()
        kept = study.user_attrs.get(TASK)
        if kept is None:
            study.set_user_attr(TASK, own)
            return
        other = [key for key in own if json.dumps(own[key]) != json.dumps(kept.get(key))]
        if other:
            raise ConfigError(
                f"--storage: the search '{self.name}' there is another one: its {other[0]} "
                f"{_short(kept.get(other[0]))}, here {_short(own[other[0]])}. Give it another "
                "--name, or another storage"
            )

    # -- the result -----------------------------------------------------------------------------

    def result(
        self, study: optuna.Study, seconds: float = 0.0, notes: Sequence[str] = ()
    ) -> SearchResult:
        """All trials of a study, with the front."""
        names = objectives(self.problem)
        found = [t for t in map(self._trial, study.get_trials(deepcopy=False)) if t is not None]
        done = [t for t in found if t.state is State.COMPLETE and t.feasible]
        points = [[-(t.accuracy or 0.0), *(t.figures[name] for name in names)] for t in done]
        front = {done[i].number for i in pareto(points)}
        problem = self.problem
        return SearchResult(
            problem.space.name, self.signal.name, self.sampler, self.seed, problem.pricer.names,
            problem.limits, ("accuracy", *names),
            tuple(replace(t, on_front=t.number in front) for t in found), self.signal.unit,
            seconds, tuple(notes), problem.caution,
        )  # fmt: skip

    def _trial(self, kept: Any) -> Trial | None:
        about = kept.user_attrs.get(ABOUT)
        if about is None:
            return None  # its worker died before it knew what the trial was
        about = json.loads(about)
        violations = {name: over for name, over in kept.constraints.items() if over > 0}
        state = _state(kept, violations)
        ended = state is State.FAILED and FAILED not in kept.user_attrs
        return Trial(
            kept.number, about["key"], self.problem.space.canonical(kept.params),
            state, kept.values[0] if kept.values else None, about["figures"], violations,
            error=kept.user_attrs.get(ERROR, "its worker was ended" if ended else ""),
        )  # fmt: skip


def _state(kept: Any, violations: dict[str, float]) -> State:
    from optuna.trial import TrialState

    if kept.state == TrialState.COMPLETE:
        return State.COMPLETE
    if kept.state == TrialState.PRUNED:
        return State.OVER_BUDGET if violations else State.PRUNED
    return State.FAILED if kept.state == TrialState.FAIL else State.RUNNING


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def limits_of(
    budget: dict[str, float], devices: Sequence[str], *, upper: bool = False
) -> tuple[Limit, ...]:
    """Limits as a budget has them, its latency on every device."""
    found = []
    for quantity, limit in budget.items():
        if quantity == "latency_ms":
            found += [Limit(quantity, limit, device, upper) for device in devices]
        else:
            found.append(Limit(quantity, limit))
    return tuple(found)
