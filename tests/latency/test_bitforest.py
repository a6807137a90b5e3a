"""Masks of leaves give what walking the trees gives, to the last digit."""

import numpy as np
import pytest

from predictor.latency import bitforest, boosted
from predictor.latency.bitforest import compiled
from predictor.latency.boosted import MANY_ROWS, Forest


def random_forest(seed, trees=30, splits=12, columns=6):
    """Trees whose splits are put at random leaves."""
    draw = np.random.default_rng(seed)
    feature, threshold, left, right, value, roots = [], [], [], [], [], []

    def leaf():
        feature.append(-1)
        threshold.append(0.0)
        left.append(len(left))
        right.append(len(right))
        value.append(draw.normal())
        return len(feature) - 1

    for _ in range(trees):
        root = leaf()
        roots.append(root)
        leaves = [root]
        for _ in range(splits):
            node = leaves.pop(draw.integers(len(leaves)))
            feature[node], threshold[node] = (
                int(draw.integers(columns)),
                float(draw.integers(-3, 4)),
            )
            left[node], right[node] = leaf(), leaf()
            leaves += [left[node], right[node]]
    names = tuple(boosted.RATIOS[:columns])
    return Forest(np.array(feature, np.int32), np.array(threshold), np.array(left, np.int32),
                  np.array(right, np.int32), np.array(value), np.array(roots, np.int32), names)  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_both_ways_agree_to_the_last_digit(seed, monkeypatch):
    monkeypatch.setattr(bitforest, "CHUNK", 50)
    forest = random_forest(seed, splits=(0, 1, 5, 20, 40, 63)[seed])
    rows = np.random.default_rng(seed).integers(-4, 5, (200, 6)).astype(float)
    rows[3, 2] = np.nan
    fast = compiled(forest.feature, forest.threshold, forest.left, forest.right, forest.value,
                    forest.roots)  # fmt: skip
    assert fast is not None
    walked = forest.walk(rows, forest.roots)
    assert np.array_equal(fast.predict(rows), walked)
    assert np.array_equal(forest.predict(rows), walked)
    assert len(rows) >= MANY_ROWS


def test_trees_too_large_for_a_mask_are_walked():
    forest = random_forest(0, trees=2, splits=64)
    assert compiled(forest.feature, forest.threshold, forest.left, forest.right, forest.value,
                    forest.roots) is None  # fmt: skip
    rows = np.random.default_rng(0).normal(size=(100, 6))
    assert np.array_equal(forest.predict(rows), forest.walk(rows, forest.roots))
