"""Chunks answered here and by processes: one order, one output, whoever is killed."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from predictor import cli
from predictor.batching import Answered, Chunk, Job, Splitter, answer_chunk, processes, spreading
from predictor.batching.processes import Processes
from predictor.batching.spreading import Pace, Source, answered_by, answered_here
from predictor.errors import MeasurementError
from predictor.search.spaces.find import load_space

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEY = "ofa:ks=3,e=3,d=2"
JOB = Job("t", ("model", "note"), ("jetson",))
PATIENT_S = 60.0


def keys(count: int) -> list[str]:
    space, chance = load_space("ofa").space, Random(2)
    return [f"ofa:{space.key(space.random(chance))}" for _ in range(count)]


def table(*models: str) -> bytes:
    return b"".join(b'"%s",%d\n' % (model.encode(), n) for n, model in enumerate(models))


def source(data: bytes) -> Source:
    return Source(io.BytesIO(data), Splitter("t", JOB.columns, line=2))


def by_processes(data: bytes, count: int = 2) -> list[dict[str, str]]:
    with Processes(JOB, count) as crew:
        out = b"".join(one.data for one in answered_by(crew, source(data)))
    return list(csv.DictReader(io.StringIO(out.decode()), JOB.header))


def eventually(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes know deadly and slow models."""
    code = "import sys; sys.path[:] = {path!r}; import killer; from predictor.batching.worker "
    monkeypatch.setattr(processes, "_CODE", code + "import main; main()")
    monkeypatch.syspath_prepend(str(HERE))


def test_processes_say_what_one_process_says(tmp_path: Path) -> None:
    models = keys(24)
    models[3:3] = ["ofa:bad", "nope.onnx", "resnet", KEY]
    path = tmp_path / "m.csv"
    path.write_bytes(b"model,note\n" + table(*models) + b'x,y,z\n"ab"c,\n\xff,\xe9\n"open,\n')
    outs = []
    for jobs in ("1", "2"):
        outs.append(tmp_path / f"out{jobs}.csv")
        code = cli.run(["batch", str(path), "-d", "jetson", "-d", "t4", "-j", jobs, "-o",
                        str(outs[-1])])  # fmt: skip
        assert code == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert outs[0].read_bytes().count(b"\n") == 1 + 2 * (28 + 4)


def test_a_chunk_whose_process_is_killed_is_done_again(deadly: None, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    killed = []

    def kill() -> None:
        eventually(lambda: list(slow.glob("pid*")))
        killed.append(int(next(slow.glob("pid*")).name.removeprefix("pid")))
        os.kill(killed[0], signal.SIGKILL)
        (slow / "go").touch()

    thread = threading.Thread(target=kill)
    thread.start()
    rows = by_processes(table(KEY, f"slow:{slow}", *keys(40), f"deadly:{tmp_path / 'log'}:2", KEY))
    thread.join()
    assert [row["note"] for row in rows] == [str(n) for n in range(44)]
    assert not any(row["error"] for row in rows)
    assert rows[0]["latency_ms"] == rows[-1]["latency_ms"]
    assert len(list(slow.glob("pid*"))) == 2
    assert killed


def test_only_the_row_that_kills_is_without_an_answer(
    deadly: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the rows before it may take so long that what is left is tried anew.
    monkeypatch.setattr(processes, "PATIENCE_S", 600.0)
    log = tmp_path / "log"
    rows = by_processes(table(*keys(30), f"deadly:{log}:99", *keys(30)))
    assert len(rows) == 61
    (bad,) = [row for row in rows if row["error"]]
    assert bad["note"] == "30"
    assert "killed by SIGKILL, at each of 3 tries" in bad["error"]
    assert len(log.read_text()) == processes.TRIES


def test_processes_that_cannot_start_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_CODE", "import sys; {path!r}; sys.exit(3)")
    with pytest.raises(MeasurementError, match=r"could not be started \(exit code 3\)"):
        by_processes(table(KEY))


def test_a_mistake_of_every_row_is_told_before_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"model,note\n" + table(KEY))
    for extra, code, word in ((["-d", "jetsen"], 4, "Did you mean 'jetson'?"),
                              (["-d", "raspberry-pi-4", "--runtime", "tensorrt"], 2, "tensorrt")):  # fmt: skip
        assert cli.run(["batch", str(path), *extra, "-j", "2"]) == code
        out = capsys.readouterr()
        assert out.out == ""
        assert word in out.err


def test_no_process_is_left(deadly: None, tmp_path: Path) -> None:
    """Not even one that is in the middle of a row."""
    crew = Processes(JOB, 2)
    pids = crew.pids
    with crew:
        crew.submit(Chunk(table(f"slow:{tmp_path}"), 2, 0, 1), threading.Event())
        eventually(lambda: list(tmp_path.glob("pid*")))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="a server keeps its processes in /proc")
def test_after_a_kill_of_all_it_goes_on(tmp_path: Path) -> None:
    path, out, whole = tmp_path / "m.csv", tmp_path / "out.csv", tmp_path / "whole.csv"
    path.write_bytes(b"model,note\n" + table(*keys(20_000)))
    command = [sys.executable, "-m", "predictor.cli", "batch", str(path), "-d", "jetson", "-j", "2",
               "-o", str(out)]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: out.exists() and out.read_bytes().count(b"\n") > 20)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    assert len(children) == 2
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    assert 20 < out.read_bytes().count(b"\n") < 20_000
    assert cli.run([*command[3:], "--resume"]) == 0
    assert cli.run(["batch", str(path), "-d", "jetson", "-o", str(whole)]) == 0
    assert out.read_bytes() == whole.read_bytes()


class Slow:
    """A crew whose chunks are done when they are told to be, the last first."""

    width = 3

    def __init__(self) -> None:
        self.most = 0
        self.waiting: list[tuple[Chunk, Late]] = []

    def submit(self, chunk: Chunk, wake: threading.Event) -> Late:
        late = Late()
        self.waiting.append((chunk, late))
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) == self.width:
            self.finish(wake)
        else:
            threading.Timer(0.05, self.finish, [wake]).start()
        return late

    def finish(self, wake: threading.Event) -> None:
        waiting, self.waiting = self.waiting, []
        for chunk, late in reversed(waiting):
            late.answer = answer_chunk(JOB, chunk, patience_s=-1.0)
        wake.set()

    def look(self) -> None:
        pass


class Late:
    answer: Answered | None = None

    def done(self) -> bool:
        return self.answer is not None

    def result(self) -> Answered:
        assert self.answer is not None
        return self.answer


def test_order_and_window_hold_whatever_is_done_first() -> None:
    data, crew = table(*[f"none{n}" for n in range(60)]), Slow()
    found = b"".join(one.data for one in answered_by(crew, source(data)))
    wanted = b"".join(one.data for one in answered_here(JOB, source(data)))
    assert found == wanted
    assert found.count(b"\n") == 60
    assert crew.most <= crew.width


def test_chunks_begin_small_grow_and_shrink() -> None:
    pace = Pace()
    assert pace.rows == 1

    def took(rows: int, seconds: float, rest: Chunk | None = None) -> int:
        pace.learn(Answered(b"", rows, rows, 0, "", 0, seconds, 0, rest), rows)
        return pace.rows

    assert took(1, 0.001) == 4
    assert took(4, 0.004) == 16
    assert took(2, 0.001) == 16  # a pipe that gives little says nothing of much
    assert took(16, 1e-9) == 64
    assert took(1, 2.0, Chunk(b"", 1, 0, 63)) == 1
    for _ in range(20):
        took(pace.rows, 1e-9)
    assert pace.rows == spreading.MOST_ROWS


def test_a_slow_pipe_is_answered_as_it_comes() -> None:
    reading, writing = os.pipe()
    with Processes(JOB, 2) as crew, os.fdopen(reading, "rb") as stream:
        found = answered_by(crew, Source(stream, Splitter("t", JOB.columns, line=2), ahead=True))
        for n in range(3):
            os.write(writing, b"none%d,\n" % n)
            assert next(found).data.startswith(b"none%d," % n)  # though more may come
        os.close(writing)
        assert list(found) == []


def test_the_first_rows_are_written_before_others_are_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a chunk of a fast model does not hide slow ones."""
    monkeypatch.setattr(spreading, "PATIENCE_S", -1.0)
    path, out = tmp_path / "m.csv", tmp_path / "out.csv"
    path.write_bytes(b"model,note\n" + table(*keys(50)))
    written: list[int] = []
    plain = spreading.answer_chunk

    def watched(job: Job, chunk: Chunk, patience_s: float | None) -> Answered:
        written.append(out.read_bytes().count(b"\n") - 1)
        return plain(job, chunk, patience_s)

    monkeypatch.setattr(spreading, "answer_chunk", watched)
    assert cli.run(["batch", str(path), "-d", "jetson", "-o", str(out)]) == 0
    assert written == list(range(50))


@pytest.mark.parametrize("extra", [("--jobs", "2", "--scheduler", "tcp://x:1"), ("--jobs", "-1")])
def test_options_that_do_not_go_together(
    extra: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.csv"
    path.write_text("model\n")
    assert cli.run(["batch", str(path), *extra]) == 2
    assert "--jobs" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    from predictor.batching import families

    families.forget()
    yield
    families.forget()
