"""Search spaces by name, from a YAML file, or from a Python class.

    load_space("ofa")
    load_space("space.yaml")                  # a block space, or a known one narrowed
    load_space("python:space_class.py:MySpace")

A YAML file may also say what is searched for (device, budget, accuracy, trials, ...): these
settings come back beside the space, for the command line to override.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from predictor.config_keys import BUDGET
from predictor.errors import ConfigError, ModelError, suggest
from predictor.front import Value
from predictor.graph import PRECISIONS
from predictor.hardware import RUNTIMES
from predictor.kinds import Either, Int, List, Text
from predictor.schema import Key, Keys, Report, refuse, unique
from predictor.search.space import SearchSpace
from predictor.search.spaces.block_grammar import BLOCK_KEYS, Choices
from predictor.yamlmarks import MAX_BYTES, Marks, Node, Table, read

SPACES = {
    "ofa": ("ofa", "OnceForAll"), "fbnet": ("fbnet", "FBNet"),
    "nasbench201": ("nasbench201", "NasBench201"), "resnet": ("resnet", "ResNet"),
    "vit": ("vit", "VisionTransformer"), "decoder": ("decoder", "DecoderOnly"),
}  # fmt: skip
"""Known names: file in this folder, and the class in it."""
PYTHON = "python:"
_DEVICE = Text(hint="a device name such as jetson")


@dataclass(frozen=True, slots=True)
class LoadedSpace:
    """A space, and what its file says beside it.

    ``settings`` holds what was written of ``device`` (always a tuple of names), ``runtime``,
    ``precision``, ``budget`` (limits by name, units as in config.yaml), ``accuracy`` (a signal),
    ``trials``, ``sampler`` and ``seed``. ``file`` is the YAML or Python file, empty for a known
    name; ``marks`` say where each setting stands.
    """

    space: SearchSpace
    settings: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    marks: Marks = field(default_factory=Marks, compare=False, repr=False)

    def error(self, path: str, message: str) -> ConfigError:
        """``file:line:column: path: message``, for a setting that turns out to be wrong."""
        return self.marks.error(path, f"{path}: {message}", ConfigError)


class _Narrowed:
    """Fewer values of some parameters of a known space, by their full names."""

    forms = frozenset({"mapping"})

    def check(self, node: Node, path: str, report: Report) -> dict[str, tuple[Value, ...]] | None:
        if not isinstance(node, Table):
            refuse(self, node, path, report)
            return None
        return {entry.key: Choices().check(entry.node, f"{path}.{entry.key}", report) or ()
                for entry in unique(node, path, report)}  # fmt: skip

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": Choices().schema()}

    def words(self) -> str:
        return "a mapping of parameters and the values that are left, such as {width: [1.0]}"


SETTINGS = {
    "device": Key(Either((_DEVICE, List(_DEVICE, 1, 100))), "devices that the latency is of",
                  aka=("devices", "hardware", "target", "board", "gpu")),
    "runtime": Key(Text(tuple(RUNTIMES)), "the software that runs the network",
                   aka=("engine", "backend")),
    "precision": Key(Text(tuple(PRECISIONS)), "how floats are stored", aka=("dtype",)),
    "budget": Key(BUDGET, "limits that every network must keep", aka=("limits", "constraints")),
    "accuracy": Key(Text(hint="an accuracy signal"), "how accuracy is estimated",
                    aka=("signal", "proxy", "score")),
    "trials": Key(Int(), "how many networks are tried", aka=("n_trials", "evaluations")),
    "sampler": Key(Text(hint="the name of a sampler"), "how networks are drawn"),
    "seed": Key(Int(0), "what the random numbers begin with"),
}  # fmt: skip
"""What a space's file can say beside the space."""
_HINTS = {
    "latency_ms": ("budget", "It belongs under budget: write budget: {latency_ms: ...}."),
    "model": ("space", "A network is a configuration; a space has 'layers' with choices in them, "
              "or 'space: NAME'."),
}  # fmt: skip
_BLOCKS = Keys({**BLOCK_KEYS, **SETTINGS}, _HINTS, "a mapping with inputs, parameters and layers")
_NAMED = Keys({
    "space": Key(Text(hint="a space's name, or python:FILE.py:CLASS"), "which space",
                 required=True),
    "parameters": Key(_Narrowed(), "values that are left, by parameter", aka=("choices",)),
    **SETTINGS,
}, _HINTS, "a mapping with 'space: NAME', or with inputs, parameters and layers")  # fmt: skip


def load_space(spec: str | Path) -> LoadedSpace:
    """The space that ``spec`` is: a known name, a YAML file, or ``python:FILE.py:CLASS``.

    Raises:
        ConfigError: no such space or file, or mistakes in it, each with its place.
    """
    text = str(spec)
    if text.startswith(PYTHON):
        return LoadedSpace(_python_space(text, Path()), file=text[len(PYTHON) :].rpartition(":")[0])
    path = Path(text)
    if text in SPACES and not isinstance(spec, Path):
        return LoadedSpace(_known_space(text))
    if path.suffix == ".py":
        raise ConfigError(f"{text} is a Python file; say which class: python:{text}:CLASS")
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return parse_space(_text_of(path), text)
    raise ConfigError(f"unknown space '{text}'.{suggest(text, SPACES)} Known: {', '.join(SPACES)}; "
                      "or a YAML file, or python:FILE.py:CLASS")  # fmt: skip


def parse_space(text: str, file: str = "space.yaml") -> LoadedSpace:
    """The space in a YAML text; ``file`` is what messages call it, and where paths begin.

    Raises:
        ConfigError: with all mistakes and their places.
    """
    root, report = read(text, file), Report(file)
    report.mark("", root.line, root.column)
    if not isinstance(root, Table):
        refuse(_NAMED, root, "", report)
        report.finish()
        raise AssertionError  # finish has raised
    given = {entry.key for entry in root.entries}
    if "space" in given and "layers" in given:
        report.add("space", "the file has both space and layers; keep one.",
                   next((e.line, e.column) for e in root.entries if e.key == "space"))  # fmt: skip
        report.finish()
    if not given & {"space", "layers"}:
        report.add("", "'layers' or 'space' is missing: the layers of a block space, or the name "
                   f"of one that is known ({', '.join(SPACES)}).")  # fmt: skip
        report.finish()
    values = (_BLOCKS if "layers" in given else _NAMED).check(root, "", report) or {}
    space: SearchSpace
    if "layers" in given:
        from predictor.search.spaces.blocks import blocks_of

        space = blocks_of(root, values, report)
    else:
        report.finish()
        space = _named_space(values, report, Path(file).parent)
    settings = {key: values[key] for key in SETTINGS if key in values}
    if isinstance(settings.get("device"), str):
        settings["device"] = (settings["device"],)
    return LoadedSpace(space, settings, file, report.marks)


def _named_space(values: Mapping[str, Any], report: Report, folder: Path) -> SearchSpace:
    """A known space or a class, with the values that are left."""
    name, marks = str(values["space"]), report.marks
    try:
        if name.startswith(PYTHON):
            space = _python_space(name, folder)
        elif name in SPACES:
            space = _known_space(name)
        else:
            raise ConfigError(f"unknown space '{name}'.{suggest(name, SPACES)} Known: "
                              f"{', '.join(SPACES)}; or python:FILE.py:CLASS.")  # fmt: skip
    except ConfigError as error:
        if error.file is not None:
            raise  # in the Python file
        raise marks.error("space", f"space: {error}", ConfigError) from None
    left = values.get("parameters", {})
    try:
        return space.narrowed(left) if left else space
    except ConfigError as error:
        # The message names the parameter that is wrong, where it is a single one.
        path = next((f"parameters.{word}" for word in left if f"'{word}'" in str(error)
                     or f"parameter {word}:" in str(error)), "parameters")  # fmt: skip
        raise marks.error(path, f"{path}: {error}.", ConfigError) from None


def _known_space(name: str) -> SearchSpace:
    file, word = SPACES[name]
    found: SearchSpace = getattr(importlib.import_module(f"predictor.search.spaces.{file}"), word)()
    return found


def _python_space(spec: str, folder: Path) -> SearchSpace:
    """The class of ``python:FILE.py:CLASS``, made; FILE is relative to ``folder``.

    Raises:
        ConfigError: no such file or class, it is no space, or its code raises.
    """
    from predictor.frontends import zoo_python as user

    file, colon, word = spec[len(PYTHON) :].rpartition(":")
    if not colon or not file or not word:
        raise ConfigError(f"{spec}: write python:FILE.py:CLASS, as in python:space.py:MySpace")
    path = folder / file
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ConfigError(f"{spec}: there is no file {path}.{suggest(path.name, near)}")
    path = path.resolve()
    with user._on_path(path.parent):
        found = user._attribute(user._import_file(path), word, spec)
    if not isinstance(found, type) or not issubclass(found, SearchSpace):
        kind = found.__name__ if isinstance(found, type) else type(found).__name__
        raise ModelError(f"'{word}' ({kind}) is no subclass of predictor.search.space.SearchSpace",
                         file=str(path))  # fmt: skip
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise ModelError(f"class {word} lacks the method {missing[0]}", file=str(path))
    with user._user_code(path, f"{word}()"):
        space = found()
    return _checked(space, word, str(path))


def _checked(space: SearchSpace, word: str, file: str) -> SearchSpace:
    """A user's space, its values as tuples, without what could not be searched."""
    parameters = space.parameters
    if not isinstance(parameters, Mapping) or not parameters:
        raise ModelError(f"the space is empty: class {word} has no parameters; write parameters = "
                         '{"width": (16, 24), ...}', file=file)  # fmt: skip
    for name, values in parameters.items():
        where = f"parameter '{name}' of class {word}"
        if not isinstance(values, (tuple, list, range)):
            raise ModelError(f"{where} is {values!r}, not a tuple of values", file=file)
        if not values:
            raise ModelError(f"the space is empty: {where} has no values; list at least one",
                             file=file)  # fmt: skip
        wrong = [v for v in values if not isinstance(v, (int, float, str, bool))
                 or (isinstance(v, str) and ("," in v or not v.strip()))]  # fmt: skip
        if wrong:
            raise ModelError(f"{where}: {wrong[0]!r} is no number, True, False or word without "
                             "commas", file=file)  # fmt: skip
    space.parameters = {str(name): tuple(values) for name, values in parameters.items()}
    space.name = space.name or word.lower()
    return space


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        near = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise ConfigError(f"there is no such file.{suggest(path.name, near)}",
                          file=str(path)) from None  # fmt: skip
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", file=str(path)) from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"the file has more than {MAX_BYTES >> 20} MB; this is no space",
                          file=str(path))  # fmt: skip
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("this is not UTF-8; save the file as UTF-8", file=str(path),
                          line=line) from None  # fmt: skip
