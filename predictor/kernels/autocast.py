"""Mixed precision as PyTorch's autocast does it: which operator computes in which element type.

Under autocast weights stay in fp32. Matrix products and convolutions cast what they read to half;
norms over channels, softmax, sums and some functions compute in fp32; everything else takes the
widest type of its inputs, so that one fp32 parameter (a position table, a layer scale) makes what
follows fp32. Every cast is a pass over memory. Source: "Autocast Op Reference", CUDA section, of
PyTorch's documentation (docs/stable/amp.html).
"""

from __future__ import annotations

from dataclasses import replace

from predictor.graph import Graph, Op, TensorSpec
from predictor.operators import make_op

LOWER = frozenset(("conv", "deform_conv", "linear", "matmul", "bilinear", "einsum", "attention",
                   "rnn"))  # fmt: skip
"""Kinds that compute in half precision."""
WIDE_NORMS = frozenset(("layer", "group", "lrn"))
WIDE_FUNCTIONS = frozenset(
    "pow exp expm1 log log2 log10 log1p rsqrt reciprocal acos asin cosh sinh tan erfinv softplus "
    "sum prod norm linalg_vector_norm cumsum cumprod cdist".split()
)
"""Functions that autocast computes in fp32."""
WIDEST = "float32"


def autocast(graph: Graph, half: str) -> Graph:
    """``graph`` with the element types and the casts that autocast to ``half`` gives it.

    Weights keep fp32; a cast of a weight happens once a pass, a cast of an activation at every
    reader that needs it, as in PyTorch.
    """
    return _Autocast(graph, half).run()


class _Autocast:
    def __init__(self, graph: Graph, half: str) -> None:
        self.graph, self.half = graph, half
        self.types: dict[int, str] = {}
        self.ops: list[Op] = []
        self.next_id = 1 + max(
            (t for op in graph.ops for t in (*op.input_ids, *op.output_ids)),
            default=max(graph.input_ids, default=0),
        )
        self.cast_weights: set[int] = set()

    def run(self) -> Graph:
        for op in self.graph.ops:
            self._place(op)
        return replace(self.graph, ops=tuple(self.ops))

    def _place(self, op: Op) -> None:
        inputs = (
            tuple(
                spec.cast(self.types.get(tensor, spec.dtype))
                for tensor, spec in zip(op.input_ids, op.inputs, strict=False)
            )
            + op.inputs[len(op.input_ids) :]
        )
        dtype = self._computes_in(op, inputs)
        ids, weights = op.input_ids, op.weights
        if dtype is not None and _casts(op):
            inputs, ids = self._cast_inputs(op, inputs, dtype)
            weights = self._cast_weights(op, dtype)
        out = dtype or self._widest(op, inputs)
        outputs = tuple(spec.cast(out) for spec in op.outputs) if out else op.outputs
        for tensor, spec in zip(op.output_ids, outputs, strict=False):
            self.types[tensor] = spec.dtype
        self.ops.append(make_op(
            op.name, op.kind, op.target, inputs, outputs, weights, ids, op.output_ids,
            op.weight_ids, op.attrs, op.params,
        ))  # fmt: skip

    def _computes_in(self, op: Op, inputs: tuple[TensorSpec, ...]) -> str | None:
        """The type that autocast prescribes, None where the inputs decide."""
        if op.kind in LOWER:
            return self.half
        wide = (
            op.kind == "softmax"
            or (op.kind == "norm" and op.attrs.get("type") in WIDE_NORMS)
            or op.attrs.get("fn") in WIDE_FUNCTIONS
        )
        if wide:
            return WIDEST
        if op.kind == "norm":  # batch norm and the like: the type of what is normalised
            return inputs[0].dtype if inputs and inputs[0].is_float else None
        return None

    def _widest(self, op: Op, inputs: tuple[TensorSpec, ...]) -> str | None:
        floats = [spec for spec in (*inputs, *op.weights) if spec.is_float]
        shaped = [spec for spec in floats if spec.shape] or floats
        if not shaped:
            return None
        return max((spec.dtype for spec in shaped), key=_width)

    def _cast_inputs(
        self, op: Op, inputs: tuple[TensorSpec, ...], dtype: str
    ) -> tuple[tuple[TensorSpec, ...], tuple[int, ...]]:
        specs, ids = list(inputs), list(op.input_ids)
        done: dict[int, int] = {}
        for i, spec in enumerate(specs):
            wanted = spec.cast(dtype)
            if wanted == spec or i >= len(ids):
                continue
            if ids[i] not in done:
                done[ids[i]] = self._cast(op, spec, wanted, (ids[i],))
            specs[i], ids[i] = wanted, done[ids[i]]
        return tuple(specs), tuple(ids)

    def _cast_weights(self, op: Op, dtype: str) -> tuple[TensorSpec, ...]:
        for index, spec in enumerate(op.weights):
            key = op.weight_ids[index] if index < len(op.weight_ids) else None
            if spec.cast(dtype) == spec or key in self.cast_weights:
                continue
            if key is not None:
                self.cast_weights.add(key)
            self._cast(op, spec, spec.cast(dtype), ())
        return tuple(spec.cast(dtype) for spec in op.weights)

    def _cast(self, op: Op, spec: TensorSpec, to: TensorSpec, ids: tuple[int, ...]) -> int:
        made = self.next_id
        self.next_id += 1
        self.ops.append(make_op(
            op.name, "copy", op.target, (spec,), (to,), (), ids, (made,), (), {"fn": "cast"},
        ))  # fmt: skip
        return made


def _casts(op: Op) -> bool:
    """Batch norm takes half activations beside fp32 statistics without a cast."""
    return not (op.kind == "norm" and op.attrs.get("type") not in WIDE_NORMS)


def _width(dtype: str) -> int:
    return {"float64": 3, "float32": 2}.get(dtype, 1)
