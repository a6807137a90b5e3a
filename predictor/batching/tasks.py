"""What a row of a table asks for, and what comes of it, as plain values that travel."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from predictor.errors import ConfigError
from predictor.report.units import size_from_text
from predictor.tables import Row

LANGUAGE_SETTINGS = ("phase", "sequence", "context", "attention")
READ = ("model", "batch", "precision", "resolution", "device", *LANGUAGE_SETTINGS)
"""Columns that say what to predict; all others are carried through."""
ADDED = ("latency_ms", "low_ms", "high_ms", "error")
"""Columns that a prediction adds."""
NOT_READ = ("runtime", "layout", "power_mode", "software", "scope")
"""Settings of the command line that a column of the same name does not change."""

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
    paths: bool = True
    """The row may name files; False where it comes from the network."""


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


class Named(Protocol):
    """A table's name, and its columns as the table has them."""

    @property
    def name(self) -> str:
        """What messages call it; relative files are looked up beside it."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Of its header."""
        ...


def task_of(
    row: Row, table: Named, devices: Sequence[str], settings: Mapping[str, Any], *,
    python: bool = False, paths: bool = True,
) -> Task:  # fmt: skip
    """What a row asks for: its own cells first, then ``devices`` and ``settings``."""
    cells = {name: row.cells[at].strip() for name, at in _places(table.columns)}
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
    if paths and model:
        model = _beside_table(model, table.name)
    return Task(row.line, model, asked, given, fault, python, paths)


@functools.lru_cache(maxsize=64)
def _places(columns: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """The columns that are read; of two that are called alike, the first."""
    return tuple((name, columns.index(name)) for name in READ if name in columns)


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
    from predictor.frontends.load import SUFFIXES, beside

    if model.startswith("python:") or model.lower().endswith(SUFFIXES):
        return beside(model, Path(table).parent)
    return model
