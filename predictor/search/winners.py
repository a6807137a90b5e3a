"""The best networks of a search as files: a configuration, PyTorch source, and ONNX.

::

    winners/01-ks-7-e-6-d-4/config.yaml     predict-latency config.yaml
                            network.py      python network.py; train it
                            network.onnx    batch 1, weights as drawn, to measure with
                            left-out.txt    only where something could not be written, and why
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from predictor.errors import ConfigError, MissingExtra, PredictorError
from predictor.files import write_whole
from predictor.front import SearchResult, Trial, Values, figure_name
from predictor.frontends.torch_source import source_of
from predictor.graph import Graph
from predictor.report.front_figures import accuracy_text, limit_text
from predictor.report.units import count, megabytes, milliseconds

if TYPE_CHECKING:
    from torch import nn

LONGEST_SLUG = 48
"""Characters of a folder's name that come from the key."""
INSTALL = "pip install 'latency-predictor[torch,onnx]'"
LARGEST_ONNX = 1_900_000_000
"""Bytes of weights; a protobuf message cannot be larger than 2 GiB."""


class Space(Protocol):
    """The part of a search space that writing needs."""

    def graph(self, values: Values) -> Graph:
        """The network at batch 1."""

    def config(self, values: Values) -> Mapping[str, Any]:
        """``model`` and what else a configuration needs to name the network, ``inputs`` say."""


def write_winners(result: SearchResult, space: Space, folder: Path, count: int) -> list[Path]:
    """Write the ``count`` best networks of the front, the most accurate first.

    Args:
        result: the search; a front without trials writes nothing.
        space: where its networks come from.
        folder: made where it is missing; what is in it already stays.
        count: how many networks at most.

    Returns:
        The folder of each network, ``01-KEY``, ``02-KEY``, ...

    Raises:
        ConfigError: a file cannot be written, or ``count`` is below 1.
    """
    if count < 1:
        raise ConfigError(f"{count} winners: write 1 or more")
    chosen = [trial for trial in result.ranked if trial.on_front][:count]
    folders = []
    for rank, trial in enumerate(chosen, 1):
        place = folder / f"{rank:02d}-{slug(trial.key)}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            for name, data in _files(result, space, trial, rank, len(chosen)):
                write_whole(place / name, data)
        except OSError as error:
            raise ConfigError(f"{place}: cannot be written: {error.strerror}; choose a folder that "
                              "can be, with room for the weights") from error  # fmt: skip
        folders.append(place)
    return folders


def slug(key: str) -> str:
    """``key`` as a file name of at most 48 characters; what is cut is told apart by a hash."""
    words = re.sub(r"(?:[^0-9A-Za-z.]|\.(?![0-9]))+", "-", key).strip("-.")
    if 0 < len(words) <= LONGEST_SLUG:
        return words
    mark = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{words[: LONGEST_SLUG - 9].rstrip('-.')}-{mark}".lstrip("-")


def _files(
    result: SearchResult, space: Space, trial: Trial, rank: int, total: int
) -> Iterator[tuple[str, bytes]]:
    about = _about(result, trial, rank, total)
    left = list[str]()
    try:
        settings = dict(space.config(trial.values))
        yield "config.yaml", _config(result, settings, about).encode()
    except PredictorError as error:
        left.append(f"config.yaml: {error}")
    graph = space.graph(trial.values)
    try:
        yield "network.py", source_of(graph, about=about).encode()
    except PredictorError as error:
        left.append(f"network.py: {error}")
    try:
        yield "network.onnx", onnx_of(graph, getattr(space, "module", None), trial.values)
    except PredictorError as error:
        left.append(f"network.onnx: {error}")
    if left:
        yield "left-out.txt", ("\n".join(left) + "\n").encode("utf-8", "backslashreplace")


def _about(result: SearchResult, trial: Trial, rank: int, total: int) -> list[str]:
    """What the network is, line by line."""
    head = f"Network {rank} of the {total} best that a search in the space '{result.space}' found."
    lines = [head, "", trial.key, ""]
    if trial.accuracy is not None:
        score = accuracy_text(trial.accuracy, result.unit)
        lines.append(f"accuracy, as scored by {result.signal}: {score}")
    figures = trial.figures
    for device in result.devices:
        if (name := figure_name("latency_ms", device)) in figures:
            ends = [figures.get(figure_name(word, device)) for word in ("low_ms", "high_ms")]
            known = [milliseconds(end) for end in ends if end is not None]
            span = f" (90 % interval {known[0]} to {known[1]})" if len(known) == 2 else ""
            lines.append(f"latency on {device}, predicted: {milliseconds(figures[name])}{span}")
        if (name := figure_name("measured_ms", device)) in figures:
            lines.append(f"latency on {device}, measured: {milliseconds(figures[name])}")
    sizes = [f"{words} {count(figures[name])}" for name, words in (("macs", "MACs"),
             ("params", "parameters")) if name in figures]  # fmt: skip
    return [*lines, *([", ".join(sizes)] if sizes else []), "The weights are random: train it."]


def _config(result: SearchResult, settings: dict[str, Any], about: list[str]) -> str:
    """The configuration, with what it cannot say as comments."""
    import yaml

    device = result.devices[0] if result.devices else ""
    budget: dict[str, float] = {}
    beside: list[str] = []
    for limit in result.limits:
        if limit.device in ("", device) and not limit.upper and limit.quantity not in budget:
            whole = float(limit.limit).is_integer()
            budget[limit.quantity] = int(limit.limit) if whole else limit.limit
        else:
            beside.append(f"another limit of the search: {limit_text(limit)}")
    beside += [f"another device of the search: {other}" for other in result.devices[1:]]
    if device:
        settings["device"] = device
    if budget:
        settings["budget"] = budget
    comments = "".join(f"# {_line(text)}".rstrip() + "\n" for text in [*about[:-1], *beside])
    body = yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=100,
                          allow_unicode=True)  # fmt: skip
    return f"{comments}{body}"


def _line(text: str) -> str:
    """``text`` on one line of a comment, where nothing can end it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def onnx_of(graph: Graph, module: Any = None, values: Values | None = None) -> bytes:
    """The network as an ONNX file with its weights, drawn with seed 0.

    Args:
        graph: the network; its input shapes are the file's.
        module: a function of ``values`` that makes the module where the graph cannot be written
            as PyTorch (that of a space whose networks are code).
        values: the architecture.

    Raises:
        MissingExtra: torch or onnx is not installed.
        ModelError: torch cannot export it.
        ConfigError: it is too large for one file.
    """
    try:
        import onnx  # noqa: F401
        import torch
    except ImportError as error:
        raise MissingExtra(f"exporting needs torch and onnx ({error}): {INSTALL}") from error
    from predictor.frontends.onnx_export import export_whole

    if graph.model_bytes > LARGEST_ONNX:
        raise ConfigError(
            f"{megabytes(graph.model_bytes / 1e6)} of weights are more than one ONNX file holds; "
            "export network.py with external data"
        )
    inputs = {name: {"shape": list(spec.shape), "dtype": spec.dtype}
              for name, spec in zip(graph.input_names, graph.input_specs, strict=True)}  # fmt: skip
    shapes = tuple(inputs.values())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same network gives the same file
        made = _module(graph, module, values)
        model = export_whole(made, shapes if len(shapes) > 1 else shapes[0])
    _name_results(model.graph)
    data: bytes = model.SerializeToString()
    return data


def _module(graph: Graph, module: Any, values: Values | None) -> nn.Module:
    from predictor.frontends.torch_source import module_of

    try:
        return module_of(graph)
    except PredictorError:
        if module is None:
            raise
        made: nn.Module = module(values)
        return made


def _name_results(graph: Any) -> None:
    """Call the results ``output`` (``output_0``, ...): the exporter numbers them."""
    made = {name for node in graph.node for name in node.output}
    several = len(graph.output) > 1
    names = {}
    for number, result in enumerate(graph.output):
        wanted = f"output_{number}" if several else "output"
        if result.name in made and wanted not in made:
            names[result.name] = wanted
            result.name = wanted
    for node in graph.node:
        for slots in (node.input, node.output):
            for i, name in enumerate(slots):
                slots[i] = names.get(name, name)
