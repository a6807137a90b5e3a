"""Stored forests: equal to LightGBM, refused when damaged."""

import io
import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
from kernels_for_tests import HARDWARE, features

from predictor.errors import ArtifactError
from predictor.kernels.features import CLASS_INDEX, CLASSES
from predictor.latency.boosted import COLUMNS, Forest, columns, from_lightgbm
from predictor.latency.physical import MEDIAN, kernel_times
from predictor.latency.tiles import USUAL_WATTS, Board, Shapes


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


def by_class(**changes):
    """One leaf a class for products and element-wise kernels, of two trained devices."""
    count, nan = len(CLASSES), float("nan")
    kin = np.full((2, count), nan)
    kin[:, CLASS_INDEX["elementwise"]] = [0.2, -0.4]
    parts = {
        "roots": np.array([0, 5], np.int32),
        "root_class": np.array([CLASS_INDEX["linear"], CLASS_INDEX["elementwise"]], np.int32),
        "columns": ("log_k", "log_l2"), "offset": np.full(count, nan),
        "wait_us": np.full(count, nan), "kin_watts": np.array([100.0, 200.0]),
        "kin_offset": kin.ravel(), "generations": ("volta", "ampere"),
        "tiles": np.array([64.0, 32.0, 128.0, 128.0]),
    }  # fmt: skip
    return replace(by_hand(), **{**parts, **changes})


def test_a_forest_by_class_comes_back_whole():
    forest = Forest.from_bytes(by_class().to_bytes())
    assert forest.columns == ("log_k", "log_l2")
    assert forest.generations == ("volta", "ampere")
    np.testing.assert_array_equal(forest.kin_offset, by_class().kin_offset)


def test_kin_count_by_the_ratio_of_power_limits():
    index = CLASS_INDEX["elementwise"]
    assert by_class().offsets(100.0)[index] == pytest.approx((0.2 - 0.5 * 0.4) / 1.5)
    own = np.full(len(CLASSES), 0.3)
    assert by_class(offset=own).offsets(100.0)[index] == pytest.approx(0.3)


def test_a_generation_not_listed_takes_the_newest_tile():
    assert by_class().board(70.0, "volta") == Board(70.0, 64.0, 32.0)
    assert by_class().board(None, "hopper") == Board(USUAL_WATTS, 128.0, 128.0)


def test_only_classes_with_trees_are_answered():
    f = features("eager")
    times, shapes = kernel_times(f, HARDWARE, MEDIAN), Shapes.none(len(f))
    seconds, answered = by_class().seconds(f, HARDWARE, times, shapes, Board())
    assert answered.any()
    assert not answered.all()
    np.testing.assert_array_equal(seconds[~answered], times.total[~answered])
    assert (seconds > 0).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"root_class": np.array([0], np.int32)}, {"root_class": np.array([0, 99], np.int32)},
        {"offset": np.zeros(2)}, {"offset": np.full(len(CLASSES), 99.0)},
        {"columns": ("log_k", "colour")}, {"tiles": np.array([64.0])},
        {"kin_watts": np.array([1.0])}, {"wait_us": np.full(len(CLASSES), -1.0)},
    ],
)  # fmt: skip
def test_forests_by_class_that_do_not_fit_together(changes):
    with pytest.raises(ArtifactError):
        Forest.from_bytes(by_class(**changes).to_bytes(), "f.npz")
