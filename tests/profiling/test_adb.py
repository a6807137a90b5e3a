"""Android devices behind a stand-in: a program of the name ``adb`` that does what adb is said to."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest
import stand_in

from predictor.errors import ConfigError, MeasurementError
from predictor.profiling import hosts, session
from predictor.profiling.hosts.adb import AdbHost

ADB = """#!{python}
import os, subprocess, sys, time
words, unplugged = sys.argv[1:], os.path.join({folder!r}, "unplugged")
log = open(os.path.join({folder!r}, "log"), "a")
log.write(repr(words) + "\\n")
if words[:1] == ["-s"]:
    if words[1] != "emulator-5554":
        sys.exit("adb: device '" + words[1] + "' not found")
    words = words[2:]
if os.path.exists(unplugged):
    sys.exit("error: device 'emulator-5554' not found")
if words[0] == "push":
    assert len(words) == 3
    with open(words[1], "rb") as source, open(words[2], "wb") as target:
        target.write(source.read())
elif words[0] == "shell":
    child = subprocess.Popen(["sh", "-c", " ".join(words[1:])], start_new_session=True)
    while child.poll() is None:
        if os.path.exists(unplugged):
            os.killpg(child.pid, 9)
            sys.exit("error: closed")
        time.sleep(0.02)
    sys.exit(child.returncode)
else:
    sys.exit("adb: unknown command " + words[0])
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with adb in it, on PATH, and a plan."""
    adb = tmp_path / "bin" / "adb"
    adb.parent.mkdir()
    adb.write_text(ADB.format(python=sys.executable, folder=str(tmp_path)))
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", f"{adb.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def device(bench: Path, serial: str = "emulator-5554") -> hosts.Host:
    return hosts.find(f"adb://{serial}{bench}/sd%20card", bench, python=sys.executable)


def kept(bench: Path) -> list[bytes]:
    return stand_in.whole_lines(bench / "t" / session.RESULTS)


@pytest.mark.parametrize("serial", ["emulator-5554", ""])
def test_a_plan_is_measured_through_adb(bench: Path, serial: str) -> None:
    ids = stand_in.write_plan(bench / "p.zip", 4, do={1: "fail"})
    with stand_in.with_runtime:
        summary = session.run(bench / "p.zip", bench / "t", device(bench, serial), 60)
    assert summary.measured == [ids[0], ids[2], ids[3]]
    assert list(summary.failed) == [ids[1]]
    (results,) = (bench / "sd card").glob("results-*.jsonl")
    assert stand_in.whole_lines(results) == kept(bench)
    assert ("'-s', 'emulator-5554'" in (bench / "log").read_text()) == bool(serial)


def test_a_cable_that_is_pulled(bench: Path) -> None:
    ids = stand_in.write_plan(bench / "p.zip", 40, sleep_s=0.1)

    def pull(progress: session.Progress) -> None:
        def wait() -> None:
            while len(progress.done) < 3:
                time.sleep(0.01)
            (bench / "unplugged").touch()

        threading.Thread(target=wait, daemon=True).start()

    with stand_in.with_runtime:
        with pytest.raises(
            MeasurementError, match=r"adb://emulator-5554: no connection \(error: closed"
        ):
            session.run(bench / "p.zip", bench / "t", device(bench), None, pull)
        first = kept(bench)
        assert 3 <= len(stand_in.tasks_of(first)) < 40
        with pytest.raises(MeasurementError, match=r"not found\): see adb devices"):
            session.run(bench / "p.zip", bench / "t", device(bench))
        assert kept(bench) == first
        (bench / "unplugged").unlink()
        summary = session.run(bench / "p.zip", bench / "t", device(bench))
    assert summary.measured == ids
    assert set(first) <= set(kept(bench))
    assert sorted(stand_in.tasks_of(kept(bench))) == sorted(ids)


def test_another_device(bench: Path) -> None:
    stand_in.write_plan(bench / "p.zip", 1)
    with pytest.raises(MeasurementError, match=r"adb://HT1: no connection .*'HT1' not found"):
        session.run(bench / "p.zip", bench / "t", device(bench, "HT1"))


def test_no_python_on_the_device(bench: Path) -> None:
    stand_in.write_plan(bench / "p.zip", 1)
    host = hosts.find(f"adb://emulator-5554{bench}/x", bench, python="no-such-python")
    with pytest.raises(MeasurementError, match=r"no Python 3\.6 .* 'no-such-python' .*--python"):
        session.run(bench / "p.zip", bench / "t", host)


@pytest.mark.parametrize(
    "place", ["adb://-s", "adb://a b", "adb://x;reboot", "adb://a\nb", "adb://$(x)"]
)
def test_what_is_no_place(place: str) -> None:
    with pytest.raises(ConfigError, match=r"use adb://SERIAL"):
        AdbHost(place)


def test_places() -> None:
    assert AdbHost("adb://").folder == "/data/local/tmp/latency-predictor"
    over_wifi = AdbHost("adb://192.168.0.7:5555/data/x/")
    assert (over_wifi.serial, over_wifi.folder) == ("192.168.0.7:5555", "/data/x")
    assert over_wifi.command("ls")[:4] == ["adb", "-s", "192.168.0.7:5555", "shell"]
