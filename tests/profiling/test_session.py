"""A session keeps every row once, goes on where it was, keeps its time, says what went wrong."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import stand_in

from predictor.errors import ConfigError, MeasurementError
from predictor.profiling import journal, session
from predictor.profiling.hosts.base import Crashed, Host
from predictor.profiling.hosts.local import LocalHost


class Scripted(Host):
    """A host that gives what a test says: lists of lines, each ended well or by an error."""

    def __init__(self, *acts: tuple[list[bytes], Exception | None]) -> None:
        super().__init__()
        self.acts = list(acts)
        self.asked: list[list[str]] = []

    def describe(self) -> str:
        return "the stage"

    def start(
        self, plan: Path, done: Iterable[str], seconds: float | None, key: str
    ) -> Iterator[bytes]:
        self.asked.append(list(done))
        lines, error = self.acts.pop(0)
        yield from lines
        if error:
            raise error


def row(task: str, value: float = 1.0, kind: str = "task", **more: object) -> bytes:
    body = {"row": kind, "task": task, "kind": "network", "seconds": value, **more}
    return journal.format_line(body)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    stand_in.write_plan(tmp_path / "in.plan.zip", 4)
    return tmp_path / "in.plan.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "measurements" / "box" / "stand_in-fp32"


def kept(folder: Path) -> list[bytes]:
    return stand_in.whole_lines(folder / session.RESULTS)


ALL = [row(f"task-{index}.1", index + 1.0) for index in range(4)]


def test_rows_are_kept_byte_for_byte_and_once(plan: Path, folder: Path) -> None:
    host = Scripted(([ALL[0], ALL[0], *ALL], None))
    summary = session.run(plan, folder, host)
    assert kept(folder) == [line.rstrip(b"\n") for line in ALL]
    assert summary.new == summary.measured == [f"task-{index}.1" for index in range(4)]
    assert not summary.failed
    assert not summary.left
    again = session.run(plan, folder, Scripted())  # nothing is left: no host is asked
    assert again.new == []
    assert len(again.measured) == 4
    assert len(kept(folder)) == 4


def test_a_task_counts_once_though_its_line_differs(plan: Path, folder: Path) -> None:
    host = Scripted(([ALL[0], row("task-0.1", 7.0), *ALL[1:]], None))
    session.run(plan, folder, host)
    assert stand_in.tasks_of(kept(folder)) == [f"task-{index}.1" for index in range(4)]


def test_a_damaged_line_is_not_kept_and_comes_again(plan: Path, folder: Path) -> None:
    damaged = ALL[1].replace(b"network", b"netw0rk")
    with pytest.raises(MeasurementError, match="stopped before it was done, with 1 tasks left"):
        session.run(plan, folder, Scripted(([ALL[0], damaged, *ALL[2:]], None)))
    host = Scripted((ALL, None))
    assert session.run(plan, folder, host).new == ["task-1.1"]
    assert host.asked == [["task-0.1", "task-2.1", "task-3.1"]]
    assert sorted(kept(folder)) == sorted(line.rstrip(b"\n") for line in ALL)


def test_talk_on_stdout_is_no_row(plan: Path, folder: Path) -> None:
    session.run(plan, folder, Scripted(([b"Welcome to Ubuntu\n", b"\n", *ALL], None)))
    assert len(kept(folder)) == 4


def test_what_a_vanished_host_sent_is_kept_and_told(plan: Path, folder: Path) -> None:
    gone = MeasurementError("ssh://nano: the connection was lost")
    with pytest.raises(MeasurementError, match=r"lost\. 2 new measurements are in .*results"):
        session.run(plan, folder, Scripted((ALL[:2], gone)))
    assert len(kept(folder)) == 2
    host = Scripted((ALL, None))
    session.run(plan, folder, host)
    assert host.asked == [["task-0.1", "task-1.1"]]
    assert kept(folder) == [line.rstrip(b"\n") for line in ALL]


def test_failed_tasks_are_tried_by_the_next_run_and_told(plan: Path, folder: Path) -> None:
    bad = row("task-2.1", kind="failed", error="no memory")
    summary = session.run(plan, folder, Scripted(([*ALL[:2], bad, ALL[3]], None)))
    assert summary.failed == {"task-2.1": "no memory"}
    host = Scripted(([bad, ALL[2]], None))
    summary = session.run(plan, folder, host)
    assert "task-2.1" not in host.asked[0]
    assert summary.new == ["task-2.1"]
    assert not summary.failed
    assert not summary.left


def test_a_task_that_kills_the_host_twice_is_left_out(plan: Path, folder: Path) -> None:
    died = Crashed("the stage: ended by signal 9")
    host = Scripted((ALL[:1], died), ([], died), (ALL[2:], None))
    summary = session.run(plan, folder, host)
    assert summary.failed == {"task-1.1": "the stage: ended by signal 9"}
    assert summary.remarks == ["net 1: the stage: ended by signal 9; it was started again"]
    assert host.asked == [[], ["task-0.1"], ["task-0.1", "task-1.1"]]
    assert stand_in.tasks_of(kept(folder)) == ["task-0.1", "task-2.1", "task-3.1"]


def test_a_host_that_dies_at_once_every_time_is_given_up(tmp_path: Path, folder: Path) -> None:
    stand_in.write_plan(tmp_path / "long.zip", 50)
    died = Crashed("the stage: ended by signal 4")
    host = Scripted(*[([], died)] * session.STARTS)
    with pytest.raises(MeasurementError, match=f"signal 4. It happened {session.STARTS} times"):
        session.run(tmp_path / "long.zip", folder, host)


def test_many_tasks_may_kill_the_host(tmp_path: Path, folder: Path) -> None:
    stand_in.write_plan(tmp_path / "long.zip", 40)
    died = Crashed("the stage: ended by signal 9")
    acts: list[tuple[list[bytes], Exception | None]] = []
    for index in range(0, 40, 2):  # every second task does
        acts += [([row(f"task-{index}.1")], died), ([], died)]
    summary = session.run(tmp_path / "long.zip", folder, Scripted(*acts))
    assert len(summary.measured) == len(summary.failed) == 20
    assert not summary.left


def test_a_death_after_the_last_row_loses_nothing(plan: Path, folder: Path) -> None:
    summary = session.run(plan, folder, Scripted((ALL, Crashed("the stage: signal 11"))))
    assert len(summary.measured) == 4
    assert summary.remarks == ["the stage: signal 11"]


def test_another_plan_is_refused_and_the_old_one_set_aside(
    tmp_path: Path, plan: Path, folder: Path
) -> None:
    session.run(plan, folder, Scripted((ALL, None)))
    stand_in.write_plan(tmp_path / "other.zip", 2)
    with pytest.raises(ConfigError, match=r"another plan .*--restart"):
        session.run(tmp_path / "other.zip", folder, Scripted())
    key = (folder / session.KEY).read_text()
    aside = session.set_aside(folder)
    assert aside is not None
    assert len(kept(aside)) == 4
    session.run(tmp_path / "other.zip", folder, Scripted((ALL[:2], None)))
    assert (folder / session.KEY).read_text() != key  # or a board would send the old rows
    assert session.set_aside(folder.with_name("none")) is None
    with (
        session.opened(folder / session.RESULTS),
        pytest.raises(MeasurementError, match="holds it"),
    ):
        session.set_aside(folder)
    (folder / "networks.csv").write_text("imported")
    session.set_aside(folder)
    assert len(list(folder.glob("before-*"))) == 2
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"networks.csv"}


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all"])
def test_no_plan(tmp_path: Path, folder: Path, data: bytes) -> None:
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(ConfigError, match=r"bad\.zip: not a plan file"):
        session.run(tmp_path / "bad.zip", folder, Scripted())
    with pytest.raises(ConfigError, match="No such file"):
        session.run(tmp_path / "none.zip", folder, Scripted())


def test_two_at_once_are_told_apart(plan: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    with (
        journal.Journal(str(folder / session.RESULTS)),
        pytest.raises(MeasurementError, match=r"another run holds it \(process \d+\)"),
    ):
        session.run(plan, folder, Scripted())


def test_a_damaged_key_is_told(plan: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / session.KEY).write_text("../../etc")
    with pytest.raises(MeasurementError, match="--restart"):
        session.run(plan, folder, Scripted())


def test_time_left_follows_what_tasks_took(plan: Path, folder: Path) -> None:
    seen: list[session.Progress] = []
    session.run(plan, folder, Scripted((ALL[:3] + ALL[3:], None)), None, seen.append)
    (progress,) = seen
    progress.done = {"task-0.1"}
    progress.tasks = {f"task-{index}.1": "network" for index in range(4)}
    progress.label = "net 1"
    assert progress.left_s() == pytest.approx(3 * 2.5)  # tasks of 1, 2, 3 and 4 s
    assert progress.say() == "measuring 2 of 4: net 1, 8 s left"
    progress.until = time.monotonic() + 2
    assert progress.left_s() <= 2


def test_minutes() -> None:
    assert [session.grace_s(seconds) for seconds in (30, 600, 7200)] == [10, 30, 45]
    assert session.minutes(59.6) == "60 s"
    assert session.minutes(600) == "10 min"
    assert session.minutes(7500) == "2 h 5 min"


def test_results_of_a_board_are_taken_once(tmp_path: Path, plan: Path, folder: Path) -> None:
    head = journal.format_line({"row": "run", "plan_sha256": session.sha256_of(plan)})
    results = tmp_path / "results.jsonl"
    results.write_bytes(head + ALL[0] + ALL[1][:-9])
    summary = session.take(plan, folder, results)
    assert summary.new == ["task-0.1"]
    assert len(summary.left) == 3
    assert any("torn" in remark for remark in summary.remarks)
    results.write_bytes(head + b"".join(ALL))
    assert session.take(plan, folder, results).new == ["task-1.1", "task-2.1", "task-3.1"]
    assert session.take(plan, folder, results).new == []
    assert kept(folder) == [line.rstrip(b"\n") for line in [head, *ALL]]
    results.write_bytes(journal.format_line({"row": "run", "plan_sha256": "0"}) + ALL[0])
    with pytest.raises(ConfigError, match="another plan"):
        session.take(plan, folder, results)
    results.write_bytes(b"model,latency_ms\n")
    with pytest.raises(ConfigError, match="not a results file"):
        session.take(plan, folder, results)
    with pytest.raises(ConfigError, match="No such file"):
        session.take(plan, folder, tmp_path / "none")


# With a real process.


def test_a_real_run_with_a_task_that_fails_and_one_that_crashes(
    tmp_path: Path, folder: Path
) -> None:
    ids = stand_in.write_plan(tmp_path / "p.zip", 6, do={1: "fail", 3: "crash"})
    with stand_in.with_runtime:
        summary = session.run(tmp_path / "p.zip", folder, stand_in.local(folder))
    assert summary.measured == [ids[0], ids[2], ids[4], ids[5]]
    assert summary.failed[ids[1]] == "ProgramError: this one cannot be loaded"
    assert "signal 9 (often: no memory left)" in summary.failed[ids[3]]
    assert stand_in.tasks_of(kept(folder)) == summary.measured


def test_the_time_is_kept_and_the_rest_measured_later(tmp_path: Path, folder: Path) -> None:
    ids = stand_in.write_plan(tmp_path / "p.zip", 30, sleep_s=0.25)
    with stand_in.with_runtime:
        summary = session.run(tmp_path / "p.zip", folder, stand_in.local(folder), 2.0)
        assert 0 < len(summary.measured) < 30
        assert summary.left
        assert summary.seconds < 8
        (tmp_path / "p.zip").unlink()  # the folder has its own
        more = session.run(folder / session.PLAN, folder, stand_in.local(folder), 2.0)
    assert more.new
    assert set(more.new).isdisjoint(summary.new)
    assert stand_in.tasks_of(kept(folder)) == ids[: len(more.measured)]


def test_a_task_without_end_is_stopped_behind_the_time(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LEAST_GRACE_S", 1.0)
    stand_in.write_plan(tmp_path / "p.zip", 2, sleep_s=600)
    with stand_in.with_runtime:
        summary = session.run(tmp_path / "p.zip", folder, stand_in.local(folder), 2.0)
    assert summary.seconds < 30
    assert len(summary.left) == 2
    assert summary.remarks[-1] == "net 0 took too long and was stopped; the next run measures it"


@pytest.mark.parametrize("python", ["/no/such/python", None])
def test_what_the_place_lacks_is_named(tmp_path: Path, folder: Path, python: str | None) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 2, runtime="no_such_runtime")
    host = LocalHost(folder / "board", python)
    wanted = "no runtime of the name 'no_such_runtime'" if python is None else "cannot be started"
    with pytest.raises(MeasurementError, match=wanted) as caught:
        session.run(tmp_path / "p.zip", folder, host)
    assert caught.value.exit_code == 5


def test_rows_that_only_the_board_has_are_fetched(tmp_path: Path, folder: Path) -> None:
    ids = stand_in.write_plan(tmp_path / "p.zip", 5)
    with stand_in.with_runtime:
        session.run(tmp_path / "p.zip", folder, stand_in.local(folder))
        before = kept(folder)
        path = folder / session.RESULTS
        path.write_bytes(b"\n".join(before[:3]) + b"\n" + before[3][:40])  # a file cut in half
        summary = session.run(folder / session.PLAN, folder, stand_in.local(folder))
    assert set(before) <= set(kept(folder))
    assert sorted(stand_in.tasks_of(kept(folder))) == ids
    assert any("torn" in remark for remark in summary.remarks)
    assert path.with_name(path.name + ".torn").read_bytes() == before[3][:40] + b"\n"
