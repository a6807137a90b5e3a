"""ONNX models as graphs: shapes and operators, never the weights' numbers.

Nodes that only depend on constants (initializers, shapes) are no operators; a matrix product with
an initializer is ``linear`` as in torch. Nothing is skipped in silence: an operator without a
formula is recorded as ``unknown:<op_type>`` with ``known=False``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from predictor.errors import ModelError, PredictorError
from predictor.frontends.onnx_emit import Emitter
from predictor.frontends.onnx_file import (
    ELEMENT_TYPES,
    attributes_of,
    checked_spec,
    load_model,
    tensor_spec,
    tensor_value,
)
from predictor.frontends.onnx_inputs import Binder
from predictor.frontends.onnx_shapes import UPPER_BOUNDS, output_specs
from predictor.frontends.onnx_values import Call, Tensor, Unfit, Unknown, constant_of, evaluate
from predictor.graph import Graph, TensorSpec
from predictor.operators import onnx_rules
from predictor.pause import collector_paused

STANDARD_DOMAINS = {"", "ai.onnx", "com.microsoft"}
MAX_DEPTH = 16
"""Subgraphs and local functions inside one another."""
MAX_INLINED = 50_000
"""Nodes that local functions and subgraphs may expand to, beyond those of the file."""
_RUNTIME_FILLS = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike",
                  "Bernoulli", "Multinomial"}  # fmt: skip
_OUTPUT = "its output"
_MALFORMED = (
    AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, ZeroDivisionError,
)  # fmt: skip
"""What an operator's rule raises on attributes or ranks that contradict its definition."""


def read_onnx(
    path: str | os.PathLike[str] | bytes,
    *,
    batch: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    name: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """Read an ONNX model without its weights.

    Args:
        path: the file, or its bytes. External data need not be there.
        batch: first dimension of every input; None takes the file's, or 1 where it is open.
        resolution: height and width of inputs (N, C, H, W), or one number for both.
        name: name of the graph; None takes the file's name.
        shapes: whole shapes by input name, for other open dimensions.

    Raises:
        ModelError: no ONNX file, damaged, an open dimension, or nodes that contradict their
            operator; the message names file, node and remedy.
        MissingExtra: the onnx package is not installed.
    """
    model, place, folder = load_model(path)
    label = name or (model.graph.name or "model" if isinstance(path, bytes) else Path(path).stem)
    reader = _Reader(model, place, folder, Binder(place, batch, resolution, shapes))
    with collector_paused():  # nothing here is cyclic; collecting took half of a large model's time
        return reader.read(label)


class _Scope:
    """Names of one graph; inner graphs see the outer ones."""

    def __init__(self, graph: Any, outer: _Scope | None, opset: int) -> None:
        self.names: dict[str, Tensor] = {}
        self.outer, self.opset = outer, opset
        self.depth: int = outer.depth + 1 if outer else 0
        self.infos = {i.name: i for i in getattr(graph, "value_info", ())}
        self.attributes: dict[str, Any] | None = None
        self._graph, self._uses = graph, Counter[str]()

    def uses(self, name: str) -> int:
        """How often a name of this graph is read, inner graphs and outputs included."""
        if not self._uses:
            _count_uses(self._graph, self._uses)
        return self._uses[name]

    def find(self, name: str) -> Tensor | None:
        """The tensor of that name, looked for outwards."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None


def _count_uses(graph: Any, uses: Counter[str], depth: int = 0) -> None:
    for node in graph.node:
        uses.update(node.input)
        for attribute in node.attribute:
            if attribute.type == 5 and depth < MAX_DEPTH:
                _count_uses(attribute.g, uses, depth + 1)
    uses.update(o if isinstance(o, str) else o.name for o in graph.output)


class _Reader:
    def __init__(self, model: Any, place: str, folder: Path | None, binder: Binder) -> None:
        self.model, self.place, self.folder, self.binder = model, place, folder, binder
        self.emitter = Emitter(place)
        self.functions = {(f.domain, f.name): f for f in model.functions}
        self.opsets = {entry.domain: entry.version for entry in model.opset_import}
        self.notes: list[str] = []
        self.inlined = 0

    def read(self, label: str) -> Graph:
        graph = self.model.graph
        if not graph.node:
            raise ModelError("the graph has no nodes", file=self.place)
        scope = _Scope(graph, None, self.opsets.get("", self.opsets.get("ai.onnx", 1)))
        self._initializers(graph, scope)
        stored = set(scope.names)
        inputs = []
        for key, spec in self.binder.inputs([i for i in graph.input if i.name not in stored]):
            tensor = self.emitter.tensor(key, spec)
            self._define(scope, key, tensor, f"input '{key}'")
            inputs.append(tensor)
        scope.infos.update((o.name, o) for o in graph.output if o.name not in scope.infos)
        self._nodes(graph.node, scope)
        outputs = [self._find(scope, o.name, "the graph's outputs") for o in graph.output]
        if not outputs:
            raise ModelError("the graph has no outputs", file=self.place)
        if any(t.constant for t in outputs):
            self._note("an output is a constant; it costs nothing")
        return self.emitter.graph(label, inputs, outputs, (*self.binder.notes, *self.notes))

    # -- names ------------------------------------------------------------------------------

    def _initializers(self, graph: Any, scope: _Scope) -> None:
        for proto in graph.initializer:
            label = f"{self.place}: initializer '{proto.name}'"
            spec = tensor_spec(proto, label)
            tensor = Tensor(proto.name, spec, value=tensor_value(proto, spec, self.folder))
            tensor.stored = True
            self._define(scope, proto.name, tensor, f"initializer '{proto.name}'")
        for sparse in graph.sparse_initializer:
            key = sparse.values.name
            spec = TensorSpec(tuple(sparse.dims), tensor_spec(sparse.values, key).dtype)
            tensor = Tensor(key, checked_spec(spec.shape, spec.dtype, key), stored=True)
            self._define(scope, key, tensor, f"initializer '{key}'")

    def _define(self, scope: _Scope, key: str, tensor: Tensor, label: Any) -> None:
        if key in scope.names:
            raise ModelError(
                f"{_place(label)}: the name '{key}' is defined twice; run onnx.checker on the file",
                file=self.place,
            )
        scope.names[key] = tensor

    def _find(self, scope: _Scope, key: str, label: Any) -> Tensor:
        found = scope.find(key)
        if found is None:
            raise ModelError(
                f"{_place(label)}: tensor '{key}' is not made by any earlier node: the graph is "
                "cyclic, not in execution order, or cut; run onnx.checker on the file",
                file=self.place,
            )
        return found

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # -- nodes ------------------------------------------------------------------------------

    def _nodes(self, nodes: Sequence[Any], scope: _Scope) -> None:
        if scope.depth:
            self.inlined += len(nodes)
        if scope.depth > MAX_DEPTH or self.inlined > MAX_INLINED:
            raise ModelError(
                f"functions or subgraphs nest deeper than {MAX_DEPTH} or expand to over "
                f"{MAX_INLINED} nodes; inline them with onnx.inliner and read that file",
                file=self.place,
            )
        for node in nodes:
            try:
                self._node(node, scope, node)
            except Unfit as error:
                raise ModelError(
                    f"{_place(node)}: {error}; the model is damaged, or batch, "
                    "resolution or shapes do not suit it",
                    file=self.place,
                ) from error
            except PredictorError as error:
                text = str(error)
                if self.place in text:
                    raise
                raise ModelError(f"{_place(node)}: {text}", file=self.place) from error
            except _MALFORMED as error:
                raise ModelError(
                    f"{_place(node)}: its attributes or input shapes contradict the operator "
                    f"({type(error).__name__}: {error}); run onnx.checker on the file",
                    file=self.place,
                ) from error

    def _node(self, node: Any, scope: _Scope, label: Any) -> None:
        attrs = attributes_of(node, scope.attributes)
        inputs = [self._find(scope, key, label) if key else None for key in node.input]
        standard = node.domain in STANDARD_DOMAINS
        if (node.domain, node.op_type) in self.functions:
            self._function(node, inputs, attrs, scope, label)
        elif standard and node.op_type == "Constant":
            spec, value = constant_of(attrs, _place(label), self.folder)
            tensor = Tensor(node.output[0], spec, value=value, stored=True)
            self._define(scope, node.output[0], tensor, label)
        elif standard and node.op_type in ("If", "Loop", "Scan"):
            self._control(node, inputs, attrs, scope, label)
        elif standard and _passes_through(node, inputs, attrs):
            first = inputs[0]
            assert first is not None  # held by _passes_through
            for key in filter(None, node.output):
                self._define(scope, key, first, label)
        else:
            self._operator(node, inputs, attrs, scope, label)

    def _operator(
        self, node: Any, inputs: list[Tensor | None], attrs: dict[str, Any], scope: _Scope,
        label: Any,
    ) -> None:  # fmt: skip
        call = Call(node.op_type, attrs, inputs, len(node.output), scope.opset)
        standard = node.domain in STANDARD_DOMAINS
        values = evaluate(call) if standard else None
        if values is not None and len(values) >= len(node.output):
            for key, value in zip(node.output, values, strict=False):
                tensor = Tensor(key, TensorSpec(value.shape, str(value.dtype)), value=value)
                if all(t is None or t.constant for t in inputs):
                    tensor.roots = _roots(inputs)
                self._define(scope, key, tensor, label)
            return
        specs = self._specs(node, call, scope, label, standard)
        outs = [(key, checked_spec(spec.shape, spec.dtype, _OUTPUT))
                for key, spec in zip(node.output, specs, strict=True) if key]  # fmt: skip
        given = [t for t in inputs if t is not None]
        folds = standard and node.op_type not in _RUNTIME_FILLS
        if folds and all(t.constant for t in given):
            scaled = node.op_type == "DequantizeLinear"  # the scales are no part of the weight
            roots = _roots(inputs[:1] if scaled else inputs)
            made = [Tensor(key, spec, roots=roots) for key, spec in outs]
        else:
            title = node.name or (outs[0][0] if outs else node.op_type)
            if not standard and (own := f"{node.domain}:{node.op_type}") in onnx_rules:
                call.op_type, standard = own, True
            made = self.emitter.operator(title, call, outs, standard, scope.uses)
        for (key, _), tensor in zip(outs, made, strict=True):
            self._define(scope, key, tensor, label)

    def _specs(
        self, node: Any, call: Call, scope: _Scope, label: Any, standard: bool
    ) -> list[TensorSpec]:
        reason = "its operator is not one of ONNX's own"
        if standard:
            try:
                specs = output_specs(call)
            except Unknown as error:
                reason = str(error)
            else:
                if node.op_type in UPPER_BOUNDS:
                    self._note(
                        f"{_place(label)}: its output length depends on the data; the largest is "
                        "taken"
                    )
                return specs
        declared = []
        for key in node.output:
            info = scope.infos.get(key)
            spec = self.binder.declared(info) if info is not None else None
            if spec is None and key:
                raise ModelError(
                    f"{_place(label)}: the shape of its output '{key}' cannot be worked out "
                    f"({reason}) and the file does not declare it; add it with "
                    "onnx.shape_inference or a value_info entry, or export with fixed shapes",
                    file=self.place,
                )
            declared.append(spec or TensorSpec(()))
        return declared

    # -- functions and control flow -----------------------------------------------------------

    def _function(
        self, node: Any, inputs: list[Tensor | None], attrs: dict[str, Any], scope: _Scope,
        label: Any,
    ) -> None:  # fmt: skip
        function = self.functions[node.domain, node.op_type]
        opset = {e.domain: e.version for e in function.opset_import}.get("", scope.opset)
        inner = _Scope(function, None, opset)
        inner.depth = scope.depth + 1
        defaults = attributes_of(_Attributes(function.attribute_proto))
        inner.attributes = {**defaults, **attrs}
        for key, tensor in zip(function.input, inputs, strict=False):
            if tensor is not None:
                self._define(inner, key, tensor, label)
        self._nodes(function.node, inner)
        for key, made in zip(node.output, function.output, strict=False):
            if key:
                self._define(scope, key, self._find(inner, made, label), label)

    def _control(
        self, node: Any, inputs: list[Tensor | None], attrs: dict[str, Any], scope: _Scope,
        label: Any,
    ) -> None:  # fmt: skip
        branch, feeds = self._branch(node, inputs, attrs, label)
        inner = _Scope(branch, scope, scope.opset)
        inner.attributes = scope.attributes
        self._initializers(branch, inner)
        for info, tensor in zip(branch.input, feeds, strict=False):
            if tensor is None:
                spec = self.binder.declared(info) or TensorSpec((), "int64")
                tensor = self.emitter.tensor(info.name, spec)
            self._define(inner, info.name, tensor, label)
        inner.infos.update((o.name, o) for o in branch.output if o.name not in inner.infos)
        self._nodes(branch.node, inner)
        made = [self._find(inner, o.name, label) for o in branch.output]
        if node.op_type == "Loop":
            made = made[1:]  # the first output of a loop body is its condition
        if len(made) < len(node.output):
            raise Unfit(f"{len(node.output)} outputs, its subgraph makes {len(made)}")
        for key, tensor in zip(node.output, made, strict=False):
            if key:
                self._define(scope, key, tensor, label)

    def _branch(
        self, node: Any, inputs: list[Tensor | None], attrs: dict[str, Any], label: Any
    ) -> tuple[Any, list[Tensor | None]]:
        """The subgraph to read, and what to feed it (None: a fresh tensor as declared)."""
        if node.op_type == "If":
            condition = inputs[0] if inputs else None
            which = "then_branch"
            if condition is not None and condition.value is not None:
                which = "then_branch" if condition.value.reshape(-1)[:1].any() else "else_branch"
            else:
                self._note(f"{_place(label)}: the condition is not known; the then-branch is taken")
            body = attrs[which]
            feeds: list[Tensor | None] = []
        else:
            body = attrs["body"]
            self._note(f"{_place(label)}: the body is counted once, whatever the number of rounds")
            if node.op_type == "Loop":
                feeds = [None, None, *inputs[2:]]
            else:
                states = len(inputs) - int(attrs["num_scan_inputs"])
                feeds = [*inputs[:states], *(None for _ in inputs[states:])]
        if not hasattr(body, "node"):
            raise Unfit("its subgraph is missing")
        return body, feeds


def _place(label: Any) -> str:
    """What a message calls a node; words stay as they are."""
    if isinstance(label, str):
        return label
    return f"node '{label.name or next(iter(label.output), '')}' ({label.op_type})"


class _Attributes:
    """Default attributes of a function, in the form that a node has them."""

    def __init__(self, attribute: Any) -> None:
        self.attribute = attribute


def _passes_through(node: Any, inputs: list[Tensor | None], attrs: dict[str, Any]) -> bool:
    first = inputs[0] if inputs else None
    if first is None or not node.output:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type == "Dropout":  # nothing happens in inference; a mask that is read is kept
        return sum(1 for key in node.output if key) == 1
    if node.op_type == "Cast" and isinstance(attrs.get("to"), int):
        return ELEMENT_TYPES.get(attrs["to"]) == first.spec.dtype
    return False


def _roots(inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """The stored tensors, apart from single numbers, that a folded tensor is made of."""
    found: dict[int, Tensor] = {}
    for tensor in inputs:
        if tensor is not None:
            for root in (tensor,) if tensor.stored else tensor.roots:
                index = root.spec.dtype in ("int64", "int32", "bool")
                if root.spec.numel > 1 and not index and len(found) < 3:
                    found[id(root)] = root
    return tuple(found.values())
