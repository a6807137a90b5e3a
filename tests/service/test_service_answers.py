"""What the service answers is what the command line prints."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import jsonschema_rs
import pytest
from service_driver import JSON, KEY, error_of

import predictor
from predictor.batching import families
from predictor.config import Config
from predictor.search.spaces.find import load_space
from predictor.service import openapi
from predictor.service import rows as many

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def cli(*words):
    done = subprocess.run([sys.executable, "-m", "predictor.cli", *words], capture_output=True,
                          text=True, cwd=EXAMPLES)  # fmt: skip
    assert done.returncode in (0, 3), done.stderr  # 3: over the budget
    return json.loads(done.stdout)


def holds(name, data):
    """``data`` is what the document says of an answer."""
    whole = openapi.document()["components"]
    checker = jsonschema_rs.Draft202012Validator({"$ref": f"#/components/schemas/{name}",
                                                  "components": whole})  # fmt: skip
    errors = [e.message for e in checker.iter_errors(data)]
    assert not errors, errors[:3]
    return True


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, 32, 32])], [weights],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def test_a_name(service):
    answer = service.predict()
    assert answer.status_code == 200
    assert answer.json() == cli(KEY, "--device", "jetson", "--json")
    assert holds("Estimate", answer.json())


def test_all_settings(service):
    answer = service.predict(device="jetson-agx-xavier", power_mode="15W", batch=4,
                             resolution=192, scope="call", budget={"latency_ms": 1, "params": "9M"})  # fmt: skip
    data = answer.json()
    expected = cli(KEY, "-d", "jetson-agx-xavier", "--power-mode", "15W", "-b", "4", "-r", "192",
                   "--scope", "call", "--json")  # fmt: skip
    assert data["latency_ms"] == expected["latency_ms"]
    assert [(c["quantity"], c["met"]) for c in data["checks"]] == [("latency_ms", False),
                                                                  ("params", True)]  # fmt: skip


def test_the_text_of_a_config_file(service):
    text = (EXAMPLES / "config.yaml").read_bytes()
    head = {"Content-Type": "application/yaml"}
    answer = service.http.post("/v1/predict", content=text, headers=head)
    assert answer.json() == cli("config.yaml", "--json")
    over = service.http.post("/v1/predict?device=rtx-4090&batch=8&resolution=256x128", content=text,
                             headers=head).json()  # fmt: skip
    assert over == cli("config.yaml", "-d", "rtx-4090", "-b", "8", "-r", "256x128", "--json")


def test_a_file(service, onnx_file):
    files = {"file": ("small.onnx", onnx_file.read_bytes())}
    said = {"settings": json.dumps({"device": "raspberry-pi-5", "batch": 2})}
    answer = service.http.post("/v1/predict", files=files, data=said)
    assert answer.json() == cli(str(onnx_file), "-d", "raspberry-pi-5", "-b", "2", "--json")
    config = {"file": ("mine.yaml", (EXAMPLES / "config.yaml").read_bytes())}
    answer = service.http.post("/v1/predict", files=config)
    assert answer.json() == cli("config.yaml", "--json")


def test_count(service):
    data = service.http.post("/v1/count?by=module&depth=1", json={"model": KEY}).json()
    expected = {**cli("count", KEY, "--by", "module", "--depth", "1", "--json"), "resolution": None}
    assert data == expected
    assert holds("Count", data)


def test_compare(service, onnx_file):
    said = {"models": [KEY], "devices": ["jetson", "rtx-4090"], "batches": [1, 4]}
    data = service.http.post("/v1/compare", json=said).json()
    expected = cli("compare", KEY, "-d", "jetson", "-d", "rtx-4090", "-b", "1", "-b", "4", "--json")
    assert data == expected
    assert holds("Comparison", data)
    two = service.http.post("/v1/compare", json={**said, "batches": [1]}).json()
    assert len(two["layers"]) > 10
    files = [("file", ("small.onnx", onnx_file.read_bytes())), ("file", ("b.onnx", b"junk"))]
    error_of(service.http.post("/v1/compare", files=files,
                               data={"settings": json.dumps({"devices": ["jetson"]})}),
             409, "conflict")  # fmt: skip
    answer = service.http.post("/v1/compare", files=files[:1],
                               data={"settings": json.dumps({"devices": ["jetson", "t4"]})})  # fmt: skip
    assert [e["device"] for e in answer.json()["estimates"]] == ["jetson-orin-nano", "t4"]


def test_batch(service):
    rows = [{"model": KEY}, {"model": "no:such"}, {"model": KEY, "device": "t4", "batch": 2},
            {"model": {"layers": [{"type": "nothing"}]}}]  # fmt: skip
    answer = service.http.post("/v1/batch", json={"rows": rows, "devices": ["jetson", "rtx-4090"]})
    data = answer.json()["rows"]
    assert holds("BatchAnswer", answer.json())
    assert [(r["row"], r["device"]) for r in data] == [
        (0, "jetson"), (0, "rtx-4090"), (1, "jetson"), (1, "rtx-4090"), (2, "t4"), (3, "jetson"),
        (3, "rtx-4090")]  # fmt: skip
    assert data[0]["latency_ms"] == pytest.approx(
        predictor.predict(KEY, device="jetson").latency_ms
    )
    assert data[4]["low_ms"] < data[4]["latency_ms"] < data[4]["high_ms"]
    assert "no model" in data[2]["error"]
    assert "nothing" in data[5]["error"]
    assert data[2]["latency_ms"] is None


def test_many_rows_in_json_say_what_each_says_alone(service):
    """Keys of families are priced by their parts; all else is predicted between them."""
    space, chance = load_space("ofa").space, Random(4)
    rows = [{"model": f"ofa:{space.key(space.random(chance))}"} for _ in range(30)]
    for number in range(0, 30, 3):
        rows[number] |= {"precision": "fp32"}
    odd = {2: {"model": "ofa:ks=9"}, 5: {"model": "torchvision:resnet18"}, 8: {"device": "jetsen"},
           14: {"resolution": 160}, 17: {"batch": 4}, 20: {"precision": "int4"}, 23: {"phase": "decode"},
           26: {"sequence": 4}}  # fmt: skip
    for number, change in odd.items():
        rows[number] |= change
    said = {"rows": rows, "devices": ["jetson", "rtx-4090"], "scope": "call"}
    found = service.http.post("/v1/batch", json=said).json()["rows"]
    assert len(found) == 2 * 30 - 1
    failed = {one["row"] for one in found if one["error"]}
    assert failed == {2, 8, 23, 26}
    for one in found:
        asked = {"device": one["device"], "scope": "call", **rows[one["row"]]}
        alone = service.http.post("/v1/predict", json=asked).json()
        if one["error"]:
            assert one["error"] == alone["error"]["message"]
            continue
        numbers = [one[name] for name in ("latency_ms", "low_ms", "high_ms")]
        wanted = [alone["latency_ms"], *alone["interval_ms"]]
        assert numbers == pytest.approx(wanted, rel=1e-9)


def test_rows_in_json_that_are_plain_keys_are_not_built():
    space, chance = load_space("ofa").space, Random(5)
    plain = [Config(f"ofa:{space.key(space.random(chance))}", device="t4") for _ in range(20)]
    others = [replace(plain[0], sequence=4), replace(plain[0], model="torchvision:resnet18"),
              replace(plain[0], strict=True)]  # fmt: skip
    families.forget()
    found = many._by_parts([*plain, *others])
    assert all(found[:20])
    assert found[20:] == [None, None, None]
    families.forget()
    assert many._by_parts(plain[:3]) == [None, None, None]  # not worth trying out how


def test_what_is_no_http_gets_the_same_shape_of_error(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"x-content-type-options: nosniff" in head
    assert b"content-length: %d\r\n" % len(body) in head + b"\r\n"
    error = json.loads(body)["error"]
    assert error["code"] == "bad_request"
    assert f"x-request-id: {error['request_id']}".encode() in head


def test_what_there_is(service):
    get = service.http.get
    assert get("/v1/devices").json() == cli("devices", "--json")
    assert holds("Devices", get("/v1/devices").json())
    assert get("/v1/devices/jetson").json() == cli("devices", "jetson", "--json")["devices"][0]
    assert holds("Models", get("/v1/models").json())
    assert holds("Spaces", get("/v1/spaces").json())
    for example in get("/v1/models").json()["examples"]:
        assert service.predict(example["name"]).status_code == 200, example
    assert get("/v1/health").json() == {"status": "ok"}
    assert holds("Ready", get("/v1/ready").json())


def test_metrics_count_requests(service):
    service.predict()
    text = service.http.get("/v1/metrics").text
    assert 'predictor_requests_total{kind="predict",status="200"}' in text
    assert "predictor_workers 2.0" in text


@pytest.mark.parametrize(("data", "status", "code", "words"), [
    ({"model": KEY}, 409, "no_device", "no device"),
    ({"model": KEY, "device": "jetsen"}, 404, "unknown_device", "Did you mean 'jetson'"),
    ({"model": KEY, "device": "/etc/passwd"}, 404, "unknown_device", "no paths"),
    ({"model": KEY, "device": "profiles/jetson/device.yaml"}, 404, "unknown_device", "no paths"),
    ({"model": "/etc/passwd.onnx", "device": "t4"}, 404, "unknown_model", "taken from the network"),
    ({"model": "config.yaml", "device": "t4"}, 404, "unknown_model", "taken from the network"),
    ({"model": "python:x.py:f", "device": "t4"}, 404, "unknown_model", "not taken"),
    ({"model": {"source": "python:x.py:f"}, "device": "t4"}, 404, "unknown_model", "not taken"),
    ({"model": "transformers:./c.json", "device": "t4"}, 404, "unknown_model", "no path"),
    ({"model": "ofa:nonsense", "device": "t4"}, 409, "conflict", "ofa"),
    ({"model": KEY, "device": "t4", "presicion": "fp16"}, 422, "invalid", "Did you mean"),
    ({"model": KEY, "device": "t4", "precision": "fp99"}, 422, "invalid", "fp99"),
    ({"model": KEY, "device": "raspberry-pi-5", "runtime": "tensorrt"}, 409, "conflict", "tensorrt"),
    ({"model": {"layers": [{"type": "conv"}]}, "device": "t4"}, 409, "conflict", "conv"),
    ({"model": KEY, "device": "t4", "batch": 0}, 422, "invalid", "batch"),
    ([], 422, "invalid", "object"),
])  # fmt: skip
def test_errors_say_what_is_wrong(service, data, status, code, words):
    answer = service.http.post("/v1/predict", json=data)
    assert words in error_of(answer, status, code)


def test_bodies_that_are_none(service):
    post = service.http.post
    error_of(post("/v1/predict", content=b"{", headers=JSON), 400, "bad_request")
    error_of(post("/v1/predict", content=b"[" * 5000, headers=JSON), 400, "bad_request")
    error_of(post("/v1/predict", content=b"x", headers={"Content-Type": "text/plain"}), 415,
             "unsupported_media_type")  # fmt: skip
    error_of(post("/v1/predict", content=b"x"), 415, "unsupported_media_type")
    error_of(post("/v1/predict", content=b"x", headers={"Content-Type": "multipart/form-data"}),
             400, "bad_request")  # fmt: skip
    error_of(post("/v1/predict", files={"file": ("a.exe", b"MZ")},
                  data={"settings": '{"device": "t4"}'}), 409, "unsupported_file")  # fmt: skip
    text = b"model: {layers: [{type: conv, out: x}]}\ndevice: jetson\n"
    said = error_of(post("/v1/predict", content=text, headers={"Content-Type": "application/yaml"}),
                    409, "conflict")  # fmt: skip
    assert said.startswith("config.yaml:1:")
    error_of(post("/v1/predict?device=t4&device=v100", json={"model": KEY}), 422, "invalid")
    error_of(post("/v1/predict?devise=t4", json={"model": KEY}), 422, "invalid")


def test_paths_and_methods(service):
    error_of(service.http.get("/v1/nothing"), 404, "not_found")
    answer = service.http.get("/v1/predict")
    error_of(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    assert service.http.request("PATCH", "/v1/searches").headers["allow"] == "GET, HEAD, POST"
    assert service.http.get("/page/../app.py").status_code == 404
    assert service.http.get("/page/%2e%2e%2fapp.py").status_code == 404


def test_answers_carry_headers_that_keep_browsers_safe(service):
    for answer in (service.http.get("/"), service.predict(), service.http.get("/v1/nothing")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


def test_ids_are_the_clients_where_they_are_harmless(service):
    get = service.http.get
    assert get("/v1/health", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    wild = get("/v1/health", headers={"X-Request-ID": 'a"b<script>'})
    assert "script" not in wild.headers["x-request-id"]
    service.heard("request", request_id="mine-1", path="/v1/health")


def test_other_sites_are_refused(service):
    error_of(service.http.get("/v1/devices", headers={"Host": "evil.example"}), 403, "forbidden")
    error_of(service.http.post("/v1/predict", json={}, headers={"Origin": "http://evil.example"}),
             403, "forbidden")  # fmt: skip
    own = service.http.get("/v1/health", headers={"Origin": service.url})
    assert own.status_code == 200


def test_what_was_asked_before_is_known(service):
    key = "ofa:ks=3,e=4,d=3"
    first, second = service.predict(key), service.predict(key)
    assert first.content == second.content
    lines = [line for line in service.log if line.get("path") == "/v1/predict"]
    assert service.heard("request", request_id=second.headers["x-request-id"])["cached"] is True
    assert lines


def test_the_document_names_every_route(service):
    data = service.http.get("/v1/openapi.json").json()
    assert data == json.loads(json.dumps(openapi.document()))
    from predictor.service.app import make_app

    class Nothing:
        stopping = cache = listed = metrics = pool = searches = None

    routes = {(route.path.replace("{name}", "{id}") if "searches" in route.path else route.path,
               method.lower()) for route in make_app(Nothing()).routes
              for method in route.methods if method != "HEAD"}  # fmt: skip
    said = {(path, method) for path, item in data["paths"].items() for method in item}
    unsaid = {("/", "get"), ("/page/{name}", "get"), ("/openapi.json", "get")}
    assert routes - said == unsaid
    assert said <= routes


def table(service, text, query="device=jetson", **more):
    return service.http.post(f"/v1/batch?{query}", content=text.encode(),
                             headers={"Content-Type": "text/csv"}, **more)  # fmt: skip


def test_a_table_is_answered_as_the_command_line_does(service, tmp_path):
    text = (f'model,note,batch\n"{KEY}","a\nb",2\nno:such,,\n"{KEY}",,0\n'
            + "".join(f'"ofa:ks={k},e={e},d={d}",,\n' for k in (3, 5, 7) for e in (3, 4, 6)
                      for d in (2, 3, 4)))  # fmt: skip
    (tmp_path / "models.csv").write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "predictor.cli", "batch", "models.csv", "-d",
                           "jetson", "-d", "t4"], capture_output=True, cwd=tmp_path)  # fmt: skip
    answer = table(service, text, "device=jetson&device=t4")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    own = answer.text.splitlines()
    expected = done.stdout.decode().splitlines()
    assert own[0] == expected[0]
    assert len(own) == len(expected)
    same = [a == b for a, b in zip(own, expected, strict=True)]
    assert sum(same) >= len(same) - 4  # what is said of a name that is none differs
    assert own[5].startswith("no:such,,,jetson,,,,")


def test_a_table_reads_no_file_of_the_server(service):
    text = "model,device\n/etc/passwd.onnx,jetson\npython:x.py:f,jetson\nconfig.yaml,jetson\n" \
           f'"{KEY}",/etc/passwd\n'  # fmt: skip
    lines = table(service, text, "").text.splitlines()
    assert len(lines) == 5
    assert all(",,,," in line for line in lines[1:])
    assert [line.count("network") + line.count("path") for line in lines[1:]] == [1, 1, 1, 1]


@pytest.mark.parametrize(("text", "query", "status", "code"), [
    ("", "device=jetson", 409, "conflict"), ("a,b\n1,2\n", "device=jetson", 409, "conflict"),
    ("model\nx\n", "device=nope", 404, "unknown_device"),
    ("model\nx\n", "device=a/b", 404, "unknown_device"),
    ("model\nx\n", "device=jetson&precison=fp16", 422, "invalid"),
    ("model\nx\n", "device=raspberry-pi-5&runtime=tensorrt", 409, "conflict"),
])  # fmt: skip
def test_what_is_wrong_with_a_whole_table_is_told_at_once(service, text, query, status, code):
    error_of(table(service, text, query), status, code)


def test_rows_of_a_table_come_as_they_are_known(service):
    text = "model\n" + f'"{KEY}"\n' * 300
    with service.http.stream("POST", "/v1/batch?device=jetson", content=text.encode(),
                             headers={"Content-Type": "text/csv"}) as answer:  # fmt: skip
        pieces = list(answer.iter_raw())
    assert len(pieces) > 2
    assert len(b"".join(pieces).splitlines()) == 301
