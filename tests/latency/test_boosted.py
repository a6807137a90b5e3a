"""Stored forests: equal to LightGBM, refused when damaged."""

import io
import random
import warnings

import numpy as np
import pytest
from kernels_for_tests import HARDWARE, features

from predictor.errors import ArtifactError
from predictor.latency.boosted import COLUMNS, Forest, columns, from_lightgbm
from predictor.latency.physical import MEDIAN, kernel_times


def by_hand():
    """Two trees: x0 <= 1 ? 10 : (x1 <= 5 ? 20 : 30), and a single leaf of 0.5."""
    return Forest(
        np.array([0, -1, 1, -1, -1, -1], np.int32), np.array([1.0, 0, 5.0, 0, 0, 0]),
        np.array([1, 1, 3, 3, 4, 5], np.int32), np.array([2, 1, 4, 3, 4, 5], np.int32),
        np.array([0, 10.0, 0, 20.0, 30.0, 0.5]), np.array([0, 5], np.int32),
    )  # fmt: skip


def matrix(rows):
    full = np.zeros((len(rows), len(COLUMNS)))
    full[:, :2] = rows
    return full


def test_by_hand():
    rows = matrix([[1.0, 9], [1.0001, 5], [2, 5.1], [-np.inf, 0], [np.inf, np.inf]])
    np.testing.assert_array_equal(by_hand().predict(rows), [10.5, 20.5, 30.5, 10.5, 30.5])


def test_round_trip():
    rows = matrix(np.random.default_rng(0).normal(size=(50, 2)) * 5)
    again = Forest.from_bytes(by_hand().to_bytes())
    np.testing.assert_array_equal(again.predict(rows), by_hand().predict(rows))
    assert again.predict(matrix(np.zeros((0, 2)))).shape == (0,)


def test_equal_to_lightgbm():
    lightgbm = pytest.importorskip("lightgbm", reason="LightGBM trains forests")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, len(COLUMNS)))
    x[:, 0] = rng.integers(0, 17, 600)
    x[::7, 3] = 0.0
    y = np.sin(x[:, 1]) + 0.2 * x[:, 0] + (x[:, 2] > 0.3) * x[:, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        booster = lightgbm.train(
            {"num_leaves": 31, "verbose": -1, "num_threads": 1, "seed": 1, "min_data_in_leaf": 5},
            lightgbm.Dataset(x, y),
            num_boost_round=60,
        )
    forest = Forest.from_bytes(from_lightgbm(booster, COLUMNS).to_bytes())
    splits = forest.threshold[forest.feature >= 0]
    splits = splits[np.abs(splits) > 1e-30]  # it rounds its own constant for zero
    test = np.concatenate(
        [
            x,
            rng.normal(size=(400, len(COLUMNS))) * 4,
            np.zeros((1, len(COLUMNS))),
            np.full((1, len(COLUMNS)), 1e300),
            np.full((1, len(COLUMNS)), -1e300),
            rng.choice(splits, size=(300, len(COLUMNS))),  # exactly on thresholds
            np.nextafter(rng.choice(splits, size=(300, len(COLUMNS))), np.inf),
        ]
    )
    np.testing.assert_allclose(forest.predict(test), booster.predict(test), rtol=0, atol=1e-9)


def test_columns_are_finite_for_every_kernel():
    f = features("eager")
    table = columns(f, HARDWARE, kernel_times(f, HARDWARE, MEDIAN))
    assert table.shape == (len(f), len(COLUMNS))
    assert np.isfinite(table).all()


def saved(**changes):
    forest = by_hand()
    arrays = {n: getattr(forest, n) for n in Forest.__slots__}
    arrays.update(changes)
    buffer = io.BytesIO()
    np.savez(buffer, **{k: v for k, v in arrays.items() if v is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"left": np.array([0, 1, 3, 3, 4, 5])},  # a walk that does not end
        {"right": np.array([2, 1, 99, 3, 4, 5])},
        {"roots": np.array([7])},
        {"roots": np.array([], int)},
        {"roots": np.array([-1])},
        {"feature": np.array([99, -1, 1, -1, -1, -1])},
        {"value": np.array([0, np.nan, 0, 0, 0, 0])},
        {"threshold": np.array([np.nan, 0, 0, 0, 0, 0])},
        {"value": np.zeros(3)},
        {"value": None},
        {"value": np.zeros((6, 2))},
        {"feature": np.array(list("abcdef"))},
        {"threshold": np.array([1j] * 6)},
        {"feature": np.array([0.5] * 6)},
        {"roots": np.array(3)},
        {"value": np.array([object()] * 6, dtype=object)},
    ],
)
def test_forests_that_do_not_fit_together(changes):
    with pytest.raises(ArtifactError):
        Forest.from_bytes(saved(**changes), "f.npz")


def test_damaged_bytes():
    """Any change is refused, or gives a forest that can be evaluated."""
    data, rng = by_hand().to_bytes(), random.Random(0)
    rows = matrix([[1.0, 2.0]])
    refused = 0
    for _ in range(150):
        mutant = bytearray(data)
        if rng.random() < 0.3:
            mutant = mutant[: rng.randrange(len(mutant))]
        else:
            for _ in range(rng.randint(1, 4)):
                mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        try:
            with np.errstate(all="ignore"):
                Forest.from_bytes(bytes(mutant), "f.npz").predict(rows)
        except ArtifactError:
            refused += 1
    assert refused > 75
