"""The whole-model experts: descriptors, the linear sum, distance, storage and damage."""

import dataclasses

import numpy as np
import pytest

from predictor.errors import ArtifactError
from predictor.kernels.features import Features
from predictor.latency.boosted import Forest
from predictor.latency.descriptors import LINEAR_COUNT, NAMES, describe, linear_columns
from predictor.latency.physical import MEDIAN, Hardware, kernel_times
from predictor.latency.totals import Totals

HARDWARE = Hardware(1e13, 1e12, 1e11, 4e6, 32.0, 1.5e9)


def network(seed=0, kernels=12, scale=1.0):
    draw = np.random.default_rng(seed)
    columns = {}
    for field in dataclasses.fields(Features):
        columns[field.name] = draw.integers(1, 64, kernels).astype(float)
    columns["cls"] = draw.integers(0, 9, kernels)
    columns["macs"] = np.where(columns["cls"] < 8, 1e6 * columns["macs"] * scale, 0.0)
    columns["read_bytes"] = 1e4 * columns["read_bytes"] * scale
    columns["write_bytes"] = 1e4 * columns["write_bytes"] * scale
    columns["weight_bytes"] = 0.3 * columns["read_bytes"]
    columns["channels_last"] = np.zeros(kernels)
    return Features(**columns)


def forest():
    """One tree: +0.3 where the first descriptor is above 0, else -0.1."""
    return Forest(
        np.array([0, -1, -1], np.int32), np.array([0.0, 0, 0]), np.array([1, 1, 2], np.int32),
        np.array([2, 1, 2], np.int32), np.array([0, -0.1, 0.3]), np.array([0], np.int32), NAMES,
    )  # fmt: skip


def answer_of(totals, features):
    times = kernel_times(features, HARDWARE, MEDIAN)
    return totals.answer(features, HARDWARE, times, np.full(len(features), 1e-6))


def described(totals, features):
    times = kernel_times(features, HARDWARE, MEDIAN)
    return describe(features, HARDWARE, times, np.full(len(features), 1e-6),
                    totals.linear_s(features, HARDWARE))  # fmt: skip


@pytest.fixture
def totals():
    bare = Totals(
        np.ones(LINEAR_COUNT), forest(), np.zeros(len(NAMES)), np.ones(len(NAMES)),
        np.zeros((1, len(NAMES))), 0.5, 0.25, np.array([0.5, 1.0]), np.array([0.1, 0.2, 0.4]),
    )  # fmt: skip
    here = described(bare, network())
    return dataclasses.replace(bare, center=here)


def test_descriptors_are_finite_and_named(totals):
    row = described(totals, network(3))
    assert row.shape == (len(NAMES),)
    assert np.isfinite(row).all()
    shares = row[[i for i, name in enumerate(NAMES) if name.startswith("time_")]]
    assert shares.sum() == pytest.approx(1)


def test_the_linear_sum_by_hand():
    one = network(1, kernels=1)
    one = dataclasses.replace(one, cls=np.array([4]), m=np.array([1000.0]),
                              macs=np.array([1e9]), k=np.array([64.0]),
                              n=np.array([64.0]))  # fmt: skip
    columns = linear_columns(one, HARDWARE)
    assert columns[4] == pytest.approx(2e9 / 1e13)  # work of linear layers
    assert columns[8 + 4] == pytest.approx((one.bytes[0] - one.weight_bytes[0]) / 1e11)


def test_known_networks_get_the_forest_in_full_and_others_a_share(totals):
    known = answer_of(totals, network())
    assert known.known
    assert known.distance == pytest.approx(0, abs=1e-9)
    assert known.log_error == 0.1
    foreign = answer_of(totals, network(scale=1e4))
    assert not foreign.known
    assert foreign.distance > 1.0
    assert foreign.log_error == 0.4
    features = network()
    times = kernel_times(features, HARDWARE, MEDIAN)
    experts = np.log([totals.linear_s(features, HARDWARE), times.total.sum(),
                      1e-6 * len(features)])  # fmt: skip
    correction = totals.forest.predict(described(totals, features)[None])[0]
    assert known.total_s == pytest.approx(np.exp(experts.mean() + correction))
    less = dataclasses.replace(totals, threshold=-1.0)
    plain = experts[:2].mean()
    mixed = 0.25 * (experts.mean() + correction) + 0.75 * plain
    assert answer_of(less, features).total_s == pytest.approx(np.exp(mixed))


def test_storage_keeps_every_answer(totals):
    again = Totals.from_bytes(totals.to_bytes())
    for seed in range(5):
        assert answer_of(again, network(seed)) == answer_of(totals, network(seed))


def test_damage_is_refused(totals):
    data = totals.to_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 30):
        with pytest.raises(ArtifactError):
            Totals.from_bytes(data[:cut])
    wrong = dataclasses.replace(totals, widths=np.array([0.1]))
    with pytest.raises(ArtifactError, match="fit together"):
        Totals.from_bytes(wrong.to_bytes())
    nan = dataclasses.replace(totals, weights=np.full(LINEAR_COUNT, np.nan))
    with pytest.raises(ArtifactError, match="fit together"):
        Totals.from_bytes(nan.to_bytes())
