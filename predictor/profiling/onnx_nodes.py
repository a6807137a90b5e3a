"""Which of our kernels the nodes of an ONNX Runtime profile are.

The profile names operators, shapes and an order, not a topology. Nodes and kernels are matched by
what they do and by the shapes of what they read and write, from the strictest description to the
loosest; equal ones are interchangeable and taken in order. A node that is part of a fused kernel
(an addition that was not fused after all) belongs to that kernel. What is left over belongs to no
operator of the model: reordering channels into blocks and back, copies, views. Such a node counts
towards the kernel that reads what it makes, so that its time is not lost.

Convolutions on channels in blocks show channels rounded up to a multiple of 8 or 16.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from predictor.graph import Kernel, Op

Shape = tuple[int, ...]

BLOCKS = (1, 8, 16)
"""Channels in blocks of so many: not at all, AVX2 and Arm, AVX-512."""
_FUNCTIONS = {
    "Relu": "relu", "Gelu": "gelu", "FastGelu": "gelu", "BiasGelu": "gelu", "QuickGelu": "silu",
    "Sigmoid": "sigmoid", "HardSigmoid": "hardsigmoid", "HardSwish": "hardswish",
    "LeakyRelu": "leaky_relu", "Tanh": "tanh", "Clip": "clip", "Elu": "elu", "Mish": "mish",
    "PRelu": "prelu", "Softplus": "softplus", "Swish": "silu", "Erf": "erf",
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Sqrt": "sqrt",
    "Exp": "exp", "Log": "log", "Neg": "neg", "Abs": "abs", "Reciprocal": "reciprocal",
    "Max": "maximum", "Min": "minimum", "Where": "where", "Cos": "cos", "Sin": "sin",
}  # fmt: skip
_KINDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvTranspose", "NhwcFusedConv"), ("conv",)),
    **dict.fromkeys(("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulNBits"),
                    ("linear", "matmul")),
    **dict.fromkeys(("LayerNormalization", "SkipLayerNormalization", "BatchNormalization",
                     "InstanceNormalization", "GroupNormalization", "GroupNorm", "LRN",
                     "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization",
                     "RMSNormalization", "LpNormalization"), ("norm",)),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"),
                    ("pool",)),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1",
                     "ReduceProd", "ReduceSumSquare", "ArgMax"), ("reduce", "pool")),
    **dict.fromkeys(("Softmax", "LogSoftmax"), ("softmax",)),
    **dict.fromkeys(_FUNCTIONS, ("activation", "elementwise")),
    **dict.fromkeys(("Attention", "MultiHeadAttention"), ("attention",)),
    **dict.fromkeys(("Resize", "Upsample"), ("resize",)),
    **dict.fromkeys(("Gather", "GatherElements", "GatherND"), ("gather", "slice", "embedding")),
    **dict.fromkeys(("Split", "Slice"), ("slice",)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), ("rnn",)),
    "CumSum": ("scan",), "TopK": ("sort",), "Concat": ("concat", "copy"),
    "Transpose": ("transpose",), "ReorderOutput": ("transpose",), "ReorderInput": ("transpose",),
    "Expand": ("expand", "copy"), "Pad": ("copy",),
    "DepthToSpace": ("transpose", "copy"), "Einsum": ("matmul",),
}  # fmt: skip
"""Operators of ONNX and of ONNX Runtime, and the kinds of ours that they can be."""
_LOOSE = {"activation": "pointwise", "elementwise": "pointwise", "linear": "product",
          "matmul": "product", "reduce": "reduce", "pool": "reduce"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the profile: its operator and the shapes of what it reads and writes."""

    op: str
    name: str = ""
    inputs: tuple[Shape, ...] = ()
    outputs: tuple[Shape, ...] = ()


@dataclass(frozen=True, slots=True)
class Owner:
    """The kernel that a node's time belongs to; ``how``: ``is``, ``part``, ``feeds``, ``none``."""

    kernel: int | None = None
    how: str = "none"


@dataclass(slots=True)
class _State:
    """What is still without a partner, both in order."""

    nodes: list[int]
    kernels: list[int]
    owners: dict[int, Owner] = field(default_factory=dict)


def parse_node(text: str) -> Node:
    """A node from the text that the board names it by (``runtimes/onnxruntime.py``)."""
    data = json.loads(text)
    return Node(data["op"], data["name"], _shapes(data["inputs"]), _shapes(data["outputs"]))


def _shapes(texts: Iterable[str]) -> tuple[Shape, ...]:
    sizes = (text.partition(":") for text in texts)
    return tuple(tuple(int(size) for size in size_text.split("x") if size.lstrip("-").isdigit())
                 for _, _, size_text in sizes)  # fmt: skip


def kernel_shares(kernels: Sequence[Kernel], names: Sequence[str]) -> list[int | None]:
    """For each node of a profile the position of the kernel that its time belongs to, or None."""
    return [owner.kernel for owner in owners(kernels, [parse_node(name) for name in names])]


def owners(kernels: Sequence[Kernel], nodes: Sequence[Node]) -> list[Owner]:
    """For each node, in order of execution, its kernel and on what grounds."""
    state = _State(list(range(len(nodes))), list(range(len(kernels))))
    for level in _LEVELS:
        for block in BLOCKS:
            wanted = {index: set(level.kernel(kernels[index], block)) for index in state.kernels}
            _pair(state, {index: set(level.node(nodes[index])) for index in state.nodes}, wanted)
    _pieces(state, kernels, nodes)
    _parts(state, kernels, nodes)
    _composites(state, kernels, nodes)
    _neighbours(state, nodes)
    return [state.owners.get(index, Owner()) for index in range(len(nodes))]


def _pair(state: _State, have: dict[int, set[Hashable]], wanted: dict[int, set[Hashable]]) -> None:
    """Give each node the first free kernel of the same description."""
    free: dict[Hashable, list[int]] = defaultdict(list)
    for kernel in reversed(state.kernels):
        for key in wanted[kernel]:
            free[key].append(kernel)
    taken: set[int] = set()
    left = []
    for node in state.nodes:
        found = None
        for key in have[node]:
            stack = free.get(key, [])
            while stack and stack[-1] in taken:
                stack.pop()
            if stack and (found is None or stack[-1] < found):
                found = stack[-1]
        if found is None:
            left.append(node)
            continue
        taken.add(found)
        state.owners[node] = Owner(found, "is")
    state.nodes = left
    state.kernels = [kernel for kernel in state.kernels if kernel not in taken]


def _padded(size: int, block: int) -> int:
    return -(-size // block) * block


def _blocked(shape: Shape, block: int) -> Shape:
    """The shape with its channels in blocks."""
    if len(shape) != 4:
        return shape
    return (shape[0], _padded(shape[1], block), *shape[2:])


def _filter(shape: Shape, block: int) -> Shape:
    """A convolution's weights with channels in blocks; a few input channels stay as they are."""
    if len(shape) < 3:
        return shape
    inner = shape[1] if shape[1] < block else _padded(shape[1], block)
    return (_padded(shape[0], block), inner, *shape[2:])


def _weights(op: Op) -> Shape:
    return op.weights[0].shape if op.weights else ()


def _made(kernel: Kernel) -> Shape:
    return kernel.ops[-1].outputs[0].shape


def _read(op: Op) -> Shape:
    return op.inputs[0].shape if op.inputs else ()


def _word(op: Op) -> str:
    word = str(op.attrs.get("fn") or op.attrs.get("type") or "")
    return "clip" if word.startswith(("clamp", "relu6", "hardtanh", "clip")) else word


class _Level:
    """Descriptions of nodes and kernels that must be equal for a node to be the kernel."""

    def node(self, node: Node) -> Iterator[Hashable]:
        raise NotImplementedError

    def kernel(self, kernel: Kernel, block: int) -> Iterator[Hashable]:
        raise NotImplementedError


class _Filters(_Level):
    """Convolutions: weights and output."""

    def node(self, node: Node) -> Iterator[Hashable]:
        if _KINDS.get(node.op) == ("conv",) and len(node.inputs) > 1 and node.outputs:
            yield node.inputs[1], node.outputs[0]

    def kernel(self, kernel: Kernel, block: int) -> Iterator[Hashable]:
        if kernel.kind == "conv":
            anchor = kernel.ops[kernel.anchor]
            yield _filter(_weights(anchor), block), _blocked(anchor.outputs[0].shape, block)


class _Scales(_Level):
    """A batch norm on channels in blocks runs as a convolution of a single weight a channel."""

    def node(self, node: Node) -> Iterator[Hashable]:
        if node.op == "Conv" and len(node.inputs) > 1 and node.outputs:
            weights = node.inputs[1]
            if len(weights) == 4 and weights[1:] == (1, 1, 1):
                yield node.outputs[0]

    def kernel(self, kernel: Kernel, block: int) -> Iterator[Hashable]:
        if kernel.kind == "norm":
            yield _blocked(kernel.ops[kernel.anchor].outputs[0].shape, block)


class _Reorders(_Level):
    """Putting channels into blocks and in order again; what is in order is not rounded up."""

    def node(self, node: Node) -> Iterator[Hashable]:
        if node.op.startswith("Reorder") and node.inputs and node.outputs and not _turns(node):
            into = node.op == "ReorderInput"
            yield into, math.prod(node.inputs[0] if into else node.outputs[0])

    def kernel(self, kernel: Kernel, block: int) -> Iterator[Hashable]:
        op = kernel.ops[kernel.anchor]
        if op.attrs.get("fn") == "reorder":
            yield bool(op.attrs["into_blocks"]), op.outputs[0].numel


class _Words(_Level):
    """What is computed, element by element or by which kind, from how many elements to how many."""

    def __init__(self, words: bool, reads: bool, loose: bool = False) -> None:
        self.words, self.reads, self.loose = words, reads, loose

    def node(self, node: Node) -> Iterator[Hashable]:
        if not node.outputs:
            return
        word = _FUNCTIONS.get(node.op, "") if self.words else ""
        for kind in _KINDS.get(node.op, ()):
            if node.op.startswith("Reorder") and not _turns(node):
                continue
            yield self._key(kind, word, node.inputs[0] if node.inputs else (), _total(node.outputs))

    def kernel(self, kernel: Kernel, block: int) -> Iterator[Hashable]:
        anchor = kernel.ops[kernel.anchor]
        yield from self.op(anchor, block)

    def op(self, op: Op, block: int) -> Iterator[Hashable]:
        """Descriptions of an operator."""
        word = _word(op) if self.words and op.kind in ("activation", "elementwise") else ""
        read = _blocked(_read(op), block)
        made = [_blocked(spec.shape, block) for spec in op.outputs]
        yield self._key(op.kind, word, read, _total(made if op.kind == "slice" else made[:1]))

    def _key(self, kind: str, word: str, read: Shape, made: int) -> Hashable:
        kind = _LOOSE.get(kind, kind) if self.loose or kind in ("linear", "matmul") else kind
        return kind, word, math.prod(read) if self.reads else 0, made


def _total(shapes: Iterable[Shape]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _turns(node: Node) -> bool:
    """Reordering that moves the channels last, or first: a transposition of the model."""
    return bool(node.inputs and node.outputs) and (
        len(node.inputs[0]) != len(node.outputs[0]) or node.inputs[0][2:] != node.outputs[0][2:]
    )


_STRICT = _Words(words=True, reads=True)
_LEVELS: tuple[_Level, ...] = (
    _Filters(), _Scales(), _Reorders(), _STRICT, _Words(words=True, reads=False),
    _Words(words=False, reads=False, loose=True),
)  # fmt: skip
"""From the strictest to the loosest."""


def _parts(state: _State, kernels: Sequence[Kernel], nodes: Sequence[Node]) -> None:
    """Nodes that are an operator inside a kernel whose character another one decides."""
    free: dict[Hashable, list[int]] = defaultdict(list)
    for index in reversed(range(len(kernels))):
        kernel = kernels[index]
        for position, op in enumerate(kernel.ops):
            if position != kernel.anchor:
                for key in {key for block in BLOCKS for key in _STRICT.op(op, block)}:
                    free[key].append(index)
    left = []
    for index in state.nodes:
        found = next((free[key] for key in _STRICT.node(nodes[index]) if free.get(key)), None)
        if found:
            state.owners[index] = Owner(found.pop(), "part")
        else:
            left.append(index)
    state.nodes = left


def _pieces(state: _State, kernels: Sequence[Kernel], nodes: Sequence[Node]) -> None:
    """A transposition of the whole that runs as transpositions of its parts."""
    free: dict[int, list[int]] = defaultdict(list)
    for index in state.nodes:
        if nodes[index].op == "Transpose":
            free[_total(nodes[index].outputs)].append(index)
    for kernel in state.kernels:
        made = math.prod(_made(kernels[kernel])) if kernels[kernel].kind == "transpose" else 0
        for count in (3, 2, 4) if made else ():
            pieces = free.get(made // count, [])
            if made % count == 0 and len(pieces) >= count:
                state.owners.update(dict.fromkeys(pieces[:count], Owner(kernel, "is")))
                del pieces[:count]
                break
    state.nodes = [index for index in state.nodes if index not in state.owners]


def _composites(state: _State, kernels: Sequence[Kernel], nodes: Sequence[Node]) -> None:
    """Operators that run as several nodes: what follows the first one closely is part of it."""
    left = []
    for index in state.nodes:
        node, found = nodes[index], None
        for other in range(index - 1, max(index - 4, -1), -1) if node.op in _FUNCTIONS else ():
            owner = state.owners.get(other, Owner())
            if owner.how in ("is", "part") and owner.kernel is not None:
                same = _total(nodes[other].outputs) == _total(node.outputs)
                found = (
                    owner.kernel if same and _goes_on(nodes[other], kernels[owner.kernel]) else None
                )
                break
        if found is None:
            left.append(index)
        else:
            state.owners[index] = Owner(found, "part")
    state.nodes = left


def _goes_on(node: Node, kernel: Kernel) -> bool:
    """Whether ``node`` is less than the kernel that it was taken for."""
    if node.op == "InstanceNormalization":
        return True
    word = _word(kernel.ops[kernel.anchor])
    return node.op in _FUNCTIONS and _FUNCTIONS[node.op] != word and len(kernel.ops) == 1


def _neighbours(state: _State, nodes: Sequence[Node]) -> None:
    """What is left counts towards the next node that reads what it makes."""
    for index in reversed(state.nodes):
        made = set(nodes[index].outputs)
        later = range(index + 1, len(nodes))
        reader = next((other for other in later if made & set(nodes[other].inputs)), None)
        if reader is not None and reader in state.owners:
            state.owners[index] = Owner(state.owners[reader].kernel, "feeds")
    for index in state.nodes:  # read by nobody: what made its input
        if index not in state.owners:
            read = set(nodes[index].inputs[:1])
            before = range(index - 1, -1, -1)
            maker = next((other for other in before if read & set(nodes[other].outputs)), None)
            if maker is not None and maker in state.owners:
                state.owners[index] = Owner(state.owners[maker].kernel, "feeds")
