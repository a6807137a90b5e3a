"""One worker's trials of a search: ask, price, check the limits, ask for the accuracy."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from predictor.errors import PredictorError
from predictor.search.candidate import Candidate, Pruned, SignalError
from predictor.search.samplers.proposer import ABOUT, distributions, suggested
from predictor.search.samplers.standing import objectives
from predictor.search.storage import WORKER, close_dead, close_silent, is_database_error, is_here

if TYPE_CHECKING:
    import optuna

    from predictor.search.study import Search

FAILED, ERROR = "failed", "error"
"""Attributes of a trial: the signal failed on it, and why."""
IN_A_ROW = 10
"""Failed evaluations one after the other that end a search: the signal is broken."""
PROPOSALS = 200
"""Proposals in a row that miss a limit or were evaluated before, until a search gives up."""
LOOK_S = 0.5
"""How often a worker that has nothing left to begin looks whether the others are done."""


class Loop:
    """One worker's trials."""

    def __init__(self, search: Search, study: optuna.Study, start: float, worker: str) -> None:
        self.search, self.study, self.start = search, study, start
        self.problem, self.signal = search.problem, search.signal
        self.known: dict[str, float] = {}
        self.given_up: set[str] = set()
        self.worker = worker
        self.idle = self.failed = 0
        self.last_error = ""
        self._seen: dict[int, bool] = {}
        self._awaited = 0
        self._begun: tuple[int, float] | None = None
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
            if search.stop():
                return [f"ended on request with {max(left, 0) + self._awaited} trials left"]
            if search.seconds is not None and time.monotonic() - self.start > search.seconds:
                return [f"stopped after {search.seconds:.0f} s with "
                        f"{max(left, 0) + self._awaited} trials left"]  # fmt: skip
            if left <= 0:
                search.say(f"waiting for {self._awaited} trials of other workers")
                time.sleep(LOOK_S)
                close_silent(self.study)
                continue
            if getattr(self.study.sampler, "exhausted", False) and self.idle:
                return [f"stopped with {left} trials left: nothing else was found within the "
                        "limits"]  # fmt: skip
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
                    if counts:
                        self._remember(trial)
                elif self._heard or is_here(trial.user_attrs.get(WORKER, "")):
                    self._awaited += 1
            count += counts
        return count

    def _remember(self, trial: Any) -> None:
        if ABOUT not in trial.user_attrs:
            return
        key = json.loads(trial.user_attrs[ABOUT])["key"]
        if trial.values:
            self.known[key] = trial.values[0]
        else:
            self.given_up.add(key)

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
        if candidate.key in self.given_up:
            self.idle += 1
            trial.set_user_attr("again", True)
            raise optuna.TrialPruned("given up before")
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
        self._begun = self._begun or (done, spent)
        new, spent = done - self._begun[0], spent - self._begun[1]
        rest = f", about {spent / new * left:.0f} s left" if new > 5 else ""
        return f"{done} of {self.search.trials} trials{said}{rest}"


def _pruning(trial: optuna.Trial, front: bool) -> Callable[[int, float], bool]:
    """Tells Optuna an intermediate value and asks whether to give up; never with several aims."""

    def prune(step: int, accuracy: float) -> bool:
        if front:
            return False
        trial.report(accuracy, step)
        return bool(trial.should_prune())

    return prune
