"""ONNX Runtime's channels in blocks: which operators run on them, and what reordering it costs.

On CPUs most convolutions run on images whose channels lie in blocks of 8 or 16 (NCHWc). What
follows them stays in blocks where it can; where it cannot, the image is put in order first, and in
blocks again before the next convolution. The rules are those of ``nchwc_transformer.cc``.

Fusion depends on it: an addition joins a convolution only in blocks, a batch norm in blocks runs
as a convolution of one weight a channel, which takes an activation or an addition as well.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from predictor.graph import Graph, Op, TensorSpec
from predictor.operators import make_op

BLOCK = 8
"""Channels in a block with AVX2; 16 with AVX-512 changes grouped convolutions only."""
ALIGNMENT = 4
"""Channels of an image that is put into blocks must be a multiple of this."""
FUSED = frozenset(("relu", "relu6", "sigmoid", "tanh", "leaky_relu", "hardsigmoid", "hardswish",
                   "clamp", "clip", "clamp_min", "clamp_max", "hardtanh"))  # fmt: skip
"""Activations that join the convolution before them."""
LATE = frozenset(("relu", "sigmoid", "tanh"))
"""Activations that join after an addition, or after a batch norm in blocks."""
PASSING = frozenset(("relu", "sigmoid", "tanh", "gelu", "silu"))
"""Functions of single elements that run in blocks by themselves."""


def in_blocks(graph: Graph) -> Graph:
    """``graph`` as ONNX Runtime's CPU provider lays it out.

    Convolutions, pools and batch norms in blocks get the attribute ``channels_last`` (the channels
    of a block follow one another), reordering becomes an operator ``copy`` with the function
    ``reorder``; operators that no kernel takes in are marked ``alone``.
    """
    return _Blocks(graph).run()


@dataclass(slots=True)
class _Host:
    """The convolution, or batch norm in blocks, that may be joined, and what it has taken."""

    chain: list[Op]
    blocked: bool
    norm: bool = False
    activation: bool = False
    added: bool = False


class _Blocks:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ops: list[Op] = []
        self.blocked: set[int] = set()
        self.other: dict[tuple[int, bool], int] = {}
        """The same tensor in the other order: the numbers of tensors that were reordered."""
        self.readers = Counter(t for op in graph.ops for t in set(op.input_ids))
        self.readers.update(graph.output_ids)
        self.hosts: dict[int, _Host] = {}
        self.shuffled: set[int] = set()
        """Images whose channels were last: turning them and making blocks is one reordering."""
        self.swapped: set[int] = set()
        """Results of turning (batch, pixels, channels)."""
        self.next_id = 1 + max((t for op in graph.ops for t in (*op.input_ids, *op.output_ids)),
                               default=0)  # fmt: skip
        self.next_id = max([self.next_id, *(t + 1 for t in graph.input_ids)])

    def run(self) -> Graph:
        for op in self.graph.ops:
            handler = getattr(self, f"_{op.kind}", None)
            if handler is None or not handler(op):
                self._plain(op)
        specs = {t: s for op in self.graph.ops
                 for t, s in zip(op.output_ids, op.outputs, strict=False)}  # fmt: skip
        outputs = tuple(self._as(t, specs[t], False) if t in self.blocked else t
                        for t in self.graph.output_ids)  # fmt: skip
        return replace(self.graph, ops=tuple(self.ops), output_ids=outputs)

    def _as(self, tensor: int, spec: TensorSpec, blocked: bool) -> int:
        """``tensor`` in blocks or in order; reordered where it is not, once for all readers."""
        if (tensor in self.blocked) == blocked:
            return tensor
        known = self.other.get((tensor, blocked))
        if known is None:
            known = self.next_id
            self.next_id += 1
            self.other[tensor, blocked] = known
            free = blocked and tensor in self.shuffled
            kind = "reshape" if free else "copy"
            attrs = {} if free else {"fn": "reorder", "into_blocks": blocked}
            self.ops.append(make_op("", kind, "reorder", (spec,), (spec,), (), (tensor,), (known,),
                                    (), attrs))  # fmt: skip
            if blocked:
                self.blocked.add(known)
        return known

    def _emit(self, op: Op, blocked: bool, *, reads: bool | None = None, **attrs: object) -> Op:
        """Append ``op`` with its inputs in the right order; its results are in that order too."""
        reads = blocked if reads is None else reads
        ids = tuple(self._as(t, s, reads) for t, s in zip(op.input_ids, op.inputs, strict=False))
        ids += op.input_ids[len(op.inputs) :]
        op = replace(op, input_ids=ids, attrs={**op.attrs, **attrs} if attrs else op.attrs)
        self.ops.append(op)
        if blocked:
            self.blocked.update(op.output_ids[:1])
        return op

    def _plain(self, op: Op) -> None:
        """An operator that knows nothing of blocks."""
        mark = op.kind in ("elementwise", "activation")
        self._emit(op, False, **({"alone": True} if mark else {}))

    def _in_blocks(self, op: Op) -> bool:
        """All inputs are there in blocks, be it because another operator had them reordered."""
        known = (tensor in self.blocked or (tensor, True) in self.other for tensor in op.input_ids)
        return bool(op.input_ids) and all(known)

    def _transpose(self, op: Op) -> bool:
        """Channels last from blocks is one reordering; so is channels first into blocks."""
        shape, made = op.inputs[0].shape, op.outputs[0].shape
        if len(shape) == 3 and made == (shape[0], shape[2], shape[1]):
            self.swapped.update(op.output_ids)
        if len(shape) != 4:
            return False
        if op.input_ids[0] in self.blocked and made == (shape[0], *shape[2:], shape[1]):
            self.ops.append(op)
            return True
        if made == (shape[0], shape[3], *shape[1:3]) and self.readers[op.output_ids[0]] == 1:
            self.shuffled.update(op.output_ids)
        return False

    def _reshape(self, op: Op) -> bool:
        """(batch, pixels, channels) turned and spread out as an image."""
        shape, made = op.inputs[0].shape, op.outputs[0].shape
        turned = bool(op.input_ids) and op.input_ids[0] in self.swapped
        alone = all(self.readers[tensor] == 1 for tensor in (*op.input_ids, *op.output_ids))
        if turned and alone and len(made) == 4 and made[:2] == shape[:2]:
            self.shuffled.update(op.output_ids)
        return False

    def _conv(self, op: Op) -> bool:
        if len(op.input_ids) != 1:
            return False
        blocked = runs_in_blocks(op)
        direct = op.attrs.get("groups", 1) == 1 and op.inputs[0].shape[1] < BLOCK
        marks: dict[str, object] = {"channels_last": True} if blocked else {}
        done = self._emit(op, blocked, reads=blocked and not direct, **marks)
        self._host(op, _Host([done], blocked))
        return True

    def _host(self, op: Op, host: _Host) -> None:
        """What ``op`` makes may be worked on where only one reads it."""
        if self.readers[op.output_ids[0]] == 1:
            self.hosts[op.output_ids[0]] = host

    def _join(self, op: Op, host: _Host, source: int) -> None:
        """``op`` becomes part of the kernel of ``host``."""
        ids = tuple(t if t == source else self._as(t, s, source in self.blocked)
                    for t, s in zip(op.input_ids, op.inputs, strict=False))  # fmt: skip
        op = replace(op, input_ids=ids)
        self.ops.append(op)
        host.chain.append(op)
        if source in self.blocked:
            self.blocked.update(op.output_ids[:1])
        self._host(op, host)

    def _norm(self, op: Op) -> bool:
        if op.attrs.get("type") != "batch" or len(op.input_ids) != 1:
            return False
        source = op.input_ids[0]
        host = self.hosts.get(source)
        if host is not None and len(host.chain) == 1 and host.chain[0].kind == "conv":
            self._join(op, host, source)  # folded into the weights
            return True
        if source not in self.blocked:
            return False
        done = self._emit(op, True, channels_last=True)
        self._host(op, _Host([done], True, norm=True))
        return True

    def _activation(self, op: Op) -> bool:
        source, word = op.input_ids[0], str(op.attrs.get("fn") or "")
        host = self.hosts.get(source)
        late = host is not None and (host.added or host.norm)
        if host is not None and not host.activation and word in (LATE if late else FUSED):
            host.activation = True
            self._join(op, host, source)
            return True
        if source in self.blocked and word in PASSING and len(op.input_ids) == 1:
            self._emit(op, True, alone=True)
            return True
        return False

    def _elementwise(self, op: Op) -> bool:
        word = op.attrs.get("fn")
        if len(op.input_ids) == 1 and word in FUSED and not op.weights:
            return self._activation(op)
        same = len(op.inputs) == 2 and op.inputs[0].shape == op.inputs[1].shape
        if word not in ("add", "mul") or not same or not self._in_blocks(op):
            return False
        for tensor in op.input_ids if word == "add" else ():
            host = self.hosts.get(tensor)
            if host is None or host.activation or host.added or len(set(op.input_ids)) < 2:
                continue
            moved = {id(part) for part in host.chain}
            # The convolution runs when the other operand is there.
            self.ops = [part for part in self.ops if id(part) not in moved] + host.chain
            host.added = True
            self._join(op, host, tensor)
            return True
        self._emit(op, True, alone=True)
        return True

    def _pool(self, op: Op) -> bool:
        shape = op.inputs[0].shape
        flat = len(op.outputs[0].shape) != 4  # averages without their dimensions are reductions
        if len(shape) != 4 or shape[1] % BLOCK or len(op.input_ids) != 1 or flat:
            return False
        self._emit(op, True)
        return True

    def _resize(self, op: Op) -> bool:
        fits = op.attrs.get("mode") in ("nearest", "bilinear") and self._in_blocks(op)
        if fits:
            self._emit(op, True)
        return fits

    def _concat(self, op: Op) -> bool:
        aligned = all(len(spec.shape) == 4 and spec.shape[1] % BLOCK == 0 for spec in op.inputs)
        if op.attrs.get("axis") != 1 or not aligned or op.weights or not self._in_blocks(op):
            return False
        self._emit(op, True)
        return True


def runs_in_blocks(op: Op) -> bool:
    """Whether a convolution's channels allow it (``NchwcTransformerImpl::TransformConv``)."""
    if op.attrs.get("transposed") or len(op.inputs[0].shape) != 4 or len(op.weights[0].shape) != 4:
        return False
    made, inside = op.weights[0].shape[:2]
    groups = op.attrs.get("groups", 1)
    if groups == 1:
        return inside < BLOCK or inside % ALIGNMENT == 0
    if inside == 1 and made == groups:
        return made % ALIGNMENT == 0
    return inside % BLOCK == 0 and (made // groups) % BLOCK == 0
