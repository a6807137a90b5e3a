"""CSV tables row by row: bounded memory, and a place for every mistake.

    with open_table("models.csv") as table:
        for row in table.rows():
            row.cells, row.line, row.fault

Bytes that are no UTF-8 are carried through unchanged. A row that is no valid CSV is a row with a
``fault``, so that the others still count. :class:`Records` says where a row ends, from bytes that
come in any pieces; what is read here at once, and what is cut up for others to read, agree.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from predictor.errors import ConfigError, suggest

LONGEST_LINE = 1 << 20
"""Bytes; a longer line is no row of a table, and is cut before it fills the memory."""
LONGEST_CELL = 1 << 17
"""Bytes after which a quoted cell ends with its line: its closing quote was forgotten. Python's CSV
reader takes no longer one."""
BLOCK = 1 << 16
"""Bytes read at once."""
ENCODING, ERRORS = "utf-8", "surrogateescape"


_CELL = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^",\r\n]*+)'
_RECORD = re.compile(rb"(?:" + _CELL + rb",)*+" + _CELL + rb"\r?\n")
"""A record as it should be; others are looked at line by line."""


@dataclass(frozen=True, slots=True)
class Piece:
    """``rows`` records one behind the other; the first begins on line ``line`` of the file.

    ``end`` is the offset in the file behind them. ``cut`` says that the file ended within quotes.
    """

    data: bytes
    line: int
    end: int
    rows: int
    cut: bool = False


class Records:
    """Cuts bytes, which come in any pieces, where records end.

    A record ends with the line on which no quote is open, as Python's CSV reader sees it. A line of
    more than LONGEST_LINE bytes is a record of its first LONGEST_LINE + 1 bytes, and a quoted cell
    ends at the latest with the line on which it passes LONGEST_CELL: what is held is bounded.
    """

    def __init__(self, line: int = 1, offset: int = 0) -> None:
        self.line, self.offset = line, offset
        """Where the next record begins: its line, and its bytes from the file's start."""
        self._bytes = bytearray()
        self._at = self._scan = self._stop = 0
        # Within _bytes: where the next record begins, the line that is to be looked at next, and
        # the end of the last whole line.
        self._cell = -1  # where the quoted cell that is open begins
        self._skipping = self._finished = False

    def feed(self, data: bytes) -> None:
        """More of the file."""
        if self._skipping:  # the rest of a line that is too long
            end = data.find(b"\n") + 1
            self.offset += end or len(data)
            if not end:
                return
            self._skipping, data = False, data[end:]
            self.line += 1
        if self._at:
            del self._bytes[: self._at]
            self._scan, self._cell = self._scan - self._at, self._cell - self._at
            self._at = self._stop = 0
        newline = data.rfind(b"\n") + 1
        if newline:
            self._stop = len(self._bytes) + newline
        self._bytes += data

    def finish(self) -> None:
        """The file ends here."""
        self._finished = True

    def rest(self) -> bytes:
        """What was fed and not cut off yet, which is then forgotten."""
        left = bytes(self._bytes[self._at :])
        self._bytes.clear()
        self._at = self._scan = self._stop = 0
        return left

    def cut(self, rows: int = 1, most: int = LONGEST_LINE) -> Piece | None:
        """Up to ``rows`` records that are there in full, no more than begin within ``most`` bytes.

        None where there is none yet.
        """
        start = at = self._at
        count, data, stop = 0, self._bytes, self._stop
        while count < rows and at - start < most:
            found = _RECORD.match(data, at, stop) if at < stop and self._scan == at else None
            if found is not None and found.end() - at <= LONGEST_CELL:
                at = self._scan = found.end()
                count += 1
                continue
            del found
            self._at = at
            odd = self._odd()
            if odd is None:
                break
            end, taken, cut = odd
            if taken < end or cut:  # alone: it is not what the file holds, or its last
                if count:
                    self._scan, self._cell = at, -1
                    break
                return self._piece(end, 1, taken, cut)
            at = self._scan = end
            self._cell = -1
            count += 1
        self._at = start
        return self._piece(at, count, at) if count else None

    def _piece(self, end: int, rows: int, taken: int, cut: bool = False) -> Piece:
        found = bytes(self._bytes[self._at : taken])
        line, self.offset = self.line, self.offset + end - self._at
        ended = self._bytes[end - 1 : end] == b"\n"
        self.line += found.count(b"\n") + (ended and taken < end)
        self._at = self._scan = end
        self._cell = -1
        return Piece(found, line, self.offset, rows, cut)

    def _odd(self) -> tuple[int, int, bool] | None:
        """The end of the record at ``_at``, the end of what is kept of it, and whether the file
        ends within its quotes; None where more must come."""
        while True:
            end = self._bytes.find(b"\n", self._scan) + 1 if self._scan < self._stop else 0
            limit = self._scan + LONGEST_LINE
            if not end:
                left = len(self._bytes)
                if left > limit:
                    self._skipping = not self._finished
                    return left, limit + 1, False
                if not self._finished or self._at == left:
                    return None
                end = left
            if end > limit:
                return end, limit + 1, False
            if self._scan < end:
                opened = _open_after(bytes(self._bytes[self._scan : end]), self._cell >= 0)
                if opened != _SAME:
                    self._cell = self._scan + opened if opened >= 0 else -1
            if self._cell < 0:
                return end, end, False
            if end - self._cell > LONGEST_CELL or end - self._at > LONGEST_LINE:
                return end, end, False
            if self._finished and end == len(self._bytes):
                return end, end, True
            self._scan = end


_SAME = -2


def _open_after(line: bytes, inside: bool) -> int:
    """Where in the line the quoted cell begins that is open at its end.

    -1: none is. _SAME: the one that was open (``inside``) at its start.
    """
    at, opened = 0, _SAME
    while True:
        if inside:
            quote = line.find(b'"', at)
            if quote < 0:
                return opened
            behind = line[quote + 1 : quote + 2]
            if behind != b'"' and behind != b",":
                return -1  # the end of the record, or a mistake, which ends with its line
            inside, at = behind == b'"', quote + 2
        elif line.startswith(b'"', at):
            inside, opened, at = True, at, at + 1
        else:
            comma = line.find(b",", at)
            if comma < 0 or line.find(b"\r", at, comma) >= 0:
                return -1
            at = comma + 1


@dataclass(frozen=True, slots=True)
class Row:
    """One row. ``cells`` are as many as the table has columns; ``fault`` says why it cannot count.

    ``line`` is the line of the file that the row begins on, ``end`` the bytes up to its end.
    ``whole`` is False for the last row of a file that was cut in it.
    """

    cells: tuple[str, ...]
    line: int
    end: int
    fault: str = ""
    whole: bool = True


def row_of(piece: Piece, width: int) -> Row | None:
    """The row that one record is; None where its line is empty."""
    data = piece.data
    cells: list[str] = []
    fault = ""
    if len(data) > LONGEST_LINE and max(map(len, data.split(b"\n"))) >= LONGEST_LINE:
        fault = "a line of more than 1 MiB"
    else:
        try:
            cells = next(csv.reader((data.decode(ENCODING, ERRORS),), strict=True), [])
        except csv.Error as error:
            fault = f"no valid CSV: {error}"
    if fault:
        return Row(("",) * width, piece.line, piece.end, fault, whole=not piece.cut)
    if len(cells) == width:
        return Row(tuple(cells), piece.line, piece.end, "", data.endswith(b"\n"))
    if not cells:
        return None
    if len(cells) > width:
        fault = f"{len(cells)} cells, and the header has {width} columns"
    padded = (*cells[:width], *[""] * (width - len(cells)))
    return Row(padded, piece.line, piece.end, fault, False)


def header_of(piece: Piece | None, name: str) -> tuple[str, ...]:
    """The columns that a table's first record names; None: there is none.

    Raises:
        ConfigError: no header, another encoding, or an endless line, each with its place.
    """
    data = piece.data if piece else b""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError("this is UTF-16; save the table as UTF-8", file=name)
    if len(data) > LONGEST_LINE:
        raise ConfigError("a line of more than 1 MiB: this is no table", file=name, line=1)
    text = data.removeprefix(b"\xef\xbb\xbf").decode(ENCODING, ERRORS)
    try:
        header = next(csv.reader((text,), strict=True), None)
    except csv.Error as error:
        raise ConfigError(f"no CSV header: {error}", file=name, line=1) from None
    if not header or not any(cell.strip() for cell in header):
        raise ConfigError("the first line must hold the names of the columns, such as "
                          "model,batch", file=name, line=1)  # fmt: skip
    return tuple(cell.strip() for cell in header)


def need(columns: Sequence[str], column: str, name: str) -> None:
    """Raises ConfigError where ``columns`` of the table ``name`` lack ``column``."""
    if column in columns:
        return
    hint = suggest(column, columns)
    for other, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(columns) == 1 and other in columns[0]:
            hint = f" The line has {word} in it: separate the cells with commas."
    raise ConfigError(f"no column '{column}' among: {', '.join(columns)[:200]}.{hint}", file=name,
                      line=1)  # fmt: skip


class Table:
    """A CSV table under reading: its ``columns``, then its :meth:`rows`, once.

    Raises:
        ConfigError: no header, another encoding, or an endless line, each with its place.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name, self.stream = name, stream
        self._records = Records()
        self._done = False
        self.columns = header_of(self._next(), name)

    @property
    def bytes_read(self) -> int:
        """How far the reading has come."""
        return self._records.offset

    @property
    def line(self) -> int:
        """The line that comes next."""
        return self._records.line

    def need(self, column: str) -> None:
        """Raises ConfigError where the table lacks ``column``."""
        need(self.columns, column, self.name)

    def rows(self) -> Iterator[Row]:
        """All rows; empty lines are skipped."""
        width = len(self.columns)
        while (piece := self._next()) is not None:
            row = row_of(piece, width)
            if row is not None:
                yield row

    def rest(self) -> bytes:
        """Bytes read from the stream behind the last row, for another to go on with."""
        self._done = True
        return self._records.rest()

    def _next(self) -> Piece | None:
        piece = self._records.cut()
        while piece is None and not self._done:
            data = read_some(self.stream)
            if data:
                self._records.feed(data)
            else:
                self._records.finish()
                self._done = True
            piece = self._records.cut()
        return piece


def read_some(stream: BinaryIO) -> bytes:
    """What is there, up to BLOCK bytes; waits for the first. Empty at the end."""
    read = getattr(stream, "read1", stream.read)
    found: bytes = read(BLOCK)
    return found


@contextlib.contextmanager
def open_table(path: str | os.PathLike[str]) -> Iterator[Table]:
    """The table in a file, or on standard input for ``-``.

    Raises:
        ConfigError: the file cannot be read, or is no table.
    """
    name = os.fspath(path)
    if name == "-":
        yield Table(sys.stdin.buffer, "<stdin>")
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115 - closed below
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"the table cannot be read: {reason}", file=name) from None
    with stream:
        yield Table(stream, name)


def csv_line(cells: Iterable[str]) -> str:
    """One row as CSV text, with its newline."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def free_names(columns: Sequence[str], added: Sequence[str]) -> tuple[str, ...]:
    """``columns`` with ``input_`` in front of those that ``added`` ones are called."""
    names: list[str] = []
    for column in columns:
        name = column
        while name in added or (name != column and (name in columns or name in names)):
            name = f"input_{name}"
        names.append(name)
    return tuple(names)
