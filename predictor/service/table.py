"""A CSV table over HTTP: the answer streams, in the table's order, whatever its length.

The body is spooled to a file first: a client that sends all before it reads anything would
otherwise wait for a server that waits for it. Then chunks go to the workers, so many at a time as
there are workers; a chunk that ends its worker is asked again row by row, and the row that does it
says so.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from typing import IO

from predictor.batching import Chunk, Job, Splitter, cut_up, fail_chunk
from predictor.service.bodies import table_query
from predictor.service.pool import Pool
from predictor.service.problems import Refusal
from predictor.service.rows import NAME, said_of
from predictor.service.wire import Ask

BLOCK = 1 << 16
IN_MEMORY = 1 << 20
"""Bytes of a table that are not written to a file."""
WANTED_S = 0.3
"""Seconds that a chunk should take: what is known is sent at least that often."""
MOST_ROWS = 4096
LOST = frozenset({"timeout", "worker_lost", "out_of_memory"})
"""What may be the fault of one row of a chunk."""


async def spooled(pieces: AsyncIterator[bytes]) -> IO[bytes]:
    """The whole body in a file, at its beginning."""
    file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed by who reads it
    async for piece in pieces:
        file.write(piece)
    file.seek(0)
    return file


class Table:
    """One table under way.

    Raises:
        Refusal, PredictorError: from :meth:`start`, where every row would fail.
    """

    def __init__(self, pool: Pool, file: IO[bytes], query: str) -> None:
        self.pool, self.file = pool, file
        self.devices, self.settings = table_query(query)
        self.splitter = Splitter(NAME)
        self.rows = 1
        self.job: Job | None = None
        self.ended = False

    async def start(self) -> None:
        """Read the header and try the devices."""
        first = self._next(1)
        columns = self.splitter.columns
        if columns is None:
            self.splitter.finish()  # raises: there is no header
        self.job = Job(NAME, columns or (), self.devices, self.settings, paths=False)
        self.first = first
        reply = await self.pool.ask(Ask("check", settings=said_of(self.job)))
        if reply.status != 200:
            raise Refusal(reply.code, reply.message, retry_after_s=reply.retry_after_s)

    async def lines(self) -> AsyncIterator[bytes]:
        """The output, as it becomes known."""
        assert self.job is not None
        yield self.job.header_line
        waiting: deque[asyncio.Task[bytes]] = deque()
        try:
            chunk = self.first
            while chunk is not None or waiting:
                while chunk is not None and len(waiting) < self.pool.size + 1:
                    waiting.append(asyncio.create_task(self._answered(chunk)))
                    chunk = self._next(self.rows)
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            self.file.close()

    def _next(self, rows: int) -> Chunk | None:
        """The next chunk; None at the end."""
        while True:
            chunk = self.splitter.take(rows)
            if chunk is not None or self.ended:
                return chunk
            data = self.file.read(BLOCK)
            self.splitter.add(data)
            self.ended = not data

    async def _answered(self, chunk: Chunk) -> bytes:
        found = []
        todo = deque([chunk])
        while todo:
            one = todo.popleft()
            began = asyncio.get_running_loop().time()
            try:
                data, rest = await self._ask(one)
            except Refusal as refusal:
                if refusal.code not in LOST:
                    found.append(self._failed(one, refusal))
                elif one.rows > 1:
                    todo.extendleft(reversed(cut_up(one)))
                else:
                    found.append(self._failed(one, refusal))
                continue
            found.append(data)
            if rest is not None:
                todo.appendleft(rest)
            self._pace(one.rows - (rest.rows if rest else 0), one.rows,
                       asyncio.get_running_loop().time() - began)  # fmt: skip
        return b"".join(found)

    def _pace(self, done: int, asked: int, seconds: float) -> None:
        """As many rows the next time as take the wanted time, doubling at most."""
        fit = int(done * WANTED_S / max(seconds, 1e-6))
        self.rows = max(1, min(fit, 2 * asked, MOST_ROWS))

    async def _ask(self, chunk: Chunk) -> tuple[bytes, Chunk | None]:
        assert self.job is not None
        about = {"line": chunk.line, "end": chunk.end, "rows": chunk.rows, "cut": chunk.cut}
        while True:
            try:
                reply = await self.pool.ask(
                    Ask("rows", chunk.data, settings=said_of(self.job, about))
                )
                break
            except Refusal as refusal:
                if refusal.code != "busy":
                    raise
                await asyncio.sleep(0.2)  # others come first; the table has time
        if reply.status != 200:
            raise Refusal(reply.code, reply.message)
        head, _, data = reply.body.partition(b"\n")
        left = json.loads(head)["rest"]
        return data, Chunk(chunk.data[-left.pop("bytes") :], **left) if left else None

    def _failed(self, chunk: Chunk, refusal: Refusal) -> bytes:
        assert self.job is not None
        return fail_chunk(self.job, chunk, f"{refusal.code}: {refusal.message}").data
