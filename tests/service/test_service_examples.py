"""docs/service.md and examples/service/ say what is so: options, commands, codes, a real server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from service_driver import Service

from predictor.commands import serve
from predictor.service.gate import HEADER_BYTES, HEADER_COUNT
from predictor.service.problems import CODES
from predictor.service.settings import Limits
from predictor.service.tokens import read_tokens

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "service"
PAGE = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
UNIT = (FOLDER / "latency-predictor.service").read_text(encoding="utf-8")
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
TOKEN = "a token of the tests, long enough"


def commands():
    """Lines of indented blocks, those that end in a backslash with the next one."""
    text = "\n".join(line[4:] for line in PAGE.splitlines() if line.startswith("    "))
    return text.replace("\\\n", " ").splitlines()


CURLS = [line for line in commands() if line.startswith("curl ")]


@pytest.fixture(scope="module")
def guarded():
    made = Service(token=TOKEN)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the page's commands name."""
    from onnx import TensorProto, helper, save

    path = tmp_path_factory.mktemp("service")
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 32, 32])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [8, 3, 3, 3], [0.0] * 216)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    save(helper.make_model(helper.make_graph([node], "net", [image], [out], [weight])),
         path / "model.onnx")  # fmt: skip
    shutil.copy(ROOT / "examples" / "config.yaml", path)
    (path / "models.csv").write_text('model,batch\n"ofa:ks=7,e=6,d=4",1\ndecoder:gpt2,\n')
    return path


def test_every_command_of_the_page_answers(guarded, folder):
    if shutil.which("curl") is None:
        pytest.skip("curl is not there: it is an installation beyond pip")
    pytest.importorskip("optuna", reason="searches are Optuna's")
    environment = {**os.environ, "TOKEN": TOKEN, "ID": "?"}
    assert len(CURLS) >= 12
    for line in CURLS:
        own = line.replace("localhost:8000", f"127.0.0.1:{guarded.port}")
        if "Authorization" not in own:
            own += ' -H "Authorization: Bearer $TOKEN"'
        done = subprocess.run(["bash", "-c", own + r" -w '\n%{http_code}'"], cwd=folder,
                              env=environment, capture_output=True, text=True)  # fmt: skip
        body, _, status = done.stdout.rpartition("\n")
        assert status in ("200", "202"), f"{line}\n{done.stdout}{done.stderr}"
        if status == "202":
            environment["ID"] = json.loads(body)["id"]
        if "text/csv" in line:
            assert body in PAGE  # the table is the real one
        if "/events" in line:
            assert body.endswith("event: end\ndata: {}\n\n"), body[-300:]
            assert '"state":"done"' in body


def test_figures_on_the_page(guarded):
    asked = {"model": "ofa:ks=7,e=6,d=4", "device": "jetson"}
    head = {"Authorization": f"Bearer {TOKEN}"}
    answer = guarded.http.post("/v1/predict", json=asked, headers=head).json()
    assert f'"latency_ms":{answer["latency_ms"]},' in PAGE
    assert f'"interval_ms":{json.dumps(answer["interval_ms"], separators=(",", ":"))}' in PAGE
    counted = guarded.http.post("/v1/count", json={"model": asked["model"]}, headers=head).json()
    assert f'"macs": {counted["macs"]}, "params": {counted["params"]}' in PAGE
    refused = guarded.http.post("/v1/predict", json={**asked, "device": "jetsn"}, headers=head)
    told = next(json.loads(line) for line in PAGE.splitlines() if line.startswith('{"error"'))
    assert {**told["error"], "request_id": ""} == {**refused.json()["error"], "request_id": ""}


def test_the_page_lists_every_path_and_code():
    from predictor.service.openapi import document

    listed = set(re.findall(r"^\| `([A-Z]+) (/v1/[^` ]+)`", PAGE, re.M))
    known = {(method.upper(), path.replace("{id}", "ID").replace("{name}", "jetson"))
             for path, methods in document()["paths"].items() for method in methods}  # fmt: skip
    assert listed == known
    codes = {}
    for names, status in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (\d{3}) \|", PAGE, re.M):
        codes |= dict.fromkeys(re.findall(r"\w+", names), int(status))
    assert codes == CODES


def test_limits_on_the_page():
    limits = Limits()
    rows = {cells[0]: cells[1:] for line in PAGE.splitlines()
            if len(cells := [c.strip() for c in line.strip("|").split("|")]) == 4}  # fmt: skip
    assert rows["body"][0] == f"{limits.body_bytes / 1e6:g} MB"
    assert rows["table"][0] == f"{limits.table_bytes / 1e9:g} GB"
    assert rows["all bodies at once, tables aside"][0] == f"{limits.held_bytes / 1e6:g} MB"
    assert rows["tables at once"][0] == f"{limits.tables}"
    assert rows["headers"][0] == f"{HEADER_BYTES // 1024} KiB, {HEADER_COUNT} of them"
    assert rows["arrival of a body"][0] == f"{limits.upload_seconds:g} s"
    assert rows["operators of a graph"][0] == f"{limits.kernels:,}"
    assert rows["rows of a JSON batch"][0] == f"{limits.rows:,}"
    assert rows["estimates of a comparison"][0] == f"{limits.combinations}"
    assert rows["time of a prediction"][0] == f"{limits.seconds:g} s"
    assert rows["memory of a worker"][0] == f"{limits.worker_mb / 1e3:g} GB"
    assert rows["requests that wait"][0] == f"{limits.waiting}"
    assert rows["requests of a token"][0] == f"{limits.per_minute} a minute"
    assert rows["searches"][0] == f"{limits.searches} run, {limits.searches_waiting} wait"
    assert rows["trials, time of a search"][0] == (
        f"{limits.trials:,}, {limits.search_seconds / 60:g} minutes")  # fmt: skip
    for option in re.findall(r"`(--[a-z-]+)", PAGE):
        assert option in OPTIONS | {"--json", "--compressed"}


OPTIONS = {word for option in serve.command.params for word in option.opts}


def options_of(words):
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def settings_of(unit):
    found = {}
    for line in unit.splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit():
    said = settings_of(UNIT)
    words = shlex.split(said["ExecStart"][0])
    assert words[1] == "serve"
    assert options_of(words) <= OPTIONS
    home = said["Environment"][0].partition("=")[2]
    assert home == f"/var/lib/{said['StateDirectory'][0]}"
    assert said["LoadCredential"][0].startswith(f"{words[-1].rpartition('/')[2]}:")
    assert said["KillMode"] == ["mixed"]  # workers go when the server has answered
    assert int(said["TimeoutStopSec"][0]) > float(words[words.index("--grace") + 1]) + 10


def test_the_unit_is_one(tmp_path):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd is not there: it is an installation beyond pip")
    program = "/opt/latency-predictor/bin/predict-latency"
    assert program in UNIT
    unit = tmp_path / "latency-predictor.service"
    unit.write_text(UNIT.replace(program, sys.executable).replace("/bin/kill", sys.executable))
    done = subprocess.run([tool, "verify", "--man=no", unit], capture_output=True, text=True)
    mine = [line for line in done.stderr.splitlines() if "latency-predictor" in line]
    assert not mine, mine


def instructions():
    found = []
    for line in DOCKERFILE.replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.append((name, rest.strip()))
    return found


def test_the_dockerfile(tmp_path):
    """Its command, with a token file and a port of our own, is ready for its own health check."""
    said = dict(instructions())
    assert said["USER"].isdigit()
    assert said["USER"] != "0"
    words = json.loads(said["CMD"])
    assert words[:2] == ["predict-latency", "serve"]
    assert options_of(words) <= OPTIONS
    assert said["EXPOSE"] == words[words.index("--port") + 1]
    home = dict(pair.split("=") for pair in said["ENV"].split())["LATENCY_PREDICTOR_HOME"]
    assert any(f"--home-dir {home} " in rest for name, rest in instructions() if name == "RUN")
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(f'- {{name: test, token: "{TOKEN}"}}\n')
    words[words.index("--tokens") + 1] = str(tokens)
    words[words.index("--host") + 1] = "127.0.0.1"
    words[words.index("--port") + 1] = "0"
    command = [sys.executable, "-m", "predictor.cli", *words[1:], "--workers", "1", "--light"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path, text=True,
                               env={**os.environ, "LATENCY_PREDICTOR_HOME": str(tmp_path)})  # fmt: skip
    try:
        ready = next(
            fact for line in process.stderr if (fact := json.loads(line))["event"] == "ready"
        )
        assert ready["guarded"]
        check = json.loads(said["HEALTHCHECK"].partition(" CMD ")[2])
        assert check[:2] == ["python", "-c"]
        code = check[2].replace("127.0.0.1:8000", f"127.0.0.1:{ready['port']}")
        assert code != check[2]
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        asked = urllib.request.Request(f"http://127.0.0.1:{ready['port']}/v1/devices/jetson",
                                       headers={"Authorization": f"Bearer {TOKEN}"})  # fmt: skip
        assert json.load(urllib.request.urlopen(asked, timeout=60))["name"] == "jetson-orin-nano"
    finally:
        process.send_signal(signal.SIGTERM)
        process.stderr.close()
        assert process.wait(30) == 0
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert failed.returncode != 0


def test_the_image_holds_what_is_installed():
    """The list of what is copied is what the wheel is made of."""
    import tomllib

    lines = (FOLDER / "Dockerfile.dockerignore").read_text().split()
    kept = {line[1:] for line in lines if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert kept == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", *wheel}
    assert all((ROOT / name).exists() for name in kept)
    assert "[service]" in DOCKERFILE
    assert "service" in project["project"]["optional-dependencies"]


def test_the_token_file():
    tokens = read_tokens(FOLDER / "tokens.yaml")
    assert [token.name for token in tokens] == ["example", "dashboard"]
    block = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL).group(1)
    assert {key for entry in yaml.safe_load(block) for key in entry} == {
        "name", "token", "expires", "per_minute", "sha256"}  # fmt: skip


def test_prometheus_reads_the_metrics(guarded):
    job = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"][0]
    assert guarded.http.get(job["metrics_path"]).status_code == 401
    answer = guarded.http.get(job["metrics_path"], headers={"Authorization": f"Bearer {TOKEN}"})
    for name in re.findall(r"`(predictor_\w+)`", PAGE):
        assert f"# HELP {name} " in answer.text


@pytest.mark.parametrize("source", ["the example", "the page"])
def test_python(guarded, source):
    pytest.importorskip("optuna", reason="searches are Optuna's")
    if source == "the example":
        words = [str(FOLDER / "client.py"), guarded.url]
    else:
        code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)
        words = ["-c", code.replace("http://localhost:8000", guarded.url)]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120,
        env={**os.environ, "LATENCY_PREDICTOR_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "5.10" in done.stdout
    if source == "the example":
        assert "search: done, 20 of 20" in done.stdout
        assert "unknown_device" in done.stdout
