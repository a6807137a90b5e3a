"""Profiles change while they are served; a damaged one changes nothing."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest
from service_driver import KEY, error_of

from predictor.device import shipped_profiles
from predictor.service.profiles import Profiles

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "my-device.yaml"


@pytest.fixture
def home(tmp_path):
    (tmp_path / "profiles" / "my-board").mkdir(parents=True)
    text = EXAMPLE.read_text(encoding="utf-8")
    name = next(line for line in text.splitlines() if line.startswith("name:"))
    (tmp_path / "profiles" / "my-board" / "device.yaml").write_text(
        text.replace(name, "name: my-board"), encoding="utf-8")  # fmt: skip
    return tmp_path


def change(home, old, new):
    path = home / "profiles" / "my-board" / "device.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def served(service):
    return service.http.get("/v1/devices/my-board")


def test_a_changed_profile_is_served_without_a_restart(started, home):
    service = started(env={"LATENCY_PREDICTOR_HOME": str(home)}, watch_s=0.2)
    first = service.predict(device="my-board")
    assert first.status_code == 200
    title = served(service).json()["title"]
    before = len(service.log)
    change(home, f"title: {title}", "title: Another title")
    service.heard("profiles were taken over", after=before, damaged=0)
    assert served(service).json()["title"] == "Another title"
    assert service.predict(device="my-board").json()["device_title"] == "Another title"


def test_a_damaged_profile_leaves_the_old_one_serving(started, home):
    service = started(env={"LATENCY_PREDICTOR_HOME": str(home)}, watch_s=0.2, workers=2)
    first = service.predict(device="my-board").json()
    before = len(service.log)
    change(home, "name: my-board", "nam: my-board")
    line = service.heard("a profile is damaged; what was served before stays", after=before)
    assert line["device"] == "my-board"
    assert str(home) not in line["error"]
    assert service.predict(device="my-board", batch=1).json()["latency_ms"] == first["latency_ms"]
    assert served(service).status_code == 200
    assert service.http.get("/v1/ready").json()["damaged_profiles"] == ["my-board"]
    for worker in service.workers():  # what replaces them serves the old one, too
        worker.send_signal(signal.SIGKILL)
    for _ in range(100):
        if service.predict(device="my-board", batch=2).status_code == 200:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the old profile is gone")
    before = len(service.log)
    change(home, "nam: my-board", "name: my-board")
    service.heard("profiles were taken over", after=before, damaged=0)
    assert service.http.get("/v1/ready").json()["damaged_profiles"] == []


def test_devices_come_and_go(started, home):
    service = started(env={"LATENCY_PREDICTOR_HOME": str(home)}, watch_s=0.2)
    folder = home / "profiles" / "my-board"
    before = len(service.log)
    shutil.rmtree(folder)
    service.heard("profiles were taken over", after=before)
    error_of(served(service), 404, "unknown_device")
    error_of(service.predict(device="my-board"), 404, "unknown_device")
    assert service.predict(device="jetson").status_code == 200


def test_a_signal_looks_at_once(started, home):
    service = started(env={"LATENCY_PREDICTOR_HOME": str(home)}, watch_s=1000)
    title = served(service).json()["title"]
    before = len(service.log)
    change(home, f"title: {title}", "title: By signal")
    service.process.send_signal(signal.SIGHUP)
    service.heard("profiles were taken over", after=before)
    assert served(service).json()["title"] == "By signal"


def test_what_is_damaged_at_the_start_is_left_out_and_told(started, tmp_path):
    folder = tmp_path / "profiles" / "jetson-orin-nano"
    shutil.copytree(shipped_profiles() / "jetson-orin-nano", folder)
    bundle = next(path for path in folder.iterdir() if path.suffix not in (".yaml", ".json"))
    bundle.write_bytes(bundle.read_bytes()[:-7])
    service = started(env={"LATENCY_PREDICTOR_HOME": str(tmp_path)}, look_through=True)
    line = service.heard("a profile is damaged; what was served before stays")
    assert line["device"] == "jetson-orin-nano"
    error_of(service.predict(device="jetson-orin-nano"), 404, "unknown_device")
    assert service.predict(device="rtx-4090").status_code == 200


def test_a_damaged_bundle_is_told_without_its_path(started, tmp_path):
    folder = tmp_path / "profiles" / "jetson-orin-nano"
    shutil.copytree(shipped_profiles() / "jetson-orin-nano", folder)
    bundle = next(path for path in folder.iterdir() if path.suffix not in (".yaml", ".json"))
    bundle.write_bytes(bundle.read_bytes()[:-7])
    service = started(env={"LATENCY_PREDICTOR_HOME": str(tmp_path)})
    answer = service.predict(device="jetson-orin-nano")
    message = error_of(answer, 503, "damaged_profile")
    assert str(tmp_path) not in message
    assert "/" not in message
    service.heard("damaged_profile", request_id=answer.headers["x-request-id"])


def test_the_copy_holds_what_there_was(tmp_path, home, monkeypatch):
    import asyncio

    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(home))
    root = tmp_path / "copy"
    root.mkdir()
    profiles = Profiles(root)
    profiles.first()
    assert not profiles.changed()
    kept = profiles.home / "profiles"
    assert (kept / "my-board" / "device.yaml").is_file()
    shipped = {p.name for p in shipped_profiles().iterdir() if p.is_dir()}
    assert {p.name for p in kept.iterdir()} == shipped | {"my-board"}
    change(home, "name: my-board", "# changed\nname: my-board")
    assert profiles.changed() == ["my-board"]
    asked = []

    async def verify(where, names):
        asked.append(list(names))
        return {}

    asyncio.run(profiles.load(verify))
    assert asked == [["my-board"]]
    assert not profiles.changed()
    assert "# changed" in (profiles.home / "profiles/my-board/device.yaml").read_text()
    assert len([p for p in root.iterdir() if p.name.startswith("profiles-")]) <= 2


def test_a_damaged_profile_is_told_without_its_path_in_a_table(started, home):
    change(home, "name: my-board", "nam: my-board")
    service = started(env={"LATENCY_PREDICTOR_HOME": str(home)})
    answer = service.http.post("/v1/batch", content=f'model,device\n"{KEY}",my-board\n'.encode(),
                               headers={"Content-Type": "text/csv"})  # fmt: skip
    assert answer.status_code == 200
    row = answer.text.splitlines()[1]
    assert "device.yaml" in row
    assert "/tmp" not in row
