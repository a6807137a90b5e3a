"""What a ``device.yaml`` may say beyond the datasheet: two measurements, a sibling, software."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import predictor
from predictor import cli
from predictor.builder import GraphBuilder
from predictor.device import load_device
from predictor.errors import ConfigError
from predictor.hardware import Device, Measured
from predictor.latency import bundle as bundles
from predictor.latency.intervals import DATASHEET_LOG_ERROR
from predictor.latency.siblings import sibling_bundle

TEMPLATE = Path(__file__).parents[1] / "examples" / "my-device.yaml"
KEY = "ofa:ks=3,e=3,d=2"


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(folder))
    return folder


def facts(**changes: object) -> dict[str, object]:
    data = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    for key in ("measured", "sibling", "power_modes", "host"):
        data.pop(key, None)
    return {**data, **changes}


def write(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump(facts(**changes), sort_keys=False), encoding="utf-8")
    return path


def product(size: int, dtype: str = "float16") -> predictor.Graph:
    b = GraphBuilder("product", dtype=dtype)
    return b.finish(b.linear(b.input((size, size)), size, bias=False))


def copy(size: int, dtype: str = "float16") -> predictor.Graph:
    b = GraphBuilder("copy", dtype=dtype)
    x = b.input((size, size))
    return b.finish(b.op("copy", [x], [x.shape])[0])


# --- measured ------------------------------------------------------------------------------------


def test_a_large_product_and_a_large_copy_take_what_they_took() -> None:
    device = Device.from_dict(facts(
        kind="gpu", bandwidth_gbs=400, peak_tflops={"fp32": 20, "fp16": 60, "int8": 120},
        measured={"matmul_tflops": {"fp16": 41.2}, "copy_gbs": 380},
    ))  # fmt: skip
    n = 16384
    took = predictor.predict(product(n), device=device, runtime="eager", precision="fp16")
    assert took.kernels[0].latency_ms == pytest.approx(2 * n**3 / 41.2e12 * 1e3, rel=0.02)
    took = predictor.predict(copy(n), device=device, runtime="eager", precision="fp16")
    assert took.kernels[0].latency_ms == pytest.approx(4 * n * n / 380e9 * 1e3, rel=0.03)
    assert "scaled to a matrix product at 41.2 TFLOP/s and a copy at 380 GB/s" in took.warnings[0]
    # amp runs in fp16, which was measured; fp32 was not.
    for precision, known in (("amp", True), ("fp32", False)):
        took = predictor.predict(product(n), device=device, runtime="eager", precision=precision)
        assert ("matrix product" in took.warnings[0]) is known


def test_measured_figures_follow_the_power_mode() -> None:
    modes = [{"name": "full", "default": True}, {"name": "half", "clock_mhz": 312.5,
                                                 "bandwidth_gbs": 34}]  # fmt: skip
    data = facts(power_modes=modes, measured={"matmul_tflops": {"fp16": 8}, "copy_gbs": 50})
    device = Device.from_dict(data)
    assert device.at_power("half").measured == Measured({"fp16": 4.0}, 25.0)
    full = predictor.predict(product(8192), device=device, runtime="eager")
    half = predictor.predict(product(8192), device=device, runtime="eager", power_mode="half")
    assert half.kernels[0].latency_ms == pytest.approx(2 * full.kernels[0].latency_ms, rel=0.01)
    assert Device.from_dict(json.loads(json.dumps(device.to_dict()))) == device


def test_measurements_change_nothing_where_a_target_was_fitted() -> None:
    device = load_device("jetson")
    other = replace(device, measured=Measured({"fp16": 5.0}, 40.0))
    plain = predictor.predict(KEY, device=device)
    assert predictor.predict(KEY, device=other).latency_ms == plain.latency_ms
    assert "scaled" not in " ".join(plain.notes)


@pytest.mark.parametrize(
    ("measured", "place", "words"),
    [
        ({"matmul_tflop": {}}, "measured.matmul_tflop", "Did you mean 'matmul_tflops'?"),
        ({}, "measured", "give matmul_tflops, copy_gbs or both"),
        (5, "measured", "'key: value' lines"),
        ({"matmul_tflops": 41.2}, "measured.matmul_tflops", "'key: value' lines"),
        ({"matmul_tflops": {"fp17": 1}}, "measured.matmul_tflops.fp17", "unknown precision"),
        ({"matmul_tflops": {"fp16": -1}}, "measured.matmul_tflops.fp16", "above 0"),
        ({"matmul_tflops": {"fp16": math.nan}}, "measured.matmul_tflops.fp16", "above 0"),
        ({"matmul_tflops": {"fp16": math.inf}}, "measured.matmul_tflops.fp16", "above 0"),
        ({"matmul_tflops": {"fp16": "8"}}, "measured.matmul_tflops.fp16", "write 8"),
        ({"matmul_tflops": {"fp16": 10.76}}, "measured.matmul_tflops.fp16",
         "10.76 TFLOP/s is above the peak of 10.24"),
        ({"copy_gbs": 0}, "measured.copy_gbs", "above 0"),
        ({"copy_gbs": 72}, "measured.copy_gbs", "72 GB/s is above bandwidth_gbs, 68"),
    ],
)  # fmt: skip
def test_wrong_measurements(tmp_path: Path, measured: object, place: str, words: str) -> None:
    path = write(tmp_path / "d.yaml", measured=measured)
    with pytest.raises(ConfigError, match=r"d\.yaml:\d+:\d+: ") as caught:
        load_device(path)
    assert f"{place}: " in str(caught.value)
    assert words in str(caught.value)


def test_five_percent_above_the_datasheet_is_fine(tmp_path: Path) -> None:
    measured = {"matmul_tflops": {"fp16": 10.75}, "copy_gbs": 71.4}
    assert load_device(write(tmp_path / "d.yaml", measured=measured)).measured is not None


# --- sibling -------------------------------------------------------------------------------------


def test_a_sibling_lends_its_fit_and_keeps_its_own_clocks(tmp_path: Path) -> None:
    jetson = load_device("jetson-orin-nano")
    same = {"units": jetson.units, "clock_mhz": jetson.clock_mhz, "l2_mb": jetson.l2_mb,
            "bandwidth_gbs": jetson.bandwidth_gbs, "peak_tflops": dict(jetson.peak_tflops)}  # fmt: skip
    twin = write(tmp_path / "twin.yaml", sibling={"device": "jetson"}, **same)
    theirs = predictor.predict(KEY, device="jetson")
    ours = predictor.predict(KEY, device=twin)
    assert ours.latency_ms == pytest.approx(theirs.latency_ms, rel=1e-12)
    assert (ours.tier, theirs.tier) == ("datasheet", "calibrated")
    assert ours.sources == theirs.sources
    (warning,) = ours.warnings
    assert "my-device itself was never measured: efficiencies of its sibling jetson-orin-nano" in (
        warning
    )
    # Twice the units, bandwidth and cache: faster, but not where launches count.
    same |= {"units": 16, "bandwidth_gbs": 136, "l2_mb": 4,
             "peak_tflops": {k: 2 * v for k, v in jetson.peak_tflops.items()}}  # fmt: skip
    double = predictor.predict(
        KEY, device=write(tmp_path / "b.yaml", sibling={"device": "jetson"}, **same)
    )
    assert 0.5 * theirs.latency_ms < double.latency_ms < 0.95 * theirs.latency_ms
    # A target that the sibling has no figures of stays on the roofline.
    bare = predictor.predict(KEY, device=twin, runtime="onnxruntime", precision="fp32")
    assert bare.warnings[0].startswith("nothing was fitted for onnxruntime fp32")


def test_the_interval_is_that_of_boards_left_out() -> None:
    device = Device.from_dict(facts(sibling={"device": "jetson-orin-nano"}))
    target = device.target("tensorrt", "fp16")
    sibling = load_device("jetson-orin-nano")
    theirs = bundles.load_bundle(sibling, sibling.target("tensorrt", "fp16"))
    ours, _ = sibling_bundle(device, target)
    assert theirs is not None
    assert ours is not None
    assert ours.siblings_only
    assert ours.log_error_90["board"] == theirs.log_error_90["board"]
    estimate = predictor.predict(KEY, device=device)
    width = math.log(estimate.interval_ms[1] / estimate.latency_ms)
    assert width >= theirs.log_error_90["board"] * 0.999
    # Where no board was ever left out, nothing narrower than a datasheet's is claimed.
    alone = Device.from_dict(facts(sibling={"device": "i9-10940x"}, kind="cpu", tensor_cores=False,
                                   targets=[{"runtime": "torch_compile", "precision": "fp32"}]))  # fmt: skip
    lent, _ = sibling_bundle(alone, alone.targets[0])
    assert lent is not None
    assert lent.log_error_90["board"] >= DATASHEET_LOG_ERROR["cpu"]
    assert "of another generation" in lent.basis


def test_measurements_set_the_level_of_a_sibling(tmp_path: Path) -> None:
    sibling = {"device": "a100"}
    targets = [{"runtime": "eager", "precision": "fp32"}]
    plain = Device.from_dict(facts(sibling=sibling, targets=targets))
    half = predictor.predict(product(8192, "float32"), device=plain).kernels[0].latency_ms
    tflops = 2 * 8192**3 / half / 1e9 / 2
    slow = Device.from_dict(
        facts(sibling=sibling, targets=targets, measured={"matmul_tflops": {"fp32": tflops}})
    )
    estimate = predictor.predict(product(8192, "float32"), device=slow)
    assert estimate.kernels[0].latency_ms == pytest.approx(2 * half, rel=0.03)
    assert any(note.startswith("scaled to a matrix product") for note in estimate.notes)


@pytest.mark.parametrize(
    ("sibling", "place", "words"),
    [
        ("jetson", "sibling", "'key: value' lines"),
        ({}, "sibling", "'device' is missing"),
        ({"device": "jetson", "clock": 2}, "sibling.clock", "unknown key"),
        ({"device": "jetsen"}, "sibling.device", "Did you mean 'jetson'?"),
        ({"device": "./jetson.yaml"}, "sibling.device", "unknown device"),
        ({"device": "raspberry-pi-4"}, "sibling.device", "is a cpu, and this is a gpu"),
        ({"device": "h100"}, "sibling.device", "nothing was fitted for h100"),
        ({"device": "my-device"}, "sibling.device", "no sibling of its own"),
        ({"device": "My_Board"}, "sibling.device", "no sibling of its own"),
    ],
)
def test_wrong_siblings(tmp_path: Path, sibling: object, place: str, words: str) -> None:
    path = write(tmp_path / "d.yaml", sibling=sibling)
    with pytest.raises(ConfigError, match=r"d\.yaml:\d+:\d+: ") as caught:
        load_device(path)
    assert f"{place}: " in str(caught.value)
    assert words in str(caught.value)


def test_a_sibling_of_a_sibling_and_circles(home: Path) -> None:
    for name, other in (("first", "jetson"), ("second", "first"), ("third", "fourth"),
                        ("fourth", "third")):  # fmt: skip
        folder = home / "profiles" / name
        folder.mkdir(parents=True)
        write(folder / "device.yaml", name=name, aliases=[], sibling={"device": other})
    assert load_device("first").sibling is not None
    with pytest.raises(ConfigError, match="first stands on a sibling itself; name that one"):
        load_device("second")
    with pytest.raises(ConfigError, match="stands on a sibling itself"):
        load_device("third")


# --- software ------------------------------------------------------------------------------------

VERSIONS = [
    {"runtime": "eager", "precision": "amp", "software": "PyTorch 2.4.0, CUDA 12.4",
     "default": True},
    {"runtime": "eager", "precision": "amp", "software": "PyTorch 2.1.0, CUDA 12.1",
     "release": "2.1.0"},
    {"runtime": "tensorrt", "precision": "fp16", "software": "TensorRT 8.5 (JetPack 5)"},
    {"runtime": "onnxruntime", "precision": "fp16"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("software", "name"),
    [
        ("2.1.0", "eager-amp-2.1.0"),
        ("2.1", "eager-amp-2.1.0"),
        ("pytorch 2.4", "eager-amp"),
        ("PyTorch", "eager-amp"),
        ("CUDA 12.1", "eager-amp-2.1.0"),
        ("TensorRT 8.5", "tensorrt-fp16"),
        (None, "eager-amp"),
    ],
)
def test_software_chooses_a_target(software: str | None, name: str) -> None:
    device = Device.from_dict(facts(targets=VERSIONS))
    assert device.target(software=software).name == name


def test_unknown_software_is_answered_with_the_list() -> None:
    device = Device.from_dict(facts(targets=VERSIONS))
    for software in ("9", "2", "4.0", "", "12"):
        if software in ("2", "12"):  # the beginning of a version is enough
            assert device.target(software=software).software
            continue
        with pytest.raises(ConfigError, match=r"eager-amp \(PyTorch 2\.4\.0, CUDA 12\.4\)"):
            device.target(software=software)
    with pytest.raises(ConfigError, match="None is listed with its software"):
        device.target("onnxruntime", software="1.20")
    with pytest.raises(ConfigError, match=r"Listed are: tensorrt-fp16 \(TensorRT 8\.5"):
        device.target("tensorrt", software="10.0")


def test_software_from_the_command_line_and_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = write(tmp_path / "d.yaml", targets=VERSIONS)
    config = tmp_path / "net.yaml"
    config.write_text(f"model: {KEY}\ndevice: {device}\nsoftware: CUDA 12.1\n")
    assert cli.run([str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["software"] == "PyTorch 2.1.0, CUDA 12.1"
    assert cli.run([str(config), "--json", "--software", "2.4.0"]) == 0
    assert json.loads(capsys.readouterr().out)["software"] == "PyTorch 2.4.0, CUDA 12.4"
    assert predictor.predict(KEY, device=device, software="8.5").runtime == "tensorrt"
    assert cli.run([str(config), "--software", "1.13"]) == 2
    assert "no target of my-device with the software '1.13'" in capsys.readouterr().err
