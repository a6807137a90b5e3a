"""Places by name, and what the end of a measuring program means."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
import stand_in

from predictor.errors import ConfigError, MeasurementError
from predictor.profiling import hosts, journal
from predictor.profiling.hosts.base import Crashed, Stream, last_words
from predictor.profiling.hosts.local import LocalHost


def test_find(tmp_path: Path) -> None:
    assert isinstance(hosts.find(None, tmp_path), LocalHost)
    assert hosts.find("local", tmp_path).describe() == "this machine"
    assert hosts.find("ssh://nano", tmp_path).describe() == "ssh://nano"
    assert hosts.find("adb://X1", tmp_path).describe() == "adb://X1"
    for place in ("nano", "user@nano", "http://nano", "ssh:/nano"):
        with pytest.raises(ConfigError, match=r"no such place; use ssh://.* or adb://"):
            hosts.find(place, tmp_path)
    with pytest.raises(ConfigError, match="--ssh-option goes with"):
        hosts.find(None, tmp_path, ssh_options=["-v"])


@pytest.mark.parametrize(
    ("code", "words", "kind", "text"),
    [
        (5, ["error: no room", "bye"], MeasurementError, "this machine: no room"),
        (2, ["x", "error: no plan"], MeasurementError, "this machine: no plan"),
        (-9, [], Crashed, "ended by signal 9 (often: no memory left)"),
        (139, ["Segmentation fault"], Crashed, "ended by signal 11. What was measured is kept"),
        (127, ["sh: py: not found"], MeasurementError, "Python cannot be run (sh: py: not found)"),
        (1, ["Traceback:", "ValueError: x"], MeasurementError, "exit code 1, saying: ValueError: x"),
        (5, [], MeasurementError, "exit code 5. What was measured is kept"),
    ],
)  # fmt: skip
def test_what_an_end_means(
    tmp_path: Path, code: int, words: list[str], kind: type[MeasurementError], text: str
) -> None:
    error = LocalHost(tmp_path)._error(code, words)
    assert type(error) is kind
    assert text in str(error)
    assert error.exit_code == 5


def test_last_words() -> None:
    assert last_words(["error: a", "error: b", "progress 1 2 x", "", "c"]) == "error: b"
    assert last_words(["a", "note: n", " "]) == "a"
    assert last_words([]) == ""


def test_a_stream_gives_whole_lines_and_hears_the_rest() -> None:
    heard: list[str] = []
    code = ("import sys; print('a'); print('b\\u00b5', file=sys.stderr, flush=True); "
            "print('c'); sys.stdout.write('torn'); sys.exit(3)")  # fmt: skip
    stream = Stream([sys.executable, "-c", code], heard.append, dict(os.environ, PYTHONUTF8="1"))
    assert list(stream.lines()) == [b"a\n", b"c\n"]
    assert stream.wait() == 3
    stream.close()
    assert heard == stream.words == ["bµ"]
    assert not stream.stopped


def test_a_stream_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictor.profiling.hosts.base.PATIENCE_S", 0.3)
    code = ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
            "print('on', flush=True); time.sleep(600)")  # fmt: skip
    stream = Stream([sys.executable, "-c", code], print)
    lines = stream.lines()
    assert next(lines) == b"on\n"
    stream.stop()
    assert stream.stopped
    assert list(lines) == []
    assert stream.wait() == -9
    stream.close()


def test_a_host_that_is_closed_ends_quietly(tmp_path: Path) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 3, sleep_s=600)
    with stand_in.with_runtime:
        host = stand_in.local(tmp_path)
        host.close()  # nothing runs yet
        lines = host.start(tmp_path / "p.zip", [], None, "k")
        head = journal.parse_line(next(lines))
        assert head is not None
        assert head["row"] == "run"
        begin = time.monotonic()
        host.close()
        assert list(lines) == []
    assert time.monotonic() - begin < 30


def test_what_is_done_is_left_out(tmp_path: Path) -> None:
    ids = stand_in.write_plan(tmp_path / "p.zip", 4)
    with stand_in.with_runtime:
        lines = list(stand_in.local(tmp_path).start(tmp_path / "p.zip", ids[:3], None, "k"))
    assert stand_in.tasks_of(lines) == ids[3:]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1)
    (tmp_path / "board").write_text("a file")
    with pytest.raises(MeasurementError, match=r"cannot be written: .*; make room and run again"):
        list(stand_in.local(tmp_path).start(tmp_path / "p.zip", [], None, "k"))
