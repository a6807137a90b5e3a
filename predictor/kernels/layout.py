"""Where tensors lie in memory when a framework runs operator by operator, and what that costs.

Views only change strides, so a tensor can be read in an order that the next operator cannot take:
layer norm, softmax and products then copy it first, and convolutions compute in the order (channels
first or last) that their input has. Strides are followed as PyTorch's eager mode follows them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from predictor.graph import Graph, Op, TensorSpec
from predictor.operators import make_op

Strides = tuple[int, ...]
LAST = (4, 1, 3, 2)
"""Strides in the order of (N, C, H, W) with channels last, as ranks."""

DENSE = frozenset(("softmax", "scan", "gather", "scatter", "sort", "rnn"))
"""Kinds that copy an input which is not contiguous, and hand out a contiguous tensor."""
KEEPS = frozenset(("elementwise", "activation", "pool", "resize", "conv", "deform_conv"))
"""Kinds whose result lies in memory as their (largest) input does."""


def lay_out(graph: Graph, *, images_channels_last: bool = False, on_cpu: bool = False) -> Graph:
    """``graph`` with the copies that strides force, without those that they make needless.

    Convolutions whose input has its channels last get the attribute ``channels_last``, others the
    attribute ``order``: ``last``. Where operands do not follow one another in memory, ``run`` says
    how many elements do until one of them steps. Copies that strides force are marked ``forced``.
    ``images_channels_last`` says that images come in that order; ``on_cpu`` that PyTorch's routines
    for processors run, whose group norm keeps the order of channels.
    """
    layout = _Layout(graph, on_cpu)
    if images_channels_last:
        for tensor, spec in zip(graph.input_ids, graph.input_specs, strict=False):
            if len(spec.shape) == 4:
                layout.strides[tensor] = ordered_like(spec.shape, LAST)
    return layout.run()


def contiguous(shape: Sequence[int]) -> Strides:
    """Strides of a tensor that lies in memory as its shape says."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def is_contiguous(shape: Sequence[int], strides: Strides) -> bool:
    """Sizes of 1 may have any stride."""
    usual = contiguous(shape)
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, usual, strict=True))


def viewed(shape: Sequence[int], strides: Strides, new: Sequence[int]) -> Strides | None:
    """Strides of a view of another shape, None where only a copy can have it.

    The rule of ``at::detail::computeStride``: each run of dimensions that follow one another in
    memory may be split anew.
    """
    if math.prod(shape) != math.prod(new) or not shape:
        return None
    result = [0] * len(new)
    at, base = len(new) - 1, strides[-1]
    run = new_run = 1
    for i in range(len(shape) - 1, -1, -1):
        run *= shape[i]
        last = i == 0
        if not last and (shape[i - 1] == 1 or strides[i - 1] == run * base):
            continue
        while at >= 0 and (new_run < run or new[at] == 1):
            result[at] = new_run * base
            new_run *= new[at]
            at -= 1
        if new_run != run:
            return None
        if not last:
            base, run, new_run = strides[i - 1], 1, 1
    return tuple(result) if at < 0 else None


def ordered_like(shape: Sequence[int], strides: Strides) -> Strides:
    """Dense strides for ``shape`` in the order of ``strides`` (largest first)."""
    order = sorted(range(len(shape)), key=lambda i: (-strides[i], i))
    result, step = [0] * len(shape), 1
    for i in reversed(order):
        result[i] = step
        step *= max(shape[i], 1)
    return tuple(result)


def channels_last(shape: Sequence[int], strides: Strides) -> bool:
    """An image batch (N, C, H, W) whose channels follow one another in memory."""
    return len(shape) == 4 and strides[1] == 1 and strides[3] == shape[1] and min(shape[1:]) > 1


def channels_near(shape: Sequence[int], strides: Strides) -> bool:
    """The same with room between positions (a part of wider channels), which PyTorch takes for
    channels last as well, and makes dense first."""
    if len(shape) != 4 or min(shape[1:]) <= 1 or strides[1] != 1:
        return False
    return shape[1] <= strides[3] and strides[3] * shape[3] <= strides[2]


class _Layout:
    def __init__(self, graph: Graph, on_cpu: bool) -> None:
        self.graph, self.on_cpu = graph, on_cpu
        self.strides: dict[int, Strides] = {}
        self.ops: list[Op] = []
        self.next_id = 1 + max(
            (t for op in graph.ops for t in (*op.input_ids, *op.output_ids)),
            default=max(graph.input_ids, default=0),
        )

    def run(self) -> Graph:
        for op in self.graph.ops:
            if op.is_view:
                self._view(op)
            elif op.kind == "copy" and op.attrs.get("fn") in ("clone", "contiguous"):
                self._clone(op)
            else:
                self._compute(op)
        return replace(self.graph, ops=tuple(self.ops))

    def _of(self, tensor: int, spec: TensorSpec) -> Strides:
        known = self.strides.get(tensor)
        return known if known and len(known) == len(spec.shape) else contiguous(spec.shape)

    def _view(self, op: Op) -> None:
        self.ops.append(op)
        if not op.inputs or not op.input_ids:
            return
        source, strides = op.inputs[0].shape, self._of(op.input_ids[0], op.inputs[0])
        for tensor, spec in zip(op.output_ids, op.outputs, strict=False):
            found = _view_strides(op, source, strides, spec.shape)
            if found is not None:
                self.strides[tensor] = found

    def _clone(self, op: Op) -> None:
        """A copy into the usual order; where the input has it already, eager mode makes none."""
        made = op.outputs[0].shape
        strides = self._of(op.input_ids[0], op.inputs[0]) if op.input_ids else contiguous(made)
        if is_contiguous(op.inputs[0].shape, strides):
            op = make_op(op.name, "reshape", op.target, op.inputs, op.outputs, op.weights,
                         op.input_ids, op.output_ids, op.weight_ids)  # fmt: skip
        else:
            run = common_run(op.inputs[0].shape, [strides], strides, ordered=False)
            op = replace(op, attrs={**op.attrs, "run": run})
        self.ops.append(op)

    def _compute(self, op: Op) -> None:
        specs = op.inputs[: len(op.input_ids)]
        strides = [self._of(t, s) for t, s in zip(op.input_ids, specs, strict=True)]
        ids = list(op.input_ids)
        for i, (spec, own) in enumerate(zip(specs, strides, strict=True)):
            if _needs_copy(op, spec.shape, own) and not (self.on_cpu and _cpu_keeps(op, own)):
                ids[i] = self._copy(op, spec, ids[i], own)
        attrs = {**op.attrs, **_order_of(op, [spec.shape for spec in specs], strides)}
        self._place_results(op, [s.shape for s in specs], strides)
        if len(attrs) == len(op.attrs) and ids == list(op.input_ids):
            self.ops.append(op)
        else:
            self.ops.append(replace(op, attrs=attrs, input_ids=tuple(ids)))

    def _copy(self, op: Op, spec: TensorSpec, tensor: int, strides: Strides) -> int:
        made = self.next_id
        self.next_id += 1
        run = common_run(spec.shape, [strides], strides, ordered=False)
        attrs = {"fn": "contiguous", "forced": True, "run": run}
        self.ops.append(make_op(op.name, "copy", op.target, (spec,), (spec,), (), (tensor,),
                                (made,), (), attrs))  # fmt: skip
        return made

    def _place_results(self, op: Op, shapes: list[tuple[int, ...]], strides: list[Strides]) -> None:
        for tensor, spec in zip(op.output_ids, op.outputs, strict=False):
            if self.on_cpu and strides and _cpu_keeps(op, strides[0]):
                found: Strides | None = ordered_like(spec.shape, strides[0])
            else:
                found = _result_strides(op, shapes, strides, spec.shape)
            if found is not None:
                self.strides[tensor] = found


def _order_of(
    op: Op, shapes: list[tuple[int, ...]], strides: list[Strides]
) -> dict[str, str | int | bool]:
    """What an operator's routine meets in memory, as attributes; nothing where it is plain."""
    if not shapes:
        return {}
    last = channels_last(shapes[0], strides[0])
    if op.kind == "conv":
        return {"channels_last": True} if channels_near(shapes[0], strides[0]) else {}
    found: dict[str, str | int | bool] = (
        {"order": "last"} if last and op.kind in KEEPS_ORDER else {}
    )
    if op.kind in ("elementwise", "activation") and op.outputs:
        out = op.outputs[0].shape
        full = [own for shape, own in zip(shapes, strides, strict=True) if shape == out]
        run = common_run(out, full, full[0], ordered=True) if full else 0
        if full and run < math.prod(out):
            found["run"] = run
    return found


def _cpu_keeps(op: Op, strides: Strides) -> bool:
    """A group norm over channels that are last, on a processor."""
    if op.kind != "norm" or op.attrs.get("type") != "group" or not op.outputs:
        return False
    return channels_last(op.outputs[0].shape, strides)


KEEPS_ORDER = frozenset(("pool", "resize", "norm", "reduce", "concat"))
"""Kinds whose routines differ by the order of channels."""


def common_run(
    shape: Sequence[int], operands: Sequence[Strides], first: Strides, *, ordered: bool
) -> int:
    """Elements that follow one another in all operands, walking as ``shape`` is walked.

    ``ordered`` walks in the order of ``first``'s strides, as element-wise loops do; else in the
    order of the dimensions, as a copy into a contiguous tensor does.
    """
    dims = [i for i in range(len(shape)) if shape[i] != 1]
    dims.sort(key=lambda i: (first[i], -i) if ordered else (0, -i))
    run = 1
    for i in dims:
        if any(own[i] != run for own in operands):
            break
        run *= shape[i]
    return run


def _needs_copy(op: Op, shape: tuple[int, ...], strides: Strides) -> bool:
    if is_contiguous(shape, strides) or not shape:
        return False
    if op.kind in DENSE or (op.kind == "norm" and op.attrs.get("type") != "batch"):
        return True
    if op.kind == "linear":
        rows = math.prod(shape[:-1])
        return viewed(shape, strides, (rows, shape[-1])) is None
    if op.kind in ("matmul", "attention"):
        last = strides[-2:] if op.kind == "matmul" else strides[-1:]
        return 1 not in last and min(shape[-2:], default=1) > 1
    return False


def _result_strides(
    op: Op, shapes: list[tuple[int, ...]], strides: list[Strides], out: tuple[int, ...]
) -> Strides | None:
    if op.kind == "attention" and len(out) == 4:  # fused kernels write (N, S, H, D)
        n, h, s, d = out
        return (h * s * d, d, h * d, 1) if n and h else None
    keeps = op.kind in KEEPS or (op.kind == "norm" and op.attrs.get("type") == "batch")
    if keeps or op.kind == "copy":
        same = [st for sh, st in zip(shapes, strides, strict=True) if sh == out]
        if same:
            return ordered_like(out, same[0])
        if len(out) == 4 and shapes and channels_last(shapes[0], strides[0]):
            return ordered_like(out, LAST)
    if op.kind == "concat" and shapes and all(map(channels_last, shapes, strides)):
        return ordered_like(out, LAST)
    return None


def _view_strides(
    op: Op, source: tuple[int, ...], strides: Strides, out: tuple[int, ...]
) -> Strides | None:
    if op.kind == "reshape":
        return viewed(source, strides, out)
    if op.kind == "transpose":
        order = _order(op, source, out)
        return tuple(strides[i] for i in order) if order else None
    if op.kind == "slice":
        if len(out) == len(source):
            return strides
        removed = _removed(op, source, out)
        return None if removed is None else strides[:removed] + strides[removed + 1 :]
    if op.kind == "expand" and len(out) >= len(source):
        lead = len(out) - len(source)
        own = zip(source, strides, out[lead:], strict=True)
        return (0,) * lead + tuple(0 if n == 1 < m else st for n, st, m in own)
    return None


def _order(op: Op, source: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, ...] | None:
    order = op.attrs.get("order")
    if order is not None:
        order = tuple(i % len(source) for i in order)
        return order if sorted(order) == list(range(len(source))) else None
    rank = len(source)
    for i in range(rank - 2, -1, -1):  # a swap of two dimensions: the last that fits
        for j in range(rank - 1, i, -1):
            swap = list(range(rank))
            swap[i], swap[j] = j, i
            if tuple(source[d] for d in swap) == out:
                return tuple(swap)
    return None


def _removed(op: Op, source: tuple[int, ...], out: tuple[int, ...]) -> int | None:
    """The dimension that selecting one index took away."""
    axis = op.attrs.get("axis")
    candidates = [i for i in range(len(source)) if source[:i] + source[i + 1 :] == out]
    return axis if axis in candidates else (candidates[0] if candidates else None)
