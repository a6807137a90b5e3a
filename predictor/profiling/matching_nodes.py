"""Which nodes of an ONNX Runtime profile are kernels of the model, where that is certain.

The assignment is that of :mod:`predictor.profiling.onnx_nodes`, which measuring here uses too. A
profile of the user's own may be of another file, batch or version, so each pair is checked once
more: shapes of what is read, of weights and of what is written must be the kernel's (channels may
be rounded up to blocks), and no other kernel of the model may fit as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from predictor.graph import Kernel, Op
from predictor.latency.table import signature
from predictor.profiling.importers import Layer
from predictor.profiling.matching import FUNCTIONS, TYPES, UNMEASURED, Match, path_of
from predictor.profiling.onnx_nodes import BLOCKS, Node, Owner, owners, parse_node
from predictor.profiling.runtimes.onnxruntime import node_text

NO_SHAPES = "the profile does not tell its shapes"
MOVES = "moves data for other nodes; no operator of the model"
NO_KERNEL = "no kernel of the model has these shapes; are model, batch and resolution the same?"
SEVERAL = "several kernels of the model fit"
WHOLE = "part of a kernel whose other nodes are not certain"
_OWN = ("is", "part")
_BLOCKED, _RESULT = "_nchwc", "_output_0"
"""What ONNX Runtime adds to names of convolutions, and PyTorch's exporter to those of tensors."""
_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "ConvTranspose", "NhwcFusedConv"})

Shape = tuple[int, ...]


def match_nodes(layers: Sequence[Layer], kernels: Sequence[Kernel]) -> list[Match]:
    """A match for every node, in order; several nodes may be parts of one kernel."""
    nodes = [parse_node(node_text({"name": layer.name, "args": dict(layer.node)}))
             for layer in layers]  # fmt: skip
    found = owners(kernels, nodes)
    doubt = _Doubt(kernels)
    reasons, doubtful = [], set()
    sums: dict[int, float] = {}
    for layer, node, owner in zip(layers, nodes, found, strict=True):
        reason = layer.why
        if not reason:
            reason = _why_not(node, owner, doubt)
        reasons.append(reason)
        if owner.kernel is None or owner.how not in _OWN:
            continue
        sums[owner.kernel] = sums.get(owner.kernel, 0.0) + layer.latency_ms
        if reason:
            doubtful.add(owner.kernel)
    matches = []
    for layer, owner, reason in zip(layers, found, reasons, strict=True):
        if not reason and owner.kernel in doubtful:
            reason = WHOLE
        if reason or owner.kernel is None:
            matches.append(Match(layer, None, reason or NO_KERNEL))
        elif not sums[owner.kernel] > 0:
            matches.append(Match(layer, None, UNMEASURED))
        else:
            matches.append(Match(layer, kernels[owner.kernel]))
    return matches


def _why_not(node: Node, owner: Owner, doubt: _Doubt) -> str:
    """Why the node is not certain to be its owner, or a part of it; empty where it is."""
    if not node.inputs or not node.outputs:
        return NO_SHAPES
    if owner.kernel is None or owner.how not in _OWN:
        return MOVES if owner.how == "feeds" else NO_KERNEL
    return doubt.of(node, owner.kernel) if owner.how == "is" else ""


class _Doubt:
    """Whether a node can be one kind of kernel of the model only; equal kernels are looked at once,
    and equal nodes too."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self.kernels = kernels
        self._unlike: dict[str, dict[str, Kernel]] = {}
        for kernel in kernels:
            self._unlike.setdefault(kernel.kind, {}).setdefault(signature(kernel), kernel)
        self._known: dict[Any, int] = {}

    def of(self, node: Node, index: int) -> str:
        """Why the node may not be the kernel at ``index``; empty where it is certain."""
        kernel = self.kernels[index]
        if not fits(node, kernel):
            return NO_KERNEL
        key = (node.op, node.inputs, node.outputs, kernel.kind)
        if key not in self._known:
            alike = self._unlike[kernel.kind].values()
            self._known[key] = sum(fits(node, other) for other in alike)
        if self._known[key] < 2:
            return ""
        named = {
            signature(other) for other in self.kernels
            if other.kind == kernel.kind and is_named(node.name, other) and fits(node, other)
        }  # fmt: skip
        return "" if named == {signature(kernel)} else SEVERAL


def is_named(name: str, kernel: Kernel) -> bool:
    """Whether the node is called after an operator in the kernel, or after what one makes."""
    name = name.removesuffix(_BLOCKED)
    path, word = path_of(name)
    return any(
        op.name in (name, name.removesuffix(_RESULT))
        or (op.name == path and op.kind in TYPES.get(word, ()))
        for op in kernel.ops if op.name
    )  # fmt: skip


def fits(node: Node, kernel: Kernel) -> bool:
    """Whether the node reads and writes what the kernel does."""
    anchor = kernel.ops[kernel.anchor]
    made = anchor.outputs[0].shape if anchor.outputs else ()
    read = anchor.inputs[0].shape if anchor.inputs else ()
    if anchor.kind == "conv":
        if node.op not in _CONVOLUTIONS or len(node.inputs) < 2 or not anchor.weights:
            return False
        added = any(len(shape) > 2 for shape in node.inputs[2:])
        return (
            _alike(node.inputs[0], read) and _alike(node.outputs[0], made)
            and _alike(node.inputs[1], anchor.weights[0].shape, first=True)
            and added == any(_is_addition(op) for op in kernel.ops)
        )  # fmt: skip
    if anchor.attrs.get("fn") == "reorder" or node.op.startswith("Reorder"):
        return _is_reorder(node, anchor)
    function = FUNCTIONS.get(node.op)
    if function is not None and anchor.attrs.get("fn") != function:
        return False
    told = sorted(filter(_is_tensor, map(_elements, node.inputs)))
    total = sum(map(_elements, node.outputs))
    return any(
        _reads(told, anchor, block, function is not None) and total in _written(anchor, block)
        for block in BLOCKS
    )


def _is_reorder(node: Node, anchor: Op) -> bool:
    """Channels into blocks, or in order again; the side that is in order is not rounded up."""
    into = node.op == "ReorderInput"
    plain = node.inputs[0] if into else node.outputs[0]
    if anchor.attrs.get("fn") != "reorder":  # it also turns images around, as a transposition does
        return anchor.kind == "transpose" and _elements(plain) == anchor.outputs[0].numel
    return bool(anchor.attrs["into_blocks"]) == into and _elements(plain) == anchor.outputs[0].numel


def _written(anchor: Op, block: int) -> tuple[int, int]:
    """Elements of all results, and of the first alone (statistics of a norm are not stored)."""
    sizes = [_elements(_rounded(spec.shape, block)) for spec in anchor.outputs]
    return sum(sizes), sizes[0] if sizes else 0


def _reads(told: list[int], anchor: Op, block: int, exactly: bool) -> bool:
    """Whether tensors of so many elements are what the operator reads; not ``exactly``: hold its
    first input (weights may be packed away, and indices added)."""
    own = [_elements(_rounded(spec.shape, block)) for spec in (*anchor.inputs, *anchor.weights)]
    own = list(filter(_is_tensor, own))
    return told == sorted(own) if exactly else bool(own) and own[0] in told


def _is_tensor(elements: int) -> bool:
    return elements > 1  # a number may be an attribute here, and an input there


def _is_addition(op: Op) -> bool:
    return op.kind == "elementwise" and op.attrs.get("fn") == "add"


def _alike(told: Shape, own: Shape, first: bool = False) -> bool:
    """Equal, or equal with channels rounded up to a block; ``first``: those of a filter."""
    if len(told) != len(own):
        return _elements(told) == _elements(own)
    places = (0, 1) if first else (1,)
    for place, (a, b) in enumerate(zip(told, own, strict=True)):
        sizes = {-(-b // block) * block for block in BLOCKS} if place in places else {b}
        if a not in sizes:
            return False
    return True


def _rounded(shape: Shape, block: int) -> Shape:
    if len(shape) != 4:
        return shape
    return (shape[0], -(-shape[1] // block) * block, *shape[2:])


def _elements(shape: Shape) -> int:
    return math.prod(shape)
