"""What the service costs beside the prediction itself, and how it holds under load.

    python -m scripts.bench_service                    # the table of docs/service.md, minutes
    python -m scripts.bench_service --soak-minutes 15  # memory under mixed load as well

Server and client are two processes on loopback. Times of a shared machine are noisy: everything is
compared within one run, CPU seconds are those that the processes report, and rounds are repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psutil

BARE = """
import sys
import uvicorn
from fastapi import FastAPI, Response
body = open(sys.argv[1], 'rb').read()
app = FastAPI()
@app.post('/v1/predict')
async def predict():
    return Response(body, media_type='application/json')
uvicorn.run(app, port=int(sys.argv[2]), log_level='warning', access_log=False, http='httptools')
"""


@contextlib.contextmanager
def running(command: list[str], url: str) -> Iterator[psutil.Process]:
    """A server process, once it answers."""
    started = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
                break
            time.sleep(0.1)
        yield psutil.Process(started.pid)
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(30)


def family(server: psutil.Process) -> list[psutil.Process]:
    """The server and all of its workers."""
    return [server, *server.children(recursive=True)]


def cpu_s(server: psutil.Process) -> float:
    """CPU seconds of the server and its workers so far."""
    return sum(sum(process.cpu_times()[:2]) for process in family(server))


def memory_mb(server: psutil.Process) -> float:
    """Memory that belongs to the server and its workers alone or in part: the sum of their PSS."""
    return sum(process.memory_full_info().pss for process in family(server)) / 1e6


def settled(server: psutil.Process) -> None:
    """Wait until what the server does in the background after its start is done."""
    quiet, before = 0, 0.0
    while quiet < 3:
        time.sleep(1)
        with contextlib.suppress(psutil.NoSuchProcess):  # one that ends just now
            now = cpu_s(server)
            quiet = quiet + 1 if now - before < 0.05 else 0
            before = now


def keys(count: int, seed: int = 0) -> list[str]:
    """Distinct once-for-all networks."""
    from predictor.search.spaces.find import load_space

    space, chance = load_space("ofa").space, Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[f"ofa:{space.key(space.random(chance))}"] = None
    return list(found)


def body(model: str) -> bytes:
    return json.dumps({"model": model, "device": "jetson"}).encode()


HEAD = {"Content-Type": "application/json"}


ALONE = """
import sys, time, predictor
for line in sys.stdin:
    start = time.process_time()
    predictor.predict(line.strip(), device='jetson').to_dict()
    print(time.process_time() - start, flush=True)
"""
"""Predicts what it is told, one at a time, and says the CPU seconds of each."""
WARM = 100


def distinct(server: psutil.Process, url: str, models: list[str]) -> tuple[float, float, float]:
    """CPU milliseconds a model: of the prediction alone, of the server, of server and workers.

    A process that only predicts and the server take turns with each model, so that both find the
    machine alike: as fast, and with caches as cold from waiting. The first models only warm both.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone = subprocess.Popen([sys.executable, "-c", ALONE], stdin=subprocess.PIPE, text=True,
                             stdout=subprocess.PIPE, env=environment)  # fmt: skip
    assert alone.stdin is not None
    assert alone.stdout is not None
    spent = 0.0
    front = whole = 0.0
    with httpx.Client(timeout=60) as client:
        for number, model in enumerate(models):
            if number == WARM:
                spent, front, whole = 0.0, -sum(server.cpu_times()[:2]), -cpu_s(server)
            for turn in (number % 2, 1 - number % 2):
                if turn:
                    alone.stdin.write(f"{model}\n")
                    alone.stdin.flush()
                    spent += float(alone.stdout.readline())
                else:
                    answer = client.post(f"{url}/v1/predict", content=body(model), headers=HEAD)
                    answer.raise_for_status()
        front += sum(server.cpu_times()[:2])
        whole += cpu_s(server)
    alone.stdin.close()
    alone.wait(10)
    count = (len(models) - WARM) / 1e3
    return spent / count, front / count, whole / count


class Raw:
    """A client that costs little: one connection, the same bytes again and again."""

    def __init__(self, port: int, data: bytes) -> None:
        head = (f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: "
                f"application/json\r\nContent-Length: {len(data)}\r\n\r\n")  # fmt: skip
        self.port, self.data = port, head.encode() + data

    async def __aenter__(self) -> Raw:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port,
                                                                 limit=1 << 20)  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def ask(self) -> None:
        """One request and its whole answer."""
        self.writer.write(self.data)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head[:100]
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await self.reader.readexactly(length)


async def as_fast_as_can_be(port: int, data: bytes, seconds: float, clients: int = 8) -> float:
    """Requests a second of so many connections that each ask again at once."""
    count, until = 0, time.monotonic() + seconds

    async def one() -> None:
        nonlocal count
        async with Raw(port, data) as raw:
            while time.monotonic() < until:
                await raw.ask()
                count += 1

    start = time.monotonic()
    await asyncio.gather(*(one() for _ in range(clients)))
    return count / (time.monotonic() - start)


async def at_rate(port: int, data: bytes, rate: float, seconds: float, clients: int = 8
                  ) -> list[float]:  # fmt: skip
    """Milliseconds of each answer, from when it was due, at a rate that waits for no answer."""
    took: list[float] = []
    due = iter(range(int(rate * seconds)))
    start = time.monotonic() + 0.1

    async def one() -> None:
        async with Raw(port, data) as raw:
            for number in due:
                at = start + number / rate
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                await raw.ask()
                took.append((time.monotonic() - at) * 1e3)

    await asyncio.gather(*(one() for _ in range(clients)))
    return took


def repeated(url: str, port: int, folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Requests for one model again and again, beside a bare endpoint with the same bytes."""
    gc.collect()
    gc.disable()  # the client's own pauses are not the server's
    data = body("ofa:ks=7,e=6,d=4")
    answer = httpx.post(f"{url}/v1/predict", content=data, headers=HEAD).content
    file = folder / "answer.json"
    file.write_bytes(answer)
    other = port + 1
    bare = [sys.executable, "-c", BARE, str(file), str(other)]
    rates: list[tuple[float, float]] = []
    tails = []
    with running(bare, f"http://127.0.0.1:{other}/openapi.json"):
        for number in range(rounds):
            pair = [(port, "own"), (other, "bare")]
            found = {name: asyncio.run(as_fast_as_can_be(at, data, seconds))
                     for at, name in (pair if number % 2 else pair[::-1])}  # fmt: skip
            rates.append((found["own"], found["bare"]))
            took = sorted(asyncio.run(at_rate(port, data, found["own"] / 2, seconds)))
            other_took = sorted(asyncio.run(at_rate(other, data, found["own"] / 2, seconds)))
            tails.append(
                [
                    statistics.median(took),
                    took[int(len(took) * 0.99)],
                    statistics.median(other_took),
                    other_took[int(len(other_took) * 0.99)],
                ]
            )
    return {"bytes": len(answer), "rates": rates, "tails": tails}


def soak(server: psutil.Process, url: str, minutes: float) -> list[tuple[float, float]]:
    """Mixed load; minutes and megabytes of server and workers, twice a minute."""
    chance, models = Random(1), keys(5000, seed=1)
    seen: list[tuple[float, float]] = []
    start, look = time.monotonic(), 0.0
    mixed = ["torchvision:resnet18", "torchvision:mobilenet_v2", "timm:resnet26", "decoder:gpt2"]
    devices = ["jetson", "rtx-4090", "raspberry-pi-5", "i9-10940x"]
    onnx = small_onnx()
    with httpx.Client(timeout=60) as client:
        while time.monotonic() - start < minutes * 60:
            if time.monotonic() >= look:
                look = time.monotonic() + 30
                seen.append(((time.monotonic() - start) / 60, memory_mb(server)))
            kind, device = chance.random(), chance.choice(devices)
            model = chance.choice(models) if kind < 0.6 else chance.choice(mixed)
            asked = {"model": model, "device": device, "batch": chance.randint(1, 64)}
            if kind < 0.7:
                client.post(f"{url}/v1/predict", json=asked)
            elif kind < 0.8:
                client.post(f"{url}/v1/compare", json={"models": [model], "devices": devices[:2]})
            elif kind < 0.9:
                client.post(f"{url}/v1/predict", files={"file": ("net.onnx", onnx)},
                            data={"settings": json.dumps({"device": device})})  # fmt: skip
            elif kind < 0.95:
                client.post(f"{url}/v1/predict", json={"model": "no:such", "device": device})
            else:
                client.post(f"{url}/v1/count", json={"model": model})
    return seen


def small_onnx() -> bytes:
    """An ONNX file of one layer."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
    )  # fmt: skip
    data: bytes = helper.make_model(graph).SerializeToString()
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8350)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--soak-minutes", type=float, default=0.0)
    parser.add_argument("--only", choices=["distinct", "repeated", "soak"])
    asked = parser.parse_args()
    url = f"http://127.0.0.1:{asked.port}"
    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    serve = [sys.executable, "-m", "predictor.cli", "serve", "--port", str(asked.port)]
    with running(serve, f"{url}/v1/ready") as server:
        settled(server)
        if asked.only in (None, "distinct"):
            for number in range(asked.rounds):
                models = keys(asked.models + WARM, seed=number)
                alone, front, whole = distinct(server, url, models)
                print(f"distinct: {asked.models} models: prediction {alone:.2f} ms, request "
                      f"{whole:.2f} ms of CPU, {whole - alone:+.2f} ms; {front:.2f} ms of it the "
                      "server's own", flush=True)  # fmt: skip
        if asked.only in (None, "repeated"):
            found = repeated(url, asked.port, folder, asked.rounds, asked.seconds)
            print(f"repeated: answers of {found['bytes']:,} bytes")
            for (own, bare), tail in zip(found["rates"], found["tails"], strict=True):
                print(f"  {own:,.0f} a second, bare {bare:,.0f}: {own / bare:.2f}; at half load "
                      f"p50 {tail[0]:.2f}, p99 {tail[1]:.2f} ms: {tail[1] / tail[0]:.1f} x; bare "
                      f"at that rate {tail[2]:.2f}, {tail[3]:.2f}", flush=True)  # fmt: skip
        if asked.soak_minutes:
            for minute, size in soak(server, url, asked.soak_minutes):
                print(f"  {minute:5.1f} min {size:7.1f} MB", flush=True)


if __name__ == "__main__":
    main()
