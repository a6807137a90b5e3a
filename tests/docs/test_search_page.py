"""The Python of docs/search.md runs as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from predictor import cli

REPO = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", (REPO / "docs" / "search.md").read_text("utf-8"), re.DOTALL | re.M
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("optuna", "5", reason="searches are Optuna's")
    shutil.copytree(REPO / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_function_that_trains(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="it trains")
    (folder / "train.py").write_text(next(b for b in BLOCKS if "def evaluate" in b))
    code = cli.run(["search", "nasbench201", "--device", "jetson", "--trials", "3",
                    "--accuracy", "train.py:evaluate", "--sampler", "random"])  # fmt: skip
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "3 within all limits, 3 scored" in said.out


def test_python(capsys: pytest.CaptureFixture[str]) -> None:
    exec(next(b for b in BLOCKS if "import search" in b), {})
    key, latency = capsys.readouterr().out.split()
    assert key.startswith("resolution=")
    assert float(latency) < 2
