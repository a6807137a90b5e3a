"""Kernel features of networks at any batch size, from two traces.

Every column of :class:`Features` is affine in the batch (work and activations grow with it, weights
do not), so a network traced at two batch sizes is known at all of them. Traces take longer than
anything else that the scripts do; what comes of them is kept in a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from predictor.graph import Graph
from predictor.kernels.features import Features, featurize
from predictor.kernels.fusion import fuse
from predictor.kernels.lowering import lower

COLUMNS = tuple(f.name for f in fields(Features))
BATCHES = (2, 3)
"""Batch 1 is no good: sizes of 1 are squeezed away and make other kernels."""

Trace = Callable[[str, tuple[int, ...]], Graph]


class NotAffine(ValueError):
    """The two traces have different kernels: the network does not scale with its batch."""


class BatchedFeatures:
    """Features of (network, image) under fusion rules and a precision, kept in ``cache``."""

    def __init__(self, cache: Path, trace: Trace) -> None:
        self.cache, self.trace = cache, trace
        cache.mkdir(parents=True, exist_ok=True)
        self._loaded: dict[str, tuple[Features, Features, int]] = {}

    def at(
        self, key: str, image: tuple[int, ...], batch: int, rules: str, precision: str
    ) -> tuple[Features, int]:
        """Features at ``batch`` and the number of parameters.

        ``image`` is the input without its batch, such as (3, 224, 224).

        Raises:
            NotAffine: see there.
        """
        first, second, params = self._pair(key, image, rules, precision)
        step = (batch - BATCHES[0]) / (BATCHES[1] - BATCHES[0])
        columns = []
        for name in COLUMNS:
            a, b = getattr(first, name), getattr(second, name)
            columns.append(a if name == "cls" else a + step * (b - a))
        return Features(*columns), params

    def prepare(self, key: str, image: tuple[int, ...], wanted: Sequence[tuple[str, str]]) -> None:
        """Trace once and keep the features of all ``wanted`` (rules, precision) pairs."""
        if all(self._path(key, image, *pair).is_file() for pair in wanted):
            return
        graphs = [self.trace(key, (batch, *image)) for batch in BATCHES]
        for rules, precision in wanted:
            pair = [featurize(fuse(lower(g, precision, rules), rules)) for g in graphs]
            arrays = {
                f"{name}{i}": getattr(f, name) for i, f in enumerate(pair) for name in COLUMNS
            }
            path = self._path(key, image, rules, precision)
            part = path.with_suffix(".part.npz")
            np.savez_compressed(part, params=graphs[0].params, **arrays)
            part.replace(path)

    def _pair(
        self, key: str, image: tuple[int, ...], rules: str, precision: str
    ) -> tuple[Features, Features, int]:
        path = self._path(key, image, rules, precision)
        if path.name not in self._loaded:
            self.prepare(key, image, [(rules, precision)])
            with np.load(path) as data:
                pair = [Features(*(data[f"{name}{i}"] for name in COLUMNS)) for i in (0, 1)]
                self._loaded[path.name] = (pair[0], pair[1], int(data["params"]))
        first, second, params = self._loaded[path.name]
        if len(first) != len(second) or not np.array_equal(first.cls, second.cls):
            raise NotAffine(f"{key} at {image}: other kernels at batch {BATCHES[1]}")
        return first, second, params

    def _path(self, key: str, image: tuple[int, ...], rules: str, precision: str) -> Path:
        label = f"{key}|{image}|{rules}|{precision}"
        return self.cache / f"{hashlib.sha1(label.encode(), usedforsecurity=False).hexdigest()}.npz"
