import json
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="eager needs torch")

from predictor.frontends.torch_module import trace_taped  # noqa: E402
from predictor.profiling.runtimes import RuntimeUnavailable  # noqa: E402
from predictor.profiling.runtimes.eager import Eager, TapeProgram  # noqa: E402
from tests.profiling.runtime_suite import RuntimeSuite  # noqa: E402


def small():
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()  # fmt: skip


def taped(module, shape):
    body = trace_taped(module, shape)[1]
    body.pop("made")
    return json.dumps(body).encode()


class TestEager(RuntimeSuite):
    name = "eager"

    def program(self):
        return "programs/small.json", taped(small(), (1, 3, 64, 64))


SETTINGS = {"precision": "fp32", "threads": 1, "device": "cpu", "folder": "."}


def test_a_missing_gpu_is_said():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeUnavailable, match="CUDA"):
        Eager(dict(SETTINGS, device="cuda"))


def test_random_weights_keep_activations_in_range():
    """Vanishing activations become denormals, which a processor takes many times as long for."""
    from torch import nn

    layers = []
    for _ in range(40):
        layers += [nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.ReLU()]
    program = Eager(SETTINGS).load("x", taped(nn.Sequential(*layers), (1, 3 + 29, 16, 16)))
    assert isinstance(program, TapeProgram)
    outputs = []
    original = program._start
    program._start = lambda: outputs.append(original()) or outputs[-1]
    program.run()
    last = program.calls[-1].outs[0]
    found = outputs[0][last]
    assert found is not None
    assert torch.isfinite(found).all()
    assert 1e-6 < float(found.abs().mean()) < 1e6


def test_what_no_call_needs_any_more_is_let_go():
    body = json.loads(taped(small(), (1, 3, 64, 64)))
    program = Eager(SETTINGS).load("x", json.dumps(body).encode())
    seen = []
    original = program._start
    program._start = lambda: seen.append(original()) or seen[-1]
    program.run()
    kept = {item["id"] for item in (*body["stores"], *body["inputs"])}
    alive = [slot for slot, tensor in enumerate(seen[0]) if tensor is not None and slot not in kept]
    assert alive == [body["calls"][-1][4][0]]


@pytest.mark.parametrize("name", ["eager", "torch_compile"])
def test_where_no_network_can_be_built_its_tape_runs(name, monkeypatch):
    from predictor.profiling.runtimes import RuntimeUnavailable, eager, find

    made = []
    runtime = find(name)
    monkeypatch.setattr(eager, "modules_here", lambda: False)
    monkeypatch.setattr(runtime, "of_tape", lambda *args: made.append("tape"))
    monkeypatch.setattr(runtime, "of_module", lambda *args: made.append("module"))
    try:
        loaded = runtime(dict(SETTINGS, modules=True))
    except RuntimeUnavailable as error:
        pytest.skip(str(error))
    loaded.load("x", b'{"model": {"name": "timm:resnet18"}}')
    assert made == ["tape"]
    monkeypatch.setattr(eager, "modules_here", lambda: True)
    loaded.load("x", b'{"model": {"name": "timm:resnet18"}}')
    assert made == ["tape", "module"]


def test_a_run_leaves_nothing_but_its_results(tmp_path):
    from predictor.profiling.plan import Draft
    from predictor.profiling.programs import Program

    module, shape = small(), (1, 3, 8, 8)
    graph, _ = trace_taped(module, shape)
    network = Program("small", "small", "zoo", taped(module, shape), ".json", graph)
    draft = Draft("box", "eager", "fp32", 1)
    draft.add(network, "network")
    draft.write(tmp_path / "plan.zip", network)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "predictor.profiling", tmp_path / "plan.zip", tmp_path / "rows"],
        env={**os.environ, "TMPDIR": str(scratch)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rows").stat().st_size > 0
    assert list(scratch.iterdir()) == []
