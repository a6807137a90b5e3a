"""The physical model: exact derivatives, monotone in the work, above the roofline at the prior."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_for_tests import HARDWARE, columns, features

from predictor.kernels.features import featurize
from predictor.kernels.roofline import roofline_ms
from predictor.latency.physical import (
    INDEX,
    MEDIAN,
    NAMES,
    PRIOR,
    SPREAD,
    gradient,
    kernel_times,
    to_parameters,
    to_vector,
)


def total(f, theta, hardware=HARDWARE):
    return kernel_times(f, hardware, theta).total


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_gradient_equals_finite_differences(seed):
    rng = np.random.default_rng(seed)
    f = features()
    theta = MEDIAN + rng.normal(size=len(NAMES)) * SPREAD
    times, parts = gradient(f, columns(HARDWARE, len(f)), theta)
    exact = np.zeros((len(f), len(NAMES)))
    for indices, values in parts:
        for row, (index, value) in enumerate(zip(indices, values, strict=True)):
            if index >= 0:
                exact[row, index] += value
    np.testing.assert_allclose(times.total, total(f, theta), rtol=1e-12)
    step = 1e-5
    for i in range(len(NAMES)):
        if NAMES[i] == "call_us":  # a constant of the call, in no kernel
            assert not exact[:, i].any()
            continue
        up, down = theta.copy(), theta.copy()
        up[i] += step
        down[i] -= step
        numeric = (total(f, up) - total(f, down)) / (2 * step)
        np.testing.assert_allclose(exact[:, i], numeric, rtol=2e-5, atol=1e-14, err_msg=NAMES[i])


@pytest.mark.parametrize("column", ["macs", "elementwise_flops", "read_bytes", "write_bytes"])
def test_more_work_never_takes_less_time(column):
    f = features()
    more = dataclasses.replace(f, **{column: getattr(f, column) * 1.5})
    assert (total(more, MEDIAN) >= total(f, MEDIAN) * (1 - 1e-12)).all()
    assert total(more, MEDIAN).sum() > total(f, MEDIAN).sum()


@pytest.mark.parametrize(
    ("field", "factor"), [("peak_flops", 2), ("bandwidth", 2), ("clock_hz", 2), ("units", 0.5)]
)
def test_better_hardware_never_takes_longer(field, factor):
    f = features()
    better = dataclasses.replace(HARDWARE, **{field: getattr(HARDWARE, field) * factor})
    assert (total(f, MEDIAN, better) <= total(f, MEDIAN) * (1 + 1e-12)).all()


def test_above_the_floor_at_the_prior():
    f = features(width=256, size=224)
    floor = roofline_ms(
        f, peak_flops=HARDWARE.peak_flops, vector_flops=np.inf, bandwidth=HARDWARE.bandwidth * 1.5
    )
    matrix = f.macs > 0
    assert (total(f, MEDIAN)[matrix] * 1e3 >= floor[matrix] / 1.3).all()


def test_parts_by_hand():
    one = features().take(np.array([0]))
    theta = to_vector({"launch_us.conv": 7.0, "all.launch": 2.0})
    times = kernel_times(one, HARDWARE, theta)
    assert times.launch[0] == pytest.approx(14e-6)
    smooth = (times.compute**3 + times.memory**3) ** (1 / 3)
    assert times.total[0] == pytest.approx(smooth[0] + 14e-6, rel=1e-6)
    slower = dataclasses.replace(HARDWARE, clock_hz=5e8)
    assert kernel_times(one, slower, theta).launch[0] == pytest.approx(28e-6)


def test_parameters_round_trip():
    theta = MEDIAN + 0.1
    np.testing.assert_allclose(to_vector(to_parameters(theta)), theta, rtol=1e-12)
    assert to_vector({})[INDEX["k_half"]] == pytest.approx(np.log(PRIOR["k_half"][0]))
    with pytest.raises(KeyError):
        to_vector({"no_such": 1.0})


def test_no_kernels():
    assert len(total(featurize([]), MEDIAN)) == 0
