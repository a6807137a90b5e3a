"""The whole line: estimates with provenance, adding up."""

import json
import math

import pytest

import predictor
from predictor.builder import GraphBuilder
from predictor.errors import ConfigError, UncoveredOperator, UnknownDevice
from predictor.estimate import Budget, Estimate
from predictor.latency.shared import shared_bundle


def network(size=224, batch=1, width=64):
    b = GraphBuilder("net")
    x = b.activation(
        b.batch_norm(b.conv(b.input((batch, 3, size, size)), width, 7, stride=2, padding=3))
    )
    for _ in range(4):
        y = b.activation(b.batch_norm(b.conv(x, width, 3, padding=1)))
        x = b.activation(b.add(b.batch_norm(b.conv(y, width, 3, padding=1)), x))
    return b.finish(b.linear(b.global_pool(x, flatten=True), 1000))


def odd():
    b = GraphBuilder("odd")
    x = b.conv(b.input((1, 3, 64, 64)), 16, 3)
    (x,) = b.op("unknown:mystery", [x], [x.shape], name="mystery")
    return b.finish(b.conv(x, 16, 3))


ALL = [(d.name, t.runtime, t.precision) for d in predictor.devices() for t in d.targets]


@pytest.mark.parametrize(("device", "runtime", "precision"), ALL)
def test_every_target_answers(device, runtime, precision):
    estimate = predictor.predict(network(), device=device, runtime=runtime, precision=precision)
    low, high = estimate.interval_ms
    assert 0 < low < estimate.latency_ms < high < math.inf
    parts = sum(k.latency_ms for k in estimate.kernels) + sum(estimate.overheads_ms.values())
    assert estimate.latency_ms == pytest.approx(parts)
    assert estimate.throughput_fps == pytest.approx(1e3 / estimate.latency_ms)
    assert sum(estimate.sources.values()) == pytest.approx(1)
    assert all(k.latency_ms > 0 for k in estimate.kernels), "no operator is free"
    assert 0 < estimate.peak_share <= 1
    assert sum(k.flops for k in estimate.kernels) == estimate.flops == 2 * estimate.macs
    target = predictor.load_device(device).target(runtime, precision)
    assert estimate.tier.value == target.tier
    if target.bundle is None and shared_bundle(predictor.load_device(device), target) is None:
        assert estimate.sources["roofline"] == pytest.approx(1)
        assert any("nothing was fitted" in w for w in estimate.warnings)
    elif target.bundle is None:
        assert any(f"{device} itself was never measured" in w for w in estimate.warnings)


def test_jetson_stands_for_a_board_and_says_which():
    estimate = predictor.predict(network(), device="jetson")
    assert estimate.device.startswith("jetson-")
    assert (estimate.runtime, estimate.precision, estimate.batch) == ("tensorrt", "fp16", 1)
    assert estimate.power_mode
    assert any("not included" in note for note in estimate.notes)


def test_more_work_takes_longer():
    for device in ("jetson", "rtx-3090", "i9-10940x"):
        times = [
            predictor.predict(network(size=s), device=device).latency_ms for s in (64, 128, 256)
        ]
        assert times == sorted(times)
        one = predictor.predict(network(), device=device)
        eight = predictor.predict(network(batch=8), device=device)
        # More than eightfold only where one image fits into a cache and eight do not.
        assert one.latency_ms < eight.latency_ms < 16 * one.latency_ms


def test_power_modes_order():
    device = predictor.load_device("jetson-agx-orin")
    modes = sorted(
        (m for m in device.power_modes if m.clock_mhz and m.units == device.units),
        key=lambda m: m.clock_mhz,
    )
    times = [
        predictor.predict(network(), device=device, power_mode=m.name).latency_ms for m in modes
    ]
    assert len(times) > 1
    assert times == sorted(times, reverse=True)
    with pytest.raises(ConfigError, match="99W"):
        predictor.predict(network(), device=device, power_mode="99W")


def test_a_call_through_python_costs_more_than_the_engine():
    engine = predictor.predict(network(), device="jetson")
    call = predictor.predict(network(), device="jetson", scope="call")
    assert call.latency_ms > engine.latency_ms
    assert call.overheads_ms["python_call"] > 0
    with pytest.raises(ConfigError, match="scope"):
        predictor.predict(network(), device="jetson", scope="all")


def test_what_has_no_formula_is_named_and_costs_something():
    estimate = predictor.predict(odd(), device="jetson")
    (kernel,) = [k for k in estimate.kernels if "mystery" in k.kind]
    assert kernel.latency_ms > 0
    assert kernel.source.value == "roofline"
    assert any("mystery" in w for w in estimate.warnings)
    known = predictor.predict(network(), device="jetson")
    assert math.log(estimate.interval_ms[1] / estimate.latency_ms) >= math.log(
        known.interval_ms[1] / known.latency_ms
    )
    with pytest.raises(UncoveredOperator, match="mystery"):
        predictor.predict(odd(), device="jetson", strict=True)


def test_budget():
    graph = network()
    estimate = predictor.predict(
        graph,
        device="jetson",
        budget=Budget(latency_ms=1e-6, macs=graph.macs, params=graph.params - 1, memory_mb=1e9),
    )
    assert {c.quantity: c.met for c in estimate.checks} == {
        "latency_ms": False,
        "macs": True,
        "params": False,
        "memory_mb": True,
    }
    assert estimate.within_budget is False
    assert predictor.predict(graph, device="jetson").within_budget is None


def test_precision_halves_what_is_stored():
    wide = predictor.predict(network(), device="jetson", precision="fp32")
    half = predictor.predict(network(), device="jetson", precision="fp16")
    assert half.model_mb == pytest.approx(wide.model_mb / 2)
    assert half.peak_activation_mb == pytest.approx(wide.peak_activation_mb / 2)
    assert half.macs == wide.macs
    assert half.latency_ms < wide.latency_ms


def test_memory_that_does_not_fit():
    b = GraphBuilder("wide")
    graph = b.finish(b.linear(b.linear(b.input((1, 60_000)), 60_000), 60_000))
    estimate = predictor.predict(graph, device="jetson-nano")
    assert estimate.fits_memory is False
    assert any("will not fit" in w for w in estimate.warnings)


def test_eager_launches_overlap_with_the_device():
    device, precision = next(
        (d, t.precision) for d in predictor.devices() for t in d.targets
        if d.kind == "gpu" and t.runtime == "eager" and t.bundle is None)  # fmt: skip
    options = {"device": device, "runtime": "eager", "precision": precision}
    small = predictor.predict(network(size=32), **options)
    large = predictor.predict(network(size=224, batch=64), **options)
    assert small.overheads_ms["launch_chain"] > 0.2 * small.latency_ms
    assert large.overheads_ms["launch_chain"] < 0.02 * large.latency_ms


def test_json_round_trip():
    estimate = predictor.predict(network(), device="jetson", budget=Budget(latency_ms=1))
    data = json.loads(json.dumps(estimate.to_dict()))
    assert data["schema_version"] == 1
    assert Estimate.from_dict(data).to_dict() == estimate.to_dict()


def test_names_of_kernels_are_unique():
    names = [k.name for k in predictor.predict(network(), device="jetson").kernels]
    assert len(names) == len(set(names))


def test_the_same_through_a_loaded_predictor():
    one = predictor.Predictor("jetson", precision="fp16").estimate(network())
    assert one == predictor.predict(network(), device="jetson", precision="fp16")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"device": "jetsen"}, UnknownDevice, "Did you mean 'jetson"),
        ({"device": None}, ConfigError, "no device"),
        ({"device": "jetson", "runtime": "tensort"}, ConfigError, "tensort"),
        ({"device": "jetson", "precision": "fp61"}, ConfigError, "fp61"),
        ({"device": "jetson", "batch": 3}, ConfigError, "batch 1"),
    ],
)
def test_wrong_settings(options, error, words):
    with pytest.raises(error, match=words):
        predictor.predict(network(), **options)


def test_a_module_needs_inputs():
    torch = pytest.importorskip("torch", reason="the model is a torch module")
    with pytest.raises(ConfigError, match="inputs"):
        predictor.predict(torch.nn.Linear(3, 4), device="jetson")
    estimate = predictor.predict(torch.nn.Linear(3, 4), inputs=(1, 3), batch=5, device="jetson")
    assert (estimate.batch, estimate.macs) == (5, 60)
