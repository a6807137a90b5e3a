"""A search space in YAML, without any code: ``docs/search-space.md`` has its grammar.

    space = load_space("space.yaml").space    # predictor.search.spaces.find
    space.parameters    # {"width": (16, 24), "s1.depth": (1, 2), "s1.1.kernel": (3, 5), ...}

A network whose stages and blocks read only what stands before them is a chain of parts; one that
reaches further back is built whole. Neither needs a framework.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from predictor.builder import GraphBuilder
from predictor.builder import Value as Tensor
from predictor.errors import ConfigError, ModelError
from predictor.front import Value, Values
from predictor.frontends.families.parts import Part, part
from predictor.graph import Graph, TensorSpec
from predictor.kinds import Int
from predictor.kinds import List as ListOf
from predictor.layer_grammar import Layers
from predictor.schema import Report
from predictor.search.space import SearchSpace
from predictor.search.spaces.block_grammar import (
    MAX_PARAMETERS,
    Item,
    Template,
    read_template,
)
from predictor.search.spaces.block_layers import (
    Declared,
    Filler,
    Scope,
    declared,
    named,
    outermost,
    plain,
    possible,
    reads,
    reworded,
    stands_alone,
)
from predictor.yamlmarks import Sequence as List
from predictor.yamlmarks import Table

PARTS_KEPT = 4096
"""Parts whose operators are remembered."""


class BlockSpace(SearchSpace):
    """The space of a template; every value is tried out once when it is made.

    Raises:
        ConfigError: no parameter, a name that stands twice, or a network that cannot be built,
            with its place in the file.
    """

    def __init__(self, template: Template, report: Report) -> None:
        self.template, self.name = template, template.name
        found = _parameters(template, report)
        self.parameters = {name: one.values for name, one in found.items()}
        self._inputs = named(template.shape)
        groups = _groups(template)
        alone = not template.outputs and all(
            stands_alone(g.items, template, first=g.first, whole=g.stage != "") for g in groups
        )
        self._groups = groups if self._try(found) and alone else None
        self._parts: dict[tuple[Any, ...], Part | None] = {}

    def input_shape(self, values: Values) -> tuple[int, ...]:
        """As ``inputs`` says."""
        filler = Filler(self.template.file, values)
        node = filler.value(self.template.shape, outermost(self.template), "inputs")
        report = Report(self.template.file)
        report.mark("inputs", node.line, node.column)
        shape = ListOf(Int(), 2, 8).check(node, "inputs", report)
        report.finish()
        return tuple((shape or ())[1:])

    def input_dtype(self) -> str:
        """As ``inputs`` says."""
        return self.template.dtype

    def canonical(self, values: Values) -> dict[str, Value]:
        """Parameters that no layer of this network reads stand at their first values."""
        active = {*reads(self.template.items, outermost(self.template), values), *self._inputs}
        return {name: values[name] if name in active else known[0]
                for name, known in self.parameters.items()}  # fmt: skip

    def chain(self, values: Values) -> Sequence[tuple[str, Part]] | None:
        """Repetitions of stages and what stands between; None where they reach further back."""
        if self._groups is None:
            return None
        found = []
        for group in self._groups:
            if group.stage and group.number > int(values[f"{group.stage}.depth"]):
                continue
            key = (group.number, group.label, *(values[name] for name in group.reads))
            if key not in self._parts:
                self._parts[key] = self._part(group, values)
            one = self._parts[key]
            if one is not None:
                found.append((group.label, one))
        return found

    def graph(self, values: Values, batch: int = 1) -> Graph:
        """The network's operators; errors say where in the file."""
        if self._groups is None:
            return self._whole(values, batch)
        try:
            return super().graph(values, batch)
        except ModelError:
            self._whole(values, batch)  # says the place
            raise

    def config(self, values: Values) -> dict[str, Any]:
        """The layers of the file, filled in."""
        shape: Any = [1, *self.input_shape(values)]
        if self.template.dtype != "float32" or self.template.label != "input":
            shape = {self.template.label: {"shape": shape, "dtype": self.template.dtype}}
        model: dict[str, Any] = {"name": f"{self.name}:{self.key(values)}",
                                 "layers": self._layers(values)[0]}  # fmt: skip
        if self.template.outputs:
            model["outputs"] = list(self.template.outputs)
        return {"model": model, "inputs": shape}

    # -- inside ---------------------------------------------------------------------------------

    def _layers(self, values: Values) -> tuple[list[Any], Filler, Report]:
        """Layers, checked; what tells errors in the file's paths; where they stand."""
        filler, report = Filler(self.template.file, values), Report(self.template.file)
        nodes = filler.layers(self.template.items, outermost(self.template), "layers")
        layers = Layers().check(List(nodes), "layers", report)
        try:
            report.finish()
        except ConfigError as error:
            raise filler.told(error) from None
        return plain(layers), filler, report

    def _whole(self, values: Values, batch: int = 1) -> Graph:
        from predictor.frontends.layer_list import build_layers

        layers, filler, report = self._layers(values)
        spec = TensorSpec((batch, *self.input_shape(values)), self.template.dtype)
        try:
            return build_layers(
                layers, {self.template.label: spec}, name=f"{self.name}:{self.key(values)}",
                outputs=self.template.outputs, marks=report.marks, path="layers",
            )  # fmt: skip
        except ConfigError as error:
            raise filler.told(error) from None

    def _part(self, group: _Group, values: Values) -> Part | None:
        filler = Filler(self.template.file, values)
        nodes = filler.layers(group.items, group.scope, "layers")
        if not nodes:
            return None
        report = Report(self.template.file)
        layers = plain(Layers().check(List(nodes), "layers", report))
        report.finish()
        label = self.template.label if group.first else "what stands before"
        return part(_made, json.dumps(layers), label)

    def _try(self, found: dict[str, Declared]) -> bool:
        """Build the first network and each that differs in one value; true if all of them return
        one tensor. Of a stage's repetitions, which are alike, two stand for all."""
        base = {name: one.usual for name, one in found.items()}
        single = self._tried(base, "")
        seen = Counter[str]()
        for name, one in found.items():
            seen[one.path] += 1
            if seen[one.path] > 2:
                continue
            for value in one.values:
                if value != one.usual or one.needs:
                    other = {**base, **one.needs, name: value}
                    single &= self._tried(other, f" (where {name} is {value})")
        return single

    def _tried(self, values: Values, where: str) -> bool:
        try:
            return len(self._whole(values).output_ids) == 1
        except ConfigError as error:
            raise reworded(error, lambda text: text + where) from None


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Items that make one part: repetition ``number`` of a ``stage``, or what is between stages.

    ``reads`` are the parameters that can make a difference to it; the ``first`` of all reads the
    network's input.
    """

    label: str
    items: tuple[Item, ...]
    scope: Scope
    stage: str = ""
    number: int = 0
    reads: tuple[str, ...] = ()
    first: bool = False


def _groups(template: Template) -> list[_Group]:
    """The parts that a network of the space can have, in order."""
    scope, found, before = outermost(template), list[_Group](), ""

    def add(label: str, items: Sequence[Item], at: Scope, stage: str = "", number: int = 0) -> None:
        if items:
            names = tuple(dict.fromkeys(possible(items, at)))
            found.append(_Group(label, tuple(items), at, stage, number, names, not found))

    between: list[Item] = []
    for item in template.items:
        if item.kind != "stage":
            between.append(item)
            continue
        add(before, between, scope)
        for number in range(1, max(map(int, item.depth)) + 1):
            inner = scope.inner(item, number)
            add(f"{item.name}.{number}", item.bodies[""], inner, item.name, number)
        between, before = [], f"after_{item.name}"
    add(before, between, scope)
    return found


def _parameters(template: Template, report: Report) -> dict[str, Declared]:
    found: dict[str, Declared] = {}
    taken: set[str] = set()
    for name, one in declared(template):
        word = name.removesuffix(".depth")  # a stage and a choice cannot have one name either
        if word in taken:
            path = f"{one.path.removesuffix('.depth')}.name" if word != name else one.path
            report.add(path, f"the name '{word}' is taken; choose another.")
        taken.add(word)
        found[name] = one
        if len(found) > MAX_PARAMETERS:
            report.add("", f"the space has more than {MAX_PARAMETERS} parameters; make it smaller.")
            break
    if not found:
        report.add("", "the space is empty: it has no parameters; add a line such as 'parameters: "
                   "{width: [16, 24]}', a stage or a choose.")  # fmt: skip
    report.finish()
    return found


def _made(b: GraphBuilder, x: Tensor, name: str, text: str, label: str) -> Tensor:
    """Layers, behind ``x``; ``text`` is what they are as JSON."""
    graph = _built(text, label, x.shape, "float32" if x.spec.is_float else x.spec.dtype)
    values = {graph.input_ids[0]: x}
    for op in graph.ops:
        made = [graph.weights[i] for i in op.weight_ids]
        dtype = op.outputs[0].dtype
        if dtype == "float32" or (b.dtype != "float32" and op.outputs[0].is_float):
            dtype = b.dtype
        outs = b.op(
            op.kind, [values[i] for i in op.input_ids], [spec.shape for spec in op.outputs],
            name=f"{name}.{op.name}" if name else op.name, attrs=dict(op.attrs), dtype=dtype,
            weights=[(w.name[len(op.name) + 1 :], w.spec.shape, w.role) for w in made],
        )  # fmt: skip
        values.update(zip(op.output_ids, outs, strict=True))
    return values[graph.output_ids[0]]


@functools.lru_cache(maxsize=PARTS_KEPT)
def _built(text: str, label: str, shape: tuple[int, ...], dtype: str) -> Graph:
    from predictor.frontends.layer_list import build_layers

    return build_layers(json.loads(text), {label: TensorSpec(shape, dtype)}, path="layers")


def blocks_of(root: Table, values: dict[str, Any], report: Report) -> BlockSpace:
    """The space of a file whose keys were checked to be ``values``.

    Raises:
        ConfigError: with all mistakes and their places.
    """
    values.setdefault("name", PurePath(report.marks.file).stem or "blocks")
    return BlockSpace(read_template(root, values, report), report)
