"""The measured table: kernels timed on the target, found again by their exact signature.

A CSV with one row a kernel: ``signature, latency_ms, repeats, spread`` (``spread`` is the relative
median absolute deviation of the repeats). An entry is weighted by its repeats and shrunk towards
the model: a single noisy timing moves an estimate little, twenty that agree replace it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from predictor.errors import ArtifactError
from predictor.graph import Kernel

COLUMNS = ("signature", "latency_ms", "repeats", "spread")
MODEL_REPEATS = 4.0
"""The model's estimate counts as this many repeats of the usual spread."""
USUAL_SPREAD = 0.05


def signature(kernel: Kernel) -> str:
    """What a kernel computes, names left out: equal kernels have equal signatures."""
    parts = [
        [op.kind, [[list(s.shape), s.dtype] for s in (*op.inputs, *op.weights, *op.outputs)],
         sorted((k, v) for k, v in op.attrs.items() if k not in ("inplace", "into"))]
        for op in kernel.ops
    ]  # fmt: skip
    text = json.dumps(parts, separators=(",", ":"), default=list)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One kernel's measurement: milliseconds, how many repeats, their relative spread."""

    latency_ms: float
    repeats: int
    spread: float = USUAL_SPREAD

    def combined(self, model_ms: float) -> float:
        """Geometric mean of measurement and model, weighted by what each is worth."""
        worth = self.repeats * (USUAL_SPREAD / max(self.spread, 0.2 * USUAL_SPREAD)) ** 2
        share = worth / (worth + MODEL_REPEATS)
        return math.exp(share * math.log(self.latency_ms) + (1 - share) * math.log(model_ms))


class LookupTable(Mapping[str, Entry]):
    """Entries by signature."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, key: str) -> Entry:
        return self._entries[key]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @classmethod
    def from_csv(cls, text: str, place: str = "table.csv") -> LookupTable:
        """Read a table; several rows of one signature are pooled by their repeats.

        Raises:
            ArtifactError: a column is missing or a value is no positive number, with its line.
        """
        try:
            rows = list(csv.reader(io.StringIO(text)))
        except csv.Error as error:
            raise ArtifactError(f"{place}: not a table: {error}") from None
        header = rows[0] if rows else None
        if header is None or tuple(header[:4]) != COLUMNS:
            raise ArtifactError(f"{place}:1: columns must begin with {', '.join(COLUMNS)}")
        entries: dict[str, Entry] = {}
        for number, row in enumerate(rows[1:], start=2):
            try:
                entry = Entry(float(row[1]), int(row[2]), float(row[3]))
            except (ValueError, IndexError):
                raise ArtifactError(f"{place}:{number}: not a row of the table: {row}") from None
            if not (
                0 < entry.latency_ms < math.inf
                and entry.repeats > 0
                and 0 <= entry.spread < math.inf
            ):
                raise ArtifactError(f"{place}:{number}: values must be positive: {row}")
            known = entries.get(row[0])
            entries[row[0]] = _pooled(known, entry) if known else entry
        return cls(entries)

    def to_csv(self) -> str:
        """The table as text, sorted by signature."""
        lines = [",".join(COLUMNS)]
        lines += [f"{k},{e.latency_ms:.9g},{e.repeats},{e.spread:.6g}"
                  for k, e in sorted(self._entries.items())]  # fmt: skip
        return "\n".join(lines) + "\n"

    def find(self, kernels: Iterable[Kernel]) -> list[Entry | None]:
        """The entry of each kernel, None where it was never measured."""
        return [self._entries.get(signature(kernel)) for kernel in kernels]


def _pooled(a: Entry, b: Entry) -> Entry:
    total = a.repeats + b.repeats
    mean = (a.latency_ms * a.repeats + b.latency_ms * b.repeats) / total
    apart = abs(a.latency_ms - b.latency_ms) / mean / 2
    return Entry(mean, total, max(apart, (a.spread * a.repeats + b.spread * b.repeats) / total))
