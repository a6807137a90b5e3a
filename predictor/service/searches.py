"""Search jobs: a queue, processes that work on it, and who listens to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from typing import Any

from predictor.errors import MissingExtra, suggest
from predictor.service import bodies, logs
from predictor.service.pool import Pool, begun, reap
from predictor.service.problems import Refusal
from predictor.service.settings import Limits
from predictor.service.wire import Gone, Reply, read_reply

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
ENDED = frozenset({DONE, FAILED, CANCELLED})
KEPT = 100
"""Searches that have ended and can still be fetched."""
KEPT_S = 24 * 3600.0
CANCEL_S = 10.0
"""Seconds that a cancelled search has for its last trial."""
LATE_S = 60.0
"""Beyond its time limit, until a search that hangs is killed."""


@dataclass
class Job:
    """One search. ``owner`` is the name of the token that started it."""

    asked: dict[str, Any]
    owner: str | None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: str = QUEUED
    message: str = ""
    code: str = ""
    done: int = 0
    began: float = field(default_factory=time.time)
    front: bytes | None = None
    process: BaseProcess | None = None
    cancelled: bool = False
    version: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def to_dict(self) -> dict[str, Any]:
        """What a client is told."""
        return {
            "id": self.id, "state": self.state, "space": self.asked["space"], "done": self.done,
            "trials": self.asked["trials"], "message": self.message, "code": self.code,
            "began": self.began, "has_front": self.front is not None,
        }  # fmt: skip

    async def tell(self) -> None:
        """Wake whoever listens."""
        async with self.changed:
            self.version += 1
            self.changed.notify_all()


class Searches:
    """The jobs of a service."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.limits = pool, pool.limits
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self.slots = asyncio.Semaphore(self.limits.searches)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, asked: dict[str, Any], owner: str | None) -> Job:
        """Queue a search.

        Raises:
            Refusal: too many wait.
        """
        self._forget()
        if self.open() >= self.limits.searches + self.limits.searches_waiting:
            raise Refusal("too_many_searches", "too many searches wait; try again when some have "
                          "ended", retry_after_s=60)  # fmt: skip
        job = Job(asked, owner)
        self.jobs[job.id] = job
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def open(self) -> int:
        """Searches that wait or run."""
        return sum(job.state not in ENDED for job in self.jobs.values())

    def find(self, name: str, owner: str | None) -> Job:
        """A job of that owner.

        Raises:
            Refusal: there is none of that id, or it is somebody else's.
        """
        job = self.jobs.get(name)
        if job is None or job.owner != owner:
            raise Refusal("not_found", "no search of this id; results are kept for a day")
        return job

    def of(self, owner: str | None) -> list[Job]:
        """All jobs of that owner, the newest first."""
        return [job for job in reversed(self.jobs.values()) if job.owner == owner]

    async def cancel(self, job: Job) -> None:
        """End a search after the trial at hand; what it has found stays."""
        if job.state in ENDED:
            return
        job.cancelled = True
        if job.process is not None:
            self._terminate(job)
        elif job.state == QUEUED:
            job.state = CANCELLED
        await job.tell()

    def _terminate(self, job: Job) -> None:
        assert job.process is not None
        with contextlib.suppress(ValueError, ProcessLookupError):
            job.process.terminate()
        asyncio.get_running_loop().call_later(CANCEL_S, _kill, job)

    async def forget(self, job: Job) -> None:
        """End a search and let go of what it found."""
        await self.cancel(job)
        self.jobs.pop(job.id, None)

    async def stop(self) -> None:
        """End all searches, with what they have found."""
        for job in self.jobs.values():
            await self.cancel(job)
        if self._tasks:
            await asyncio.wait([*self._tasks], timeout=CANCEL_S)
        for job in self.jobs.values():
            _kill(job)
        for task in [*self._tasks]:
            task.cancel()

    def _forget(self) -> None:
        ended = [job for job in self.jobs.values() if job.state in ENDED]
        old = [job for job in ended if time.time() - job.began > KEPT_S]
        for job in {*(j.id for j in old), *(j.id for j in ended[:-KEPT])}:
            del self.jobs[job]

    # -- one job --------------------------------------------------------------------------------

    async def _run(self, job: Job) -> None:
        async with self.slots:
            if job.state != QUEUED:
                return
            job.state = RUNNING
            await job.tell()
            try:
                await self._follow(job)
            except (Gone, OSError, EOFError, TimeoutError) as error:
                ended = CANCELLED if job.cancelled else FAILED
                job.state, job.code = ended, "" if job.cancelled else "worker_lost"
                job.message = job.message if job.cancelled else "the process of this search died"
                if not job.cancelled:
                    logs.emit("warning", "a search was lost", search=job.id, error=str(error))
            finally:
                if job.state not in ENDED:
                    job.state = CANCELLED
                await job.tell()

    async def _follow(self, job: Job) -> None:
        reader, writer = await self._spawn(job)
        process = job.process
        assert process is not None
        until = time.monotonic() + self.limits.search_seconds + LATE_S
        try:
            while job.state not in ENDED:
                async with asyncio.timeout(max(0.1, until - time.monotonic())):
                    self._heard(job, await read_reply(reader))
                await job.tell()
        finally:
            writer.close()
            await asyncio.to_thread(reap, process)
            job.process = None

    def _heard(self, job: Job, reply: Reply) -> None:
        if reply.about:
            job.done = json.loads(reply.about)["done"]
        if reply.code == "found":
            job.front = reply.body
        elif reply.code == "progress":
            job.message = reply.message
        else:
            job.message = reply.message
            job.state = reply.code if reply.code in ENDED else FAILED
            job.code = "" if reply.code in ENDED else reply.code
            if reply.trace:
                logs.emit("error", "internal error", search=job.id, trace=reply.trace)

    async def _spawn(self, job: Job) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        from predictor.service.search_process import main

        pool = self.pool
        args = (str(pool.home), str(pool.scratch), self.limits, json.dumps(job.asked))
        job.process, reader, writer = await begun(pool.context, main, args, daemon=False)
        if job.cancelled:  # while its process was made
            self._terminate(job)
        return reader, writer


def refuse_search(data: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """What a search is told, from a client's JSON that fits its schema.

    Raises:
        Refusal: a space, device or signal that is not offered, or too many trials.
        UnknownDevice: a path instead of a name.
        MissingExtra: this server cannot search.
    """
    from predictor.search.spaces.find import SPACES
    from predictor.service.names import signals

    if find_spec("optuna") is None:
        raise MissingExtra("this server has no packages for searches. Whoever runs it adds them: "
                           "pip install 'latency-predictor[search]'")  # fmt: skip
    asked = {"accuracy": "flops", "trials": 100, **data}
    if asked["space"] not in SPACES:
        raise Refusal("not_found", f"no space '{asked['space'][:60]}'."
                      f"{suggest(asked['space'], SPACES)} See: GET /v1/spaces")  # fmt: skip
    if asked["accuracy"] not in signals():
        raise Refusal("not_found", f"no signal '{asked['accuracy'][:60]}' that is offered here."
                      f"{suggest(asked['accuracy'], signals())} See: GET /v1/spaces")  # fmt: skip
    devices = asked.get("devices") or [asked.get("device")]
    if devices == [None]:
        raise Refusal("no_device", 'no device: add device, such as "device": "jetson"')
    for device in devices:
        bodies.safe_device(device)
    if asked["trials"] > limits.trials:
        raise Refusal("batch_too_large", f"{asked['trials']:,} trials; this server does "
                      f"{limits.trials:,} at most")  # fmt: skip
    return asked


def _kill(job: Job) -> None:
    """End a search that does not end by itself."""
    if job.process is not None and job.state not in ENDED:
        with contextlib.suppress(ValueError):
            job.process.kill()
