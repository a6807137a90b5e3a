"""The measured table: kernels timed on the target, found again by their exact signature.

A CSV with one row a kernel: ``signature, latency_ms, repeats, spread`` (``spread`` is the relative
median absolute deviation of the repeats), and any columns for the human reader after them. An entry
is weighted by its repeats and shrunk towards the model: a single noisy timing moves an estimate
little, a hundred that agree replace it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from predictor.errors import ArtifactError
from predictor.graph import Kernel, Op, TensorSpec
from predictor.kernels.memo import remembered

COLUMNS = ("signature", "latency_ms", "repeats", "spread")
MODEL_REPEATS = 16.0
"""The model's estimate counts as this many repeats of the usual spread, two runs' worth."""
USUAL_SPREAD = 0.05
SHARED_SPREAD = 0.085
"""What repeats of one run have in common (the run's drift, 3 % on a shared machine, over the eight
repeats of a run): the part of the spread that more repeats of the same run do not show."""
LONGEST_FIELD = 64
"""Characters of a field that the quick reader takes; longer ones are read one by one."""
_COMMA, _NEWLINE, _RETURN, _QUOTE = b',\n\r"'

Columns = tuple[npt.NDArray[np.bytes_], npt.NDArray[np.float64], npt.NDArray[np.int64],
                npt.NDArray[np.float64]]  # fmt: skip


def _outputs(op: Op) -> tuple[TensorSpec, ...]:
    """What an operator gives as tracing has it: an inference batch norm with two empty tensors."""
    if op.kind == "norm" and op.attrs.get("type") == "batch" and len(op.outputs) == 1:
        return (*op.outputs, *[TensorSpec((0,), op.outputs[0].dtype)] * 2)
    return op.outputs


def signature(kernel: Kernel) -> str:
    """What a kernel computes, names left out: equal kernels have equal signatures, whether they
    were traced or built."""
    parts = [
        (op.kind, *[[(spec.shape, spec.dtype) for spec in specs]
                    for specs in (op.inputs, op.weights, _outputs(op))],
         sorted(item for item in op.attrs.items() if item[0] not in ("inplace", "into")))
        for op in kernel.ops
    ]  # fmt: skip
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


@remembered
def signatures(kernels: Sequence[Kernel]) -> list[str]:
    """Those of ``kernels``, in order."""
    return [signature(kernel) for kernel in kernels]


@dataclass(frozen=True, slots=True)
class Entry:
    """One kernel's measurement: milliseconds, how many repeats, their relative spread."""

    latency_ms: float
    repeats: int
    spread: float = USUAL_SPREAD

    def combined(self, model_ms: float) -> float:
        """Geometric mean of measurement and model, weighted by what each is worth."""
        usual = USUAL_SPREAD**2 + SHARED_SPREAD**2
        worth = self.repeats * usual / (self.spread**2 + SHARED_SPREAD**2)
        share = worth / (worth + MODEL_REPEATS)
        return math.exp(share * math.log(self.latency_ms) + (1 - share) * math.log(model_ms))


class LookupTable(Mapping[str, Entry]):
    """Entries by signature, kept as sorted columns: a million take 50 MB and no objects."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        rows = sorted((key.encode(), entry) for key, entry in entries.items())
        self._take((
            np.array([key for key, _ in rows], dtype=np.bytes_),
            np.array([entry.latency_ms for _, entry in rows], dtype=np.float64),
            np.array([entry.repeats for _, entry in rows], dtype=np.int64),
            np.array([entry.spread for _, entry in rows], dtype=np.float64),
        ))  # fmt: skip

    def _take(self, columns: Columns) -> None:
        self._keys, self._latency_ms, self._repeats, self._spread = columns

    def __getitem__(self, key: str) -> Entry:
        at = self._find(key)
        if at < 0:
            raise KeyError(key)
        return self._entry(at)

    def __iter__(self) -> Iterator[str]:
        return (key.decode() for key in self._keys.tolist())

    def __len__(self) -> int:
        return len(self._keys)

    def _find(self, key: str) -> int:
        """Its row, -1 where there is none."""
        word = key.encode()
        at = int(np.searchsorted(self._keys, word)) if len(self._keys) else 0
        return at if at < len(self._keys) and self._keys[at] == word else -1

    def _entry(self, at: int) -> Entry:
        return Entry(float(self._latency_ms[at]), int(self._repeats[at]), float(self._spread[at]))

    @classmethod
    def from_csv(cls, text: str | bytes, place: str = "table.csv") -> LookupTable:
        """Read a table; several rows of one signature are pooled by their repeats.

        Raises:
            ArtifactError: a column is missing or a value is no positive number, with its line.
        """
        data = text.encode() if isinstance(text, str) else text
        columns = _quickly(data)
        if columns is None:
            columns = _row_by_row(data, place)
        table = cls({})
        table._take(_pooled_columns(columns))
        return table

    def to_csv(self) -> str:
        """The table as text, sorted by signature."""
        lines = [",".join(COLUMNS)]
        lines += [f"{k},{e.latency_ms:.9g},{e.repeats},{e.spread:.6g}" for k, e in self.items()]
        return "\n".join(lines) + "\n"

    def find(self, kernels: Sequence[Kernel]) -> list[Entry | None]:
        """The entry of each kernel, None where it was never measured."""
        wanted = np.array([key.encode() for key in signatures(kernels)], dtype=np.bytes_)
        if not len(wanted) or not len(self._keys):
            return [None] * len(wanted)
        at = np.searchsorted(self._keys, wanted)
        hit = self._keys[np.minimum(at, len(self._keys) - 1)] == wanted
        return [self._entry(i) if ok else None for i, ok in zip(at.tolist(), hit.tolist(),
                                                                strict=True)]  # fmt: skip


def _quickly(data: bytes) -> Columns | None:
    """All rows at once; None where a row needs a closer look, or its fault a message."""
    if not data.startswith(",".join(COLUMNS).encode()) or b'"' in data:
        return None
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    bytes_ = np.frombuffer(data if data.endswith(b"\n") else data + b"\n", dtype=np.uint8)
    starts = np.flatnonzero(bytes_ == _NEWLINE)[:-1] + 1
    fields: list[npt.NDArray[np.bytes_]] = []
    begin = starts
    for last in (False, False, False, True):
        field = _field(bytes_, begin, last)
        if field is None:
            return None
        fields.append(field[0])
        begin = field[1] + 1
    try:
        latency_ms, spread = (_numbers(fields[at], float, np.float64) for at in (1, 3))
        repeats = _numbers(fields[2], int, np.int64)
    except (ValueError, OverflowError):
        return None
    sound = (
        (latency_ms > 0) & (latency_ms < np.inf) & (repeats > 0) & (spread >= 0) & (spread < np.inf)
    )
    return (fields[0], latency_ms, repeats, spread) if bool(sound.all()) else None


def _numbers(field: npt.NDArray[np.bytes_], kind: Callable[[bytes], Any], dtype: Any) -> Any:
    return np.fromiter(map(kind, field.tolist()), dtype, len(field))


def _field(
    data: npt.NDArray[np.uint8], begin: npt.NDArray[np.intp], last: bool
) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.intp]] | None:
    """The text of every row from a place to the next comma, and where that is; None where there is
    none, or far away. A row may end with its ``last`` field."""
    cells = np.zeros((LONGEST_FIELD, len(begin)), dtype=np.uint8)
    cut = begin.copy()
    open_ = np.ones(len(begin), dtype=bool)
    for i in range(LONGEST_FIELD):
        byte = data[cut]
        open_ &= (byte != _COMMA) & (byte != _NEWLINE)
        if not open_.any():
            closed = data[cut] == _NEWLINE
            if bool(closed.any()) and not last:
                return None
            longest = max(i, 1)
            rows = np.ascontiguousarray(cells[:longest].T)
            return rows.view(f"S{longest}").ravel(), cut
        cells[i] = np.where(open_, byte, 0)
        cut += open_
    return None


def _row_by_row(data: bytes, place: str) -> Columns:
    try:
        rows = list(csv.reader(io.StringIO(data.decode())))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ArtifactError(f"{place}: not a table: {error}") from None
    header = rows[0] if rows else None
    if header is None or tuple(header[:4]) != COLUMNS:
        raise ArtifactError(f"{place}:1: columns must begin with {', '.join(COLUMNS)}")
    found = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            entry = Entry(float(row[1]), int(row[2]), float(row[3]))
        except (ValueError, IndexError):
            raise ArtifactError(f"{place}:{number}: not a row of the table: {row}") from None
        if not (
            0 < entry.latency_ms < math.inf
            and entry.repeats > 0
            and 0 <= entry.spread < math.inf
        ):  # fmt: skip
            raise ArtifactError(f"{place}:{number}: values must be positive: {row}")
        found.append((row[0].encode(), entry.latency_ms, entry.repeats, entry.spread))
    keys, latency_ms, repeats, spread = zip(*found, strict=True) if found else ((), (), (), ())
    return (np.array(keys, dtype=np.bytes_), np.array(latency_ms, dtype=np.float64),
            np.array(repeats, dtype=np.int64), np.array(spread, dtype=np.float64))  # fmt: skip


def _pooled_columns(columns: Columns) -> Columns:
    """Sorted by signature, rows of one signature as one."""
    keys = columns[0]
    if bool((keys[1:] > keys[:-1]).all()):
        return columns
    order = np.argsort(keys, kind="stable")
    keys, latency_ms = keys[order], columns[1][order]
    repeats, spread = columns[2][order], columns[3][order]
    new = np.append(True, keys[1:] != keys[:-1])
    first = np.flatnonzero(new)
    for begin, end in zip(first.tolist(), [*first[1:].tolist(), len(keys)], strict=True):
        if end - begin == 1:
            continue
        entry = Entry(float(latency_ms[begin]), int(repeats[begin]), float(spread[begin]))
        for at in range(begin + 1, end):
            other = Entry(float(latency_ms[at]), int(repeats[at]), float(spread[at]))
            entry = _pooled(entry, other)
        latency_ms[begin], repeats[begin], spread[begin] = (
            entry.latency_ms, entry.repeats, entry.spread
        )  # fmt: skip
    return keys[first], latency_ms[first], repeats[first], spread[first]


def _pooled(a: Entry, b: Entry) -> Entry:
    total = a.repeats + b.repeats
    mean = (a.latency_ms * a.repeats + b.latency_ms * b.repeats) / total
    apart = abs(a.latency_ms - b.latency_ms) / mean / 2
    return Entry(mean, total, max(apart, (a.spread * a.repeats + b.spread * b.repeats) / total))
