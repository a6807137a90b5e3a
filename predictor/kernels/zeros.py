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
    zeros: dict[int, int | None] = {}  # the tensor that was multiplied, None for other zeros
    added: list[tuple[int, int]] = []
    kept: list[Op] = []
    for op in ops:
        ids = tuple(alias.get(tensor, tensor) for tensor in op.input_ids)
        live = [tensor for tensor in ids if tensor not in zeros]
        if op.attrs.get("zero"):
            zeros.update(dict.fromkeys(op.output_ids, live[0] if live else None))
        elif not live and ids and (mode == "fold" or _is_sum(op)):
            zeros.update(dict.fromkeys(op.output_ids))
        elif len(live) < len(ids) and _is_sum(op):
            alias[op.output_ids[0]] = live[0]
            sources = (zeros[tensor] for tensor in ids if tensor in zeros)
            added += [(source, op.output_ids[0]) for source in sources if source is not None]
        else:
            kept.append(replace(op, input_ids=ids) if ids != op.input_ids else op)
    wanted = {alias.get(tensor, tensor) for tensor in outputs}
    if mode == "absorb":
        read = {tensor for op in kept for tensor in op.input_ids} | wanted
        made = {t for op in kept if op.kind in _WITH_WEIGHTS for t in op.output_ids}
        absorbed = (made & set(zeros.values())) - read
        used = {t for op in ops if not op.attrs.get("zero") for t in op.input_ids} | set(outputs)
        for source, result in added:  # 0 y goes where only a zero is next: neither is left
            if source in absorbed and result not in used:
                absorbed -= {source, alias[result]}
        wanted |= absorbed
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
