"""Recurrent networks: LSTM, GRU, RNN, layers and directions together as one operator.

A step of a layer and direction takes gates x hidden x (input + hidden) MACs (LSTM 4 gates, GRU 3,
RNN 1), and with a projection of size p also hidden x p, the state being p wide.
"""

from __future__ import annotations

from collections.abc import Callable

from predictor.graph import Op
from predictor.operators.base import AtenCall, Cost, Draft, Family, Gemm, Kind, OnnxNode

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
STEP_FLOPS = {"lstm": 9, "gru": 7, "rnn": 1}
"""Element-wise operations a hidden unit and step: gate activations, products and sums."""


def rnn_cost(op: Draft) -> Cost:
    """``inputs[0]`` is (steps, batch, features) or batch-first; attrs say mode, hidden, layers."""
    a = op.attrs
    width = op.inputs[0].shape[-1]
    rows = op.inputs[0].numel // max(1, width)
    directions = 2 if a.get("bidirectional") else 1
    hidden, projection = a["hidden"], a.get("projection", 0)
    state = projection or hidden
    gates = GATES[a["mode"]]
    macs = flops = 0
    for layer in range(a.get("layers", 1)):
        features = width if layer == 0 else state * directions
        step = gates * hidden * (features + state) + hidden * projection
        macs += directions * rows * step
        biases = 2 * gates * hidden if a.get("bias", True) else 0
        flops += directions * rows * (STEP_FLOPS[a["mode"]] * hidden + biases)
    return Cost(macs, flops, parallelism=rows // max(1, a.get("steps", 1)) * hidden * directions)


def _onnx_rnn(node: OnnxNode) -> tuple[str, dict[str, object]]:
    x = node.inputs[0]
    return "rnn", {
        "mode": node.op_type.lower(),
        "hidden": int(node.attributes.get("hidden_size", 1)),
        "layers": 1,
        "bidirectional": node.attributes.get("direction") == "bidirectional",
        "bias": len(node.inputs) > 3 and node.inputs[3] is not None,
        "projection": 0,
        "steps": x.shape[1 if node.attributes.get("layout") else 0] if x else 1,
    }


def _aten_rnn(mode: str) -> Callable[[AtenCall], tuple[str, dict[str, object]]]:
    """(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)."""

    def rule(call: AtenCall) -> tuple[str, dict[str, object]]:
        x, params = call.args[0], call.args[2]
        state = call.args[1][0] if isinstance(call.args[1], (list, tuple)) else call.args[1]
        hidden, width = int(params[0].shape[0]) // GATES[mode], int(state.shape[-1])
        batch_first = bool(call.get(8, "batch_first", False)) and len(x.shape) == 3
        return "rnn", {
            "mode": mode, "hidden": hidden, "layers": int(call.args[4]),
            "bidirectional": bool(call.args[7]), "bias": bool(call.args[3]),
            "projection": width if width != hidden else 0,
            "steps": int(x.shape[1 if batch_first else 0]),
        }  # fmt: skip

    return rule


def rnn_gemm(op: Op) -> Gemm:
    """One step of one layer and direction: batch x (features + state) @ gates x hidden."""
    a, x = op.attrs, op.inputs[0]
    state = a.get("projection", 0) or a["hidden"]
    rows = max(1, x.numel // max(1, x.shape[-1]) // max(1, a.get("steps", 1)))
    return Gemm(1, rows, GATES[a["mode"]] * a["hidden"], x.shape[-1] + state)


FAMILY = Family(
    kinds=(Kind("rnn", rnn_cost, "matrix", rnn_gemm),),
    aten={
        "aten.lstm.input": _aten_rnn("lstm"),
        "aten.gru.input": _aten_rnn("gru"),
        "aten.rnn_tanh.input": _aten_rnn("rnn"),
        "aten.rnn_relu.input": _aten_rnn("rnn"),
    },
    onnx={"LSTM": _onnx_rnn, "GRU": _onnx_rnn, "RNN": _onnx_rnn},
)
