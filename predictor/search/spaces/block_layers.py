"""A block space's template, filled in: nodes of a plain layer list that remember their places.

A stage becomes a repetition of repetitions, a ``choose`` one of the block that was chosen, so that
every list keeps its length and errors can be told in the file's own paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from predictor.errors import ConfigError
from predictor.front import Value, Values
from predictor.layer_types import BLOCK_INPUT, PREVIOUS
from predictor.search.spaces.block_grammar import FIRST, REST, Item, Template, expression, is_split
from predictor.search.spaces.expressions import parse
from predictor.yamlmarks import Entry, Node, Scalar, Table
from predictor.yamlmarks import Sequence as List

_PATH = re.compile(r"(?<![\w.])layers(?:\[\d+\]|\.\w+)+")


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an item stands: what its parameters are called in full, and which repetition it is.

    ``prefix`` is what names of parameters declared here begin with, ``first`` says that this is a
    stage's first repetition, or no stage at all.
    """

    prefix: str
    names: Mapping[str, str]
    first: bool = True

    def inner(self, item: Item, number: int) -> Scope:
        """Repetition ``number`` (from 1) of a stage."""
        prefix = f"{self.prefix}{item.name}.{number}."
        own = {name: f"{prefix}{name}" for name in item.parameters}
        return Scope(prefix, {**self.names, **own}, number == 1)

    def block(self, item: Item, name: str) -> Scope:
        """Inside one of the blocks of a ``choose``."""
        return Scope(f"{self.prefix}{item.name}.{name}.", self.names, self.first)


@dataclass(frozen=True, slots=True)
class Declared:
    """A parameter: its values, where it was declared, what must be chosen for it to matter."""

    values: tuple[Value, ...]
    path: str
    needs: Mapping[str, Value] = field(default_factory=dict)

    @property
    def usual(self) -> Value:
        """The value that it has where others are tried: a stage as deep as it can be."""
        return max(self.values, key=int) if self.path.endswith(".depth") else self.values[0]


def outermost(template: Template) -> Scope:
    """Where the top of the file stands."""
    return Scope("", {name: name for name in template.parameters})


def declared(template: Template) -> Iterator[tuple[str, Declared]]:
    """Every parameter of the space by its full name; a name may come twice."""
    for name, values in template.parameters.items():
        yield name, Declared(values, f"parameters.{name}")
    yield from _declared(template.items, outermost(template), {})


def _declared(
    items: Sequence[Item], scope: Scope, needs: Mapping[str, Value]
) -> Iterator[tuple[str, Declared]]:
    for item in items:
        if item.kind == "stage":
            depth = Declared(item.depth, f"{item.path}.depth", needs)
            yield f"{scope.prefix}{item.name}.depth", depth
            for number in range(1, max(map(int, item.depth), default=0) + 1):
                inner = scope.inner(item, number)
                for name, values in item.parameters.items():
                    path = f"{item.path}.parameters.{name}"
                    yield inner.names[name], Declared(values, path, needs)
                yield from _declared(item.bodies[""], inner, needs)
        elif item.kind == "choose":
            full = f"{scope.prefix}{item.name}"
            yield full, Declared(tuple(item.bodies), f"{item.path}.name", needs)
            for name, body in item.bodies.items():
                yield from _declared(body, scope.block(item, name), {**needs, full: name})
        elif item.kind == "repeat":
            yield from _declared(item.bodies[""], scope, needs)


def reads(items: Sequence[Item], scope: Scope, values: Values) -> Iterator[str]:
    """Full names of the parameters that make a difference among ``items``."""
    for item in items:
        if not _has(item, scope):
            continue
        yield from (scope.names[name] for name in item.reads[0 if scope.first else 1])
        if item.kind == "stage":
            depth = f"{scope.prefix}{item.name}.depth"
            yield depth
            for number in range(1, int(values[depth]) + 1):
                yield from reads(item.bodies[""], scope.inner(item, number), values)
        elif item.kind == "choose":
            full = f"{scope.prefix}{item.name}"
            yield full
            chosen = str(values[full])
            yield from reads(item.bodies[chosen], scope.block(item, chosen), values)
        elif item.kind == "repeat":
            yield from reads(item.bodies[""], scope, values)


def possible(items: Sequence[Item], scope: Scope) -> Iterator[str]:
    """Full names of the parameters that can make a difference among ``items``."""
    for item in items:
        if not _has(item, scope):
            continue
        yield from (scope.names[name] for name in item.reads[0 if scope.first else 1])
        if item.kind == "stage":
            yield f"{scope.prefix}{item.name}.depth"
            for number in range(1, max(map(int, item.depth)) + 1):
                yield from possible(item.bodies[""], scope.inner(item, number))
        elif item.kind == "choose":
            yield f"{scope.prefix}{item.name}"
            for name, body in item.bodies.items():
                yield from possible(body, scope.block(item, name))
        elif item.kind == "repeat":
            yield from possible(item.bodies[""], scope)


def _has(item: Item, scope: Scope) -> bool:
    return not item.only or (item.only == FIRST) == scope.first


class Filler:
    """Items with ``values`` filled in; ``paths`` maps the paths that come out to the file's."""

    def __init__(self, file: str, values: Values) -> None:
        self.file, self.values = file, values
        self.paths: dict[str, str] = {}

    def layers(self, items: Sequence[Item], scope: Scope, path: str) -> list[Node]:
        """A list of layers that is called ``path``."""
        found: list[Node] = []
        for item in items:
            if _has(item, scope):
                where = f"{path}[{len(found)}]"
                self.paths[where] = item.path
                found.append(self.item(item, scope, where))
        return found

    def item(self, item: Item, scope: Scope, path: str) -> Node:
        """One of them."""
        if item.kind == "layer" and not isinstance(item.node, Table):
            return self.value(item.node, scope, item.path)
        assert isinstance(item.node, Table)
        inside = f"{path}.layers"
        if item.kind == "stage":
            depth = int(self.values[f"{scope.prefix}{item.name}.depth"])
            found: list[Node] = []
            for number in range(1, depth + 1):
                found += self.repetition(item, scope, number, f"{inside}[{len(found)}]")
            return self.wrapped(item, found)
        if item.kind == "choose":
            chosen = str(self.values[f"{scope.prefix}{item.name}"])
            self.paths[inside] = f"{item.path}.of.{chosen}"
            return self.wrapped(
                item, self.layers(item.bodies[chosen], scope.block(item, chosen), inside)
            )
        entries = [Entry(e.key, self.value(e.node, scope, f"{item.path}.{e.key}"), e.line, e.column)
                   for e in item.node.entries
                   if e.key != "only" and (item.kind != "repeat" or e.key != "layers")]  # fmt: skip
        if item.kind == "repeat":
            body = self.layers(item.bodies[""], scope, inside)
            entries.append(Entry("layers", List(body or [_word("identity", item.node)])))
        return Table(entries, item.node.line, item.node.column)

    def repetition(self, item: Item, scope: Scope, number: int, path: str) -> list[Node]:
        """A stage's repetition as one layer, none where it is empty."""
        self.paths[path] = item.path
        self.paths[f"{path}.layers"] = f"{item.path}.layers"
        body = self.layers(item.bodies[""], scope.inner(item, number), f"{path}.layers")
        return [_once(item.node, Scalar(str(number), str(number)), body, [])] if body else []

    def wrapped(self, item: Item, layers: list[Node]) -> Node:
        """Layers as one layer of the item's name, which others can read."""
        assert isinstance(item.node, Table)
        name = next(e.node for e in item.node.entries if e.key == "name")
        more = [e for e in item.node.entries if e.key == "from"]
        if layers:
            return _once(item.node, name, layers, more)
        return Table([Entry("type", _word("identity", item.node)), Entry("name", name), *more],
                     item.node.line, item.node.column)  # fmt: skip

    def value(self, node: Node, scope: Scope, path: str) -> Node:
        """A value with its expressions worked out."""
        if isinstance(node, Scalar):
            text = expression(node)
            if text is None:
                return node
            try:
                value = parse(text).value(lambda name: self.values[scope.names[name]])
            except ConfigError as error:
                raise ConfigError(
                    f"{path}: {error}.", file=self.file or None, line=node.line or None,
                    column=node.column or None,
                ) from None  # fmt: skip
            return Scalar(f"{value}", value, not isinstance(value, str), node.line, node.column)
        if isinstance(node, Table):
            if is_split(node):
                wanted = FIRST if scope.first else REST
                entry = next(e for e in node.entries if e.key == wanted)
                return self.value(entry.node, scope, path)
            entries = [Entry(e.key, self.value(e.node, scope, f"{path}.{e.key}"), e.line, e.column)
                       for e in node.entries]  # fmt: skip
            return Table(entries, node.line, node.column)
        items = [self.value(n, scope, f"{path}[{i}]") for i, n in enumerate(node.items)]
        return List(items, node.line, node.column)

    def told(self, error: ConfigError) -> ConfigError:
        """``error`` in the file's own paths."""
        known = self.paths

        def own(match: re.Match[str]) -> str:
            path = head = match[0]
            while head not in known:
                cut = max(head.rfind("."), head.rfind("["))
                if cut < 0:
                    return path
                head = head[:cut]
            return known[head] + path[len(head) :]

        return reworded(error, lambda text: _PATH.sub(own, text))


def _word(word: str, at: Node) -> Scalar:
    return Scalar(word, word, True, at.line, at.column)


def _once(at: Node, name: Node, layers: list[Node], more: list[Entry]) -> Table:
    times = Scalar("1", 1, True, at.line, at.column)
    entries = [Entry("type", _word("repeat", at)), Entry("times", times), Entry("name", name),
               *more, Entry("layers", List(layers, at.line, at.column))]  # fmt: skip
    return Table(entries, at.line, at.column)


def reworded(error: ConfigError, change: Callable[[str], str]) -> ConfigError:
    """The same error with its message changed; its place stays."""
    file, line, column = error.file, error.line, error.column
    place = ":".join(str(part) for part in (file, line, column) if part is not None)
    lines = change(str(error)).splitlines()
    first, *rest = dict.fromkeys(lines)  # repetitions are wrong in one place of the file
    text = "\n".join([first.removeprefix(f"{place}: "), *rest])
    return type(error)(text, file=file, line=line, column=column)


def plain(value: Any) -> Any:
    """Checked layers as lists and mappings that JSON and YAML can hold."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def named(node: Node) -> frozenset[str]:
    """Parameters that a value's expressions name."""
    if isinstance(node, Scalar):
        text = expression(node)
        return frozenset() if text is None else parse(text).names
    inner = node.items if isinstance(node, List) else [entry.node for entry in node.entries]
    return frozenset[str]().union(*map(named, inner))


def stands_alone(items: Sequence[Item], template: Template, *, first: bool, whole: bool) -> bool:
    """Whether ``items`` read nothing of the network but the tensor before them.

    ``first``: that tensor is the network's input; ``whole``: they are a stage's repetition, which
    has names of its own.
    """
    own = set() if whole else {_setting(item.node, "name") for item in items}
    others = {_setting(item.node, "name") for item in template.items} - own
    others |= set() if first else {template.label}
    fed = [_read(item.node) for item in template.items if item.kind == "stage"]
    if any(read not in ([], [PREVIOUS]) for read in fed):
        return False
    for item in items:
        for one in item.walk():
            read = _read(one.node)
            if read is None or _setting(one.node, "share"):
                return False
            if any(name in others or name.partition(".")[0] in others for name in read):
                return False
        if not whole and not first and BLOCK_INPUT in (_read(item.node) or ()):
            return False
    return True


def _entries(node: Node) -> dict[str, Node]:
    return {e.key: e.node for e in node.entries} if isinstance(node, Table) else {}


def _setting(node: Node, key: str) -> str:
    found = _entries(node).get(key)
    return found.raw if isinstance(found, Scalar) else ""


def _read(node: Node) -> list[str] | None:
    """The words of ``from``; None where they are no plain words."""
    found = _entries(node).get("from")
    nodes = found.items if isinstance(found, List) else [] if found is None else [found]
    words = [n.raw for n in nodes if isinstance(n, Scalar) and expression(n) is None]
    return words if len(words) == len(nodes) else None
