"""How a layer is written: the checker of layer lists and their JSON Schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from predictor.errors import suggest
from predictor.kinds import Int, Text
from predictor.layer_types import MAX_TIMES, LayerType, layer_types
from predictor.schema import Key, Keys, Report, refuse
from predictor.yamlmarks import Node, Scalar, Sequence, Table, brief


@cache
def _keys_of(name: str) -> Keys:
    """The keys of one type, ``type`` among them."""
    word = Key(Text(), "what the layer is", required=True)
    if name == "repeat":
        times = Key(Int(1, MAX_TIMES), "how often", required=True, aka=("n", "count", "repeats"))
        layers = Key(Layers(), "what is repeated", required=True, aka=("body", "block"))
        keys = {"times": times, "layers": layers}
        own = LayerType("", {}).all_keys()
        return Keys({"type": word, **keys, "name": own["name"], "from": own["from"]})
    return Keys({"type": word, **layer_types()[name].all_keys()})


_ALSO = {
    "conv": "conv2d", "convolution": "conv2d", "dense": "linear", "fc": "linear", "gemm": "linear",
    "fully_connected": "linear", "bn": "batch_norm", "ln": "layer_norm", "gn": "group_norm",
    "mha": "multi_head_attention", "sdpa": "attention", "swish": "silu", "hswish": "hardswish",
    "hsigmoid": "hardsigmoid", "gap": "global_avg_pool", "cat": "concat", "se": "squeeze_excite",
    "deconv": "conv_transpose2d", "interpolate": "resize", "chunk": "split", "view": "reshape",
    "residual": "add", "plus": "add", "block": "repeat", "depthwise": "conv2d", "narrow": "slice",
}  # fmt: skip
"""Other people's words, answered with ours."""


@dataclass(frozen=True, slots=True)
class Layers:
    """A list of layers: mappings with ``type``, or the bare word of a type that needs no keys."""

    forms = frozenset({"list"})

    def check(self, node: Node, path: str, report: Report) -> tuple[dict[str, Any], ...] | None:
        """Layers as mappings of the keys that were given, ``type`` among them."""
        if not isinstance(node, Sequence):
            refuse(self, node, path, report)
            return None
        if not node.items:
            report.add(path, "is an empty list; a network has at least one layer.")
        found = []
        for index, item in enumerate(node.items):
            where = f"{path}[{index}]"
            report.mark(where, item.line, item.column)
            found.append(self._layer(item, where, report))
        return tuple(layer for layer in found if layer is not None)

    def _layer(self, node: Node, path: str, report: Report) -> dict[str, Any] | None:
        if isinstance(node, Scalar) and isinstance(node.value, str):
            if not _known_type(node.raw, path, report):
                return None
            keys = _keys_of(node.raw)
            need = [k for k, key in keys.known.items() if key.required and k != "type"]
            need += list(layer_types()[node.raw].one_of[:1]) if node.raw != "repeat" else []
            need = ["out"] * ("out" in keys.known and "out" not in need) + need
            if need:
                report.add(path, f"{node.raw} needs keys: write {{type: {node.raw}, "
                           f"{', '.join(f'{key}: ...' for key in need)}}}.")  # fmt: skip
                return None
            return {"type": node.raw}
        if not isinstance(node, Table):
            refuse(_OneLayer(), node, path, report)
            return None
        entries = {entry.key: entry.node for entry in node.entries}
        word = entries.get("type")
        if word is None:
            only = node.entries[0].key if len(node.entries) == 1 else ""
            shown = only if only in layer_types() or only == "repeat" else "conv2d"
            report.add(path, f"a layer needs its type: write {{type: {shown}, ...}}.")
            return None
        report.mark(f"{path}.type", *_place_of(node, "type"))
        name = Text().check(word, f"{path}.type", report)
        if name is None or not _known_type(name, f"{path}.type", report):
            return None
        layer = _keys_of(name).check(node, path, report)
        rule = layer_types()[name].one_of if name != "repeat" else ()
        if layer is not None and rule and sum(key in entries for key in rule) != 1:
            report.add(path, f"{name} wants exactly one of {' and '.join(rule)}.")
        return layer

    def schema(self) -> dict[str, Any]:
        """JSON Schema; layers refer to ``$defs/layer`` since they nest."""
        return {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/layer"}}

    def words(self) -> str:
        """English."""
        return "a list of layers, each a mapping such as {type: conv2d, out: 64, kernel: 3}"


class _OneLayer(Layers):
    """For messages about a single layer."""

    forms = frozenset({"mapping", "text"})

    def words(self) -> str:
        """English."""
        return "a layer, such as {type: conv2d, out: 64, kernel: 3} or the word relu"


def layer_schema() -> dict[str, Any]:
    """JSON Schema of a layer: a bare word, or a mapping; types with equal keys share one rule."""
    types = layer_types()
    bare: list[str] = []
    rules: dict[str, dict[str, Any]] = {}
    for name in (*types, "repeat"):
        keys, one_of = _keys_of(name), types[name].one_of if name in types else ()
        plain = keys.schema()
        for common in ("name", "from", "share"):
            if common in plain["properties"]:
                plain["properties"][common] = {"$ref": f"#/$defs/{common}"}
        if one_of:
            plain["oneOf"] = [{"required": [key]} for key in one_of]
        elif plain["required"] == ["type"]:
            bare.append(name)
        del plain["properties"]["type"]
        rules.setdefault(json.dumps(plain), {"names": [], **plain})["names"].append(name)
    mappings = []
    for rule in rules.values():
        names = rule.pop("names")
        rule["properties"] = {"type": {"enum": names}, **rule["properties"]}
        mappings.append(rule)
    return {"oneOf": [{"enum": bare}, *mappings]}


def common_schemas() -> dict[str, Any]:
    """JSON Schema of the keys that layers have in common, for ``$defs``."""
    keys = LayerType("", {}, weights=True).all_keys()
    return {name: {**key.kind.schema(), "description": key.doc} for name, key in keys.items()}


def _place_of(node: Table, key: str) -> tuple[int, int]:
    entry = next(entry for entry in node.entries if entry.key == key)
    return entry.line, entry.column


def _known_type(name: str, path: str, report: Report) -> bool:
    types = layer_types()
    if name in types or name == "repeat":
        return True
    lower = name.lower()
    near = suggest(_ALSO.get(lower, lower), [*types, "repeat"], cutoff=0.7)
    report.add(path, f"unknown layer type '{brief(name)}'.{near or ' See docs/layer-list.md.'}")
    return False
