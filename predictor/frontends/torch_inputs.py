"""What callers may hand to :func:`predictor.trace` as inputs, as tensors without storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from predictor.errors import ModelError, suggest
from predictor.graph import DTYPE_BYTES, TensorSpec

if TYPE_CHECKING:
    import torch

TORCH_DTYPES = {
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
    "bool", "complex64", "complex128",
}  # fmt: skip


def split_inputs(
    inputs: Any, default: torch.dtype, device: str
) -> tuple[list[Any], dict[str, Any], list[str]]:
    """Positional and keyword tensors on ``device``, and a name for each in order.

    ``inputs`` is one shape (a tuple or list of ints), a tensor, a :class:`TensorSpec`, a mapping
    ``{"shape": ..., "dtype": ...}``, or a tuple, list or dict (keyword arguments) of these; None
    in a tuple stays None. Shapes without a dtype take ``default``.
    """
    if isinstance(inputs, Mapping) and "shape" not in inputs:
        keywords = {str(k): _leaf(v, default, device, str(k)) for k, v in inputs.items()}
        return [], keywords, list(keywords)
    if _is_leaf(inputs):
        return [_leaf(inputs, default, device, "input")], {}, ["input"]
    if not isinstance(inputs, (tuple, list)):
        raise ModelError(
            f"inputs: {type(inputs).__name__} is neither a shape, a tensor, nor a tuple or dict "
            "of these; write for example inputs=(1, 3, 224, 224)"
        )
    args = [_leaf(item, default, device, f"inputs[{i}]") for i, item in enumerate(inputs)]
    return args, {}, [f"input_{i}" for i in range(len(args))]


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) > 0
        and all(isinstance(n, int) and not isinstance(n, bool) for n in value)
    )


def _is_leaf(value: Any) -> bool:
    if isinstance(value, TensorSpec) or _is_shape(value) or hasattr(value, "is_meta"):
        return True
    return isinstance(value, Mapping) and "shape" in value


def _leaf(value: Any, default: torch.dtype, device: str, label: str) -> Any:
    import torch

    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device=device)
    dtype = default
    if isinstance(value, TensorSpec):
        shape, dtype = value.shape, _dtype(value.dtype, label)
    elif isinstance(value, Mapping) and "shape" not in value:
        return {k: _leaf(item, default, device, f"{label}.{k}") for k, item in value.items()}
    elif isinstance(value, Mapping):
        shape = value["shape"]
        if value.get("dtype"):
            dtype = _dtype(str(value["dtype"]), label)
    elif _is_shape(value):
        shape = value
    elif isinstance(value, (tuple, list)):  # a list of tensors as one argument (detectors)
        return [_leaf(item, default, device, f"{label}[{i}]") for i, item in enumerate(value)]
    else:
        raise ModelError(f"{label}: {value!r} is neither a shape nor a tensor")
    if not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ModelError(f"{label}: a shape is made of whole numbers from 0, got {list(shape)}")
    return torch.empty(tuple(shape), dtype=dtype, device=device)


def _dtype(name: str, label: str) -> torch.dtype:
    import torch

    if name not in TORCH_DTYPES:
        raise ModelError(f"{label}: unknown dtype '{name}'.{suggest(name, DTYPE_BYTES)}")
    return getattr(torch, name)  # type: ignore[no-any-return]
