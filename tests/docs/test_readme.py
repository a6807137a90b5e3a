"""Every code block of the README is run. ``UPDATE_GOLDEN=1`` writes its sample output anew."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
README = REPO / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
LINES = [line for language, body in BLOCKS if language == "sh" for line in body.splitlines()]
INSTALLS = [line for line in LINES if line.startswith("python3 -m venv")]
COMMANDS = [line for line in LINES if line not in INSTALLS and line.startswith("predict-latency")]

BEGIN, END = "<!-- output:begin -->\n```text\n", "```\n<!-- output:end -->"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what the README's commands name, and nothing else."""
    shutil.copytree(REPO / "examples", tmp_path / "examples")
    return tmp_path


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line of the README, ``predict-latency`` being the one of this Python."""
    words = shlex.split(line)
    if words[0] == "predict-latency":
        words[:1] = [sys.executable, "-m", "predictor.cli"]
    environment = {
        **os.environ, "PYTHONPATH": str(REPO), "COLUMNS": "100", "PYTHONUTF8": "1",
        "LATENCY_PREDICTOR_HOME": str(folder / "home"),
    }  # fmt: skip
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_no_block_is_of_a_language_that_is_not_run() -> None:
    assert {language for language, _ in BLOCKS} == {"text", "sh", "python"}
    # A command that is no prediction prepares one in its block: see the test of the device.
    assert len(INSTALLS) == 2
    assert [line for line in LINES if line not in INSTALLS + COMMANDS] == [
        "cp examples/my-device.yaml edge-box.yaml"
    ]


def test_the_output_is_real() -> None:
    shown = TEXT.split(BEGIN)[1].split(END)[0]
    command = "predict-latency examples/config.yaml --device jetson"
    done = run(command, REPO)
    assert done.returncode == 0, done.stderr
    real = f"$ {command}\n{done.stdout.rstrip()}\n"
    if os.environ.get("UPDATE_GOLDEN"):
        README.write_text(TEXT.replace(shown, real), encoding="utf-8")
        return
    assert shown == real, "run: UPDATE_GOLDEN=1 pytest tests/docs/test_readme.py"


def test_the_output_of_the_search_is_real() -> None:
    pytest.importorskip("optuna", "5", reason="searches are Optuna's")
    begin, end = "<!-- search:begin -->\n```text\n", "```\n<!-- search:end -->"
    shown = TEXT.split(begin)[1].split(end)[0]
    command = ("predict-latency search examples/space-blocks.yaml --latency 1.5ms --accuracy flops "
               "--trials 25 --top 3")  # fmt: skip
    done = run(command, REPO)
    assert done.returncode == 0, done.stderr
    real = f"$ {command}\n{done.stdout.rstrip()}\n"
    if os.environ.get("UPDATE_GOLDEN"):
        text = README.read_text(encoding="utf-8")
        README.write_text(text.replace(begin + shown + end, begin + real + end), encoding="utf-8")
        return
    timeless = [re.sub(r"· [\d.]+ m?s$", "", text, flags=re.MULTILINE) for text in (shown, real)]
    assert timeless[0] == timeless[1], "run: UPDATE_GOLDEN=1 pytest tests/docs/test_readme.py"


@pytest.mark.parametrize("line", [c for c in COMMANDS if "edge-box" not in c])
def test_commands(line: str, folder: Path) -> None:
    for package in ("torchvision", "timm"):
        if f"{package}:" in line and find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = run(line, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_device_of_your_own(folder: Path) -> None:
    block = next(body for _, body in BLOCKS if "edge-box" in body)
    for line in block.splitlines():
        done = run(line, folder)
        assert done.returncode == 0, done.stderr
    assert "my-device" in done.stdout or "My own board" in done.stdout


def test_python(folder: Path) -> None:
    blocks = [body for language, body in BLOCKS if language == "python"]
    assert len(blocks) == 1
    done = run(shlex.join([sys.executable, "-c", blocks[0]]), folder)
    assert done.returncode == 0, done.stderr
    assert re.match(r"[\d.]+ \([\d.]+, [\d.]+\) \['\w", done.stdout)


def test_the_install_lines_name_what_there_is() -> None:
    """Continuous integration runs the two lines themselves; here is what can be held without pip."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in INSTALLS:
        extras = re.findall(r"\[([\w,]+)\]", line)
        assert all(
            name in project["optional-dependencies"] for e in extras for name in e.split(",")
        )
        assert "-c constraints.txt" in line
    assert "predict-latency" in project["scripts"]
    script = (REPO / ".ci" / "run").read_text(encoding="utf-8")
    assert "grep '^python3 -m venv'" in script


def test_constraints_pin_every_direct_dependency() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(d for e in project["optional-dependencies"].values() for d in e),
    ]
    names = {re.split(r"[><=\[ ]", d)[0].lower() for d in wanted} - {"latency-predictor"}
    lines = (REPO / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().split("==") for line in lines if "==" in line)
    assert names <= pins.keys()
    assert pins["torch"] == "2.13.0"
    assert pins["torchvision"] == "0.28.0"
    assert not [pin for pin in pins.values() if "+" in pin]


def test_links_lead_somewhere() -> None:
    pages = [README, *sorted((REPO / "docs").glob("*.md"))]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken
