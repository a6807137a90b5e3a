"""What a search found: its trials, its limits, and which of them form the Pareto front."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA_VERSION = 1
"""Raised when a key of :meth:`SearchResult.to_dict` changes its meaning or goes away."""
Value = int | float | str | bool
"""What a parameter of a search space can be."""
Values = Mapping[str, Value]
"""One architecture: a value for every parameter of its space."""


class State(StrEnum):
    """What became of a trial."""

    COMPLETE = "complete"  # its accuracy is known
    OVER_BUDGET = "over budget"  # its figures miss a limit, so its accuracy was never asked for
    PRUNED = "pruned"  # the accuracy signal gave up on it early
    FAILED = "failed"  # the accuracy signal raised, hung or returned no number
    RUNNING = "running"  # a worker has it, or had it when it was killed


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget line: ``quantity`` of ``device`` must not exceed ``limit``.

    ``quantity`` is ``latency_ms``, ``macs``, ``flops``, ``params``, ``memory_mb`` or ``model_mb``;
    ``device`` is empty but for latencies; ``upper`` says that the upper end of the latency's 90 %
    interval counts, instead of the latency.
    """

    quantity: str
    limit: float
    device: str = ""
    upper: bool = False

    @property
    def name(self) -> str:
        """The figure that it limits, see :attr:`Trial.figures`."""
        return figure_name("high_ms" if self.upper else self.quantity, self.device)


def figure_name(quantity: str, device: str = "") -> str:
    """The key of a figure: the quantity, and for latencies the device behind a blank."""
    return f"{quantity} {device}" if device else quantity


@dataclass(frozen=True, slots=True)
class Trial:
    """One architecture that was looked at.

    ``key`` is the architecture as text; ``figures`` are ``macs``, ``flops``, ``params``,
    ``model_mb``, ``memory_mb``, and for each device ``latency_ms DEVICE``, ``low_ms DEVICE`` and
    ``high_ms DEVICE``, with ``measured_ms DEVICE`` where it was measured for real, and ``risk``,
    the probability that it turns out over a latency budget. ``accuracy`` is what the signal said
    (higher is better, in the signal's own unit), None where it was not asked.
    ``violations`` says for every limit that is missed by which factor above it (0.1: 10 % over).
    """

    number: int
    key: str
    values: Values
    state: State
    accuracy: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    on_front: bool = False
    error: str = ""

    @property
    def feasible(self) -> bool:
        """No limit is missed."""
        return not self.violations


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A search: what was asked, and every trial in order.

    ``objectives`` are ``accuracy`` (more is better) and names of figures (less is better); the
    front is what no other feasible trial beats in all of them. ``unit`` is the accuracy's.
    """

    space: str
    signal: str
    sampler: str
    seed: int | None
    devices: tuple[str, ...]
    limits: tuple[Limit, ...]
    objectives: tuple[str, ...]
    trials: tuple[Trial, ...]
    unit: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    caution: float = 0.0
    """What turning out over budget costs, see :attr:`best`."""

    @property
    def front(self) -> tuple[Trial, ...]:
        """Trials on the Pareto front, the most accurate first."""
        found = [trial for trial in self.trials if trial.on_front]
        return tuple(sorted(found, key=lambda t: -(t.accuracy or 0.0)))

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """Trials within all limits, what is worth most first.

        A trial's worth is its accuracy, less its risk to turn out over budget times ``caution``
        times its advantage over the median trial: what is over budget is no better than that.
        """
        done = [t for t in self.trials if t.feasible and t.accuracy is not None]
        if not done:
            return ()
        middle = statistics.median(t.accuracy or 0.0 for t in done)

        def worth(trial: Trial) -> float:
            left = max(0.0, 1 - self.caution * trial.figures.get("risk", 0.0))
            return middle + left * ((trial.accuracy or 0.0) - middle)

        # Where worth is all gone, what is safer comes first.
        return tuple(sorted(done, key=lambda t: (-worth(t), t.figures.get("risk", 0.0), t.number)))

    @property
    def best(self) -> Trial | None:
        """The trial within all limits that is worth most, see :attr:`ranked`; None without one."""
        return next(iter(self.ranked), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values under the same names."""
        data = asdict(self)
        for trial, plain in zip(self.trials, data["trials"], strict=True):
            plain["state"], plain["feasible"] = trial.state.value, trial.feasible
            for key in ("values", "figures", "violations"):
                plain[key] = dict(plain[key])
        data["limits"] = [{**asdict(limit), "name": limit.name} for limit in self.limits]
        return {"schema_version": SCHEMA_VERSION, **data}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchResult:
        """Inverse of :meth:`to_dict`."""
        values = {key: value for key, value in data.items() if key != "schema_version"}
        values["trials"] = tuple(
            Trial(**{**{k: v for k, v in t.items() if k != "feasible"}, "state": State(t["state"])})
            for t in values["trials"]
        )
        values["limits"] = tuple(
            Limit(**{k: v for k, v in limit.items() if k != "name"}) for limit in values["limits"]
        )
        for key in ("devices", "objectives", "notes"):
            values[key] = tuple(values[key])
        return cls(**values)


def pareto(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other point beats; less is better in every coordinate.

    Of equal points the first counts.
    """
    order = sorted(range(len(points)), key=lambda i: (tuple(points[i]), i))
    kept: list[int] = []
    for index in order:
        point = points[index]
        if not any(all(a <= b for a, b in zip(points[other], point, strict=True))
                   for other in kept):  # fmt: skip
            kept.append(index)
    return sorted(kept)
