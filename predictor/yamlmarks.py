"""Safe YAML whose every value remembers its line and column.

The text is read event by event into three plain node types, without recursion, so that deep
nesting, alias bombs and huge files end in a message. Scalars mean what YAML 1.1 and YAML 1.2
agree on; where the two disagree (``1e-3``, ``017``, ``1:30``, ``yes``) the text stays text and
:func:`remedy` says what to write instead. Keys are always text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml

from predictor.errors import ConfigError

E = TypeVar("E", bound=ConfigError)

MAX_BYTES = 10 << 20
"""Largest file that is read, in bytes."""
MAX_DEPTH = 50
"""Deepest nesting of lists and mappings."""
MAX_NODES = 100_000
"""Most values in one file."""

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")
_SPECIAL = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}
_SPOKEN = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_EXPONENT = re.compile(r"([-+]?)([0-9_]*)\.?([0-9_]*)[eE]([-+]?[0-9]{1,4})")
_BASE = re.compile(r"[-+]?0[xXoObB]?[0-9a-fA-F_]+")
_SIXTY = re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+")
_GROUPED = re.compile(r"[-+]?[0-9][0-9_,]*(\.[0-9_]*)?")
_UNPRINTABLE = re.compile(
    "[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text, number, boolean or nothing. ``raw`` is what stands there; line 0: no place known."""

    raw: str
    value: str | int | float | bool | None
    plain: bool = True
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: list[Node]
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A key, where it stands, and its value."""

    key: str
    node: Node
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping; keys that stand twice are in ``entries`` twice."""

    entries: list[Entry]
    line: int = 0
    column: int = 0


Node = Scalar | Sequence | Table


@dataclass(frozen=True, slots=True)
class Marks(Mapping[str, tuple[int, int]]):
    """Where settings stand: ``marks["model.layers[3].kernel"]`` is (line, column), from 1.

    A setting in a mapping is marked at its key, an item of a list where it begins.
    """

    file: str = ""
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __getitem__(self, path: str) -> tuple[int, int]:
        return self.places[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def place(self, path: str) -> tuple[int, int] | None:
        """The place of ``path``, or of the nearest setting around it that has one."""
        while path not in self.places:
            cut = max(path.rfind("."), path.rfind("["))
            if cut <= 0:
                return None
            path = path[:cut]
        return self.places[path]

    def error(self, path: str, message: str, kind: type[E]) -> E:
        """An error that points at ``path``; ``message`` is shown as it is."""
        line, column = self.place(path) or (None, None)
        return kind(message, file=self.file or None, line=line, column=column)


def read(text: str, file: str) -> Node:
    """The one document in ``text``.

    Raises:
        ConfigError: with the place, for anything that is not one plain YAML document.
    """
    text = text.removeprefix("\ufeff")
    bad = _UNPRINTABLE.search(text)
    if bad:
        before = text[: bad.start()]
        code = f"U+{ord(bad[0]):04X}"
        raise ConfigError(
            f"the control character {code} does not belong into a text file; remove it",
            file=file, line=before.count("\n") + 1, column=len(before) - before.rfind("\n"),
        )  # fmt: skip
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Composer(file).compose(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from None
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"this is not YAML: {error}", file=file) from None


class _Composer:
    """Nodes from events, iteratively; refuses what a configuration has no use for."""

    def __init__(self, file: str) -> None:
        self.file, self.count = file, 0
        self.root: Node | None = None
        self.stack: list[Sequence | Table] = []
        self.keys: list[Scalar | None] = []

    def compose(self, events: Any) -> Node:
        """The root node of the only document."""
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                self._plain_only(event)
                self._add(_scalar(event))
            elif isinstance(event, yaml.CollectionStartEvent):
                self._plain_only(event)
                self._open(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self.stack.pop()
                self.keys.pop()
            elif isinstance(event, yaml.AliasEvent):
                raise self._error(event, f"the alias '*{event.anchor}' is not read; write the "
                                  "value out (layers repeat with {type: repeat, ...})")  # fmt: skip
            elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
                raise self._error(event, "a second document begins here; a config is one document, "
                                  "so remove '---' or split the file")  # fmt: skip
        if self.root is None:
            raise ConfigError("the file is empty; it needs at least a line such as "
                              "'model: torchvision:resnet18'", file=self.file)  # fmt: skip
        return self.root

    def _error(self, event: Any, message: str) -> ConfigError:
        mark = event.start_mark
        return ConfigError(message, file=self.file, line=mark.line + 1, column=mark.column + 1)

    def _plain_only(self, event: Any) -> None:
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._error(event, f"the tag '{tag}' is not read; write the plain value")
        if event.anchor is not None:
            raise self._error(event, f"the anchor '&{event.anchor}' is not read; remove it and "
                              "write values out where they are used")  # fmt: skip

    def _open(self, event: Any) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels; flatten it")
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if self.stack and isinstance(self.stack[-1], Table) and self.keys[-1] is None:
            raise self._error(event, "a list or mapping stands where a key is wanted; keys are "
                              "plain words (is a closing brace or a quote missing?)")  # fmt: skip
        node = (
            Sequence([], line, column)
            if isinstance(event, yaml.SequenceStartEvent)
            else Table([], line, column)
        )
        self._add(node)
        self.stack.append(node)
        self.keys.append(None)

    def _add(self, node: Node) -> None:
        self.count += 1
        if self.count > MAX_NODES:
            raise ConfigError(f"more than {MAX_NODES:,} values; this is no configuration",
                              file=self.file, line=node.line, column=node.column)  # fmt: skip
        if not self.stack:
            self.root = node
            return
        parent, key = self.stack[-1], self.keys[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif key is not None:
            parent.entries.append(Entry(key.raw, node, key.line, key.column))
            self.keys[-1] = None
        elif isinstance(node, Scalar):
            self.keys[-1] = node


def _scalar(event: Any) -> Scalar:
    plain, mark = bool(event.implicit[0]), event.start_mark
    value = resolve(event.value) if plain else event.value
    return Scalar(event.value, value, plain, mark.line + 1, mark.column + 1)


def resolve(raw: str) -> str | int | float | bool | None:
    """What an unquoted scalar means to YAML 1.1 and YAML 1.2 readers alike; else the text."""
    lower = raw.lower()
    if lower in _CONSTANTS:
        return _CONSTANTS[lower]
    if _INT.fullmatch(raw):
        return int(raw) if len(raw) < 100 else float(raw)
    if _FLOAT.fullmatch(raw):
        return float(raw)
    return float(_SPECIAL[lower]) if lower in _SPECIAL else raw


def remedy(raw: str) -> str | None:
    """What is wrong with an unquoted text that looks like a number or boolean, and what to write.

    >>> remedy("1e-3")
    "'1e-3' is text in YAML; write 0.001"
    """
    lower, shown = raw.lower(), brief(raw)
    word = _SPOKEN.get(lower)
    if word:
        return f"'{shown}' is text to some YAML readers, a boolean to others; write {word}"
    match = _EXPONENT.fullmatch(raw)
    if match and (match[2] + match[3]).strip("_"):
        return f"'{shown}' is text in YAML; write {_decimal(match)}"
    if _SIXTY.fullmatch(raw):
        total = 0
        for part in raw.lstrip("+-").split(":")[:8]:
            total = total * 60 + int(part[:8])
        return f"'{shown}' is {total} (base 60) to some YAML readers, text to others; write {total}"
    if len(raw) < 40 and _BASE.fullmatch(raw):
        return _other_base(raw)
    if raw.strip("_,") and _GROUPED.fullmatch(raw):
        return f"'{shown}' is text in YAML; write {brief(raw.replace('_', '').replace(',', ''))}"
    return None


def _decimal(match: re.Match[str]) -> str:
    """The number without its exponent, digit by digit, or advice where that would be long."""
    sign, whole, fraction = match[1].strip("+"), match[2], match[3]
    whole, fraction = whole.replace("_", ""), fraction.replace("_", "")
    digits, point = whole + fraction, len(whole) + int(match[4])
    if not -20 <= point <= 20 or len(digits) > 20:
        return "it out without an exponent"
    if point <= 0:
        digits, point = "0" * (1 - point) + digits, 1
    digits = digits.ljust(point, "0")
    head, tail = digits[:point].lstrip("0") or "0", digits[point:].rstrip("0")
    return sign + (f"{head}.{tail}" if tail else head)


def _other_base(raw: str) -> str | None:
    body = raw.lstrip("+-").replace("_", "").lower()
    try:
        if body[:2] in ("0x", "0o", "0b"):
            value = int(body, 0)
        else:
            value = int(body, 8)
            return (f"'{raw}' is {value} (octal) to some YAML readers, {int(body)} to others; "
                    f"write {int(body)}")  # fmt: skip
    except ValueError:
        return f"'{raw}' is text in YAML; write {body.lstrip('0')}" if body.isdigit() else None
    return f"'{raw}' is not decimal; write {value}"


def brief(raw: str) -> str:
    """``raw`` on one line, shortened to 40 characters."""
    flat = " ".join(raw.split())
    return flat if len(flat) <= 40 else flat[:37] + "..."


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> ConfigError:
    """PyYAML's complaint in one line, with the remedy where the cause is a common one."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    # Lines as YAML counts them; str.splitlines would also break at form feeds.
    lines = re.split("\r\n|[\r\n\x85\u2028\u2029]", text)
    source = lines[line] if line < len(lines) else ""
    indent = source[: len(source) - len(source.lstrip())]
    problem = error.problem or "it cannot be read"
    if "\t" in indent or source[column : column + 1] == "\t":
        column = source.index("\t")
        message = "a tab stands here; YAML indents with spaces, so replace it"
    elif "mapping values are not allowed" in problem:
        message = "a second ': ' on this line, or a wrong indent; quote the text or indent the key"
    elif "expected <block end>" in problem or "expected key" in problem:
        message = "this does not continue what is above; check the indent of this line"
    elif "expected ',' or" in problem:
        closing = "]" if "']'" in problem else "}"
        opened = f" of line {error.context_mark.line + 1}" if error.context_mark else ""
        message = f"',' or '{closing}' is missing before this; the bracket{opened} is still open"
    elif "unexpected end of stream" in problem:
        if error.context_mark:
            line, column = error.context_mark.line, error.context_mark.column
        message = "a quote is never closed; add the closing one"
    else:
        message = f"this is not YAML: {problem}"
        message += f" ({error.context})" if error.context else ""
    return ConfigError(message, file=file, line=line + 1, column=column + 1)


def from_python(value: Any, depth: int = 0) -> Node:
    """Nodes without places, from lists, mappings and plain values that a program gives.

    Raises:
        ConfigError: nested deeper than :data:`MAX_DEPTH`, or a value of another type.
    """
    if depth > MAX_DEPTH:
        raise ConfigError(f"nested deeper than {MAX_DEPTH} levels; flatten it")
    if isinstance(value, Mapping):
        return Table([Entry(str(k), from_python(v, depth + 1)) for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        return Sequence([from_python(item, depth + 1) for item in value])
    if value is None or isinstance(value, (str, int, float, bool)):
        # A huge int has no decimal text in Python; every bound is far below, so cut it here.
        huge = isinstance(value, int) and abs(value) > 1 << 100
        raw = "a huge number" if huge else str(value)
        return Scalar(raw, value, not isinstance(value, str))
    raise ConfigError(f"{type(value).__name__} is no plain value (text, number, list, mapping)")


def to_python(node: Node) -> Any:
    """Lists, mappings and plain values of nodes; of a key that stands twice the last counts."""
    if isinstance(node, Table):
        return {entry.key: to_python(entry.node) for entry in node.entries}
    if isinstance(node, Sequence):
        return [to_python(item) for item in node.items]
    return node.value
