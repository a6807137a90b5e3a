"""Tensors as a trace sees them: their specs, and finding them in arguments and results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from predictor.graph import TensorSpec

_DTYPES = {
    getattr(torch, name): name
    for name in ("float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 "
                 "uint64 bool complex64 complex128").split()
}  # fmt: skip
_SPECS: dict[tuple[torch.Size, torch.dtype], TensorSpec] = {}


def spec_of(tensor: torch.Tensor) -> TensorSpec:
    """Shape and dtype of a tensor; equal ones share one object."""
    key = (tensor.shape, tensor.dtype)
    spec = _SPECS.get(key)
    if spec is None:
        name = _DTYPES.get(tensor.dtype)
        if name is None:
            text = str(tensor.dtype).removeprefix("torch.")
            name = "float8" if text.startswith("float8") else text.lstrip("q")
        spec = TensorSpec(tuple(int(n) for n in tensor.shape), name)
        if len(_SPECS) > 100_000:
            _SPECS.clear()
        _SPECS[key] = spec
    return spec


def flat_tensors(args: Any, kwargs: Any) -> list[torch.Tensor]:
    """Tensors among the arguments of a call, lists of them opened."""
    found: list[torch.Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(item for item in value if isinstance(item, torch.Tensor))
    return found


def out_tensors(out: Any) -> list[torch.Tensor]:
    """Tensors that a call returned."""
    if isinstance(out, torch.Tensor):
        return [out]
    if isinstance(out, (tuple, list)):
        return [item for item in out if isinstance(item, torch.Tensor)]
    return []


def tensors_in(value: Any, seen: frozenset[int] = frozenset()) -> list[torch.Tensor]:
    """All tensors in containers, mappings and dataclasses, each object once."""
    if isinstance(value, torch.Tensor):
        return [value]
    if id(value) in seen or isinstance(value, (torch.nn.Module, type)):
        return []
    seen = seen | {id(value)}
    if isinstance(value, Mapping):
        return [t for item in value.values() for t in tensors_in(item, seen)]
    if isinstance(value, (tuple, list, set)):
        return [t for item in value for t in tensors_in(item, seen)]
    if hasattr(value, "__dict__"):
        return [t for item in vars(value).values() for t in tensors_in(item, seen)]
    return []
