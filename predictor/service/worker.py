"""A worker process: one request at a time, until the server goes or kills it.

It stands in an empty folder of its own, has a limit on its memory, and holds what it has read from
strangers away from the server: should a parser crash, one request is lost.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from predictor.errors import ArtifactError
from predictor.service import logs
from predictor.service.bodies import UPLOADED
from predictor.service.handlers import Handlers
from predictor.service.problems import INTERNAL, refusal_of
from predictor.service.settings import Limits
from predictor.service.wire import Ask, Gone, Reply, packed, read_ask

NICE = 5
"""Niceness of what no request waits for: a third of the processor's time where all is busy."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main(sock: socket.socket, home: str, scratch: str, limits: Limits, nice: int = 0) -> None:
    """Answer what comes through ``sock``. ``home`` holds the profiles, ``scratch`` is where files
    may be written; ``nice`` as in :func:`settle`."""
    settle(home, scratch, limits, nice)
    handlers = Handlers(limits)
    while True:
        try:
            ask = read_ask(sock)
        except (Gone, OSError):
            return
        reply = answer(handlers, ask)
        try:
            sock.sendall(packed(reply))
        except OSError:
            return


def settle(home: str, scratch: str, limits: Limits, nice: int = 0) -> None:
    """The environment of a process that serves: profiles, folder, memory, signals; ``nice`` is how
    far it gives way to others."""
    os.nice(nice)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the server's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logs.settle()
    os.environ["LATENCY_PREDICTOR_HOME"] = home
    os.environ["LATENCY_PREDICTOR_SHIPPED"] = str(Path(home) / "profiles")  # all are there
    own = Path(scratch) / str(os.getpid())
    own.mkdir(exist_ok=True)
    os.chdir(own)
    os.umask(0o077)
    most = limits.worker_mb * 1_000_000
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _die_with_parent()


def _die_with_parent() -> None:
    """End when the server is killed without a chance to say so."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def answer(handlers: Handlers, ask: Ask) -> Reply:
    """The reply to a request, whatever goes wrong with it."""
    try:
        return Reply(body=handlers.answer(ask), memory_mb=_memory_mb())
    except Exception as error:
        return replace(failed(error), memory_mb=_memory_mb())
    finally:
        _tidy()


def failed(error: Exception) -> Reply:
    """The reply that tells of an error, while it is handled; what only the log is to say is in its
    trace."""
    try:
        refusal = refusal_of(error)
    except Exception:
        return Reply(500, code="internal", message=INTERNAL, trace=traceback.format_exc())
    trace = str(error) if isinstance(error, ArtifactError) else ""
    return Reply(refusal.status, code=refusal.code, message=refusal.message, trace=trace,
                 retry_after_s=refusal.retry_after_s)  # fmt: skip


def _tidy() -> None:
    """Uploads go when their request has been answered."""
    if os.path.isdir(UPLOADED):
        shutil.rmtree(UPLOADED, ignore_errors=True)


def _memory_mb() -> float:
    """Resident memory of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0
