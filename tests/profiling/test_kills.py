"""kill -9 at random moments: of the session, of what measures, of both. Then on, and nothing lost.

Rows are compared by their hashes: every row that was on a disk when something was killed is, byte
for byte, in the session's file at the end; no row is there twice, no task is missing or doubled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import stand_in

from predictor.profiling import session

pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self"), reason="finds processes in /proc, which Linux has"
)
SLEEP_S = 0.02
VICTIMS = ("session", "agent", "both")


def children(process: int) -> list[int]:
    """Processes that this one started, and theirs."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(words[1]), []).append(int(entry.name))
    found = list(parents.get(process, []))
    for child in found:
        found += parents.get(child, [])
    return found


def lives(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def kill(processes: list[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def start(plan: Path, folder: Path, sleep_s: float) -> subprocess.Popen[bytes]:
    environment = dict(os.environ, STAND_IN_SLEEP=str(sleep_s))
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, stand_in.__file__, str(plan), str(folder)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def on_disk(folder: Path) -> tuple[list[bytes], list[bytes]]:
    """Whole lines of the session's file and of the board's."""
    boards = sorted((folder / "board").glob("results-*.jsonl"))
    assert len(boards) <= 1
    return (stand_in.whole_lines(folder / session.RESULTS),
            [line for board in boards for line in stand_in.whole_lines(board)])  # fmt: skip


def hashes(lines: list[bytes]) -> set[str]:
    return {hashlib.sha256(line).hexdigest() for line in lines}


def survive(folder: Path, kills: int, seed: int) -> Counter[str]:
    """Kill so often, then let it end; what was killed how often."""
    plan = folder.with_name("in.plan.zip")
    ids = stand_in.write_plan(plan, kills * 80)
    chance, done, acknowledged = random.Random(seed), Counter[str](), set[str]()
    begin = time.monotonic()
    running = start(plan, folder, SLEEP_S)
    while not on_disk(folder)[0] and running.poll() is None:
        time.sleep(0.01)
    first_row_s = time.monotonic() - begin  # kills come before, at and after this moment
    while sum(done.values()) < kills:
        time.sleep(chance.uniform(0.0, 1.5 * first_row_s))
        assert running.poll() is None, "it ended by itself: the plan is too short"
        victim = VICTIMS[sum(done.values()) % len(VICTIMS)]
        measuring = children(running.pid)
        if victim == "agent" and not measuring:
            continue  # not started yet
        kill([running.pid] * (victim != "agent") + measuring * (victim != "session"))
        done[victim] += 1
        mine, board = on_disk(folder)
        acknowledged |= hashes(mine) | hashes(board)
        if victim != "agent" or chance.random() < 0.3:
            kill([running.pid])
            running.wait()
            running = start(plan, folder, SLEEP_S)
    kill([running.pid])
    running.wait()
    acknowledged |= hashes(on_disk(folder)[0]) | hashes(on_disk(folder)[1])
    assert start(plan, folder, 0.0).wait() == 0

    mine, board = on_disk(folder)
    assert acknowledged <= hashes(mine), "a row was lost or altered"
    assert hashes(board) <= hashes(mine), "a row stayed behind on the board"
    assert len(hashes(mine)) == len(mine), "a row is there twice"
    assert Counter(stand_in.tasks_of(mine)) == Counter(ids), "a task is missing or doubled"
    data = (folder / session.RESULTS).read_bytes()
    assert data == b"".join(line + b"\n" for line in mine), "something else is in the file"
    return done


def test_a_few_kills(tmp_path: Path) -> None:
    assert survive(tmp_path / "target", kills=6, seed=1) == {"session": 2, "agent": 2, "both": 2}


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(3))
def test_fifty_kills(tmp_path: Path, seed: int) -> None:
    assert sum(survive(tmp_path / "target", kills=50, seed=seed).values()) == 50


def test_what_measures_ends_with_its_session(tmp_path: Path) -> None:
    plan, folder = tmp_path / "in.plan.zip", tmp_path / "target"
    stand_in.write_plan(plan, 3)
    running = start(plan, folder, 600.0)
    while not list((folder / "board").glob("*.pid")) and running.poll() is None:
        time.sleep(0.02)
    measuring = children(running.pid)
    assert measuring
    kill([running.pid])
    running.wait()
    until = time.monotonic() + 20
    while any(map(lives, measuring)):
        assert time.monotonic() < until, "it measures on for nobody"
        time.sleep(0.05)
