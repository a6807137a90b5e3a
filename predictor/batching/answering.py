"""Predictions of tasks: one by one, and many at once.

:func:`answer` reads a model and predicts it. :func:`answer_all` gives the same answers, and prices
keys of network families by their parts where enough of them come (see
:mod:`predictor.batching.families`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.batching.families import known_device, priced
from predictor.batching.tasks import LANGUAGE_SETTINGS, TARGET_SETTINGS, Answer, Task
from predictor.errors import ConfigError, ModelError, PredictorError
from predictor.language import Language

if TYPE_CHECKING:
    from predictor.config import Config
    from predictor.graph import Graph

_MODEL_SETTINGS = ("batch", "resolution")


def answer_all(tasks: Sequence[Task]) -> list[tuple[Answer, ...]]:
    """What :func:`answer` says of each task, to 1e-9 of every number, faster for families."""
    return list(answers(tasks))


def answers(tasks: Sequence[Task]) -> Iterator[tuple[Answer, ...]]:
    """:func:`answer_all`, one by one: what takes long is only done when it is asked for."""
    fast = priced(tasks)
    for task, known in zip(tasks, fast, strict=True):
        if known is None:
            yield answer(task)
            continue
        missing = tuple(d for d, one in zip(task.devices, known, strict=True) if one is None)
        others = iter(answer(replace(task, devices=missing)) if missing else ())
        yield tuple([one or next(others) for one in known])


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
            failed = _failed(task, device, error)
        if failed is not None or graph is None:
            name = device or (config.device if config else None)
            answers.append(Answer(name, error=failed.error, exit_code=failed.exit_code)
                           if failed else Answer(name))  # fmt: skip
            continue
        try:
            answers.append(_answer(task, device, config, graph))
        except Exception as error:
            answers.append(_failed(task, device, error))
    return tuple(answers)


def _answer(task: Task, device: str | None, config: Config | None, graph: Graph) -> Answer:
    from predictor.pipeline import find_predictor

    device = device or (config.device if config else None)
    if device is None:
        raise ConfigError("no device: give --device NAME or fill the column 'device'. "
                          "See: predict-latency devices")  # fmt: skip
    if not task.paths:
        known_device(device)
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


def _failed(task: Task, device: str | None, error: Exception) -> Answer:
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if not task.paths:
        from predictor.frontends.remote import without_folders

        text = without_folders(text)
    if isinstance(error, PredictorError):
        return Answer(device, error=text, exit_code=error.exit_code)
    kind = type(error).__name__
    return Answer(device, error=f"internal error: {kind}: {text}".rstrip(": "), exit_code=1)


def _model(task: Task) -> tuple[Config | None, Graph]:
    if task.fault:
        raise ConfigError(task.fault)
    if not task.paths:
        from predictor.frontends.remote import refuse_local

        refuse_local(task.model)
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


def check_device(device: str, settings: Mapping[str, Any], *, paths: bool = True) -> None:
    """Raise what is wrong with a device, or with the settings of a target on it."""
    from predictor.pipeline import find_predictor

    if not paths:
        known_device(device)
    find_predictor(device, **{k: v for k, v in settings.items() if k in TARGET_SETTINGS})
