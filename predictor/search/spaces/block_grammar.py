"""What a block space in YAML says: its inputs, its parameters, and layers with choices in them.

Layers are those of ``docs/layer-list.md``, and two more: ``stage`` (repeated, with choices of its
own for every repetition) and ``choose`` (one of several blocks). The whole grammar stands in
``docs/search-space.md``. Here the text becomes a :class:`Template`; :mod:`blocks` fills it in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from predictor.errors import ConfigError, suggest
from predictor.front import Value
from predictor.graph import DTYPE_BYTES
from predictor.kinds import Int, List, Number, Text
from predictor.schema import Key, Keys, Report, form, refuse, unique
from predictor.search.spaces.expressions import parse
from predictor.yamlmarks import Node, Scalar, Sequence, Table, brief, remedy

MAX_DEPTH, MAX_PARAMETERS = 100, 5000
FIRST, REST = "first", "rest"
_NAME = Text(pattern=r"[A-Za-z_][A-Za-z0-9_]*", hint="a name of letters, digits and _")
_BLOCK = Text(pattern=r"[A-Za-z_][A-Za-z0-9_-]*", hint="a name of letters, digits, _ and -")


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A layer, ``repeat``, ``stage`` or ``choose`` as it stands in the file at ``path``.

    ``reads`` are the parameters that its own text names, in a stage's first repetition and in the
    rest; ``only`` the repetitions that have it; ``bodies`` the layers inside (of ``choose`` by
    name, else of one empty name).
    """

    kind: str
    node: Node
    path: str
    reads: tuple[frozenset[str], frozenset[str]]
    only: str = ""
    name: str = ""
    depth: tuple[int, ...] = ()
    parameters: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    bodies: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)

    def walk(self) -> Iterator[Item]:
        """This item and all inside it."""
        yield self
        for body in self.bodies.values():
            for item in body:
                yield from item.walk()


@dataclass(frozen=True, slots=True)
class Template:
    """A block space as it was read; ``shape`` is the input's, with its expressions."""

    file: str
    name: str
    label: str
    shape: Sequence
    dtype: str
    parameters: Mapping[str, tuple[Value, ...]]
    items: tuple[Item, ...]
    outputs: tuple[str, ...] = ()


class Raw:
    """Anything, left as it is for a reader that knows more."""

    forms = frozenset({"number", "text", "bool", "list", "mapping", "nothing"})

    def check(self, node: Node, path: str, report: Report) -> Node:
        """The node itself."""
        return node

    def schema(self) -> dict[str, Any]:
        """JSON Schema: anything."""
        return {}

    def words(self) -> str:
        """English."""
        return "a value"


class Choices:
    """The values of a parameter: a list, or one value."""

    forms = frozenset({"list", "number", "text", "bool"})
    number = Number(-(1 << 53), closed=True)
    text = Text(pattern=r"[^\s,=$]+", hint="a word without blanks, commas, = and $")

    def check(self, node: Node, path: str, report: Report) -> tuple[Value, ...] | None:
        """The values, or None after a report."""
        nodes = node.items if isinstance(node, Sequence) else [node]
        if isinstance(node, Table) or form(node) == "nothing":
            refuse(self, node, path, report)
            return None
        if not nodes:
            report.add(path, "the space is empty: this parameter has no values; list at least one.")
            return None
        found: dict[str, Value] = {}
        for index, item in enumerate(nodes):
            where = f"{path}[{index}]" if isinstance(node, Sequence) else path
            report.mark(where, item.line, item.column)
            value = self._value(item, where, report)
            if value is None:
                continue
            text = f"{value:g}" if isinstance(value, float) else str(value)
            if text in found:
                report.add(where, f"{text} stands twice; remove one.")
            found[text] = value
        return tuple(found.values())

    def _value(self, node: Node, path: str, report: Report) -> Value | None:
        if not isinstance(node, Scalar) or node.value is None:
            refuse(_OneChoice(), node, path, report)
            return None
        if isinstance(node.value, bool):
            return node.value
        if isinstance(node.value, str):
            advice = remedy(node.raw) if node.plain else None
            if advice:
                report.add(path, f"{advice}, or quote it if text is meant.")
                return None
            return self.text.check(node, path, report)
        return self.number.check(node, path, report)

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        one = {"type": ["number", "string", "boolean"]}
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}

    def words(self) -> str:
        """English."""
        return "a list of values, such as [16, 24, 32]"


class _OneChoice(Choices):
    forms = frozenset({"number", "text", "bool"})

    def words(self) -> str:
        return "a number, a word, true or false"


class _Depth(Choices):
    forms = frozenset({"list", "number"})
    whole = Int(0, MAX_DEPTH)

    def _value(self, node: Node, path: str, report: Report) -> Value | None:
        return self.whole.check(node, path, report)

    def words(self) -> str:
        return f"a list of whole numbers from 0 to {MAX_DEPTH}, such as [1, 2, 3]"


class Parameters:
    """Parameters by name."""

    forms = frozenset({"mapping"})

    def check(self, node: Node, path: str, report: Report) -> dict[str, tuple[Value, ...]] | None:
        """Their values."""
        if not isinstance(node, Table):
            refuse(self, node, path, report)
            return None
        found = {}
        for entry in unique(node, path, report):
            where = f"{path}.{entry.key}"
            if _NAME.check(Scalar(entry.key, entry.key), where, report):
                found[entry.key] = Choices().check(entry.node, where, report) or ()
        return found

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"type": "object", "additionalProperties": Choices().schema()}

    def words(self) -> str:
        """English."""
        return "a mapping of names and their values, such as {width: [16, 24, 32]}"


_ONLY = Key(Text((FIRST, REST)), "which repetitions of the stage have it")
_WORDS = {
    "type": Key(Text(), "stage or choose"), "only": _ONLY, "from": Key(Raw(), "what it reads"),
    "name": Key(_BLOCK, "what its parameters begin with", required=True),
}  # fmt: skip
_KEYS = {
    "stage": Keys({
        **_WORDS, "depth": Key(_Depth(), "how often it is repeated: a list", required=True,
                               aka=("times", "repeats", "n")),
        "parameters": Key(Parameters(), "choices of every repetition", aka=("choices",)),
        "layers": Key(Raw(), "the layers of a repetition", required=True, aka=("body", "block")),
    }),
    "choose": Keys({**_WORDS, "of": Key(Raw(), "blocks by name", required=True,
                                        aka=("options", "choices", "blocks", "layers"))}),
}  # fmt: skip
BLOCK_KEYS = {
    "name": Key(Text(pattern=r"[A-Za-z0-9_.-]+", hint="a name of letters, digits, _, . and -"),
                "what results call the space"),
    "inputs": Key(Raw(), "the shape of the input, batch first; or {NAME: {shape, dtype}}",
                  aka=("input", "input_shape", "shape")),
    "parameters": Key(Parameters(), "what can be chosen: values by name", aka=("choices",)),
    "layers": Key(Raw(), "layers as in a layer list, stages and choices", required=True),
    "outputs": Key(List(Text()), "names of the layers that it returns; all that none reads"),
}  # fmt: skip
"""Keys of a block space."""


def read_template(root: Table, values: Mapping[str, Any], report: Report) -> Template:
    """The template in a file; ``values`` are its keys, checked by :data:`BLOCK_KEYS`."""
    parameters = values.get("parameters") or {}
    reader = _Reader(report)
    shape, label, dtype = reader.input(values.get("inputs"), {*parameters})
    items = reader.body(values["layers"], "layers", {*parameters}, False)
    reader.unused(parameters, "parameters")
    if "layers" in values and not items and not report:
        report.add("layers", "is empty; a network has at least one layer.")
    report.finish()
    return Template(report.marks.file, values.get("name", ""), label, shape, dtype, parameters,
                    items, values.get("outputs", ()))  # fmt: skip


class _Reader:
    def __init__(self, report: Report) -> None:
        self.report, self.read = report, set[str]()

    def input(self, node: Node | None, known: set[str]) -> tuple[Sequence, str, str]:
        """Shape, name and element type of the one input."""
        label, dtype, path, shape = "input", "float32", "inputs", node
        if isinstance(node, Table) and len(node.entries) == 1:
            label, shape = node.entries[0].key, node.entries[0].node
            path = f"inputs.{label}"
            if isinstance(shape, Table):
                keys = Keys({"shape": Key(Raw(), "sizes, batch first", required=True),
                             "dtype": Key(Text(tuple(DTYPE_BYTES)), "element type")})  # fmt: skip
                found = keys.check(shape, path, self.report) or {}
                shape, dtype = found.get("shape"), found.get("dtype", dtype)
                path = f"{path}.shape"
        if isinstance(shape, Sequence) and len(shape.items) > 1:
            self.names(shape, path, known)
            return shape, label, dtype
        if node is None:
            self.report.add("", "'inputs' is missing: the shape of the input, such as "
                            "[1, 3, 224, 224].")  # fmt: skip
        else:
            self.report.add(path, "wants one input, batch first, such as [1, 3, $side, $side], "
                            "or {tokens: {shape: [1, 128], dtype: int64}}.")  # fmt: skip
        return Sequence([]), label, dtype

    def body(self, node: Node, path: str, known: set[str], inside: bool) -> tuple[Item, ...]:
        """The items of a list of layers; ``inside`` a stage."""
        if not isinstance(node, Sequence):
            self.report.add(path, "wants a list of layers, each a mapping such as "
                            "{type: conv2d, out: 64, kernel: 3}, a stage or a choose.")  # fmt: skip
            return ()
        found = []
        for index, item in enumerate(node.items):
            where = f"{path}[{index}]"
            self.report.mark(where, item.line, item.column)
            found.append(self.item(item, where, known, inside))
        return tuple(found)

    def item(self, node: Node, path: str, known: set[str], inside: bool) -> Item:
        """One layer, stage or choose."""
        nothing = (frozenset[str](), frozenset[str]())
        if not isinstance(node, Table):
            if isinstance(node, Scalar) and node.value in _KEYS:
                self.report.add(path, f"a {node.value} needs keys: write {{type: {node.value}, "
                                "name: ..., ...}.")  # fmt: skip
                return Item("layer", node, path, nothing)
            return Item("layer", node, path, self.names(node, path, known, inside))
        entries = {entry.key: entry for entry in node.entries}
        for entry in node.entries:
            self.report.mark(f"{path}.{entry.key}", entry.line, entry.column)
        word = entries["type"].node if "type" in entries else None
        kind = str(word.value) if isinstance(word, Scalar) else ""
        only = self.only(entries["only"].node, f"{path}.only", inside) if "only" in entries else ""
        if kind == "stage":
            return self.stage(node, path, known, only)
        if kind == "choose":
            return self.choose(node, path, known, inside, only)
        own = Table([e for e in node.entries if kind != "repeat" or e.key != "layers"])
        reads = self.names(own, path, known, inside)
        if kind == "repeat" and "layers" in entries:
            body = self.body(entries["layers"].node, f"{path}.layers", known, inside)
            return Item(kind, node, path, reads, only, bodies={"": body})
        return Item("layer", node, path, reads, only)

    def only(self, node: Node, path: str, inside: bool) -> str:
        """Which repetitions have a layer."""
        if not inside:
            self.report.add(path, "'only' says which repetitions of a stage have a layer; it has "
                            "no meaning outside of one.")  # fmt: skip
        return _ONLY.kind.check(node, path, self.report) or ""

    def stage(self, node: Table, path: str, known: set[str], only: str) -> Item:
        """Layers that are repeated, with parameters of their own."""
        found = _KEYS["stage"].check(node, path, self.report) or {}
        own = found.get("parameters") or {}
        outer, self.read = self.read, set()
        body = self.body(found["layers"], f"{path}.layers", known | {*own}, True) \
            if "layers" in found else ()  # fmt: skip
        self.unused(own, f"{path}.parameters")
        self.read = outer | (self.read - {*own})
        nothing = frozenset[str]()
        return Item("stage", node, path, (nothing, nothing), only, found.get("name", ""),
                    found.get("depth") or (), own, {"": body})  # fmt: skip

    def choose(self, node: Table, path: str, known: set[str], inside: bool, only: str) -> Item:
        """One of several blocks."""
        found = _KEYS["choose"].check(node, path, self.report) or {}
        blocks, bodies = found.get("of"), dict[str, tuple[Item, ...]]()
        if isinstance(blocks, Table) and blocks.entries:
            for entry in unique(blocks, f"{path}.of", self.report):
                where = f"{path}.of.{entry.key}"
                _BLOCK.check(Scalar(entry.key, entry.key), where, self.report)
                bodies[entry.key] = self.body(entry.node, where, known, inside)
        elif blocks is not None:
            self.report.add(f"{path}.of", "the space is empty: there is nothing to choose; write "
                            "blocks by name, such as {small: [...], none: []}.")  # fmt: skip
        nothing = frozenset[str]()
        return Item("choose", node, path, (nothing, nothing), only, found.get("name", ""),
                    bodies=bodies)  # fmt: skip

    def names(
        self, node: Node, path: str, known: set[str], inside: bool = False
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Parameters that a text names in the first repetition and in the rest; all are known."""
        if isinstance(node, Scalar):
            found = self.names_of(node, path, known)
            return found, found
        if isinstance(node, Table) and is_split(node):
            if not inside:
                self.report.add(path, "first and rest are repetitions of a stage; outside of one "
                                "write a single value.")  # fmt: skip
            parts = {e.key: self.names(e.node, path, known, inside)[0] for e in node.entries}
            return parts[FIRST], parts[REST]
        if isinstance(node, Table):
            inner = [self.names(e.node, f"{path}.{e.key}", known, inside) for e in node.entries]
        else:
            inner = [self.names(n, f"{path}[{i}]", known, inside)
                     for i, n in enumerate(node.items)]  # fmt: skip
        none = frozenset[str]()
        return none.union(*(a for a, _ in inner)), none.union(*(b for _, b in inner))

    def names_of(self, node: Scalar, path: str, known: set[str]) -> frozenset[str]:
        """Parameters in one text."""
        text = expression(node)
        if text is None:
            return frozenset()
        try:
            names = parse(text).names
        except ConfigError as error:
            self.report.add(path, f"{error}.", (node.line, node.column))
            return frozenset()
        for name in sorted(names - known):
            advice = suggest(name, known) or _known(known)
            self.report.add(path, f"there is no parameter '{brief(name)}' here.{advice}",
                            (node.line, node.column))  # fmt: skip
        self.read |= names
        return names & known

    def unused(self, parameters: Mapping[str, Any], path: str) -> None:
        """Report parameters that nothing reads."""
        for name in parameters:
            if name not in self.read and not self.report:
                self.report.add(f"{path}.{name}", f"nothing reads ${name}; use it in a layer, or "
                                "remove it.")  # fmt: skip


def _known(known: set[str]) -> str:
    return f" Parameters: {', '.join(sorted(known))}." if known else " There are none."


def is_split(node: Table) -> bool:
    """True for ``{first: ..., rest: ...}``."""
    return {entry.key for entry in node.entries} == {FIRST, REST} and len(node.entries) == 2


def expression(node: Scalar) -> str | None:
    """The text of an expression; None for any other scalar."""
    return node.value if isinstance(node.value, str) and "$" in node.value else None
