"""Damaged requests and damaged models: an answer in the one shape, no path of the machine in it,
and a server that lives on."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import service_fuzz
from service_driver import Service
from service_fuzz import Sent, form, request

from predictor.service.problems import CODES

ROOT = Path(__file__).resolve().parents[2]
LATER = frozenset(
    {"busy", "timeout", "worker_lost", "out_of_memory", "damaged_profile", "stopping"}
)
RARE = LATER - {"busy"}
"""A 503 that an input brings about: counted, and told of."""
LEAKS = sorted({
    str(ROOT), sys.prefix, sys.base_prefix, str(Path.home()), tempfile.gettempdir(),
    "site-packages", "/usr/lib", "/proc/", "Traceback", 'File "', "latency-service-", "uploads/0/",
    "root:x:", ".py\"", ".py:",
})  # fmt: skip
TYPES = {"application/json", "text/csv; charset=utf-8", "text/html; charset=utf-8",
         "text/event-stream; charset=utf-8", "text/plain; version=0.0.4; charset=utf-8"}  # fmt: skip


class Told:
    """Statuses and codes of all answers, and what was wrong with them."""

    def __init__(self):
        self.statuses, self.codes, self.wrong, self.rare = Counter(), Counter(), [], []
        self.started, self.lock = [], threading.Lock()

    def hear(self, service, sent: Sent):
        try:
            status, headers, body = exchange(service, sent)
            code, faults = looked_at(sent, status, headers, body)
        except (OSError, http.client.HTTPException) as error:
            status, code, faults, body = 0, "", [f"no answer: {error!r}"], b""
        with self.lock:
            self.statuses[status] += 1
            self.codes[code] += 1
            self.wrong += [(sent.kind, sent.number, status, fault) for fault in faults]
            if code in RARE:
                self.rare.append((sent.kind, sent.number, code))
        if status == 202 and sent.kind == "searches":
            answer = service.http.delete(f"/v1/searches/{json.loads(body)['id']}")
            assert answer.status_code == 200


def exchange(service, sent):
    """Status, headers and body of the answer to exactly these bytes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=90) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before its end
            sock.sendall(sent.raw(f"127.0.0.1:{service.port}"))
        answer = http.client.HTTPResponse(sock, method=sent.method)
        answer.begin()
        return answer.status, answer.headers, answer.read()


def looked_at(sent, status, headers, body):
    """The code of an error, and what is wrong with an answer."""
    faults = []
    content_type = headers.get("content-type", "")
    if content_type not in TYPES and body:
        faults.append(f"content type {content_type!r}")
    if not headers.get("x-request-id") or headers.get("x-content-type-options") != "nosniff":
        faults.append("headers are missing")
    code = ""
    if status >= 400 and sent.method != "HEAD":
        try:
            error = json.loads(body)["error"]
            code = error["code"]
            if set(error) != {"code", "message", "request_id"} or CODES[code] != status:
                faults.append(f"no error of ours: {body[:200]!r}")
            if not error["message"] or error["request_id"] != headers["x-request-id"]:
                faults.append(f"an error without words or id: {body[:200]!r}")
        except (ValueError, KeyError, TypeError):
            faults.append(f"no error of ours: {body[:200]!r}")
    elif content_type == "application/json" and sent.method != "HEAD":
        json.loads(body, parse_constant=lambda word: faults.append(f"{word} in JSON"))
    if status >= 500 and code not in LATER:
        faults.append(f"{status} {code}")
    text, own = body.decode("utf-8", "replace"), sent.raw("").decode("utf-8", "replace")
    own += own.replace("\\", "")
    faults += [
        f"a leak: {word!r} in {text[:400]!r}" for word in LEAKS if word in text and word not in own
    ]
    return code, faults


@pytest.fixture(scope="module")
def target():
    made = Service(workers=2)
    yield made
    made.stop()


def send(service, requests, told=None):
    """Sends all, four at a time, and looks at the log and the workers afterwards."""
    told = told or Told()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda sent: told.hear(service, sent), requests))
    errors = [line for line in list(service.log) if line.get("level") in ("error", "critical")
              or line["event"] == "no JSON"]  # fmt: skip
    assert not told.wrong, f"{len(told.wrong)}: {told.wrong[:12]}"
    assert not errors, errors[:5]
    assert service.process.poll() is None
    for _ in range(300):
        if service.http.get("/v1/ready").json()["workers"] == len(service.workers()) == 2:
            break
        threading.Event().wait(0.1)
    else:
        raise AssertionError(f"{service.http.get('/v1/ready').text}: {service.workers()}")
    assert service.predict().status_code == 200
    return told


def report(told):
    print(f"\n{sum(told.statuses.values())} requests: {dict(sorted(told.statuses.items()))}")
    print(f"codes: {dict(told.codes.most_common())}\nrare: {told.rare}")


def test_damaged_bodies(target):
    told = send(target, map(request, range(300)))
    report(told)
    assert told.statuses[200] >= 20
    assert len(told.codes) >= 8
    assert len(told.rare) <= 3, told.rare


@pytest.mark.exhaustive
def test_ten_thousand_damaged_bodies():
    service = Service(workers=2)
    told = Told()
    try:
        for first in range(0, 10_000, 1000):
            send(service, map(request, range(first, first + 1000)), told)
    finally:
        report(told)
        assert service.stop() == 0
    assert len(told.rare) <= 100, told.rare


# -- ONNX -----------------------------------------------------------------------------------------


def onnx_request(number: int) -> Sent:
    """An upload of the ONNX file of that number."""
    rng = random.Random(f"{number} of the files")
    kind = rng.choice(["predict", "predict", "count", "compare"])
    said = {"batch": rng.choice([1, 2]), **({"resolution": 32} if rng.random() < 0.2 else {})}
    if kind != "count":
        said |= {"devices": ["jetson", "t4"]} if kind == "compare" else {"device": "jetson"}
    if kind == "compare":
        said.pop("batch")
        said.pop("resolution", None)
    parts = [
        ("settings", None, json.dumps(said).encode()),
        ("file", "model.onnx", onnx_bytes(number)),
    ]
    boundary = "=" * 40
    body = b""
    for name, file, data in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        head += f'; filename="{file}"' if file else ""
        body += b"--" + boundary.encode() + b"\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n"
    body += b"--" + boundary.encode() + b"--\r\n"
    headers = (("Content-Type", f'multipart/form-data; boundary="{boundary}"'),)
    return Sent(number, f"onnx {kind}", "POST", f"/v1/{kind}", headers, body)


def onnx_bytes(number: int) -> bytes:
    """The damaged model of that number: structure, bytes, two spliced, or our own mischief."""
    from onnx_seeds import SEEDS
    from test_onnx_fuzz import mutant

    rng = random.Random(number)
    names = sorted(SEEDS)
    if number % 4 < 2:
        return mutant(number)
    if number % 4 == 2:
        one, other = (SEEDS[rng.choice(names)]().SerializeToString() for _ in range(2))
        return one[: rng.randrange(len(one))] + other[rng.randrange(len(other)) :]
    model = SEEDS[names[number // 4 % len(names)]]()
    rng.choice([_outside, _outside, _vast, _deep])(model, rng)
    return model.SerializeToString()


def _outside(model, rng):
    """Weights in a file that is not ours to name."""
    from onnx import TensorProto

    place = rng.choice(["/etc/passwd", "../../../../etc/passwd", "..", "", "/dev/zero", "/dev/stdin",
                        "/proc/self/environ", "model.onnx", "x" * 5000, "a\x00b"])  # fmt: skip
    if not model.graph.initializer:
        model.graph.initializer.add(name="w", dims=[2, 2], data_type=1)
    for tensor in model.graph.initializer:
        if rng.random() < 0.7:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", place), ("offset", rng.choice(["0", "-1", "9" * 30])),
                               ("length", rng.choice(["8", "-5", "9" * 18, "x"]))):  # fmt: skip
                tensor.external_data.add(key=key, value=value)
            if rng.random() < 0.4:
                tensor.data_type, tensor.dims[:] = 7, [rng.choice([1, 4])]


def _vast(model, rng):
    """Sizes that no memory holds."""
    size = rng.choice([1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63), 1 << 20])
    for info in model.graph.input:
        for dim in info.type.tensor_type.shape.dim:
            if rng.random() < 0.5:
                dim.dim_value = size
    for tensor in model.graph.initializer:
        if tensor.dims and rng.random() < 0.2:
            tensor.dims[rng.randrange(len(tensor.dims))] = size


def _deep(model, rng):
    """Long names, many copies, subgraphs in subgraphs."""
    from onnx import helper

    node = model.graph.node[0]
    match rng.randrange(3):
        case 0:
            node.name = rng.choice(["x" * 100_000, "/etc/passwd", "<script>", "a\nb\x1b[0m"])
        case 1:
            for number in range(3000):
                model.graph.node.append(
                    helper.make_node("Relu", [node.output[0]], [f"more{number}"])
                )
        case _:
            inner = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
            for _ in range(rng.choice([3, 10, 25])):
                inner = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=inner)],
                                          "g", [], [])  # fmt: skip
            model.graph.node.append(helper.make_node("If", ["x"], ["y9"], then_branch=inner))


def test_damaged_onnx_files(target):
    pytest.importorskip("onnx", reason="mutating .onnx files needs the onnx package")
    told = send(target, map(onnx_request, range(40)))
    report(told)
    assert told.statuses[200] >= 3
    assert not told.rare


@pytest.mark.exhaustive
def test_five_hundred_damaged_onnx_files(target):
    pytest.importorskip("onnx", reason="mutating .onnx files needs the onnx package")
    told = send(target, map(onnx_request, range(500)))
    report(told)
    assert len(told.rare) <= 5, told.rare


# -- what the fuzzer's like has found -------------------------------------------------------------


def test_a_path_that_looks_like_an_upload_is_still_a_path(target, tmp_path):
    """Once, whatever lay in some folder called uploads was taken for a file of the request's."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    mark = tmp_path / "ran"
    (folder / "net.py").write_text(f"open({str(mark)!r}, 'w').close()\n", encoding="utf-8")
    for model in (f"python:{folder}/net.py:f", f"{folder}/model.onnx", "uploads/model.onnx"):
        text = json.dumps({"model": model, "device": "t4"}).encode()
        sent = [target.http.post("/v1/predict", content=text, headers={"Content-Type": kind})
                for kind in ("application/json", "application/yaml")]  # fmt: skip
        sent.append(target.http.post("/v1/predict", files={"file": ("c.yaml", text)}))
        for answer in sent:
            assert answer.status_code == 404, answer.text
            assert answer.json()["error"]["code"] == "unknown_model"
    assert not mark.exists()


def test_two_files_of_one_name_are_two_models(target):
    pytest.importorskip("onnx", reason="making .onnx files needs the onnx package")
    from onnx_seeds import SEEDS

    files = [
        ("file", ("net.onnx", SEEDS[name]().SerializeToString())) for name in ("conv", "dense")
    ]
    said = {"settings": json.dumps({"devices": ["jetson"]})}
    both = target.http.post("/v1/compare", files=files, data=said).json()["estimates"]
    apart = [target.http.post("/v1/predict", files=[file], data={"settings": '{"device": "jetson"}'})
             for file in files]  # fmt: skip
    assert [one["macs"] for one in both] == [one.json()["macs"] for one in apart]
    assert both[0]["macs"] != both[1]["macs"]


def test_only_a_table_may_be_as_long_as_a_table():
    service = Service(workers=1, limits={"body_bytes": 1000})
    try:
        for kind, status in (
            ("text/csvx", 413),
            ("text/csv", 200),
            ("TEXT/CSV; charset=utf-8", 200),
        ):
            answer = service.http.post("/v1/batch?device=t4", content=b"model\n" + b"decoder:gpt2\n" * 100,
                                       headers={"Content-Type": kind})  # fmt: skip
            assert answer.status_code == status, answer.text[:200]
    finally:
        service.stop()


def test_the_same_number_is_the_same_request():
    assert [request(n) for n in range(50)] == [request(n) for n in range(50)]
    assert form([("file", "x", b"y")], random.Random(1)) == form(
        [("file", "x", b"y")], random.Random(1)
    )
    assert {request(n).kind for n in range(300)} == set(service_fuzz.PATHS)


def test_devices_of_a_query_are_those_of_rows_without_their_own(target):
    rows = {"rows": [{"model": "decoder:gpt2"}, {"model": "decoder:gpt2", "device": "v100"}]}
    answer = target.http.post(
        "/v1/batch?device=t4&device=jetson", json={**rows, "devices": ["v100"]}
    )
    assert [row["device"] for row in answer.json()["rows"]] == ["t4", "jetson", "v100"]
    for query in ("device=", "&".join(["device=t4"] * 65), "batch=2"):
        answer = target.http.post(f"/v1/batch?{query}", json=rows)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
