"""What training writes: a device that is found and answers, with its sources; merged, checked."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from synthetic import graph_of, measurements, true_us

from predictor.builder import GraphBuilder
from predictor.device import load_device, user_profiles
from predictor.errors import ArtifactError, ConfigError
from predictor.estimate import Source
from predictor.kernels.lowering import prepare
from predictor.latency.bundle import load_bundle
from predictor.latency.table import COLUMNS, LookupTable
from predictor.pipeline import Predictor
from predictor.training.card import card_of
from predictor.training.dataset import dataset_of
from predictor.training.fit import fit
from predictor.training.target import READABLE, kernel_spread, table_text, write_target


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def trained(data):
    return fit(data, np.ones(len(data.rows), bool), np.ones(len(data.networks), bool), trials=0)


@pytest.fixture
def device(home, measured, data, trained, found):
    return write_target(measured, data, trained, found, card_of(found, measured),
                        user_profiles() / "nonesuch")  # fmt: skip


def test_the_device_is_found_by_its_name_with_its_facts(device):
    again = load_device("nonesuch")
    assert again == device
    assert (again.kind, again.title, again.units) == ("cpu", "Nonesuch 9000", 1)
    assert again.peak_tflops == {"fp32": pytest.approx(0.08)}
    assert again.bandwidth_gbs == pytest.approx(16)
    assert again.memory_gb == 8
    target = again.target("eager")
    assert (target.tier, target.precision, target.default) == ("measured", "fp32", True)
    assert "PyTorch 2.13.0, 1 thread" in target.software
    assert "measured" in load_bundle(again, target).basis


def test_a_network_that_was_measured_is_predicted_well_from_table_and_trees(device, measured):
    predictor = Predictor("nonesuch", runtime="eager")
    for label in ("plain-1", "inverted-2", "pooled-0"):
        family, index = label.split("-")
        estimate = predictor.estimate(graph_of(family, int(index)))
        turns = [n.latency_ms for n in measured.networks if n.label == label]
        assert estimate.latency_ms == pytest.approx(np.mean(turns), rel=0.06)
        assert {k.source for k in estimate.kernels} == {Source.MEASURED}
        assert estimate.interval_ms[0] < estimate.latency_ms < estimate.interval_ms[1]
        parts = sum(k.latency_ms for k in estimate.kernels) + sum(estimate.overheads_ms.values())
        assert parts == pytest.approx(estimate.latency_ms)
        assert estimate.overheads_ms["between_kernels"] > 0
        assert estimate.tier == "measured"
        assert not estimate.warnings


def test_a_network_of_the_same_kinds_that_was_not_measured_is_learned(device):
    b = GraphBuilder("new")
    x = b.activation(b.batch_norm(b.conv(b.input((1, 3, 48, 48)), 20, 3, stride=2, padding=1)))
    x = b.activation(b.batch_norm(b.conv(x, 52, 1)), "relu")
    graph = b.finish(b.linear(b.global_pool(x, flatten=True), 77))
    estimate = Predictor("nonesuch", runtime="eager").estimate(graph)
    assert Source.LEARNED in {k.source for k in estimate.kernels}
    assert not {k.source for k in estimate.kernels} & {Source.FITTED, Source.ROOFLINE}
    kernels = prepare(graph, "fp32", "eager-cpu").kernels
    total = 1.05e-3 * sum(map(true_us, kernels)) + 12e-3 * len(kernels)
    assert estimate.latency_ms == pytest.approx(total, rel=0.25)


def test_a_class_that_was_never_measured_is_a_roofline_and_is_warned_of(device):
    b = GraphBuilder("soft")
    graph = b.finish(b.softmax(b.linear(b.input((64, 512)), 512)))
    estimate = Predictor("nonesuch", runtime="eager").estimate(graph)
    assert [k.source for k in estimate.kernels][-1] is Source.ROOFLINE
    assert any("no measurement and no model" in text for text in estimate.warnings)
    wide = np.log(estimate.interval_ms[1] / estimate.latency_ms)
    plain = Predictor("nonesuch", runtime="eager").estimate(graph_of("plain", 0))
    assert wide > np.log(plain.interval_ms[1] / plain.latency_ms)


def test_a_second_runtime_joins_and_the_first_stays(device, home, data, trained, found):
    before = Predictor("nonesuch", runtime="eager").estimate(graph_of("gelu", 0)).latency_ms
    other = measurements(runtime="onnxruntime")
    other = replace(other, machine={**other.machine, "matmul_gflops": 90.0, "copy_gbs": 12.0},
                    versions={"onnxruntime": "1.32.0"})  # fmt: skip
    its = dataset_of(other)
    both = fit(its, np.ones(len(its.rows), bool), np.ones(len(its.networks), bool), trials=0)
    written = write_target(other, its, both, found, {}, user_profiles() / "nonesuch")
    assert [t.name for t in written.targets] == ["eager-fp32", "onnxruntime-fp32"]
    assert [t.default for t in written.targets] == [True, False]
    after = Predictor("nonesuch", runtime="eager").estimate(graph_of("gelu", 0)).latency_ms
    assert after == before  # the trees keep the hardware that they were trained on
    assert Predictor("nonesuch", runtime="onnxruntime").estimate(graph_of("gelu", 0)).latency_ms > 0
    assert load_bundle(written, written.target("onnxruntime")).rules == "onnxruntime"


def test_a_device_of_another_kind_is_left_alone(device, measured, data, trained, found):
    cuda = replace(measured, device="cuda")
    with pytest.raises(ConfigError, match="is a cpu"):
        write_target(cuda, data, trained, found, {}, user_profiles() / "nonesuch")
    assert load_device("nonesuch") == device


@pytest.mark.parametrize("name", ["eager-fp32-kernels.npz", "eager-fp32-table.csv", "eager-fp32.json"])  # fmt: skip
def test_a_file_that_was_changed_is_refused(device, name):
    path = user_profiles() / "nonesuch" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="damaged"):
        Predictor(load_device("nonesuch"), runtime="eager")


def test_the_table_has_a_row_a_kernel_for_reader_and_machine(measured, data):
    text = table_text(measured, data)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == (*COLUMNS, *READABLE)
    table = LookupTable.from_csv(text)
    assert len(table) == len(rows)
    in_place = [k for k in measured.kernels if k.where == "place"]
    assert sum(int(row["repeats"]) for row in rows) == 8 * len(in_place)
    for row in rows[::25]:
        assert table[row["signature"]].latency_ms == pytest.approx(float(row["latency_ms"]))
        assert float(row["p10_ms"]) <= float(row["latency_ms"]) <= float(row["p90_ms"])
        assert int(row["networks"]) >= 1
        assert row["where"] == "place"
    conv = next(row for row in rows if row["class"] == "conv" and row["weights"] == "12x3x3x3 12")
    assert conv["operators"].startswith("conv") or "conv" in conv["operators"]
    assert conv["inputs"].startswith("1x3x")
    assert table_text(measured, data) == text


def test_the_table_does_not_hurt_on_a_turn_that_it_has_not_seen(home, measured, found):
    """Table and trees from the first turns; scored on the second ones."""
    first = replace(measured, networks=tuple(n for n in measured.networks if n.turn == 1))
    data = dataset_of(first)
    model = fit(data, np.ones(len(data.rows), bool), np.ones(len(data.networks), bool), trials=0)
    write_target(first, data, model, found, {}, user_profiles() / "first")
    predictor = Predictor("first", runtime="eager")
    second = [n for n in measured.networks if n.turn == 2]

    def error():
        said = [predictor.estimate(n.graph).latency_ms for n in second]
        return float(np.mean(np.abs(np.log([s / n.latency_ms for s, n in zip(said, second, strict=True)]))))  # fmt: skip

    with_table = error()
    predictor.coster.table = None
    assert with_table < 1.08 * error()  # the model cannot be better than on this machine
    assert with_table < 0.05


def test_kernels_of_a_class_have_intervals_from_left_out_families(found):
    spread = kernel_spread(found)
    cls = found.data.rows.kernels.cls
    for kind in np.flatnonzero(np.isfinite(spread)):
        mine = np.abs(found.kernel_log_error[(cls == kind) & np.isfinite(found.kernel_log_error)])
        assert np.mean(mine <= spread[kind]) == pytest.approx(0.9, abs=0.05)
    assert np.isfinite(spread).any()
    assert not np.isfinite(spread).all()


def test_a_measured_target_is_a_source_for_calibrations(device, home, tmp_path):
    """What a calibration takes of it is what it predicts without its table."""
    from predictor.kernels.features import featurize
    from predictor.latency.costing import Coster
    from predictor.latency.source import Source as Known

    predictor = Predictor("nonesuch", runtime="eager")
    predictor.coster.table = None
    source = Known.of(device, device.target("eager"))
    graph = graph_of("inverted", 1)
    kernels = prepare(graph, "fp32", "eager-cpu").kernels
    total, parts = source.terms(kernels, featurize(kernels))
    assert total == pytest.approx(predictor.estimate(graph).latency_ms, rel=0.01)
    assert parts.sum() > 0
    folder = tmp_path / "copy"
    folder.mkdir()
    name = source.copy_into(folder, "one")
    target = replace(device.target("eager"), bundle=name)
    copied = Coster(replace(device, folder=str(folder)), target)
    assert copied.table is None
    said = copied.times(kernels, featurize(kernels)).total
    np.testing.assert_array_equal(said, source.coster.times(kernels, featurize(kernels)).total)


def test_a_sibling_does_not_take_what_was_learned_of_one_device(device):
    from predictor.hardware import Sibling
    from predictor.latency.siblings import sibling_bundle

    other = replace(device, name="other", sibling=Sibling("nonesuch"))
    assert sibling_bundle(other, other.target("eager")) is None
