"""A search: ask for a candidate, price it, check the limits, ask for its accuracy; all of Optuna.

Limits go to Optuna as constraints of every trial. A candidate that misses one is told so at once
and costs no evaluation. Trials carry the architecture, its figures and the worker that has them as
attributes, so any process that opens the storage can go on, and optuna-dashboard can show them.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError, PredictorError
from predictor.front import Limit, SearchResult, State, Trial, pareto
from predictor.search import samplers
from predictor.search.candidate import Candidate, Pruned, Signal, SignalError
from predictor.search.problem import Problem
from predictor.search.samplers.proposer import ABOUT, distributions, suggested
from predictor.search.samplers.standing import objectives
from predictor.search.storage import (
    WORKER,
    close_dead,
    close_silent,
    is_database_error,
    is_here,
    leave,
    open_storage,
    told_if_gone,
    working,
)

if TYPE_CHECKING:
    import optuna

FAILED, ERROR, TASK = "failed", "error", "search"
"""Attributes: the signal failed on it; why; and of the study, what it is a search of."""
IN_A_ROW = 10
"""Failed evaluations one after the other that end a search: the signal is broken."""
PROPOSALS = 200
"""Proposals in a row that miss a limit or were evaluated before, until a search gives up."""
LOOK_S = 0.5
"""How often a worker that has nothing left to begin looks whether the others are done."""
AIMS = ("best", "front")


@dataclass
class Search:
    """What to do with a problem.

    ``signal`` says how good a candidate is; ``trials`` how many are evaluated, those of earlier
    runs and of other workers on the same storage counted; ``aim`` is ``best`` (the most accurate
    within the limits) or ``front`` (all trade-offs of accuracy and latency); ``storage`` as in
    :func:`~predictor.search.storage.open_storage`, ``name`` the study's name in it; ``seconds``
    ends the search earlier; ``prunes`` lets the signal's intermediate values end a trial.
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
            study = self._study(worker)
            try:
                notes = _Loop(self, study, start, worker).run()
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


class _Loop:
    """One worker's trials."""

    def __init__(self, search: Search, study: optuna.Study, start: float, worker: str) -> None:
        self.search, self.study, self.start = search, study, start
        self.problem, self.signal = search.problem, search.signal
        self.known: dict[str, float] = {}
        self.worker = worker
        self.idle = self.failed = 0
        self.last_error = ""
        self._seen: dict[int, bool] = {}
        self._awaited = 0
        self._front = search.aim == "front"
        self._heard = search.storage is not None and "://" in search.storage
        self._own: tuple[int, Any] | None = None

    def run(self) -> list[str]:
        """Trials until it is enough; notes on why it ended early."""
        search = self.search
        while True:
            closed = close_dead(self.study)
            if closed:
                search.say(f"{closed} trials of workers that are gone will be tried again")
            left = search.trials - self._counted()
            if left <= 0 and not self._awaited:
                return []
            if search.seconds is not None and time.monotonic() - self.start > search.seconds:
                return [f"stopped after {search.seconds:.0f} s with "
                        f"{max(left, 0) + self._awaited} trials left"]  # fmt: skip
            if left <= 0:
                search.say(f"waiting for {self._awaited} trials of other workers")
                time.sleep(LOOK_S)
                close_silent(self.study)
                continue
            if self.idle >= PROPOSALS:
                return [f"stopped with {left} trials left: the last {PROPOSALS} proposals missed a "
                        "limit or were evaluated before"]  # fmt: skip
            if self.failed >= IN_A_ROW:
                raise SignalError(
                    f"{search.signal.name} failed {IN_A_ROW} times in a row; the last time: "
                    f"{self.last_error}. Finished trials are kept"
                )
            search.say(self._progress(left))
            self._one()

    def _one(self) -> None:
        """One trial. Others close it where nothing was heard of this worker for too long."""
        from optuna.trial import TrialState

        self._own = None
        try:
            self.study.optimize(self._objective, n_trials=1)
        except Exception:
            if self._own is None:
                raise
            number, found = self._own
            trial = self.study.get_trials(deepcopy=False)[number]
            if trial.state == TrialState.RUNNING and isinstance(found, float | tuple):
                self.study.tell(number, found)  # the storage was away for a moment
                return
            if trial.state != TrialState.FAIL or FAILED in trial.user_attrs:
                raise
            self.search.say(f"trial {number} was given up by another worker meanwhile")
            if found is not None:
                self._again(trial, found)

    def _again(self, trial: Any, found: float | tuple[float, ...]) -> None:
        """Tell the outcome of a trial that was closed meanwhile as that of a new one."""
        from optuna.trial import create_trial

        self.study.add_trial(create_trial(
            values=[found] if isinstance(found, float) else list(found), params=trial.params,
            distributions=trial.distributions, user_attrs=trial.user_attrs,
            system_attrs=trial.system_attrs,
        ))  # fmt: skip

    def _counted(self) -> int:
        """Evaluations that are done or under way, here and elsewhere."""
        from optuna.trial import TrialState

        count = self._awaited = 0
        for trial in self.study.get_trials(deepcopy=False):
            counts = self._seen.get(trial.number)
            if counts is None:
                over = any(value > 0 for value in trial.constraints.values())
                again = trial.user_attrs.get("again")
                dead = trial.state == TrialState.FAIL and FAILED not in trial.user_attrs
                counts = not (over or again or dead)
                if trial.state.is_finished():
                    self._seen[trial.number] = counts
                    if counts and trial.state == TrialState.COMPLETE:
                        self._remember(trial)
                elif self._heard or is_here(trial.user_attrs.get(WORKER, "")):
                    self._awaited += 1
            count += counts
        return count

    def _remember(self, trial: Any) -> None:
        if ABOUT in trial.user_attrs:
            self.known[json.loads(trial.user_attrs[ABOUT])["key"]] = trial.values[0]

    def _objective(self, trial: optuna.Trial) -> float | tuple[float, ...]:
        import optuna

        try:
            found = self._evaluated(trial)
        except (optuna.TrialPruned, optuna.exceptions.UpdateFinishedTrialError):
            self._own = trial.number, None
            raise
        self._own = trial.number, found
        return found

    def _evaluated(self, trial: optuna.Trial) -> float | tuple[float, ...]:
        import optuna

        kinds = distributions(self.problem)
        drawn = {name: suggested(trial, name, kind) for name, kind in kinds.items()}
        values = self.problem.space.canonical(drawn)
        figures = self.problem.price([values])[0]
        candidate = Candidate(self.problem.space, values, _pruning(trial, self._front))
        trial.set_user_attr(ABOUT, json.dumps({"key": candidate.key, "figures": figures}))
        over = 0.0
        for limit in self.problem.limits:
            excess = self.problem.excess(limit, figures)
            trial.set_constraint(limit.name, excess)
            over = max(over, excess)
        if over > 0:
            self.idle += 1
            raise optuna.TrialPruned("over budget")
        accuracy = self._accuracy(trial, candidate)
        if not self._front:
            return accuracy
        return (accuracy, *(figures[name] for name in objectives(self.problem)))

    def _accuracy(self, trial: optuna.Trial, candidate: Candidate) -> float:
        import optuna

        if candidate.key in self.known:
            self.idle += 1
            trial.set_user_attr("again", True)
            return self.known[candidate.key]
        self.idle = 0
        try:
            accuracy = self._score(candidate)
        except Pruned as pruned:
            trial.set_user_attr(ERROR, str(pruned))
            self.failed = 0
            raise optuna.TrialPruned(str(pruned)) from None
        except SignalError as error:
            self.failed += 1
            self.last_error = str(error)
            trial.set_user_attr(ERROR, str(error))
            trial.set_user_attr(FAILED, True)
            return math.nan  # what Optuna takes for a failed trial
        except PredictorError as error:
            trial.set_user_attr(ERROR, str(error))
            raise
        self.failed = 0
        self.known[candidate.key] = accuracy
        return accuracy

    def _score(self, candidate: Candidate) -> float:
        """What the signal says; whatever else it raises, it failed on this candidate."""
        from optuna.exceptions import UpdateFinishedTrialError

        name = self.signal.name
        try:
            accuracy = float(self.signal.score(candidate))
        except (Pruned, PredictorError, UpdateFinishedTrialError):
            raise
        except Exception as error:
            if is_database_error(error):
                raise  # it reported an intermediate accuracy, and the storage went away
            said = f"{candidate.key}: {name} raised {type(error).__name__}: {error}"
            raise SignalError(said) from error
        if not math.isfinite(accuracy):
            raise SignalError(f"{candidate.key}: {name} gave {accuracy}, which is no accuracy")
        return accuracy

    def _progress(self, left: int) -> str:
        done = self.search.trials - left
        best = max(self.known.values(), default=None)
        said = (
            "" if best is None else f", best {best:.5g}{self.signal.unit and ' '}{self.signal.unit}"
        )
        spent = time.monotonic() - self.start
        rest = f", about {spent / done * left:.0f} s left" if done > 5 else ""
        return f"{done} of {self.search.trials} trials{said}{rest}"


def _pruning(trial: optuna.Trial, front: bool) -> Callable[[int, float], bool]:
    """Tells Optuna an intermediate value and asks whether to give up; never with several aims."""

    def prune(step: int, accuracy: float) -> bool:
        if front:
            return False
        trial.report(accuracy, step)
        return bool(trial.should_prune())

    return prune


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
