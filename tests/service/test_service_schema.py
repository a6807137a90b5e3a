"""The OpenAPI document holds, by schemathesis: what it allows is taken, and what it does not is
refused as it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from service_driver import Service

from predictor.service import openapi
from predictor.service.problems import CODES


@pytest.fixture(scope="module")
def apart():
    """A server whose searches nobody else counts."""
    made = Service(workers=2)
    made.http.get("/v1/models")  # imports the model libraries, which takes seconds once
    yield made
    assert made.stop() == 0
    assert not [line for line in made.log if line.get("level") == "error"]


def schemathesis(service, folder, *words):
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("checking the document needs schemathesis")
    return subprocess.run(
        [program, "run", f"{service.url}/v1/openapi.json", "--continue-on-failure",
         "--generation-deterministic", "--request-timeout", "60", "--no-color", *words],
        capture_output=True, text=True, cwd=folder,
    )  # fmt: skip


def test_examples_and_edges(apart, tmp_path):
    done = schemathesis(
        apart,
        tmp_path,
        "--phases",
        "examples,coverage",
        "--max-examples",
        "5",
        "--exclude-path",
        "/v1/count",
    )  # fmt: skip - its parameters are predict's
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "0 generated" not in done.stdout
    assert apart.predict().status_code == 200


@pytest.mark.exhaustive
def test_all_phases(apart, tmp_path):
    done = schemathesis(apart, tmp_path, "--max-examples", "100")
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]


def test_the_document_names_every_path_that_is_served(service):
    document = service.http.get("/v1/openapi.json").json()
    assert document == json.loads(json.dumps(openapi.document()))
    for path, operations in document["paths"].items():
        for method in ("get", "put", "post", "delete", "patch", "head", "options", "trace"):
            answer = service.http.request(method, path.replace("{id}", "x").replace("{name}", "x"),
                                          content=b"")  # fmt: skip
            if method in operations or (method == "head" and "get" in operations):
                assert answer.status_code != 405, (method, path)
                told = operations.get(method, operations.get("get"))["responses"]
                assert str(answer.status_code) in told, (method, path)
            else:
                assert answer.status_code == 405, (method, path, answer.text)


def test_every_operation_has_an_id_words_and_errors_of_the_one_shape():
    seen = set()
    for path, operations in openapi.document()["paths"].items():
        for operation in operations.values():
            seen.add(operation["operationId"])
            assert operation["summary"], path
            for status, answer in operation["responses"].items():
                assert answer["description"]
                if status >= "400":
                    assert int(status) in CODES.values()
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith(
                        "/Error"
                    )
    assert len(seen) == sum(map(len, openapi.document()["paths"].values()))
