"""From operators to kernels, by the rules of a runtime.

Operators are taken in execution order. Each starts a kernel or joins the kernel that made its
input, where the rules let it, nobody else reads that tensor, and all its other inputs exist by
then. Bytes of tensors that stay inside a kernel are not counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from predictor.graph import Graph, Kernel, Op, TensorSpec, Weight
from predictor.kernels.rules import FusionRules, load_rules, words
from predictor.kernels.zeros import without_zeros
from predictor.operators import cast, make_op

_ELEMENTWISE = ("elementwise", "activation", "copy")


def cast_graph(graph: Graph, dtype: str) -> Graph:
    """The graph with floats stored as ``dtype``: bytes change, arithmetic does not."""
    specs = chain((s for op in graph.ops for s in op.outputs), (w.spec for w in graph.weights))
    if all(s.dtype == dtype or not s.is_float for s in specs):
        return graph
    return replace(
        graph,
        ops=tuple(cast(graph.ops, dtype)),
        weights=tuple(
            [Weight(w.name, w.spec.cast(dtype), w.role, w.trainable) for w in graph.weights]
        ),
        input_specs=tuple(spec.cast(dtype) for spec in graph.input_specs),
    )


def fuse(graph: Graph, rules: FusionRules | str) -> list[Kernel]:
    """The kernels that a runtime launches for ``graph``, in execution order.

    ``rules`` is a :class:`FusionRules` or the name of a runtime.
    """
    rules = load_rules(rules) if isinstance(rules, str) else rules
    ops = list(graph.ops)
    if rules.fold_constants:
        ops = _without_constants(ops, graph.input_ids)
    if rules.drop_dead:
        ops = _without_dead(ops, graph.output_ids)
    if rules.zeros != "run":
        ops = without_zeros(ops, graph.output_ids, rules.zeros)
    if rules.attention == "split":
        ops = [part for op in ops for part in _split_attention(op)]
    elif rules.attention == "named":
        # PyTorch's fused kernels take (batch, heads, length, width); any other rank runs unfused.
        ops = [part for op in ops
               for part in (_split_attention(op) if _rank(op) != 4 else [op])]  # fmt: skip
    kernels = _Fusion(ops, graph, rules).kernels()
    return _with_copies_inside(kernels) if rules.copies == "inside" else kernels


class _Group:
    """A kernel under construction."""

    __slots__ = ("anchor", "counts", "index", "inside", "ops")

    def __init__(self, index: int, op: Op) -> None:
        self.index, self.ops, self.anchor = index, [op], op
        self.inside: set[int] = set()
        self.counts: dict[str, int] = {}


class _Fusion:
    def __init__(self, ops: Sequence[Op], graph: Graph, rules: FusionRules) -> None:
        self.rules = rules
        self.alias: dict[int, int] = {}
        self.groups: list[_Group] = []
        self.last = -1
        self._patterns: dict[int, _Group] = {}
        self.maker: dict[int, _Group] = {}
        self.ops = ops
        self.free = {k for k, mode in rules.views.items() if mode == "free"} | set(rules.drop)
        self.readers: dict[int, int] = defaultdict(int)
        for op in ops:
            if op.kind in self.free and op.input_ids:
                for tensor in op.output_ids:
                    self.alias[tensor] = self.root(op.input_ids[0])
        for op in ops:
            if op.kind not in self.free:
                for root in self.roots(op):
                    self.readers[root] += 1
        for tensor in graph.output_ids:
            self.readers[self.root(tensor)] += 1

    def root(self, tensor: int) -> int:
        """The tensor that a chain of free views stands for."""
        while tensor in self.alias:
            tensor = self.alias[tensor]
        return tensor

    def roots(self, op: Op) -> Collection[int]:
        """The tensors that an operator reads, each once."""
        if len(op.input_ids) == 1:
            return (self.root(op.input_ids[0]),)
        return {self.root(tensor) for tensor in op.input_ids}

    def kernels(self) -> list[Kernel]:
        """Group all operators, then work out the bytes that cross each border."""
        members = _attention_patterns(self.ops, self) if self.rules.attention == "fused" else {}
        for op in self.ops:
            if op.kind in self.free and op.input_ids:
                continue
            if op.kind == "concat" and self.rules.concat != "kernel":
                self._concat(op)
                continue
            self._place(op, members)
        self.groups.sort(key=lambda group: group.index)
        for group in self.groups:
            if len(group.ops) > 1:
                group.inside = self._inside(group.ops)
        return [_kernel(group, self.root) for group in self.groups]

    def _inside(self, ops: Sequence[Op]) -> set[int]:
        """Tensors that only these operators read, and one of them made."""
        reads: dict[int, int] = defaultdict(int)
        for op in ops:
            for root in self.roots(op):
                reads[root] += 1
        made = {tensor for op in ops for tensor in op.output_ids}
        readers = self.readers
        return {t for t in made if readers.get(t) and reads.get(t, 0) == readers[t]}

    def _place(self, op: Op, members: Mapping[int, int]) -> None:
        pattern = members.get(id(op))
        group = self._patterns.get(pattern) if pattern is not None else self._host(op)
        if group is None:
            group = self._new_group(op)
        else:
            group.ops.append(op)
            word = words(op)[1]
            group.counts[word] = group.counts.get(word, 0) + 1
            makers = (self.maker.get(self.root(t)) for t in op.input_ids)
            if any(other is not None and other.index > group.index for other in makers):
                # A pattern that needs a later tensor (values made after the scores) runs after
                # it; nobody else reads what it has made so far.
                self.last = group.index = self.last + 1
        if pattern is not None:
            self._patterns[pattern] = group
        for tensor in op.output_ids:
            self.maker[tensor] = group

    def _new_group(self, op: Op) -> _Group:
        self.last += 1
        group = _Group(self.last, op)
        self.groups.append(group)
        return group

    def _host(self, op: Op) -> _Group | None:
        """The kernel that ``op`` may join: the latest of those that made its inputs."""
        if not op.input_ids or not self.rules.follow or op.attrs.get("alone"):
            return None
        makers = [self.maker.get(self.root(tensor)) for tensor in op.input_ids]
        latest: _Group | None = None
        for group in makers:
            if group is not None and (latest is None or group.index > latest.index):
                latest = group
        if latest is None:
            return None
        allowed = self.rules.follow.get(latest.anchor.kind)
        both = words(op)
        if allowed is None or not (both[0] in allowed or both[1] in allowed):
            return None
        limit = self.rules.limits.get(both[1])
        if limit is not None and latest.counts.get(both[1], 0) >= limit:
            return None
        link = next(self.root(t) for t, g in zip(op.input_ids, makers, strict=True) if g is latest)
        if self.readers[link] > 1 and not self.rules.multi_use:
            return None
        return latest

    def _concat(self, op: Op) -> None:
        """Producers write straight into the result; inputs with other readers need a copy."""
        seen: set[int] = set()
        latest = -1
        for tensor, spec in zip(op.input_ids, op.inputs, strict=False):
            root = self.root(tensor)
            lone = self.readers[root] == 1 and root in self.maker and root not in seen
            seen.add(root)
            if not lone and self.rules.concat == "shared":
                copy = make_op(op.name, "copy", op.target, (spec,), (spec,), (),
                               (tensor,), (), (), {"fn": "concat"})  # fmt: skip
                latest = self._new_group(copy).index
            elif root in self.maker:
                latest = max(latest, self.maker[root].index)
        for tensor in op.output_ids:  # whoever wrote last completes it; nothing can join it
            self.maker[tensor] = _Group(latest, _NOTHING)


_NOTHING = Op("", "none", "", (), ())


def _kernel(group: _Group, root: Callable[[int], int]) -> Kernel:
    ops = group.ops
    weights = sum(spec.nbytes for op in ops for spec in op.weights)
    if len(ops) == 1:
        op = ops[0]
        if op.kind == "gather":  # reads rows, not the table
            weights = min(weights, op.read_bytes)
        read, write = op.read_bytes, op.write_bytes
        if op.is_view:  # a view that this runtime copies
            read = write = sum(spec.nbytes for spec in op.outputs)
        return Kernel(op.name or op.kind, (op,), 0, read, write, min(weights, read))
    read = sum(op.read_bytes for op in ops)
    write = sum(op.write_bytes for op in ops)
    made = {tensor: spec for op in ops for tensor, spec in zip(op.output_ids, op.outputs,
                                                               strict=True)}  # fmt: skip
    counted: set[int] = set()
    for op in ops:
        for tensor, spec in zip(op.input_ids, op.inputs, strict=True):
            if root(tensor) in made or tensor in counted:
                read -= spec.nbytes  # already on chip
            counted.add(tensor)
    write -= sum(spec.nbytes for tensor, spec in made.items() if tensor in group.inside)
    anchor = next(i for i, op in enumerate(ops) if op is group.anchor)
    name = ops[anchor].name or ops[anchor].kind
    return Kernel(name, tuple(ops), anchor, max(read, 0), max(write, 0), min(weights, max(read, 0)))


def _with_copies_inside(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Forced copies join the kernel that reads them; they still move their bytes."""
    waiting: dict[int, Kernel] = {}
    found: list[Kernel] = []
    for kernel in kernels:
        if len(kernel.ops) == 1 and kernel.ops[0].attrs.get("forced"):
            waiting[kernel.ops[0].output_ids[0]] = kernel
            continue
        wanted = {tensor for op in kernel.ops for tensor in op.input_ids}
        own = [waiting.pop(tensor) for tensor in sorted(wanted & set(waiting))]
        if own:
            ops = tuple(op for copy in own for op in copy.ops)
            kernel = replace(
                kernel, ops=(*ops, *kernel.ops), anchor=kernel.anchor + len(ops),
                read_bytes=kernel.read_bytes + sum(copy.read_bytes for copy in own),
                write_bytes=kernel.write_bytes + sum(copy.write_bytes for copy in own),
            )  # fmt: skip
        found.append(kernel)
    return [*found, *waiting.values()]


def _without_constants(ops: Iterable[Op], inputs: Sequence[int]) -> list[Op]:
    live = set(inputs)
    kept = []
    for op in ops:
        if any(tensor in live for tensor in op.input_ids):
            live.update(op.output_ids)
            kept.append(op)
    return kept


def _without_dead(ops: Sequence[Op], outputs: Sequence[int]) -> list[Op]:
    if not outputs:
        return list(ops)
    wanted = set(outputs)
    kept = []
    for op in reversed(ops):
        if op.attrs.get("inplace") or any(tensor in wanted for tensor in op.output_ids):
            wanted.update(op.input_ids)
            kept.append(op)
    return kept[::-1]


def _rank(op: Op) -> int:
    return len(op.inputs[0].shape) if op.inputs else 0


def _split_attention(op: Op) -> list[Op]:
    """Scores, softmax and weighted sum as three operators, for runtimes without a fused kernel."""
    if op.kind != "attention":
        return [op]
    q, k, v = op.inputs[:3]
    scores = TensorSpec((*q.shape[:-1], k.shape[-2]), q.dtype)
    base = -4 * op.output_ids[0] - 4  # ids of tensors that no graph has
    ids = op.input_ids
    first = make_op(op.name, "matmul", op.target, (q, k), (scores,), (), ids[:2], (base,), (),
                    {"k": q.shape[-1]})  # fmt: skip
    soft = make_op(op.name, "softmax", op.target, (scores, *op.inputs[3:]), (scores,), (),
                   (base, *ids[3:]), (base + 1,))  # fmt: skip
    last = make_op(op.name, "matmul", op.target, (scores, v), op.outputs, (),
                   (base + 1, ids[2] if len(ids) > 2 else base), op.output_ids, (),
                   {"k": k.shape[-2]})  # fmt: skip
    return [first, soft, last]


def _attention_patterns(ops: Sequence[Op], fusion: _Fusion) -> dict[int, int]:
    """Operators of each ``matmul, scale, mask, softmax, matmul`` chain, by identity."""
    if not any(op.kind == "softmax" for op in ops):
        return {}
    made = {tensor: op for op in ops for tensor in op.output_ids}
    readers: dict[int, list[Op]] = {}
    for op in ops:
        if op.kind not in fusion.free:
            for tensor in {fusion.root(t) for t in op.input_ids}:
                readers.setdefault(tensor, []).append(op)
    members: dict[int, int] = {}
    for number, soft in enumerate(op for op in ops if op.kind == "softmax"):
        if not soft.input_ids:
            continue
        before = _walk_back(soft, made, readers, fusion)
        after = _walk_on(soft, readers, fusion)
        if before and after:
            members.update((id(op), number) for op in (*before, soft, *after))
    return members


def _walk_back(
    soft: Op, made: Mapping[int, Op], readers: Mapping[int, list[Op]], fusion: _Fusion
) -> list[Op]:
    chain: list[Op] = []
    tensor = fusion.root(soft.input_ids[0])
    while tensor in made and len(readers.get(tensor, ())) == 1 and len(chain) < 8:
        op = made[tensor]
        chain.append(op)
        if op.kind == "matmul":
            return chain
        if op.kind not in _ELEMENTWISE or not op.input_ids:
            return []
        tensor = fusion.root(op.input_ids[0])
    return []


def _walk_on(soft: Op, readers: Mapping[int, list[Op]], fusion: _Fusion) -> list[Op]:
    chain: list[Op] = []
    op = soft
    while len(chain) < 6 and op.output_ids:
        after = readers.get(fusion.root(op.output_ids[0]), [])
        if len(after) != 1:
            return []
        op = after[0]
        chain.append(op)
        if op.kind == "matmul":
            return chain
        if op.kind not in _ELEMENTWISE:
            return []
    return []
