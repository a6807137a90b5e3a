"""The vocabulary that settings are described in: one description checks, types and documents.

A :class:`Kind` says what a value may be. ``check`` turns a YAML node into a typed value or
reports what is wrong and where; ``schema`` gives the same rule as JSON Schema, ``words`` the same
in English. A :class:`Keys` is a mapping with known keys.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from predictor.errors import ConfigError
from predictor.yamlmarks import Entry, Marks, Node, Scalar, Sequence, Table, brief, remedy

_MOST_ERRORS = 20


class Report:
    """What was found wrong so far, and where every setting stands."""

    def __init__(self, file: str = "") -> None:
        self.marks = Marks(file)
        self._problems: list[tuple[int, int, str]] = []

    def mark(self, path: str, line: int, column: int) -> None:
        """Remember where ``path`` stands; line 0 is no place."""
        if line:
            self.marks.places[path] = (line, column)

    def add(self, path: str, message: str, at: tuple[int, int] | None = None) -> None:
        """``message`` about ``path``, shown at ``at`` or where the path stands."""
        line, column = at or self.marks.place(path) or (0, 0)
        self._problems.append((line, column, f"{path}: {message}" if path else message))

    def __bool__(self) -> bool:
        return bool(self._problems)

    def finish(self) -> None:
        """Raise what was collected, if anything.

        Raises:
            ConfigError: at the first problem's place; further problems are further lines.
        """
        if not self._problems:
            return
        problems = sorted(dict.fromkeys(self._problems), key=lambda p: p[:2])
        (line, column, first), *rest = problems
        texts = [first]
        for row, place, text in rest[: _MOST_ERRORS - 1]:
            texts.append(f"{self.marks.file}:{row}:{place}: {text}" if row else text)
        if len(rest) >= _MOST_ERRORS:
            texts.append(f"... and {len(rest) - _MOST_ERRORS + 1} more")
        raise ConfigError(
            "\n".join(texts), file=self.marks.file or None, line=line or None,
            column=column or None,
        )  # fmt: skip


class Kind(Protocol):
    """What a value may be. ``forms`` are the node forms that it can be written in."""

    @property
    def forms(self) -> frozenset[str]:
        """Some of number, text, bool, list, mapping."""

    def check(self, node: Node, path: str, report: Report) -> Any:
        """The typed value; None after a report."""

    def schema(self) -> dict[str, Any]:
        """The rule as JSON Schema."""

    def words(self) -> str:
        """The rule in English, to follow "wants"."""


def form(node: Node) -> str:
    """number, text, bool, list, mapping or nothing."""
    if isinstance(node, Scalar):
        if node.value is None:
            return "nothing"
        if isinstance(node.value, bool):
            return "bool"
        return "text" if isinstance(node.value, str) else "number"
    return "list" if isinstance(node, Sequence) else "mapping"


def refuse(kind: Kind, node: Node, path: str, report: Report) -> None:
    """Report that ``node`` is not what ``kind`` wants, with the likeliest remedy."""
    found = form(node)
    raw = brief(node.raw) if isinstance(node, Scalar) else ""
    if found == "nothing":
        report.add(path, f"has no value; write {kind.words()}, or remove the key.")
    elif found == "text" and isinstance(node, Scalar):
        advice = remedy(node.raw) if kind.forms & {"number", "bool"} else None
        if advice and node.plain:
            report.add(path, f"{advice}.")
        elif "number" in kind.forms and re.fullmatch(r"[-+]?[0-9.]+", node.raw):
            report.add(path, f"'{raw}' is quoted, so it is text; remove the quotes.")
        else:
            report.add(path, f"wants {kind.words()}, got '{raw}'.")
    elif found == "number" and kind.forms == {"text"}:
        report.add(path, f"{raw} is a number, but text is wanted; write '{raw}' in quotes.")
    else:
        got = {"list": "a list", "mapping": "a mapping", "bool": raw}.get(found, raw)
        report.add(path, f"wants {kind.words()}, got {got}.")


def unique(table: Table, path: str, report: Report) -> list[Entry]:
    """The entries of ``table``, marked; keys that stand twice are reported at the second."""
    seen: dict[str, Entry] = {}
    for entry in table.entries:
        where = f"{path}.{entry.key}" if path else entry.key
        first = seen.get(entry.key)
        if first is not None:
            report.add(where, f"this key stands twice; the first is on line {first.line}.",
                       (entry.line, entry.column))  # fmt: skip
            continue
        seen[entry.key] = entry
        report.mark(where, entry.line, entry.column)
    return list(seen.values())


@dataclass(frozen=True, slots=True)
class Key:
    """A setting: what it may be, its default, whether it must be there, one line of explanation.

    ``aka`` are other words that people use for it: they are not accepted, but answered with it.
    """

    kind: Kind
    doc: str
    default: Any = None
    required: bool = False
    aka: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Keys:
    """A mapping with known keys. ``hints`` answer keys that belong elsewhere: which known key
    is meant, and what to write."""

    known: Mapping[str, Key]
    hints: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    what: str = "a mapping"
    forms = frozenset({"mapping"})

    def check(self, node: Node, path: str, report: Report) -> dict[str, Any] | None:
        """The given keys, typed; those that are wrong are reported and left out."""
        if not isinstance(node, Table):
            refuse(self, node, path, report)
            return None
        values: dict[str, Any] = {}
        present: set[str] = set()
        for entry in unique(node, path, report):
            where = f"{path}.{entry.key}" if path else entry.key
            present.add(entry.key)
            key = self.known.get(entry.key)
            if key is None:
                meant = self._meant(entry.key)
                report.add(where, f"unknown key.{self._advice(entry.key, meant)}")
                present.add(meant)  # a misspelt key is not also a missing one
                continue
            value = key.kind.check(entry.node, where, report)
            if value is not None:
                values[entry.key] = value
        for name, key in self.known.items():
            if key.required and name not in present:
                report.add(path, f"'{name}' is missing: {key.doc}.")
        return values

    def _meant(self, word: str) -> str:
        """The known key that ``word`` is nearest to, or an empty text."""
        if word in self.hints:
            return self.hints[word][0]
        words = {name: name for name in self.known}
        for name, key in self.known.items():
            words.update(dict.fromkeys(key.aka, name))
        near = difflib.get_close_matches(word.lower(), words, n=1)
        return words[near[0]] if near else ""

    def _advice(self, word: str, meant: str) -> str:
        if word in self.hints:
            return f" {self.hints[word][1]}"
        return f" Did you mean '{meant}'?" if meant else f" Known: {', '.join(self.known)}."

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        properties = {
            name: {**key.kind.schema(), "description": key.doc}
            | ({} if key.default is None else {"default": _plain(key.default)})
            for name, key in self.known.items()
        }
        needed = [name for name, key in self.known.items() if key.required]
        required = {"required": needed} if needed else {}
        return {"type": "object", "properties": properties, "additionalProperties": False,
                **required}  # fmt: skip

    def words(self) -> str:
        """English."""
        return self.what


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
