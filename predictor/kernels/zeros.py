"""Multiplications by zero, as converters treat them.

Cells of search spaces switch an edge off by multiplying it by zero. Eager mode executes that;
converters see that the result is zero, and drop what only it needed. Two kinds are known from
published times of NAS-Bench-201 cells:

``fold``: whatever is computed from zeros alone is a constant, and gone (LiteRT).
``absorb``: x + 0 is x, but operators on zeros run; and a convolution whose only readers are
multiplications by zero takes the factor into its weights before anybody asks whether it is needed,
so it runs too (TFLite by way of TensorFlow's graph optimiser).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from predictor.graph import Op

MODES = ("run", "fold", "absorb")
_WITH_WEIGHTS = ("conv", "norm")


def without_zeros(ops: Sequence[Op], outputs: Sequence[int], mode: str) -> list[Op]:
    """The operators that still run; ``mode`` is one of :data:`MODES`."""
    if mode == "run" or not any(op.attrs.get("zero") for op in ops):
        return list(ops)
    alias: dict[int, int] = {}
    zeros: set[int] = set()
    silenced: set[int] = set()
    kept: list[Op] = []
    for op in ops:
        ids = tuple(alias.get(tensor, tensor) for tensor in op.input_ids)
        if op.attrs.get("zero"):
            silenced.update(set(ids) - zeros)
            zeros.update(op.output_ids)
            continue
        live = [tensor for tensor in ids if tensor not in zeros]
        if not live and ids and (mode == "fold" or _is_sum(op)):
            zeros.update(op.output_ids)
        elif len(live) == 1 and len(ids) > 1 and _is_sum(op):
            alias[op.output_ids[0]] = live[0]
        else:
            kept.append(replace(op, input_ids=ids) if ids != op.input_ids else op)
    wanted = {alias.get(tensor, tensor) for tensor in outputs}
    if mode == "absorb":
        read = {tensor for op in kept for tensor in op.input_ids} | wanted
        wanted |= {t for op in kept if op.kind in _WITH_WEIGHTS for t in op.output_ids
                   if t in silenced and t not in read}  # fmt: skip
    return _needed(kept, wanted)


def _is_sum(op: Op) -> bool:
    return op.kind == "elementwise" and op.attrs.get("fn") == "add"


def _needed(ops: Sequence[Op], wanted: set[int]) -> list[Op]:
    found = []
    for op in reversed(ops):
        if op.attrs.get("inplace") or any(tensor in wanted for tensor in op.output_ids):
            wanted.update(op.input_ids)
            found.append(op)
    return found[::-1]
