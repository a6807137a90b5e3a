"""Where trials are kept: in memory, in a file that several processes may share, in PostgreSQL.

A file is Optuna's journal: lines are appended under a lock, so processes of one machine can write
at the same time, and a killed one leaves all that it told. SQLite is refused: it is not for several
writers. In PostgreSQL every worker says that it lives twice a minute; trials of dead ones are
closed by the others. On one machine the processes' numbers tell.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from predictor.errors import ConfigError, MeasurementError, MissingExtra

if TYPE_CHECKING:
    import optuna

HEARTBEAT_S, GRACE_S = 30, 120
"""How often a worker on PostgreSQL says that it lives, and how long it may be silent."""
WORKER = "worker"
"""Attribute of a trial: host and process that have it."""
_POSTGRES = re.compile(r"postgres(ql)?(\+\w+)?://")


def open_storage(place: str | None) -> optuna.storages.BaseStorage:
    """The storage at a place: None for memory, a file's path, or ``postgresql://...``.

    Raises:
        ConfigError: a place of another kind, or a file that cannot be written.
        MissingExtra: the driver of PostgreSQL is not installed.
        MeasurementError: the database does not answer.
    """
    from optuna import storages

    if place is None:
        return storages.InMemoryStorage()
    if _POSTGRES.match(place):
        return _postgres(place)
    if "://" in place:
        raise ConfigError(
            f"--storage {hidden(place)}: give a file, or postgresql://user@host/name; other "
            "databases are not for several writers"
        )
    return _journal(Path(place))


def _journal(path: Path) -> optuna.storages.BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if path.is_dir() or not path.absolute().parent.is_dir():
        said = "is a folder; give a file" if path.is_dir() else "no such folder"
        raise ConfigError(f"--storage {path}: {said}")
    try:
        if path.exists():
            with path.open("rb") as file:
                start = file.read(1)
            if start not in (b"", b"{"):
                raise ConfigError(f"--storage {path}: is no journal of a search; give another file")
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        raise ConfigError(f"--storage {path}: {error.strerror or error}") from error


def _postgres(url: str) -> optuna.storages.BaseStorage:
    from optuna.storages import RDBStorage

    driver = _POSTGRES.match(url)
    if driver is not None and driver[2] is None:
        url = "postgresql+pg8000://" + url[driver.end() :]
    try:
        return RDBStorage(
            url, heartbeat_interval=HEARTBEAT_S, grace_period=GRACE_S,
            engine_kwargs={"pool_pre_ping": True},
        )  # fmt: skip
    except ImportError as error:
        raise MissingExtra(f"{hidden(url)} needs a driver that is not installed ({error}); run: "
                           "pip install 'latency-predictor[search]'") from error  # fmt: skip
    except Exception as error:
        if not is_database_error(error):
            raise
        raise MeasurementError(f"{hidden(url)}: the database does not answer: "
                               f"{first_line(error)}") from error  # fmt: skip


def hidden(url: str) -> str:
    """An address without the password in it."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()),
                type(error).__name__)  # fmt: skip


def is_database_error(error: BaseException) -> bool:
    """Whether an exception comes from the database or the way there."""
    names = {"StorageInternalError", "SQLAlchemyError", "InterfaceError", "DatabaseError"}
    return isinstance(error, ConnectionError) or any(
        kind.__name__ in names for kind in type(error).__mro__
    )


@contextlib.contextmanager
def told_if_gone(place: str | None) -> Iterator[None]:
    """Turn a lost database or a full disk into an error that says what is kept.

    Raises:
        MeasurementError: the storage went away.
    """
    try:
        yield
    except Exception as error:
        if place is None or not (is_database_error(error) or isinstance(error, OSError)):
            raise
        raise MeasurementError(
            f"--storage {hidden(place)}: went away: {first_line(error)}. Trials that were finished "
            "are kept there; the same command goes on with them"
        ) from error


def worker_name() -> str:
    """This process, as trials remember it: host, number, and when it began."""
    return f"{socket.gethostname()} {os.getpid()} {_began(os.getpid())}"


def is_dead(worker: str) -> bool:
    """Whether a worker of this host is gone for sure; of another host nothing is known."""
    host, pid, began = worker.split(" ")
    return host == socket.gethostname() and _began(int(pid)) != began


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

    Those of other machines are closed by Optuna's heartbeats, before every trial.
    """
    from optuna.trial import TrialState

    closed = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get(WORKER)
        if worker is not None and is_dead(worker):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            closed += 1
    return closed
