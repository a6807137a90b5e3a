"""The user's function in its own process: what it raises, returns and breaks stays there."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accuracy_nets import tiny

from predictor.errors import ConfigError
from predictor.search.accuracy import find
from predictor.search.accuracy.callable_file import CallableFile
from predictor.search.candidate import Candidate, Pruned, SignalError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """
import os, signal, subprocess, sys, time
from helper import HALF

def evaluate(candidate):
    width = candidate.values["width"]
    if width == 8:
        raise ValueError("no eights")
    return HALF * width

def twelve_dies(candidate):
    if candidate.values["width"] == 12:
        os._exit(3)
    return os.getpid()

def killed(candidate):
    os.kill(os.getpid(), signal.SIGKILL)

def hangs(candidate):
    if candidate.values["width"] == 8:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open("grandchild", "w").write(str(child.pid))
        time.sleep(600)
    return 1.0

def odd(candidate):
    return {4: float("nan"), 8: None, 12: "90", 16: float("inf")}[candidate.values["width"]]

def leaves(candidate):
    sys.exit(2)

def prints(candidate):
    print("hello from the user")
    return 1

def epochs(candidate):
    for epoch in range(1, 6):
        candidate.report(epoch, 10.0 * epoch)
    return 50.0

def stubborn(candidate):
    try:
        candidate.report(1, 1.0)
    except Exception:
        pass
    return 99.0

def network(candidate):
    return sum(p.numel() for p in candidate.module().parameters()) + len(candidate.key)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper.py").write_text("HALF = 0.5\n")
    (tmp_path / "train.py").write_text(SOURCE)
    return str(tmp_path / "train.py")


@pytest.fixture
def signal_of(file):
    made = []

    def make(function, **options):
        made.append(find(f"{file}:{function}", **options))
        return made[-1]

    yield make
    for signal in made:
        signal.close()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def gone(pid, seconds=10):
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


def test_a_number_comes_back_and_an_exception_costs_one_candidate(signal_of, file):
    signal = signal_of("evaluate")
    pid = signal._child.pid
    assert signal.score(tiny(width=4)) == 2.0
    line = SOURCE.split("\n").index('        raise ValueError("no eights")') + 1
    with pytest.raises(SignalError, match=rf"ValueError: no eights \({file}:{line}\)"):
        signal.score(tiny(width=8))
    assert signal.score(tiny(width=12)) == 6.0
    assert signal._child.pid == pid  # one process for all


def test_the_prefix_python_is_welcome(file):
    signal = find(f"python:{file}:evaluate")
    assert signal.score(tiny(width=16)) == 8.0
    signal.close()


def test_the_candidate_is_whole_in_the_child(signal_of):
    candidate = tiny(width=4)
    params = sum(p.numel() for p in candidate.module().parameters())
    assert signal_of("network").score(candidate) == params + len(candidate.key)


def test_a_space_of_the_users_own_file_reaches_the_child(signal_of, tmp_path):
    from predictor.search.accuracy.child import load

    source = "from accuracy_nets import Tiny\nclass Mine(Tiny):\n    name = 'mine'\n"
    (tmp_path / "spaces_of_mine.py").write_text(source)
    space = load("_user_space_mine", tmp_path / "spaces_of_mine.py").Mine()
    values = {"width": 4, "depth": 1, "act": "relu"}
    try:
        assert signal_of("network").score(Candidate(space, values)) > 100
    finally:
        del sys.modules["_user_space_mine"]


def test_a_space_that_cannot_be_sent_says_so(signal_of):
    class Local:
        name = "local"
        held = None

    space = Local()
    with pytest.raises(ConfigError, match="Local cannot be sent"):
        signal_of("evaluate").score(Candidate(space, {"width": 4}))


@pytest.mark.parametrize(("width", "said"), [(4, "nan"), (8, "None"), (12, "'90'"), (16, "inf")])
def test_what_is_no_finite_number_is_an_error(signal_of, width, said):
    with pytest.raises(SignalError, match=f"returned {said}"):
        signal_of("odd").score(tiny(width=width))


def test_a_crash_costs_one_candidate(signal_of):
    signal = signal_of("twelve_dies")
    first = signal.score(tiny())
    with pytest.raises(SignalError, match="ended with exit code 3"):
        signal.score(tiny(width=12))
    assert signal.score(tiny()) not in (first, os.getpid())


def test_a_kill_is_named(signal_of):
    with pytest.raises(SignalError, match="SIGKILL"):
        signal_of("killed").score(tiny())


def test_sys_exit_is_an_error_like_others(signal_of):
    with pytest.raises(SignalError, match="SystemExit: 2"):
        signal_of("leaves").score(tiny())


def test_a_hang_is_ended_with_all_it_started(signal_of, tmp_path):
    signal = signal_of("hangs", seconds=1.5)
    pid, start = signal._child.pid, time.monotonic()
    with pytest.raises(SignalError, match=r"longer than 1\.5 s .* --evaluation-time"):
        signal.score(tiny(width=8))
    assert time.monotonic() - start < 4
    assert gone(pid)
    assert gone(int((tmp_path / "grandchild").read_text()))
    assert signal.score(tiny(width=4)) == 1.0


def test_close_ends_the_child(signal_of):
    signal = signal_of("evaluate")
    pid = signal._child.pid
    signal.close()
    assert gone(pid)
    signal.close()  # twice is once


def test_the_child_goes_when_its_parent_is_killed(file):
    code = (f"import os; from predictor.search.accuracy import find; s = find({file + ':evaluate'!r});"
            "print(s._child.pid, flush=True); os.kill(os.getpid(), 9)")  # fmt: skip
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert gone(int(out.stdout))


def test_a_report_prunes(signal_of):
    seen = []

    def prune(step, accuracy):
        seen.append((step, accuracy))
        return step == 3

    with pytest.raises(Pruned):
        signal_of("epochs").score(tiny(prune))
    assert seen == [(1, 10.0), (2, 20.0), (3, 30.0)]
    assert signal_of("epochs").score(tiny()) == 50.0


def test_a_function_that_swallows_pruned_is_pruned_all_the_same(signal_of):
    with pytest.raises(Pruned):
        signal_of("stubborn").score(tiny(lambda step, accuracy: True))


def test_prints_go_to_standard_error(signal_of, capfd):
    signal = signal_of("prints")
    assert signal.score(tiny()) == 1.0
    signal.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert "hello from the user" in err


@pytest.mark.parametrize(
    ("change", "function", "said"),
    [
        ("", "evalute", "no function 'evalute'. Did you mean 'evaluate'"),
        ("import nothing_of_that_name\n", "evaluate", r"train.py:1: .*ModuleNotFoundError"),
        ("def x(:\n", "evaluate", r"train.py:1: .*SyntaxError"),
        ("import os; os._exit(7)\n", "evaluate", "ended with exit code 7"),
    ],
)
def test_a_broken_file_is_found_before_any_trial(file, change, function, said):
    Path(file).write_text(change + SOURCE)
    with pytest.raises(ConfigError, match=said):
        find(f"{file}:{function}")


def test_an_import_that_hangs_ends(file):
    Path(file).write_text("import time; time.sleep(600)\n")
    with pytest.raises(ConfigError, match="importing it took longer than 1 s"):
        CallableFile(file, "evaluate", seconds=1)


def test_a_missing_file_names_the_nearest(file):
    with pytest.raises(ConfigError, match=r"no file trian\.py\. Did you mean 'train\.py'"):
        find("trian.py:evaluate")
