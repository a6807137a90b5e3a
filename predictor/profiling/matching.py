"""Which of a runtime's layers is which of our kernels, where that is certain.

Layers are known by the names of the operators in them: an ONNX file's own node names, or the paths
that PyTorch's exporter makes of module names (``/layer1/layer1.0/conv1/Conv`` is the convolution
``layer1.0.conv1``). A layer is a kernel where its operators are exactly those of the kernel: batch
norms may be missing (folded into weights), views as well. Everything else stays unmapped, with the
reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from predictor.graph import Graph, Kernel, Op
from predictor.profiling.importers import Layer, LayerInfo
from predictor.profiling.importers.trtexec import parts_of

TYPES: dict[str, tuple[str, ...]] = {
    "Conv": ("conv",), "ConvTranspose": ("conv",), "Conv2D": ("conv",), "FusedConv": ("conv",),
    "DepthwiseConv2d": ("conv",), "depthwise": ("conv",), "Gemm": ("linear",),
    "MatMul": ("linear", "matmul"), "BatchNormalization": ("norm",), "FusedBatchNormV3": ("norm",),
    "LayerNormalization": ("norm",), "InstanceNormalization": ("norm",),
    "GroupNormalization": ("norm",),
    **dict.fromkeys(("MaxPool", "AveragePool", "AvgPool"), ("pool",)),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean", "Mean"), ("pool", "reduce")),
    "ReduceSum": ("reduce",), "Softmax": ("softmax",),
    "Concat": ("concat",), "ConcatV2": ("concat",),
    "Resize": ("resize",), "Transpose": ("transpose",), "Slice": ("slice",), "Split": ("slice",),
    **dict.fromkeys(("Relu", "Relu6", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
                     "LeakyRelu", "Elu", "Gelu", "PRelu", "Softplus", "Mish", "Erf"),
                    ("activation", "elementwise")),
    **dict.fromkeys(("Add", "AddV2", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp"), ("elementwise",)),
}  # fmt: skip
"""Operator types at the end of a path, and the kinds of operator that they are here."""
SILENT = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "BiasAdd"})
"""Types that move nothing or are part of another, so a layer may or may not name them."""
FUNCTIONS = {"Add": "add", "AddV2": "add", "Sub": "sub", "Mul": "mul", "Div": "div",
             "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Gelu": "gelu",
             "HardSigmoid": "hardsigmoid", "HardSwish": "hardswish",
             "QuickGelu": "silu"}  # fmt: skip
"""Where the function of an operator is checked beside its kind."""
NO_NAME = "no operator of the model has this name"
NO_KERNEL = "not the operators of one kernel of the model"
TWICE = "another layer claims the same kernel"
SHAPE = "it writes another shape than the model's kernel; are batch and resolution the same?"
UNMEASURED = "no time that the clock could resolve"
_NUMBERED = re.compile(r"_\d+\Z")
_OUTPUT = re.compile(r"_output_\d+\Z")


@dataclass(frozen=True, slots=True)
class Match:
    """A layer and the kernel that it is, or why it is none."""

    layer: Layer
    kernel: Kernel | None = None
    why: str = ""


def match_names(
    layers: Sequence[Layer], graph: Graph, kernels: Sequence[Kernel],
    info: Mapping[str, LayerInfo] | None = None,
) -> list[Match]:  # fmt: skip
    """A match for every layer, in order. ``kernels`` are those of ``graph`` on the runtime."""
    names = _Names(graph, kernels)
    names.learn_prefix(part for layer in layers for part in layer.parts)
    found = [_match(layer, names, (info or {}).get(layer.name)) for layer in layers]
    claims: dict[int, int] = {}
    for index, _ in found:
        if index is not None:
            claims[index] = claims.get(index, 0) + 1
    matches = []
    for layer, (index, why) in zip(layers, found, strict=True):
        if index is not None and claims[index] > 1:
            index, why = None, TWICE
        matches.append(Match(layer, None if index is None else kernels[index], why))
    return matches


def layer_owners(kernels: Sequence[Kernel], graph: Graph, names: Sequence[str]) -> list[int | None]:
    """For each layer that TensorRT names, the position of the kernel that it is, where certain."""
    layers = []
    for name in names:
        parts, why = parts_of(name)
        layers.append(Layer(name, "", 1.0, 1, None, parts, why))
    position = {id(kernel): index for index, kernel in enumerate(kernels)}
    return [None if match.kernel is None else position[id(match.kernel)]
            for match in match_names(layers, graph, kernels)]  # fmt: skip


class _Names:
    """Operators of the kernels by name, each known by kernel and place in it."""

    def __init__(self, graph: Graph, kernels: Sequence[Kernel]) -> None:
        self.kernels = kernels
        self.by_name: dict[str, list[tuple[int, int]]] = {}
        for index, kernel in enumerate(kernels):
            for place, op in enumerate(kernel.ops):
                self.by_name.setdefault(op.name, []).append((index, place))
        self.all = {op.name for op in graph.ops}
        self.prefix = 0
        """Scopes in front of every name that the model does not have, such as its own name."""

    def op(self, at: tuple[int, int]) -> Op:
        """The operator at a place."""
        return self.kernels[at[0]].ops[at[1]]

    def candidates(self, part: str) -> list[tuple[int, int]] | None:
        """Operators that ``part`` may be; None where it moves nothing and need not be one."""
        if part in self.by_name:
            return self.by_name[part]
        path, word = path_of(part, self.prefix)
        if word in SILENT or part in self.all:
            return None
        if path not in self.by_name:  # a module's second call is numbered
            path = _NUMBERED.sub("", path)
        kinds = TYPES.get(word, ())
        function = FUNCTIONS.get(word)
        return [
            at for at in self.by_name.get(path, ())
            if self.op(at).kind in kinds
            and (function is None or self.op(at).attrs.get("fn") == function)
        ]  # fmt: skip

    def learn_prefix(self, parts: Iterable[str]) -> None:
        """Find the scopes that all names begin with and no operator of the model does."""
        scopes = [part.strip("/").split("/")[:-1] for part in parts if "/" in part.strip("/")]
        if not scopes:
            return
        roots = {name.partition(".")[0] for name in self.all}
        for at in range(min(len(scope) for scope in scopes)):
            words = {scope[at] for scope in scopes}
            if len(words) > 1 or words.pop().partition(".")[0] in roots:
                return
            self.prefix = at + 1


def path_of(part: str, prefix: int = 0) -> tuple[str, str]:
    """Module path and operator type of a name that PyTorch's exporter made, such as
    ``("layer1.0.conv1", "Conv")``; a name without ``/`` has no path. The first ``prefix`` scopes
    are left out."""
    *scopes, last = part.strip("/").split("/")
    path: list[str] = []
    for scope in scopes[prefix:]:
        if path and scope.startswith(path[-1] + "."):
            path[-1] = scope  # a container's child repeats its parent's name
        else:
            path.append(scope)
    return ".".join(path), _NUMBERED.sub("", _OUTPUT.sub("", last))


def _match(layer: Layer, names: _Names, info: LayerInfo | None) -> tuple[int | None, str]:
    parts, why = layer.parts, layer.why
    if info is not None and info.parts:
        parts, why = info.parts, ""
    if why:
        return None, why
    if not layer.latency_ms > 0:
        return None, UNMEASURED
    choices = [found for part in parts if (found := names.candidates(part)) is not None]
    if not choices or not all(choices):
        return None, NO_NAME
    index = _kernel_of(choices, names)
    if index is None:
        return None, NO_KERNEL
    kernel = names.kernels[index]
    if info is not None and info.outputs:
        shapes = {spec.shape for op in kernel.ops for spec in op.outputs}
        if not shapes & set(info.outputs):
            return None, SHAPE
    return index, ""


def _kernel_of(choices: Iterable[list[tuple[int, int]]], names: _Names) -> int | None:
    """The kernel whose operators the choices are, all of them; None where that is not certain."""
    choices = list(choices)
    anchored = {
        found[0][0] for found in choices
        if len(found) == 1 and names.kernels[found[0][0]].anchor == found[0][1]
    }  # fmt: skip
    if len(anchored) != 1:
        return None
    index = anchored.pop()
    free = set(range(len(names.kernels[index].ops)))
    for found in sorted(choices, key=len):
        place = next((at[1] for at in found if at[0] == index and at[1] in free), None)
        if place is None:
            return None
        free.discard(place)
    kernel = names.kernels[index]
    left = (kernel.ops[place] for place in free)
    return index if all(op.is_view or _is_batch_norm(op) for op in left) else None


def _is_batch_norm(op: Op) -> bool:
    return op.kind == "norm" and op.attrs.get("type") == "batch"
