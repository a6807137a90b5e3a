"""The command line as a process: completion, streams, signals, and its documentation."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from predictor import cli, commands
from predictor.device import load_device
from predictor.errors import (
    PredictorError,
)

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*args: str) -> tuple[int, str, str]:
        code = cli.run(args)
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def shell(command: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    program = f'predict-latency() {{ "{sys.executable}" -m predictor.cli "$@"; }}\n'
    environment = {**os.environ, "COLUMNS": "100", **settings.pop("env", {})}
    return subprocess.run(
        ["bash", "-c", program + command], cwd=ROOT, env=environment, capture_output=True,
        text=True, timeout=60, check=False, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, kind: str) -> None:
    code, out, err = run("completion", kind)
    assert (code, err) == (0, "")
    assert f"_PREDICT_LATENCY_COMPLETE={kind}_complete" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("predict-latency dev", "plain,devices"),
        ("predict-latency config.yaml --device jetson-tx", "plain,jetson-tx2"),
        ("predict-latency predict config.yaml --precision bf", "plain,bf16"),
        ("predict-latency compare a --runtime tensor", "plain,tensorrt"),
        ("predict-latency count ", "file,"),
        ("predict-latency mod", "file,"),
    ],
)
def test_completion_completes(words: str, expected: str) -> None:
    place = len(words.split(" ")) - 1
    done = shell(
        "predict-latency",
        env={"_PREDICT_LATENCY_COMPLETE": "bash_complete", "COMP_WORDS": words,
             "COMP_CWORD": str(place)},
    )  # fmt: skip
    assert expected in done.stdout.splitlines()


def test_help_and_import_are_light() -> None:
    code = (
        "import sys, predictor.cli as c; c.run(['--help']); c.run(['count', '--help'])\n"
        "heavy = {'numpy', 'torch', 'yaml', 'onnx', 'lightgbm', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_every_command(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for name in ("predict", "count", "compare", "devices", "doctor", "completion"):
        assert re.search(rf"^  {name} ", out, re.MULTILINE)
    assert run("--version")[:2][0] == 0
    code, out, _ = run()
    assert code == 2
    assert out.startswith("Usage: predict-latency")


def test_exit_codes_of_the_real_process() -> None:
    done = shell("predict-latency devices jetsen; echo $?; predict-latency --nope; echo $?")
    assert done.stdout == "4\n2\n"
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    done = shell("set -o pipefail; predict-latency devices --json | head -n 1; echo $?")
    assert done.stdout == "{\n0\n"
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_is_a_message() -> None:
    done = shell("predict-latency devices > /dev/full; echo $?")
    assert done.stdout == "2\n"
    assert done.stderr.startswith("error: stdout cannot be written")
    assert len(done.stderr.splitlines()) == 1


def test_ascii_locale_gets_ascii() -> None:
    done = shell(
        "predict-latency devices jetson",
        env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0
    assert done.stdout.isascii()


_SLOW = """
import sys, time, types
fake = types.ModuleType("predictor.pipeline")
fake.predict = lambda *a, **k: time.sleep(30)
sys.modules["predictor.pipeline"] = fake
sys.argv = ["predict-latency", "net", "-d", "board"]
from predictor.cli import main
main()
"""


def test_progress_after_two_seconds_and_interrupt() -> None:
    start = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", _SLOW], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stderr
        assert process.stderr.readline() == "predicting net ...\n"
        assert time.monotonic() - start >= 2
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err.strip()) == (130, "", "interrupted")


def _commands() -> dict[str, click.Command]:
    ctx = click.Context(cli.cli)
    group = cli.cli
    assert isinstance(group, cli.CommandGroup)
    found = {name: group.get_command(ctx, name) for name in group.list_commands(ctx)}
    return {name: command for name, command in found.items() if command is not None}


@pytest.mark.parametrize("name", sorted(_commands()))
def test_every_option_is_documented_and_no_other(name: str) -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert name in sections, f"docs/cli.md has no section '## {name}'"
    command = _commands()[name]
    found = [command]
    if isinstance(command, click.Group):
        inner = [
            command.get_command(click.Context(command), word)
            for word in command.list_commands(click.Context(command))
        ]
        assert all(f"### {name} {sub.name}" in sections[name] for sub in inner if sub)
        found += [sub for sub in inner if sub]
    params = [param for one in found for param in one.params
              if not getattr(param, "hidden", False)]  # fmt: skip
    options = {
        option for param in params if isinstance(param, click.Option) for option in param.opts
    }
    rows = "\n".join(re.findall(r"^\| (`-.*?) \|", sections[name], re.MULTILINE))
    assert set(re.findall(r"`(-[\w-]+)`", rows)) == options
    for param in params:
        assert not isinstance(param, click.Option) or param.help, f"{name} {param.opts}: no help"
    assert command.help
    assert command.callback
    assert command.callback.__module__ == f"predictor.commands.{name}"


def test_helpers_are_no_commands() -> None:
    for name in commands.HELPERS:
        assert (ROOT / "predictor" / "commands" / f"{name}.py").is_file()
    assert not commands.HELPERS & set(_commands())


def test_documented_exit_codes_are_those_of_the_errors() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    codes = set(map(int, re.findall(r"^\| (\d+) \|", text, re.MULTILINE)))
    kinds = [PredictorError, *PredictorError.__subclasses__()]
    assert codes == {0, 130} | {kind.exit_code for kind in kinds}


def test_github_actions_example_uses_options_that_exist() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    data = yaml.safe_load((ROOT / "examples" / "github-actions.yml").read_text())
    steps = data["jobs"]["latency"]["steps"]
    (line,) = [s["run"] for s in steps if "predict-latency" in s.get("run", "")]
    words = line.split()
    assert words[0] == "predict-latency"
    parsed = _commands()["predict"].make_context("predict", words[1:])
    assert parsed.params["fail_over"] == 20
    assert load_device(parsed.params["device"]).name
    assert shutil.which("bash")
