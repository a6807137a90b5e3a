"""Trees for many rows at once: each split masks out the leaves that it rules out.

QuickScorer's idea (Lucchese et al., SIGIR 2015): the leaves of a tree are bits from left to right;
a row that goes right at a split clears the leaves left of it, and the lowest bit that is left is
the leaf that the row ends in. All splits are comparisons of whole columns, so numpy does them fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictor.kernels.features import Floats

MOST_LEAVES = 64
"""Bits of a mask; a forest with larger trees is walked instead."""
CHUNK = 2048
"""Rows at once: their masks fit the caches."""
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True)
class BitForest:
    """Splits of all trees, ``tree`` by tree, and the leaves' values (trees x 64)."""

    tree: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    threshold: Floats
    mask: npt.NDArray[np.uint64]
    values: Floats

    def predict(self, matrix: Floats) -> Floats:
        """Sum of all trees for each row; NaN goes left."""
        total = np.zeros(len(matrix))
        for start in range(0, len(matrix), CHUNK):
            total[start : start + CHUNK] = self._predict(matrix[start : start + CHUNK])
        return total

    def _predict(self, matrix: Floats) -> Floats:
        columns = np.ascontiguousarray(matrix.T)
        alive = np.full((len(self.values), len(matrix)), _ALL)
        splits = zip(self.tree.tolist(), self.feature.tolist(), self.threshold.tolist(), self.mask,
                     strict=True)  # fmt: skip
        for tree, feature, threshold, mask in splits:
            alive[tree] &= np.where(columns[feature] > threshold, mask, _ALL)
        lowest = alive & (~alive + np.uint64(1))
        leaf = np.frexp(lowest.astype(np.float64))[1] - 1  # exact: a power of two
        found = self.values[np.arange(len(self.values))[:, None], leaf]
        # Added up in the order that walking the trees adds them, so both agree to the last digit.
        total: Floats = np.ascontiguousarray(found.T).sum(axis=1)
        return total


def compiled(
    feature: npt.NDArray[np.int32], threshold: Floats, left: npt.NDArray[np.int32],
    right: npt.NDArray[np.int32], value: Floats, roots: npt.NDArray[np.int32],
) -> BitForest | None:  # fmt: skip
    """The trees of a :class:`~predictor.latency.boosted.Forest`; None where one is too large."""
    splits: list[tuple[int, int, float, int]] = []
    values = np.zeros((len(roots), MOST_LEAVES))
    for tree, root in enumerate(roots.tolist()):
        leaves: list[int] = []
        # In order, so that leaves are met from left to right; a split is put down when all leaves
        # left of it are known.
        todo: list[tuple[int, int]] = [(root, -1)]
        while todo:
            node, first = todo.pop()
            if feature[node] < 0:
                leaves.append(node)
                continue
            if first < 0:
                todo.append((node, len(leaves)))
                todo.append((int(left[node]), -1))
                continue
            ruled_out = ((1 << len(leaves)) - 1) ^ ((1 << first) - 1)
            splits.append((tree, int(feature[node]), float(threshold[node]), ruled_out))
            todo.append((int(right[node]), -1))
        if len(leaves) > MOST_LEAVES:
            return None
        values[tree, : len(leaves)] = value[leaves]
    every = (1 << 64) - 1
    return BitForest(
        np.array([s[0] for s in splits], np.int64), np.array([s[1] for s in splits], np.int64),
        np.array([s[2] for s in splits]),
        np.array([every ^ s[3] for s in splits], np.uint64), values,
    )  # fmt: skip
