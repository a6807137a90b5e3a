"""From ONNX nodes whose shapes are known to operators: kinds, attributes, weights, roles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from predictor.errors import ModelError
from predictor.frontends.onnx_shapes import REDUCTIONS
from predictor.frontends.onnx_shapes_nn import PAST_SLOTS, attention_shapes
from predictor.frontends.onnx_values import Call, Tensor
from predictor.graph import VIEW_KINDS, Graph, Op, TensorSpec, Weight
from predictor.operators import OnnxNode, make_op, onnx_rules

_SETTINGS: dict[str, tuple[int, ...]] = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1,), "Slice": (1, 2, 3, 4), "Pad": (1, 2, 3),
    "Resize": (1, 2, 3), "Upsample": (1,), "TopK": (1,), "Split": (1,), "Squeeze": (1,),
    "Unsqueeze": (1,), "OneHot": (1, 2), "ConstantOfShape": (0,), "CumSum": (1,), "Clip": (1, 2),
    "Dropout": (1, 2), "Trilu": (1,), "DFT": (1, 2), "STFT": (1, 3), "Col2Im": (1, 2),
    "AffineGrid": (1,), "NonMaxSuppression": (2, 3, 4), "Range": (0, 1, 2), "MaxUnpool": (2,),
    **dict.fromkeys(REDUCTIONS, (1,)),
}  # fmt: skip
"""Input slots that hold settings: constants there are attributes, no weights."""
_WEIGHT_SLOTS = {"QLinearConv": (3,), "ConvInteger": (1,), "MatMulInteger": (1,),
                 "QLinearMatMul": (3,), "Conv": (1, 2), "MatMul": (1,), "Gemm": (1, 2)}  # fmt: skip
"""Slots whose integers are quantised parameters."""
_ROLE_OF_SLOT = {
    **{("BatchNormalization", slot): "buffer" for slot in (3, 4)},
    **{(name, slot): "constant" for name in ("LSTM", "GRU", "RNN") for slot in (4, 5, 6)},
    **{(name, slot): "constant" for name in ("Where", "Pow", "Equal", "Less", "Greater", "Max",
       "Min", "QuantizeLinear", "DequantizeLinear") for slot in range(3)},
}  # fmt: skip
"""Operands that are no parameters: statistics, initial states, masks, bounds, scales."""
_RANKS = {"constant": 0, "buffer": 1, "parameter": 2}
_QUANTISED = {"int8", "uint8", "int4", "uint4"}


@dataclass(slots=True)
class _Draft:
    name: str
    kind: str
    target: str
    inputs: list[tuple[int, TensorSpec]]
    outputs: list[tuple[int, TensorSpec]]
    weights: list[tuple[int, TensorSpec]]
    attrs: dict[str, Any]


@dataclass(slots=True)
class Emitter:
    """Collects operators; roles of weights are settled when all of their uses are known."""

    place: str
    drafts: list[_Draft] = field(default_factory=list)
    weights: list[tuple[str, TensorSpec]] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    _index: dict[int, int] = field(default_factory=dict)
    _kept: list[Tensor] = field(default_factory=list)
    _maker: dict[int, _Draft] = field(default_factory=dict)
    _next: int = 0

    def tensor(self, name: str, spec: TensorSpec) -> Tensor:
        """A new activation."""
        self._next += 1
        return Tensor(name, spec, self._next - 1)

    def operator(
        self, title: str, call: Call, outs: Sequence[tuple[str, TensorSpec]], standard: bool,
        uses: Callable[[str], int],
    ) -> list[Tensor]:  # fmt: skip
        """Record a node; returns its output tensors."""
        if standard and call.op_type == "Attention" and "num_heads" in call.attrs:
            return self._packed_attention(title, call, outs)
        kind, attrs = self._rule(call, outs, standard)
        merged = self._bias_of_linear(call, outs, uses) if kind == "elementwise" else None
        if merged is not None:
            return [merged]
        settings = _SETTINGS.get(call.op_type, ()) if standard else ()
        inputs, weights = [], []
        for slot, tensor in enumerate(call.inputs):
            if tensor is None or (slot in settings and tensor.constant):
                continue
            if tensor.constant and kind in VIEW_KINDS and slot:
                continue  # an index or a size
            if tensor.constant and not (kind == "attention" and slot < 3):
                weights.append(self._weight(call.op_type, slot, tensor))
            else:
                inputs.append((tensor.id, tensor.spec))
        if kind == "attention":
            inputs = self._headwise(call)
        return self._add(title, kind, call.op_type, inputs, outs, weights, attrs)

    def graph(
        self, name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], notes: Sequence[str]
    ) -> Graph:
        """Everything recorded, costed."""
        weights = tuple(
            Weight(key, spec, role, trainable=role == "parameter")
            for (key, spec), role in zip(self.weights, self.roles, strict=True)
        )
        return Graph(
            name, tuple(self._op(draft) for draft in self.drafts), weights,
            tuple(t.id for t in inputs), tuple(t.name for t in inputs),
            tuple(t.spec for t in inputs), tuple(t.id for t in outputs if not t.constant),
            "onnx", tuple(notes),
        )  # fmt: skip

    # -- inside -----------------------------------------------------------------------------

    def _op(self, draft: _Draft) -> Op:
        params = sum(
            self.weights[i][1].numel
            for i in dict.fromkeys(i for i, _ in draft.weights) if self.roles[i] == "parameter"
        )  # fmt: skip
        try:
            return make_op(
                draft.name, draft.kind, draft.target,
                tuple(spec for _, spec in draft.inputs), tuple(spec for _, spec in draft.outputs),
                tuple(spec for _, spec in draft.weights), tuple(i for i, _ in draft.inputs),
                tuple(i for i, _ in draft.outputs), tuple(i for i, _ in draft.weights),
                draft.attrs, params,
            )  # fmt: skip
        except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ModelError(
                f"node '{draft.name}' ({draft.target}): its attributes or shapes contradict the "
                f"operator ({type(error).__name__}: {error}); run onnx.checker on the file",
                file=self.place,
            ) from error

    def _add(
        self, title: str, kind: str, target: str, inputs: list[tuple[int, TensorSpec]],
        outs: Sequence[tuple[str, TensorSpec]], weights: list[tuple[int, TensorSpec]],
        attrs: dict[str, Any],
    ) -> list[Tensor]:  # fmt: skip
        made = [self.tensor(key, spec) for key, spec in outs]
        draft = _Draft(title, kind, target, inputs, [(t.id, t.spec) for t in made], weights, attrs)
        self.drafts.append(draft)
        for tensor in made:
            self._maker[tensor.id] = draft
        return made

    def _rule(
        self, call: Call, outs: Sequence[tuple[str, TensorSpec]], standard: bool
    ) -> tuple[str, dict[str, Any]]:
        rule = onnx_rules.get(call.op_type)
        if rule is not None and not standard and (
            callable(rule) or not rule[0].startswith("custom:")
        ):  # fmt: skip
            rule = None  # an operator of another domain that happens to share the name
        if rule is None:
            return f"unknown:{call.op_type}", {}
        if not callable(rule):
            return rule[0], dict(rule[1])
        node = OnnxNode(
            call.op_type, call.attrs,
            tuple(None if t is None else t.spec for t in call.inputs),
            tuple(spec for _, spec in outs),
            {i: tuple(t.value.reshape(-1).tolist()) for i, t in enumerate(call.inputs)
             if t is not None and t.constant and t.value is not None and t.value.size <= 16},
            frozenset(i for i, t in enumerate(call.inputs) if t is not None and t.constant),
        )  # fmt: skip
        return rule(node)

    def _weight(self, op_type: str, slot: int, tensor: Tensor) -> tuple[int, TensorSpec]:
        """Index of the stored tensor behind a constant, and the spec that the operator reads."""
        root = tensor.roots[0] if len(tensor.roots) == 1 and not tensor.stored else tensor
        spec = tensor.spec
        if root.spec.dtype in _QUANTISED and root.spec.numel == spec.numel:
            spec = TensorSpec(spec.shape, root.spec.dtype)  # stored and read as integers
        if spec.numel <= 1 or not (
            tensor.spec.is_float
            or (slot in _WEIGHT_SLOTS.get(op_type, ()) and root.spec.dtype in _QUANTISED)
        ):  # fmt: skip
            role = "constant"
        else:
            role = _ROLE_OF_SLOT.get((op_type, slot), "parameter")
        if role == "parameter" and not root.stored and not tensor.roots:
            role = "constant"  # computed from shapes alone
        index = self._index.setdefault(id(root), len(self.weights))
        if index == len(self.weights):
            self.weights.append((root.name, root.spec))
            self.roles.append(role)
            self._kept.append(root)  # keeps id(root) its own
        elif _RANKS[role] > _RANKS[self.roles[index]]:
            self.roles[index] = role
        return index, spec

    def _bias_of_linear(
        self, call: Call, outs: Sequence[tuple[str, TensorSpec]], uses: Callable[[str], int]
    ) -> Tensor | None:
        """The output, where an Add is the bias of the linear layer before it, and only that."""
        if call.op_type != "Add" or len(call.inputs) != 2:
            return None
        a, b = call.tensor(0), call.tensor(1)
        data, bias = (b, a) if a.constant else (a, b)
        if data.constant or not bias.constant or uses(data.name) != 1:
            return None
        draft = self._maker.get(data.id)
        width = data.spec.shape[-1:]
        if (draft is None or draft.kind != "linear" or draft.attrs.get("bias")
                or bias.spec.shape != width or outs[0][1].shape != data.spec.shape):  # fmt: skip
            return None
        draft.weights.append(self._weight("Gemm", 2, bias))
        draft.attrs = {**draft.attrs, "bias": True}
        return Tensor(outs[0][0], data.spec, data.id)

    def _packed_attention(
        self, title: str, call: Call, outs: Sequence[tuple[str, TensorSpec]]
    ) -> list[Tensor]:
        """com.microsoft Attention: the projection to q, k and v, then attention over the heads."""
        x, w = call.tensor(0), call.tensor(1)
        batch, steps = x.spec.shape[:2]
        heads, packed = call.integer("num_heads"), w.spec.shape[-1]
        width = outs[0][1].shape[-1]
        if heads < 1 or width % heads or (packed - width) % (2 * heads):
            raise ModelError(f"{title}: {heads} heads do not divide {packed} packed features")
        weights = [self._weight("Gemm", i, t) for i, t in enumerate(call.inputs[:3])
                   if i and t is not None and t.constant]  # fmt: skip
        inputs = [(t.id, t.spec) for t in call.inputs[:2] if t is not None and not t.constant]
        attrs = {"k": x.spec.shape[-1], "bias": call.has(2)}
        qkv = self._add(
            f"{title}.in_proj", "linear" if len(inputs) == 1 else "matmul", call.op_type, inputs,
            [("", TensorSpec((batch, steps, packed), x.spec.dtype))], weights, attrs,
        )[0]  # fmt: skip
        each = (packed - width) // 2 // heads
        qk = TensorSpec((batch, heads, steps, each), x.spec.dtype)
        v = TensorSpec((batch, heads, steps, width // heads), x.spec.dtype)
        causal = bool(call.integer("unidirectional", 0))
        return self._add(
            title, "attention", call.op_type, [(qkv.id, qk), (qkv.id, qk), (qkv.id, v)], outs, [],
            {"causal": causal},
        )  # fmt: skip

    def _headwise(self, call: Call) -> list[tuple[int, TensorSpec]]:
        """q, k and v by heads (k and v with their past, which is read as part of them), masks."""
        q, k, v, _ = attention_shapes(call)
        past = PAST_SLOTS[call.op_type]
        found = []
        for slot, tensor in enumerate(call.inputs):
            if slot < 3 and tensor is not None:
                tensor = tensor if not tensor.constant else self.tensor(tensor.name, tensor.spec)
                found.append((tensor.id, TensorSpec((q, k, v)[slot], tensor.spec.dtype)))
            elif tensor is not None and not tensor.constant and slot not in (past, past + 1):
                found.append((tensor.id, tensor.spec))
        return found
