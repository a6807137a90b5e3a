"""``predict`` and the errors, as people and scripts meet them."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from report_fakes import HOSTILE, estimate

from predictor.commands.model import misspelt_command
from predictor.commands.options import Duration, Resolution
from predictor.errors import (
    ArtifactError,
    MeasurementError,
    ModelError,
    PredictorError,
    UncoveredOperator,
    UnknownDevice,
)
from predictor.estimate import Check

Run = Callable[..., tuple[int, str, str]]


def test_first_argument_that_is_no_command_is_a_model(
    run: Run, pipeline: types.SimpleNamespace
) -> None:
    code, short, err = run("net", "--device", "board", "--batch", "4", "-r", "360x640")
    assert code == 0
    assert run("predict", "net", "--device", "board", "-b", "4", "-r", "360x640")[1] == short
    assert run("--device", "board", "--batch", "4", "-r", "360x640", "net")[1] == short
    assert len(pipeline.asked) == 3
    for model, settings in pipeline.asked:
        assert model == "net"
        assert settings == {
            "device": "board", "config": None, "batch": 4, "resolution": (360, 640),
        }  # fmt: skip
    assert short.startswith("tiny_net on board = Example Board A 8GB\n")
    assert err == "warning: " + estimate().warnings[0] + "\n"
    assert "warning" not in short


def test_settings_that_were_not_given_stay_with_the_file(
    run: Run, pipeline: types.SimpleNamespace, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("model: torchvision:resnet18\ndevice: board\nbatch: 2\n")
    assert run(str(file))[0] == 0
    model, settings = pipeline.asked.pop()
    assert model == str(file)
    assert settings.pop("config").batch == 2
    assert settings == {"device": "board"}
    run(str(file), "-d", "other", "--strict", "--power-mode", "15W", "--scope", "call",
        "--runtime", "eager", "--precision", "fp16", "--layout", "nhwc")  # fmt: skip
    settings = pipeline.asked.pop()[1]
    settings.pop("config")
    assert settings == {
        "device": "other", "strict": True, "power_mode": "15W", "scope": "call",
        "runtime": "eager", "precision": "fp16", "layout": "nhwc",
    }  # fmt: skip


def test_json_is_pure_on_stdout(run: Run, pipeline: types.SimpleNamespace) -> None:
    code, out, err = run("net", "-d", "board", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(json.dumps(estimate().to_dict()))
    assert "warning: 1 of 6 kernels" in err


def test_html_report_is_written_beside_the_answer(
    run: Run, pipeline: types.SimpleNamespace, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    code, out, err = run("net", "-d", "board", "--html", str(file))
    assert code == 0
    assert "latency" in out
    assert f"report written to {file}" in err
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_html_never_replaces_the_model(
    run: Run, pipeline: types.SimpleNamespace, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"precious")
    code, out, err = run(str(file), "-d", "board", "--html", str(file))
    assert (code, out, file.read_bytes()) == (2, "", b"precious")
    assert "the model itself" in err


def test_html_that_cannot_be_written(
    run: Run, pipeline: types.SimpleNamespace, tmp_path: Path
) -> None:
    code, _, err = run("net", "-d", "board", "--html", str(tmp_path / "no" / "report.html"))
    assert code == 2
    assert "cannot be written" in err


@pytest.mark.parametrize(
    ("limit", "code"), [("1ms", 3), ("0.001s", 3), ("1344us", 3), ("1345us", 0), ("2 ms", 0)]
)
def test_fail_over(run: Run, pipeline: types.SimpleNamespace, limit: str, code: int) -> None:
    got, out, err = run("net", "-d", "board", "--fail-over", limit)
    assert got == code
    assert ("OVER" in out) == ("over budget: latency 1.34 ms" in err) == (code == 3)


def test_fail_over_wins_over_the_budget_of_the_file(
    run: Run, pipeline: types.SimpleNamespace
) -> None:
    params = Check("params", 4e6, 5e6, "count")
    pipeline.answer = estimate(checks=(Check("latency_ms", 1.345, 1.0, "ms"), params))
    assert run("net", "-d", "board")[0] == 3
    code, out, _ = run("net", "-d", "board", "--fail-over", "5ms", "--json")
    assert code == 0
    assert [(c["quantity"], c["limit"]) for c in json.loads(out)["checks"]] == [
        ("latency_ms", 5.0), ("params", 5e6),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["20", "ms", "-1ms", "0ms", "nan ms", "inf", "1e999s", "1 hour", "1.2.3ms"]
)
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="20ms"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "ms"), [("20ms", 20), ("0.02s", 20), ("500us", 0.5), ("500 µs", 0.5), ("2e1MS", 20)]
)
def test_durations(text: str, ms: float) -> None:
    assert Duration().convert(text, None, None) == pytest.approx(ms)


@pytest.mark.parametrize("text", ["0", "-1", "224x", "x", "nan", "1e3", "224x0", "9999999"])
def test_resolutions_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="pixels"):
        Resolution().convert(text, None, None)


def test_no_device_is_a_usage_error(
    run: Run, pipeline: types.SimpleNamespace, tmp_path: Path
) -> None:
    code, out, err = run("torchvision:resnet18")
    assert (code, out) == (2, "")
    assert "--device NAME. See: predict-latency devices" in err
    file = tmp_path / "config.yaml"
    file.write_text("model: torchvision:resnet18\n")
    assert "or 'device: NAME' in the file" in run(str(file))[2]


def test_misspelt_command_is_recognised(run: Run, pipeline: types.SimpleNamespace) -> None:
    assert "the command 'devices'" in run("devcies")[2]
    pipeline.error = ModelError("no such model 'cuont'")
    assert "the command 'count'" in run("cuont", "-d", "board")[2]
    assert misspelt_command("torchvision:resnet18") == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PredictorError("x"), 1), (ModelError("x"), 2), (UncoveredOperator("x"), 2),
        (UnknownDevice("x"), 4), (ArtifactError("x"), 4), (MeasurementError("x"), 5),
    ],
)  # fmt: skip
def test_errors_have_their_exit_codes(
    run: Run, pipeline: types.SimpleNamespace, error: Exception, code: int
) -> None:
    pipeline.error = error
    assert run("net", "-d", "board", "--json") == (code, "", "error: x\n")


@pytest.mark.parametrize(
    "error", [KeyError("k"), RecursionError(), MemoryError(), ZeroDivisionError("d")]
)
def test_internal_errors_show_no_traceback(
    run: Run, pipeline: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    pipeline.error = error
    code, out, err = run("net", "-d", "board")
    assert (code, out) == (1, "")
    assert f"internal error: {type(error).__name__}" in err
    assert "please report" in err
    assert "Traceback" not in err
    assert "Traceback" in run("net", "-d", "board", "--debug")[2]
    monkeypatch.setenv("PREDICTOR_DEBUG", "1")
    assert "Traceback" in run("net", "-d", "board")[2]


def test_interrupt_is_130(run: Run, pipeline: types.SimpleNamespace) -> None:
    pipeline.error = KeyboardInterrupt()
    code, out, err = run("net", "-d", "board")
    assert (code, out) == (130, "")
    assert "interrupted" in err


@pytest.mark.parametrize(
    "args",
    [("net", "--devise", "x"), ("count",), ("net", "--batch", "0"), ("net", "--batch", "x"),
     ("completion", "tcsh"), ("compare",), ("net", "--scope", "all"), ("net", "other")],
)  # fmt: skip
def test_usage_errors_are_2_and_leave_stdout_empty(run: Run, args: tuple[str, ...]) -> None:
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert "error: " in err
    assert "Traceback" not in err


def test_names_on_the_terminal_are_harmless(run: Run, pipeline: types.SimpleNamespace) -> None:
    pipeline.answer = estimate(model=HOSTILE, warnings=())
    assert "\x1b" not in run("net", "-d", HOSTILE)[1]
