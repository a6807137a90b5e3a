"""``count``, ``compare``, ``devices`` and ``doctor``."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from golden_files import check
from report_fakes import estimate

from predictor.device import Device
from predictor.errors import (
    ArtifactError,
)

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, str]]


def test_count(run: Run, pipeline: types.SimpleNamespace) -> None:
    code, out, err = run("count", "net")
    assert code == 0
    assert "148 k" in out
    assert "unknown: 1 operator has no formula (warp x1)" in out
    assert err == ""
    assert pipeline.asked == [("net", {"batch": None, "resolution": None})]
    code, out, err = run("count", "net", "--json", "--by", "module", "--depth", "1")
    assert err.startswith("warning: 1 operator has no formula (warp x1)")
    data = json.loads(out)
    assert [row["name"] for row in data["rows"]][:2] == ["stem", "block"]
    assert data["macs"] == 147616


def test_count_sweeps(run: Run, pipeline: types.SimpleNamespace) -> None:
    code, out, _ = run("count", "net", "-b", "1", "-b", "8", "-r", "32", "-r", "64", "--json")
    assert code == 0
    data = json.loads(out)["counts"]
    assert [(c["batch"], c["resolution"]) for c in data] == [(1, 32), (1, 64), (8, 32), (8, 64)]
    assert data[2]["macs"] == 8 * data[0]["macs"]
    check("cli_count_sweep", run("count", "net", "-b", "1", "-b", "8")[1])


def test_compare_goes_through_every_combination(run: Run, pipeline: types.SimpleNamespace) -> None:
    code, out, err = run("compare", "a", "b", "-d", "x", "-d", "y", "-b", "1", "-b", "2", "--json")
    assert code == 0
    assert len(json.loads(out)["estimates"]) == len(pipeline.asked) == 8
    assert [(m, s["device"], s["batch"]) for m, s in pipeline.asked[:3]] == [
        ("a", "x", 1), ("a", "x", 2), ("a", "y", 1),
    ]  # fmt: skip
    # The same warning of the same model and device is said once.
    assert err.count("warning:") == 1
    assert "Layer by layer" in run("compare", "a", "b", "-d", "x")[1]


def _device() -> Device:
    return Device.from_dict({
        "name": "board-a", "title": "Example Board A 8GB", "kind": "gpu", "generation": "ampere",
        "aliases": ["board", "a-long-alias"], "memory_gb": 8, "shared_memory": True,
        "bandwidth_gbs": 68, "units": 8, "clock_mhz": 625, "power_limit_w": 15,
        "peak_tflops": {"fp32": 1.28, "fp16": 10.24},
        "targets": [
            {"runtime": "tensorrt", "precision": "fp16", "software": "TensorRT 8.5",
             "tier": "calibrated", "bundle": "trt.json", "default": True},
            {"runtime": "eager", "precision": "fp32"},
        ],
        "power_modes": [{"name": "15W", "limit_w": 15, "default": True},
                        {"name": "7W", "limit_w": 7, "clock_mhz": 408}],
        "sources": {"memory_gb": "datasheet, table 2"}, "notes": ["An example."],
    })  # fmt: skip


@pytest.fixture
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    from predictor import device
    from predictor.latency import bundle

    card = dict(estimate().accuracy)
    monkeypatch.setattr(device, "devices", lambda: [_device()])
    monkeypatch.setattr(device, "load_device", lambda name: _device())
    monkeypatch.setattr(bundle, "load_card", lambda device, target: card)


def test_devices_as_seen(run: Run, one_device: None) -> None:
    check("devices", run("devices")[1])
    check("devices_targets", run("devices", "--targets")[1])


def test_one_device_as_seen(run: Run, one_device: None) -> None:
    check("device", run("devices", "board")[1])


def test_devices_json(run: Run, one_device: None) -> None:
    (device,) = json.loads(run("devices", "--json")[1])["devices"]
    assert [t["name"] for t in device["targets"]] == ["tensorrt-fp16", "eager-fp32"]
    assert [t["accuracy"] and t["accuracy"]["family"]["n"] for t in device["targets"]] == [
        48,
        None,
    ]
    assert "folder" not in device


def test_real_devices_are_listed(run: Run) -> None:
    code, out, _ = run("devices")
    assert code == 0
    assert re.search(r"^jetson-orin-nano .* jetson$", out, re.MULTILINE)
    code, out, err = run("devices", "jetsen")
    assert (code, out) == (4, "")
    assert "Did you mean 'jetson'" in err


def test_doctor_on_this_installation(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(tmp_path / "mine"))
    code, out, _ = run("doctor", "--json")
    findings = {f["check"]: f for f in json.loads(out)["findings"]}
    assert findings["python"]["health"] == "ok"
    assert str(tmp_path) in findings["user folder"]["text"]
    assert not (tmp_path / "mine").exists()
    assert findings["device profiles"]["health"] == findings["fitted models"]["health"] == "ok"
    assert code == (0 if json.loads(out)["sound"] else 4)


def test_doctor_names_faults_and_remedies(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from predictor.latency import bundle

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(bundle, "verify_all", lambda: ["board trt.json: 3 bytes, should be 5"])
    code, out, _ = run("doctor")
    assert code == 4
    assert "broken    fitted models       board trt.json: 3 bytes, should be 5" in out
    assert "run: pip install --force-reinstall latency-predictor" in out
    assert "run: set LATENCY_PREDICTOR_HOME to a folder that you may write to" in out
    assert "2 faults found." in out

    def fails() -> list[str]:
        raise ArtifactError("manifest is damaged")

    monkeypatch.setattr(bundle, "verify_all", fails)
    assert "manifest is damaged" in run("doctor")[1]


def test_doctor_knows_the_extras_of_this_package() -> None:
    import tomllib

    from predictor.doctor import EXTRAS, REQUIRED

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> tuple[str, ...]:
        return tuple(re.split(r"[<>=!~\[; ]", text)[0].lower() for text in requirements)

    optional = project["optional-dependencies"]
    extras = {k: names(v) for k, v in optional.items() if names(v)[0] != "latency-predictor"}
    assert extras == EXTRAS
    assert set(names(project["dependencies"])) == set(REQUIRED)
