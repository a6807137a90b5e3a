"""Trees of a measured target: stored and read, damaged files, caching, power modes, networks."""

import io

import numpy as np
import pytest
from kernels_for_tests import HARDWARE, kernels

from predictor.errors import ArtifactError
from predictor.kernels.details import details_of
from predictor.kernels.features import CLASS_INDEX, CLASSES, featurize
from predictor.latency.boosted import Forest
from predictor.latency.kernelwise import (
    COLUMNS,
    Kernelwise,
    columns,
    launched,
    network_ms,
    with_classes,
)
from predictor.latency.physical import Hardware
from predictor.latency.rates import CODES, GENERAL, PARTS, USUAL, Rates, parts, variants

CONV, NORM, LINEAR = (CLASS_INDEX[name] for name in ("conv", "norm", "linear"))


def model(values=(0.5, -0.25)):
    """One leaf for convolutions, and a split on log_macs for linear layers."""
    split = COLUMNS.index("log_macs")
    forest = Forest(
        np.array([-1, split, -1, -1], np.int32), np.array([0.0, 5.0, 0.0, 0.0]),
        np.array([0, 2, 2, 3], np.int32), np.array([0, 3, 2, 3], np.int32),
        np.array([values[0], 0.0, values[1], 1.0]), np.array([0, 1], np.int32), COLUMNS,
    )  # fmt: skip
    rates = Rates(np.array([CONV * CODES + GENERAL, LINEAR * CODES + GENERAL]),
                  np.array([[10.0, 0, 0, 2, 1, 1, 1, 1], [5.0, 0, 0, 1, 1, 1, 1, 3]]))  # fmt: skip
    return Kernelwise(with_classes(forest, np.array([CONV, LINEAR], np.int32)), HARDWARE, rates)


def asked(some=None):
    some = kernels("eager") if some is None else some
    return featurize(some), details_of(some)


def test_seconds_are_the_roofline_s_parts_at_their_rates_times_the_trees():
    features, details = asked()
    said = model().times(features, details)
    base = parts(features, details, HARDWARE)
    for i, cls in enumerate(features.cls):
        if cls == CONV:
            expected = base[i] @ [10.0, 0, 0, 2, 1, 1, 1, 1] * np.exp(0.5)
        elif cls == LINEAR:
            expected = base[i] @ [5.0, 0, 0, 1, 1, 1, 1, 3] * np.exp(-0.25 if features.macs[i] + 1 <= 1e5 else 1.0)  # fmt: skip
        else:
            expected = base[i] @ np.array(USUAL)
        assert said.total[i] == pytest.approx(max(expected, 1e-9))
    np.testing.assert_allclose(said.launch + said.compute + said.memory, said.total)
    assert {CLASSES[c] for c in model().classes} == {"conv", "linear"}


def test_round_trip():
    features, details = asked()
    again = Kernelwise.from_bytes(model().to_bytes())
    np.testing.assert_array_equal(
        again.times(features, details).total, model().times(features, details).total
    )
    assert again.hardware == HARDWARE
    assert again.to_bytes() == model().to_bytes()


def test_what_was_asked_before_is_not_worked_out_again(monkeypatch):
    features, details = asked()
    learned = model()
    first = learned.times(features, details).total
    monkeypatch.setattr(Kernelwise, "log_factors", lambda *_: pytest.fail("worked out again"))
    np.testing.assert_array_equal(learned.times(features, details).total, first)


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr("predictor.latency.kernelwise.KEPT", 10)
    learned = model()
    features, details = asked()
    first = learned.times(features, details).total
    for width in (8, 16, 24):
        learned.times(*asked(kernels("eager", width=width)))
        assert len(learned._known) <= max(10, len(features))
    np.testing.assert_array_equal(learned.times(features, details).total, first)


def test_the_known_factor_belongs_to_the_class_too():
    """Two classes may have kernels with the same columns; each asks its own trees."""
    features, details = asked()
    one = np.flatnonzero(features.cls == CONV)[:1]
    learned = model()
    conv = learned.times(features.take(one), details.take(one)).total
    other = features.take(one)
    other.cls[:] = NORM
    assert learned.times(other, details.take(one)).total != conv


def test_at_another_power_mode_kernels_follow_the_roofline():
    features, details = asked()
    half = Hardware(HARDWARE.peak_flops / 2, HARDWARE.vector_flops / 2, HARDWARE.bandwidth,
                    HARDWARE.l2_bytes, HARDWARE.units, HARDWARE.clock_hz)  # fmt: skip
    before, after = (m.times(features, details) for m in (model(), model().at(HARDWARE, half)))
    np.testing.assert_allclose(after.compute, 2 * before.compute)
    np.testing.assert_allclose(after.memory, before.memory)
    np.testing.assert_allclose(after.launch, before.launch)


def altered(**changes):
    with np.load(io.BytesIO(model().to_bytes())) as arrays:
        held = {name: arrays[name] for name in arrays.files}
    held.update(changes)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value for name, value in held.items() if value is not None})
    return buffer.getvalue()


@pytest.mark.parametrize("changes", [
    {"version": np.array([0])}, {"version": None}, {"hardware": None}, {"hardware": np.ones(5)}, {"hardware": np.full(6, np.nan)},
    {"hardware": np.full(6, -1.0)}, {"threads": np.array([0])}, {"threads": np.array([1.5])},
    {"spread": np.zeros(17)}, {"spread": np.ones(3)}, {"rate_keys": np.array([5, 5])},
    {"rate_keys": np.array([9, 2])}, {"rate_keys": np.array([1, 2, 3])},
    {"rate_keys": np.array([1, 10**9])}, {"rate_table": np.full((2, 8), np.inf)},
    {"rate_table": np.full((2, 8), -1.0)}, {"rate_table": np.ones((2, 7))},
    {"root_class": np.array([0, 99], np.int32)}, {"root_class": np.zeros(0, np.int32)},
    {"columns": np.array(COLUMNS[:-1], dtype="U")}, {"left": np.zeros(4, np.int32)},
])  # fmt: skip
def test_parts_that_do_not_fit_are_refused(changes):
    with pytest.raises(ArtifactError):
        Kernelwise.from_bytes(altered(**changes))


def test_any_cut_and_any_changed_byte_is_refused_or_harmless():
    data = model().to_bytes()
    features, details = asked()
    for end in range(0, len(data) - 1, 97):
        with pytest.raises(ArtifactError):
            Kernelwise.from_bytes(data[:end])
    for at in range(0, len(data), 211):
        changed = bytearray(data)
        changed[at] ^= 0x55
        try:
            said = Kernelwise.from_bytes(bytes(changed)).times(features, details).total
        except ArtifactError:
            continue
        assert said.shape == (len(features),)


def test_columns_and_variants_of_every_kernel():
    features, details = asked()
    table = columns(features, details, HARDWARE)
    assert table.shape == (len(features), len(COLUMNS))
    assert np.isfinite(table).all()
    found = variants(features, details)
    np.testing.assert_array_equal(found // CODES, features.cls)
    assert (found % CODES < GENERAL).all()
    assert parts(features, details, HARDWARE).shape == (len(features), len(PARTS))
    assert columns(*asked([])[:2], HARDWARE).shape == (0, len(COLUMNS))


def test_networks_are_chains_one_after_the_other_or_side_by_side():
    ms, operators = np.array([10.0, 1.0]), np.array([100.0, 100.0])
    np.testing.assert_allclose(network_ms(ms, operators, 1.1, 20.0, overlaps=False), [13.0, 3.1])
    side = network_ms(ms, operators, 1.1, 20.0, overlaps=True)
    assert side[0] == pytest.approx(11.0, rel=0.01)
    assert side[1] == pytest.approx(2.0, rel=0.05)


def test_views_cost_the_host_half_an_operator_in_eager_mode():
    from predictor.builder import GraphBuilder

    b = GraphBuilder("views")
    graph = b.finish(b.linear(b.reshape(b.input((4, 8, 8)), (4, 64)), 3))
    ours = kernels("eager")[:1]
    assert launched("eager", graph, ours) == 1.5
    assert launched("onnxruntime", graph, ours) == 1
