"""``table:FILE.csv``: accuracies that were measured before, looked up by key."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from predictor.errors import ConfigError, PredictorError, suggest
from predictor.search.accuracy.options import Maker, Options
from predictor.search.candidate import Candidate, Signal, SignalError

KEYS = ("key", "model", "arch")
ACCURACY = "accuracy"


class TableSignal(Signal):
    """The accuracy that a CSV file (also ``.csv.gz``) holds for a candidate's key.

    The keys stand in a column ``key``, ``model`` or ``arch``, the accuracies in ``accuracy`` or the
    one that is named; the first row names the columns. A key twice with two accuracies is an error.
    """

    unit = "%"

    def __init__(
        self,
        file: str | Path,
        *,
        column: str | None = None,
        canonical: Callable[[str], str] | None = None,
    ) -> None:
        """Read the whole table.

        Args:
            file: the CSV file, UTF-8.
            column: the one that holds accuracies.
            canonical: brings a key of the file, and that of a candidate, to the one way of writing
                it; PredictorError from it means that the text is no key.

        Raises:
            ConfigError: a missing file or column, or a damaged row, with file and line.
        """
        self.file, self.name = str(file), f"table:{Path(file).name}"
        self._canonical = canonical
        self._lines: dict[str, int] = {}
        self._accuracies: dict[str, float] = {}
        for line, key, accuracy in _rows(Path(file), column or ACCURACY):
            self._add(line, key, accuracy)
        if not self._accuracies:
            raise ConfigError("the table has no rows", file=self.file)

    def __len__(self) -> int:
        return len(self._accuracies)

    def score(self, candidate: Candidate) -> float:
        """Look it up.

        Raises:
            SignalError: the table has no such key.
        """
        key = candidate.key if self._canonical is None else self._canonical(candidate.key)
        found = self._accuracies.get(key)
        if found is None:
            raise SignalError(
                f"{candidate.key}: not among the {len(self):,} architectures of {self.file}; "
                "another accuracy signal can score it"
            )
        return found

    def _add(self, line: int, key: str, accuracy: float) -> None:
        if self._canonical is not None:
            try:
                key = self._canonical(key)
            except PredictorError as error:
                raise ConfigError(str(error), file=self.file, line=line) from None
        before = self._accuracies.setdefault(key, accuracy)
        if before != accuracy:
            raise ConfigError(
                f"'{key}' has {accuracy:g} here and {before:g} in line {self._lines[key]}; keep "
                "one of them",
                file=self.file, line=line,
            )  # fmt: skip
        self._lines.setdefault(key, line)


def _rows(path: Path, column: str) -> Iterator[tuple[int, str, float]]:
    """Line, key and accuracy of every row."""
    name = str(path)
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    line = 1
    try:
        header = [word.strip().removeprefix("\ufeff") for word in next(reader, [])]
        key_at, accuracy_at = _column(header, KEYS, name), _column(header, (column,), name)
        line = reader.line_num + 1
        for row in reader:
            if row:
                if len(row) != len(header):
                    raise ConfigError(
                        f"{len(row)} cells where the header has {len(header)}", file=name, line=line
                    )
                yield line, row[key_at].strip(), _number(row[accuracy_at], column, name, line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise ConfigError(f"no CSV row: {error}", file=name, line=line) from None


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.name.endswith(".gz") else data).decode("utf-8")
    except FileNotFoundError:
        near = [str(p) for pattern in ("*.csv", "*.csv.gz") for p in path.parent.glob(pattern)]
        raise ConfigError(
            f"accuracy table: there is no file {path}.{suggest(str(path), near)}"
        ) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigError(f"the table cannot be read: {error}", file=str(path)) from None


def _column(header: list[str], wanted: tuple[str, ...], name: str) -> int:
    for word in wanted:
        if header.count(word) == 1:
            return header.index(word)
    raise ConfigError(
        f"one column {' or '.join(wanted)} is needed.{suggest(wanted[0], header)} "
        f"Columns: {', '.join(header) or 'none'}",
        file=name, line=1,
    )  # fmt: skip


def _number(text: str, column: str, name: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{column}: '{text[:80]}' is no finite number", file=name, line=line)
    return value


def _make(rest: str, options: Options) -> Signal:
    return TableSignal(rest, column=options.column, canonical=options.canonical)


SIGNALS: dict[str, Maker] = {"table:": _make}
