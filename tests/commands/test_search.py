"""``predict-latency search``: what is told, written and refused."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("optuna", "5", reason="searches are Optuna's")

from golden_files import check

from predictor.front import SearchResult

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, str]]
QUICK = ("--accuracy", "flops", "--trials", "4", "--sampler", "random")
SMALL = """
name: small
inputs: [1, 3, 16, 16]
parameters: {width: [8, 16, 24], kernel: [1, 3]}
layers:
  - {type: conv2d, out: $width, kernel: $kernel, padding: same}
  - {type: global_avg_pool, flatten: true}
  - {type: linear, out: 10}
device: jetson
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "examples" / "space-blocks.yaml", tmp_path / "space.yaml")
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "train.py").write_text(
        "def evaluate(candidate):\n    candidate.report(0, 1.0)\n"
        "    return candidate.values['width'] + candidate.graph.params / 1e9\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def search(run: Run, *args: str) -> SearchResult:
    code, out, err = run("search", "space.yaml", *QUICK, *args, "--json")
    assert code == 0, err
    data = json.loads(out)
    assert data["schema_version"] == 1
    result = SearchResult.from_dict(data)
    assert json.loads(json.dumps(result.to_dict())) == data
    return result


def test_the_table(run: Run) -> None:
    code, out, _ = run("search", "space.yaml", *QUICK, "--trials", "12")
    assert code == 0
    check("search", re.sub(r"· [\d.]+ m?s\n", "· 1 s\n", out))


def test_what_is_written_is_what_is_told(run: Run, folder: Path) -> None:
    result = search(run, "--csv", "t.csv", "--html", "t.html", "-o", "win", "--top", "1")
    rows = list(csv.DictReader((folder / "t.csv").open(encoding="utf-8")))
    assert [row["key"] for row in rows] == [trial.key for trial in result.trials]
    assert result.front[0].key in (folder / "t.html").read_text()
    (winner,) = (folder / "win").iterdir()
    code, out, err = run(str(winner / "config.yaml"), "--json")
    assert code == 0, err
    wanted = result.front[0].figures["latency_ms jetson-orin-nano"]
    assert json.loads(out)["latency_ms"] == pytest.approx(wanted, rel=1e-9)
    assert (winner / "network.py").exists()


def test_a_function_of_the_users(run: Run) -> None:
    code, out, err = run("search", "space.yaml", "--accuracy", "train.py:evaluate", "--trials", "3")
    assert code == 0, err
    assert "accuracy by train.py:evaluate" in out
    assert "3 within all limits, 3 scored" in out


def test_several_devices(run: Run) -> None:
    result = search(run, "-d", "jetson", "-d", "raspberry-pi-4", "--latency", "60ms")
    assert [one.name for one in result.limits if one.device] == [
        "latency_ms jetson-orin-nano", "latency_ms raspberry-pi-4"]  # fmt: skip
    assert all(t.figures["latency_ms raspberry-pi-4"] <= 60 for t in result.trials)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--latency", "50us"), 3, "latency on jetson-orin-nano 50.0 us: 473.4 % over"),
        (("--accuracy", "flop"), 2, "Did you mean 'flops'"),
        (("--sampler", "learnt"), 2, "Did you mean 'learned'"),
        (("-d", "jetsen"), 4, "did you mean 'jetson'"),
        (("--csv", "space.yaml"), 2, "the search reads that"),
        (("--accuracy", "train.py:evaluate", "--html", "train.py"), 2, "the search reads that"),
        (("--csv", "no/t.csv"), 2, "there is no folder no"),
        (("--csv", "t", "--html", "t"), 2, "cannot be one file"),
        (("--memory", "8Q"), 2, "use 8, 8MB, 500KB or 1.5GB"),
        (("--params", "-1M"), 2, "no number above 0"),
    ],
)
def test_refused(run: Run, args: tuple[str, ...], code: int, said: str) -> None:
    found, out, err = run("search", "space.yaml", *QUICK, *args)
    assert (found, out) == (code, "")
    assert said.lower() in err.lower()


def test_an_empty_space_is_refused(run: Run, folder: Path) -> None:
    (folder / "empty.yaml").write_text("space: ofa\nparameters: {resolution: []}\n")
    code, _, err = run("search", "empty.yaml", *QUICK, "-d", "jetson")
    assert code == 2
    assert "empty.yaml" in err


def test_memory_is_in_megabytes(run: Run) -> None:
    for text in ("3", "3M", "3mb", "3000KB", "0.003GB"):
        (limit,) = [one for one in search(run, "--memory", text).limits if not one.device
                    and one.quantity == "memory_mb"]  # fmt: skip
        assert limit.limit == pytest.approx(3)


def test_upper_and_margin_leave_less(run: Run) -> None:
    some = ("--latency", "600us", "--trials", "16")
    name = "high_ms jetson-orin-nano"
    assert any(t.figures[name] > 0.6 for t in search(run, *some).trials)
    for more in (("--upper",), ("--margin", "1")):
        assert all(t.figures[name] <= 0.6 + 1e-9 for t in search(run, *some, *more).trials)


def test_a_search_goes_on_and_ends_where_nothing_is_left(run: Run) -> None:
    def go(trials: int) -> SearchResult:
        code, out, err = run("search", "small.yaml", "--accuracy", "flops", "--storage", "t.log",
                             "--trials", str(trials), "--json")  # fmt: skip
        assert code == 0, err
        return SearchResult.from_dict(json.loads(out))

    first, second = go(2), go(4)
    assert (len(first.trials), len(second.trials)) == (2, 4)
    assert second.trials[:2] == first.trials or [t.key for t in second.trials[:2]] == [
        t.key for t in first.trials]  # fmt: skip
    last = go(20)
    assert len({t.key for t in last.trials}) == 6
    assert "14 trials left" in last.notes[0]


def test_workers_share_the_trials(folder: Path) -> None:
    (folder / "train.py").write_text(
        "import os, time\ndef evaluate(candidate):\n    time.sleep(0.4)\n"
        "    open('pids', 'a').write(f'{os.getppid()}\\n')\n    return candidate.graph.params\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "predictor.cli", "search", "space.yaml", "--accuracy",
         "train.py:evaluate", "--trials", "16", "--sampler", "random", "--workers", "2", "--storage",
         "t.log", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = SearchResult.from_dict(json.loads(done.stdout))
    assert result.notes == ()
    assert len(result.trials) == len({t.key for t in result.trials}) == 16
    pids = (folder / "pids").read_text().split()
    assert len(pids) == 16
    assert len(set(pids)) == 2
