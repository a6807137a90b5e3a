"""Result shapes of operators whose own rules in torch are slow, being Python, or too strict.

A convolution or a batch norm asked on the meta device costs milliseconds there; here microseconds.
Each function takes the call's arguments and the module path for its error message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def _convolution(args: Sequence[Any], path: str) -> torch.Tensor:
    """(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)."""
    x, weight, _, stride, padding, dilation, transposed, extra, groups = args[:9]
    kernel = weight.shape[2:]
    unbatched = x.dim() == len(kernel) + 1
    lead = () if unbatched else (x.shape[0],)
    channels = x.shape[len(lead)]
    expected = weight.shape[0] if transposed else weight.shape[1] * groups
    if x.dim() > len(kernel) + 2 or channels != expected:
        raise RuntimeError(
            f"convolution at '{path}' expects {expected} input channels, got shape {list(x.shape)}"
        )
    size = []
    for i, (n, k) in enumerate(zip(x.shape[len(lead) + 1 :], kernel, strict=True)):
        s, p, d = (v[i] if len(v) > 1 else v[0] for v in (stride, padding, dilation))
        span = d * (k - 1)
        if transposed:
            size.append((n - 1) * s - 2 * p + span + (extra[i] if extra else 0) + 1)
        else:
            size.append((n + 2 * p - span - 1) // s + 1)
    if min(size) < 1:
        raise RuntimeError(
            f"convolution at '{path}': kernel {list(kernel)} is larger than its "
            f"input {list(x.shape)}"
        )
    out = weight.shape[1] * groups if transposed else weight.shape[0]
    return torch.empty((*lead, out, *size), dtype=x.dtype, device="meta")


def _grouped_product(args: Sequence[Any], path: str) -> torch.Tensor:
    """Rows (t, k) times a stack of experts (e, k, n); torch insists on bf16 here."""
    rows, experts = args[:2]
    shape = (rows.shape[0], experts.shape[2]) if rows.dim() == 2 else (
        *rows.shape[:-1], experts.shape[-1])  # fmt: skip
    return torch.empty(shape, dtype=rows.dtype, device="meta")


def _like(x: torch.Tensor) -> torch.Tensor:
    if x.is_contiguous():
        return torch.empty(x.shape, dtype=x.dtype, device="meta")
    return torch.empty_like(x, device="meta")


def _batch_norm(args: Sequence[Any], path: str) -> tuple[torch.Tensor, ...]:
    """(input, weight, bias, running_mean, running_var, ...); the statistics are not written."""
    x = args[0]
    channels = x.shape[1] if x.dim() > 1 else 0
    for held in args[1:5]:
        if held is not None and held.numel() != channels:
            raise RuntimeError(
                f"batch norm at '{path}' is for {held.numel()} channels, got shape {list(x.shape)}"
            )
    none = torch.empty((0,), dtype=x.dtype, device="meta")
    return _like(x), none, none


def _layer_norm(args: Sequence[Any], path: str) -> tuple[torch.Tensor, ...]:
    """(input, normalized_shape, weight, bias, eps)."""
    x, shape = args[:2]
    if tuple(x.shape[-len(shape) :]) != tuple(shape):
        raise RuntimeError(
            f"layer norm at '{path}' is for shapes that end in {list(shape)}, got {list(x.shape)}"
        )
    lead = (*x.shape[: -len(shape)], *(1 for _ in shape))
    statistics = torch.empty(lead, dtype=x.dtype, device="meta")
    # Two tensors: each of the two results is told apart by its identity.
    return _like(x), statistics, _like(statistics)


SHAPES: dict[str, Callable[[Sequence[Any], str], Any]] = {
    "aten.convolution.default": _convolution,
    "aten._grouped_mm.default": _grouped_product,
    "aten.native_batch_norm.default": _batch_norm,
    "aten.native_layer_norm.default": _layer_norm,
}


def _joined(args: Sequence[Any]) -> torch.Tensor | None:
    """The result of joining tensors of one type and rank; None: ask torch."""
    tensors = args[0]
    first = tensors[0]
    rank = first.dim()
    axis = args[1] if len(args) > 1 else 0
    if not -rank <= axis < rank:
        return None
    axis %= rank
    total = 0
    for tensor in tensors:
        same = tensor.dtype == first.dtype and tensor.dim() == rank and tensor.is_contiguous()
        if not same or any(
            m != n
            for i, (m, n) in enumerate(zip(tensor.shape, first.shape, strict=True))
            if i != axis
        ):
            return None
        total += tensor.shape[axis]
    size = (*first.shape[:axis], total, *first.shape[axis + 1 :])
    return torch.empty(size, dtype=first.dtype, device="meta")


_ARITHMETIC = (
    "add.Tensor sub.Tensor mul.Tensor div.Tensor add.Scalar sub.Scalar mul.Scalar div.Scalar "
    "maximum minimum pow.Tensor_Scalar relu sigmoid silu gelu tanh exp sqrt rsqrt neg abs erf "
    "hardswish hardsigmoid leaky_relu elu hardtanh clamp clamp_min clamp_max mish softplus square"
).split()
_ELEMENTWISE = frozenset(
    f"aten.{name}{mark}.{overload or 'default'}"
    for name, _, overload in (word.partition(".") for word in _ARITHMETIC)
    for mark in ("", "_")
)
_OPTIONS = frozenset({"alpha", "approximate", "min", "max"})
"""Keywords that change neither shape nor type of a result."""


def quick_result(
    target: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> torch.Tensor | None:
    """The result of joining, or of arithmetic on float tensors of one type; None: ask torch."""
    if target == "aten.cat.default" and not kwargs:
        return _joined(args)
    if target not in _ELEMENTWISE or not _OPTIONS.issuperset(kwargs):
        return None
    first = args[0]
    if not isinstance(first, torch.Tensor) or not first.dtype.is_floating_point:
        return None
    size: tuple[int, ...] = first.shape
    shaped = first
    for value in args[1:]:
        if isinstance(value, torch.Tensor):
            if value.dtype != first.dtype:
                return None
            if value.shape != size:
                wide = _broadcast(size, value.shape)
                if wide is None:
                    return None
                size = wide
            if value.shape == size and shaped.shape != size:
                shaped = value
        elif isinstance(value, complex):
            return None
    if target.partition(".")[2].partition(".")[0].endswith("_") and size != first.shape:
        return None
    if shaped.shape == size:
        return _like(shaped)
    return torch.empty(size, dtype=first.dtype, device="meta")


def _broadcast(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    if len(a) < len(b):
        a, b = b, a
    lead = len(a) - len(b)
    sizes = list(a[:lead])
    for m, n in zip(a[lead:], b, strict=True):
        if m != n and m != 1 and n != 1:
            return None
        sizes.append(n if m == 1 else m)
    return tuple(sizes)
