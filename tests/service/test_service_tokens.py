"""Who may ask, how often, and until when."""

from __future__ import annotations

import datetime
import hashlib
import os
import subprocess
import sys
import time

import pytest
from service_driver import KEY, error_of

from predictor.errors import ConfigError
from predictor.service import tokens as module
from predictor.service.tokens import Tokens, read_tokens

GOOD = "a-good-token-of-some-length"
OTHER = "another-token-of-some-length"
OLD = "a-token-that-is-out-of-date"
SLOW = "a-token-that-may-ask-rarely"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokens.yaml"
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    tomorrow = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).isoformat()
    path.write_text(
        f'- {{name: good, token: "{GOOD}", expires: "{tomorrow}", per_minute: 6000}}\n'
        f"- {{name: other, sha256: {digest}}}\n"
        f'- {{name: old, token: "{OLD}", expires: 2020-01-01}}\n'
        f'- {{name: slow, token: "{SLOW}", per_minute: 6}}\n', encoding="utf-8")  # fmt: skip
    return path


@pytest.fixture(scope="module")
def guarded(file):
    from service_driver import Service

    made = Service(tokens=str(file))
    yield made
    made.stop()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("headers", [
    {}, bearer("wrong-token-of-some-length"), bearer(OLD), bearer("x"), bearer(GOOD[:-1]),
    bearer(GOOD + "x"), {"Authorization": f"Basic {GOOD}"}, {"Authorization": GOOD},
    {"Authorization": "Bearer " + "x" * 5000}, {"Authorization": b"Bearer \xff\xfe"},
])  # fmt: skip
@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/v1/predict"), ("GET", "/v1/devices"), ("GET", "/v1/metrics"), ("GET", "/v1/nothing"),
    ("POST", "/v1/searches"), ("POST", "/v1/batch"), ("GET", "/v1/searches/x/events"),
])  # fmt: skip
def test_nothing_without_a_token_that_holds(guarded, headers, method, path):
    answer = guarded.http.request(method, path, headers=headers)
    error_of(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    for word in (GOOD, OTHER, OLD, "good", "old"):
        assert word not in answer.json()["error"]["message"]


def test_what_needs_no_token(guarded):
    for path in ("/v1/health", "/v1/ready", "/v1/openapi.json"):
        assert guarded.http.get(path).status_code == 200


@pytest.mark.parametrize("token", [GOOD, OTHER])
def test_a_token_lets_in_and_is_in_no_log(guarded, token):
    answer = guarded.http.post("/v1/predict", json={"model": KEY, "device": "jetson"},
                               headers=bearer(token))  # fmt: skip
    assert answer.status_code == 200
    line = guarded.heard("request", request_id=answer.headers["x-request-id"])
    assert line["token"] in ("good", "other")
    assert not [raw for raw in guarded.raw if token.encode() in raw]


def test_the_rate_of_a_token(guarded):
    codes = [guarded.http.get("/v1/devices/jetson", headers=bearer(SLOW)).status_code
             for _ in range(4)]  # fmt: skip
    assert codes[0] == 200
    assert 429 in codes
    answer = guarded.http.get("/v1/devices/jetson", headers=bearer(SLOW))
    assert "wait" in error_of(answer, 429, "too_many_requests")
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert guarded.http.get("/v1/devices/jetson", headers=bearer(GOOD)).status_code == 200


def test_a_changed_file_is_read_again_and_a_damaged_one_is_not(started, tmp_path):
    path = tmp_path / "tokens.yaml"
    path.write_text(f'- {{name: first, token: "{GOOD}"}}\n', encoding="utf-8")
    service = started(tokens=str(path))

    def status(token):
        return service.http.get("/v1/devices/jetson", headers=bearer(token)).status_code

    assert (status(GOOD), status(OTHER)) == (200, 401)
    path.write_text(f'- {{name: second, token: "{OTHER}"}}\n', encoding="utf-8")
    time.sleep(module._LOOK_S + 0.1)
    assert (status(GOOD), status(OTHER)) == (401, 200)
    path.write_text("- {name: third, token: [", encoding="utf-8")
    time.sleep(module._LOOK_S + 0.1)
    assert (status(GOOD), status(OTHER)) == (401, 200)
    service.heard("the token file cannot be read; the old tokens stay")
    assert OTHER not in str(service.log)


def test_searches_belong_to_their_token(guarded):
    said = {"space": "nasbench201", "device": "jetson", "trials": 2, "sampler": "random"}
    job = guarded.http.post("/v1/searches", json=said, headers=bearer(GOOD)).json()
    path = f"/v1/searches/{job['id']}"
    for rest in ("", "/front", "/events"):
        error_of(guarded.http.get(path + rest, headers=bearer(OTHER)), 404, "not_found")
    error_of(guarded.http.delete(path, headers=bearer(OTHER)), 404, "not_found")
    assert guarded.http.get("/v1/searches", headers=bearer(OTHER)).json() == {"searches": []}
    assert guarded.http.get(path, headers=bearer(GOOD)).status_code == 200
    assert guarded.http.delete(path, headers=bearer(GOOD)).status_code == 200
    error_of(guarded.http.get(path, headers=bearer(GOOD)), 404, "not_found")


def test_a_token_of_the_environment(started):
    service = started(token=GOOD)
    assert service.http.get("/v1/spaces").status_code == 401
    assert service.http.get("/v1/spaces", headers=bearer(GOOD)).status_code == 200
    for worker in service.workers():
        assert "LATENCY_PREDICTOR_TOKEN" not in worker.environ()


def serve(*words, env=None):
    return subprocess.run([sys.executable, "-m", "predictor.cli", "serve", "--port", "0", *words],
                          capture_output=True, text=True, timeout=60,
                          env={**os.environ, **(env or {})})  # fmt: skip


def test_others_are_served_only_with_tokens():
    done = serve("--host", "0.0.0.0")
    assert done.returncode == 2
    assert "--tokens FILE" in done.stderr


def test_mistakes_are_told_before_anything_is_served(tmp_path):
    done = serve("--tokens", str(tmp_path / "none.yaml"))
    assert done.returncode == 2
    assert "cannot be read" in done.stderr
    done = serve(env={"LATENCY_PREDICTOR_TOKEN": "short"})
    assert done.returncode == 2
    assert "can be guessed" in done.stderr


def test_a_port_that_is_taken(guarded):
    done = subprocess.run([sys.executable, "-m", "predictor.cli", "serve", "--port",
                           str(guarded.port)], capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 2
    assert "--port" in done.stderr


@pytest.mark.parametrize(("text", "words"), [
    ("{}", "a list of tokens"), ("[]", "a list of tokens"), ("- x", "wants a name"),
    ("- {name: a}", "either token or sha256"), ("- {name: a, token: short}", "can be guessed"),
    ("- {name: a, token: 1234567890123456, sha256: x}", "either token or sha256"),
    ("- {name: a, sha256: x}", "64 hexadecimal"), ("- {name: a, tokn: x}", "Did you mean 'token'"),
    (f'- {{name: a, token: "{GOOD}", expires: soon}}', "a day or a moment"),
    (f'- {{name: a, token: "{GOOD}", per_minute: 0}}', "1 or more"),
    (f'- {{name: a, token: "{GOOD}"}}\n- {{name: a, token: "{OTHER}"}}', "stands twice"),
    ("- [", "no YAML"), ("\x00", "no YAML"),
])  # fmt: skip
def test_a_wrong_file_says_what_is_wrong_and_no_token(tmp_path, text, words):
    path = tmp_path / "tokens.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words) as caught:
        read_tokens(path)
    assert GOOD not in str(caught.value)


def test_every_token_is_compared_whichever_fits(tmp_path, monkeypatch):
    path = tmp_path / "tokens.yaml"
    path.write_text("".join(f'- {{name: n{i}, token: "{GOOD}{i}"}}\n' for i in range(5)),
                    encoding="utf-8")  # fmt: skip
    found = Tokens(path, None, 600)
    compared = []
    real = module.hmac.compare_digest
    monkeypatch.setattr(module.hmac, "compare_digest",
                        lambda a, b: compared.append(len(a)) or real(a, b))  # fmt: skip
    for number in (0, 4):
        compared.clear()
        assert found.holder(f"Bearer {GOOD}{number}").name == f"n{number}"
        assert compared == [32] * 5
    compared.clear()
    assert found.holder("Bearer wrong") is None
    assert compared == [32] * 5


def test_expiry_takes_effect_at_its_moment(tmp_path, monkeypatch):
    path = tmp_path / "tokens.yaml"
    path.write_text(f'- {{name: a, token: "{GOOD}", expires: "2030-01-02T03:04:05+02:00"}}\n',
                    encoding="utf-8")  # fmt: skip
    found = Tokens(path, None, 600)
    moment = datetime.datetime(2030, 1, 2, 1, 4, 5, tzinfo=datetime.UTC).timestamp()
    monkeypatch.setattr(module.time, "time", lambda: moment - 0.001)
    assert found.holder(f"Bearer {GOOD}") is not None
    monkeypatch.setattr(module.time, "time", lambda: moment)
    assert found.holder(f"Bearer {GOOD}") is None


def test_a_bucket_fills_at_its_rate(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    bucket = module._Bucket(60)
    assert [bucket.take(now[0]) for _ in range(10)] == [0.0] * 10
    assert bucket.take(now[0]) == pytest.approx(1.0)
    now[0] += 1.0
    assert bucket.take(now[0]) == 0.0
    assert bucket.take(now[0]) == pytest.approx(1.0)
