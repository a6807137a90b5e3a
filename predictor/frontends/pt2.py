"""Read ``torch.export`` archives (``.pt2``) without torch: the graph is JSON, nothing is unpickled.

Operators are those before decomposition (``aten.conv2d``, ``aten.linear``, ``aten.lstm``), each
with the path of the module that it came from. Sizes are those of the export; open ones take the
example's, and a batch where one is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predictor.errors import ModelError, PredictorError
from predictor.frontends.onnx_file import checked_spec
from predictor.frontends.pt2_file import SCALAR_TYPES, Sizes, load_program
from predictor.graph import VIEW_KINDS, Graph, Op, TensorSpec, Weight
from predictor.operators import AtenCall, aten_rules, make_op

_STORED = (
    ("parameter", "parameter", "parameter_name"),
    ("buffer", "buffer", "buffer_name"),
    ("tensor_constant", "constant", "tensor_constant_name"),
)
"""Kinds of stored inputs in the signature: their role here, and where their name stands."""
_OPERANDS = {"attention", "einsum", "bilinear"}
"""Kinds whose operands are told apart by position, stored or not."""
MAX_DEPTH = 16
"""Graphs inside graphs (conditions, autocast regions)."""
_NOTHING = ("sym_", "_assert", "item", "_local_scalar_dense", "empty", "new_empty", "is_nonzero",
            "record_stream", "_print", "resize")  # fmt: skip
"""Name prefixes of calls that launch nothing."""
_SAME_VALUE = {"dropout", "feature_dropout", "alpha_dropout", "detach", "alias", "lift_fresh",
               "lift", "positive", "native_dropout", "requires_grad"}  # fmt: skip
_MAY_COPY = {"to", "contiguous", "type_as", "_to_copy", "float", "half", "reshape", "flatten"}
"""Views, or nothing at all, that copy where element type or layout make them."""
_INLINED = ("wrap_with_set_grad_enabled", "wrap_with_autocast", "cond", "wrap", "invoke_subgraph",
            "checkpoint", "strict_mode", "hints_wrapper")  # fmt: skip
_MALFORMED = (
    AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, ZeroDivisionError,
    RecursionError,
)  # fmt: skip


def read_pt2(
    path: str | os.PathLike[str], *, batch: int | None = None, name: str | None = None
) -> Graph:
    """Read a ``torch.export.save`` archive.

    Args:
        path: the archive.
        batch: first dimension of the inputs; the export must have left it open (or fixed this
            very number). None takes the example's.
        name: name of the graph; None takes the file's name.

    Raises:
        ModelError: no archive, damaged, of an unknown version, or a batch that the export fixes
            otherwise.
    """
    place = str(path)
    program, places = load_program(path)
    reader = _Reader(place, places)
    try:
        return reader.read(program["graph_module"], name or Path(path).stem, batch)
    except PredictorError:
        raise
    except _MALFORMED as error:
        raise ModelError(
            f"{reader.at}: the graph in the archive is damaged ({type(error).__name__}: {error}); "
            "save it again with torch.export.save",
            file=place,
        ) from error


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor as rules see it. ``weight`` is an index into the weights, or -1."""

    shape: tuple[int, ...]
    dtype: str
    id: int = -1
    weight: int = -1
    dense: bool = True
    """Rows lie one after the other, so that any reshape is a view."""

    @property
    def spec(self) -> TensorSpec:
        """Shape and element type."""
        return TensorSpec(self.shape, self.dtype)


class _Reader:
    def __init__(self, place: str, stored: Mapping[str, str]) -> None:
        self.place, self.at, self.stored = place, "signature", stored
        self.tied: dict[str, int] = {}
        self.sizes = Sizes({})
        self.weights: list[Weight] = []
        self.ops: list[Op] = []
        self.notes: list[str] = []
        self.next = 0

    def read(self, module: Mapping[str, Any], name: str, batch: int | None) -> Graph:
        """The graph of a serialized GraphModule."""
        graph, signature = module["graph"], module["signature"]
        users = [spec["user_input"]["arg"]["as_tensor"]["name"]
                 for spec in signature["input_specs"]
                 if "as_tensor" in spec.get("user_input", {}).get("arg", {})]  # fmt: skip
        self._bind(graph, users, batch)
        names: dict[str, Any] = {}
        inputs: list[tuple[str, _Tensor]] = []
        for spec in signature["input_specs"]:
            self._input(graph, spec, names, inputs)
        self._nodes(graph, names, 0)
        outputs: list[int] = []
        for spec in signature["output_specs"]:
            value = self._argument(spec.get("user_output", {}).get("arg", {"as_none": True}),
                                   names, graph)  # fmt: skip
            outputs += [t.id for t in _tensors([value]) if t.id >= 0]
        if not self.ops:
            raise ModelError("the graph has no operators", file=self.place)
        return Graph(
            name, tuple(self.ops), tuple(self.weights), tuple(t.id for _, t in inputs),
            tuple(n for n, _ in inputs), tuple(t.spec for _, t in inputs), tuple(outputs), "pt2",
            tuple(dict.fromkeys(self.notes)),
        )  # fmt: skip

    # -- inputs -----------------------------------------------------------------------------

    def _bind(self, graph: Mapping[str, Any], users: Sequence[str], batch: int | None) -> None:
        if batch is not None and batch < 1:
            raise ModelError(f"batch must be 1 or more, got {batch}", file=self.place)
        given: dict[str, int] = {}
        for key in users:
            for position, size in enumerate(graph["tensor_values"][key]["sizes"]):
                symbol = self.sizes.symbol(size)
                if symbol is None:
                    if position == 0 and batch is not None and self.sizes.of(size) != batch:
                        raise ModelError(
                            f"input '{key}' was exported with batch {self.sizes.of(size)} fixed; "
                            "export with dynamic_shapes to open it",
                            file=self.place,
                        )
                elif position == 0 and batch is not None:
                    given[symbol] = batch
                else:
                    self.notes.append(
                        f"input '{key}': dimension {position} is open; read with the example's "
                        f"{self.sizes.of(size)}"
                    )
        hints = self.sizes.hints
        self.sizes = Sizes(given)
        self.sizes.hints = hints

    def _input(
        self, graph: Mapping[str, Any], spec: Mapping[str, Any], names: dict[str, Any],
        inputs: list[tuple[str, _Tensor]],
    ) -> None:  # fmt: skip
        for kind, role, key in _STORED:
            if kind in spec:
                name = spec[kind]["arg"]["name"]
                meta = self._meta(graph, name)
                trains = role == "parameter" and bool(
                    graph["tensor_values"][name].get("requires_grad", True)
                )
                title = str(spec[kind][key])
                index = self.tied.setdefault(self.stored.get(title, title), len(self.weights))
                if index == len(self.weights):
                    self.weights.append(Weight(title, meta.spec, role, trains))
                names[name] = _Tensor(meta.shape, meta.dtype, weight=index, dense=meta.dense)
                return
        argument = spec.get("user_input", {}).get("arg", {})
        if "as_tensor" in argument:
            name = argument["as_tensor"]["name"]
            names[name] = self._fresh(self._meta(graph, name))
            inputs.append((name, names[name]))

    def _meta(self, graph: Mapping[str, Any], name: str) -> _Tensor:
        meta = graph["tensor_values"][name]
        shape = tuple(self.sizes.of(size) for size in meta["sizes"])
        dtype = SCALAR_TYPES.get(meta["dtype"])
        if dtype is None:
            raise ModelError(
                f"{self.at}: tensor '{name}' has the unknown element type {meta['dtype']}",
                file=self.place,
            )
        spec = checked_spec(shape, dtype, f"{self.place}: tensor '{name}'")
        expected, dense = 1, True
        strides = [self.sizes.of(stride) for stride in meta.get("strides", ())]
        for size, stride in zip(reversed(shape), reversed(strides), strict=False):
            dense &= size == 1 or stride == expected
            expected *= size
        return _Tensor(spec.shape, spec.dtype, dense=dense)

    def _fresh(self, tensor: _Tensor) -> _Tensor:
        self.next += 1
        return _Tensor(tensor.shape, tensor.dtype, self.next - 1, dense=tensor.dense)

    # -- nodes ------------------------------------------------------------------------------

    def _nodes(self, graph: Mapping[str, Any], names: dict[str, Any], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ModelError(f"graphs nest deeper than {MAX_DEPTH}", file=self.place)
        for node in graph["nodes"]:
            target = str(node["target"]).removeprefix("torch.ops.")
            self.at = f"node '{node.get('name') or target}' ({target})"
            arguments = [self._argument(a["arg"], names, graph) for a in node["inputs"]]
            outs = [(key, self._meta(graph, key)) for key in _output_names(node["outputs"])]
            if target.startswith("higher_order."):
                self._higher(node, target, arguments, outs, names, depth)
            else:
                self._operator(node, target, arguments, outs, names)

    def _argument(
        self, argument: Mapping[str, Any], names: Mapping[str, Any], graph: Mapping[str, Any]
    ) -> Any:
        ((kind, value),) = argument.items()
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return self._named(value["name"], names)
        if kind in ("as_tensors", "as_nested_tensors"):
            return [self._argument({"as_tensors": v}, names, graph) if isinstance(v, list)
                    else self._named(v["name"], names) for v in value]  # fmt: skip
        if kind in ("as_optional_tensors",):
            return [self._argument(v, names, graph) for v in value]
        if kind == "as_optional_tensor":
            return self._argument(value, names, graph)
        if kind == "as_sym_int":
            return self._symbolic(value, graph)
        if kind == "as_sym_ints":
            return [self._symbolic(v, graph) for v in value]
        return value

    def _symbolic(self, value: Mapping[str, Any], graph: Mapping[str, Any]) -> int | None:
        if "as_int" in value:
            return int(value["as_int"])
        known = graph.get("sym_int_values", {}).get(value["as_name"])
        return None if known is None else self.sizes.of(known)

    def _named(self, name: str, names: Mapping[str, Any]) -> _Tensor:
        found = names.get(name)
        if not isinstance(found, _Tensor):
            raise ModelError(
                f"{self.at}: tensor '{name}' is not made by any earlier node; the archive is "
                "damaged, save it again with torch.export.save",
                file=self.place,
            )
        return found

    def _operator(
        self, node: Mapping[str, Any], target: str, arguments: list[Any],
        outs: list[tuple[str, _Tensor]], names: dict[str, Any],
    ) -> None:  # fmt: skip
        packet, _, overload = target.rpartition(".")
        inplace = packet.endswith("_") and not packet.endswith("__")
        bare = packet[:-1] if inplace else packet
        short = bare.partition(".")[2]
        tensors = list(_tensors(arguments))
        if not target.startswith("aten.") and "." in target and not outs:
            return  # arithmetic on sizes, assertions
        if short.startswith(_NOTHING) or not outs:
            for key, meta in outs:
                names[key] = self._fresh(meta)
            return
        rule = aten_rules.get(f"{bare}.{overload}", aten_rules.get(bare))
        is_view = isinstance(rule, tuple) and rule[0] in VIEW_KINDS
        first = tensors[0] if tensors else None
        if first is not None and self._is_same(short, first, outs[0][1], arguments):
            names[outs[0][0]] = _Tensor(
                outs[0][1].shape, outs[0][1].dtype, first.id, first.weight, outs[0][1].dense
            )
            for key, meta in outs[1:]:
                names[key] = self._fresh(meta)
            return
        if first is not None and first.weight >= 0 and is_view and len(tensors) == 1:
            for key, meta in outs:  # another view of a stored tensor
                names[key] = _Tensor(meta.shape, meta.dtype, -1, first.weight, meta.dense)
            return
        keywords = {a["name"]: v for a, v in zip(node["inputs"], arguments, strict=True)
                    if a.get("kind") == 2}  # fmt: skip
        positional = [v for a, v in zip(node["inputs"], arguments, strict=True)
                      if a.get("kind") != 2]  # fmt: skip
        if rule is None:
            kind, attrs = f"unknown:{bare}", {}
        elif isinstance(rule, tuple):
            kind, attrs = rule[0], dict(rule[1])
        else:
            kind, attrs = rule(AtenCall(positional, keywords))
        if short in _MAY_COPY and first is not None and not first.dense:
            kind, attrs = "copy", {"fn": short}
        if kind == "rnn":
            tensors = [tensors[0], *(t for t in tensors[1:] if t.weight >= 0)]
        if inplace:
            attrs = {**attrs, "inplace": True}
        self._record(_module_path(node), kind, target, tensors, outs, attrs, names)

    def _is_same(self, short: str, first: _Tensor, out: _Tensor, arguments: list[Any]) -> bool:
        """True for calls that give back their input: nothing runs."""
        if short in _SAME_VALUE:
            return not ("dropout" in short and len(arguments) > 2 and arguments[2] is True)
        if short in ("contiguous", "to", "type_as", "float", "half", "_to_copy"):
            return first.dtype == out.dtype and first.dense == out.dense
        return False

    def _record(
        self, path: str, kind: str, target: str, tensors: Sequence[_Tensor],
        outs: Sequence[tuple[str, _Tensor]], attrs: dict[str, Any], names: dict[str, Any],
    ) -> None:  # fmt: skip
        weights = [t for t in tensors if t.weight >= 0]
        inputs = [t for t in tensors if t.weight < 0]
        if kind == "matmul" and any(len(w.shape) == 2 for w in weights):
            kind = "linear"  # a product with a stored matrix, however it was written
        if weights and (not inputs or kind in _OPERANDS):
            # An operand that happens to be stored: formulas look for it among the inputs.
            inputs = [t if t.weight < 0 else self._fresh(t) for t in tensors]
        made = [self._fresh(meta) for _, meta in outs]
        params = sum(
            self.weights[i].spec.numel for i in dict.fromkeys(t.weight for t in weights)
            if self.weights[i].role == "parameter"
        )  # fmt: skip
        self.ops.append(make_op(
            path, kind, target, tuple(t.spec for t in inputs), tuple(t.spec for t in made),
            tuple(t.spec for t in weights) if len(inputs) < len(tensors) else (),
            tuple(t.id for t in inputs),
            tuple(t.id for t in made), tuple(t.weight for t in weights), attrs, params,
        ))  # fmt: skip
        for (key, _), tensor in zip(outs, made, strict=True):
            names[key] = tensor

    def _higher(
        self, node: Mapping[str, Any], target: str, arguments: list[Any],
        outs: list[tuple[str, _Tensor]], names: dict[str, Any], depth: int,
    ) -> None:  # fmt: skip
        """A call of a graph inside the graph: read in place, the first branch of a condition."""
        short = target.split(".")[1]
        graphs = [a["graph"] for a in arguments if isinstance(a, Mapping) and "graph" in a]
        if not graphs or short not in _INLINED:
            self._record(_module_path(node), f"unknown:{target}", target,
                         list(_tensors(arguments)), outs, {}, names)  # fmt: skip
            return
        inner = graphs[0]
        feeds = list(_tensors(arguments))
        if short == "cond":
            feeds = list(_tensors(arguments[1:])) if isinstance(arguments[0], _Tensor) else feeds
            self.notes.append(f"{self.at}: the first branch of the condition is taken")
        inside: dict[str, Any] = {}
        wanted = [a["as_tensor"]["name"] for a in inner["inputs"] if "as_tensor" in a]
        for key, tensor in zip(wanted, feeds, strict=True):
            inside[key] = tensor
        self._nodes(inner, inside, depth + 1)
        made = list(_tensors([self._argument(a, inside, inner) for a in inner["outputs"]]))
        for (key, _), tensor in zip(outs, made, strict=True):
            names[key] = tensor


def _tensors(values: Any) -> Iterator[_Tensor]:
    for value in values:
        if isinstance(value, _Tensor):
            yield value
        elif isinstance(value, list):
            yield from _tensors(value)


def _output_names(outputs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for output in outputs:
        for kind, value in output.items():
            if kind == "as_tensor":
                yield value["name"]
            elif kind == "as_tensors":
                yield from (v["name"] for v in value)
            elif kind == "as_optional_tensors":
                yield from (v["as_tensor"]["name"] for v in value if "as_tensor" in v)


def _module_path(node: Mapping[str, Any]) -> str:
    """The path of the module that a node was called in: the last entry of its module stack."""
    stack = str(node.get("metadata", {}).get("nn_module_stack", ""))
    parts = stack.split(";")[-1].split(",")
    path = parts[1] if len(parts) > 2 else ""
    if path.startswith("_empty_nn_module_stack"):
        return ""
    return path.removeprefix("L['self']").removeprefix(".")
