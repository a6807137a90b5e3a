"""Rates of the roofline's parts: found again, never negative, hardly bent by outliers."""

import numpy as np
import pytest

from predictor.latency.rates import CODES, GENERAL, PARTS, USUAL, Rates
from predictor.training.rates import LEAST_OF_VARIANT, fit_rates

TRUE = np.array([12.0, 0.0, 0.0, 1.3, 0.0, 0.8, 1.6, 2.5])


def kernels(count, rates, seed=0):
    rng = np.random.default_rng(seed)
    parts = 10.0 ** rng.uniform(-6, -3, (count, len(PARTS)))
    parts[:, 0] = 1e-6
    parts[:, [1, 2, 4]] = 0.0
    return parts, parts @ rates


def fitted(parts, seconds, variant=None):
    variant = np.full(len(parts), 3 * CODES) if variant is None else variant
    return fit_rates(parts, variant, seconds, np.ones(len(parts)))


def test_known_rates_are_found_again():
    parts, seconds = kernels(200, TRUE)
    rates = fitted(parts, seconds).of(np.array([3 * CODES]))[0]
    active = TRUE > 0
    np.testing.assert_allclose(rates[active], TRUE[active], rtol=0.15)


def test_outliers_hardly_bend_them():
    parts, seconds = kernels(200, TRUE)
    seconds[::10] *= 8
    said = fitted(parts, seconds).seconds(parts, np.full(200, 3 * CODES))
    error = np.abs(np.log(said / seconds))
    assert np.median(error) < 0.08
    assert (error[::10] > 1.5).all()


def test_none_is_negative_even_where_the_data_ask_for_it():
    parts, seconds = kernels(100, TRUE)
    seconds = np.maximum(seconds - 3 * parts[:, 5], 1e-7)
    assert (fitted(parts, seconds).table >= 0).all()


def test_a_variant_has_its_own_rates_and_a_rare_one_its_class_s():
    parts, seconds = kernels(120, TRUE)
    other, slower = kernels(60, 4 * TRUE, seed=1)
    rare, few = kernels(LEAST_OF_VARIANT - 1, TRUE, seed=2)
    variant = np.repeat([3 * CODES + 1, 3 * CODES + 2, 3 * CODES + 7], [120, 60, len(rare)])
    rates = fitted(np.vstack([parts, other, rare]), np.concatenate([seconds, slower, few]), variant)
    said = [rates.seconds(parts, np.full(120, 3 * CODES + code)) for code in (1, 2)]
    assert np.median(said[1] / said[0]) == pytest.approx(4, rel=0.05)
    np.testing.assert_array_equal(*rates.of(np.array([3 * CODES + 7, 3 * CODES + GENERAL])))


def test_a_class_that_was_never_measured_takes_the_usual_rates():
    rates = fitted(*kernels(50, TRUE))
    np.testing.assert_array_equal(rates.of(np.array([5 * CODES + 1]))[0], USUAL)
    none = Rates(np.zeros(0, np.int64), np.zeros((0, len(PARTS))))
    np.testing.assert_array_equal(none.of(np.array([1, 2])), [USUAL, USUAL])
