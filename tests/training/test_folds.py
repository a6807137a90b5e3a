"""Folds leave whole families out, about equally large."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.training.folds import family_groups, size_class


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.integers(1, 12), st.integers())
def test_every_family_is_left_out_once_and_whole(family, count, seed):
    groups = family_groups(np.array(family), count, seed)
    assert sorted(np.concatenate(groups).tolist()) == sorted(set(family))
    assert len(groups) == min(count, len(set(family)))
    assert all(len(group) for group in groups)


def test_groups_are_about_equally_large():
    family = np.repeat(np.arange(40), [14, 14, 14, *[3] * 37])
    sizes = [int(np.isin(family, group).sum()) for group in family_groups(family, 10, 0)]
    assert max(sizes) - min(sizes) <= 3
    large = [np.isin([0, 1, 2], group).sum() for group in family_groups(family, 10, 0)]
    assert max(large) == 1  # each search space in a fold of its own


def test_the_same_seed_gives_the_same_groups():
    family = np.repeat(np.arange(30), 2)
    again = [group.tolist() for group in family_groups(family, 10, 5)]
    assert again == [group.tolist() for group in family_groups(family, 10, 5)]
    assert again != [group.tolist() for group in family_groups(family, 10, 6)]


def test_terciles():
    assert size_class([9.0, 1.0, 5.0]) == ["large", "small", "medium"]
    names = size_class(list(range(30)))
    assert [names.count(word) for word in ("small", "medium", "large")] == [10, 10, 10]
    assert size_class([2.0]) == ["small"]


@pytest.mark.parametrize("count", [1, 3])
def test_one_family_is_one_group(count):
    assert [g.tolist() for g in family_groups(np.zeros(5, dtype=int), count, 0)] == [[0]]
