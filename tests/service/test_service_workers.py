"""Workers die, hang and are killed; requests that were taken are answered."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time

import httpx
import psutil
import pytest
from service_driver import JSON, KEY, error_of

SLOW = {"models": [KEY], "devices": ["jetson"], "batches": list(range(1, 61))}
"""About a second of work."""


def ask_slowly(service, found, said=None):
    found.append(httpx.post(f"{service.url}/v1/compare", json=said or SLOW, timeout=60))


def busy(service):
    """Waits until a worker works on a request: the CPU time of waiting ones stands still."""
    before = {w.pid: sum(w.cpu_times()[:2]) for w in service.workers()}
    for _ in range(2000):
        for worker in service.workers():
            if sum(worker.cpu_times()[:2]) > before.get(worker.pid, 0.0) + 0.05:
                return worker
        time.sleep(0.005)
    raise AssertionError("no worker works")


def replaced(service, count, gone):
    for _ in range(200):
        found = service.workers()
        if len(found) == count and gone not in [w.pid for w in found]:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{service.workers()} after {gone} was killed")


def test_a_killed_worker_costs_its_request_only(started):
    service = started(workers=1)
    waits, queued = [], []
    first = threading.Thread(target=ask_slowly, args=(service, waits))
    first.start()
    worker = busy(service)
    second = threading.Thread(target=lambda: queued.append(service.predict()))
    second.start()  # waits for the same worker
    time.sleep(0.1)
    worker.send_signal(signal.SIGKILL)
    first.join(30)
    second.join(30)
    message = error_of(waits[0], 503, "worker_lost")
    assert "died" in message
    assert waits[0].headers["retry-after"] == "1"
    assert queued[0].status_code == 200
    replaced(service, 1, worker.pid)
    assert service.predict(batch=3).status_code == 200
    assert "predictor_workers_lost 1.0" in service.http.get("/v1/metrics").text
    service.heard("a worker died", kind="compare", pid=worker.pid)


def test_an_idle_worker_that_dies_is_not_noticed_by_anybody(started):
    service = started(workers=1)
    worker = service.workers()[0]
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    assert service.predict().status_code == 200


def test_all_workers_killed_again_and_again(started):
    service = started(workers=2)
    for batch in range(1, 6):
        for worker in service.workers():
            worker.send_signal(signal.SIGKILL)
        answer = service.predict(batch=batch)
        assert answer.status_code in (200, 503)
        for _ in range(100):
            if service.predict(batch=batch).status_code == 200:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("no worker came back")


def test_a_prediction_that_takes_too_long_is_ended(started):
    service = started(limits={"seconds": 0.2})
    answer = service.http.post("/v1/compare", json=SLOW)
    assert "0.2 s" in error_of(answer, 503, "timeout")
    assert "retry-after" in answer.headers
    assert service.predict().status_code in (200, 503)  # the next one, cold, may be too slow too
    assert "predictor_workers_killed" in service.http.get("/v1/metrics").text


def test_memory_is_limited(started):
    service = started(limits={"worker_mb": 200})
    many = {"layers": [{"type": "relu"}] * 99_000}
    answer = service.http.post("/v1/predict", json={"model": many, "inputs": [1, 3, 8, 8],
                                                    "device": "jetson"})  # fmt: skip
    assert answer.status_code in (409, 413, 422, 503), answer.text[:200]
    for _ in range(50):
        if service.predict().status_code == 200:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the service did not recover")


def test_large_graphs_bodies_and_batches_are_refused_each_in_its_way(started):
    service = started(limits={"kernels": 20, "body_bytes": 5_000, "rows": 3, "combinations": 2})
    said = error_of(service.predict(), 413, "graph_too_large")
    assert "20 at most" in said
    post = service.http.post
    said = error_of(post("/v1/predict", content=b" " * 6_000, headers=JSON), 413, "body_too_large")
    assert "0.005 MB" in said

    def pieces():
        for _ in range(60):
            yield b" " * 100

    error_of(post("/v1/predict", content=pieces(), headers=JSON), 413, "body_too_large")
    rows = [{"model": KEY, "device": "jetson"}] * 4
    error_of(post("/v1/batch", json={"rows": rows}), 413, "batch_too_large")
    error_of(post("/v1/compare", json={**SLOW, "batches": [1, 2, 3]}), 409,
             "too_many_combinations")  # fmt: skip


def test_a_body_that_never_comes_is_not_waited_for(started):
    service = started(limits={"upload_seconds": 0.5})
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as sock:
        sock.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n"
                     b"Content-Type: application/json\r\n\r\n{")  # fmt: skip
        answer = b"".join(iter(lambda: sock.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"slow_request" in answer


def test_too_many_that_wait_are_told_so(started):
    service = started(workers=1, limits={"waiting": 1})
    found = []
    said = [{**SLOW, "batches": list(range(n, n + 60))} for n in (1, 2, 3)]
    threads = [threading.Thread(target=ask_slowly, args=(service, found, one)) for one in said]
    for thread in threads:
        thread.start()
        time.sleep(0.15)
    for thread in threads:
        thread.join(60)
    codes = sorted(answer.status_code for answer in found)
    assert codes == [200, 200, 503]
    error_of(next(a for a in found if a.status_code == 503), 503, "busy")


def test_a_stop_finishes_what_was_taken(started):
    service = started(workers=1)
    found = []
    thread = threading.Thread(target=ask_slowly, args=(service, found))
    thread.start()
    busy(service)
    assert service.stop() == 0
    thread.join(30)
    assert found[0].status_code == 200
    assert len(found[0].json()["estimates"]) == 60
    assert service.log[-1]["event"] == "stopped"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/v1/health")


def test_nothing_is_left_when_the_server_is_killed(started):
    service = started(workers=2)
    own = psutil.Process(service.process.pid)
    left = own.children(recursive=True)
    service.process.send_signal(signal.SIGKILL)
    service.process.wait(10)
    _, alive = psutil.wait_procs(left, 10)
    assert not alive


def test_every_line_of_the_log_is_json(started):
    service = started()
    service.predict()
    service.http.get("/v1/nothing")
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as sock:
        sock.sendall(b"\x00\x01 nonsense\r\n\r\n")
        sock.recv(1000)
    service.stop()
    lines = [json.loads(line) for line in service.raw]
    assert all({"time", "level", "event"} <= set(line) for line in lines)
    request = next(line for line in lines if line["event"] == "request" and line["status"] == 200)
    assert {"request_id", "method", "path", "ms", "bytes", "token", "client"} <= set(request)
