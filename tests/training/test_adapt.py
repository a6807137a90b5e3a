import math
from dataclasses import replace

import pytest
from synthetic import measurements

pytest.importorskip("lightgbm", reason="training needs lightgbm")
pytest.importorskip("scipy", reason="training needs scipy")

from predictor.kernels.features import class_of
from predictor.training.adapt import LAYERS, worst_classes
from predictor.training.dataset import dataset_of
from predictor.training.evaluate import evaluate


def test_what_is_predicted_badly_and_takes_long_comes_first():
    """Pointwise convolutions are made to take what no feature tells, family by family."""
    plain = measurements()
    odd = replace(plain, kernels=tuple(
        replace(k, latency_ms=k.latency_ms * math.exp(0.8 * ((hash_of(k.family) % 5) - 2)))
        if class_of(k.kernel) == "pointwise" else k for k in plain.kernels
    ))  # fmt: skip
    found = evaluate(dataset_of(odd), folds=4, trials=0, baselines=False)
    ranked = worst_classes(found)
    assert ranked[0][0] == "pointwise"
    assert ranked[0][1] > 3 * ranked[2][1]
    assert LAYERS["pointwise"] == ("conv",)


def hash_of(text):
    return sum(map(ord, text))
