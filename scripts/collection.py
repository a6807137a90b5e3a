"""A collection: published figures that are fitted together, and the targets that ship from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from predictor.latency.fitting import Fit, FitRow, fit_rows
from scripts.figures import Figure, Graphs
from scripts.folds import Key

Loaded = tuple[list[Figure], list[Figure], Counter[str]]


@dataclass(frozen=True, slots=True)
class Ship:
    """A target that ships: ``levels`` name the groups whose deviations it takes.

    ``siblings`` are the boards whose left-out errors stand for a board without figures.
    """

    device: str
    target: str
    rules: str
    levels: tuple[str, ...]
    software: str = ""
    siblings: tuple[str, ...] = ()
    board: str = ""
    host_us: float | None = None
    call_ms: float | None = None
    smallest_batch: int = 1
    """Where the figures begin, but for the odd row."""
    basis: str = ""
    """What the figures are, where the usual sentence does not say it."""
    overrides: tuple[tuple[str, float], ...] = ()
    """Parameters that figures of this kind cannot say for a network."""
    units_share: float = 1.0
    """Cores that the figures used, as a share of the profile's."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Figures that share parameters, and how their accuracy is judged."""

    name: str
    load: Callable[[Path, Graphs], Loaded]
    ships: tuple[Ship, ...]
    citations: tuple[str, ...]
    protocols: tuple[str, ...] = ("model", "family", "board", "source")
    scored: Callable[[Figure], bool] = lambda figure: True
    headline: tuple[str, ...] = ()
    """Boards whose pooled figures stand for the collection; all, if empty."""
    keys: Mapping[str, Key] = field(default_factory=dict)
    fit: Callable[[Sequence[FitRow]], Fit] = fit_rows
    """How rows are fitted, in every fold too; a collection may bring its own prior."""
    page: str = "accuracy"
    """Name of the page, and of the file of aggregates, that its accuracy stands in."""
