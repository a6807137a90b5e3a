"""Chunks answered by processes of this machine."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, InvalidStateError
from types import TracebackType

from predictor.batching.jobs import Answered, Chunk, Job, behind, cut_up, fail_chunk, joined
from predictor.batching.spreading import PATIENCE_S, Promise
from predictor.batching.worker import receive, send
from predictor.errors import MeasurementError, PredictorError

TRIES = 3
"""How often a chunk is begun before its rows say that their process was lost."""
JOINED_S = 5.0
"""Seconds that a process has to end."""
_CODE = "import sys; sys.path[:] = {path!r}; from predictor.batching.worker import main; main()"


class Lost(Exception):
    """A process ended in the middle of a chunk."""


class Processes:
    """``count`` processes; each is started again when it is lost.

    A chunk whose process is lost (killed, out of memory) is begun anew, the third time row by row,
    so that only rows that end their process thrice are without an answer, and say so.

    Raises:
        PredictorError: on entering, what is wrong with the job, or with starting a process.
    """

    def __init__(self, job: Job, count: int) -> None:
        self.job, self.count = job, count
        self._queue: queue.SimpleQueue[tuple[Chunk, threading.Event, Future[Answered]] | None]
        self._queue = queue.SimpleQueue()
        self._workers = [_Worker(job) for _ in range(count)]
        self._first: Future[PredictorError | None] = Future()
        self._closing = False
        for worker in self._workers:  # all at once, while this process goes on
            worker.start()
        self._threads = [threading.Thread(target=self._serve, args=(worker,), name="crew",
                                          daemon=True) for worker in self._workers]  # fmt: skip
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Processes:
        try:
            wrong = self._first.result()  # of the process that was first to look
            if wrong is not None:
                raise wrong
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._end()

    def _end(self) -> None:
        self._closing = True
        for worker in self._workers:
            self._queue.put(None)
            worker.kill()
        for thread in self._threads:
            thread.join(JOINED_S)
        for worker in self._workers:
            worker.end()

    @property
    def width(self) -> int:
        """One chunk for each process, and one that waits for it."""
        return 2 * self.count

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [worker.process.pid for worker in self._workers if worker.process is not None]

    def submit(self, chunk: Chunk, wake: threading.Event) -> Promise:
        """Have a chunk answered by the process that is free first."""
        promise: Future[Answered] = Future()
        self._queue.put((chunk, wake, promise))
        return promise

    def look(self) -> None:
        """Processes that are lost are started again; there is nothing to look at."""

    def _serve(self, worker: _Worker) -> None:
        try:
            self._met(worker.meet())
        except MeasurementError as error:
            self._met(error)
        except Lost:
            self._met(None)  # it is started again for its first chunk
        while (item := self._queue.get()) is not None and not self._closing:
            chunk, wake, promise = item
            try:
                promise.set_result(self._answered(worker, chunk))
            except Exception as error:
                promise.set_exception(error)
            wake.set()

    def _met(self, wrong: PredictorError | None) -> None:
        with contextlib.suppress(InvalidStateError):
            self._first.set_result(wrong)

    def _answered(self, worker: _Worker, chunk: Chunk) -> Answered:
        for _ in range(TRIES - 1):
            with contextlib.suppress(Lost):
                return worker.answered(chunk)
            if self._closing:
                raise Lost
        return self._by_rows(worker, chunk)

    def _by_rows(self, worker: _Worker, chunk: Chunk) -> Answered:
        """One record after the other; those behind one that ends the process are left for others,
        and so are those that would take too long."""
        began, parts = time.monotonic(), []
        for piece in cut_up(chunk):
            lost = False
            try:
                parts.append(worker.answered(piece, whole=True))
            except Lost as error:
                lost = True
                parts.append(fail_chunk(
                    self.job, piece, f"{error}, at each of {TRIES} tries. A process that is killed "
                    "has often taken too much memory",
                ))  # fmt: skip
            if piece.end < chunk.end and (lost or time.monotonic() - began > PATIENCE_S):
                return joined(parts, behind(chunk, piece, len(parts)))
        return joined(parts)


class _Worker:
    """One process at a time."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._wrong: PredictorError | None = None

    def start(self) -> None:
        """Start the process; it is not waited for."""
        self.process = subprocess.Popen(
            # Its imports are this process's own, whatever lies where it stands.
            [sys.executable, "-c", _CODE.format(path=sys.path)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={"OMP_NUM_THREADS": "1", **os.environ},
        )  # fmt: skip
        self._ready = False

    def meet(self) -> PredictorError | None:
        """What the process says is wrong with the job. Raises as :meth:`answered`."""
        self._ask(None)
        return self._wrong

    def answered(self, chunk: Chunk, *, whole: bool = False) -> Answered:
        """The answers of the process, which is started where there is none.

        Raises:
            Lost: it ended before it answered.
            MeasurementError: it cannot be started.
        """
        found = self._ask(chunk, whole=whole)
        assert found is not None
        return found

    def _ask(self, chunk: Chunk | None, *, whole: bool = False) -> Answered | None:
        if self.process is None:
            self.start()
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if not self._ready:
                send(process.stdin, self.job)
                self._wrong = receive(process.stdout)
                self._ready = True
            if chunk is None:
                return None
            send(process.stdin, (chunk, None if whole else PATIENCE_S))
            done: Answered = receive(process.stdout)
            return done
        except (OSError, EOFError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(JOINED_S)  # its pipe ends a little before itself
            code = self.end()
            if not self._ready and code > 0:
                raise MeasurementError(
                    f"a process of --jobs could not be started (exit code {code}); what it said "
                    "stands above. Leave out --jobs to predict in one process"
                ) from None
            raise Lost(f"the process that predicted this row ended: {_reason(code)}") from None

    def kill(self) -> None:
        """Have the process end; whoever waits for its answer is told that it is lost."""
        if (process := self.process) is not None:
            process.terminate()

    def end(self) -> int:
        """End the process, which may be in the middle of a row; its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.terminate()
        try:
            code = process.wait(JOINED_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()
        return code


def _reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"signal {-code}"
