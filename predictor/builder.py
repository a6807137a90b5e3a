"""Build a :class:`~predictor.graph.Graph` call by call, shapes checked, no framework needed.

Layer lists, NAS keys and search spaces stand on it. The operators that it makes are those that
tracing the equivalent ``torch.nn`` module gives: same kinds, same attributes, same costs.

    b = GraphBuilder("tiny")
    x = b.input((1, 3, 224, 224))
    x = b.conv(x, 64, 3, stride=2, padding=1, name="stem")
    x = b.activation(b.batch_norm(x), "relu")
    graph = b.finish(b.linear(b.global_pool(x, flatten=True), 1000))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from predictor.errors import ModelError
from predictor.graph import Graph, Op, TensorSpec, Weight
from predictor.operators import make_op
from predictor.operators.base import pair
from predictor.operators.rnn import GATES

MAX_ELEMENTS = 1 << 40
"""A tensor of more elements than this is a mistake, not a network."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor in the graph under construction."""

    id: int
    spec: TensorSpec

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, batch first."""
        return self.spec.shape


class GraphBuilder:
    """Collects operators; every method returns the :class:`Value` that it makes.

    Errors: :class:`ModelError` with the layer's name and the shapes that do not fit.
    """

    def __init__(self, name: str, *, dtype: str = "float32", source: str = "layers") -> None:
        self.name, self.dtype, self.source = name, dtype, source
        self._ops: list[Op] = []
        self._weights: list[Weight] = []
        self._inputs: list[tuple[str, Value]] = []
        self._next = 0
        self._shared: dict[str, tuple[int, ...]] = {}

    # -- graph ----------------------------------------------------------------------------------

    def input(
        self, shape: Sequence[int], *, name: str = "input", dtype: str | None = None
    ) -> Value:
        """A tensor fed in from outside."""
        value = self._value(TensorSpec(tuple(shape), dtype or self.dtype), name)
        self._inputs.append((name, value))
        return value

    def finish(self, *outputs: Value, notes: Sequence[str] = ()) -> Graph:
        """The graph, with ``outputs`` as what it returns."""
        return Graph(
            self.name, tuple(self._ops), tuple(self._weights),
            tuple(value.id for _, value in self._inputs),
            tuple(name for name, _ in self._inputs),
            tuple(value.spec for _, value in self._inputs),
            tuple(value.id for value in outputs), self.source, tuple(notes),
        )  # fmt: skip

    def op(
        self, kind: str, inputs: Sequence[Value], out_shapes: Sequence[Sequence[int]], *,
        name: str = "", attrs: dict[str, Any] | None = None, dtype: str | None = None,
        weights: Sequence[tuple[str, Sequence[int], str]] = (), share: str | None = None,
    ) -> tuple[Value, ...]:  # fmt: skip
        """Any operator: ``weights`` are (name, shape, role); ``share`` ties weights by a key."""
        name = name or f"{kind}_{len(self._ops)}"
        first = inputs[0].spec if inputs else None
        dtype = dtype or (first.dtype if first else self.dtype)
        outs = []
        for shape in out_shapes:
            spec = first
            if spec is None or spec.shape != shape or spec.dtype != dtype:
                spec = TensorSpec(tuple(shape), dtype)
            outs.append(self._value(spec, name))
        ids = self._shared.get(share) if share is not None else None
        if ids is None:
            ids = self._weights_of(name, weights)
            if share is not None:
                self._shared[share] = ids
        used = [self._weights[i] for i in ids]
        self._ops.append(make_op(
            name, kind, kind, tuple([v.spec for v in inputs]), tuple([v.spec for v in outs]),
            tuple([w.spec for w in used]), tuple([v.id for v in inputs]),
            tuple([v.id for v in outs]), ids, attrs,
            sum([w.spec.numel for w in used if w.role == "parameter"]),
        ))  # fmt: skip
        return tuple(outs)

    def _weights_of(
        self, name: str, weights: Sequence[tuple[str, Sequence[int], str]]
    ) -> tuple[int, ...]:
        before = len(self._weights)
        spec = None
        for suffix, shape, role in weights:
            if spec is None or spec.shape != shape:  # a norm's four have one shape
                spec = TensorSpec(tuple(shape), self.dtype)
            self._weights.append(Weight(f"{name}.{suffix}", spec, role, role == "parameter"))
        return tuple(range(before, len(self._weights)))

    # -- layers ---------------------------------------------------------------------------------

    def conv(
        self, x: Value, out_channels: int, kernel: int | Sequence[int], *,
        stride: int | Sequence[int] = 1, padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1, groups: int = 1, bias: bool = True,
        transposed: bool = False, output_padding: int | Sequence[int] = 0, name: str = "",
    ) -> Value:  # fmt: skip
        """Convolution over (N, C, *spatial); ``padding="same"`` keeps ceil(size / stride)."""
        dims = len(x.shape) - 2
        label = name or "conv"
        if dims < 1 or dims > 3:
            raise ModelError(f"{label}: a convolution needs (N, C, ...), got {list(x.shape)}")
        ks, st, di = pair(kernel, dims), pair(stride, dims), pair(dilation, dims)
        channels, spatial = x.shape[1], x.shape[2:]
        _positive(label, kernel=ks, stride=st, dilation=di, groups=(groups,), out=(out_channels,))
        if channels % groups or out_channels % groups:
            raise ModelError(
                f"{label}: groups={groups} divides neither side evenly: "
                f"{channels} input and {out_channels} output channels"
            )
        if padding == "same":
            pads = tuple(d * (k - 1) // 2 for d, k in zip(di, ks, strict=True))
            size = tuple(-(-n // s) for n, s in zip(spatial, st, strict=True))
        else:
            if isinstance(padding, str):
                raise ModelError(f"{label}: padding is 'same' or a number, not '{padding}'")
            pads = pair(padding, dims)
            rows = zip(spatial, ks, st, pads, di, strict=True)
            if transposed:
                more = pair(output_padding, dims)
                size = tuple([(n - 1) * s - 2 * p + d * (k - 1) + 1 + extra for
                              (n, k, s, p, d), extra in zip(rows, more, strict=True)])  # fmt: skip
            else:
                size = tuple([(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in rows])
        if min(size) < 1:
            raise ModelError(
                f"{label}: kernel {list(ks)} does not fit into {list(spatial)} with padding "
                f"{list(pads)}; use padding: same, or a smaller kernel"
            )
        first, second = (channels, out_channels) if transposed else (out_channels, channels)
        weights: list[tuple[str, Sequence[int], str]] = [
            ("weight", (first, second // groups, *ks), "parameter")
        ]
        if bias:
            weights.append(("bias", (out_channels,), "parameter"))
        attrs = {"kernel": ks, "stride": st, "padding": pads, "dilation": di, "groups": groups,
                 "transposed": transposed, "bias": bias}  # fmt: skip
        return self.op("conv", [x], [(x.shape[0], out_channels, *size)], name=name, attrs=attrs,
                       weights=weights)[0]  # fmt: skip

    def linear(
        self, x: Value, out_features: int, *, bias: bool = True, name: str = "",
        share: str | None = None,
    ) -> Value:  # fmt: skip
        """x (..., in) -> (..., out)."""
        if not x.shape:
            raise ModelError(f"{name or 'linear'}: needs at least one dimension")
        _positive(name or "linear", out=(out_features,))
        weights: list[tuple[str, Sequence[int], str]] = [
            ("weight", (out_features, x.shape[-1]), "parameter")
        ]
        if bias:
            weights.append(("bias", (out_features,), "parameter"))
        return self.op("linear", [x], [(*x.shape[:-1], out_features)], name=name, weights=weights,
                       attrs={"k": x.shape[-1], "bias": bias}, share=share)[0]  # fmt: skip

    def matmul(self, a: Value, b: Value, *, name: str = "") -> Value:
        """a (..., m, k) @ b (..., k, n)."""
        if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
            raise ModelError(
                f"{name or 'matmul'}: {list(a.shape)} @ {list(b.shape)} does not fit: the last "
                "size of the first must equal the last but one of the second"
            )
        lead = _broadcast(a.shape[:-2], b.shape[:-2], name or "matmul")
        return self.op("matmul", [a, b], [(*lead, a.shape[-2], b.shape[-1])], name=name,
                       attrs={"k": a.shape[-1]})[0]  # fmt: skip

    def attention(
        self, q: Value, k: Value, v: Value, *, causal: bool = False, name: str = ""
    ) -> Value:
        """Scaled dot-product attention: q (B, H, L, E), k (B, H', S, E), v (B, H', S, E_v)."""
        if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
            raise ModelError(
                f"{name or 'attention'}: q {list(q.shape)}, k {list(k.shape)} and "
                f"v {list(v.shape)} do not fit"
            )
        return self.op("attention", [q, k, v], [(*q.shape[:-1], v.shape[-1])], name=name,
                       attrs={"causal": causal})[0]  # fmt: skip

    def rnn(
        self, x: Value, hidden: int, *, mode: str = "lstm", layers: int = 1,
        bidirectional: bool = False, bias: bool = True, batch_first: bool = True, name: str = "",
    ) -> Value:  # fmt: skip
        """LSTM, GRU or RNN over (batch, steps, features), or (steps, batch, features)."""
        if mode not in GATES or len(x.shape) != 3:
            raise ModelError(f"{name or mode}: needs (batch, steps, features), got {list(x.shape)}")
        _positive(name or mode, hidden=(hidden,), layers=(layers,))
        directions, rows = (2 if bidirectional else 1), GATES[mode] * hidden
        weights: list[tuple[str, Sequence[int], str]] = []
        for layer in range(layers):
            width = x.shape[-1] if layer == 0 else hidden * directions
            for suffix in ("", "_reverse")[:directions]:
                weights.append((f"weight_ih_l{layer}{suffix}", (rows, width), "parameter"))
                weights.append((f"weight_hh_l{layer}{suffix}", (rows, hidden), "parameter"))
                if bias:
                    weights.append((f"bias_ih_l{layer}{suffix}", (rows,), "parameter"))
                    weights.append((f"bias_hh_l{layer}{suffix}", (rows,), "parameter"))
        attrs = {"mode": mode, "hidden": hidden, "layers": layers, "bidirectional": bidirectional,
                 "bias": bias, "projection": 0,
                 "steps": x.shape[1 if batch_first else 0]}  # fmt: skip
        return self.op("rnn", [x], [(*x.shape[:-1], hidden * directions)], name=name, attrs=attrs,
                       weights=weights)[0]  # fmt: skip

    def batch_norm(self, x: Value, *, name: str = "") -> Value:
        """Inference batch norm over channels (axis 1), its running statistics being buffers."""
        return self._norm(x, "batch", x.shape[1], name, statistics=True)

    def layer_norm(self, x: Value, *, axes: int = 1, name: str = "") -> Value:
        """Layer norm over the last ``axes`` dimensions."""
        return self._norm(x, "layer", x.shape[-axes:], name)

    def rms_norm(self, x: Value, *, name: str = "") -> Value:
        """RMS norm over the last dimension."""
        return self._norm(x, "rms", x.shape[-1], name, bias=False)

    def group_norm(self, x: Value, groups: int, *, name: str = "") -> Value:
        """Group norm over (N, C, ...)."""
        if groups < 1 or x.shape[1] % groups:
            raise ModelError(f"{name or 'group_norm'}: {groups} groups, {x.shape[1]} channels")
        return self._norm(x, "group", x.shape[1], name, attrs={"groups": groups})

    def instance_norm(self, x: Value, *, name: str = "") -> Value:
        """Instance norm without affine parameters."""
        return self.op("norm", [x], [x.shape], name=name, attrs={"type": "instance"})[0]

    def activation(self, x: Value, fn: str = "relu", *, name: str = "") -> Value:
        """``fn`` is a key of :data:`predictor.operators.elementwise.ACTIVATION_FLOPS`."""
        return self.op("activation", [x], [x.shape], name=name, attrs={"fn": fn})[0]

    def softmax(self, x: Value, *, name: str = "") -> Value:
        """Softmax over one axis."""
        return self.op("softmax", [x], [x.shape], name=name)[0]

    def elementwise(self, fn: str, *values: Value, name: str = "") -> Value:
        """``fn`` (add, mul, ...) of tensors that broadcast."""
        shape: tuple[int, ...] = values[0].shape
        for value in values[1:]:
            shape = _broadcast(shape, value.shape, name or fn)
        return self.op("elementwise", values, [shape], name=name, attrs={"fn": fn})[0]

    def add(self, a: Value, b: Value, *, name: str = "") -> Value:
        """a + b."""
        return self.elementwise("add", a, b, name=name)

    def mul(self, a: Value, b: Value, *, name: str = "") -> Value:
        """a * b."""
        return self.elementwise("mul", a, b, name=name)

    def pool(
        self, x: Value, fn: str, kernel: int | Sequence[int], *,
        stride: int | Sequence[int] | None = None, padding: int | Sequence[int] = 0,
        ceil_mode: bool = False, name: str = "",
    ) -> Value:  # fmt: skip
        """Max or average pooling (``fn`` is ``max`` or ``avg``)."""
        dims = len(x.shape) - 2
        label = name or f"{fn}_pool"
        if dims < 1:
            raise ModelError(f"{label}: needs (N, C, ...), got {list(x.shape)}")
        ks, pads = pair(kernel, dims), pair(padding, dims)
        st = pair(kernel if stride is None else stride, dims)
        _positive(label, kernel=ks, stride=st)
        size = []
        for n, k, s, p in zip(x.shape[2:], ks, st, pads, strict=True):
            span = n + 2 * p - k
            steps = -(-span // s) if ceil_mode else span // s
            if ceil_mode and steps * s >= n + p:
                steps -= 1  # the last window must start inside the input or its left padding
            size.append(steps + 1)
        if min(size) < 1:
            raise ModelError(f"{label}: kernel {list(ks)} does not fit into {list(x.shape[2:])}")
        attrs = {"type": fn, "kernel": ks, "stride": st, "padding": pads}
        return self.op("pool", [x], [(*x.shape[:2], *size)], name=name, attrs=attrs)[0]

    def global_pool(
        self, x: Value, fn: str = "avg", *, flatten: bool = False, name: str = ""
    ) -> Value:
        """Pool to one position: (N, C, 1, ...), or (N, C) with ``flatten``."""
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:]))
        attrs = {"type": fn, "adaptive": True}
        out = self.op("pool", [x], [shape], name=name, attrs=attrs)[0]
        return self.reshape(out, x.shape[:2]) if flatten else out

    def embedding(self, ids: Value, rows: int, width: int, *, name: str = "") -> Value:
        """Rows of a (rows, width) table for integer ``ids``."""
        _positive(name or "embedding", rows=(rows,), width=(width,))
        return self.op("gather", [ids], [(*ids.shape, width)], name=name, dtype=self.dtype,
                       attrs={"fn": "embedding"},
                       weights=[("weight", (rows, width), "parameter")])[0]  # fmt: skip

    def resize(self, x: Value, size: Sequence[int], mode: str = "nearest", *,
               name: str = "") -> Value:  # fmt: skip
        """Interpolate (N, C, *spatial) to ``size``."""
        return self.op("resize", [x], [(*x.shape[:2], *size)], name=name, attrs={"mode": mode})[0]

    def concat(self, values: Sequence[Value], axis: int = 1, *, name: str = "") -> Value:
        """Join along ``axis``; all other sizes must be equal."""
        first = values[0].shape
        axis %= len(first)
        for value in values:
            rest = [n for i, n in enumerate(value.shape) if i != axis]
            if rest != [n for i, n in enumerate(first) if i != axis]:
                shapes = [list(v.shape) for v in values]
                raise ModelError(f"{name or 'concat'}: {shapes} do not join along axis {axis}")
        shape = list(first)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self.op("concat", values, [shape], name=name, attrs={"axis": axis})[0]

    def reshape(self, x: Value, shape: Sequence[int], *, name: str = "") -> Value:
        """Another shape of the same elements; one -1 is worked out."""
        sizes = list(shape)
        if sizes.count(-1) == 1:
            rest = math.prod(n for n in sizes if n != -1)
            sizes[sizes.index(-1)] = x.spec.numel // rest if rest else 0
        if any(n < 0 for n in sizes) or math.prod(sizes) != x.spec.numel:
            raise ModelError(
                f"{name or 'reshape'}: {list(x.shape)} has {x.spec.numel} elements, "
                f"{list(shape)} does not"
            )
        return self.op("reshape", [x], [sizes], name=name)[0]

    def transpose(self, x: Value, order: Sequence[int], *, name: str = "") -> Value:
        """Axes in another order."""
        if sorted(order) != list(range(len(x.shape))):
            raise ModelError(
                f"{name or 'transpose'}: {list(order)} is no order of {len(x.shape)} axes"
            )
        shape = [x.shape[i] for i in order]
        return self.op("transpose", [x], [shape], name=name, attrs={"order": tuple(order)})[0]

    def split(
        self, x: Value, sizes: Sequence[int], axis: int = 1, *, name: str = ""
    ) -> list[Value]:
        """Consecutive parts of ``sizes`` along ``axis``."""
        axis %= len(x.shape)
        if sum(sizes) != x.shape[axis] or min(sizes) < 1:
            raise ModelError(f"{name or 'split'}: {list(sizes)} do not add up to {x.shape[axis]}")
        shapes = [[n if i == axis else m for i, m in enumerate(x.shape)] for n in sizes]
        return list(self.op("slice", [x], shapes, name=name, attrs={"axis": axis}))

    # -- inside ---------------------------------------------------------------------------------

    def _norm(
        self, x: Value, kind: str, shape: int | Sequence[int], name: str, *, bias: bool = True,
        statistics: bool = False, attrs: dict[str, Any] | None = None,
    ) -> Value:  # fmt: skip
        size = (shape,) if isinstance(shape, int) else tuple(shape)
        weights: list[tuple[str, Sequence[int], str]] = [("weight", size, "parameter")]
        if bias:
            weights.append(("bias", size, "parameter"))
        if statistics:
            weights += [("running_mean", size, "buffer"), ("running_var", size, "buffer")]
        return self.op("norm", [x], [x.shape], name=name, weights=weights,
                       attrs={"type": kind, **(attrs or {})})[0]  # fmt: skip

    def _value(self, spec: TensorSpec, name: str) -> Value:
        if (spec.shape and min(spec.shape) < 0) or spec.numel > MAX_ELEMENTS:
            raise ModelError(f"{name}: a tensor of shape {list(spec.shape)} is out of range")
        value = Value(self._next, spec)
        self._next += 1
        return value


def _positive(label: str, **settings: Sequence[int]) -> None:
    for key, sizes in settings.items():
        if min(sizes) < 1:
            raise ModelError(f"{label}: {key} must be 1 or more, got {list(sizes)}")


def _broadcast(a: Sequence[int], b: Sequence[int], label: str) -> tuple[int, ...]:
    wide, narrow = (a, b) if len(a) >= len(b) else (b, a)
    padded = (1,) * (len(wide) - len(narrow)) + tuple(narrow)
    sizes = []
    for m, n in zip(wide, padded, strict=True):
        if m != n and 1 not in (m, n):
            raise ModelError(f"{label}: {list(a)} and {list(b)} do not broadcast")
        sizes.append(n if m == 1 else m)
    return tuple(sizes)
