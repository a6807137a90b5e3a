"""Kinds of values: numbers, words, lists and alternatives of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from predictor.errors import suggest
from predictor.schema import Kind, Report, form, refuse, unique
from predictor.yamlmarks import Node, Scalar, Sequence, Table, brief, remedy

LARGEST = 1 << 53
"""Whole numbers beyond this are not exact in JSON and in floats, so none is accepted."""
_SUFFIXES = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_SUFFIXED = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?([kKmMgGbBtT])")


def _wild(node: Scalar) -> str:
    """What is wrong with a number's size: not finite, too large, or nothing."""
    value = node.value
    if not isinstance(value, (int, float)):
        return ""
    digits = node.raw.lstrip("+-")[:1].isdigit()  # a long row of digits also becomes infinite
    if isinstance(value, float) and not math.isfinite(value) and not digits:
        return "not a finite number"
    return "beyond 2^53" if abs(value) > LARGEST else ""


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number from ``low`` to ``high``."""

    low: int = 1
    high: int = LARGEST
    forms = frozenset({"number"})

    def check(self, node: Node, path: str, report: Report) -> int | None:
        """An int, or None after a report."""
        if form(node) != "number":
            refuse(self, node, path, report)
            return None
        assert isinstance(node, Scalar)
        value, raw = node.value, brief(node.raw)
        assert isinstance(value, (int, float))
        wild = _wild(node)
        if wild:
            report.add(path, f"{raw} is {wild}; write {self.words()}.")
        elif isinstance(value, float):
            near = f"; write {value:.0f}" if value == int(value) else ""
            report.add(path, f"wants {self.words()}, got {raw}{near}.")
        elif not self.low <= value <= self.high:
            report.add(path, f"wants {self.words()}, got {raw}.")
        else:
            return value
        return None

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}

    def words(self) -> str:
        """English."""
        if self.high != LARGEST:
            return f"a whole number from {self.low} to {self.high}"
        return "a whole number" + (f" of {self.low} or more" if self.low > -LARGEST else "")


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number above ``low``, or from it with ``closed``, to ``high``.

    With ``suffix`` also 5K, 600M, 1.2G (or B), 3T.
    """

    low: float = 0
    high: float = LARGEST
    closed: bool = False
    suffix: bool = False

    @property
    def forms(self) -> frozenset[str]:
        """Numbers; with a suffix text too."""
        return frozenset({"number", "text"} if self.suffix else {"number"})

    def check(self, node: Node, path: str, report: Report) -> float | None:
        """A number, or None after a report."""
        if not isinstance(node, Scalar):
            refuse(self, node, path, report)
            return None
        value = self._expanded(node.value) if self.suffix else node.value
        if value is None or isinstance(value, (bool, str)):
            unit = re.fullmatch(r"([0-9.]+) ?([a-zA-Z]+)", str(value))
            if unit:
                report.add(path, f"'{brief(unit[0])}' has a unit that is not read; "
                           f"write {self.words()}.")  # fmt: skip
            else:
                refuse(self, node, path, report)
        elif _wild(node):
            report.add(path, f"{brief(node.raw)} is {_wild(node)}; write {self.words()}.")
        elif value > self.high or value < self.low or (value == self.low and not self.closed):
            report.add(path, f"wants {self.words()}, got {brief(node.raw)}.")
        else:
            return value
        return None

    def _expanded(self, value: str | int | float | bool | None) -> str | int | float | bool | None:
        match = _SUFFIXED.fullmatch(value) if isinstance(value, str) and len(value) < 40 else None
        if not match:
            return value
        number = float(match[1]) * _SUFFIXES[match[2].lower()]
        return round(number) if number == round(number) else number

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        least = "minimum" if self.closed else "exclusiveMinimum"
        number = {"type": "number", least: self.low, "maximum": self.high}
        if not self.suffix:
            return number
        return {"anyOf": [number, {"type": "string", "pattern": f"^({_SUFFIXED.pattern})$"}]}

    def words(self) -> str:
        """English."""
        least = f"from {self.low:g}" if self.closed else f"above {self.low:g}"
        most = f" to {self.high:g}" if self.high != LARGEST else ""
        return f"a number {least}{most}" + (" (600M, 1.2G are fine)" if self.suffix else "")


@dataclass(frozen=True, slots=True)
class Bool:
    """true or false."""

    forms = frozenset({"bool"})

    def check(self, node: Node, path: str, report: Report) -> bool | None:
        """A boolean, or None after a report."""
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        refuse(self, node, path, report)
        return None

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"type": "boolean"}

    def words(self) -> str:
        """English."""
        return "true or false"


@dataclass(frozen=True, slots=True)
class Text:
    """Text, or one word of ``choices``; ``pattern`` must match, ``hint`` says what it wants."""

    choices: tuple[str, ...] = ()
    pattern: str = ""
    hint: str = "text"
    forms = frozenset({"text"})

    def check(self, node: Node, path: str, report: Report) -> str | None:
        """A text, or None after a report."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            refuse(self, node, path, report)
            return None
        value = node.value
        if self.choices and value not in self.choices:
            near = suggest(value.lower(), self.choices)
            report.add(path, f"'{brief(value)}' is no choice.{near or f' Write {self.words()}.'}")
        elif not value.strip():
            report.add(path, f"is empty; write {self.words()}, or remove the key.")
        elif self.pattern and not re.fullmatch(self.pattern, value):
            report.add(path, f"wants {self.words()}, got '{brief(value)}'.")
        else:
            return value
        return None

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        if self.choices:
            return {"enum": list(self.choices)}
        return {"type": "string", "pattern": f"^{self.pattern}$" if self.pattern else r"\S"}

    def words(self) -> str:
        """English."""
        if len(self.choices) > 4:
            return f"one of {', '.join(self.choices)}"
        return " or ".join(self.choices) if self.choices else self.hint


@dataclass(frozen=True, slots=True)
class List:
    """A list of ``low`` to ``high`` values of one kind; the value is a tuple."""

    of: Kind
    low: int = 1
    high: int = 1000
    forms = frozenset({"list"})

    def check(self, node: Node, path: str, report: Report) -> tuple[Any, ...] | None:
        """A tuple, or None after a report (items that are wrong are reported one by one)."""
        if not isinstance(node, Sequence):
            refuse(self, node, path, report)
            return None
        if not self.low <= len(node.items) <= self.high:
            report.add(path, f"wants {self.words()}, got {len(node.items)} of them.")
            return None
        values = []
        for index, item in enumerate(node.items):
            report.mark(f"{path}[{index}]", item.line, item.column)
            values.append(self.of.check(item, f"{path}[{index}]", report))
        return None if any(value is None for value in values) else tuple(values)

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"type": "array", "items": self.of.schema(), "minItems": self.low,
                "maxItems": self.high}  # fmt: skip

    def words(self) -> str:
        """English."""
        span = str(self.high) if self.low == self.high else f"{self.low} to {self.high}"
        count = "values" if self.high >= 1000 else f"{span} values"
        return f"a list of {count}, each {self.of.words()}"


@dataclass(frozen=True, slots=True)
class Either:
    """The first of ``kinds`` that the value's form fits."""

    kinds: tuple[Kind, ...]

    @property
    def forms(self) -> frozenset[str]:
        """All forms of the alternatives."""
        return frozenset[str]().union(*(kind.forms for kind in self.kinds))

    def check(self, node: Node, path: str, report: Report) -> Any:
        """What the alternative gives, or None after a report."""
        found = form(node)
        looks = isinstance(node, Scalar) and found == "text" and node.plain and remedy(node.raw)
        for kind in self.kinds:
            if found in kind.forms and not (looks and "number" in self.forms):
                if found == "text" and isinstance(kind, Text) and kind.choices:
                    assert isinstance(node, Scalar)
                    if node.value not in kind.choices:
                        break  # say all alternatives, not only the words
                return kind.check(node, path, report)
        if found == "text" and isinstance(node, Scalar) and not looks:
            words = [c for k in self.kinds if isinstance(k, Text) for c in k.choices]
            near = suggest(node.raw.lower(), words)
            if near:
                report.add(path, f"'{brief(node.raw)}' is no choice.{near}")
                return None
        refuse(self, node, path, report)
        return None

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"anyOf": [kind.schema() for kind in self.kinds]}

    def words(self) -> str:
        """English."""
        return ", or ".join(kind.words() for kind in self.kinds)


@dataclass(frozen=True, slots=True)
class Free:
    """Any plain value: what a user's own factory takes."""

    forms = frozenset({"number", "text", "bool", "list", "mapping", "nothing"})

    def check(self, node: Node, path: str, report: Report) -> Any:
        """Python values; numbers must be finite, and text that only looks like one is refused."""
        if isinstance(node, Table):
            return {
                e.key: self.check(e.node, f"{path}.{e.key}", report)
                for e in unique(node, path, report)
            }
        if isinstance(node, Sequence):
            for index, item in enumerate(node.items):
                report.mark(f"{path}[{index}]", item.line, item.column)
            return [self.check(n, f"{path}[{i}]", report) for i, n in enumerate(node.items)]
        advice = remedy(node.raw) if node.plain and isinstance(node.value, str) else None
        if advice:
            report.add(path, f"{advice}, or quote it if text is meant.")
        elif _wild(node):
            report.add(path, f"{brief(node.raw)} is {_wild(node)}.")
        return node.value

    def schema(self) -> dict[str, Any]:
        """JSON Schema: anything."""
        return {}

    def words(self) -> str:
        """English."""
        return "a plain value"
