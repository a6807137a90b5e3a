"""The learned accuracy: it learns what its features can say, and knows where it does not know."""

from random import Random

import numpy as np
import pytest
from accuracy_nets import Tiny

from predictor.errors import ConfigError
from predictor.search.accuracy.learned import LearnedAccuracy
from predictor.search.spaces.nasbench201 import NasBench201


def drawn(count, seed):
    space, chance = NasBench201(), Random(seed)
    return [space.random(chance) for _ in range(count)]


GAIN = {"none": 0.0, "skip_connect": 2.0, "nor_conv_1x1": 3.0, "nor_conv_3x3": 4.0,
        "avg_pool_3x3": 1.0}  # fmt: skip


def truth(values):
    weights = (1, 2, 3, 1, 2, 3)
    found = sum(w * GAIN[v] for w, v in zip(weights, values.values(), strict=True))
    return found + 5 * (values["edge_03"] == "skip_connect") * (values["edge_01"] == "none")


def test_it_ranks_what_it_never_saw():
    train, held = drawn(200, 1), drawn(200, 2)
    model = LearnedAccuracy(NasBench201.parameters).fit(train, [truth(v) for v in train])
    mean, deviation = model.predict(held)
    true = np.array([truth(v) for v in held])
    assert np.corrcoef(mean, true)[0, 1] > 0.98
    assert np.mean(np.abs(mean - true) < 2 * deviation) > 0.8


def test_it_is_sure_of_what_it_saw_and_unsure_far_away():
    space = Tiny()
    near = {"width": 4, "depth": 1, "act": "relu"}
    far = {"width": 16, "depth": 2, "act": "dead"}
    values = [near, {**near, "width": 8}, {**near, "depth": 2}]
    model = LearnedAccuracy(space.parameters).fit(values, [10.0, 20.0, 12.0])
    mean, deviation = model.predict([near, far])
    assert mean[0] == pytest.approx(10, abs=3)
    assert deviation[0] < deviation[1]
    assert model.predict([])[0].shape == (0,)


def test_sizes_help_where_they_tell():
    rng = np.random.default_rng(0)
    values = [{"a": int(v)} for v in rng.integers(0, 3, 60)]
    sizes = [{"macs": float(10 ** rng.uniform(6, 9))} for _ in values]
    accuracies = [np.log10(s["macs"]) for s in sizes]
    model = LearnedAccuracy({"a": (0, 1, 2)}).fit(values[:40], accuracies[:40], sizes[:40])
    mean, _ = model.predict(values[40:], sizes[40:])
    assert np.abs(mean - accuracies[40:]).max() < 0.3
    with pytest.raises(ConfigError, match="sizes"):
        model.predict(values[40:])


def test_the_same_twice_and_with_constant_accuracies():
    train = drawn(50, 3)
    accuracies = [truth(v) for v in train]
    one, two = (LearnedAccuracy(NasBench201.parameters).fit(train, accuracies) for _ in range(2))
    assert np.array_equal(one.predict(train)[0], two.predict(train)[0])
    mean, deviation = LearnedAccuracy(NasBench201.parameters).fit(train, [5.0] * 50).predict(train)
    assert np.allclose(mean, 5)
    assert np.isfinite(deviation).all()


def test_what_it_cannot_learn_from():
    model = LearnedAccuracy(Tiny.parameters)
    with pytest.raises(ConfigError, match="fit it first"):
        model.predict([{"width": 4}])
    good = {"width": 4, "depth": 1, "act": "relu"}
    for values, accuracies in (([good], [1.0]), ([good] * 2, [1.0]), ([good] * 2, [1.0, np.nan])):
        with pytest.raises(ConfigError, match="finite accuracy"):
            model.fit(values, accuracies)
    with pytest.raises(ConfigError, match="width=5 is none"):
        model.fit([good, {**good, "width": 5}], [1.0, 2.0])
