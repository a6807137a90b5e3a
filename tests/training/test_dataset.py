"""Measurements as arrays: units, whose kernel a time is, labels, weights, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import MACHINE, graph_of, measurements, true_us

from predictor.builder import GraphBuilder
from predictor.errors import MeasurementError
from predictor.kernels.lowering import prepare
from predictor.profiling.records import KernelTiming
from predictor.training.dataset import (
    FLUSHED_BYTES,
    PLACES,
    SCORED,
    Columns,
    dataset_of,
    hardware_of_run,
    rules_of,
)
from predictor.training.fit import class_sums_ms


def test_rows_hold_the_seconds_of_their_own_kernels(measured, data):
    """A slip of a row, or of milliseconds and microseconds, would spoil all that follows."""
    quiet = dataset_of(measurements(noise=0.0))
    timed = [k for k in measured.kernels if k.latency_ms > 0]
    assert len(data.rows) == len(timed)
    said = 1e6 * quiet.rows.seconds
    for at in range(0, len(timed), 37):
        kernel = timed[at].kernel
        assert quiet.rows.kernels.features.macs[at] == kernel.macs
        assert quiet.rows.kernels.features.bytes[at] == kernel.bytes
        part = {"place": 1.0, "hot": 0.8, "flushed": 1.1}[timed[at].where]
        assert said[at] == pytest.approx(part * true_us(kernel), rel=1e-9)


def test_a_network_s_kernels_sum_up_to_what_it_takes_but_for_the_host():
    data = dataset_of(measurements(noise=0.0))
    sums = class_sums_ms(data, np.ones(len(data.rows), bool)).sum(axis=1)
    beside = data.networks.label_ms - 1.05 * sums
    np.testing.assert_allclose(beside, 12e-3 * data.networks.launches, rtol=1e-9)


def test_the_label_is_the_geometric_mean_of_the_turns(measured, data):
    first = data.networks.names[0]
    turns = [n.latency_ms for n in measured.networks if n.label == first]
    assert data.networks.label_ms[0] == pytest.approx((turns[0] * turns[1]) ** 0.5)
    once = replace(measured, networks=tuple(n for n in measured.networks if n.turn == 1))
    alone = dataset_of(once)
    assert alone.networks.label_ms[0] == pytest.approx(turns[0])
    assert np.isnan(alone.networks.turns_ms[:, 1]).all()


def test_kernels_of_the_first_turn_are_brought_to_the_label(measured, data):
    """They share the first turn's drift, which the mean of two turns has half of."""
    raw = 1e-3 * np.array([k.latency_ms for k in measured.kernels])
    place = data.rows.place == 0
    owner = data.rows.network[place]
    factor = data.networks.label_ms[owner] / data.networks.turns_ms[owner, 0]
    np.testing.assert_allclose(data.rows.seconds[place], raw[place] * factor)
    np.testing.assert_allclose(data.rows.seconds[~place], raw[~place])


def test_weights_by_place_and_agreement(measured):
    kernels = {k.where: k for k in measured.kernels}
    base = kernels["place"]
    extra = (
        replace(base, spread=0.0), replace(base, spread=0.5), replace(base, spread=0.5, repeats=800),
        replace(kernels["flushed"], spread=0.0), replace(kernels["hot"], spread=0.0),
        replace(base, space="perturbed", spread=0.0),
    )  # fmt: skip
    data = dataset_of(replace(measured, kernels=(*measured.kernels, *extra)))
    sure, unsure, many, flushed, hot, perturbed = data.rows.weight[-6:]
    assert sure == 1.0
    assert unsure < many < sure
    assert flushed == hot == perturbed == pytest.approx(0.3)


def test_surroundings_are_those_of_the_network(data):
    rows, kernels = data.rows, data.rows.kernels
    place = np.array(PLACES)[rows.place]
    assert (kernels.details.before[place == "hot"] == 0).all()
    assert (kernels.details.before[place == "flushed"] == FLUSHED_BYTES).all()
    first = np.flatnonzero((rows.network == 0) & (rows.place == 0))
    moved = kernels.features.bytes[first]
    np.testing.assert_allclose(kernels.details.before[first[:6]],
                               [0, *np.cumsum(moved[:4]), moved[1:5].sum()])  # fmt: skip


def test_isolated_kernels_belong_to_the_family_they_come_from(data, measured):
    """Left out with it: a kernel timed alone is a kernel of that family all the same."""
    timed = [k for k in measured.kernels if k.latency_ms > 0]
    for at in range(0, len(timed), 29):
        assert data.families[data.rows.family[at]] == timed[at].family
    assert (data.rows.network[data.rows.place > 0] == -1).all()


def test_a_forced_copy_is_part_of_the_operator_that_needs_it():
    """It has no call of its own, so its time stands in the next operator's."""
    b = GraphBuilder("copies")
    x = b.conv(b.input((1, 3, 32, 32)), 16, 3, padding=1)
    y = b.layer_norm(b.transpose(b.reshape(x, (1, 16, 1024)), (0, 2, 1)))
    graph = b.finish(b.linear(y, 32))
    own = prepare(graph, "fp32", "eager").kernels
    timed = prepare(graph, "fp32", "eager-cpu").kernels
    assert [k.kind for k in own] == ["conv", "copy", "norm", "linear"]
    assert [k.kind for k in timed] == ["conv", "norm", "linear"]
    norm = timed[1]
    assert [op.kind for op in norm.ops] == ["copy", "norm"]
    assert norm.bytes == own[1].bytes + own[2].bytes
    assert sum(k.macs for k in timed) == graph.macs


def test_in_place_timings_find_the_kernel_that_writes_the_same_tensor(measured):
    b = GraphBuilder("copies")
    x = b.conv(b.input((1, 3, 32, 32)), 16, 3, padding=1)
    y = b.layer_norm(b.transpose(b.reshape(x, (1, 16, 1024)), (0, 2, 1)))
    graph = b.finish(b.linear(y, 32))
    norm = next(k for k in prepare(graph, "fp32", "eager").kernels if k.kind == "norm")
    assert len(norm.ops) == 1
    network = replace(measured.networks[0], graph=graph, label="copies", family="copies", turn=1)
    timing = KernelTiming(norm, "copies", "copies", "zoo", 0.5, 8, 0.01, "place")
    data = dataset_of(replace(measured, networks=(*measured.networks, network),
                              kernels=(*measured.kernels, timing)))  # fmt: skip
    assert data.rows.kernels.features.launches[-1] == 2
    assert len(data.distinct[data.rows.signature[-1]].ops) == 2


def test_rules_of_what_was_measured(measured):
    assert rules_of(measured) == "eager-cpu"
    assert rules_of(replace(measured, device="cuda")) == "eager-timed"
    assert rules_of(replace(measured, runtime="onnxruntime")) == "onnxruntime"


def test_only_the_zoo_and_search_spaces_are_scored(data, measured):
    assert data.networks.scored.all()
    assert set(SCORED) == {"zoo", "nas"}
    extra = tuple(replace(n, space="perturbed") if n.family == "plain" else n
                  for n in measured.networks)  # fmt: skip
    scored = dataset_of(replace(measured, networks=extra)).networks
    assert scored.scored.sum() == len(scored) - 4


@pytest.mark.parametrize("machine", [
    {}, {"matmul_gflops": 5.0}, {"matmul_gflops": 0, "copy_gbs": 1},
    {"matmul_gflops": "fast", "copy_gbs": 1}, {"matmul_gflops": float("nan"), "copy_gbs": 1.0},
])  # fmt: skip
def test_a_run_that_does_not_know_its_machine_is_refused(measured, machine):
    with pytest.raises(MeasurementError, match="matmul_gflops and copy_gbs"):
        dataset_of(replace(measured, machine=machine))


def test_hardware_in_base_units(measured):
    hardware = hardware_of_run(measured)
    assert hardware.peak_flops == 1e9 * MACHINE["matmul_gflops"]
    assert hardware.bandwidth == 1e9 * MACHINE["copy_gbs"]
    assert (hardware.l2_bytes, hardware.clock_hz, hardware.units) == (512e3, 2e9, 1.0)


def test_too_little_is_refused_with_what_to_do(measured):
    with pytest.raises(MeasurementError, match="profile --name nonesuch"):
        dataset_of(replace(measured, kernels=measured.kernels[:20]))
    few = tuple(n for n in measured.networks if n.family == "plain")
    kernels = tuple(k for k in measured.kernels if k.family == "plain")
    with pytest.raises(MeasurementError, match="4 networks"):
        dataset_of(replace(measured, networks=few, kernels=kernels))


def test_columns_are_finite(data):
    columns: Columns = data.networks.kernels
    for name in ("matrix", "raw", "parts"):
        assert np.isfinite(getattr(columns, name)).all()
    assert (columns.parts >= 0).all()
    graph = graph_of("plain", 0)
    assert len(columns) > len(prepare(graph, "fp32", "eager-cpu").kernels)
