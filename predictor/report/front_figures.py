"""Words and units of a search's figures, for its table, its CSV and its page."""

from __future__ import annotations

from collections import Counter

from predictor.front import Limit, SearchResult, State, Trial, figure_name
from predictor.report.units import count, digits, megabytes, milliseconds

WORDS = {
    "accuracy": "accuracy", "latency_ms": "latency", "low_ms": "low end", "high_ms": "high end",
    "measured_ms": "measured", "macs": "MACs", "flops": "FLOPs", "params": "parameters",
    "model_mb": "model", "memory_mb": "memory",
}  # fmt: skip
"""What the first word of a figure's name is called."""


def figure_words(name: str) -> str:
    """``latency_ms jetson`` is ``latency on jetson``, ``params`` is ``parameters``."""
    quantity, _, device = name.partition(" ")
    words = WORDS.get(quantity, quantity)
    return f"{words} on {device}" if device else words


def unit_of(name: str) -> str:
    """``ms``, ``MB`` or nothing, by the figure's name."""
    quantity = name.partition(" ")[0]
    return "ms" if quantity.endswith("_ms") else "MB" if quantity.endswith("_mb") else ""


def figure_text(name: str, value: float | None) -> str:
    """The figure with three digits and its unit; a dash where it is not known."""
    if value is None:
        return "–"
    unit = unit_of(name)
    if unit:
        return milliseconds(value) if unit == "ms" else megabytes(value)
    return count(value) if abs(value) >= 1000 else digits(value)


def accuracy_text(value: float | None, unit: str) -> str:
    """The accuracy as its signal gives it: two decimals of a percentage, else four digits."""
    if value is None:
        return "–"
    if unit == "%":
        return f"{value:.2f} %"
    return f"{value:.4g} {unit}".rstrip()


def limit_text(limit: Limit) -> str:
    """``latency on jetson 10.0 ms``; the upper end of the interval is said to be that."""
    words = figure_words(figure_name(limit.quantity, limit.device))
    upper = " (upper end of the 90 % interval)" if limit.upper else ""
    return f"{words} {figure_text(limit.name, limit.limit)}{upper}"


def violations_text(trial: Trial) -> str:
    """``latency on jetson 12 % over``, the worst first; nothing where all limits are met."""
    worst = sorted(trial.violations.items(), key=lambda item: -item[1])
    return ", ".join(f"{figure_words(name)} {_over(share)}" for name, share in worst)


def _over(share: float) -> str:
    return f"{100 * share:,.1f} % over" if share < 0.1 else f"{100 * share:,.0f} % over"


def figure_names(result: SearchResult) -> tuple[str, ...]:
    """Every figure that some trial has, those of latency first, device by device."""
    seen = dict.fromkeys(name for trial in result.trials for name in trial.figures)
    wanted = [figure_name(word, device) for device in result.devices
              for word in ("latency_ms", "low_ms", "high_ms", "measured_ms")]  # fmt: skip
    first = [name for name in wanted if name in seen]
    return (*first, *(name for name in seen if name not in first))


def latency_names(result: SearchResult) -> tuple[str, ...]:
    """The latency of each device, in order."""
    names = figure_names(result)
    wanted = (figure_name("latency_ms", device) for device in result.devices)
    return tuple(name for name in wanted if name in names)


def counts(result: SearchResult) -> list[tuple[str, int]]:
    """How many trials became what, in words; what there is none of is left out."""
    states = Counter(trial.state for trial in result.trials)
    within = sum(trial.feasible and bool(trial.figures) for trial in result.trials)
    scored = sum(trial.accuracy is not None for trial in result.trials)
    rows = [("within all limits", within), ("scored", scored)]
    rows += [(state.value, states[state]) for state in State if state is not State.COMPLETE]
    return [(word, n) for word, n in rows if n or word == "within all limits"]


def nearest(result: SearchResult) -> Trial | None:
    """Of trials that miss a limit, the one whose worst violation is smallest."""
    missed = [trial for trial in result.trials if trial.violations]
    return min(missed, key=lambda t: (max(t.violations.values()), t.number), default=None)


def how(result: SearchResult) -> list[str]:
    """How the search went: its signal, sampler, seed and time."""
    seed = f"seed {result.seed}" if result.seed is not None else ""
    took = milliseconds(1000 * result.seconds) if result.seconds else ""
    words = (f"accuracy by {result.signal}", f"sampler {result.sampler}", seed, took)
    return [word for word in words if word]
