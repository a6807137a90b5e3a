"""Fitting finds what made the data."""

import dataclasses

import numpy as np
import pytest
from kernels_for_tests import HARDWARE, features

from predictor.latency.fitting import FitRow, fit_rows
from predictor.latency.physical import INDEX, MEDIAN, kernel_times, to_vector

SIZES = [(16, 2, 64), (32, 4, 56), (64, 4, 112), (48, 6, 96), (96, 3, 128), (24, 8, 160),
         (128, 4, 64), (64, 2, 224), (40, 5, 80), (80, 6, 112)]  # fmt: skip
NETS = [features(width=w, depth=d, size=s) for w, d, s in SIZES]


def predicted(f, theta, hardware=HARDWARE):
    seconds = kernel_times(f, hardware, theta).total.sum() + 1e-6 * np.exp(theta[INDEX["call_us"]])
    return 1e3 * float(seconds)


def rows_of(theta, levels=(), noise=0.0, seed=0, hardware=HARDWARE):
    rng = np.random.default_rng(seed)
    return [
        FitRow(f, hardware, predicted(f, theta, hardware) * np.exp(noise * rng.normal()), levels)
        for f in NETS
    ]


TRUTH = to_vector(
    {
        "compute.conv": 0.35,
        "compute.pointwise": 0.3,
        "memory.conv": 0.45,
        "launch_us.conv": 9.0,
        "launch_us.pointwise": 8.0,
        "k_half": 80.0,
    }
)


def errors(fit, rows, levels=()):
    theta = fit.theta(levels)
    return np.array([np.log(predicted(r.features, theta, r.hardware) / r.latency_ms) for r in rows])


def test_totals_are_recovered_on_networks_that_were_not_fitted():
    rows = rows_of(TRUTH)
    fit = fit_rows(rows[:7], noise=0.02)
    assert np.abs(errors(fit, rows[:7])).max() < 0.02
    assert np.abs(errors(fit, rows[7:])).max() < 0.05


def test_a_scale_is_found_within_five_percent():
    theta = MEDIAN.copy()
    theta[INDEX["all.compute"]] += np.log(0.6)
    theta[INDEX["all.memory"]] += np.log(0.6)
    theta[INDEX["all.launch"]] -= np.log(0.6)
    theta[INDEX["call_us"]] -= np.log(0.6)
    rows = rows_of(theta)
    fit = fit_rows(rows, noise=0.02)
    scale = np.exp(
        np.mean(
            [
                np.log(predicted(r.features, fit.common) / predicted(r.features, MEDIAN))
                for r in rows
            ]
        )
    )
    assert scale == pytest.approx(1 / 0.6, rel=0.05)


def test_one_wrong_figure_does_not_bend_the_fit():
    rows = rows_of(TRUTH)
    spoiled = [dataclasses.replace(rows[0], latency_ms=10 * rows[0].latency_ms), *rows[1:]]
    fit = fit_rows(spoiled, noise=0.05)
    assert np.median(np.abs(errors(fit, rows[1:]))) < 0.05
    bent = fit_rows(spoiled, noise=0.05, robust=1e9)
    assert np.median(np.abs(errors(bent, rows[1:]))) > 2 * np.median(np.abs(errors(fit, rows[1:])))


def test_weight_decides_between_figures_that_disagree():
    low = rows_of(MEDIAN)
    high = [dataclasses.replace(r, latency_ms=1.3 * r.latency_ms) for r in low]
    heavy = [dataclasses.replace(r, weight=50.0) for r in high]
    equal = np.mean(errors(fit_rows([*low, *high], noise=0.05), low))
    loaded = np.mean(errors(fit_rows([*low, *heavy], noise=0.05), low))
    assert 0.05 < equal < 0.21
    assert loaded > 0.22


def test_boards_share_the_shape_and_keep_their_scale():
    slow = TRUTH.copy()
    for name in ("all.compute", "all.memory"):
        slow[INDEX[name]] += np.log(0.8)
    one = rows_of(TRUTH, ("gen:x", "board:a"))
    two = rows_of(slow, ("gen:x", "board:b"))
    fit = fit_rows([*one, *two[:3]], noise=0.02)
    assert np.abs(errors(fit, two[3:], ("gen:x", "board:b"))).max() < 0.08
    assert np.median(np.abs(errors(fit, two[3:], ("gen:x", "board:a")))) > 0.05
    unseen = fit.theta(("gen:x", "board:never"))
    np.testing.assert_allclose(unseen, fit.theta(("gen:x",)))


def test_without_rows_for_a_class_the_prior_stays():
    fit = fit_rows(rows_of(TRUTH), noise=0.02)
    for name in ("compute.rnn", "memory.gather", "launch_us.attention"):
        assert fit.common[INDEX[name]] == pytest.approx(MEDIAN[INDEX[name]])


def test_layer_rows_carry_no_call():
    single = NETS[1].take(np.array([0]))
    theta = MEDIAN
    seconds = float(kernel_times(single, HARDWARE, theta).total.sum())
    layer = FitRow(single, HARDWARE, 1e3 * seconds, whole=False)
    fit = fit_rows([layer], noise=0.02)
    np.testing.assert_allclose(fit.common, MEDIAN, atol=1e-6)
    whole = fit_rows([dataclasses.replace(layer, whole=True)], noise=0.02)
    assert whole.common[INDEX["call_us"]] < MEDIAN[INDEX["call_us"]]
