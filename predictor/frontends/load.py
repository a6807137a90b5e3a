"""One door for everything that a model can be given as: a path, a name, a config, a module."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError, ModelError, suggest
from predictor.graph import Graph
from predictor.language import Language
from predictor.pause import collector_paused

if TYPE_CHECKING:
    from predictor.config import Config

Resolution = int | tuple[int, int]
EXAMPLES = (
    "config.yaml, model.onnx, model.pt2, torchvision:resnet50, timm:NAME, ofa:KEY, decoder:gpt2"
)
SUFFIXES = (".yaml", ".yml", ".onnx", ".pt2")


def load_graph(
    source: str | os.PathLike[str],
    *,
    batch: int | None = None,
    resolution: Resolution | None = None,
    inputs: Any = None,
    config: Config | None = None,
    language: Language | None = None,
) -> Graph:
    """Read a model from a file or by its name, without its weights.

    Args:
        source: a path (``.yaml``, ``.onnx``, ``.pt2``), a model name (``docs/model-names.md``), or
            ``-`` for a YAML config on standard input.
        batch: images (batch items) in one pass; None keeps the model's own.
        resolution: height and width in pixels of image inputs, or one number for both.
        inputs: shapes, where the source does not bring its own; see :func:`predictor.trace`.
        config: a configuration that was read already (``source`` is then only a label).
        language: phase, lengths and attention of a language model.

    Raises:
        ConfigError: the configuration is wrong, with file:line:column.
        ModelError: the model cannot be read, with the place and a remedy.
        MissingExtra: an optional package is needed; the message has the line that installs it.
    """
    if batch is not None and batch < 1:
        raise ConfigError(f"batch {batch}: use 1 or more")
    for side in sides_of(resolution):
        if side < 1:
            raise ConfigError(f"resolution {resolution}: use 1 pixel or more")
    text = os.fspath(source)
    if config is None and (text == "-" or text.lower().endswith((".yaml", ".yml"))):
        from predictor.config import load_config

        config = load_config(text)
    with collector_paused():
        if config is not None:
            return _from_config(config, batch, resolution, inputs, language or Language())
        return _from_name(text, batch, resolution, inputs, {}, language or Language())


def _from_config(
    config: Config, batch: int | None, resolution: Resolution | None, inputs: Any,
    language: Language,
) -> Graph:  # fmt: skip
    from predictor.config import DecoderSource, LayerList, ModelSource

    language = language | config.language
    if isinstance(config.model, LayerList):
        from predictor.frontends.layer_list import graph_of

        _no_phase(config.model.name, language)
        return graph_of(config, batch=batch, resolution=resolution)
    if isinstance(config.model, DecoderSource):
        from predictor.frontends.families.decoder import decoder_from, graph

        try:
            return graph(decoder_from(config.model.settings), name=config.model.name,
                         batch=batch or config.batch or 1, language=language)  # fmt: skip
        except ModelError as error:
            raise config.error("model.decoder", str(error), ModelError) from None
    args: Mapping[str, Any] = {}
    if isinstance(config.model, ModelSource):
        name, args = config.model.source, config.model.args
    else:
        name = config.model
    shapes = config.inputs if inputs is None else inputs
    if isinstance(shapes, tuple) and len(shapes) == 1:
        shapes = shapes[0]
    here = Path(config.file).parent if config.file and config.file != "-" else Path()
    name = beside(name, here)
    try:
        return _from_name(
            name, batch or config.batch, resolution or config.resolution, shapes, args, language
        )
    except ModelError as error:
        if error.line is not None or not config.file:
            raise
        raise config.error("model", str(error), type(error)) from error


def beside(name: str, folder: Path) -> str:
    """A relative file that a file in ``folder`` names: beside it, or where the user stands."""
    head, colon, rest = name.partition(":")
    if head == "python" and colon:
        file, _, factory = rest.rpartition(":")
        if file and not Path(file).exists() and (folder / file).exists():
            return f"python:{folder / file}:{factory}"
    elif name.lower().endswith(SUFFIXES) and not Path(name).exists() and (folder / name).exists():
        return str(folder / name)
    return name


def _from_name(
    name: str, batch: int | None, resolution: Resolution | None, inputs: Any,
    args: Mapping[str, Any], language: Language,
) -> Graph:  # fmt: skip
    from predictor.frontends.families.decoder import is_decoder, named_graph

    if is_decoder(name):
        if resolution is not None or inputs is not None or args:
            raise ModelError(f"{name}: tokens are read here: give batch, sequence, context")
        return named_graph(name, batch=batch or 1, language=language)
    if not name.startswith("transformers:"):
        _no_phase(name, language)
    lower = name.lower()
    if lower.endswith(".onnx"):
        from predictor.frontends.onnx_model import read_onnx

        return read_onnx(
            _existing(name), batch=batch, resolution=resolution, shapes=_by_name(inputs)
        )
    if lower.endswith(".pt2"):
        from predictor.frontends.pt2 import read_pt2

        _fixed(name, resolution, inputs)
        return read_pt2(_existing(name), batch=batch)
    from predictor.frontends.families import family_graph, is_family

    if is_family(name):
        side = _square(name, resolution)
        return family_graph(name, batch=batch or 1, resolution=side).renamed(name)
    from predictor.frontends.zoo import is_named

    if not is_named(name):
        raise ModelError(_no_model(name))
    return _built(name, batch, resolution, inputs, args, language)


def _no_phase(name: str, language: Language) -> None:
    if language.phase is not None or language.sequence is not None:
        raise ModelError(
            f"{name}: phase, sequence and context are for language models: transformers:TYPE, "
            "transformers:path/to/config.json, or decoder:KEY"
        )


def _built(
    name: str, batch: int | None, resolution: Resolution | None, inputs: Any,
    args: Mapping[str, Any], language: Language,
) -> Graph:  # fmt: skip
    from dataclasses import replace

    from predictor.frontends.torch_module import rebatched, trace
    from predictor.frontends.zoo import build_named

    if inputs is not None and (language.phase or language.sequence):
        raise ModelError(f"{name}: inputs, or phase and sequence: give one of them")
    built = build_named(name, args=args, language=language)
    shapes = built.inputs if inputs is None else inputs
    if shapes is None:
        raise ModelError(f"{name}: inputs are needed, such as inputs: [1, 3, 224, 224] in a config")
    if resolution is not None:
        shapes = resized(shapes, sides_of(resolution))
    if batch is not None:
        shapes = rebatched(shapes, batch)
    graph = trace(built.module, shapes, name=name)
    return replace(graph, notes=(*built.notes, *graph.notes))


def resized(inputs: Any, sides: Sequence[int]) -> Any:
    """``inputs`` with the last two sizes of every image shape (N, C, H, W) set to ``sides``."""
    if isinstance(inputs, Mapping):
        if "shape" in inputs:
            shape = tuple(inputs["shape"])
            return {**inputs, "shape": resized(shape, sides) if len(shape) == 4 else shape}
        return {key: resized(value, sides) for key, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        if inputs and all(isinstance(n, int) for n in inputs):
            return (*inputs[:-2], *sides) if len(inputs) in (3, 4, 5) else tuple(inputs)
        return type(inputs)(resized(value, sides) for value in inputs)
    return inputs


def sides_of(resolution: Resolution | None) -> tuple[int, ...]:
    """Height and width in pixels; empty for None."""
    if resolution is None:
        return ()
    return (resolution, resolution) if isinstance(resolution, int) else tuple(resolution)


def _square(name: str, resolution: Resolution | None) -> int | None:
    sides = sides_of(resolution)
    if sides and sides[0] != sides[1]:
        raise ModelError(f"{name}: images are square here; give one number as resolution")
    return sides[0] if sides else None


def _by_name(inputs: Any) -> Mapping[str, Sequence[int]] | None:
    if inputs is None:
        return None
    if isinstance(inputs, Mapping):
        shapes: dict[str, Sequence[int]] = {}
        for name, value in inputs.items():
            shapes[name] = tuple(value.shape if hasattr(value, "shape") else value)
        return shapes
    raise ModelError("an ONNX model has named inputs: give their shapes by name")


def _fixed(name: str, resolution: Resolution | None, inputs: Any) -> None:
    if resolution is not None or inputs is not None:
        raise ModelError(f"{name}: an exported program has fixed sizes; export it anew at others")


def _existing(name: str) -> str:
    path = Path(name)
    if path.is_dir():
        raise ModelError(f"{name}: a folder, not a file")
    if not path.exists():
        folder = path.parent
        near = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        raise ModelError(f"{name}: no such file.{suggest(path.name, near)}")
    return name


def _no_model(name: str) -> str:
    if Path(name).suffix and Path(name).exists():
        return f"{name}: this kind of file is not read. A model is one of: {EXAMPLES}"
    from predictor.frontends.families import FAMILIES
    from predictor.frontends.zoo import SOURCES

    head, colon, _ = name.partition(":")
    hint = suggest(head, [*SOURCES, *FAMILIES, "decoder"]) if colon else ""
    return f"'{name}' is no model that is known here.{hint} A model is one of: {EXAMPLES}"
