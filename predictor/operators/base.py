"""The contract between operator families and everything that reads, fuses or costs a graph.

A family file defines :class:`Kind` objects (a canonical word and its cost formula) and says which
names of the source frameworks mean that kind. Files in this folder are found by themselves, so a
new family is one new file; see ``docs/add-an-operator.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from predictor.graph import Op, TensorSpec


class Cost(NamedTuple):
    """What one operator costs.

    ``read_bytes``/``write_bytes`` None mean: every input and weight read once, every output
    written once. ``parallelism`` None means: the elements of the first output.
    """

    macs: int = 0
    elementwise_flops: int = 0
    read_bytes: int | None = None
    write_bytes: int | None = None
    parallelism: int | None = None


class Gemm(NamedTuple):
    """A matrix product ``batch x (m x k) @ (k x n)``: how matrix units see an operator."""

    batch: int
    m: int
    n: int
    k: int


class Draft(NamedTuple):
    """The part of an operator that a formula sees."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[TensorSpec, ...]
    attrs: Mapping[str, Any]


Formula = Callable[[Draft], Cost]


class AtenCall(NamedTuple):
    """A torch operator call as a rule sees it. Tensors in ``args`` only have shapes and dtypes."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def get(self, index: int, name: str, default: Any = None) -> Any:
        """The argument at ``index``, or the keyword ``name``, or ``default``."""
        if index < len(self.args):
            return self.args[index]
        return self.kwargs.get(name, default)


class OnnxNode(NamedTuple):
    """An ONNX node as a rule sees it.

    ``attributes`` holds plain Python values; ``inputs`` a spec per input slot (None where absent),
    weights included; ``constants`` the values of small constant inputs by slot, flattened;
    ``static`` the slots that hold weights or constants of any size.
    """

    op_type: str
    attributes: Mapping[str, Any]
    inputs: tuple[TensorSpec | None, ...]
    outputs: tuple[TensorSpec, ...]
    constants: Mapping[int, tuple[float, ...]]
    static: frozenset[int] = frozenset()


Attrs = dict[str, Any]
AtenRule = tuple[str, Attrs] | Callable[[AtenCall], tuple[str, Attrs]]
OnnxRule = tuple[str, Attrs] | Callable[[OnnxNode], tuple[str, Attrs]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A canonical operator: its cost formula and how kernels of it behave.

    ``unit`` is ``matrix`` (multiply-accumulates dominate), ``memory`` (bytes dominate) or ``view``
    (nothing moves in eager mode). ``gemm`` gives the matrix product that the operator amounts to.
    """

    name: str
    cost: Formula
    unit: str = "memory"
    gemm: Callable[[Op], Gemm] | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """One file of this folder: kinds, and the framework names that mean them.

    ``aten`` is keyed by torch operator name without overload (``aten.relu``), or with one
    (``aten.mul.Tensor``) where overloads differ; ``onnx`` by op_type, its domain in front where
    that is not ONNX's or Microsoft's (``mine:FusedOp``). A rule is a pair of kind and attributes,
    or a function that returns one from the call.
    """

    kinds: tuple[Kind, ...]
    aten: Mapping[str, AtenRule] = field(default_factory=dict)
    onnx: Mapping[str, OnnxRule] = field(default_factory=dict)


def total_bytes(specs: Sequence[TensorSpec]) -> int:
    """Bytes of all tensors in ``specs``."""
    return sum([spec.nbytes for spec in specs])  # a list is faster for few


def elements(specs: Sequence[TensorSpec]) -> int:
    """Elements of all tensors in ``specs``."""
    return sum([spec.numel for spec in specs])


def per_output(flops: int) -> Formula:
    """A formula of ``flops`` element-wise operations an output element and no MACs."""

    def cost(op: Draft) -> Cost:
        return Cost(0, flops * elements(op.outputs))

    return cost


def per_input(flops: int) -> Formula:
    """A formula of ``flops`` element-wise operations an element of the first input."""

    def cost(op: Draft) -> Cost:
        return Cost(0, flops * op.inputs[0].numel if op.inputs else 0)

    return cost


def pair(value: Any, dims: int) -> tuple[int, ...]:
    """``value`` as a tuple of ``dims`` ints; a single number or a list of one is repeated."""
    if type(value) is int:
        return (value,) * dims
    items = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return tuple(int(item) for item in (items * dims if len(items) == 1 else items))
