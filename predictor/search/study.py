"""A search: ask for a candidate, price it, check the limits, ask for its accuracy; all of Optuna.

Limits go to Optuna as constraints of every trial. A candidate that misses one is told so at once
and costs no evaluation. Trials carry the architecture, its figures and the worker that has them as
attributes, so any process that opens the storage can go on, and optuna-dashboard can show them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError, PredictorError
from predictor.front import Limit, SearchResult, State, Trial, Value, pareto
from predictor.search import samplers
from predictor.search.candidate import Candidate, Pruned, Signal, SignalError
from predictor.search.problem import Problem
from predictor.search.samplers.proposer import ABOUT, distributions
from predictor.search.samplers.standing import objectives
from predictor.search.storage import WORKER, close_dead, open_storage, told_if_gone, worker_name

if TYPE_CHECKING:
    import optuna

FAILED, ERROR, TASK = "failed", "error", "search"
"""Attributes: the signal failed on it; why; and of the study, what it is a search of."""
IN_A_ROW = 10
"""Failed evaluations one after the other that end a search: the signal is broken."""
PROPOSALS = 200
"""Proposals in a row that miss a limit or were evaluated before, until a search gives up."""
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
        with told_if_gone(self.storage):
            study = self._study()
            notes = _Loop(self, study, start).run()
            return self.result(study, time.monotonic() - start, notes)

    # -- the study ------------------------------------------------------------------------------

    def _study(self) -> optuna.Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # failures are in the result
        front = self.aim == "front"
        costs = len(objectives(self.problem)) if front else 0
        up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        sampler = samplers.find(self.sampler, self.problem, self.seed, front=front)
        pruner = optuna.pruners.MedianPruner() if self.prunes else optuna.pruners.NopPruner()
        try:
            study = optuna.create_study(
                storage=open_storage(self.storage), sampler=sampler, pruner=pruner,
                study_name=self.name, directions=[up, *[down] * costs], load_if_exists=True,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(f"--storage: '{self.name}' is a search with another aim ({error}); "
                              "give it another --name") from error  # fmt: skip
        self._refuse_another(study)
        closed = close_dead(study)
        if closed:
            self.say(f"{closed} trials of workers that are gone will be tried again")
        return study

    def _task(self) -> dict[str, Any]:
        """What must be the same for two processes to work on one study."""
        problem = self.problem
        return {
            "space": problem.space.name,
            "parameters": {name: list(values) for name, values in problem.space.parameters.items()},
            "devices": list(problem.pricer.targets),
            "limits": [[limit.name, limit.limit] for limit in problem.limits],
            "margin": problem.margin, "batch": problem.pricer.batch, "scope": problem.pricer.scope,
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
            seconds, tuple(notes),
        )  # fmt: skip

    def _trial(self, kept: Any) -> Trial | None:
        about = kept.user_attrs.get(ABOUT)
        if about is None:
            return None  # its worker died before it knew what the trial was
        about = json.loads(about)
        violations = {name: over for name, over in kept.constraints.items() if over > 0}
        return Trial(
            kept.number, about["key"], self.problem.space.canonical(kept.params),
            _state(kept, violations), kept.values[0] if kept.values else None, about["figures"],
            violations, error=kept.user_attrs.get(ERROR, ""),
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

    def __init__(self, search: Search, study: optuna.Study, start: float) -> None:
        self.search, self.study, self.start = search, study, start
        self.problem, self.signal = search.problem, search.signal
        self.known: dict[str, float] = {}
        self.worker = worker_name()
        self.idle = self.failed = 0
        self.last_error = ""
        self._seen: set[int] = set()
        self._front = search.aim == "front"

    def run(self) -> list[str]:
        """Trials until it is enough; notes on why it ended early."""
        search = self.search
        while True:
            left = search.trials - self._counted()
            if left <= 0:
                return []
            if search.seconds is not None and time.monotonic() - self.start > search.seconds:
                return [f"stopped after {search.seconds:.0f} s with {left} trials left"]
            if self.idle >= PROPOSALS:
                return [f"stopped with {left} trials left: the last {PROPOSALS} proposals missed a "
                        "limit or were evaluated before"]  # fmt: skip
            if self.failed >= IN_A_ROW:
                raise SignalError(
                    f"{search.signal.name} failed {IN_A_ROW} times in a row; the last time: "
                    f"{self.last_error}. Finished trials are kept"
                )
            search.say(self._progress(left))
            self.study.optimize(self._objective, n_trials=1)

    def _counted(self) -> int:
        """Evaluations that are done or under way, here and elsewhere."""
        from optuna.trial import TrialState

        count = 0
        for trial in self.study.get_trials(deepcopy=False):
            over = any(value > 0 for value in trial.constraints.values())
            again = trial.user_attrs.get("again")
            dead = trial.state == TrialState.FAIL and FAILED not in trial.user_attrs
            if not (over or again or dead):
                count += 1
                if trial.state == TrialState.COMPLETE and ABOUT in trial.user_attrs:
                    self._remember(trial)
        return count

    def _remember(self, trial: Any) -> None:
        if trial.number not in self._seen:
            self._seen.add(trial.number)
            self.known[json.loads(trial.user_attrs[ABOUT])["key"]] = trial.values[0]

    def _objective(self, trial: optuna.Trial) -> float | tuple[float, ...]:
        import optuna

        trial.set_user_attr(WORKER, self.worker)
        kinds = distributions(self.problem)
        drawn = {name: _suggested(trial, name, kind) for name, kind in kinds.items()}
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
            accuracy = float(self.signal.score(candidate))
            if not math.isfinite(accuracy):
                raise SignalError(f"{self.signal.name} gave {accuracy}, which is no accuracy")
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

    def _progress(self, left: int) -> str:
        done = self.search.trials - left
        best = max(self.known.values(), default=None)
        said = (
            "" if best is None else f", best {best:.5g}{self.signal.unit and ' '}{self.signal.unit}"
        )
        spent = time.monotonic() - self.start
        rest = f", about {spent / done * left:.0f} s left" if done > 5 else ""
        return f"{done} of {self.search.trials} trials{said}{rest}"


def _suggested(trial: optuna.Trial, name: str, kind: Any) -> Value:
    """The value of a parameter."""
    from optuna.distributions import CategoricalDistribution

    found: Value
    if isinstance(kind, CategoricalDistribution):
        found = trial.suggest_categorical(name, kind.choices)  # type: ignore[assignment]
    else:
        found = trial.suggest_int(name, kind.low, kind.high, step=kind.step)
    return found


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
