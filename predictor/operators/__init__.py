"""Operator families: one file each, found by themselves, one registry.

:func:`make_op` is the only way operators come into being, so no operator is without a cost:
what has no formula is marked ``known=False`` and named by the graph.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from predictor.errors import ConfigError
from predictor.graph import DTYPE_BYTES, Op, TensorSpec
from predictor.operators.base import (
    AtenCall,
    AtenRule,
    Cost,
    Draft,
    Family,
    Gemm,
    Kind,
    OnnxNode,
    OnnxRule,
    total_bytes,
)

__all__ = [
    "KINDS", "AtenCall", "Cost", "Draft", "Family", "Gemm", "Kind", "OnnxNode", "aten_rules",
    "cast", "gemm_of", "make_op", "onnx_rules", "register_custom", "unit_of",
]  # fmt: skip

KINDS: dict[str, Kind] = {}
aten_rules: dict[str, AtenRule] = {}
onnx_rules: dict[str, OnnxRule] = {}


def _load_families() -> None:
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        family = getattr(module, "FAMILY", None)
        if family is not None:
            add_family(family)


def add_family(family: Family) -> None:
    """Register a family; a kind or name that exists already is an error."""
    for kind in family.kinds:
        if kind.name in KINDS:
            raise ConfigError(f"operator kind '{kind.name}' is defined twice")
        KINDS[kind.name] = kind
    for table, added in ((aten_rules, family.aten), (onnx_rules, family.onnx)):
        twice = table.keys() & added.keys()
        if twice:
            raise ConfigError(f"operator {sorted(twice)[0]} is mapped twice")
        table.update(added)  # type: ignore[arg-type]


def register_custom(
    name: str,
    *,
    macs: Callable[[Draft], int] | None = None,
    elementwise_flops: Callable[[Draft], int] | None = None,
    read_bytes: Callable[[Draft], int] | None = None,
    write_bytes: Callable[[Draft], int] | None = None,
) -> None:
    """Give a layer or operator of your own a formula, in one call.

    Args:
        name: a module class name (``MyAttention``; the module then counts as one operator), a
            torch operator (``mylib::fused_op``) or an ONNX op_type (``FusedOp``).
        macs, elementwise_flops, read_bytes, write_bytes: functions of a :class:`Draft` (input,
            output and weight shapes, attributes). Bytes default to every tensor once.
    """

    def cost(op: Draft) -> Cost:
        return Cost(
            macs(op) if macs else 0,
            elementwise_flops(op) if elementwise_flops else 0,
            read_bytes(op) if read_bytes else None,
            write_bytes(op) if write_bytes else None,
        )

    kind = f"custom:{name}"
    KINDS[kind] = Kind(kind, cost, "matrix" if macs else "memory")
    aten_rules[name.replace("::", ".")] = (kind, {})
    onnx_rules[name] = (kind, {})


def make_op(
    name: str,
    kind: str,
    target: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    weights: tuple[TensorSpec, ...] = (),
    input_ids: tuple[int, ...] = (),
    output_ids: tuple[int, ...] = (),
    weight_ids: tuple[int, ...] = (),
    attrs: Mapping[str, Any] | None = None,
    params: int = 0,
) -> Op:
    """An operator with its costs. ``params`` counts the elements of parameters in ``weights``."""
    attrs = attrs or {}
    definition = KINDS.get(kind)
    known = definition is not None
    cost = definition.cost(Draft(inputs, outputs, weights, attrs)) if definition else Cost()
    macs, elementwise_flops, read_bytes, write_bytes, parallelism = cost
    if read_bytes is None:
        read_bytes = total_bytes(inputs) + total_bytes(weights)
    if write_bytes is None:
        write_bytes = total_bytes(outputs)
    if parallelism is None:
        parallelism = outputs[0].numel if outputs else 0
    return Op(
        name, kind, target, inputs, outputs, weights, input_ids, output_ids, weight_ids, attrs,
        macs, elementwise_flops, params, read_bytes, write_bytes, parallelism, known,
    )  # fmt: skip


def cast(ops: Sequence[Op], dtype: str) -> list[Op]:
    """The same operators with floats stored as ``dtype``: bytes change, arithmetic does not."""
    if dtype not in DTYPE_BYTES:
        raise ConfigError(f"unknown element type '{dtype}'")
    known: dict[int, TensorSpec] = {}
    # By identity, while ``ops`` holds them: neighbours share their tensors' specs.

    def stored(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple([known.get(id(spec)) or known.setdefault(id(spec), spec.cast(dtype))
                      for spec in specs])  # fmt: skip

    return [make_op(op.name, op.kind, op.target, stored(op.inputs), stored(op.outputs),
                    stored(op.weights), op.input_ids, op.output_ids, op.weight_ids, op.attrs,
                    op.params) for op in ops]  # fmt: skip


def unit_of(kind: str) -> str:
    """``matrix``, ``memory`` or ``view``; operators without a formula count as ``memory``."""
    definition = KINDS.get(kind)
    return definition.unit if definition else "memory"


def gemm_of(op: Op) -> Gemm | None:
    """The matrix product that ``op`` amounts to, or None."""
    definition = KINDS.get(op.kind)
    return definition.gemm(op) if definition and definition.gemm and op.macs else None


_load_families()
