"""Where trials are kept: in memory, in a file that several processes may share, in PostgreSQL.

A file is Optuna's journal: lines are appended under a lock, so processes of one machine can write
at the same time, and a killed one leaves all that it told. The lock is the system's own, which goes
with its process; a line that was cut short is taken away before the next. SQLite is refused: it is
not for several writers. In PostgreSQL every worker says that it lives twice a minute; trials of
dead ones are closed by the others. On one machine the processes' numbers tell.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import re
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from predictor.errors import ConfigError, MeasurementError, MissingExtra, PredictorError

if TYPE_CHECKING:
    import optuna

HEARTBEAT_S, GRACE_S = 30, 120
"""How often a worker on PostgreSQL says that it lives, and how long it may be silent."""
ANSWER_S = 60
"""How long PostgreSQL may take to answer."""
WORKER = "worker"
"""Attribute of a trial: host and process that have it."""
_POSTGRES = re.compile(r"postgres(ql)?(\+\w+)?://")
_AT_ONCE = {"23505", "40P01", "42P07", "42710"}
"""What PostgreSQL answers to all but one of those who make the same tables at the same time."""
_LIVE: set[str] = set()
"""Workers of this process whose searches go on."""


def open_storage(place: str | None, worker: str = "") -> optuna.storages.BaseStorage:
    """The storage at a place: None for memory, a file's path, or ``postgresql://...``.

    Trials that are begun through it name the ``worker`` from the start.

    Raises:
        ConfigError: a place of another kind, or a file that cannot be written.
        MissingExtra: the driver of PostgreSQL is not installed.
        MeasurementError: the database does not answer.
    """
    from optuna import storages

    if place is None:
        return _held(storages.InMemoryStorage(), worker)
    if _POSTGRES.match(place):
        return _held(_postgres(place), worker)
    if "://" in place:
        raise ConfigError(
            f"--storage {hidden(place)}: give a file, or postgresql://user@host/name; other "
            "databases are not for several writers"
        )
    return _held(_journal(Path(place)), worker)


def _held(storage: Any, worker: str) -> optuna.storages.BaseStorage:
    """The storage, whose new trials have a worker and a sign of life before they are sampled."""
    from optuna.trial import TrialState, create_trial

    make, beat = storage.create_new_trial, getattr(storage, "record_heartbeat", None)

    def begin(study_id: int, template_trial: Any = None) -> int:
        if template_trial is None and worker:
            template_trial = create_trial(state=TrialState.RUNNING, user_attrs={WORKER: worker})
        number: int = make(study_id, template_trial)
        if beat is not None and getattr(template_trial, "state", None) == TrialState.RUNNING:
            beat(number)
        return number

    def alive(trial_id: int) -> None:
        assert beat is not None
        try:
            beat(trial_id)
        except Exception as error:  # said in a thread: what else is written says it aloud
            if not is_database_error(error):
                raise

    storage.create_new_trial = begin
    if beat is not None:
        storage.record_heartbeat = alive
    found: optuna.storages.BaseStorage = storage
    return found


# -- a file -------------------------------------------------------------------------------------


def _journal(path: Path) -> optuna.storages.BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    class Locked(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            """Append lines under the system's lock."""
            lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
            with _locked(path) as file:
                file.write("".join(lines).encode())
                file.flush()
                os.fsync(file.fileno())

    path = path.absolute()
    if path.is_dir() or not path.parent.is_dir():
        said = "is a folder; give a file" if path.is_dir() else "no such folder"
        raise ConfigError(f"--storage {path}: {said}")
    try:
        path.open("ab").close()
        with path.open("rb") as file:
            start = file.read(1)
        if start not in (b"", b"{"):
            raise ConfigError(f"--storage {path}: is no journal of a search; give another file")
        with _locked(path):
            pass
        return JournalStorage(Locked(str(path)))
    except OSError as error:
        raise ConfigError(f"--storage {path}: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError, AssertionError) as error:
        raise ConfigError(
            f"--storage {path}: is no journal of a search, or a damaged one ({first_line(error)}); "
            "give another file"
        ) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """A journal to append whole lines to, of one process at a time; it has to be there."""
    with open(path, "a+b", opener=lambda p, flags: os.open(p, flags & ~os.O_CREAT)) as file:
        with contextlib.suppress(ImportError):  # Windows: one worker a file
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed, or the process ends
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if size and file.read(1) != b"\n":  # its writer was cut off, or the disk was full
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        yield file


# -- PostgreSQL ---------------------------------------------------------------------------------


def _postgres(url: str) -> optuna.storages.BaseStorage:
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import RDBStorage, get_storage

    driver = _POSTGRES.match(url)
    named = driver[2] if driver is not None else ""
    full = url if named else "postgresql+pg8000://" + url.partition("://")[2]
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # it is told once, by us
    options: dict[str, Any] = {"pool_pre_ping": True}
    if named in (None, "+pg8000"):
        options["connect_args"] = {"timeout": ANSWER_S}
    for tried in itertools.count(1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return get_storage(RDBStorage(
                    full, heartbeat_interval=HEARTBEAT_S, grace_period=GRACE_S,
                    engine_kwargs=options,
                ))  # fmt: skip
        except ImportError as error:
            raise MissingExtra(
                f"{hidden(url)} needs a driver that is not installed ({first_line(error)}); run: "
                "pip install 'latency-predictor[search]'"
            ) from error
        except Exception as error:
            wrong = any(kind.__name__ == "ArgumentError" for kind in type(error).__mro__)
            if wrong or not (is_database_error(error) or isinstance(error, OSError)):
                raise ConfigError(f"--storage {hidden(url)}: cannot be used: "
                                  f"{hidden(first_line(error))}") from error  # fmt: skip
            if _code(error) in _AT_ONCE and tried < 10:
                time.sleep(0.1 * tried)
                continue
            raise MeasurementError(
                f"--storage {hidden(url)}: cannot be reached: {reason(error)}"
            ) from error
    raise AssertionError


def hidden(url: str) -> str:
    """An address without the password in it."""
    return re.sub(r"([?&]password=)[^&]*", r"\1***",
                  re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url))  # fmt: skip


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()),
                type(error).__name__)  # fmt: skip


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came from, the first last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _answer(error: BaseException) -> dict[str, str]:
    """What PostgreSQL itself said through pg8000: M is the message, C the code."""
    for one in _chain(error):
        for said in (one, getattr(one, "orig", None)):
            found = said.args[0] if isinstance(said, Exception) and said.args else None
            if isinstance(found, dict):
                return found
    return {}


def _code(error: BaseException) -> str:
    return _answer(error).get("C", "")


def reason(error: BaseException) -> str:
    """Why a storage fails, on one line."""
    said = _answer(error).get("M")
    if said:
        return said
    lines = [first_line(one) for one in _chain(error)
             if is_database_error(one) or isinstance(one, OSError)]  # fmt: skip
    return next((line for line in reversed(lines) if line != "()"), first_line(error))


def is_database_error(error: BaseException) -> bool:
    """Whether an exception comes from the database or the way there."""
    names = {"StorageInternalError", "SQLAlchemyError", "InterfaceError", "DatabaseError"}
    return isinstance(error, ConnectionError) or any(
        kind.__name__ in names for kind in type(error).__mro__
    )


@contextlib.contextmanager
def told_if_gone(place: str | None) -> Iterator[None]:
    """Turn a lost database or a full disk into an error that says what is kept.

    Optuna may stumble over it again while it closes the trial, so what an error came from counts.

    Raises:
        MeasurementError: the storage went away.
    """
    try:
        yield
    except PredictorError:
        raise
    except Exception as error:
        if place is None or not any(
            is_database_error(one) or isinstance(one, OSError) for one in _chain(error)
        ):
            raise
        raise MeasurementError(
            f"--storage {hidden(place)}: went away: {reason(error)}. Trials that were finished are "
            "kept there; the same command goes on with them"
        ) from error


# -- workers ------------------------------------------------------------------------------------

_COUNT = itertools.count()


@contextlib.contextmanager
def working() -> Iterator[str]:
    """The name of a worker, as trials remember it, that lives until the end."""
    worker = f"{_here()} {os.getpid()} {_began(os.getpid())} {next(_COUNT)}"
    _LIVE.add(worker)
    try:
        yield worker
    finally:
        _LIVE.discard(worker)


def _here() -> str:
    """This machine, or the container: what gives processes their numbers."""
    try:
        space = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    except OSError:
        space = ""
    return f"{socket.gethostname()}/{space}"


def is_here(worker: str) -> bool:
    """Whether a worker is, or was, on this machine."""
    return worker.partition(" ")[0] == _here()


def is_dead(worker: str) -> bool:
    """Whether a worker of this machine is gone for sure; of another one nothing is known."""
    parts = worker.split(" ")
    if not is_here(worker) or len(parts) != 4:
        return False
    if parts[1] == str(os.getpid()) and parts[2] == _began(os.getpid()):
        return worker not in _LIVE
    return _began(int(parts[1])) != parts[2]


def _began(pid: int) -> str:
    """When a process began, in ticks; '-' where there is none (or no /proc to look at)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _without_proc(pid)
    fields = stat.rpartition(")")[2].split()
    return "-" if fields[0] == "Z" else fields[19]


def _without_proc(pid: int) -> str:
    if Path("/proc/self/stat").exists():
        return "-"
    try:
        os.kill(pid, 0)
    except OSError:
        return "-"
    return "?"


def close_dead(study: optuna.Study) -> int:
    """Mark trials as failed whose worker on this machine is gone; how many. They are tried again.

    Those of other machines are closed by :func:`close_silent`, and by Optuna before every trial.
    """
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    dead = [trial for trial in running if is_dead(trial.user_attrs.get(WORKER, ""))]
    for trial in dead:
        close(study, trial)
    return len(dead)


def close(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Mark a trial as failed, unless another worker just did."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    with contextlib.suppress(UpdateFinishedTrialError):
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def leave(study: optuna.Study, worker: str) -> None:
    """Close what a worker has begun, so that others need not find out that it is gone."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs.get(WORKER) == worker:
            close(study, trial)


def close_silent(study: optuna.Study) -> None:
    """Mark trials as failed whose worker was not heard of for too long; where workers are heard."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import fail_stale_trials

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)
