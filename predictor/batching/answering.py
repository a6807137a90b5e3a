"""Predictions for the rows of a table.

A :class:`Task` is one row with all its devices, plain values that can travel to another process; an
:func:`answer` needs nothing but the task. :func:`predict_rows` maps one over the other in order, so
running tasks elsewhere takes no more than another ordered ``map``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError, ModelError, PredictorError
from predictor.language import Language
from predictor.report.units import size_from_text
from predictor.tables import Row, Table

if TYPE_CHECKING:
    from predictor.config import Config
    from predictor.graph import Graph

LANGUAGE_SETTINGS = ("phase", "sequence", "context", "attention")
READ = ("model", "batch", "precision", "resolution", "device", *LANGUAGE_SETTINGS)
"""Columns that say what to predict; all others are carried through."""
ADDED = ("latency_ms", "low_ms", "high_ms", "error")
"""Columns that a prediction adds."""
NOT_READ = ("runtime", "layout", "power_mode", "software", "scope")
"""Settings of the command line that a column of the same name does not change."""

_MODEL_SETTINGS = ("batch", "resolution")
TARGET_SETTINGS = ("runtime", "precision", "layout", "power_mode", "software")
"""Settings that choose the target, by their names in ``predict``."""


@dataclass(frozen=True, slots=True)
class Task:
    """One row: a model, the devices to predict it on, and settings by their names in ``predict``.

    ``devices`` may hold None: the config file's own. ``fault`` is why the row cannot be predicted.
    """

    line: int
    model: str
    devices: tuple[str | None, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    python: bool = False
    """The row may name Python files."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A latency and its 90 % interval in milliseconds, or the error that stands in for them."""

    device: str | None
    latency_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    error: str = ""
    exit_code: int = 0

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of :data:`ADDED`."""
        numbers = (self.latency_ms, self.low_ms, self.high_ms)
        return (*("" if value is None else f"{value:.7g}" for value in numbers), self.error)


def task_of(
    row: Row, table: Table, devices: Sequence[str], settings: Mapping[str, Any], *,
    python: bool = False,
) -> Task:  # fmt: skip
    """What a row asks for: its own cells first, then ``devices`` and ``settings``."""
    cells = {name: cell.strip() for name, cell in
             reversed(list(zip(table.columns, row.cells, strict=True)))}  # fmt: skip
    device = cells.get("device", "")
    asked = (device,) if device else tuple(devices) or (None,)
    model = cells.get("model", "")
    given, fault = dict(settings), row.fault
    try:
        if not fault:
            given |= _settings(cells)
            fault = "" if model else "the cell 'model' is empty"
    except ConfigError as error:
        fault = str(error)
    return Task(row.line, model and _beside_table(model, table.name), asked, given, fault, python)


def _settings(cells: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if cells.get("batch"):
        found["batch"] = _whole("batch", cells["batch"])
    if cells.get("precision"):
        found["precision"] = cells["precision"]
    for name in ("phase", "attention"):
        if cells.get(name):
            found[name] = cells[name]
    for name in ("sequence", "context"):
        if cells.get(name):
            found[name] = _whole(name, cells[name], least=int(name == "sequence"))
    if cells.get("resolution"):
        size = size_from_text(cells["resolution"])
        if size is None:
            raise ConfigError(f"resolution '{cells['resolution'][:40]}': use pixels, such as 224, "
                              "or height x width: 360x640")  # fmt: skip
        found["resolution"] = size
    return found


def _whole(name: str, text: str, least: int = 1) -> int:
    number = text.removesuffix(".0")  # what spreadsheets make of whole numbers
    digits = number.isascii() and number.isdigit() and len(number) < 10
    if not digits or int(number) < least:
        raise ConfigError(f"{name} '{text[:40]}': use a whole number of {least} or more")
    return int(number)


def _beside_table(model: str, table: str) -> str:
    from predictor.frontends.load import beside

    return beside(model, Path(table).parent)


def predict_rows(
    tasks: Iterable[Task],
    run: Callable[[Callable[[Task], tuple[Answer, ...]], Iterable[Task]],
                  Iterable[tuple[Answer, ...]]] = map,
) -> Iterator[tuple[Answer, ...]]:  # fmt: skip
    """The answers of every task, one a device, in order; ``run`` is an ordered ``map``."""
    yield from run(answer, tasks)


def answer(task: Task) -> tuple[Answer, ...]:
    """One answer a device; whatever goes wrong with this row is in it. The graph is made once."""
    config: Config | None = None
    graph: Graph | None = None
    answers = []
    failed: Answer | None = None
    for device in task.devices:
        try:
            if failed is None and graph is None:
                config, graph = _model(task)
        except Exception as error:  # one bad row must not end a table of thousands
            failed = _failed(device, error)
        if failed is not None or graph is None:
            name = device or (config.device if config else None)
            answers.append(Answer(name, error=failed.error, exit_code=failed.exit_code)
                           if failed else Answer(name))  # fmt: skip
            continue
        try:
            answers.append(_answer(task, device, config, graph))
        except Exception as error:
            answers.append(_failed(device, error))
    return tuple(answers)


def _answer(task: Task, device: str | None, config: Config | None, graph: Graph) -> Answer:
    from predictor.pipeline import find_predictor

    device = device or (config.device if config else None)
    if device is None:
        raise ConfigError("no device: give --device NAME or fill the column 'device'. "
                          "See: predict-latency devices")  # fmt: skip
    language = _language(task, config)
    of_file = {name: getattr(config, name) for name in TARGET_SETTINGS} if config else {}
    target = {**of_file, **{k: v for k, v in task.settings.items() if k in TARGET_SETTINGS}}
    predictor = find_predictor(device, **target, attention=language.attention)
    estimate = predictor.estimate(
        graph, scope=task.settings.get("scope") or (config and config.scope) or "engine",
        strict=bool(task.settings.get("strict") or (config and config.strict)),
        language=language,
    )  # fmt: skip
    low, high = estimate.interval_ms
    return Answer(device, estimate.latency_ms, low, high)


def _failed(device: str | None, error: Exception) -> Answer:
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if isinstance(error, PredictorError):
        return Answer(device, error=text, exit_code=error.exit_code)
    kind = type(error).__name__
    return Answer(device, error=f"internal error: {kind}: {text}".rstrip(": "), exit_code=1)


def _model(task: Task) -> tuple[Config | None, Graph]:
    if task.fault:
        raise ConfigError(task.fault)
    if task.model == "-":
        raise ModelError("'-' is no model here: a table names files and models")
    is_file = Path(task.model).is_file()
    stamp = os.stat(task.model).st_mtime if is_file else 0.0
    config = _config(task.model, stamp) if task.model.lower().endswith((".yaml", ".yml")) else None
    if not task.python:
        _refuse_python(task.model, config)
    chosen = {name: task.settings[name] for name in _MODEL_SETTINGS if name in task.settings}
    return config, _graph(task.model, stamp, tuple(chosen.items()), _language(task, config))


def _language(task: Task, config: Config | None) -> Language:
    said = {name: task.settings[name] for name in LANGUAGE_SETTINGS if name in task.settings}
    of_file = {name: getattr(config, name) for name in LANGUAGE_SETTINGS} if config else {}
    return Language(**said) if config is None else Language(**said) | Language(**of_file)


def _refuse_python(model: str, config: Config | None) -> None:
    from predictor.config import ModelSource

    source = model
    if config is not None:
        source = config.model.source if isinstance(config.model, ModelSource) else str(config.model)
    if source.startswith("python:"):
        raise ModelError(f"{source}: a Python file is run only if the command line says so; add "
                         "--allow-python if you trust the files of this table")  # fmt: skip


@functools.lru_cache(maxsize=4)
def _config(path: str, stamp: float) -> Config:
    from predictor.config import load_config

    return load_config(path)


@functools.lru_cache(maxsize=4)
def _graph(
    model: str, stamp: float, settings: tuple[tuple[str, Any], ...], language: Language
) -> Graph:
    """Neighbouring rows often differ in the device or the precision alone."""
    from predictor.frontends.load import load_graph

    return load_graph(model, language=language, **dict(settings))
