"""Conformal intervals."""

import math
import random

import pytest

from predictor.latency.intervals import (
    DATASHEET_LOG_ERROR,
    UNCOVERED_LOG_ERROR,
    conformal_quantile,
    interval,
    widened,
)


def test_quantile_by_hand():
    assert conformal_quantile([0.01 * i for i in range(1, 20)]) == pytest.approx(0.18)
    assert conformal_quantile([-0.3, 0.1]) == pytest.approx(0.45)  # too few: widened
    assert conformal_quantile([]) == max(DATASHEET_LOG_ERROR.values())
    assert conformal_quantile([0.1] * 9) == pytest.approx(0.1)


def test_coverage():
    rng = random.Random(0)
    covered = 0
    for _ in range(400):
        errors = [rng.gauss(0, 0.2) for _ in range(31)]
        covered += abs(errors[-1]) <= conformal_quantile(errors[:-1])
    assert 0.87 <= covered / 400 <= 0.96


def test_widening():
    assert widened(0.2, 0.0) == pytest.approx(0.2)
    assert widened(0.2, 1.0) == pytest.approx(math.hypot(0.2, UNCOVERED_LOG_ERROR))
    assert widened(0.2, 0.3) > widened(0.2, 0.1)


def test_an_interval_is_symmetric_in_ratio():
    low, high = interval(10.0, 0.3)
    assert low * high == pytest.approx(100)
    assert high / 10 == pytest.approx(math.exp(0.3))
