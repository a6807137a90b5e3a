"""Framework-free nouns: what a network computes, tensor by tensor and operator by operator.

A :class:`Graph` is a list of :class:`Op` in execution order. Tensors are numbered; an operator
names the tensors that it reads and writes, so that fusion and liveness need nothing else.
All nouns are frozen and survive ``from_dict(to_dict(x)) == x``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

DTYPE_BYTES: dict[str, float] = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2,
    "uint8": 1, "bool": 1, "int4": 0.5, "uint4": 0.5, "complex64": 8, "complex128": 16,
}  # fmt: skip
"""Bytes an element takes in memory."""

PRECISIONS: dict[str, str] = {
    "fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16",
    "amp": "float16", "amp_bf16": "bfloat16", "fp8": "float8", "int8": "int8", "int4": "int4",
}  # fmt: skip
"""What people call a precision, and the element type that floats are stored in under it."""

VIEW_KINDS = frozenset({"reshape", "transpose", "slice", "expand"})
"""Kinds whose output is another view of the first input's storage (no bytes move in eager mode)."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and element type of a tensor. A scalar has the shape ``()``."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, rounded up."""
        count = math.prod(self.shape) * DTYPE_BYTES[self.dtype]
        return count if type(count) is int else math.ceil(count)

    @property
    def is_float(self) -> bool:
        """True for element types that a precision setting changes."""
        return self.dtype.startswith(("float", "bfloat"))

    def cast(self, dtype: str) -> TensorSpec:
        """The same tensor with its floats stored as ``dtype``; integers stay as they are."""
        return TensorSpec(self.shape, dtype) if self.is_float and dtype != self.dtype else self


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter, buffer or constant of the model. A tied parameter is one weight.

    ``role`` is ``parameter``, ``buffer`` or ``constant``; ``trainable`` is torch's requires_grad.
    """

    name: str
    spec: TensorSpec
    role: str = "parameter"
    trainable: bool = True


@dataclass(frozen=True, slots=True)
class Op:
    """One operator call.

    ``name`` is the module path in the source model, ``kind`` the operator family's canonical word
    (see :mod:`predictor.operators`), ``target`` what the source framework calls it.
    ``macs`` are multiply-accumulates, ``elementwise_flops`` all other arithmetic;
    ``read_bytes``/``write_bytes`` the memory access cost of running this operator alone;
    ``parallelism`` the number of output elements that can be computed independently;
    ``known`` is False where no formula exists: then the costs are the bytes of its tensors.
    """

    name: str
    kind: str
    target: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[TensorSpec, ...] = ()
    input_ids: tuple[int, ...] = ()
    output_ids: tuple[int, ...] = ()
    weight_ids: tuple[int, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    macs: int = 0
    elementwise_flops: int = 0
    params: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    parallelism: int = 0
    known: bool = True

    @property
    def flops(self) -> int:
        """2 x MACs: a multiplication and an addition each."""
        return 2 * self.macs

    @property
    def shapes(self) -> dict[str, list[tuple[int, ...]]]:
        """Shapes of inputs, outputs and weights."""
        return {
            "inputs": [spec.shape for spec in self.inputs],
            "outputs": [spec.shape for spec in self.outputs],
            "weights": [spec.shape for spec in self.weights],
        }

    @property
    def memory_access_bytes(self) -> int:
        """Bytes read and written."""
        return self.read_bytes + self.write_bytes

    @property
    def is_view(self) -> bool:
        """True where the output shares the storage of the first input."""
        return self.kind in VIEW_KINDS

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every public quantity included."""
        return {
            "name": self.name, "kind": self.kind, "target": self.target,
            "inputs": _specs(self.inputs), "outputs": _specs(self.outputs),
            "weights": _specs(self.weights),
            "input_ids": list(self.input_ids), "output_ids": list(self.output_ids),
            "weight_ids": list(self.weight_ids),
            "attrs": {key: _listed(value) for key, value in self.attrs.items()},
            "macs": self.macs, "flops": self.flops, "elementwise_flops": self.elementwise_flops,
            "params": self.params, "read_bytes": self.read_bytes, "write_bytes": self.write_bytes,
            "parallelism": self.parallelism, "known": self.known,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Op:
        """Inverse of :meth:`to_dict`."""
        values = {key: value for key, value in data.items() if key != "flops"}
        for key in ("inputs", "outputs", "weights"):
            values[key] = tuple(TensorSpec(tuple(shape), dtype) for shape, dtype in values[key])
        for key in ("input_ids", "output_ids", "weight_ids"):
            values[key] = tuple(values[key])
        values["attrs"] = {key: _tupled(value) for key, value in values["attrs"].items()}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the runtime launches as one piece: one operator, or several that it fused.

    ``anchor`` is the index in ``ops`` of the operator that decides the kernel's character;
    bytes are those that cross the kernel's border, so tensors inside it cost nothing.
    """

    name: str
    ops: tuple[Op, ...]
    anchor: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    weight_bytes: int = 0
    """The part of ``read_bytes`` that is weights."""

    @property
    def kind(self) -> str:
        """Kind of the anchor operator."""
        return self.ops[self.anchor].kind

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all operators in the kernel."""
        return sum(op.macs for op in self.ops)

    @property
    def flops(self) -> int:
        """2 x MACs."""
        return 2 * self.macs

    @property
    def elementwise_flops(self) -> int:
        """Arithmetic apart from multiply-accumulates."""
        return sum(op.elementwise_flops for op in self.ops)

    @property
    def bytes(self) -> int:
        """Bytes that cross the kernel's border."""
        return self.read_bytes + self.write_bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name, "ops": [op.to_dict() for op in self.ops], "anchor": self.anchor,
            "read_bytes": self.read_bytes, "write_bytes": self.write_bytes,
            "weight_bytes": self.weight_bytes,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Kernel:
        """Inverse of :meth:`to_dict`."""
        return cls(**{**data, "ops": tuple(Op.from_dict(op) for op in data["ops"])})


@dataclass(frozen=True, slots=True)
class Graph:
    """A network at fixed input shapes: operators in execution order and the weights they use.

    ``input_ids`` are the tensors fed in, ``input_names``/``input_specs`` say what they are,
    ``output_ids`` what comes out. ``source`` says which frontend read it, ``notes`` what the
    reader should know (an assumption that was made, a part that was left out).
    """

    name: str
    ops: tuple[Op, ...]
    weights: tuple[Weight, ...] = ()
    input_ids: tuple[int, ...] = ()
    input_names: tuple[str, ...] = ()
    input_specs: tuple[TensorSpec, ...] = ()
    output_ids: tuple[int, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of one forward pass."""
        return sum(op.macs for op in self.ops)

    @property
    def flops(self) -> int:
        """2 x MACs."""
        return 2 * self.macs

    @property
    def elementwise_flops(self) -> int:
        """Arithmetic that is no multiply-accumulate (activations, norms, additions, ...)."""
        return sum(op.elementwise_flops for op in self.ops)

    @property
    def params(self) -> int:
        """Parameters; one that several modules share counts once."""
        return sum(w.spec.numel for w in self.weights if w.role == "parameter")

    @property
    def trainable_params(self) -> int:
        """Parameters with requires_grad."""
        return sum(w.spec.numel for w in self.weights if w.role == "parameter" and w.trainable)

    @property
    def model_bytes(self) -> int:
        """Bytes of parameters and buffers in their own element types."""
        return sum(w.spec.nbytes for w in self.weights if w.role != "constant")

    def model_bytes_at(self, precision: str) -> int:
        """Bytes of parameters and buffers with floats stored as ``precision`` (fp16, int8, ...)."""
        dtype = PRECISIONS[precision]
        return sum(w.spec.cast(dtype).nbytes for w in self.weights if w.role != "constant")

    @property
    def memory_access_bytes(self) -> int:
        """Memory access cost, unfused: bytes that all operators read and write."""
        return sum(op.memory_access_bytes for op in self.ops)

    @property
    def activation_bytes(self) -> int:
        """Bytes of everything that operators write (views write nothing)."""
        return sum(spec.nbytes for op in self.ops if not op.is_view for spec in op.outputs)

    @property
    def peak_activation_bytes(self) -> int:
        """Largest sum of live activations, each freed after its last use: :func:`live_bytes`."""
        return max(live_bytes(self), default=0)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Targets that no formula covers, in order of appearance, each once."""
        return tuple(dict.fromkeys(op.target for op in self.ops if not op.known))

    @property
    def batch(self) -> int:
        """First dimension of the first input, 1 where there is none."""
        shape = self.input_specs[0].shape if self.input_specs else ()
        return shape[0] if shape else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what :meth:`from_dict` needs, and every total."""
        return {
            "name": self.name, "source": self.source, "notes": list(self.notes),
            "inputs": [
                {"id": i, "name": n, "shape": list(s.shape), "dtype": s.dtype}
                for i, n, s in zip(self.input_ids, self.input_names, self.input_specs, strict=True)
            ],
            "output_ids": list(self.output_ids),
            "weights": [[w.name, list(w.spec.shape), w.spec.dtype, w.role, w.trainable]
                        for w in self.weights],
            "ops": [op.to_dict() for op in self.ops],
            "totals": {
                "macs": self.macs, "flops": self.flops,
                "elementwise_flops": self.elementwise_flops, "params": self.params,
                "trainable_params": self.trainable_params, "model_bytes": self.model_bytes,
                "memory_access_bytes": self.memory_access_bytes,
                "activation_bytes": self.activation_bytes,
                "peak_activation_bytes": self.peak_activation_bytes,
                "unknown": list(self.unknown),
            },
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Graph:
        """Inverse of :meth:`to_dict`."""
        inputs = data["inputs"]
        return cls(
            name=data["name"], source=data["source"], notes=tuple(data["notes"]),
            input_ids=tuple(i["id"] for i in inputs),
            input_names=tuple(i["name"] for i in inputs),
            input_specs=tuple(TensorSpec(tuple(i["shape"]), i["dtype"]) for i in inputs),
            output_ids=tuple(data["output_ids"]),
            weights=tuple(Weight(n, TensorSpec(tuple(s), d), r, t)
                          for n, s, d, r, t in data["weights"]),
            ops=tuple(Op.from_dict(op) for op in data["ops"]),
        )  # fmt: skip

    def renamed(self, name: str) -> Graph:
        """The same graph under another name."""
        return replace(self, name=name)


def live_bytes(graph: Graph) -> Iterator[int]:
    """Bytes of live activations while each operator runs, in execution order.

    A storage lives from the operator that writes it (inputs: from the start) to its last reader,
    or to the end where it is an output. Views share their source's storage; an operator marked
    ``inplace`` writes over its first input, or over the tensor whose number is ``into``.
    """
    storage: dict[int, int] = {i: i for i in graph.input_ids}
    size: dict[int, int] = {
        i: spec.nbytes for i, spec in zip(graph.input_ids, graph.input_specs, strict=True)
    }
    last_use: dict[int, int] = dict.fromkeys(graph.input_ids, 0)
    for step, op in enumerate(graph.ops):
        for tensor, spec in zip(op.input_ids, op.inputs, strict=False):
            root = storage.setdefault(tensor, tensor)
            size.setdefault(root, spec.nbytes)
            last_use[root] = step
        target = op.attrs.get("into") if op.attrs.get("inplace") else None
        if target is None and (op.is_view or op.attrs.get("inplace")) and op.input_ids:
            target = op.input_ids[0]
        for tensor, spec in zip(op.output_ids, op.outputs, strict=True):
            root = tensor if target is None else storage.setdefault(target, target)
            storage[tensor] = root
            size.setdefault(root, spec.nbytes)
            last_use[root] = step
    for tensor in graph.output_ids:
        last_use[storage.get(tensor, tensor)] = len(graph.ops)
    dying: dict[int, list[int]] = {}
    for root, step in last_use.items():
        dying.setdefault(step, []).append(root)
    alive = sum(size[i] for i in graph.input_ids)
    born = set(graph.input_ids)
    for step, op in enumerate(graph.ops):
        for tensor in op.output_ids:
            root = storage[tensor]
            if root not in born:
                born.add(root)
                alive += size[root]
        yield alive
        for root in dying.get(step, ()):
            if root in born:
                alive -= size.get(root, 0)


def _specs(specs: tuple[TensorSpec, ...]) -> list[list[Any]]:
    return [[list(spec.shape), spec.dtype] for spec in specs]


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value
