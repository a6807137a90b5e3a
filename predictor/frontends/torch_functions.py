"""Calls that torch would break up, recorded as one operator: linear, attention, RNNs, RMS norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from predictor.operators import AtenCall

if TYPE_CHECKING:
    from predictor.frontends.torch_recorder import Recorder


class Functions(TorchFunctionMode):
    """Takes calls that torch would break up, before it does."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record linear, attention and RNN calls whole; let everything else through."""
        handler = _HANDLERS.get(func)
        if handler is None or self._recorder.busy:
            return func(*args, **(kwargs or {}))
        recorder, kwargs = self._recorder, kwargs or {}
        tape, whole = recorder.tape, _WHOLE.get(func)
        if tape is None or whole is None:
            return handler(recorder, func, args, kwargs)
        before, taken = recorder.count, len(tape)
        out = handler(recorder, func, args, kwargs)
        if len(tape) == taken and recorder.count > before:  # it was not broken up after all
            tape.call(whole(), args, kwargs, out, before)
        return out


def _linear(recorder: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    call = AtenCall(args, kwargs)
    x, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
    if weight.dim() != 2 or not x.dim() or x.shape[-1] != weight.shape[1] or x.is_sparse:
        return func(*args, **kwargs)
    out = recorder.empty((*x.shape[:-1], weight.shape[0]), x)
    tensors = [x, weight] if bias is None else [x, weight, bias]
    attrs = {"k": int(x.shape[-1]), "bias": bias is not None}
    recorder.record("linear", "aten.linear.default", tensors, [out], attrs)
    return out


def _attention(recorder: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    call = AtenCall(args, kwargs)
    q, k, v = call.get(0, "query"), call.get(1, "key"), call.get(2, "value")
    mask = call.get(3, "attn_mask")
    if q.dim() < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        return func(*args, **kwargs)  # let torch say what is wrong
    lead = q.shape[:-2]
    if lead != k.shape[:-2] and not call.get(7, "enable_gqa", False):
        lead = torch.broadcast_shapes(  # type: ignore[no-untyped-call]
            q.shape[:-2], k.shape[:-2], v.shape[:-2]
        )
    out = recorder.empty((*lead, q.shape[-2], v.shape[-1]), q)
    tensors = [q, k, v] if mask is None else [q, k, v, mask]
    attrs = {"causal": bool(call.get(5, "is_causal", False))}
    target = "aten.scaled_dot_product_attention.default"
    recorder.record("attention", target, tensors, [out], attrs)
    return out


def _rms_norm(recorder: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    call = AtenCall(args, kwargs)
    x, shape, weight = call.get(0, "input"), call.get(1, "normalized_shape"), call.get(2, "weight")
    if tuple(x.shape[-len(shape) :]) != tuple(shape):
        return func(*args, **kwargs)  # let torch say what is wrong
    out = recorder.empty(x.shape, x)
    tensors = [x] if weight is None else [x, weight]
    recorder.record("norm", "aten.rms_norm.default", tensors, [out], {"type": "rms"})
    return out


def _multi_head(recorder: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
    # The function is Python: it asks the mode first, and then runs with the mode off, so its
    # own linear and attention calls would be broken up. Answer its question with no.
    module = torch.nn.functional
    asked = vars(module)["has_torch_function"]
    vars(module)["has_torch_function"] = lambda _: False
    try:
        with recorder.functions:
            return func(*args, **kwargs)
    finally:
        vars(module)["has_torch_function"] = asked


def _rnn(mode: str) -> Callable[[Recorder, Any, Any, Any], Any]:
    def handler(recorder: Recorder, func: Any, args: Any, kwargs: Any) -> Any:
        if len(args) < 9 or not isinstance(args[6], bool) or kwargs:
            return func(*args, **kwargs)  # packed sequences: batch sizes are data
        x, state, weights, bias, layers, _, _, both, batch_first = args[:9]
        states = state if isinstance(state, (tuple, list)) else (state,)
        directions = 2 if both else 1
        gates = {"lstm": 4, "gru": 3, "rnn": 1}[mode]
        hidden = weights[0].shape[0] // gates
        projection = int(states[0].shape[-1]) if states[0].shape[-1] != hidden else 0
        steps = x.shape[1 if batch_first and x.dim() == 3 else 0]
        out = recorder.empty((*x.shape[:-1], (projection or hidden) * directions), x)
        last = [recorder.empty(s.shape, x) for s in states]
        attrs = {
            "mode": mode,
            "hidden": int(hidden),
            "layers": int(layers),
            "steps": int(steps),
            "bidirectional": bool(both),
            "bias": bool(bias),
            "projection": projection,
        }
        recorder.record("rnn", f"aten.{mode}.input", [x, *weights], [out, *last], attrs)
        return (out, *last)

    return handler


_F = torch._C._VariableFunctions
_WHOLE: dict[Any, Callable[[], Any]] = {
    torch.nn.functional.linear: lambda: torch.ops.aten.linear.default,
    torch.nn.functional.scaled_dot_product_attention: (
        lambda: torch.ops.aten.scaled_dot_product_attention.default
    ),
    torch.nn.functional.rms_norm: lambda: torch.ops.aten.rms_norm.default,
    _F.lstm: lambda: torch.ops.aten.lstm.input, _F.gru: lambda: torch.ops.aten.gru.input,
    _F.rnn_tanh: lambda: torch.ops.aten.rnn_tanh.input,
    _F.rnn_relu: lambda: torch.ops.aten.rnn_relu.input,
}  # fmt: skip
"""The operator that plays such a call again."""
_HANDLERS: dict[Any, Callable[[Recorder, Any, Any, Any], Any]] = {
    torch.nn.functional.linear: _linear,
    torch.nn.functional.scaled_dot_product_attention: _attention,
    torch.nn.functional.multi_head_attention_forward: _multi_head,
    torch.nn.functional.rms_norm: _rms_norm,
    _F.lstm: _rnn("lstm"), _F.gru: _rnn("gru"),
    _F.rnn_tanh: _rnn("rnn"), _F.rnn_relu: _rnn("rnn"),
}  # fmt: skip
