"""A list of layers, without any code, becomes a graph.

    graph = build_layers(
        [{"type": "conv2d", "out": 64, "kernel": 3, "padding": "same"}, "relu",
         "global_avg_pool", "flatten", {"type": "linear", "out": 10}],
        [(1, 3, 224, 224)],
    )

The grammar is data (:mod:`predictor.layer_types`) and stands in ``docs/layer-list.md``. Here the
names are resolved, blocks repeated, and every mistake put at its layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from predictor.builder import Value
from predictor.config import Config, Inputs, LayerList
from predictor.errors import ModelError, suggest
from predictor.frontends.layer_makers import MAKERS
from predictor.frontends.layer_parts import Layer, TyingBuilder
from predictor.graph import Graph, TensorSpec
from predictor.layer_grammar import Layers
from predictor.layer_types import BLOCK_INPUT, PREVIOUS, layer_types
from predictor.schema import Report
from predictor.yamlmarks import Marks, from_python

MAX_LAYERS = 10_000
"""Most layers after repetition."""


def build_layers(
    layers: Sequence[Mapping[str, Any] | str],
    inputs: Inputs | Sequence[Sequence[int]],
    *,
    batch: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    name: str = "layers",
    outputs: Sequence[str] = (),
    marks: Marks | None = None,
    path: str = "model.layers",
) -> Graph:
    """The graph of ``layers``.

    Args:
        layers: mappings or words as in ``docs/layer-list.md``.
        inputs: one shape, shapes (called ``input``, or ``input_0``, ``input_1``, ...), or
            specs or mappings with ``shape`` and ``dtype`` by name.
        batch: replaces the first size of every input.
        resolution: pixels; replaces the last two sizes of every input of four.
        outputs: names of the layers that the graph returns; all that no layer reads if empty.
        marks, path: where the settings stand in a file, and under which path the layers are.

    Raises:
        ConfigError: a layer is not what the grammar allows.
        ModelError: shapes do not fit; the message names the layer and the shapes.
    """
    marks = marks or Marks()
    report = Report(marks.file)
    report.marks.places.update(marks.places)
    checked = Layers().check(from_python(list(layers)), path, report)
    report.finish()
    specs = input_specs(inputs, batch=batch, resolution=resolution)
    builder = TyingBuilder(name, source="layers")
    run = _Run(builder, marks)
    scope = _Scope(None)
    for label, spec in specs.items():
        try:
            value = builder.input(spec.shape, name=label, dtype=spec.dtype)
        except ModelError as error:
            raise marks.error("inputs", f"inputs: {error}", ModelError) from None
        scope.names[label] = [value]
    scope.previous = next(iter(scope.names.values())) if len(specs) == 1 else []
    scope.block_input = list(scope.previous)
    run.walk(checked or (), path, scope, "")
    ends = _outputs(run, scope, outputs, marks)
    unread = [label for label, spec in specs.items() if scope.names[label][0].id not in run.read]
    notes = [f"input '{label}' is read by no layer" for label in unread]
    return builder.finish(*ends, notes=notes)


def graph_of(
    config: Config, *, batch: int | None = None, resolution: int | tuple[int, int] | None = None
) -> Graph:
    """The graph of a configuration whose model is a layer list; arguments win over the file.

    Raises:
        ConfigError, ModelError: as :func:`build_layers`, with the place in the file.
    """
    model = config.model
    if not isinstance(model, LayerList):
        raise config.error("model", "this is no layer list.")
    if config.inputs is None:
        raise config.error("model", "a layer list needs inputs, such as [1, 3, 224, 224].")
    try:
        return build_layers(
            model.layers, config.inputs, batch=batch or config.batch,
            resolution=resolution or config.resolution, name=model.name, outputs=model.outputs,
            marks=config.marks,
        )  # fmt: skip
    except ResolutionError as error:
        where = "inputs" if resolution else "resolution"
        raise config.error(where, str(error).removeprefix("resolution "), ModelError) from None


class LayerError(ModelError):
    """A layer cannot be built; the message names it, the place is its own."""


class ResolutionError(ModelError):
    """A resolution was given, and no input is an image."""


def input_specs(
    inputs: Inputs | Sequence[Sequence[int]] | Sequence[int] | Mapping[str, Any],
    *,
    batch: int | None = None,
    resolution: int | tuple[int, int] | None = None,
) -> dict[str, TensorSpec]:
    """Named specs from any of the forms that inputs come in, with the overrides applied.

    Raises:
        ModelError: no input, or a resolution without an image input.
    """
    specs: dict[str, TensorSpec] = {}
    if isinstance(inputs, Mapping):
        for name, given in inputs.items():
            specs[name] = _spec(given)
    else:
        shapes: list[Any] = list(inputs)
        if shapes and all(isinstance(size, int) for size in shapes):
            shapes = [shapes]
        names = ["input"] if len(shapes) == 1 else [f"input_{i}" for i in range(len(shapes))]
        specs = {name: _spec(shape) for name, shape in zip(names, shapes, strict=True)}
    if not specs:
        raise ModelError("a layer list needs at least one input shape")
    if batch is not None:
        specs = {
            name: TensorSpec((batch, *spec.shape[1:]), spec.dtype) if spec.shape else spec
            for name, spec in specs.items()
        }
    if resolution is not None:
        size = (resolution, resolution) if isinstance(resolution, int) else tuple(resolution)
        images = [name for name, spec in specs.items() if len(spec.shape) == 4]
        if not images:
            raise ResolutionError(
                "resolution is for image inputs (N, C, H, W); there is none among "
                + ", ".join(f"{name} {list(spec.shape)}" for name, spec in specs.items())
            )
        for name in images:
            specs[name] = TensorSpec((*specs[name].shape[:2], *size), specs[name].dtype)
    return specs


def _spec(given: Any) -> TensorSpec:
    if isinstance(given, TensorSpec):
        return given
    if isinstance(given, Mapping):
        return TensorSpec(tuple(given["shape"]), given.get("dtype", "float32"))
    return TensorSpec(tuple(given))


@dataclass(slots=True)
class _Scope:
    """Names that are visible in a list of layers; those of the lists around it are too."""

    outer: _Scope | None
    names: dict[str, list[Value]] = field(default_factory=dict)
    previous: list[Value] = field(default_factory=list)
    block_input: list[Value] = field(default_factory=list)
    last: str = ""

    def find(self, name: str) -> list[Value] | None:
        """The nearest layer or input of that name."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None

    def known(self) -> Iterator[str]:
        """Every visible name."""
        scope: _Scope | None = self
        while scope is not None:
            yield from scope.names
            scope = scope.outer


@dataclass(slots=True)
class _Run:
    """One walk over the layers."""

    builder: TyingBuilder
    marks: Marks
    count: int = 0
    read: set[int] = field(default_factory=set)
    made: list[list[Value]] = field(default_factory=list)

    def walk(
        self, layers: Sequence[Mapping[str, Any]], path: str, scope: _Scope, prefix: str
    ) -> None:
        """Build ``layers`` in ``scope``; operators are named under ``prefix``."""
        for index, layer in enumerate(layers):
            where, kind = f"{path}[{index}]", layer["type"]
            given = layer.get("name")
            label = given or f"{kind}_{index}"
            self.count += 1
            if self.count > MAX_LAYERS:
                raise self.marks.error(where, f"{_shown(where)}: more than {MAX_LAYERS:,} layers "
                                       "after repetition", LayerError)  # fmt: skip
            try:
                sources = self._sources(layer, scope, kind)
                if kind == "repeat":
                    values = self._repeat(layer, where, scope, f"{prefix}{label}", sources)
                else:
                    values = self._make(layer, f"{prefix}{label}", sources, scope)
                    self.made.append(values)
            except _Wrong as error:
                raise self._placed(where, layer, error.key, str(error)) from None
            except LayerError:
                raise  # a layer of a block, placed already
            except ModelError as error:
                text = str(error).removeprefix(f"{prefix}{label}: ")
                raise self._placed(where, layer, "", text) from None
            if given:
                self._name(given, values, scope, where, layer)
            scope.previous, scope.last = values, given or ""

    def _placed(self, where: str, layer: Mapping[str, Any], key: str, text: str) -> LayerError:
        name = f" '{layer['name']}'" if "name" in layer else ""
        spot = f"{where}.{key}" if key and f"{where}.{key}" in self.marks else where
        message = f"{_shown(where)} ({layer['type']}{name}): {text}"
        return self.marks.error(spot, message, LayerError)

    def _sources(self, layer: Mapping[str, Any], scope: _Scope, kind: str) -> list[Value]:
        wanted = layer.get("from", PREVIOUS)
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        low, high = (1, 1) if kind == "repeat" else layer_types()[kind].sources
        if not low <= len(names) <= high:
            count = (
                f"{low}" if low == high else f"{low} or more" if high > 3 else f"{low} to {high}"
            )
            raise _Wrong("from", f"reads {count} tensors, got {len(names)}; "
                         "write from: [first, second]")  # fmt: skip
        return [self._source(name, scope) for name in names]

    def _source(self, name: str, scope: _Scope) -> Value:
        if name == PREVIOUS:
            values = scope.previous
            if not values:
                raise _Wrong("", "there are several inputs; say which with from: "
                             + " or ".join(scope.known()))  # fmt: skip
        elif name == BLOCK_INPUT:
            values = scope.block_input
            if not values:
                raise _Wrong("from", f"'{BLOCK_INPUT}' is only known inside a repeat, or where "
                             "there is one input")  # fmt: skip
        else:
            found = scope.find(name)
            if found is None:
                near = suggest(name, [*scope.known(), PREVIOUS, BLOCK_INPUT])
                raise _Wrong("from", f"no layer or input above is called '{name}'.{near}")
            values = found
        if len(values) > 1:
            label = scope.last if name == PREVIOUS else name
            if label:
                raise _Wrong("from", f"'{label}' gives {len(values)} tensors; say which, such as "
                             f"from: {label}.0")  # fmt: skip
            raise _Wrong("from", f"the layer above gives {len(values)} tensors; give it a "
                         "name and write from: NAME.0")  # fmt: skip
        self.read.add(values[0].id)
        return values[0]

    def _make(
        self, layer: Mapping[str, Any], name: str, sources: list[Value], scope: _Scope
    ) -> list[Value]:
        kind = layer_types()[layer["type"]]
        for value in sources:
            if kind.floats and not value.spec.is_float:
                raise _Wrong("", f"computes on floats, but reads {value.spec.dtype}; put an "
                             "embedding or {type: cast, dtype: float32} before it")  # fmt: skip
        defaults = {key: spec.default for key, spec in kind.keys.items()}
        self.builder.tie(layer.get("share"))
        made = MAKERS[layer["type"]](
            Layer(self.builder, layer["type"], name, tuple(sources), {**defaults, **layer})
        )
        return made if isinstance(made, list) else [made]

    def _repeat(
        self, layer: Mapping[str, Any], where: str, scope: _Scope, label: str,
        sources: list[Value],
    ) -> list[Value]:  # fmt: skip
        values = sources
        for time in range(layer["times"]):
            inner = _Scope(scope, previous=values, block_input=values)
            self.walk(layer["layers"], f"{where}.layers", inner, f"{label}.{time}.")
            values = inner.previous
            if "name" in layer:
                for name, found in inner.names.items():
                    scope.names[f"{layer['name']}.{time}.{name}"] = found
        return values

    def _name(
        self, name: str, values: list[Value], scope: _Scope, where: str, layer: Mapping[str, Any]
    ) -> None:
        if name in scope.names or name in (PREVIOUS, BLOCK_INPUT):
            raise self._placed(where, layer, "name", f"the name '{name}' is taken; choose another")
        scope.names[name] = values
        if len(values) > 1:
            scope.names.update({f"{name}.{i}": [value] for i, value in enumerate(values)})


class _Wrong(Exception):
    """A mistake at ``key`` of the layer at hand."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(message)


def _outputs(run: _Run, scope: _Scope, names: Sequence[str], marks: Marks) -> list[Value]:
    """The named values; else, in order, those of layers of which nothing is read."""
    ends = []
    for index, name in enumerate(names):
        found = scope.find(name)
        if found is None:
            near = suggest(name, scope.known())
            raise marks.error(f"model.outputs[{index}]", f"model.outputs[{index}]: no layer is "
                              f"called '{name}'.{near}", ModelError)  # fmt: skip
        ends += found
    if names:
        return ends
    unread = [v for values in run.made if not any(v.id in run.read for v in values) for v in values]
    return list(dict.fromkeys([*unread, *scope.previous]))


def _shown(path: str) -> str:
    return path.removeprefix("model.")
