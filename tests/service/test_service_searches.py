"""Searches over HTTP: the queue, their events, what they find, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import psutil
import pytest
from service_driver import Service, error_of

from predictor.front import SearchResult
from predictor.service.worker import NICE

ASKED = {"space": "nasbench201", "device": "jetson", "accuracy": "params", "trials": 5,
         "sampler": "random", "seed": 3}  # fmt: skip
LONG = {**ASKED, "space": "ofa", "trials": 2000, "aim": "front"}
ENDED = ("done", "failed", "cancelled")


@pytest.fixture(scope="module")
def one():
    """A server that runs one search at a time."""
    made = Service(workers=1, limits={"searches": 1, "searches_waiting": 2})
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def none_left(request):
    """Nothing runs when a test has ended."""
    yield
    if "one" in request.fixturenames:
        service = request.getfixturevalue("one")
        for job in service.http.get("/v1/searches").json()["searches"]:
            service.http.delete(f"/v1/searches/{job['id']}")


def start(service, **said):
    whole = {k: v for k, v in ASKED.items() if k != "device" or "devices" not in said}
    answer = service.http.post("/v1/searches", json={**whole, **said})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/searches/{job['id']}"
    return job["id"]


def get(service, name, rest=""):
    return service.http.get(f"/v1/searches/{name}{rest}")


def events(service, name):
    """Events until the stream ends: their names and data."""
    with service.http.stream("GET", f"/v1/searches/{name}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in answer.iter_lines():
            word, _, rest = line.partition(": ")
            if word == "event":
                kind = rest
            elif word == "data":
                yield kind, json.loads(rest)


def reached(service, name, *states):
    """The search, once it is in one of these states."""
    for _ in range(600):
        job = get(service, name).json()
        if job["state"] in states:
            return job
        assert job["state"] not in ENDED, job
        time.sleep(0.1)
    raise AssertionError(f"never {states}: {job}")


def plain(data):
    """Without what a clock says."""
    if isinstance(data, dict):
        return {k: plain(v) for k, v in data.items() if "second" not in k and k != "began"}
    return [plain(one) for one in data] if isinstance(data, list) else data


def cli(*words):
    done = subprocess.run([sys.executable, "-m", "predictor.cli", "search", *words, "--json"],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_search_is_followed_to_its_end_and_finds_what_the_command_finds(one):
    name = start(one)
    heard = list(events(one, name))
    assert [kind for kind, _ in heard[:-1]] == ["progress"] * (len(heard) - 1)
    assert heard[-1] == ("end", {})
    jobs = [job for kind, job in heard if kind == "progress"]
    assert {job["id"] for job in jobs} == {name}
    assert jobs[-1] == get(one, name).json()
    assert (jobs[-1]["state"], jobs[-1]["done"], jobs[-1]["trials"]) == ("done", 5, 5)
    assert [job["done"] for job in jobs] == sorted(job["done"] for job in jobs)
    expected = cli("nasbench201", "-d", "jetson", "--accuracy", "params", "--trials", "5",
                   "--sampler", "random", "--seed", "3")  # fmt: skip
    found = get(one, name, "/front").json()
    assert plain(found) == plain(expected)
    assert len(SearchResult.from_dict(found).trials) == 5
    assert list(events(one, name))[-1] == ("end", {})  # who comes late is told at once
    assert name in [job["id"] for job in one.http.get("/v1/searches").json()["searches"]]


def test_a_search_gives_way_to_predictions(one):
    name = start(one, **LONG)
    end = time.monotonic() + 60
    while get(one, name).json()["done"] < 1:
        assert time.monotonic() < end
        time.sleep(0.05)
    own = os.getpriority(os.PRIO_PROCESS, one.process.pid)
    assert {process.nice() - own for process in one.workers()} == {0, NICE}
    assert one.predict().status_code == 200


def test_two_devices_and_a_budget(one):
    name = start(one, space="vit", devices=["jetson", "rtx-4090"], aim="front", trials=3,
                 budget={"params": 300_000_000}, batch=2)  # fmt: skip
    assert list(events(one, name))[-2][1]["state"] == "done"
    found = get(one, name, "/front").json()
    expected = cli("vit", "-d", "jetson", "-d", "rtx-4090", "--accuracy", "params", "--trials", "3",
                   "--sampler", "random", "--seed", "3", "--aim", "front", "--params", "300M",
                   "-b", "2")  # fmt: skip
    assert plain(found) == plain(expected)
    assert found["devices"] == ["jetson-orin-nano", "rtx-4090"]


def test_a_cancelled_search_keeps_what_it_found_and_a_deleted_one_nothing(one):
    name = start(one, **LONG)
    for _, job in events(one, name):
        if job.get("done", 0) >= 3:
            break
    answer = one.http.post(f"/v1/searches/{name}/cancel")
    assert answer.status_code == 200
    job = reached(one, name, "cancelled")
    assert 3 <= job["done"] < 2000
    assert job["has_front"]
    found = SearchResult.from_dict(get(one, name, "/front").json())
    assert found.front
    assert len(found.trials) >= 3
    assert one.http.post(f"/v1/searches/{name}/cancel").json()["state"] == "cancelled"  # and again
    assert one.http.delete(f"/v1/searches/{name}").status_code == 200
    for rest in ("", "/front", "/events"):
        error_of(get(one, name, rest), 404, "not_found")
    error_of(one.http.delete(f"/v1/searches/{name}"), 404, "not_found")


def test_one_that_is_cancelled_at_once_does_not_run_on(one):
    """Once, a search whose process was being made when it was cancelled ran to its end."""
    for pause in (0.0, 0.005, 0.02, 0.1):
        name = start(one, **LONG)
        time.sleep(pause)
        one.http.post(f"/v1/searches/{name}/cancel")
        assert reached(one, name, "cancelled")["done"] < 2000


def test_a_budget_that_nothing_keeps(one):
    name = start(one, space="vit", budget={"params": 10})
    last = list(events(one, name))[-2][1]
    assert (last["state"], last["code"]) == ("failed", "conflict")
    assert "budget" in last["message"]
    assert "found nothing" in error_of(get(one, name, "/front"), 409, "conflict")


@pytest.mark.parametrize(("said", "code", "words"), [
    ({"device": "jetsen"}, "unknown_device", "Did you mean 'jetson'"),
    ({"sampler": "lerned"}, "conflict", "Did you mean 'learned'"),
    ({"device": "raspberry-pi-5", "runtime": "tensorrt"}, "conflict", "tensorrt"),
])  # fmt: skip
def test_what_is_found_out_when_it_begins(one, said, code, words):
    last = list(events(one, start(one, **said)))[-2][1]
    assert (last["state"], last["code"]) == ("failed", code)
    assert words in last["message"]


def test_a_killed_search_says_so_and_the_next_one_runs(one):
    before = {worker.pid for worker in one.workers()}
    name, after = start(one, **LONG), start(one, trials=2)
    for _, job in events(one, name):
        if job["done"] >= 1:
            break
    (process,) = [found for found in one.workers() if found.pid not in before]
    process.send_signal(signal.SIGKILL)
    job = reached(one, name, "failed")
    assert job["code"] == "worker_lost"
    assert "died" in job["message"]
    assert reached(one, after, "done")["done"] == 2
    assert one.predict().status_code == 200


def test_the_queue_is_in_order_and_has_an_end(one):
    first, second, third = (start(one, **LONG) for _ in range(3))
    reached(one, first, "running")
    said = error_of(one.http.post("/v1/searches", json=ASKED), 429, "too_many_searches")
    assert "wait" in said
    assert one.http.post("/v1/searches", json=ASKED).headers["retry-after"] == "60"
    assert [get(one, name).json()["state"] for name in (second, third)] == ["queued", "queued"]
    assert "nothing has been found yet" in error_of(get(one, second, "/front"), 409, "conflict")
    listed = [job["id"] for job in one.http.get("/v1/searches").json()["searches"]]
    assert [name for name in listed if name in (first, second, third)] == [third, second, first]
    one.http.post(f"/v1/searches/{first}/cancel")
    reached(one, second, "running")
    assert get(one, third).json()["state"] == "queued"
    assert one.http.post(f"/v1/searches/{third}/cancel").json()["state"] == "cancelled"
    one.http.delete(f"/v1/searches/{second}")
    last = start(one, trials=1)
    reached(one, last, "done")


def test_a_stop_ends_the_stream_the_search_and_the_server():
    service = Service(workers=1)
    everything = []
    try:
        name = start(service, **LONG)
        heard, began = [], threading.Event()

        def follow():
            with httpx.stream(
                "GET", f"{service.url}/v1/searches/{name}/events", timeout=60
            ) as answer:
                for line in answer.iter_lines():
                    heard.append(line)
                    if '"running"' in line:
                        began.set()

        thread = threading.Thread(target=follow)
        thread.start()
        assert began.wait(30)
        everything = psutil.Process(service.process.pid).children(recursive=True)
    finally:
        assert service.stop(30) == 0
    thread.join(10)
    assert not thread.is_alive()
    assert "event: end" in heard
    _, alive = psutil.wait_procs(everything, 10)
    assert not alive
    assert not [line for line in service.log if line["level"] == "error"]


@pytest.mark.parametrize(("said", "status", "code", "words"), [
    ({"space": "imagenet"}, 404, "not_found", "GET /v1/spaces"),
    ({"space": "nasbench210"}, 404, "not_found", "Did you mean 'nasbench201'"),
    ({"space": "/etc/passwd"}, 404, "not_found", "no space"),
    ({"space": "space.yaml"}, 404, "not_found", "no space"),
    ({"space": "python:x.py:Space"}, 404, "not_found", "no space"),
    ({"space": ""}, 422, "invalid", "space"),
    ({"accuracy": "table:x.csv"}, 404, "not_found", "no signal"),
    ({"accuracy": "train.py:f"}, 404, "not_found", "no signal"),
    ({"accuracy": "python:x.py:f"}, 404, "not_found", "no signal"),
    ({"accuracy": "parms"}, 404, "not_found", "Did you mean 'params'"),
    ({"device": "../jetson"}, 404, "unknown_device", "no paths"),
    ({"device": "device.yaml"}, 404, "unknown_device", "no paths"),
    ({"devices": []}, 422, "invalid", "devices"),
    ({"devices": ["jetson"] * 9}, 422, "invalid", "devices"),
    ({"trials": 0}, 422, "invalid", "trials"),
    ({"trials": 2001}, 422, "invalid", "trials"),
    ({"trials": True}, 422, "invalid", "trials"),
    ({"seed": -1}, 422, "invalid", "seed"),
    ({"storage": "postgresql://x/y"}, 422, "invalid", "storage"),
    ({"data": "/etc/passwd"}, 422, "invalid", "data"),
    ({"workers": 99}, 422, "invalid", "workers"),
    ({"budget": {"latency_ms": -1}}, 422, "invalid", "latency_ms"),
    ({"budget": {"params": "many"}}, 422, "invalid", "params"),
    ({"budget": {"joules": 1}}, 422, "invalid", "joules"),
    ({"margin": 11}, 422, "invalid", "margin"),
])  # fmt: skip
def test_what_is_refused_at_once(service, said, status, code, words):
    answer = service.http.post("/v1/searches", json={**ASKED, **said})
    assert words in error_of(answer, status, code)


def test_what_is_no_search_at_all(service):
    post = service.http.post
    error_of(post("/v1/searches", json=[]), 422, "invalid")
    error_of(post("/v1/searches", content=b"{", headers={"Content-Type": "application/json"}), 400,
             "bad_request")  # fmt: skip
    error_of(post("/v1/searches", content=b"space: ofa"), 415, "unsupported_media_type")
    error_of(post("/v1/searches", json={"space": "x" * 100_001}), 413, "body_too_large")
    said = {key: value for key, value in ASKED.items() if key != "device"}
    error_of(post("/v1/searches", json=said), 409, "no_device")
    for name in ("nope", "..", "%2e%2e%2fx", "a" * 3000):
        assert service.http.get(f"/v1/searches/{name}").status_code == 404
