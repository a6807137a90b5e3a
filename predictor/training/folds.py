"""Folds that leave whole families out: near-duplicates of one family never stand on both sides."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from predictor.kernels.features import Ints

FOLDS = 10
"""Groups of families in an evaluation."""


def family_groups(family: Ints, count: int, seed: int = 0) -> list[Ints]:
    """At most ``count`` groups of families, about equally many networks in each.

    Families are dealt largest first to the group with the fewest networks so far; ties fall by
    ``seed``. ``family`` holds a number for each network.
    """
    chance = random.Random(seed)
    sizes = {int(name): int((family == name).sum()) for name in np.unique(family)}
    order = sorted(sizes, key=lambda name: (-sizes[name], chance.random()))
    groups: list[list[int]] = [[] for _ in range(min(count, len(order)))]
    load = [0] * len(groups)
    for name in order:
        least = min(range(len(groups)), key=lambda i: (load[i], i))
        groups[least].append(name)
        load[least] += sizes[name]
    return [np.array(sorted(group), dtype=np.int64) for group in groups]


def size_class(latency_ms: Sequence[float]) -> list[str]:
    """``small``, ``medium`` or ``large`` for each, by terciles of the latencies themselves."""
    low, high = np.quantile(np.asarray(latency_ms, dtype=float), (1 / 3, 2 / 3))
    return ["small" if x <= low else "medium" if x <= high else "large" for x in latency_ms]
