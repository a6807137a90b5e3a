"""Chunks answered by the workers of a real Dask scheduler."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from predictor import cli
from predictor.batching import Chunk, Job, on_dask
from predictor.batching.on_dask import Machines
from predictor.errors import ConfigError, MeasurementError, MissingExtra
from predictor.search.spaces.find import load_space

distributed = pytest.importorskip("distributed")

ROOT = Path(__file__).resolve().parents[2]
JOB = Job("t", ("model", "note"), ("jetson",))
PATIENT_S = 60.0
ROWS = 20_000
"""So many that no machine is done with them before it is noticed that it has begun."""


def keys(count: int) -> list[str]:
    space, chance = load_space("ofa").space, Random(3)
    return [f"ofa:{space.key(space.random(chance))}" for _ in range(count)]


def table(path: Path, *models: str) -> Path:
    lines = "".join(f'"{model}",{n}\n' for n, model in enumerate(models))
    path.write_text(f"model,note\n{lines}")
    return path


def eventually(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two processes of one thread each."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        host="127.0.0.1",
    ) as found:  # fmt: skip
        yield found


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_it_says_what_one_process_says(cluster: Any, tmp_path: Path) -> None:
    path = table(tmp_path / "m.csv", *keys(200), "ofa:bad", "nope.onnx")
    one, many, cut = (tmp_path / name for name in ("one.csv", "many.csv", "cut.csv"))
    there = ["--scheduler", cluster.scheduler_address]
    assert cli.run(["batch", str(path), "-d", "jetson", "-o", str(one)]) == 0
    assert cli.run(["batch", str(path), "-d", "jetson", "-o", str(many), *there]) == 0
    assert many.read_bytes() == one.read_bytes()
    cut.write_bytes(one.read_bytes()[:5000])
    assert cli.run(["batch", str(path), "-d", "jetson", "-o", str(cut), *there, "--resume"]) == 0
    assert cut.read_bytes() == one.read_bytes()


def test_a_lost_workers_chunks_are_done_by_another(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "m.csv", *keys(6000))
    one, many = tmp_path / "one.csv", tmp_path / "many.csv"
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())

    def kill() -> None:
        eventually(lambda: many.exists() and many.read_bytes().count(b"\n") > 3)
        os.kill(pids[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    extra = ["--scheduler", cluster.scheduler_address, "-o", str(many)]
    assert cli.run(["batch", str(path), "-d", "jetson", *extra]) == 0
    thread.join()
    assert cli.run(["batch", str(path), "-d", "jetson", "-o", str(one)]) == 0
    assert many.read_bytes() == one.read_bytes()


def test_workers_that_come_later_get_chunks_too(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_dask, "COUNTED_S", 0.0)
    with Machines(JOB, cluster.scheduler_address) as crew:

        def grown(width: int) -> bool:
            crew.look()
            return crew.width == width

        eventually(lambda: grown(4))  # one may have been killed, and is being replaced
        cluster.scale(3)
        eventually(lambda: grown(6))
        cluster.scale(2)
        eventually(lambda: grown(4))


def test_other_versions_are_told(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictor.__version__", "0.0.0")
    with pytest.raises(MeasurementError, match=r"has latency-predictor .* and this is 0\.0\.0"):
        Machines(JOB, cluster.scheduler_address)


def test_what_went_wrong_is_said(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Machines(JOB, cluster.scheduler_address) as crew:
        said = str(crew._told(ModuleNotFoundError("no", name="predictor")))
        assert "a worker lacks the package 'predictor'" in said
        assert "is gone" in str(crew._told(OSError("closed")))
        assert str(crew._told(ValueError("a\n b"))).endswith(": a b")

        class Dead:
            def result(self) -> None:
                raise distributed.KilledWorker("x", "y", 3)

        done = crew.answered(Chunk(b"m,1\nn,2\n", 2, 8, 2), Dead())
        assert (done.failed, done.exit_code) == (2, 5)


def test_no_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "m.csv", *keys(1))
    monkeypatch.setattr(on_dask, "CONNECT_S", 0.5)
    assert cli.run(["batch", str(path), "-d", "jetson", "--scheduler", "tcp://127.0.0.1:9"]) == 5
    err = capsys.readouterr().err
    assert "tcp://127.0.0.1:9: no Dask scheduler answers there" in err
    assert "Traceback" not in err
    with pytest.raises(ConfigError, match="use tcp://HOST:PORT"):
        Machines(JOB, "nowhere://x:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtra, match=r"latency-predictor\[dask\]"):
        Machines(JOB, "tcp://127.0.0.1:9")


def test_a_client_that_does_not_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dask asserts that its thread has begun within 10 s, without a word."""

    def late(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(distributed, "Client", late)
    path = table(tmp_path / "m.csv", *keys(1))
    assert cli.run(["batch", str(path), "-d", "jetson", "--scheduler", "tcp://127.0.0.1:9"]) == 5
    err = capsys.readouterr().err
    assert "tcp://127.0.0.1:9: the Dask client did not start (AssertionError)" in err
    assert "the same command starts anew" in err
    assert logging.getLogger("distributed").level != logging.CRITICAL


def test_a_scheduler_without_workers_and_one_that_goes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scheduler.json"
    path, out = table(tmp_path / "m.csv", *keys(ROWS)), tmp_path / "out.csv"
    start = [sys.executable, "-m"]
    quiet: dict[str, Any] = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "cwd": ROOT,
    }
    scheduler = subprocess.Popen(
        [*start, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
         "--no-dashboard", "--no-show", "--scheduler-file", str(file)], **quiet,
    )  # fmt: skip
    worker = None
    try:
        eventually(lambda: file.exists() and file.read_text().endswith("}"))
        address = json.loads(file.read_text())["address"]
        monkeypatch.setattr(on_dask, "WORKERS_S", 0.2)
        with pytest.raises(MeasurementError, match="no worker came within"):
            Machines(JOB, address)
        monkeypatch.setattr(on_dask, "WORKERS_S", PATIENT_S)
        monkeypatch.setattr(on_dask, "CONNECT_S", 5.0)
        worker = subprocess.Popen(
            [*start, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny",
             "--no-dashboard", "--death-timeout", "2"], **quiet,
        )  # fmt: skip

        def kill() -> None:
            eventually(lambda: out.exists() and out.read_bytes().count(b"\n") > 3)
            scheduler.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        extra = ["--scheduler", address, "-o", str(out)]
        assert cli.run(["batch", str(path), "-d", "jetson", *extra]) == 5
        thread.join()
    finally:
        for process in (scheduler, worker):
            if process is not None:
                process.kill()
                process.wait()
    err = capsys.readouterr().err
    assert f"{address}: the Dask scheduler is gone" in err
    assert "go on with --resume" in err
    assert "Traceback" not in err
    assert 3 < out.read_bytes().count(b"\n") < ROWS
    assert cli.run(["batch", str(path), "-d", "jetson", "-o", str(out), "--resume"]) == 0
    assert out.read_bytes().count(b"\n") == ROWS + 1
