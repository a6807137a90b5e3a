"""torch.compile on the board: tapes and modules, compiled; first runs that stand apart."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from predictor.profiling.runtimes import ProgramError, RuntimeUnavailable, find  # noqa: E402
from predictor.profiling.runtimes import torch_compile as board  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

needs_compiler = pytest.mark.skipif(board.find_compiler() is None, reason="needs a C++ compiler")


def settings(folder, **changes):
    return {"precision": "fp32", "threads": 1, "device": "cpu", "folder": str(folder),
            "weights_bytes": 0, **changes}  # fmt: skip


def tape():
    """Convolution, batch norm (three results), ReLU in place, a split (a list), a sum."""
    store = {"dtype": "float32", "role": "parameter"}
    return {
        "format": 1,
        "inputs": [{"id": 1, "shape": [1, 3, 8, 8], "dtype": "float32"}],
        "stores": [
            {**store, "id": 2, "shape": [4, 3, 3, 3], "name": "conv.weight"},
            {**store, "id": 3, "shape": [4], "name": "bn.weight"},
            {**store, "id": 4, "shape": [4], "name": "bn.bias"},
            {**store, "id": 5, "shape": [4], "name": "bn.running_mean"},
            {**store, "id": 6, "shape": [4], "name": "bn.running_var"},
        ],
        "calls": [
            [0, "aten.convolution.default",
             [{"t": 1}, {"t": 2}, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1], {}, [7], []],
            [1, "aten.native_batch_norm.default",
             [{"t": 7}, {"t": 3}, {"t": 4}, {"t": 5}, {"t": 6}, False, 0.1, 1e-5], {},
             [8, 9, 10], [7, 9, 10]],
            [2, "aten.relu_.default", [{"t": 8}], {}, [8], []],
            [-1, "aten.split.Tensor", [{"t": 8}, 2, 1], {}, [11, 12], [8]],
            [3, "aten.add.Tensor", [{"t": 11}, {"t": 12}], {"alpha": 2}, [13], [11, 12]],
        ],
    }  # fmt: skip


def played(program, body):
    """What the tape makes operator by operator, on the same tensors."""
    env = program._start()
    for call in program.calls:
        named = call.ready(env)
        call.keep(env, call.func(*call.args, **named))
    return env[body["calls"][-1][4][0]]


def test_a_tape_as_a_graph_computes_what_its_calls_do():
    body = tape()
    program = find("eager")(settings(".")).load("t", json.dumps(body).encode())
    graph = board.graph_of(torch, body, program.stores, torch.float32, torch.device("cpu"))
    (out,) = graph(*[program.stores[key] for key in program.inputs])
    assert out.shape == (1, 2, 8, 8)
    assert torch.equal(out, played(program, body))
    assert out.abs().max() > 0
    assert len([n for n in graph.graph.nodes if n.op == "call_function"]) == 5 + 3 + 2


def test_a_single_call_returns_its_result():
    body = tape()
    body["calls"] = [[0, *body["calls"][0][1:5], [7]]]  # dropped at once, as isolated kernels are
    program = find("eager")(settings(".")).load("t", json.dumps(body).encode())
    graph = board.graph_of(torch, body, program.stores, torch.float32, torch.device("cpu"))
    (out,) = graph(*[program.stores[key] for key in program.inputs])
    assert out.shape == (1, 4, 8, 8)


@needs_compiler
def test_a_tape_is_compiled_and_its_first_run_takes_longest(tmp_path):
    """In a process of its own: the runtime changes settings of the whole process.

    Ten networks through one class come after: PyTorch's own limit would run the ninth uncompiled.
    """
    code = f"""
import json, sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
import torch
from test_torch_compile import played, settings, tape
from predictor.profiling.runtimes import find
body = tape()
runtime = find("torch_compile")(settings({str(tmp_path)!r}))
program = runtime.load("t", json.dumps(body).encode())
times = []
for _ in range(6):
    begin = time.perf_counter()
    program.run()
    times.append(time.perf_counter() - begin)
out, = program.compiled(*program.fed)
program.renew()
program.detail_run()
from torch._dynamo.utils import counters
graphs = counters["stats"]["unique_graphs"]
class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
    def forward(self, x):
        return x * self.width
for width in range(1, 11):
    torch.compile(Net(width), dynamic=False, backend="eager")(torch.ones(2, width + 1))
print(json.dumps(dict(
    networks=counters["stats"]["unique_graphs"] - graphs,
    first=times[0], rest=max(times[1:]), close=float((out - played(program, body)).abs().max()),
    details=program.details(), versions=runtime.versions(), graphs=graphs,
    breaks=len(counters["graph_break"]), ran=program.ran)))
program.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["close"] < 1e-5
    assert said["graphs"] == 1
    assert said["networks"] == 10
    assert said["breaks"] == 0
    assert said["first"] > 20 * said["rest"]
    assert said["details"] == [[], []]
    assert said["ran"] == "compiled tape"
    assert "compiler" in said["versions"]
    assert list((tmp_path / "inductor").rglob("*.cpp"))  # compiled here, not found elsewhere


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeUnavailable, match="apt install g"):
        find("torch_compile")(settings(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeUnavailable, match="no-such-compiler"):
        find("torch_compile")(settings(tmp_path))


def test_no_torch_2(monkeypatch, tmp_path):
    monkeypatch.delattr(torch, "compile")
    with pytest.raises(RuntimeUnavailable, match="PyTorch 2"):
        find("torch_compile")(settings(tmp_path))


@needs_compiler
@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"inputs": [], "stores": [], "calls": []}'])
def test_what_is_no_tape(monkeypatch, tmp_path, data):
    monkeypatch.setenv(board.CACHE, os.environ.get(board.CACHE, str(tmp_path)))
    runtime = find("torch_compile")(settings(tmp_path))
    with pytest.raises(ProgramError):
        runtime.load("t", data)
