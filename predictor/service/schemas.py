"""JSON Schemas of what is sent: the config's own, narrowed to what a stranger may say."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from predictor.config import json_schema
from predictor.service.problems import Refusal

REFERENCE = "#/components/schemas/"


LAYER = {
    "anyOf": [{"type": "string", "minLength": 1},
              {"type": "object", "minProperties": 1, "properties": {"type": {"type": "string"}}}],
    "description": "a layer: {type: conv2d, out: 32, kernel: 3}; see docs/layer-list.md",
}  # fmt: skip
"""All 90 types with their keys would make nine tenths of the document."""


@functools.cache
def requests() -> dict[str, Any]:
    """Schemas by name, with references as an OpenAPI document has them."""
    whole = json_schema()
    found: dict[str, Any] = {"ConfigLayer": LAYER}
    properties = {name: _moved(body) for name, body in whole["properties"].items()}
    models = [one for one in properties["model"]["oneOf"]
              if "source" not in one.get("properties", {})]  # fmt: skip
    found["Model"] = {"oneOf": models, "description": "a model name, layers, or a decoder"}
    properties["model"] = {"$ref": f"{REFERENCE}Model"}
    settings = {name: body for name, body in properties.items() if name != "model"}
    found["Config"] = _object(properties, ["model"])
    found["Settings"] = _object(settings, [])
    found["Compare"] = _compare(settings)
    several = {k: v for k, v in found["Compare"]["properties"].items() if k != "models"}
    found["CompareFiles"] = _object(several, ["devices"])
    found["Batch"] = _batch(settings)
    found["Search"] = _search(settings)
    return found


def _object(properties: Mapping[str, Any], required: Sequence[str]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(required),
            "additionalProperties": False}  # fmt: skip


def _moved(schema: Any) -> Any:
    """The schema with its references into the components of an OpenAPI document."""
    if isinstance(schema, dict):
        return {
            key: f"{REFERENCE}Config{value.removeprefix('#/$defs/').capitalize()}"
            if key == "$ref" else _moved(value)
            for key, value in schema.items()
        }  # fmt: skip
    return [_moved(item) for item in schema] if isinstance(schema, list) else schema


def _list(items: Any, most: int, least: int = 1) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


NAME = {"type": "string", "minLength": 1, "maxLength": 100}
"""A device, space or search by its name."""


def _compare(settings: Mapping[str, Any]) -> dict[str, Any]:
    several = {
        "models": _list({"$ref": f"{REFERENCE}Model"}, 64), "devices": _list(NAME, 64),
        "batches": _list(settings["batch"], 64), "resolutions": _list(settings["resolution"], 64),
    }  # fmt: skip
    rest = {k: v for k, v in settings.items() if k not in ("device", "batch", "resolution")}
    return _object({**several, **rest}, ["models", "devices"])


ROW = ("device", "precision", "batch", "resolution", "phase", "sequence", "context", "attention")
"""What a row of a batch says beside its model."""
TABLE = ("runtime", "precision", "layout", "software", "power_mode", "batch", "resolution", "scope",
         "phase", "sequence", "context", "attention", "strict")  # fmt: skip
"""What is said for all rows of a batch that do not say their own."""


def _batch(settings: Mapping[str, Any]) -> dict[str, Any]:
    row = _object({"model": {"$ref": f"{REFERENCE}Model"}, **{k: settings[k] for k in ROW}},
                  ["model"])  # fmt: skip
    return _object({"rows": {"type": "array", "items": row}, "devices": _list(NAME, 64),
                    **{k: settings[k] for k in TABLE}}, ["rows"])  # fmt: skip


def _search(settings: Mapping[str, Any]) -> dict[str, Any]:
    budget = dict(settings["budget"]["properties"])
    whole = {"type": "integer"}
    return _object({
        "space": {**NAME, "description": "one of GET /v1/spaces"},
        "device": NAME, "devices": _list(NAME, 8),
        "budget": {"type": "object", "properties": budget, "additionalProperties": False},
        "accuracy": {**NAME, "description": "a signal of GET /v1/spaces"},
        "trials": {**whole, "minimum": 1, "maximum": 2_000},
        "seed": {**whole, "minimum": 0, "maximum": 2**31 - 1}, "sampler": NAME,
        "aim": {"type": "string", "enum": ["best", "front"]},
        "caution": {"type": "number", "minimum": 0, "maximum": 10},
        "margin": {"type": "number", "minimum": 0, "maximum": 10}, "upper": {"type": "boolean"},
        **{k: settings[k] for k in ("runtime", "precision", "layout", "software", "power_mode",
                                    "batch", "scope")},
    }, ["space"])  # fmt: skip


def check(name: str, data: Any) -> None:
    """Raise where ``data`` is not what the schema ``name`` says.

    Raises:
        Refusal: ``invalid``, with the place.
    """
    error = next(iter(_validator(name).iter_errors(data)), None)
    if error is not None:
        place = ".".join(map(str, error.instance_path))
        said = error.message[:300]
        raise Refusal("invalid", f"{place}: {said}" if place else said)


def accepts(name: str, data: Any) -> bool:
    """Whether ``data`` is what the schema ``name`` says."""
    return bool(_validator(name).is_valid(data))


@functools.cache
def _validator(name: str) -> Any:
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator({"$ref": f"{REFERENCE}{name}",
                                               "components": {"schemas": requests()}})  # fmt: skip


def refuse_keys(data: Mapping[str, Any], keys: Sequence[str], why: str) -> None:
    """Raise where ``data`` says what it must not say here."""
    for key in keys:
        if key in data:
            raise Refusal("invalid", f"{key}: {why}; leave it out")
