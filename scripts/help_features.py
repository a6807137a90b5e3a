"""Kernels of the networks of a search space, counted: a space repeats few distinct kernels.

A matrix product of counts and kernel times predicts thousands of networks at once. Counting takes
longer than fitting, so what comes of it is kept in a folder; nothing of the tables is stored there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from predictor.frontends.families import family_graph
from predictor.graph import PRECISIONS
from predictor.kernels.features import Features, Floats, featurize
from predictor.kernels.fusion import fuse

COLUMNS = tuple(f.name for f in fields(Features))
BYTES = {"float32": 4, "float16": 2}
CHUNK = 1000
"""Networks a file of the cache."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Networks as counts (networks x distinct kernels) of the kernels in ``table``, batch 1."""

    table: Features
    counts: Floats

    def at(self, batch: int) -> Features:
        """The distinct kernels at another batch."""
        return rebatched(self.table, batch)

    def network(self, index: int, batch: int = 1) -> Features:
        """All kernels of one network, like ones beside each other."""
        repeated = np.repeat(np.arange(len(self.table)), self.counts[index].astype(int))
        return rebatched(self.table.take(repeated), batch)

    def rows(self, index: Sequence[int] | np.ndarray) -> Counted:
        """Some of the networks."""
        return Counted(self.table, self.counts[index])


def rebatched(features: Features, batch: int) -> Features:
    """Kernels of a batch-1 network at ``batch``: work and activations grow, weights stay."""
    if batch == 1:
        return features
    f = features
    matrix = (f.m > 1) | (f.macs > 0)
    return replace(
        f, macs=f.macs * batch, elementwise_flops=f.elementwise_flops * batch,
        read_bytes=(f.read_bytes - f.weight_bytes) * batch + f.weight_bytes,
        write_bytes=f.write_bytes * batch, m=np.where(matrix, f.m * batch, f.m),
        outputs=f.outputs * batch,
    )  # fmt: skip


def counted(keys: Sequence[str], rules: str, cache: Path, precision: str = "fp32") -> Counted:
    """The networks of ``keys`` (family prefix and key) under fusion rules, in a precision."""
    cache.mkdir(parents=True, exist_ok=True)
    parts = [_chunk(keys[i : i + CHUNK], rules, cache) for i in range(0, len(keys), CHUNK)]
    rows = np.concatenate([table for table, _ in parts])
    unique, where = np.unique(rows, axis=0, return_inverse=True)
    counts = np.zeros((len(keys), len(unique)))
    at, seen = 0, 0
    for table, part in parts:
        columns = where.ravel()[seen : seen + len(table)]
        counts[at : at + len(part), columns] += part
        at, seen = at + len(part), seen + len(table)
    return Counted(_features(unique, BYTES[PRECISIONS[precision]] / 4), counts)


def _chunk(keys: Sequence[str], rules: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    label = "\n".join((rules, *COLUMNS, *keys))
    name = hashlib.sha1(label.encode(), usedforsecurity=False).hexdigest()[:20]
    path = cache / f"{name}.npz"
    if path.is_file():
        with np.load(path) as data:
            return data["table"], data["counts"].astype(float)
    index: dict[tuple[float, ...], int] = {}
    found = []
    for key in keys:
        features = featurize(fuse(family_graph(key), rules))
        matrix = np.column_stack([getattr(features, column) for column in COLUMNS])
        found.append([index.setdefault(tuple(row), len(index)) for row in matrix.tolist()])
    counts = np.zeros((len(keys), len(index)), np.int16)
    for i, columns in enumerate(found):
        np.add.at(counts[i], columns, 1)
    table = np.array(list(index), dtype=float)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, table=table, counts=counts)
    part.replace(path)
    return table, counts.astype(float)


def _features(rows: np.ndarray, width: float) -> Features:
    """``width`` is the size of an element over fp32's; everything in these networks is a float."""
    columns = {name: rows[:, i] * (width if name.endswith("bytes") else 1.0)
               for i, name in enumerate(COLUMNS)}  # fmt: skip
    columns["cls"] = columns["cls"].astype(np.int64)
    return Features(**columns)
