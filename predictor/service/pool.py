"""Worker processes, forked from one that has loaded everything, each with one request at a time.

A worker that crashes, hangs or is killed costs the request that it had; the next one is forked in
its place, in milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from predictor.service import logs
from predictor.service.problems import Refusal
from predictor.service.settings import Settings
from predictor.service.wire import Ask, Gone, Reply, packed, read_reply

RETIRE_AFTER = 20_000
"""Requests until a worker is replaced, so that what leaks does not add up."""
RETIRE_SHARE = 0.5
"""Share of a worker's memory limit at which it is replaced."""
STOP_S = 2.0
FAILED_STARTS = 5
"""Workers in a row that die before their first answer, until the pool waits a moment."""
PRELOAD = "predictor.service.preload"

_STARTING = threading.Lock()


def context(preload: bool) -> ForkServerContext:
    """Processes are forked from one that has imported :mod:`predictor.service.preload`."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([PRELOAD] if preload else [f"{PRELOAD}_light"])
    return found


class Worker:
    """One process and the socket to it."""

    def __init__(self, process: BaseProcess, home: Path, reader: asyncio.StreamReader,
                 writer: asyncio.StreamWriter) -> None:  # fmt: skip
        self.process, self.home, self.reader, self.writer = process, home, reader, writer
        self.pid = process.pid
        self.answered = 0
        self.memory_mb = 0.0

    async def ask(self, ask: Ask) -> Reply:
        """The reply; raises :class:`Gone` where the process dies first."""
        try:
            self.writer.write(packed(ask))
            await self.writer.drain()
        except (ConnectionError, RuntimeError) as error:
            raise Gone(str(error)) from None
        reply = await read_reply(self.reader)
        self.answered += 1
        self.memory_mb = reply.memory_mb
        return reply

    def end(self, *, kill: bool = False) -> None:
        """Let the process end, at once with ``kill``."""
        with contextlib.suppress(Exception):
            self.writer.close()
        if kill:
            with contextlib.suppress(Exception):
                self.process.kill()
        threading.Thread(target=reap, args=(self.process,), daemon=True).start()


def reap(process: BaseProcess) -> None:
    """Wait for a process that is to end, and end it where it does not."""
    process.join(STOP_S)
    if process.is_alive():
        process.kill()
        process.join()
    with contextlib.suppress(ValueError):
        process.close()


class Pool:
    """Workers, and the requests that wait for one.

    ``home`` is the folder of the profiles; workers with another one end when they are free.
    """

    def __init__(self, settings: Settings, home: Path, scratch: Path) -> None:
        self.settings, self.home, self.scratch = settings, home, scratch
        self.limits = settings.limits
        self.context = context(settings.preload)
        self.workers: set[Worker] = set()
        self.idle: deque[Worker] = deque()
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.starting = self.lost = self.killed = 0
        self.size = max(1, settings.workers)
        self.stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._in_a_row = 0

    async def start(self) -> None:
        """Start all workers; raises OSError or :class:`Gone` where none can be."""
        for _ in range(self.size):
            self.free(await self._new())

    async def stop(self) -> None:
        """End all workers; requests under way are lost."""
        self.stopping = True
        for future in self.waiting:
            if not future.done():
                future.set_exception(Refusal("stopping", "the server is stopping"))
        for worker in [*self.workers]:
            self._drop(worker, kill=True)
        for task in [*self._tasks]:
            task.cancel()

    # -- a request ------------------------------------------------------------------------------

    async def ask(self, ask: Ask, seconds: float | None = None) -> Reply:
        """The reply of a worker.

        Raises:
            Refusal: ``busy``, ``timeout``, ``worker_lost`` or ``stopping``.
        """
        worker = await self._worker()
        most = seconds or self.limits.seconds
        try:
            async with asyncio.timeout(most):
                reply = await worker.ask(ask)
        except Gone:
            self.lost += 1
            self._drop(worker, kill=True)
            logs.emit("warning", "a worker died", pid=worker.pid, kind=ask.kind)
            raise Refusal("worker_lost", "the process that had this request died; it is being "
                          "replaced", retry_after_s=1) from None  # fmt: skip
        except TimeoutError:
            self.killed += 1
            self._drop(worker, kill=True)
            logs.emit("warning", "a worker was killed", pid=worker.pid, kind=ask.kind,
                      seconds=most)  # fmt: skip
            raise Refusal("timeout", f"no answer after {most:g} s; a smaller model may do",
                          retry_after_s=30) from None  # fmt: skip
        except BaseException:  # the client went away: what it left behind would be read as a reply
            self._drop(worker, kill=True)
            raise
        self.free(worker)
        return reply

    async def _worker(self) -> Worker:
        while True:
            if self.stopping:
                raise Refusal("stopping", "the server is stopping", retry_after_s=10)
            while self.idle:
                worker = self.idle.popleft()
                if worker in self.workers and not worker.reader.at_eof():
                    return worker
                self._drop(worker, kill=True)
            if len(self.waiting) >= self.limits.waiting:
                raise Refusal("busy", "too many requests wait for a worker", retry_after_s=2)
            future = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            try:
                await future
            finally:
                with contextlib.suppress(ValueError):
                    self.waiting.remove(future)

    def free(self, worker: Worker) -> None:
        """Take a worker back that has answered."""
        worn = (worker.answered >= RETIRE_AFTER
                or worker.memory_mb > RETIRE_SHARE * self.limits.worker_mb)  # fmt: skip
        if worker.home != self.home or worn or self.stopping:
            self._drop(worker)
            return
        self._in_a_row = 0
        self.idle.append(worker)
        self._wake()

    def _wake(self) -> None:
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(None)
                return

    # -- processes ------------------------------------------------------------------------------

    def move(self, home: Path) -> None:
        """Serve from other profiles: idle workers are replaced now, others when they are free."""
        self.home = home
        for worker in [*self.idle]:
            self._drop(worker)
        self.idle.clear()

    def _drop(self, worker: Worker, *, kill: bool = False) -> None:
        if worker not in self.workers:
            return
        self.workers.discard(worker)
        with contextlib.suppress(ValueError):
            self.idle.remove(worker)
        worker.end(kill=kill)
        if not self.stopping and len(self.workers) + self.starting < self.size:
            task = asyncio.get_running_loop().create_task(self._replace())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _replace(self) -> None:
        self.starting += 1
        try:
            self._in_a_row += 1
            if self._in_a_row > FAILED_STARTS:
                await asyncio.sleep(1.0)
            while not self.stopping:
                try:
                    worker = await self._new()
                except (OSError, EOFError, Gone) as error:
                    logs.emit("error", "a worker could not be started", error=str(error))
                    await asyncio.sleep(1.0)
                    continue
                self.free(worker)
                return
        finally:
            self.starting -= 1

    async def _new(self) -> Worker:
        worker = await spawn(self.context, self.home, self.scratch, self.settings)
        self.workers.add(worker)
        return worker


async def spawn(
    mp: ForkServerContext, home: Path, scratch: Path, settings: Settings, *, nice: int = 0
) -> Worker:
    """A new worker process; with ``nice`` it gives way to others."""
    from predictor.service.worker import main

    args = (str(home), str(scratch), settings.limits, nice)
    process, reader, writer = await begun(mp, main, args, daemon=True)
    return Worker(process, home, reader, writer)


async def begun(
    mp: ForkServerContext, main: Callable[..., None], args: tuple[Any, ...], *, daemon: bool
) -> tuple[BaseProcess, asyncio.StreamReader, asyncio.StreamWriter]:
    """A process that runs ``main(sock, *args)``, and the other end of its socket."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def begin() -> BaseProcess:
        with _STARTING:  # the fork server speaks with one at a time
            process = mp.Process(target=main, args=(theirs, *args), daemon=daemon)
            process.start()
            return process

    try:
        process = await asyncio.to_thread(begin)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, *await asyncio.open_connection(sock=ours, limit=1 << 20)
