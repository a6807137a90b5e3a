"""Chunks of a table answered in order, here or by a crew of processes or machines.

No more than a window of chunks is under way or waits to be written, so memory does not grow with
the table. Chunks begin with one row and grow with how fast rows turn out to be, so that answers
come soon; what takes too long comes back in part, and the rest is cut up anew.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from predictor.batching.jobs import MOST_ROWS, Answered, Chunk, Job, Splitter, answer_chunk, cut_up
from predictor.tables import BLOCK, read_some

AIM_S, PATIENCE_S = 0.3, 1.0
"""Seconds that a chunk should take, and after which one gives back what it did not come to."""
GROWTH = 4
"""How much larger a chunk may be than those before it."""
BLOCKS_AHEAD = 4
"""Blocks of a pipe that are read before they are needed."""
LOOK_S = 0.5
"""Seconds between two looks at whether a crew is still there."""


class Source:
    """A table behind its header, cut into chunks as they are asked for.

    Args:
        stream: where its bytes come from.
        splitter: what was read of it already.
        ahead: read a stream that may have to be waited for (a pipe) in a thread of its own, so
            that :meth:`take` never waits.
    """

    def __init__(self, stream: BinaryIO, splitter: Splitter, *, ahead: bool = False) -> None:
        self._stream, self._splitter = stream, splitter
        self._ended = False
        self.wake = threading.Event()
        """Set when there may be more to take, for those who wait."""
        self._blocks: queue.Queue[bytes | OSError] | None = None
        if ahead and not _is_file(stream):
            self._blocks = queue.Queue(BLOCKS_AHEAD)
            threading.Thread(target=self._read_ahead, name="table", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    def take(self, rows: int) -> Chunk | None:
        """The next chunk of at most ``rows`` records; None at the end, or where none is there yet.

        Raises:
            OSError: the table cannot be read any further.
        """
        chunk = self._splitter.take(rows)
        while chunk is None and not self._ended:
            data = self._block()
            if data is None:
                return None
            self._ended = not data
            self._splitter.add(data)
            chunk = self._splitter.take(rows)
        return chunk

    def _block(self) -> bytes | None:
        if self._blocks is None:
            return read_some(self._stream)
        try:
            block = self._blocks.get_nowait()
        except queue.Empty:
            return None
        if isinstance(block, OSError):
            raise block
        return block

    def _read_ahead(self) -> None:
        assert self._blocks is not None
        # Past the buffer, which is empty: its lock would be held while the program ends.
        raw = getattr(self._stream, "raw", self._stream)
        while True:
            try:
                block: bytes | OSError = raw.read(BLOCK) or b""
            except OSError as error:
                block = error
            self._blocks.put(block)
            self.wake.set()
            if not block or isinstance(block, OSError):
                return


def _is_file(stream: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # bytes in memory
        return True


class Promise(Protocol):
    """A chunk under way."""

    def done(self) -> bool:
        """Whether the answer is there."""
        ...

    def result(self) -> Answered:
        """The answer.

        Raises:
            PredictorError: the crew is lost.
        """
        ...


class Crew(Protocol):
    """Others that answer chunks."""

    @property
    def width(self) -> int:
        """How many chunks should be under way."""
        ...

    def submit(self, chunk: Chunk, wake: threading.Event) -> Promise:
        """Have a chunk answered; ``wake`` is set when it is."""
        ...

    def look(self) -> None:
        """Raise PredictorError where the crew is lost."""
        ...


class Pace:
    """How many rows the next chunk should have."""

    def __init__(self) -> None:
        self.rows = 1

    def learn(self, answered: Answered, asked: int) -> None:
        """Take in how long a chunk took. ``asked`` is how many records it had."""
        each = answered.seconds / max(answered.rows, 1)
        wanted = int(min(AIM_S / each if each > 0 else MOST_ROWS, MOST_ROWS))
        if answered.rest is not None or wanted < asked:
            self.rows = max(1, wanted)
        else:  # short chunks of a slow pipe say nothing of long ones
            self.rows = max(self.rows, min(wanted, GROWTH * asked), 1)


def answered_here(job: Job, source: Source) -> Iterator[Answered]:
    """The chunks of ``source``, one after the other, in this process."""
    pace = Pace()
    left: deque[Chunk] = deque()
    while True:
        chunk = left.popleft() if left else source.take(pace.rows)
        if chunk is None:
            return
        done = answer_chunk(job, chunk, PATIENCE_S)
        pace.learn(done, chunk.rows)
        if done.rest is not None:
            left.extendleft(reversed(cut_up(done.rest, pace.rows)))
        yield done


@dataclass(slots=True)
class _Place:
    """A chunk in the order of the table."""

    chunk: Chunk
    promise: Promise | None = None


def answered_by(crew: Crew, source: Source) -> Iterator[Answered]:
    """The chunks of ``source`` in their order, answered by a crew.

    Raises:
        PredictorError: the crew is lost.
    """
    pace, wake = Pace(), source.wake
    order: deque[_Place] = deque()
    looked = time.monotonic()
    while True:
        wake.clear()
        width = crew.width
        while len(order) < width and (chunk := source.take(pace.rows)) is not None:
            order.append(_Place(chunk))
            _submit(crew, order, width, wake)
        _submit(crew, order, width, wake)
        if not order and source.ended:
            return
        if time.monotonic() - looked > LOOK_S:
            crew.look()
            looked = time.monotonic()
        if not order or order[0].promise is None or not order[0].promise.done():
            wake.wait(LOOK_S)
            continue
        first = order.popleft()
        assert first.promise is not None
        done = first.promise.result()
        pace.learn(done, first.chunk.rows)
        if done.rest is not None:
            order.extendleft(map(_Place, reversed(cut_up(done.rest, pace.rows))))
        yield done


def _submit(crew: Crew, order: deque[_Place], width: int, wake: threading.Event) -> None:
    """Put chunks under way, the first first; what is done waits for its turn and does not count."""
    under_way = sum(place.promise is not None and not place.promise.done() for place in order)
    for place in order:
        if under_way >= width:
            return
        if place.promise is None:
            place.promise = crew.submit(place.chunk, wake)
            under_way += 1
