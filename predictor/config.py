"""A YAML file becomes a typed :class:`Config`; every mistake is answered with its place.

    config = load_config("config.yaml")
    config.model, config.inputs, config.device, config.budget.latency_ms
    raise config.error("device", "no such device")   # config.yaml:3:1: device: no such device

All mistakes of a file are reported together: the first is the exception's place and message,
further ones are its further lines.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from predictor.config_keys import BUDGET, DECODER
from predictor.errors import ConfigError, suggest
from predictor.estimate import Budget
from predictor.graph import DTYPE_BYTES, PRECISIONS, TensorSpec
from predictor.hardware import LAYOUTS, RUNTIMES
from predictor.kinds import Bool, Either, Free, Int, List, Text
from predictor.language import ATTENTION, LONGEST, PHASES, Language
from predictor.layer_grammar import Layers, common_schemas, layer_schema
from predictor.schema import Key, Keys, Report, form, refuse, unique
from predictor.yamlmarks import MAX_BYTES, Marks, Node, Sequence, Table, from_python, read

SCOPES = ("engine", "call")
"""What a latency covers: the engine alone, or a call through Python."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A Python factory, ``python:FILE:FACTORY``, and the keyword arguments of its call."""

    source: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LayerList:
    """A network as layers; each is a mapping of the keys that were written, ``type`` among them.

    ``outputs`` are names of layers; empty means: every tensor that no layer reads.
    """

    layers: tuple[Mapping[str, Any], ...]
    name: str = "layers"
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DecoderSource:
    """A decoder language model as the keys that were written; see ``docs/language-models.md``."""

    settings: Mapping[str, Any]
    name: str = "decoder"


Inputs = tuple[tuple[int, ...], ...] | Mapping[str, TensorSpec]
"""Shapes of unnamed inputs, or specs (``shape`` and ``dtype``) of named ones."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration file says. None is what it leaves open.

    ``resolution`` is (height, width) in pixels; ``marks`` say where each setting stands
    (``marks["model.layers[3].kernel"]`` is (line, column), from 1) and take no part in equality.
    """

    model: str | ModelSource | LayerList | DecoderSource
    inputs: Inputs | None = None
    device: str | None = None
    runtime: str | None = None
    precision: str | None = None
    layout: str | None = None
    software: str | None = None
    batch: int | None = None
    resolution: tuple[int, int] | None = None
    power_mode: str | None = None
    scope: str | None = None
    phase: str | None = None
    sequence: int | None = None
    context: int | None = None
    attention: str | None = None
    budget: Budget = field(default_factory=Budget)
    strict: bool = False
    marks: Marks = field(default_factory=Marks, compare=False, repr=False)

    @property
    def file(self) -> str:
        """The file that was read, or an empty text."""
        return self.marks.file

    @property
    def language(self) -> Language:
        """Phase, lengths and attention of a language model."""
        return Language(self.phase, self.sequence, self.context, self.attention)

    def error(self, path: str, message: str, kind: type[ConfigError] = ConfigError) -> ConfigError:
        """``file:line:column: path: message``, at the setting or the nearest one around it."""
        return self.marks.error(path, f"{path}: {message}", kind)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values under the file's own keys; what is left open is left out."""
        data: dict[str, Any] = {"model": _plain_model(self.model)}
        if isinstance(self.inputs, Mapping):
            data["inputs"] = {
                name: {"shape": list(spec.shape), "dtype": spec.dtype}
                for name, spec in self.inputs.items()
            }
        elif self.inputs is not None:
            data["inputs"] = [list(shape) for shape in self.inputs]
        for name in ("device", "runtime", "precision", "layout", "software", "batch", "power_mode",
                     "scope", "phase", "sequence", "context", "attention"):  # fmt: skip
            if getattr(self, name) is not None:
                data[name] = getattr(self, name)
        if self.resolution is not None:
            data["resolution"] = list(self.resolution)
        limits = {f.name: getattr(self.budget, f.name) for f in fields(self.budget)}
        limits = {name: limit for name, limit in limits.items() if limit is not None}
        return data | ({"budget": limits} if limits else {}) | ({"strict": True} if self.strict
                                                                 else {})  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Config:
        """Inverse of :meth:`to_dict`; checks as strictly as for a file.

        Raises:
            ConfigError: as :func:`parse_config`, without places.
        """
        return _checked(from_python(data), Report())


class _Model:
    """A name, a factory with arguments, or layers."""

    forms = frozenset({"text", "mapping"})
    name = Text(hint="a model name (torchvision:resnet18), a path, or {layers: [...]}")
    source = Keys({
        "source": Key(Text(pattern=r"python:.+:[A-Za-z_][A-Za-z0-9_.]*",
                           hint="python:FILE:FACTORY (other names stand alone: model: NAME)"),
                      "the factory, python:FILE:FACTORY", required=True),
        "args": Key(Free(), "keyword arguments of the factory"),
    })  # fmt: skip
    decoder = Keys({
        "decoder": Key(DECODER, "the numbers of a decoder language model", required=True),
        "name": Key(Text(), "what the network is called"),
    })  # fmt: skip
    layers = Keys({
        "layers": Key(Layers(), "the layers, in order", required=True),
        "name": Key(Text(), "what the network is called"),
        "outputs": Key(List(Text()), "names of the layers that it returns; all that none reads"),
    })  # fmt: skip

    def check(self, node: Node, path: str, report: Report) -> Any:
        """A text, a :class:`ModelSource` or a :class:`LayerList`."""
        if form(node) == "text":
            return self.name.check(node, path, report)
        if not isinstance(node, Table):
            refuse(self, node, path, report)
            return None
        given = {entry.key for entry in node.entries}
        kinds = [key for key in ("source", "layers", "decoder") if key in given]
        if len(kinds) > 1:
            report.add(path, f"has both {kinds[0]} and {kinds[1]}; keep one.")
            return None
        if kinds == ["decoder"]:
            found = self.decoder.check(node, path, report) or {}
            return DecoderSource(found.get("decoder") or {}, found.get("name", "decoder"))
        if "source" in given:
            found = self.source.check(node, path, report) or {}
            args = found.get("args", {})
            if not isinstance(args, dict):
                report.add(f"{path}.args", "wants a mapping such as {width: 0.75}.")
            return ModelSource(found.get("source", ""), args)
        found = self.layers.check(node, path, report) or {}
        return LayerList(
            found.get("layers", ()), found.get("name", "layers"), found.get("outputs", ())
        )

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        source = self.source.schema()
        source["properties"]["args"] = {"type": "object"}
        return {"oneOf": [self.name.schema(), source, self.layers.schema(), self.decoder.schema()]}

    def words(self) -> str:
        """English."""
        return self.name.hint


class _Inputs:
    """One shape, several shapes, or named inputs."""

    forms = frozenset({"list", "mapping"})
    shape = List(Int(), 1, 8)
    dtype = Text(tuple(DTYPE_BYTES))
    named = Keys({
        "shape": Key(List(Int(), 0, 8), "sizes, batch first", required=True, aka=("size",)),
        "dtype": Key(dtype, "element type", "float32", aka=("type",)),
    })  # fmt: skip

    def check(self, node: Node, path: str, report: Report) -> Inputs | None:
        """Shapes, or :class:`TensorSpec` by name."""
        if isinstance(node, Table):
            specs = {}
            for entry in unique(node, path, report):
                where = f"{path}.{entry.key}"
                if isinstance(entry.node, Table):
                    spec = self.named.check(entry.node, where, report) or {}
                    shape, dtype = spec.get("shape"), spec.get("dtype", "float32")
                else:
                    shape, dtype = self.shape.check(entry.node, where, report), "float32"
                if shape is not None:
                    specs[entry.key] = TensorSpec(shape, dtype)
            if not node.entries:
                report.add(path, f"is empty; write {self.words()}.")
            return specs
        if not isinstance(node, Sequence) or not node.items:
            refuse(self, node, path, report)
            return None
        several = all(isinstance(item, Sequence) for item in node.items)
        shapes = (List(self.shape, 1, 64) if several else self.shape).check(node, path, report)
        if shapes is None:
            return None
        return shapes if several else (shapes,)

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        one, named = self.shape.schema(), self.named.schema()
        several = {"type": "array", "items": one, "minItems": 1, "maxItems": 64}
        table = {"type": "object", "minProperties": 1,
                 "additionalProperties": {"anyOf": [one, named]}}  # fmt: skip
        return {"anyOf": [one, several, table]}

    def words(self) -> str:
        """English."""
        return "a shape such as [1, 3, 224, 224], a list of shapes, or {name: {shape, dtype}}"


_ROOT = Keys({
    "model": Key(_Model(), "what to predict: a name, a path, a factory or layers", required=True,
                 aka=("network", "net", "arch")),
    "inputs": Key(_Inputs(), "shapes of what the model reads, batch first",
                  aka=("input_shape", "input_size", "shape", "input_shapes")),
    "device": Key(Text(hint="a device name such as jetson"), "the device, or a path to its yaml",
                  aka=("hardware", "target", "board", "gpu")),
    "runtime": Key(Text(tuple(RUNTIMES)), "the software that runs the model",
                   aka=("engine", "backend", "framework")),
    "precision": Key(Text(tuple(PRECISIONS)), "how floats are stored", aka=("dtype",)),
    "layout": Key(Text(LAYOUTS), "order of image axes in memory", aka=("memory_format",)),
    "software": Key(Text(hint="a version such as \"PyTorch 2.4.0\""),
                    "which of several versions of a runtime that the device lists",
                    aka=("version", "release")),
    "batch": Key(Int(), "overrides the first size of every input", aka=("batch_size",)),
    "resolution": Key(Either((Int(), List(Int(), 2, 2))),
                      "overrides height and width of image inputs", aka=("image_size",)),
    "power_mode": Key(Text(hint="a power mode such as 15W"), "the board's power mode",
                      aka=("power",)),
    "scope": Key(Text(SCOPES), "what the latency covers"),
    "phase": Key(Text(PHASES), "which pass of a language model"),
    "sequence": Key(Int(1, LONGEST), "tokens of a text input, or of a prompt",
                    aka=("seq_len", "sequence_length", "tokens")),
    "context": Key(Int(0, LONGEST), "tokens in the KV cache before the pass",
                   aka=("context_length", "past")),
    "attention": Key(Text(tuple(ATTENTION)), "one fused kernel, or several"),
    "budget": Key(BUDGET, "limits to check the estimate against", aka=("limits",)),
    "strict": Key(Bool(), "make what no model covers an error", False),
}, hints={
    "layers": ("model", "It belongs under model: write model: {layers: [...]}."),
    "source": ("model", "It belongs under model: write model: {source: ..., args: {...}}."),
    "latency_ms": ("budget", "It belongs under budget: write budget: {latency_ms: ...}."),
}, what="a mapping of settings, the first of them 'model: ...'")  # fmt: skip


def parse_config(text: str, file: str = "config.yaml") -> Config:
    """The configuration in ``text``; ``file`` is what messages call it.

    Raises:
        ConfigError: with all mistakes and their places.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(_too_large(len(text)), file=file)
    return _checked(read(text, file), Report(file))


def load_config(path: str | os.PathLike[str]) -> Config:
    """The configuration in a file, or on standard input where ``path`` is ``-``.

    Raises:
        ConfigError: no such file, no text, or mistakes in it, each with its place.
    """
    name = os.fspath(path)
    if name == "-":
        return parse_config(_decoded(sys.stdin.buffer.read(MAX_BYTES + 1), "<stdin>"), "<stdin>")
    try:
        with open(name, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except IsADirectoryError:
        inside = sorted(p.name for p in Path(name).iterdir() if p.suffix in (".yaml", ".yml"))[:3]
        listed = f"name a file in it: {', '.join(inside)}" if inside else "it holds no .yaml file"
        raise ConfigError(f"this is a folder; {listed}", file=name) from None
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"there is no such file.{_near(name)}", file=name) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"the file cannot be read: {reason}", file=name) from None
    return parse_config(_decoded(data, name), name)


def json_schema() -> dict[str, Any]:
    """The published JSON Schema (draft 2020-12) of a configuration file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "predict-latency configuration",
        **_ROOT.schema(),
        "$defs": {"layer": layer_schema(), **common_schemas()},
    }


def _checked(root: Node, report: Report) -> Config:
    if isinstance(root, Sequence):
        report.add("", "the file holds a list, but a config is a mapping; put layers under "
                   "'model: {layers: [...]}'.", (root.line, root.column))  # fmt: skip
        report.finish()
    if not isinstance(root, Table):
        report.add("", f"wants {_ROOT.words()}.", (root.line, root.column))
        report.finish()
    report.mark("", root.line, root.column)
    values = _ROOT.check(root, "", report) or {}
    model = values.get("model")
    given = {entry.key for entry in root.entries} if isinstance(root, Table) else set()
    if isinstance(model, LayerList) and "inputs" not in given:
        report.add("model", "a layer list needs its input shapes; add a line such as "
                   "'inputs: [1, 3, 224, 224]'.")  # fmt: skip
    report.finish()
    size = values.get("resolution")
    values["resolution"] = (size, size) if isinstance(size, int) else size
    values["budget"] = Budget(**values.get("budget", {}))
    config = Config(**values, marks=report.marks)
    try:
        _ = config.language
    except ConfigError as error:
        raise config.error("context" if "context" in given else "phase", str(error)) from None
    return config


def _plain_model(model: str | ModelSource | LayerList | DecoderSource) -> Any:
    if isinstance(model, str):
        return model
    if isinstance(model, DecoderSource):
        return {"name": model.name, "decoder": dict(model.settings)}
    if isinstance(model, ModelSource):
        return {"source": model.source, "args": dict(model.args)}
    data: dict[str, Any] = {"name": model.name, "layers": _listed(model.layers)}
    return data | ({"outputs": list(model.outputs)} if model.outputs else {})


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (tuple, list)) else value


def _decoded(data: bytes, file: str) -> str:
    if len(data) > MAX_BYTES:
        raise ConfigError(_too_large(len(data)), file=file)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise ConfigError(
            f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8",
            file=file, line=line, column=column,
        ) from None  # fmt: skip


def _too_large(size: int) -> str:
    return f"the file has more than {MAX_BYTES >> 20} MB; this is no configuration"


def _near(name: str) -> str:
    path = Path(name)
    try:
        others = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml"))
    except (OSError, ValueError):
        return f" Nor is there a folder {path.parent}."
    near = suggest(path.name, others)
    return near or (f" In that folder: {', '.join(others[:5])}." if others else "")
