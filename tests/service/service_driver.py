"""A real server in a process of its own, on a free port of loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque

import httpx
import psutil

START = """
import json, sys
from pathlib import Path
from predictor.service.server import serve
from predictor.service.settings import Limits, Settings
said = json.loads(sys.argv[1])
limits = Limits(**said.pop("limits", {}))
if said.get("tokens"):
    said["tokens"] = Path(said["tokens"])
said = {"preload": False, "look_through": False, **said}
sys.exit(serve(Settings(port=0, limits=limits, **said)))
"""
READY_S = 60.0
JSON = {"Content-Type": "application/json"}
KEY = "ofa:ks=7,e=6,d=4"


class Service:
    """The server; ``log`` holds its lines. Settings are those of ``Settings``, ``limits`` a dict."""

    def __init__(self, env=None, **settings):
        environment = {**os.environ, **(env or {})}
        if env is None or "LATENCY_PREDICTOR_TOKEN" not in env:
            environment.pop("LATENCY_PREDICTOR_TOKEN", None)
        settings = {"workers": 1, **settings}
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, json.dumps(settings)], env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.log = deque(maxlen=20_000)
        self.raw = deque(maxlen=20_000)
        self.news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        port = self.heard("ready")["port"]
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def _read(self):
        for line in self.process.stderr:
            with self.news:
                self.raw.append(line)
                try:
                    self.log.append(json.loads(line))
                except ValueError:
                    self.log.append({"event": "no JSON", "line": line.decode(errors="replace")})
                self.news.notify_all()

    def heard(self, event, seconds=READY_S, after=0, **facts):
        """The first line of that event (from the ``after``-th line on), once it is there."""
        until = time.monotonic() + seconds

        def found():
            for line in list(self.log)[after:]:
                if line.get("event") == event and all(line.get(k) == v for k, v in facts.items()):
                    return line
            return None

        with self.news:
            while (line := found()) is None:
                left = until - time.monotonic()
                ended = self.process.poll() is not None and not self.news.wait(1)
                assert not ended, f"it ended before '{event}': {[*self.log][-5:]}"
                assert left > 0, f"never heard '{event}' {facts}: {[*self.log][-5:]}"
                self.news.wait(min(left, 1.0))
            return line

    def workers(self):
        """Processes that predict, by what they hold: the fork server's children."""
        own = psutil.Process(self.process.pid)
        return [grand for child in own.children() for grand in child.children()]

    def predict(self, model=KEY, device="jetson", **settings):
        return self.http.post("/v1/predict", json={"model": model, "device": device, **settings})

    def stop(self, seconds=30):
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self.http.close()
        return code


def error_of(answer, status, code):
    """The message of an error in the one shape."""
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == "application/json"
    data = answer.json()
    assert set(data) == {"error"}
    assert set(data["error"]) == {"code", "message", "request_id"}
    assert data["error"]["code"] == code, data
    assert data["error"]["request_id"] == answer.headers["x-request-id"]
    return data["error"]["message"]
