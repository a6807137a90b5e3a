"""What ONNX Runtime's optimiser leaves of a graph: operators that cost nothing there are gone.

The rules are those of its graph transformers at level "all" (``onnxruntime/core/optimizer``), as
the optimised models of the CPU provider show them: copies and broadcasts that change nothing,
equal operators (common subexpressions), arithmetic with constants after a convolution (ConvMul,
ConvAdd), scales and transpositions beside matrix products (MatMulScale, MatmulTranspose), padding
before a convolution (Pad), and indices into one tensor (GatherSliceToSplit).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from predictor.graph import Graph, Op
from predictor.operators import make_op

_COPIES = ("clone", "contiguous", "copy", "_to_copy", "detach", "alias")


def optimised(graph: Graph) -> Graph:
    """``graph`` without the operators that ONNX Runtime does not run."""
    ops = _without(graph.ops, [op for op in graph.ops if _is_same(op)], graph.output_ids)
    ops = _split(_shared(ops))
    for drop in (_Beside.into_convolution, _Beside.into_product):
        beside = _Beside(ops, graph.output_ids)
        ops = _without(ops, [op for op in ops if drop(beside, op)], graph.output_ids)
    return replace(graph, ops=tuple(ops))


def _without(ops: Sequence[Op], dropped: Sequence[Op], results: Sequence[int]) -> list[Op]:
    """``ops`` without ``dropped``: who read their result reads their input."""
    gone = {id(op) for op in dropped}
    alias: dict[int, int] = {}
    kept = []
    for op in ops:
        ids = tuple(alias.get(tensor, tensor) for tensor in op.input_ids)
        if id(op) not in gone:
            kept.append(replace(op, input_ids=ids) if ids != op.input_ids else op)
        elif op.output_ids[0] in results:  # a view, so that the result keeps its number
            kept.append(make_op(op.name, "reshape", op.target, op.inputs[:1], op.outputs[:1], (),
                                ids[:1], op.output_ids[:1]))  # fmt: skip
        else:
            alias[op.output_ids[0]] = ids[0]
    return kept


def _is_same(op: Op) -> bool:
    """A copy or broadcast whose result is its input."""
    if len(op.input_ids) != 1 or not op.inputs or len(op.outputs) != 1:
        return False
    source, made = op.inputs[0], op.outputs[0]
    if op.kind == "expand" or op.attrs.get("fn") == "repeat":
        return source.numel == made.numel
    if op.kind != "copy" or source.dtype != made.dtype:
        return False
    if op.attrs.get("fn") in _COPIES:
        return source.numel == made.numel
    return False


def _shared(ops: Sequence[Op]) -> list[Op]:
    """Operators that compute what another has computed read its result instead."""
    alias: dict[int, int] = {}
    seen: dict[Hashable, Op] = {}
    kept = []
    for op in ops:
        ids = tuple(alias.get(tensor, tensor) for tensor in op.input_ids)
        if ids != op.input_ids:
            op = replace(op, input_ids=ids)
        target = op.target[:-1] if op.target.endswith("_") else op.target.replace("_.", ".")
        attrs = tuple(sorted((k, repr(v)) for k, v in op.attrs.items() if k != "inplace"))
        shapes = tuple(spec.shape for spec in op.outputs)
        key = (op.kind, target, ids, op.weight_ids, attrs, shapes, op.inputs)
        known = seen.get(key) if _is_told(op) else None
        if known is None:
            seen[key] = op
            kept.append(op)
        else:
            alias.update(zip(op.output_ids, known.output_ids, strict=True))
    return kept


def _is_told(op: Op) -> bool:
    """Whether an operator's attributes and inputs say all that it computes.

    Constants of an arithmetic operator and the index of a slice are not in a graph.
    """
    if op.weights or not op.input_ids or op.attrs.get("zero"):
        return False
    return op.kind in ("activation", "pool", "softmax") or (
        op.kind in ("elementwise", "concat") and len(op.input_ids) > 1
    )


def _split(ops: Sequence[Op]) -> list[Op]:
    """Slices that take one tensor apart are one operator with several results."""
    groups: dict[Hashable, list[Op]] = defaultdict(list)
    for op in ops:
        if op.kind == "slice" and len(op.input_ids) == 1 and "axis" in op.attrs:
            groups[op.input_ids[0], op.attrs["axis"]].append(op)
    whole = {}
    for parts in groups.values():
        taken = sum(spec.numel for op in parts for spec in op.outputs)
        if len(parts) > 1 and taken == parts[0].inputs[0].numel:
            first = parts[0]
            specs = tuple(spec for op in parts for spec in op.outputs)
            ids = tuple(tensor for op in parts for tensor in op.output_ids)
            merged = make_op(first.name, "slice", first.target, first.inputs, specs, (),
                             first.input_ids, ids, (), dict(first.attrs))  # fmt: skip
            whole.update({id(op): merged if op is first else None for op in parts})
    found = [whole.get(id(op), op) for op in ops]
    return [op for op in found if op is not None]


class _Beside:
    """Who makes and who reads a tensor, views looked through."""

    def __init__(self, ops: Sequence[Op], outputs: Sequence[int]) -> None:
        self.alias: dict[int, int] = {}
        self.maker: dict[int, Op] = {}
        self.readers: dict[int, list[Op]] = defaultdict(list)
        self.results = outputs
        for op in ops:
            if op.kind == "reshape" and op.input_ids:
                for tensor in op.output_ids:
                    self.alias[tensor] = self.root(op.input_ids[0])
                continue
            for tensor in {self.root(t) for t in op.input_ids}:
                self.readers[tensor].append(op)
            for tensor in op.output_ids:
                self.maker[tensor] = op
        self.kept = {self.root(tensor) for tensor in outputs}

    def root(self, tensor: int) -> int:
        """The tensor that a chain of views stands for."""
        while tensor in self.alias:
            tensor = self.alias[tensor]
        return tensor

    def before(self, op: Op) -> Op | None:
        """What makes the only input of ``op``, where nothing else reads that."""
        if len(op.input_ids) != 1:
            return None
        tensor = self.root(op.input_ids[0])
        alone = len(self.readers[tensor]) == 1 and tensor not in self.kept
        return self.maker.get(tensor) if alone else None

    def after(self, op: Op) -> Op | None:
        """The only reader of what ``op`` makes."""
        tensor = self.root(op.output_ids[0]) if op.output_ids else -1
        readers = self.readers[tensor]
        return readers[0] if len(readers) == 1 and tensor not in self.kept else None

    def into_convolution(self, op: Op) -> bool:
        """Padding that a convolution does itself; a constant that its weights take in."""
        if op.attrs.get("fn") == "constant_pad_nd":
            reader = self.after(op)
            return reader is not None and reader.kind == "conv" and len(op.input_ids) == 1
        if op.kind != "elementwise" or op.attrs.get("fn") not in ("add", "mul", "div", "sub"):
            return False
        if len(op.inputs) != 1 or len(op.weights) > 1 or op.attrs.get("zero"):
            return False
        maker = self.before(op)
        channels = op.outputs[0].shape[1] if len(op.outputs[0].shape) == 4 else 0
        constant = op.weights[0].numel if op.weights else 1
        if maker is None:
            return False
        normed = maker.attrs.get("type") == "batch"
        absent = channels and not op.weights and op.attrs["fn"] == "add"  # a branch: plus 0
        if absent and (normed or maker.attrs.get("fn") == "add"):
            return True
        if normed:
            maker = self.before(maker)
        return maker is not None and maker.kind == "conv" and constant in (1, channels)

    def into_product(self, op: Op) -> bool:
        """A scale, or a transposition of the last two dimensions, beside a matrix product."""
        reader = self.after(op)
        if op.kind == "transpose":
            shape, made = op.inputs[0].shape, op.outputs[0].shape
            swap = shape[:-2] == made[:-2] and shape[-2:] == made[:-3:-1]
            return swap and reader is not None and reader.kind == "matmul"
        scalar = len(op.inputs) == 1 and all(spec.numel == 1 for spec in op.weights)
        if op.kind != "elementwise" or op.attrs.get("fn") not in ("mul", "div") or not scalar:
            return False
        if op.attrs.get("zero"):
            return False
        maker = self.before(op)
        return any(other is not None and other.kind == "matmul" for other in (reader, maker))
