"""What is read again and again: HEAD, tags, compression; what messages call an uploaded file."""

from __future__ import annotations

import gzip
import json
import os

import pytest
from click.testing import CliRunner
from service_driver import error_of

from predictor.commands import serve
from predictor.errors import MissingExtra
from predictor.graph import Graph
from predictor.service import handlers, searches, server
from predictor.service.client import Client
from predictor.service.files import page_files

GET = ("/", "/page/app.js", "/v1/devices", "/v1/devices/jetson", "/v1/models", "/v1/spaces",
       "/v1/searches", "/v1/health", "/v1/ready", "/v1/metrics", "/v1/openapi.json")  # fmt: skip


@pytest.mark.parametrize("path", GET)
def test_head_is_get_without_the_body(service, path):
    head, whole = service.http.head(path), service.http.get(path)
    assert head.status_code == whole.status_code == 200
    assert head.content == b""
    own = {"date", "x-request-id", "content-length"}
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in whole.headers.items() if k not in own}  # fmt: skip
    if path != "/v1/metrics":  # which counts the request before
        assert head.headers["content-length"] == whole.headers["content-length"]


def test_head_where_there_is_nothing_to_get(service):
    assert service.http.head("/v1/nothing").status_code == 404
    refused = service.http.head("/v1/predict")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert service.http.put("/v1/devices").headers["allow"] == "GET, HEAD"
    assert service.http.put("/v1/searches").headers["allow"] == "GET, HEAD, POST"


def test_head_of_events_ends_at_once(service):
    said = {"space": "nasbench201", "device": "jetson", "accuracy": "params", "trials": 2_000,
            "sampler": "random"}  # fmt: skip
    place = service.http.post("/v1/searches", json=said).headers["location"]
    head = service.http.head(f"{place}/events", timeout=5)
    assert head.headers["content-type"].startswith("text/event-stream")
    with service.http.stream(
        "GET", f"{place}/events", headers={"Accept-Encoding": "gzip"}
    ) as events:
        assert "content-encoding" not in events.headers
    service.http.delete(place)


def test_page_files_are_sent_again_only_when_they_changed(service):
    for path in ("/", "/page/base.css"):
        first = service.http.get(path)
        tag = first.headers["etag"]
        for said in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
            again = service.http.get(path, headers={"If-None-Match": said})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        changed = service.http.get(path, headers={"If-None-Match": '"other"'})
        assert changed.content == first.content
    assert len({file.tag for file in page_files().values()}) == len(page_files())


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/v1/devices", "/v1/openapi.json"])
def test_long_bodies_are_compressed_for_who_accepts_it(service, path):
    plain = service.http.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    for said in ("gzip", "br, GZIP;q=0.5"):
        packed = service.http.get(path, headers={"Accept-Encoding": said})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
        assert int(packed.headers["content-length"]) < len(plain.content)
        assert packed.content == plain.content
    for said in ("", "br", "gzip;q=0", "gzip; q=0.0"):
        answer = service.http.get(path, headers={"Accept-Encoding": said})
        assert "content-encoding" not in answer.headers


def test_predictions_are_not_compressed(service):
    assert "gzip" in service.http.headers["accept-encoding"]
    for _ in range(2):  # the second is known already
        assert "content-encoding" not in service.predict().headers


@pytest.mark.parametrize("name", ["junk.onnx", "junk.pt2"])
@pytest.mark.parametrize("kind", ["predict", "count", "compare"])
def test_a_message_calls_a_file_as_the_client_does(service, name, kind):
    said = {"predict": {"device": "jetson"}, "count": {}, "compare": {"devices": ["jetson"]}}[kind]
    answer = service.http.post(f"/v1/{kind}", files={"file": (f"/home/me/{name}", b"PKjunk")},
                               data={"settings": json.dumps(said)})  # fmt: skip
    message = error_of(answer, 409, "conflict")
    assert message.startswith(f"{name}: ")
    assert "uploads" not in message


def test_notes_call_a_file_as_the_client_does(monkeypatch):
    from predictor.config import Config
    from predictor.service.settings import Limits

    graph = Graph("net", (), notes=("uploads/0/net.onnx: a note", "another"))
    monkeypatch.setattr("predictor.frontends.load.load_graph", lambda *_, **__: graph)
    found = handlers.Handlers(Limits())._graph(Config.from_dict({"model": "uploads/0/net.onnx"}))
    assert found.notes == ("net.onnx: a note", "another")


def test_an_empty_token_is_none(monkeypatch):
    told = []
    monkeypatch.setattr(server, "serve", lambda settings: told.append(settings) or 0)
    monkeypatch.setenv("LATENCY_PREDICTOR_TOKEN", "")
    CliRunner().invoke(serve.command, [], catch_exceptions=False, standalone_mode=False)
    assert told[0].token is None
    assert not told[0].guarded
    with Client("http://127.0.0.1:1") as client:
        assert "authorization" not in client._http.headers
    monkeypatch.setenv("LATENCY_PREDICTOR_TOKEN", "sixteen characters and more")
    with Client("http://127.0.0.1:1", token="") as client:
        assert "authorization" not in client._http.headers
    assert os.environ["LATENCY_PREDICTOR_TOKEN"]
    CliRunner().invoke(serve.command, [], catch_exceptions=False, standalone_mode=False)
    assert told[1].guarded


def test_compressed_once():
    from predictor.service.files import _packed

    body = b"x" * 5000
    assert _packed(body) is _packed(body)
    assert gzip.decompress(_packed(body)) == body


def test_a_server_that_cannot_search_says_so(monkeypatch):
    from predictor.service.problems import refusal_of
    from predictor.service.settings import Limits

    monkeypatch.setattr(searches, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        searches.refuse_search({"space": "ofa", "device": "jetson"}, Limits())
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.status) == ("missing_package", 404)
    assert "latency-predictor[search]" in refusal.message


def test_many_or_long_headers_are_refused(service):
    for headers in ({"X-Long": "a" * 70_000}, {f"X-{n}": "1" for n in range(120)}):
        error_of(service.http.get("/v1/models", headers=headers), 431, "headers_too_large")
    assert service.http.get("/v1/models", headers={"X-Long": "a" * 20_000}).status_code == 200
