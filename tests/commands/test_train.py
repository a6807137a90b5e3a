"""``predict-latency train`` and ``evaluate``: from what was measured to a device with a card."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

pytest.importorskip("lightgbm", reason="training needs LightGBM")
pytest.importorskip("scipy", reason="training needs SciPy")

from synthetic import measurements

from predictor.device import load_device, user_profiles
from predictor.errors import MeasurementError


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A folder of measurements, and what they are read as."""
    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(tmp_path))
    home = user_profiles().parent / "measurements" / "nonesuch"
    told = {}
    for runtime in ("eager", "onnxruntime"):
        folder = home / f"{runtime}-fp32"
        folder.mkdir(parents=True)
        for name in ("plan.zip", "results.jsonl"):
            (folder / name).write_bytes(b"x")
        told[folder.name] = measurements(runtime=runtime)

    def read(plan, results, **_):
        assert plan.parent == results.parent
        return told[plan.parent.name]

    monkeypatch.setattr("predictor.profiling.records.read_measurements", read)
    return home


def test_from_measurements_to_a_card_and_a_prediction(measured, run):
    quick = ["--trials", "0", "--no-baselines", "--runtime", "eager"]
    code, out, err = run("train", "nonesuch", *quick)
    assert code == 0, err
    assert "nonesuch eager-fp32: 44 networks, whole families left out" in out
    assert "--device nonesuch --runtime eager" in out
    device = load_device("nonesuch")
    assert [t.name for t in device.targets] == ["eager-fp32"]

    code, out, _ = run("evaluate", "nonesuch")
    assert code == 0
    assert "NAS subnets" in out
    assert "Repeatability" in out
    code, out, _ = run("evaluate", "nonesuch", "--json")
    card = json.loads(out)["targets"]["eager-fp32"]
    assert json.loads(out)["schema_version"] == 1
    assert card["protocols"]["family"]["n"] == 44
    assert card["protocols"]["family"]["mean_pct"] < 10

    code, out, _ = run("devices", "nonesuch")
    assert code == 0
    assert "measured" in out
    assert "families left out" in out

    cell = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|none~2|"
    code, out, err = run(f"nasbench201:{cell}", "--device", "nonesuch", "--runtime", "eager", "--json")  # fmt: skip
    assert code == 0, err
    answer = json.loads(out)
    assert answer["tier"] == "measured"
    assert {kernel["source"] for kernel in answer["kernels"]} <= {"measured", "learned", "roofline"}

    code, _, err = run("evaluate", "nonesuch", "--runtime", "onnxruntime")
    assert code == MeasurementError.exit_code
    assert "no measured target of onnxruntime" in err


def test_all_that_was_measured_becomes_targets_of_one_device(measured, run):
    code, out, err = run("train", "nonesuch", "--trials", "0", "--no-baselines")
    assert code == 0, err
    assert [t.name for t in load_device("nonesuch").targets] == ["eager-fp32", "onnxruntime-fp32"]
    assert out.count("whole families left out") == 2


@pytest.mark.parametrize(("arguments", "words"), [
    (["nobody"], "predict-latency profile --name nobody"),
    (["nonesuch", "--runtime", "tensorrt"], "there is eager-fp32, onnxruntime-fp32"),
    (["nonesuch", "--precision", "fp16"], "there is eager-fp32, onnxruntime-fp32"),
])  # fmt: skip
def test_nothing_measured_says_what_to_run(measured, run, arguments, words):
    code, out, err = run("train", *arguments)
    assert code == MeasurementError.exit_code
    assert words in err
    assert out == ""


def test_a_shipped_device_s_name_is_taken(measured, run):
    (measured.parent / "rtx-4090" / "eager-fp32").mkdir(parents=True)
    for name in ("plan.zip", "results.jsonl"):
        (measured.parent / "rtx-4090" / "eager-fp32" / name).write_bytes(b"x")
    code, _, err = run("train", "rtx-4090")
    assert code == 2
    assert "another name" in err


def test_a_device_without_measurements_has_no_card_of_this_kind(measured, run):
    code, _, err = run("evaluate", "rtx-4090")
    assert code == MeasurementError.exit_code
    assert "predict-latency devices rtx-4090" in err
