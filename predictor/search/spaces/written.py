"""A graph of the builder's operators, written down as a layer list (``docs/layer-list.md``).

    layers_of(graph)     # [{"type": "conv2d", "out": 64, "kernel": 7, "name": "stem"}, ...]
    config_of(graph)     # model and inputs of a config.yaml, proved by building it again

Every operator becomes one layer, so that the two have the same operators in the same order. One
that layers have no word for is told apart by whether it moves data: a copy in place (``clone``) is
a cast to the type that is there already, and anything else an error.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from predictor.errors import ModelError
from predictor.graph import Graph, Op
from predictor.layer_types import (
    ACTIVATIONS,
    BINARY,
    BLOCK_INPUT,
    PREVIOUS,
    REDUCTIONS,
    UNARY,
    layer_types,
)

Layer = dict[str, Any]
"""A layer as the grammar reads it: ``type``, keys that differ from their defaults, ``name``."""


def layers_of(graph: Graph) -> list[Layer]:
    """The layers that make ``graph``; names are the operators', as far as names allow.

    Raises:
        ModelError: no layer type makes an operator; the message names it and the cause.
    """
    return _Text(graph).layers


def config_of(graph: Graph) -> dict[str, Any]:
    """``model`` and ``inputs`` of a configuration whose network is ``graph``.

    Raises:
        ModelError: it cannot be written as layers, or would cost something else.
    """
    from predictor.frontends.layer_list import build_layers

    text = _Text(graph)
    model: dict[str, Any] = {"name": graph.name, "layers": text.layers}
    if text.outputs:
        model["outputs"] = text.outputs
    if len(graph.input_specs) == 1 and graph.input_specs[0].dtype == "float32":
        inputs: Any = list(graph.input_specs[0].shape)
    else:
        inputs = {label: {"shape": list(spec.shape), "dtype": spec.dtype}
                  for label, spec in zip(text.labels, graph.input_specs, strict=True)}  # fmt: skip
    again = build_layers(text.layers, inputs, outputs=text.outputs)
    ours, theirs = ([op for op in g.ops if not op.is_view] for g in (graph, again))
    for op, other in zip(ours, theirs, strict=False):
        if _costs(op) != _costs(other):
            raise _refused(op, ": the layer nearest to it costs something else")
    if len(ours) != len(theirs):
        raise ModelError(f"{graph.name}: {len(ours)} operators became {len(theirs)} as layers; "
                         "keep the network as the code that makes it")  # fmt: skip
    return {"model": model, "inputs": inputs}


def _given(op: Op) -> tuple[int, ...]:
    """The tensors that the layer gives: of other kinds than a split the first (a pooling's
    positions, a recurrent layer's state are no layer's)."""
    return op.output_ids if op.kind == "slice" else op.output_ids[:1]


def _costs(op: Op) -> tuple[Any, ...]:
    return op.kind, op.macs, op.elementwise_flops, op.params, op.read_bytes, op.write_bytes


def _refused(op: Op, why: str = "") -> ModelError:
    what = " ".join(str(word) for word in (op.kind, op.attrs.get("fn")) if word)
    inputs = f"{len(op.inputs)} tensor{'s' * (len(op.inputs) != 1)}"
    return ModelError(f"{op.name}: no layer type makes this operator ({what} of {inputs}){why}; "
                      "keep the network as the code that makes it")  # fmt: skip


class _Text:
    """One walk over a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.labels = ("input",) if len(graph.input_ids) == 1 else graph.input_names
        self.names = dict(zip(graph.input_ids, self.labels, strict=True))
        self.taken = {*self.labels, PREVIOUS, BLOCK_INPUT}
        self.shares = self._shares()
        self.outputs: list[str] = []
        wanted = [] if self._ends() == list(graph.output_ids) else list(graph.output_ids)
        self.called = {*wanted, *self._called()}
        self.layers: list[Layer] = []
        previous = tuple(graph.input_ids) if len(graph.input_ids) == 1 else ()
        for index, op in enumerate(graph.ops):
            self.layers.append(self._layer(index, op, previous))
            previous = _given(op)
        self.outputs = [self.names[tensor] for tensor in wanted]

    def _ends(self) -> list[int]:
        """What a layer list without ``outputs`` returns."""
        read = {tensor for op in self.graph.ops for tensor in op.input_ids}
        ends = [tensor for op in self.graph.ops if not read & {*_given(op)}
                for tensor in _given(op)]  # fmt: skip
        last = _given(self.graph.ops[-1]) if self.graph.ops else self.graph.input_ids
        return list(dict.fromkeys([*ends, *last]))

    def _called(self) -> set[int]:
        """Tensors that a layer names, as they are not those of the layer above."""
        found: set[int] = set()
        previous = tuple(self.graph.input_ids)
        for op in self.graph.ops:
            found |= {t for t in op.input_ids if (t,) != previous}
            previous = _given(op)
        return found

    def _shares(self) -> dict[tuple[int, ...], str]:
        """Weights that several operators use, and a word for each."""
        uses = Counter(op.weight_ids for op in self.graph.ops if op.weight_ids)
        single = Counter(weight for ids in uses for weight in set(ids))
        for op in self.graph.ops:
            if any(single[weight] > 1 for weight in op.weight_ids):
                raise _refused(op, ": it shares some of its weights, but not all")
        several = [ids for ids, count in uses.items() if count > 1]
        return {ids: f"tied_{number}" for number, ids in enumerate(several, 1)}

    def _layer(self, index: int, op: Op, previous: Sequence[int]) -> Layer:
        if len(op.input_ids) != len(op.inputs) or not self.names.keys() >= {*op.input_ids}:
            raise _refused(op, ": it reads something that no layer makes")
        write = WRITERS.get(op.kind)
        try:
            layer = write(op) if write else None
        except KeyError as error:
            raise _refused(op, f": the graph does not say its {error.args[0]}") from None
        if layer is None:
            raise _refused(op)
        plain = op.name == f"{op.kind}_{index}"  # nobody gave it a name
        outs = _given(op)
        name = self._name(op.name) if not plain or self.called & {*outs} else ""
        if name:
            layer["name"] = name
        self.names |= {t: name if len(outs) == 1 else f"{name}.{i}" for i, t in enumerate(outs)}
        if op.weight_ids in self.shares:
            layer["share"] = self.shares[op.weight_ids]
        if op.input_ids != tuple(previous):
            read = [PREVIOUS if (t,) == tuple(previous) else self.names[t] for t in op.input_ids]
            layer["from"] = read[0] if len(read) == 1 else read
        return layer

    def _name(self, wanted: str) -> str:
        base = re.sub(r"[^A-Za-z0-9_-]+", "_", wanted).strip("_") or "layer"
        name, number = base, 2
        while name in self.taken:
            name, number = f"{base}_{number}", number + 1
        self.taken.add(name)
        return name


def _made(type_: str, **keys: Any) -> Layer:
    """A layer, keys at their defaults left out."""
    known = layer_types()[type_].keys
    return {"type": type_, **{k: v for k, v in keys.items() if v != known[k].default}}


def _short(sizes: Sequence[int]) -> Any:
    return sizes[0] if len(set(sizes)) == 1 else list(sizes)


def _conv(op: Op) -> Layer | None:
    a, old, new = op.attrs, op.inputs[0].shape, op.outputs[0].shape
    kernel, stride, pads, dilation = (a[k] for k in ("kernel", "stride", "padding", "dilation"))
    rows = list(zip(old[2:], new[2:], kernel, stride, pads, dilation, strict=True))
    keys: dict[str, Any] = {
        "out": new[1], "kernel": _short(kernel), "stride": _short(stride), "padding": _short(pads),
        "dilation": _short(dilation), "groups": a["groups"], "bias": a["bias"],
    }  # fmt: skip
    if a.get("transposed"):
        extra = [m - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in rows]
        return _made(f"conv_transpose{len(kernel)}d", **keys, output_padding=_short(extra))
    if any((n + 2 * p - d * (k - 1) - 1) // s + 1 != m for n, m, k, s, p, d in rows):
        keys["padding"] = "same"
    return _made(f"conv{len(kernel)}d", **keys)


def _linear(op: Op) -> Layer | None:
    return _made("linear", out=op.outputs[0].shape[-1], bias=op.attrs["bias"])


def _attention(op: Op) -> Layer | None:
    return _made("attention", causal=op.attrs.get("causal", False)) if len(op.inputs) == 3 else None


def _rnn(op: Op) -> Layer | None:
    a, keys = op.attrs, ("hidden", "layers", "bidirectional", "bias")
    first = a.get("steps") == op.inputs[0].shape[1]
    return _made(a["mode"], **{key: a[key] for key in keys}, batch_first=first)


def _norm(op: Op) -> Layer | None:
    kind = op.attrs.get("type")
    if kind == "layer":
        return _made("layer_norm", axes=len(op.weights[0].shape)) if op.weights else None
    if kind == "group":
        return _made("group_norm", groups=op.attrs["groups"])
    return _made(f"{kind}_norm") if kind in ("batch", "rms", "instance") else None


def _activation(op: Op) -> Layer | None:
    fn = op.attrs.get("fn")
    if fn not in ACTIVATIONS:
        return None
    if fn == "prelu":
        return _made(fn, per_channel=bool(op.weights) and op.weights[0].numel > 1)
    if fn == "glu":
        pairs = zip(op.inputs[0].shape, op.outputs[0].shape, strict=True)
        axis = next(i for i, (n, m) in enumerate(pairs) if n != m)
        return _made(fn, axis=-1 if axis == len(op.outputs[0].shape) - 1 else axis)
    return _made(fn)


def _softmax(op: Op) -> Layer | None:
    return _made("softmax", axis=op.attrs.get("axis", -1))


def _elementwise(op: Op) -> Layer | None:
    fn, shape = op.attrs.get("fn"), op.inputs[0].shape if op.inputs else ()
    if op.weights:
        weight = op.weights[0].shape
        if fn == "add" and weight == (1, *shape[1:]):
            return _made("position_embedding")
        return _made("scale") if fn == "mul" and weight == shape[-1:] else None
    fits = len(op.inputs) == 1 if fn in UNARY else fn in BINARY and len(op.inputs) > 1
    return _made(str(fn)) if fits else None


def _pool(op: Op) -> Layer | None:
    a, old, new = op.attrs, op.inputs[0].shape, op.outputs[0].shape
    fn = a.get("type")
    if fn not in ("max", "avg"):
        return None
    if a.get("adaptive"):
        if len(new) == 2 or set(new[2:]) == {1}:
            return _made(f"global_{fn}_pool", flatten=len(new) == 2)
        return _made(f"adaptive_{fn}_pool", size=_short(new[2:]))
    kernel, stride, pads = a["kernel"], a["stride"], a["padding"]
    rows = zip(old[2:], new[2:], kernel, stride, pads, strict=True)
    up = any((n + 2 * p - k) // s + 1 != m for n, m, k, s, p in rows)
    step = None if tuple(stride) == tuple(kernel) else _short(stride)
    return _made(f"{fn}_pool", kernel=_short(kernel), stride=step, padding=_short(pads),
                 ceil_mode=up)  # fmt: skip


def _gather(op: Op) -> Layer | None:
    if op.attrs.get("fn") != "embedding" or not op.weights:
        return None
    rows, width = op.weights[0].shape
    return _made("embedding", rows=rows, width=width)


def _resize(op: Op) -> Layer | None:
    return _made("resize", size=_short(op.outputs[0].shape[2:]), mode=op.attrs["mode"])


def _concat(op: Op) -> Layer | None:
    axis = op.attrs.get("axis", 1)
    if op.weights:
        own = len(op.inputs) == 1 and axis == 1 and op.weights[0].shape[:2] == (1, 1)
        return _made("class_token") if own else None
    return _made("concat", axis=axis) if len(op.inputs) > 1 else None


def _reshape(op: Op) -> Layer | None:
    old, new = op.inputs[0].shape, op.outputs[0].shape
    if len(op.inputs) != 1:
        return None
    for start in range(1, len(old) - 1):
        if new == (*old[:start], math.prod(old[start:])):
            return _made("flatten", start=start)
    if not new or not old:
        return None
    first = 0 if new[0] == old[0] else -1  # so that another batch fits
    return _made("reshape", shape=[first, *new[1:]])


def _transpose(op: Op) -> Layer | None:
    order = op.attrs.get("order") or _order(op.inputs[0].shape, op.outputs[0].shape)
    if order is None:
        return None
    moved = [i for i, axis in enumerate(order) if i != axis]
    if len(moved) == 2:
        return _made("transpose", axes=moved)
    return _made("permute", order=list(order))


def _order(old: Sequence[int], new: Sequence[int]) -> tuple[int, ...] | None:
    """The only order of axes that makes ``new`` of ``old``, the batch staying in front."""
    if len(old) > 6 or sorted(old) != sorted(new) or old[:1] != new[:1]:
        return None
    rest = itertools.permutations(range(1, len(old)))
    fits = [(0, *order) for order in rest if [old[i] for i in order] == list(new[1:])]
    return fits[0] if len(fits) == 1 else None


def _slice(op: Op) -> Layer | None:
    old, new = op.inputs[0].shape, op.outputs[0].shape
    axis = op.attrs.get("axis", 1)
    if len(op.outputs) > 1 and len(new) < len(old):
        return None  # several positions at once, each without the axis
    if len(op.outputs) > 1:
        return _made("split", sizes=[out.shape[axis] for out in op.outputs], axis=axis)
    if len(new) < len(old):
        return _made("select", axis=axis, index=op.attrs.get("index", 0))
    start = op.attrs.get("start", 0)
    step = op.attrs.get("step", 1)
    stop = start + (new[axis] - 1) * step + 1
    return _made("slice", axis=axis, start=start, stop=stop, step=step)


def _copy(op: Op) -> Layer | None:
    fn, old, new = op.attrs.get("fn"), op.inputs[0].shape, op.outputs[0].shape
    if op.attrs.get("into") is not None:
        return None
    if fn in ("_to_copy", "clone"):  # a cast to the same type is a plain copy
        return _made("cast", dtype=op.outputs[0].dtype)
    if fn == "constant_pad_nd":
        ends = [((m - n) // 2, m - n - (m - n) // 2) for n, m in zip(old, new, strict=True)]
        given = op.attrs.get("padding")
        pads = [size for end in reversed(ends[2:]) for size in end]
        return _made("pad", padding=list(given) if given is not None else pads)
    if fn in ("pixel_shuffle", "pixel_unshuffle"):
        return _made(fn, factor=max(new[2] // old[2], old[2] // new[2]))
    if fn == "channel_shuffle" and "groups" in op.attrs:
        return _made(fn, groups=op.attrs["groups"])
    return None


def _reduce(op: Op) -> Layer | None:
    fn, old, new = op.attrs.get("fn"), op.inputs[0].shape, op.outputs[0].shape
    if fn not in REDUCTIONS:
        return None
    keep = len(old) == len(new)
    axes = op.attrs.get("axes")
    if axes is None:
        axes = _gone(old, new, keep)
    return _made(str(fn), axes=_short(axes), keepdim=keep) if axes else None


def _gone(old: Sequence[int], new: Sequence[int], keep: bool) -> list[int]:
    """Axes whose reduction gives ``new``; where several would, the last ones."""
    if keep:
        return [i for i, (n, m) in enumerate(zip(old, new, strict=True)) if n != m]
    gone, left = [], 0
    for i, size in enumerate(old):
        if left < len(new) and new[left] == size:
            left += 1
        else:
            gone.append(i)
    return gone if left == len(new) else []


WRITERS: dict[str, Callable[[Op], Layer | None]] = {
    "conv": _conv, "linear": _linear, "matmul": lambda op: _made("matmul"),
    "attention": _attention, "rnn": _rnn, "norm": _norm, "activation": _activation,
    "softmax": _softmax, "elementwise": _elementwise, "pool": _pool, "gather": _gather,
    "resize": _resize, "concat": _concat, "reshape": _reshape, "transpose": _transpose,
    "slice": _slice, "copy": _copy, "reduce": _reduce,
}  # fmt: skip
"""Who writes operators of a kind; None: no layer is this operator."""
