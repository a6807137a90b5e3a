"""Measure a plan at a host until it is done or the time is up; every row is kept as it arrives.

The folder of a target holds ``plan.zip``, ``results.jsonl`` and ``key``, which names the results
file that the host keeps on its side. Whatever dies in between, running again goes on: this side
tells the host what it has, the host first sends what it has.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from predictor.errors import ConfigError, MeasurementError
from predictor.files import write_whole
from predictor.profiling import journal
from predictor.profiling.hosts.base import Crashed, Host
from predictor.profiling.planfile import read_plan, sha256_of

PLAN, RESULTS, KEY, BOARD = "plan.zip", "results.jsonl", "key", "board"
"""What lies in a target's folder; the last is the board's own folder where that is this machine."""
GRACE, LEAST_GRACE_S, MOST_GRACE_S = 0.05, 10.0, 45.0
"""How far the task at hand may go beyond the time; then the host is ended in its midst."""
LOCK_S = 3.0
"""How long another command may hold the results file here."""
STARTS = 6
"""How often in a row a host that crashes before its first measurement is started."""
CRASHES = 2
"""A task in which it crashed so often is left out."""
FIRST_GUESS_S = {"network": 8.0, "kernel": 0.5}
"""Seconds of a task before one of its kind was measured."""


@dataclass(slots=True)
class Progress:
    """How far a run is; ``say`` gives it as a line for the user."""

    tasks: Mapping[str, str]
    done: set[str]
    until: float | None
    label: str = ""
    spent_s: dict[str, list[float]] = field(default_factory=dict)

    def say(self) -> str:
        """Such as ``measuring 12 of 340: timm:resnet18, 25 min left``."""
        at = f": {self.label}" if self.label else ""
        count = f"{min(len(self.done) + 1, len(self.tasks))} of {len(self.tasks)}"
        return f"measuring {count}{at}, {minutes(self.left_s())} left"

    def left_s(self) -> float:
        """Seconds until it is done or the time is up, by what tasks of a kind took so far."""
        todo = Counter(kind for task, kind in self.tasks.items() if task not in self.done)
        need = 0.0
        for kind, count in todo.items():
            known = self.spent_s.get(kind, [])[-50:]
            need += count * (sum(known) / len(known) if known else FIRST_GUESS_S.get(kind, 1.0))
        if self.until is not None:
            need = min(need, self.until - time.monotonic())
        return max(0.0, need)


@dataclass(slots=True)
class Summary:
    """What a run did: tasks by id.

    ``new`` were measured in it, ``measured`` are all that the folder holds of the plan, ``failed``
    says why others could not be, ``left`` were not reached. ``remarks`` are for the user.
    """

    new: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0


def adopt(plan: Path, folder: Path) -> Path:
    """Make ``plan`` the plan of ``folder``; the copy there.

    Raises:
        ConfigError: the folder has another plan, or cannot be written.
    """
    read_plan(plan)
    kept = folder / PLAN
    data = plan.read_bytes()
    if kept.exists():
        if kept.read_bytes() != data:
            raise ConfigError(f"{kept}: holds another plan than {plan}; --restart sets the old "
                              "one and what was measured by it aside")  # fmt: skip
        return kept
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(kept, data)
    except OSError as error:
        raise ConfigError(f"{kept}: cannot be written: {error.strerror or error}") from error
    return kept


def set_aside(folder: Path) -> Path | None:
    """Move a plan and what was measured by it out of the way, within the folder; where to.

    None if there is nothing. What was imported stays where it is.

    Raises:
        ConfigError: it cannot be moved.
        MeasurementError: another run uses it.
    """
    if (folder / RESULTS).exists():
        with opened(folder / RESULTS):
            return _moved(folder)
    return _moved(folder)


def _moved(folder: Path) -> Path | None:
    found = [path for path in folder.glob("*") if path.name in (PLAN, KEY, BOARD)]
    found += [path for path in folder.glob(f"{RESULTS}*") if path.suffix != ".pid"]
    if not found:
        return None
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    aside = folder / f"before-{stamp}-{secrets.token_hex(2)}"
    try:
        aside.mkdir()
        # The results first: if this is cut short, the rest still is a run that goes on.
        for path in sorted(found, key=lambda path: not path.name.startswith(RESULTS)):
            path.rename(aside / path.name)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be moved: {error.strerror or error}") from error
    return aside


def run(
    plan: Path, folder: Path, host: Host, seconds: float | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Summary:  # fmt: skip
    """Measure what is left of a plan.

    Args:
        plan: the plan file; copied into the folder.
        folder: the target's folder of measurements.
        host: where to measure.
        seconds: begin no task after so many seconds; the last one has :func:`grace_s` to end.
        progress: given the state once, to show it; the state changes while this runs.

    Raises:
        ConfigError: the plan is none, or not the folder's.
        MeasurementError: the host, its transport or the disk failed. What arrived is kept.
    """
    begin = time.monotonic()
    kept = adopt(plan, folder)
    with opened(folder / RESULTS) as book:
        session = _Session(read_plan(kept), book, None if seconds is None else begin + seconds)
        progress(session.progress)
        try:
            session.all(host, kept, _key(folder))
        except MeasurementError as error:
            if session.new:
                raise MeasurementError(f"{error}. {len(session.new)} new measurements are in "
                                       f"{folder / RESULTS}") from error  # fmt: skip
            raise
        return session.summary(time.monotonic() - begin)


def take(plan: Path, folder: Path, results: Path) -> Summary:
    """Add the rows of a results file that a board wrote by itself to a folder's.

    Raises:
        ConfigError: the plan is not the folder's, or the results file is of another plan or none.
        MeasurementError: the folder's own file cannot be written.
    """
    begin = time.monotonic()
    kept = adopt(plan, folder)
    try:
        lines = results.read_bytes().splitlines(True)
        rows, remarks = journal.read(str(results))
    except OSError as error:
        raise ConfigError(f"{results}: {error.strerror or error}") from error
    except journal.JournalError as error:
        raise ConfigError(str(error)) from error
    body, sha256 = read_plan(kept), sha256_of(kept)
    known = {sha256, *body.get("grown_from", ())}
    if any(row.get("row") == "run" and row.get("plan_sha256") not in known for row in rows):
        raise ConfigError(f"{results}: measured by another plan than {plan}; name that with --plan")
    with opened(folder / RESULTS) as book:
        session = _Session(body, book, None)
        session.remarks += remarks
        for line in lines:
            session.keep(line)
        return session.summary(time.monotonic() - begin)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[journal.Journal]:
    """The results file, its errors those of this package."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MeasurementError(f"{path}: cannot be made: {error.strerror or error}") from error
    try:
        with journal.Journal(str(path), wait=LOCK_S) as book:
            yield book
    except journal.JournalError as error:
        raise MeasurementError(str(error)) from error


def _key(folder: Path) -> str:
    """The key of a folder, drawn once: a plan that is started anew must not find the old rows."""
    path = folder / KEY
    try:
        if not path.exists():
            write_whole(path, secrets.token_hex(6).encode())
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MeasurementError(f"{path}: {error}") from error
    if not key.isalnum():
        raise MeasurementError(f"{path}: damaged; remove it, or give --restart")
    return key


class _Session:
    """One run: what is kept, what is known of each task."""

    def __init__(self, plan: Mapping[str, Any], book: journal.Journal, until: float | None) -> None:
        self.plan, self.book, self.until = plan, book, until
        self.tasks: dict[str, Mapping[str, Any]] = {task["id"]: task for task in plan["tasks"]}
        self.done = {row["task"] for row in book.rows if row.get("row") == "task"}
        self.failed: dict[str, str] = {}
        self.crashes: Counter[str] = Counter()
        self.new: list[str] = []
        self.remarks: list[str] = list(book.remarks)
        self.timed_out = False
        self.grace_s = grace_s(0.0 if until is None else until - time.monotonic())
        kinds = {key: str(task["kind"]) for key, task in self.tasks.items()}
        self.progress = Progress(kinds, self.done & set(self.tasks), until)
        for row in book.rows:
            self._spent(row)

    def all(self, host: Host, plan: Path, key: str) -> None:
        """Start the host, again where it crashed, until nothing is left or the time is up."""
        host.hear = self._hear
        idle = 0
        while self._left() and not self._over():
            before = len(self.new)
            try:
                self._once(host, plan, key)
            except Crashed as error:
                idle = 0 if len(self.new) > before else idle + 1
                self._crashed(str(error), last=idle == STARTS)
                continue
            if self._left() and not self.timed_out and not self._over():
                raise MeasurementError(
                    f"{host.describe()}: it stopped before it was done, with "
                    f"{len(self._left())} tasks left. Run the same command again to go on"
                )
            return

    def _once(self, host: Host, plan: Path, key: str) -> None:
        seconds = None if self.until is None else max(1.0, self.until - time.monotonic())
        leave = self.done | set(self.failed)
        end = threading.Timer((seconds or 0.0) + self.grace_s, self._late, (host,))
        end.daemon = True
        if seconds is not None:
            end.start()
        try:
            for line in host.start(plan, sorted(leave), seconds, key):
                self.keep(line)
        finally:
            end.cancel()
            host.close()

    def _late(self, host: Host) -> None:
        self.remarks.append(f"{self.progress.label or 'the last task'} took too long and was "
                            "stopped; the next run measures it")  # fmt: skip
        host.close()

    def keep(self, line: bytes) -> None:
        """Write a line that is new and whole; what is no row at all is the host's talk."""
        row = journal.parse_line(line)
        if row is None:
            if line.strip():
                self._hear(line.decode("utf-8", "replace").rstrip())
            return
        if journal.row_id(line) in self.book.ids:
            return
        kind, task = row.get("row"), str(row.get("task"))
        if kind == "task" and task in self.done:
            return
        self.book.append_line(line)
        if kind == "task":
            self.done.add(task)
            self.new.append(task)
            self.failed.pop(task, None)
            self.progress.done = self.done & set(self.tasks)
            self._spent(row)
        elif kind == "failed" and task not in self.done:
            self.failed[task] = str(row.get("error"))

    def _spent(self, row: Mapping[str, Any]) -> None:
        kind, spent = row.get("kind"), row.get("seconds")
        if isinstance(kind, str) and isinstance(spent, int | float):
            self.progress.spent_s.setdefault(kind, []).append(float(spent))

    def _hear(self, text: str) -> None:
        words = text.split(" ", 3)
        if words[0] == "progress" and len(words) == 4:
            self.progress.label = words[3]
        elif text.startswith("note: "):
            self.remarks.append(text[6:])
        elif text.startswith("time is up"):
            self.timed_out = True

    def _left(self) -> list[str]:
        return [task for task in self.tasks if task not in self.done and task not in self.failed]

    def _over(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until

    def _crashed(self, error: str, *, last: bool) -> None:
        """Note in which task the host died; the second time it is left out for this run."""
        task = next(iter(self._left()), None)
        if task is None:  # it died of its own end
            self.remarks.append(error)
            return
        self.crashes[task] += 1
        label = self.tasks[task].get("label", task)
        if last:
            raise MeasurementError(f"{error}. It happened {STARTS} times, lastly in {label}")
        if self.crashes[task] < CRASHES:
            self.remarks.append(f"{label}: {error}; it was started again")
            return
        self.keep(journal.format_line({
            "row": "failed", "task": task, "label": label, "error": error,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }))  # fmt: skip

    def summary(self, seconds: float) -> Summary:
        """What was done."""
        measured = [task for task in self.tasks if task in self.done]
        failed = {task: why for task, why in self.failed.items() if task in self.tasks}
        labels = {key: str(task.get("label", key)) for key, task in self.tasks.items()}
        return Summary(self.new, measured, failed, self._left(), labels,
                       dict(self.progress.tasks), self.remarks, seconds)  # fmt: skip


def grace_s(seconds: float) -> float:
    """Seconds that the last task may take beyond a time of ``seconds``."""
    return min(MOST_GRACE_S, max(LEAST_GRACE_S, GRACE * seconds))


def minutes(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    total = round(seconds / 60)
    return f"{total} min" if total < 90 else f"{total // 60} h {total % 60} min"
