"""A tape plays the same forward: same operators, same shapes, same numbers."""

import json

import pytest

torch = pytest.importorskip("torch", reason="tapes are of torch")

from torch import nn  # noqa: E402

from predictor import trace  # noqa: E402
from predictor.frontends.torch_module import trace_taped  # noqa: E402
from predictor.frontends.torch_tape import single  # noqa: E402
from predictor.profiling.runtimes.eager import Eager  # noqa: E402

SETTINGS = {"precision": "fp32", "threads": 1, "device": "cpu", "folder": "."}


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(32), nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 4, 8).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).reshape(b, n, c))


class Odd(nn.Module):
    """In-place writes, constants, indices, a masked fill with infinity, several outputs."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 8)
        self.register_buffer("index", torch.arange(6).reshape(2, 3) % 5)

    def forward(self, x):
        y = x.clone()
        y[:, 0] = 1.0
        y.add_(torch.ones(8) * 2).relu_()
        mask = torch.zeros(8, 8, dtype=torch.bool)
        z = (y @ y.transpose(-1, -2)).masked_fill(~mask[: y.shape[1], : y.shape[1]], float("-inf"))
        first, second = y.chunk(2, dim=-1)
        return z, self.table(self.index), first * second


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 16, num_layers=2, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


CASES = {
    "conv": (nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Hardswish(),
                           nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 49, 5)), (2, 3, 30, 30)),
    "attention": (Attention(), (2, 7, 32)),
    "odd": (Odd(), (2, 8, 8)),
    "recurrent": (Recurrent(), (2, 5, 8)),
}  # fmt: skip


def played(tape, module, x, names):
    """What the tape computes with the module's own weights."""
    program = Eager(SETTINGS).load("x", json.dumps(tape).encode())
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for store in tape["stores"]:
        if store["name"]:
            program.stores[store["id"]] = state[store["name"]].detach()
    program.stores[tape["inputs"][0]["id"]] = x.clone()
    env = []
    start = program._start
    program._start = lambda: env.append(start()) or env[-1]
    program.run()
    return [env[0][slot] for slot in names]


@pytest.mark.parametrize("case", CASES)
def test_the_tape_computes_what_the_module_computes(case):
    module, shape = CASES[case]
    module.eval()
    graph, tape = trace_taped(module, shape)
    assert graph.to_dict() == trace(module, shape).to_dict()
    x = torch.rand(*shape) - 0.5
    with torch.no_grad():
        expected = module(x)
    expected = list(expected) if isinstance(expected, tuple) else [expected]
    dropped = {slot for call in tape["calls"] for slot in call[5]}
    last = [slot for call in tape["calls"] for slot in call[4] if slot not in dropped]
    found = played(tape, module, x, last)
    for one in expected:
        assert any(other is not None and other.shape == one.shape
                   and torch.allclose(other, one, atol=1e-5, equal_nan=True)
                   for other in found)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_operator_of_the_graph_has_its_call(case):
    module, shape = CASES[case]
    graph, tape = trace_taped(module.eval(), shape)
    called = {call[0] for call in tape["calls"] if call[0] >= 0}
    silent = [op.target for i, op in enumerate(graph.ops) if i not in called and not op.is_view]
    assert silent == []
    for position, target, *_ in tape["calls"]:
        if position >= 0:
            assert graph.ops[position].target == target


def test_one_call_alone_takes_inputs_of_its_own():
    module, shape = CASES["conv"]
    graph, tape = trace_taped(module.eval(), shape)
    at = next(i for i, call in enumerate(tape["calls"]) if "pool" in call[1])
    alone = single(tape, at)
    assert [item["shape"] for item in alone["inputs"]] == [list(
        graph.ops[tape["calls"][at][0]].inputs[0].shape)]  # fmt: skip
    program = Eager(SETTINGS).load("x", json.dumps(alone).encode())
    program.run()


def test_a_call_on_a_strided_view_cannot_stand_alone():
    _, tape = trace_taped(CASES["attention"][0].eval(), (2, 7, 32))
    at = next(i for i, call in enumerate(tape["calls"]) if "attention" in call[1])
    assert single(tape, at) is None
