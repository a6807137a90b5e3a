"""The recorder behind :func:`predictor.trace`: sees every torch operator of a forward pass.

Two hooks at once: a function mode takes calls that torch would break up (linear, attention, RNNs)
as one operator; a dispatch mode sees the rest below autograd. ``Module.__call__`` is wrapped while
a trace runs, which gives each operator the path of the module that it belongs to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from predictor.frontends.torch_functions import Functions
from predictor.frontends.torch_shapes import SHAPES, quick_result
from predictor.frontends.torch_tape import Tape
from predictor.frontends.torch_tensors import flat_tensors, out_tensors, spec_of, tensors_in
from predictor.graph import VIEW_KINDS, Graph, Op, TensorSpec, Weight
from predictor.operators import KINDS, AtenCall, aten_rules, make_op
from predictor.operators.base import AtenRule

SMALL = 4096
"""Constants of at most this many elements keep their values, so that ``.item()`` works on them."""

_SAME_VALUE = frozenset({"detach", "alias", "lift_fresh", "lift", "_conj", "positive", "set"})
_OVERWRITES = frozenset({"copy", "fill", "zero", "normal", "uniform"})
"""In-place calls that do not read what they overwrite."""
_OPERANDS = frozenset({"attention", "einsum", "bilinear"})
"""Kinds whose operands are told apart by position, stored or not."""
_NOTHING = ("empty", "new_empty", "_local_scalar_dense", "is_same_size", "_assert", "sym_",
            "resize", "record_stream", "item", "is_nonzero", "equal", "device")  # fmt: skip
"""Name prefixes of calls that launch nothing and compute nothing worth counting."""


class _Known:
    """What is known of one torch operator overload, looked up once."""

    __slots__ = ("alias", "copies", "inplace", "nothing", "rule", "shape", "target")

    def __init__(self, func: Any) -> None:
        packet = func._schema.name.replace("::", ".")
        self.target = f"{packet}.{func._overloadname}"
        self.inplace = packet.endswith("_") and not packet.endswith("__")
        bare = packet[:-1] if self.inplace else packet
        short = bare.partition(".")[2]
        self.shape = SHAPES.get(self.target)
        own = bare.startswith(("aten.", "prim."))  # other libraries' operators may do anything
        self.nothing = own and short.startswith(_NOTHING)
        self.alias = own and short in _SAME_VALUE
        self.copies = self.inplace and own and short in _OVERWRITES
        rule = aten_rules.get(f"{bare}.{func._overloadname}", aten_rules.get(bare))
        self.rule: AtenRule = (f"unknown:{bare}", {}) if rule is None else rule


_KNOWN: dict[Any, _Known] = {}


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the operators of one forward pass.

    Args:
        weights: the model's parameters and buffers by tensor identity.
        twin: gives the stand-in without storage for a real tensor.
        device: where stand-ins live ("meta"), or None to leave devices alone.
        tape: takes down every call, so that the forward can be played again without the module.
    """

    def __init__(
        self,
        weights: Mapping[int, Weight],
        twin: Callable[[torch.Tensor], torch.Tensor],
        device: str | None,
        tape: Tape | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = tape
        self.device, self.notes = device, list[str]()
        self._weights = list(weights.values())
        self._weight_of: dict[int, tuple[int, TensorSpec]] = {
            key: (index, weight.spec) for index, (key, weight) in enumerate(weights.items())
        }
        self._make_twin, self._twins = twin, dict[int, torch.Tensor]()
        self._ids: dict[int, int] = {}
        self._seen_through: dict[int, torch.Tensor] = {}
        self._stale = set[int]()
        self._keep: list[Any] = []
        self._next = 0
        self._ops: list[Op] = []
        self._inputs: list[tuple[int, str, TensorSpec]] = []
        self._outputs: tuple[int, ...] = ()
        self.results: list[torch.Tensor] = []
        self._path = [""]
        self.busy = 0
        self.functions = Functions(self)

    # -- what trace() calls -----------------------------------------------------------------------

    def add_inputs(self, tensors: Sequence[Any], names: Sequence[str]) -> None:
        """Number the tensors that are fed in."""
        for value, name in zip(tensors, names, strict=True):
            for tensor in tree_flatten(value)[0]:
                if isinstance(tensor, torch.Tensor):
                    self._inputs.append((self._new_id(tensor), name, spec_of(tensor)))
                    if self.tape is not None:
                        self.tape.feed(tensor)

    def run(self, module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run the forward with all hooks in place."""
        names = {id(m): path for path, m in module.named_modules()}
        original = torch.nn.Module.__call__
        owner = threading.get_ident()

        def call(this: torch.nn.Module, *a: Any, **k: Any) -> Any:
            if threading.get_ident() != owner:
                return original(this, *a, **k)
            self._path.append(names.get(id(this), self._path[-1]))
            try:
                custom = f"custom:{type(this).__name__}"
                if custom in KINDS and not self.busy:
                    return self._whole_module(custom, this, original, a, k)
                return original(this, *a, **k)
            finally:
                self._path.pop()

        torch.nn.Module.__call__ = call  # type: ignore[method-assign]
        try:
            with self, self.functions:
                return module(*args, **kwargs)
        finally:
            torch.nn.Module.__call__ = original  # type: ignore[method-assign]

    @property
    def count(self) -> int:
        """Operators noted so far."""
        return len(self._ops)

    def add_outputs(self, result: Any) -> None:
        """Note which tensors the forward returned (containers and dataclasses opened)."""
        self.results = tensors_in(result)
        self._outputs = tuple(
            self._ids[id(t)] for t in self.results if id(t) in self._ids
        )  # fmt: skip

    def graph(self, name: str) -> Graph:
        """What was recorded."""
        return Graph(
            name, tuple(self._ops), tuple(self._weights),
            tuple(i for i, _, _ in self._inputs), tuple(n for _, n, _ in self._inputs),
            tuple(s for _, _, s in self._inputs), self._outputs, "torch", tuple(self.notes),
        )  # fmt: skip

    # -- recording --------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note one operator and return its result without computing it."""
        kwargs = kwargs or {}
        if self.busy:
            return func(*args, **kwargs)
        before = len(self._ops)
        out = self._noted(func, args, kwargs)
        if self.tape is not None:
            self.tape.call(func, args, kwargs, out, before if self.count > before else -1)
        return out

    def _noted(self, func: Any, args: Any, kwargs: Any) -> Any:
        known = _KNOWN.get(func)
        if known is None:
            known = _KNOWN[func] = _Known(func)
        flat = flat_tensors(args, kwargs)
        self.busy += 1
        try:
            out = self._evaluate(func, known, args, kwargs, flat)
        finally:
            self.busy -= 1
        if known.nothing:
            return out
        rule = known.rule
        kind, attrs = rule if isinstance(rule, tuple) else rule(AtenCall(args, kwargs))
        is_view = kind in VIEW_KINDS
        if known.alias or (is_view and flat and id(flat[0]) in self._weight_of):
            self._same_value(flat[0], out)
            return out
        outs = out_tensors(out)
        if is_view:
            for view in outs:
                if view is not flat[0]:  # in-place views return what they were given
                    self._seen_through[id(view)] = flat[0]
        elif known.inplace and flat:
            attrs = {**attrs, "inplace": True}
            if outs and outs[0] is not flat[0] and id(flat[0]) not in self._weight_of:
                # A stand-in was written to; from here on the tensor's own contents mean nothing.
                outs = [flat[0]]
                out = flat[0]
                self._mark_stale(flat[0])
            if known.copies:
                attrs["into"] = self._ids.get(id(flat[0])) or self._constant(flat[0])
                flat = flat[1:]
        self.record(kind, known.target, flat, outs, attrs)
        if known.inplace and outs:
            self._written_through(outs[0])
        return out

    def record(
        self,
        kind: str,
        target: str,
        tensors: Sequence[torch.Tensor],
        outs: Sequence[torch.Tensor],
        attrs: dict[str, Any],
    ) -> None:
        """Append an operator; tensors that are weights are told from activations here."""
        input_ids, inputs, weight_ids, weights, params = [], [], [], [], 0
        for tensor in tensors:
            held = self._weight_of.get(id(tensor))
            if held is not None:
                weight_ids.append(held[0])
                weights.append(held[1])
                if self._weights[held[0]].role == "parameter":
                    params += held[1].numel
            else:
                input_ids.append(self._ids.get(id(tensor)) or self._constant(tensor))
                inputs.append(spec_of(tensor))
        if weights and (not inputs or kind in _OPERANDS):
            # Computed from weights alone (a standardised kernel, a position table), or an operand
            # that happens to be stored: formulas look for it among the inputs.
            self._record_stored(kind, target, tensors, outs, attrs, params)
            return
        if kind == "matmul" and any(len(w.shape) == 2 for w in weights):
            kind = "linear"  # a product with a stored matrix, however it was written
        outputs = tuple(spec_of(out) for out in outs)
        output_ids = tuple(self._new_id(out) for out in outs)
        self._ops.append(make_op(
            self._path[-1], kind, target, tuple(inputs), outputs, tuple(weights),
            tuple(input_ids), output_ids, tuple(weight_ids), attrs, params,
        ))  # fmt: skip

    def _record_stored(
        self, kind: str, target: str, tensors: Sequence[torch.Tensor],
        outs: Sequence[torch.Tensor], attrs: dict[str, Any], params: int,
    ) -> None:  # fmt: skip
        ids = tuple(self._ids.get(id(t)) or self._constant(t) for t in tensors)
        held = [self._weight_of[id(t)][0] for t in tensors if id(t) in self._weight_of]
        self._ops.append(make_op(
            self._path[-1], kind, target, tuple(spec_of(t) for t in tensors),
            tuple(spec_of(out) for out in outs), (), ids,
            tuple(self._new_id(out) for out in outs), tuple(held), attrs, params,
        ))  # fmt: skip

    def _mark_stale(self, tensor: torch.Tensor | None) -> None:
        while tensor is not None and id(tensor) not in self._stale:
            self._stale.add(id(tensor))
            tensor = self._seen_through.get(id(tensor))

    def _written_through(self, view: torch.Tensor) -> None:
        """Writing to a view changes what it was taken from: later readers wait for the write."""
        done = set[int]()
        while (base := self._seen_through.get(id(view))) is not None and id(base) not in done:
            if id(base) in self._weight_of:
                return
            done.add(id(base))
            ids = (self._ids.get(id(base)) or self._constant(base), self._ids[id(view)])
            spec = spec_of(base)
            self._ops.append(make_op(
                self._path[-1], "reshape", "aten.view.default", (spec, spec_of(view)), (spec,), (),
                ids, (self._new_id(base),),
            ))  # fmt: skip
            view = base

    def empty(self, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """A result tensor for an operator whose shape is worked out here."""
        self.busy += 1
        try:
            device = self.device or like.device
            return torch.empty(tuple(shape), dtype=like.dtype, device=device)
        finally:
            self.busy -= 1

    def _evaluate(
        self, func: Any, known: _Known, args: Any, kwargs: Any, tensors: Sequence[torch.Tensor]
    ) -> Any:
        if self.device and known.shape is not None:
            return known.shape(args, self._path[-1])
        if not tensors and self.device:
            return self._constant_or_meta(func, args, kwargs)
        real = [t for t in tensors if not t.is_meta]
        if self.device and len(real) == len(tensors):
            small = sum(t.numel() for t in tensors) <= SMALL
            touched = known.inplace and any(id(t) in self._weight_of for t in tensors)
            if small and not touched and not any(id(t) in self._stale for t in tensors):
                return func(*args, **kwargs)
        if real or self.device is None:
            args = [self._stand_in(value) for value in args]
            kwargs = {name: self._stand_in(value) for name, value in kwargs.items()}
        if self.device and kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": self.device}
        out = quick_result(known.target, args, kwargs) if self.device else None
        if out is None:
            out = func(*args, **kwargs)
        return args[0] if known.inplace and not real and out is not None else out

    def _stand_in(self, value: Any) -> Any:
        """An argument with its tensors replaced; torch operators nest no deeper than lists."""
        if isinstance(value, torch.Tensor):
            return self._twin(value)
        if isinstance(value, (list, tuple)):
            return [self._twin(v) if isinstance(v, torch.Tensor) else v for v in value]
        return value

    def _constant_or_meta(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A tensor made from nothing: small ones keep their values, large ones get no storage."""
        shaped = func(*args, **{**kwargs, "device": "meta"}) if "device" in _names(func) else None
        if isinstance(shaped, torch.Tensor) and (
            shaped.numel() > SMALL or torch.device(kwargs.get("device") or "cpu").type == "meta"
        ):
            return shaped
        return func(*args, **kwargs)

    def _twin(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.device and tensor.is_meta:
            return tensor
        if self.device is None and id(tensor) in self._ids:
            return tensor
        twin = self._twins.get(id(tensor))
        if twin is None:
            twin = self._twins[id(tensor)] = self._make_twin(tensor)
            self._keep.append(tensor)
        return twin

    def _same_value(self, source: torch.Tensor, out: Any) -> None:
        for tensor in out_tensors(out):
            if tensor is source:
                continue
            self._keep.append(tensor)
            if id(source) in self._weight_of:
                self._weight_of[id(tensor)] = (self._weight_of[id(source)][0], spec_of(tensor))
            else:
                self._ids[id(tensor)] = self._ids.get(id(source)) or self._constant(source)

    def _whole_module(
        self, kind: str, module: torch.nn.Module, call: Any, args: Any, kwargs: Any
    ) -> Any:
        """A module class with a registered formula counts as one operator."""
        silent = Recorder({}, self._make_twin, self.device)
        silent._twins, silent._keep = self._twins, self._keep
        self.busy += 1  # the modes of this recorder stay on: they must let the inside through
        try:
            with silent:
                out = call(module, *args, **kwargs)
        finally:
            self.busy -= 1
        self._keep.append((args, kwargs, out))
        weights = [p for p in module.parameters() if id(p) in self._weight_of]
        tensors = flat_tensors(args, kwargs)
        self.record(kind, type(module).__name__, [*tensors, *weights], out_tensors(out), {})
        return out

    def _new_id(self, tensor: torch.Tensor) -> int:
        # Identities are only unique among living objects, so every tensor met is kept alive.
        self._keep.append(tensor)
        self._next += 1
        self._ids[id(tensor)] = self._next
        return self._next

    def _constant(self, tensor: torch.Tensor) -> int:
        """A tensor that came from nowhere: an attribute that is neither parameter nor buffer."""
        return self._new_id(tensor)


def _names(func: Any) -> set[str]:
    return {argument.name for argument in func._schema.arguments}
