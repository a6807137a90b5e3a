"""Tables cut into chunks of rows, which any process or machine answers.

    splitter = Splitter("models.csv")
    for data in stream:                          # bytes as they come
        for chunk in splitter.feed(data):
            job = job or Job("models.csv", splitter.columns, ("jetson",))
            done = answer_chunk(job, chunk)      # here, or in another process
    for chunk in splitter.finish(): ...

A :class:`Job` and a :class:`Chunk` are all that an answer needs.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from predictor.batching.answering import answer, answers
from predictor.batching.tasks import ADDED, NOT_READ, Answer, Task, task_of
from predictor.tables import (
    ENCODING,
    ERRORS,
    Piece,
    Records,
    Row,
    csv_line,
    free_names,
    header_of,
    need,
    row_of,
)

MOST_ROWS = 4096
"""Records of a chunk."""
MOST_BYTES = 1 << 18
"""Bytes of a chunk; one that holds a single record may have more (see predictor.tables)."""

Chunk = Piece
"""Whole records of a table, and where they stand in it."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every row of a table is asked; a few hundred bytes that travel with each chunk.

    ``name`` is what messages call the table, and relative files of its rows lie beside it (on the
    machine that answers). ``settings`` are those of ``predict``. ``python`` lets rows name Python
    files; ``paths`` False refuses whatever names a file, model or device: for rows that come from
    the network.
    """

    name: str
    columns: tuple[str, ...]
    devices: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    python: bool = False
    paths: bool = True

    @property
    def carried(self) -> tuple[str, ...]:
        """The table's columns under the names that they have in the output."""
        return free_names(self.columns, ADDED)

    @property
    def names_device(self) -> bool:
        """The output needs a column of its own for the device."""
        return len(self.devices) > 1 and "device" not in self.columns

    @property
    def header(self) -> tuple[str, ...]:
        """Columns of the output."""
        return (*self.carried, *(("device",) if self.names_device else ()), *ADDED)

    @property
    def header_line(self) -> bytes:
        """The first line of the output."""
        return csv_line(self.header).encode(ENCODING, ERRORS)

    def check(self) -> None:
        """Raise ConfigError where the table has no column ``model``, and what is wrong with a
        device or a setting that every row would share."""
        need(self.columns, "model", self.name)
        from predictor.batching.answering import check_device

        for device in self.devices:
            check_device(device, self.settings, paths=self.paths)

    def remarks(self) -> Iterator[str]:
        """What a reader of the output may not expect."""
        for old, new in zip(self.columns, self.carried, strict=True):
            if old != new:
                yield f"the column '{old}' of the table is '{new}' in the output"
        for name in NOT_READ:
            if name in self.columns:
                option = name.replace("_", "-")
                yield f"the column '{name}' is carried through, not read: use --{option}"

    def task(self, row: Row) -> Task:
        """What the row asks for."""
        return task_of(row, self, self.devices, self.settings, python=self.python,
                       paths=self.paths)  # fmt: skip

    def line(self, row: Row, answer: Answer) -> tuple[str, ...]:
        """The cells of one row of the output."""
        if len(self.devices) < 2:
            return (*row.cells, *answer.cells)
        cells = list(row.cells)
        device = answer.device or ""
        if not self.names_device:
            cells[self.columns.index("device")] = device
        return (*cells, *((device,) if self.names_device else ()), *answer.cells)


class Splitter:
    """Cuts a table, which comes in any pieces, into chunks.

    Args:
        name: what messages call it.
        columns: of a table whose header was read already.
        line, offset: where the bytes that come first stand in that table.
        rows: records a chunk at the most.

    ``columns`` is None until the header was read.
    """

    def __init__(
        self, name: str, columns: tuple[str, ...] | None = None, *, line: int = 1, offset: int = 0,
        rows: int = MOST_ROWS,
    ) -> None:  # fmt: skip
        self.name, self.columns, self.rows = name, columns, rows
        self._records = Records(line, offset)

    def feed(self, data: bytes) -> list[Chunk]:
        """More bytes; the chunks of what is now there in full.

        Raises:
            ConfigError: the first record is no header of a table.
        """
        self._records.feed(data)
        return list(iter(self.take, None))

    def finish(self) -> list[Chunk]:
        """No more bytes; the chunks of what is left. Raises as :meth:`feed`."""
        self._records.finish()
        found = list(iter(self.take, None))
        if self.columns is None:
            header_of(None, self.name)
        return found

    def add(self, data: bytes) -> None:
        """More bytes, for :meth:`take`; empty at the end."""
        if data:
            self._records.feed(data)
        else:
            self._records.finish()

    def take(self, rows: int = 0) -> Chunk | None:
        """The next chunk of at most ``rows`` records, as far as they are there; None: none is."""
        if self.columns is None:
            header = self._records.cut()
            if header is None:
                return None
            self.columns = header_of(header, self.name)
        return self._records.cut(rows or self.rows, MOST_BYTES)


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers of a chunk: lines of the output, and how it went.

    ``lines`` of output were written, of which ``failed`` hold an error; ``first_error`` names the
    line of the table, and ``exit_code`` is that error's. ``rows`` records took ``seconds``;
    ``end`` is the table's offset behind them. ``rest`` are records that were left.
    """

    data: bytes
    rows: int
    lines: int
    failed: int
    first_error: str
    exit_code: int
    seconds: float
    end: int
    rest: Chunk | None = None


def joined(parts: Sequence[Answered], rest: Chunk | None = None) -> Answered:
    """Answers that follow each other as one; ``rest`` is what is left behind them."""
    failed = [part for part in parts if part.failed]
    return Answered(
        b"".join(part.data for part in parts), sum(part.rows for part in parts),
        sum(part.lines for part in parts), sum(part.failed for part in parts),
        failed[0].first_error if failed else "", failed[0].exit_code if failed else 0,
        sum(part.seconds for part in parts), parts[-1].end, rest,
    )  # fmt: skip


def answer_chunk(job: Job, chunk: Chunk, patience_s: float | None = None) -> Answered:
    """Predict the rows of a chunk; whatever goes wrong with a row is in that row.

    Args:
        patience_s: seconds after which the rows that are left come back as ``rest``, so that what
            is known already can be written; at least one is answered. None answers all.
    """
    began = time.monotonic()
    pieces, rows = _rows(job, chunk)
    out = _Lines(job)
    given = answers([job.task(row) for row in rows])
    for number, (row, found) in enumerate(zip(rows, given, strict=True), start=1):
        for one in found:
            out.add(row, one)
        if patience_s is not None and number < len(rows) and time.monotonic() - began > patience_s:
            left = behind(chunk, pieces[number - 1], number)
            return out.answered(began, number, pieces[number - 1].end, left)
    return out.answered(began, chunk.rows, chunk.end)


def answer_row(job: Job, row: Row, devices: Sequence[str | None]) -> Answered:
    """Predict one row on some of its devices."""
    began = time.monotonic()
    out = _Lines(job)
    for one in answer(replace(job.task(row), devices=tuple(devices))):
        out.add(row, one)
    return out.answered(began, 1, row.end)


def fail_chunk(job: Job, chunk: Chunk, error: str, exit_code: int = 1) -> Answered:
    """A chunk whose rows cannot be predicted, all for one reason."""
    began = time.monotonic()
    out = _Lines(job)
    for row in _rows(job, chunk)[1]:
        for device in job.task(row).devices:
            out.add(row, Answer(device, error=error, exit_code=exit_code))
    return out.answered(began, chunk.rows, chunk.end)


def cut_up(chunk: Chunk, rows: int = 1) -> list[Chunk]:
    """The same records as chunks of at most ``rows``."""
    records = Records(chunk.line, chunk.end - len(chunk.data))
    records.feed(chunk.data)
    records.finish()
    found = list(iter(lambda: records.cut(rows, MOST_BYTES), None))
    if found and found[-1].end != chunk.end:  # the end of a line that was too long is not in it
        found[-1] = replace(found[-1], end=chunk.end)
    return found


def _rows(job: Job, chunk: Chunk) -> tuple[list[Piece], list[Row]]:
    """The records that are rows, and those rows."""
    pieces, rows = [], []
    for piece in cut_up(chunk):
        row = row_of(piece, len(job.columns))
        if row is not None:
            pieces.append(piece)
            rows.append(row)
    return pieces, rows


def behind(chunk: Chunk, last: Piece, rows: int) -> Chunk:
    """What stands in a chunk behind one of its records, the last of ``rows``."""
    data = chunk.data[last.end - (chunk.end - len(chunk.data)) :]
    return Piece(data, last.line + last.data.count(b"\n"), chunk.end, chunk.rows - rows, chunk.cut)


class _Lines:
    """Lines of the output, counted."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.text = io.StringIO()
        self.writer = csv.writer(self.text, lineterminator="\n")
        self.rows = self.lines = self.failed = self.exit_code = 0
        self.first_error = ""

    def add(self, row: Row, answer: Answer) -> None:
        """One answer."""
        self.writer.writerow(self.job.line(row, answer))
        self.lines += 1
        if answer.error:
            self.failed += 1
            self.exit_code = self.exit_code or answer.exit_code
            self.first_error = self.first_error or f"line {row.line}: {answer.error}"

    def answered(self, began: float, rows: int, end: int, rest: Chunk | None = None) -> Answered:
        """The sum of it."""
        data = self.text.getvalue().encode(ENCODING, ERRORS)
        return Answered(data, rows, self.lines, self.failed, self.first_error, self.exit_code,
                        time.monotonic() - began, end, rest)  # fmt: skip
