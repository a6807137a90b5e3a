"""The typed client against a real service, and against what is no service."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from pathlib import Path

import pytest
from service_driver import KEY, Service

import predictor
from predictor.errors import ConfigError
from predictor.front import SearchResult
from predictor.service.client import Client, Job, Row, ServiceError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TOKEN = "a-token-of-the-client-0123456789"
LAYERS = {
    "layers": [{"type": "conv2d", "out": 8, "kernel": 3}, "relu", {"type": "linear", "out": 10}]
}
SEARCH = {"accuracy": "params", "trials": 3, "sampler": "random", "aim": "front"}


@pytest.fixture
def client(service):
    with Client(service.url, token="") as made:
        yield made


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    pytest.importorskip("onnx", reason="making .onnx files needs the onnx package")
    from onnx_seeds import SEEDS

    path = tmp_path_factory.mktemp("client") / "net.onnx"
    path.write_bytes(SEEDS["conv"]().SerializeToString())
    return path


def test_a_name_gives_the_same_estimate_as_the_library(client):
    assert client.predict(KEY, device="jetson") == predictor.predict(KEY, device="jetson")
    found = client.predict(
        KEY, device="jetson-agx-xavier", batch=4, resolution=192, power_mode="15W"
    )
    assert found == predictor.predict(KEY, device="jetson-agx-xavier", batch=4, resolution=192,
                                      power_mode="15W")  # fmt: skip
    assert found.interval_ms[0] < found.latency_ms < found.interval_ms[1]


def test_layers_and_files(client, onnx_file, tmp_path):
    text = {"model": LAYERS, "inputs": [1, 3, 8, 8]}
    config = tmp_path / "net.yaml"
    config.write_text(json.dumps({"model": {**LAYERS, "name": "net"}, "inputs": [1, 3, 8, 8]}),
                      encoding="utf-8")  # fmt: skip
    expected = predictor.predict(str(config), device="jetson")
    by_layers = client.predict(LAYERS, device="jetson", inputs=text["inputs"])
    assert by_layers.latency_ms == expected.latency_ms
    assert [k.name for k in by_layers.kernels] == [k.name for k in expected.kernels]
    assert client.predict(config, device="jetson") == expected
    assert client.predict(str(config), device="jetson") == expected
    assert client.predict(onnx_file, device="t4", batch=2) == predictor.predict(
        str(onnx_file), device="t4", batch=2)  # fmt: skip


def test_count(client, onnx_file):
    found = client.count(KEY, by="module", depth=1)
    assert found["macs"] == predictor.count(KEY).macs
    assert client.count(KEY, resolution=128)["resolution"] == [128, 128]
    assert client.count(onnx_file)["macs"] == predictor.count(str(onnx_file)).macs


def test_compare(client, onnx_file):
    found = client.compare([KEY, "decoder:gpt2"], devices=["jetson", "t4"])
    assert found == [predictor.predict(model, device=device) for model in (KEY, "decoder:gpt2")
                     for device in ("jetson", "t4")]  # fmt: skip
    several = client.compare([KEY], devices=["jetson"], batches=[1, 2], resolutions=[128, 224])
    assert [one.batch for one in several] == [1, 1, 2, 2]
    files = client.compare([onnx_file, onnx_file], devices=["jetson"])
    assert files == [predictor.predict(str(onnx_file), device="jetson")] * 2
    with pytest.raises(ConfigError, match="send them apart"):
        client.compare([onnx_file, KEY], devices=["jetson"])
    with pytest.raises(ConfigError, match="cannot be read"):
        client.predict("no/such.onnx", device="jetson")


def test_batch(client):
    found = client.batch([KEY, {"model": KEY, "device": "t4", "batch": 2}, "no:such"],
                         devices=["jetson"], precision="fp16")  # fmt: skip
    assert [type(row) for row in found] == [Row] * 3
    expected = predictor.predict(KEY, device="jetson", precision="fp16")
    assert (found[0].latency_ms, found[0].low_ms, found[0].high_ms) == (
        expected.latency_ms, *expected.interval_ms)  # fmt: skip
    assert (found[1].row, found[1].device) == (1, "t4")
    assert found[2].latency_ms is None
    assert "no model" in found[2].error
    assert client.batch([]) == []


def test_what_there_is(client):
    assert "jetson-orin-nano" in [one["name"] for one in client.devices()]
    assert KEY in [one["name"] for one in client.models()["examples"]]
    assert "nasbench201" in [one["name"] for one in client.spaces()["spaces"]]
    assert client.ready()


def test_searches(client):
    job = client.start_search("nasbench201", devices=["jetson"], **SEARCH)
    assert isinstance(job, Job)
    heard = list(client.follow(job.id))
    assert {one.id for one in heard} == {job.id}
    assert (heard[-1].state, heard[-1].done) == ("done", 3)
    assert client.search(job.id) == heard[-1]
    front = client.front(job.id)
    assert isinstance(front, SearchResult)
    assert len(front.trials) == 3
    assert client.cancel_search(job.id).state == "done"  # it has ended: nothing to cancel
    assert client.delete_search(job.id).id == job.id
    for ask in (client.search, client.front, client.cancel_search, client.delete_search,
                lambda name: list(client.follow(name))):  # fmt: skip
        with pytest.raises(ServiceError) as caught:
            ask(job.id)
        assert (caught.value.code, caught.value.status) == ("not_found", 404)


def test_a_search_is_cancelled(client):
    job = client.start_search("ofa", devices=["jetson", "t4"], **{**SEARCH, "trials": 2000})
    assert job.state == "queued"
    for one in client.follow(job.id):
        if one.done:
            client.cancel_search(job.id)
            break
    states = [one.state for one in client.follow(job.id)]
    assert states[-1] == "cancelled"
    assert client.front(job.id).trials
    client.delete_search(job.id)


@pytest.mark.parametrize(("ask", "status", "code", "words"), [
    (lambda c: c.predict(KEY, device="jetsen"), 404, "unknown_device", "Did you mean 'jetson'"),
    (lambda c: c.predict("no:such", device="t4"), 404, "unknown_model", "taken from the network"),
    (lambda c: c.predict("ofa:nope", device="t4"), 409, "conflict", "ofa"),
    (lambda c: c.predict(KEY, device="t4", batch=0), 422, "invalid", "batch"),
    (lambda c: c.count(KEY, by="nope"), 422, "invalid", "layer or module"),
    (lambda c: c.compare([], devices=["t4"]), 422, "invalid", "models"),
    (lambda c: c.start_search("nope", devices=["t4"]), 404, "not_found", "GET /v1/spaces"),
])  # fmt: skip
def test_errors_have_their_code_and_status(client, ask, status, code, words):
    with pytest.raises(ServiceError, match=words) as caught:
        ask(client)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.request_id
    assert caught.value.retry_after_s is None


def test_tokens(monkeypatch):
    service = Service(token=TOKEN)
    try:
        for token in ("", "another-token-0123456789"):
            with Client(service.url, token=token) as client, pytest.raises(ServiceError) as caught:
                client.predict(KEY, device="jetson")
            assert (caught.value.status, caught.value.code) == (401, "unauthorized")
            assert TOKEN not in str(caught.value)
        expected = predictor.predict(KEY, device="jetson")
        with Client(service.url, token=TOKEN) as client:
            assert client.predict(KEY, device="jetson") == expected
        monkeypatch.setenv("LATENCY_PREDICTOR_TOKEN", TOKEN)
        with Client(service.url + "/") as client:
            assert client.predict(KEY, device="jetson") == expected
    finally:
        assert service.stop() == 0


# -- what is no service of ours -------------------------------------------------------------------


class Stub(http.server.BaseHTTPRequestHandler):
    """Answers with what stands in ``answers``, one after the other; the last again and again."""

    answers: list
    asked: list

    def do_GET(self):
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.asked.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def stub():
    """Starts a server with answers of the test's own; its class tells what was asked."""
    running = []

    def start(*answers):
        kind = type("Own", (Stub,), {"answers": list(answers), "asked": []})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return Client(f"http://127.0.0.1:{server.server_port}", token="", retries=2), kind

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def refused(status, code, after="0"):
    data = {"error": {"code": code, "message": "later", "request_id": "1"}}
    return (
        status,
        {"Retry-After": after, "Content-Type": "application/json"},
        json.dumps(data).encode(),
    )


OK = (200, {"Content-Type": "application/json"}, b'{"devices": []}')


@pytest.mark.parametrize("first", [(503, "busy"), (503, "worker_lost"), (429, "too_many_requests")])
def test_what_may_do_later_is_asked_again(stub, first):
    client, kind = stub(refused(*first), refused(*first), OK)
    with client:
        assert client.devices() == []
    assert len(kind.asked) == 3


def test_but_not_for_ever(stub):
    client, kind = stub(refused(503, "busy", "1"))
    client.retries = 1
    with client, pytest.raises(ServiceError, match="later") as caught:
        client.devices()
    assert (caught.value.code, caught.value.status, caught.value.retry_after_s) == (
        "busy",
        503,
        1.0,
    )
    assert len(kind.asked) == 2
    assert not kind.answers[1:]


@pytest.mark.parametrize("first", [(503, "timeout"), (503, "stopping"), (409, "conflict")])
def test_what_will_not_do_better_is_told_at_once(stub, first):
    client, kind = stub(refused(*first), OK)
    with client, pytest.raises(ServiceError) as caught:
        client.devices()
    assert caught.value.code == first[1]
    assert len(kind.asked) == 1


@pytest.mark.parametrize("answer", [
    (200, {"Content-Type": "text/html"}, b"<html>hello</html>"), (200, {}, b""), (200, {}, b"[1]"),
    (200, {}, b'"text"'), (200, {}, b"{}"), (200, {}, b"\xff\xfe"), (200, {}, b'{"devices": '),
])  # fmt: skip
def test_an_answer_that_is_none_of_the_service(stub, answer):
    client, _ = stub(answer)
    with client:
        for ask in (client.devices, lambda: client.predict(KEY, device="t4"), lambda: client.batch([KEY]),
                    lambda: client.search("x"), lambda: client.front("x"),
                    lambda: client.compare([KEY], devices=["t4"])):  # fmt: skip
            with pytest.raises(ServiceError, match="no answer of the service"):
                ask()


@pytest.mark.parametrize("answer", [
    (502, {"Content-Type": "text/html"}, b"<html>bad gateway</html>"), (404, {}, b""),
    (500, {}, b'{"error": "text"}'), (500, {}, b'{"error": {"code": 1}}'), (418, {}, b"[]"),
])  # fmt: skip
def test_an_error_of_a_proxy(stub, answer):
    client, _ = stub(answer)
    with client, pytest.raises(ServiceError, match=f"HTTP {answer[0]}") as caught:
        client.devices()
    assert (caught.value.code, caught.value.status) == ("unreachable", answer[0])


def test_nothing_listens_there():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", token="") as client:
        with pytest.raises(ServiceError, match="Is the service running") as caught:
            client.predict(KEY, device="t4")
        assert (caught.value.code, caught.value.status) == ("unreachable", 0)
        with pytest.raises(ServiceError):
            list(client.follow("x"))
        assert not client.ready()


def test_an_address_that_is_none():
    for url in ("localhost:8000", "", "ftp://x", "http://"):
        with pytest.raises(ServiceError), Client(url, token="") as client:
            client.devices()
