"""Other tools' files of measurements, one reader a format; what they hold is a :class:`Reading`.

Readers take the bytes of one file and never guess: what they cannot understand in full is a
ConfigError with the place, the cause and a remedy. Times leave them in milliseconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from predictor.errors import ConfigError

MS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
"""Milliseconds in a unit."""
SHORTEST_MS, LONGEST_MS = 1e-6, 1e9
"""What counts as the latency of a network, as in a table for ``calibrate``."""
SLIP = 30.0
"""Two figures of one thing that differ by this factor are in different units (those differ by
1,000); smaller differences are rounding, idle time or overhead."""
FEW = 10
"""Fewer repeats than this have no percentiles."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A whole network's latency in milliseconds: the median, or the mean where only that is known.

    ``n`` is the number of repeats (0: not told), ``first_run_ms`` the run that was not warm.
    """

    latency_ms: float
    n: int = 0
    median_ms: float | None = None
    p10_ms: float | None = None
    p90_ms: float | None = None
    first_run_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """What a runtime ran as one piece: its name, operator type and milliseconds in one inference.

    ``parts`` are the names of the operators in it; ``why`` says why it can be no kernel of ours
    (a change of layout, a merge), empty otherwise. ``spread`` is the relative median absolute
    deviation of the repeats, None where it is not told. ``node`` is what else a format knows.
    """

    name: str
    type: str
    latency_ms: float
    repeats: int
    spread: float | None = None
    parts: tuple[str, ...] = ()
    why: str = ""
    node: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a table of networks, its cells as they stood; ``line`` counts from 1."""

    line: int
    model: str
    latency: Latency
    batch: str = ""
    precision: str = ""
    resolution: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """What is told of a layer without its time: operators in it, shapes that it writes."""

    parts: tuple[str, ...] = ()
    outputs: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """One file, understood. A file about one network has ``latency`` and ``layers`` (either may be
    missing) or ``info``; a table of many has ``rows``."""

    file: str
    format: str
    sha256: str = ""
    runtime: str | None = None
    precision: str | None = None
    latency: Latency | None = None
    layers: tuple[Layer, ...] = ()
    rows: tuple[TableRow, ...] = ()
    info: Mapping[str, LayerInfo] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def fail(file: str, message: str, line: int | None = None, column: int | None = None) -> NoReturn:
    """Raise the ConfigError of a wrong file."""
    raise ConfigError(message, file=file, line=line, column=column)


def milliseconds(
    value: Any, unit: str, what: str, file: str, *, line: int | None = None, zero: bool = False
) -> float:
    """``value`` of ``unit`` in milliseconds.

    Raises:
        ConfigError: no number, not finite, negative, out of bounds, or 0 unless ``zero`` is fine.
    """
    shown = _shown(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        fail(file, f"{what} is {shown}; a number of {unit} is needed", line)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        fail(file, f"{what} is {shown} {unit}; a time is above 0. Measure again", line)
    ms = number * MS[unit]
    if number and not (ms <= LONGEST_MS and (zero or ms >= SHORTEST_MS)):
        fail(file, f"{what} is {shown} {unit}, which is no plausible time; is it in {unit}?", line)
    return ms


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 1 << 60:
        return "a huge number"
    text = "a list or mapping" if isinstance(value, dict | list) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return quantile(sorted(values), 0.5)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of sorted values, linear between two of them."""
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def spread(values: Sequence[float]) -> float | None:
    """Relative median absolute deviation; None for fewer than three values or a median of 0."""
    middle = median(values)
    if len(values) < 3 or not middle:
        return None
    return median([abs(value - middle) for value in values]) / middle


def latency_of(values_ms: Sequence[float], first_run_ms: float | None = None) -> Latency:
    """The latency that repeats give, in milliseconds; percentiles from ten repeats on."""
    ordered = sorted(values_ms)
    middle, many = quantile(ordered, 0.5), len(ordered) >= FEW
    return Latency(
        middle, len(ordered), middle, quantile(ordered, 0.1) if many else None,
        quantile(ordered, 0.9) if many else None, first_run_ms,
    )  # fmt: skip


def text_of(data: bytes, file: str) -> str:
    """The file as text.

    Raises:
        ConfigError: it is no UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fail(file, f"no UTF-8 text at byte {error.start}: the file is damaged, or none of the "
             "known formats", line)  # fmt: skip


def json_of(data: bytes, file: str, ended_by: str) -> Any:
    """The file as JSON values; ``ended_by`` is what to do where it was cut.

    Control characters in strings are let through, as TensorRT writes them.

    Raises:
        ConfigError: it is no JSON, with line and column.
    """
    text = text_of(data, file)
    if not text.strip():
        fail(file, f"the file is empty; {ended_by}")
    try:
        return json.JSONDecoder(strict=False, parse_constant=_no_constant).decode(text)
    except json.JSONDecodeError as error:
        end = len(text.rstrip())
        if error.pos >= end - 1 or error.msg.startswith("Unterminated"):
            fail(file, f"the JSON ends in the middle: the file was cut; {ended_by}", error.lineno,
                 error.colno)  # fmt: skip
        fail(file, f"no JSON here: {error.msg}; {ended_by}", error.lineno, error.colno)
    except RecursionError:
        fail(file, "brackets nested too deep; this is none of the known formats")
    except ValueError as error:  # a number of thousands of digits, NaN
        fail(file, f"no JSON that can be read: {error}")


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no time; measure again")
