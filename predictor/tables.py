"""CSV tables row by row: bounded memory, and a place for every mistake.

    with open_table("models.csv") as table:
        for row in table.rows():
            row.cells, row.line, row.fault

Bytes that are no UTF-8 are carried through unchanged. A row that is no valid CSV is a row with a
``fault``, so that the others still count.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from predictor.errors import ConfigError, suggest

LONGEST_LINE = 1 << 20
"""Bytes; a longer line is no row of a table, and is refused before it fills the memory."""
ENCODING, ERRORS = "utf-8", "surrogateescape"


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


class Table:
    """A CSV table under reading: its ``columns``, then its :meth:`rows`, once.

    Raises:
        ConfigError: no header, another encoding, or an endless line, each with its place.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self._lines = _Lines(stream, name)
        self._reader = csv.reader(self._lines, strict=True)
        try:
            header = next(self._reader, None)
        except csv.Error as error:
            raise ConfigError(f"no CSV header: {error}", file=name, line=1) from None
        if not header or not any(cell.strip() for cell in header):
            raise ConfigError("the first line must hold the names of the columns, such as "
                              "model,batch", file=name, line=1)  # fmt: skip
        self.columns = tuple(cell.strip() for cell in header)

    @property
    def bytes_read(self) -> int:
        """How far the reading has come."""
        return self._lines.offset

    def need(self, column: str) -> None:
        """Raises ConfigError where the table lacks ``column``."""
        if column in self.columns:
            return
        said = ", ".join(self.columns)
        hint = suggest(column, self.columns)
        for other, word in ((";", "semicolons"), ("\t", "tabs")):
            if len(self.columns) == 1 and other in self.columns[0]:
                hint = f" The line has {word} in it: separate the cells with commas."
        raise ConfigError(f"no column '{column}' among: {said[:200]}.{hint}", file=self.name,
                          line=1)  # fmt: skip

    def rows(self) -> Iterator[Row]:
        """All rows; empty lines are skipped."""
        width = len(self.columns)
        while True:
            line = self._lines.number + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(("",) * width, line, self._lines.offset, f"no valid CSV: {error}",
                          whole=not self._lines.finished)  # fmt: skip
                continue
            if not cells:
                continue
            fault = ""
            if len(cells) > width:
                fault = f"{len(cells)} cells, and the header has {width} columns"
            whole = len(cells) == width and self._lines.ended
            padded = (*cells[:width], *[""] * (width - len(cells)))
            yield Row(padded, line, self._lines.offset, fault, whole)


class _Lines:
    """Decoded lines of a binary stream, counted."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream, self.name = stream, name
        self.number = self.offset = 0
        self.ended = True
        """The last line had its newline."""
        self.finished = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        data = self.stream.readline(LONGEST_LINE + 1)
        if not data:
            self.finished = True
            raise StopIteration
        self.number += 1
        self.offset += len(data)
        self.ended = data.endswith(b"\n")
        if self.number == 1:
            if data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ConfigError("this is UTF-16; save the table as UTF-8", file=self.name)
            data = data.removeprefix(b"\xef\xbb\xbf")
        if len(data) > LONGEST_LINE:
            raise ConfigError("a line of more than 1 MiB: this is no table", file=self.name,
                              line=self.number)  # fmt: skip
        return data.decode(ENCODING, ERRORS)


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
