"""A forward pass as a tape: each operator with its arguments, so that torch alone can play it.

A tape is plain JSON. It holds shapes instead of weights; small whole-number constants (indices)
keep their values, as they decide what is read. Each call says which operator of the graph it is,
so that its time on a board is that operator's time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from predictor.errors import ModelError
from predictor.graph import Weight

FORMAT = 1
KEPT_VALUES = 1 << 16
"""Whole-number constants of at most this many elements keep their values; others become zeros."""
KEPT_FLOATS = 64
"""Constants that are floats keep theirs up to this many elements (scales, limits)."""


class Tape:
    """Takes down calls while a recorder runs; ``weights`` are known by tensor identity."""

    def __init__(self, weights: Mapping[int, Weight]) -> None:
        self._weights = weights
        self._ids: dict[int, int] = {}
        self._keep: list[Any] = []
        self._stores: list[dict[str, Any]] = []
        self._inputs: list[dict[str, Any]] = []
        self._calls: list[list[Any]] = []
        self._made: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def feed(self, tensor: torch.Tensor) -> None:
        """Note an input of the network."""
        self._inputs.append({"id": self._new(tensor), **_described(tensor)})

    def call(self, func: Any, args: Any, kwargs: Any, out: Any, op: int) -> None:
        """Note a call; ``op`` is the position of its operator in the graph, -1 for none."""
        outs = _tensors(out)
        if not outs:
            return  # a question (.item()) whose answer is in the trace already
        taken = [self._encoded(value) for value in args]
        named = {name: self._encoded(value) for name, value in (kwargs or {}).items()}
        # Results come last: what is written in place was taken before.
        slots = [self._ids.get(id(t)) or self._new(t) for t in outs]
        self._calls.append([op, _target(func), taken, named, slots, []])
        self._made.update(zip(slots, map(_described, outs), strict=True))

    def to_dict(self, outputs: Sequence[torch.Tensor] = ()) -> dict[str, Any]:
        """The tape as plain JSON values; tensors are let go after their last use."""
        kept = {store["id"] for store in (*self._stores, *self._inputs)}
        kept |= {self._ids[id(t)] for t in outputs if id(t) in self._ids}
        last: dict[int, int] = {}
        for index, entry in enumerate(self._calls):
            for slot in (*_slots(entry[2]), *_slots(list(entry[3].values())), *entry[4]):
                last[slot] = index
        calls = [[*entry[:5], []] for entry in self._calls]
        for slot, index in last.items():
            if slot not in kept:
                calls[index][5].append(slot)
        return {"format": FORMAT, "inputs": self._inputs, "stores": self._stores, "calls": calls,
                "made": {str(slot): spec for slot, spec in self._made.items()}}  # fmt: skip

    def _new(self, tensor: torch.Tensor) -> int:
        self._keep.append(tensor)
        self._ids[id(tensor)] = len(self._keep)
        return len(self._keep)

    def _store(self, tensor: torch.Tensor) -> int:
        weight = self._weights.get(id(tensor))
        number = self._new(tensor)
        entry = {"id": number, **_described(tensor), "role": weight.role if weight else "constant",
                 "name": weight.name if weight else ""}  # fmt: skip
        values = _values(tensor, weight is None)
        if values is not None:
            entry["values"] = values
        self._stores.append(entry)
        return number

    def _encoded(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return {"t": self._ids.get(id(value)) or self._store(value)}
        if isinstance(value, (list, tuple)):
            return [self._encoded(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"device": True}
        if isinstance(value, (torch.memory_format, torch.layout)):
            return {"layout": str(value).removeprefix("torch.")}
        raise ModelError(f"a call takes {type(value).__name__}, which a tape cannot hold")


def single(tape: Mapping[str, Any], index: int) -> dict[str, Any] | None:
    """A tape of one call alone, on inputs of its own; None where they are not contiguous.

    A view's strides decide what a call does, and an input made for it would not have them.
    """
    op, target, args, kwargs, outs, _ = tape["calls"][index]
    stores = {item["id"]: item for item in tape["stores"]}
    fed = {item["id"]: item for item in tape["inputs"]}
    inputs, kept = [], []
    for slot in dict.fromkeys((*_slots(args), *_slots(list(kwargs.values())))):
        if slot in stores:
            kept.append(stores[slot])
            continue
        spec = fed.get(slot) or {"id": slot, **tape["made"][str(slot)]}
        if "strides" in spec:
            return None
        inputs.append(spec)
    if not inputs:
        return None
    return {"format": FORMAT, "inputs": inputs, "stores": kept,
            "calls": [[0 if op >= 0 else -1, target, args, kwargs, outs, outs]]}  # fmt: skip


def _target(func: Any) -> str:
    packet = func._schema.name.replace("::", ".")
    return f"{packet}.{func._overloadname}"


def _described(tensor: torch.Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {
        "shape": [int(n) for n in tensor.shape],
        "dtype": str(tensor.dtype).removeprefix("torch."),
    }
    if not tensor.is_contiguous():
        found["strides"] = [int(n) for n in tensor.stride()]
    return found


def _values(tensor: torch.Tensor, constant: bool) -> Any:
    if tensor.is_meta or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return None
    floats = tensor.is_floating_point()
    limit = KEPT_FLOATS if floats and constant else 0 if floats else KEPT_VALUES
    if tensor.numel() > limit or tensor.is_complex():
        return None
    values = tensor.detach().reshape(-1).tolist()
    return None if floats and not all(map(math.isfinite, values)) else values


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


def _slots(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [value["t"]] if "t" in value else []
    if isinstance(value, list):
        return [slot for item in value for slot in _slots(item)]
    return []
