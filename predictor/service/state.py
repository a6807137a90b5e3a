"""What a running service holds: its pool, profiles, caches, searches, figures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from predictor.service import logs
from predictor.service.cache import Cache
from predictor.service.metrics import Metrics
from predictor.service.pool import Pool, Worker, spawn
from predictor.service.problems import Refusal
from predictor.service.profiles import Profiles, damaged_of
from predictor.service.searches import Searches
from predictor.service.settings import Settings
from predictor.service.wire import Ask, Gone, Reply
from predictor.service.worker import NICE

LISTED_BYTES = 64_000_000
NAMED_S = 120.0
VERIFY_S = 300.0
"""Seconds that loading all targets of the changed devices may take."""


class State:
    """One service. ``scratch`` is an empty folder of its own."""

    def __init__(self, settings: Settings, scratch: Path, document: bytes) -> None:
        self.settings, self.document = settings, document
        self.profiles = Profiles(scratch)
        work = scratch / "work"
        work.mkdir()
        self.pool = Pool(settings, self.profiles.home, work)
        self.cache = Cache(settings.limits.cache_bytes)
        self.listed = Cache(LISTED_BYTES)
        self.metrics = Metrics()
        self.searches = Searches(self.pool)
        self.stopping = asyncio.Event()
        self.ready = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self._watch: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._figures()

    def _figures(self) -> None:
        watch = self.metrics.watch
        watch("workers", "Processes that predict.", lambda: len(self.pool.workers))
        watch("workers_idle", "Processes that wait for a request.", lambda: len(self.pool.idle))
        watch("waiting", "Requests that wait for a process.", lambda: len(self.pool.waiting))
        watch("workers_lost", "Processes that died.", lambda: self.pool.lost)
        watch("workers_killed", "Processes that were killed for the time they took.",
              lambda: self.pool.killed)  # fmt: skip
        watch("cache_bytes", "Size of the answers that are kept.", lambda: self.cache.bytes)
        watch("damaged_profiles", "Devices whose files could not be taken over.",
              lambda: len(self.profiles.damaged))  # fmt: skip
        watch("searches_open", "Searches that wait or run.", self.searches.open)

    async def start(self) -> None:
        """Take the profiles over and start the workers."""
        self.loop = asyncio.get_running_loop()
        await asyncio.to_thread(self.profiles.first)
        self.pool.home = self.profiles.home
        await self.pool.start()
        await asyncio.to_thread(_warm)
        self.ready = True
        self._watch = self.loop.create_task(self._watching())
        logs.emit("info", "ready", workers=len(self.pool.workers), host=self.settings.host,
                  port=self.settings.port, guarded=self.settings.guarded)  # fmt: skip

    async def stop(self) -> None:
        """End everything; requests are answered by then."""
        self.ready = False
        self.stopping.set()
        if self._watch is not None:
            self._watch.cancel()
        await self.searches.stop()
        await self.pool.stop()
        logs.emit("info", "stopped")

    def say_stopping(self) -> None:
        """No one is to wait for events any more. For signal handlers."""
        self.ready = False
        loop = self.loop
        if loop is not None:
            loop.call_soon_threadsafe(lambda: loop.create_task(self._wake()))

    async def _wake(self) -> None:
        self.stopping.set()
        for job in self.searches.jobs.values():
            await job.tell()

    # -- profiles -------------------------------------------------------------------------------

    async def look(self) -> None:
        """Take over profiles that have changed, as far as they are sound."""
        async with self._looking:
            changed = await asyncio.to_thread(self.profiles.changed)
            if not changed:
                return
            damaged = await self.profiles.load(self._verify)
            self._moved(damaged)
            self.metrics.reloads.labels("damaged" if damaged else "ok").inc()
            logs.emit("info", "profiles were taken over", devices=len(changed),
                      damaged=len(damaged))  # fmt: skip

    def _moved(self, damaged: Mapping[str, str]) -> None:
        self.pool.move(self.profiles.home)
        self.cache.clear()
        self.listed.clear()
        for name, fault in damaged.items():
            logs.emit("error", "a profile is damaged; what was served before stays",
                      device=name, error=fault)  # fmt: skip

    async def _look_through(self) -> None:
        """What would be found out by the first who asks for it, in a process beside the others."""
        try:
            async with self._looking:
                damaged = await self.profiles.sift(self._verify)
                if damaged:
                    self._moved(damaged)
            home = self.pool.home
            worker = await self._beside(home)
            try:
                for kind in ("devices", "models", "spaces"):
                    async with asyncio.timeout(NAMED_S):
                        reply = await worker.ask(Ask(kind, settings="{}"))
                    if reply.status == 200 and self.pool.home == home:
                        self.listed.put(_named(kind, {}), reply.body)
            finally:
                worker.end(kill=True)
        except (OSError, Refusal, Gone, TimeoutError) as error:
            logs.emit("error", "the profiles could not be looked through", error=str(error))

    async def _beside(self, home: Path) -> Worker:
        """A process for what nobody waits for: it gives way to those that answer requests."""
        return await spawn(self.pool.context, home, self.pool.scratch, self.settings, nice=NICE)

    async def named(self, kind: str, **said: str) -> Reply:
        """Devices, models or spaces, asked for once as long as the profiles are the same."""
        key = _named(kind, said)
        body = self.listed.get(key)
        if body is not None:
            return Reply(body=body)
        home = self.pool.home
        reply = await self.pool.ask(Ask(kind, settings=json.dumps(said)), seconds=NAMED_S)
        if reply.status == 200 and self.pool.home == home:
            self.listed.put(key, reply.body)
        return reply

    async def _verify(self, home: Path, names: Sequence[str]) -> Mapping[str, str]:
        """What is wrong with the named devices in ``home``, in a process of its own."""
        if not names:
            return {}
        worker = await self._beside(home)
        try:
            async with asyncio.timeout(VERIFY_S):
                reply = await worker.ask(Ask("verify", settings=json.dumps(list(names))))
        except (Gone, TimeoutError):
            if len(names) == 1:
                return {names[0]: "the process that loaded it died, or took too long"}
            found: dict[str, str] = {}
            for name in names:  # one of them kills its reader: the others shall not suffer
                found |= await self._verify(home, [name])
            return found
        finally:
            worker.end(kill=True)
        if reply.status != 200:
            raise Refusal("internal", f"profiles cannot be verified: {reply.message} {reply.trace}")
        return damaged_of(reply.body)

    async def _watching(self) -> None:
        if self.settings.look_through:
            await self._look_through()
        while True:
            await asyncio.sleep(self.settings.watch_s)
            try:
                await self.look()
            except (OSError, Refusal) as error:
                logs.emit("error", "profiles could not be looked at", error=str(error))


def _named(kind: str, said: Mapping[str, str]) -> bytes:
    return Cache.key(kind.encode(), json.dumps(said).encode())


def _warm() -> None:
    """What the first search would wait for, and everybody else with it."""
    from predictor.service import schemas
    from predictor.service.names import signals

    signals()
    schemas.accepts("Search", {})
