"""The OpenAPI document: what can be sent, what comes back, and every error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import predictor
from predictor.service import schemas
from predictor.service.answers import ANSWERS
from predictor.service.bodies import MOST_DEVICES, NUMBERS, TEXTS
from predictor.service.problems import CODES

TITLE = "latency-predictor"
_REF = schemas.REFERENCE
_GUARDED = (401, 403, 429, 503)
_BODY = (400, 408, 409, 413, 415, 422)
_TEXT: Mapping[int, str] = {
    400: "the body is no JSON, no form or no UTF-8", 401: "a valid token is needed",
    403: "another site's page, or a host name that is not served",
    404: "no such device, model, space or search", 405: "another method",
    408: "the body came too slowly", 409: "each part is well-formed, but they do not go together",
    413: "the body, graph or batch is too large", 415: "another content type",
    422: "not what the schema says", 429: "more requests than the token may send",
    503: "too busy, took too long, or a process died: the same request may do later",
}  # fmt: skip


EXAMPLE = {"model": "ofa:ks=7,e=6,d=4", "device": "jetson"}
COMPARE = {"models": ["ofa:ks=7,e=6,d=4"], "devices": ["jetson", "raspberry-pi-5"]}
SEARCH = {"space": "nasbench201", "device": "jetson", "accuracy": "params", "trials": 3,
          "sampler": "random"}  # fmt: skip
ROWS = {"rows": [{"model": "ofa:ks=7,e=6,d=4"}, {"model": "decoder:gpt2"}], "devices": ["jetson"]}


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE, "version": predictor.__version__,
            "description": "Latency of a neural network on a device that is not there, layer by "
            "layer, with an interval. The JSON is that of `predict-latency --json`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": _paths(),
        "components": {
            "schemas": {**schemas.requests(), **ANSWERS, "Error": _error()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }  # fmt: skip


def _error() -> dict[str, Any]:
    text = {"type": "string"}
    inner = {"code": {"type": "string", "enum": sorted(CODES)}, "message": text, "request_id": text}
    return {
        "type": "object", "required": ["error"], "additionalProperties": False,
        "properties": {"error": {"type": "object", "properties": inner, "required": list(inner),
                                 "additionalProperties": False}},
    }  # fmt: skip


def _paths() -> dict[str, Any]:
    search = {"name": "id", "in": "path", "required": True, "schema": schemas.NAME}
    name = {"name": "name", "in": "path", "required": True, "schema": schemas.NAME}
    rows = {"name": "by", "in": "query", "schema": {"type": "string", "enum": ["layer", "module"]}}
    depth = {"name": "depth", "in": "query",
             "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999}}  # fmt: skip
    return {
        "/v1/predict": {"post": _operation(
            "predict", "Predict one model on one device", "Estimate", body=_model("Config"),
            parameters=_settings(), known=404)},
        "/v1/count": {"post": _operation(
            "count", "Count MACs, parameters and bytes, without a device", "Count",
            body=_model("Config"), parameters=[rows, depth, *_settings()], known=404)},
        "/v1/compare": {"post": _operation(
            "compare", "Several models, devices, batches and resolutions side by side",
            "Comparison", body=_compare(), known=404)},
        "/v1/batch": {"post": _operation(
            "batch", "Many rows: JSON at once, or a CSV table as a stream", "BatchAnswer",
            body=_batch(), parameters=_table(), known=404, csv=True)},
        "/v1/devices": {"get": _operation("devices", "Devices with accuracy cards", "Devices")},
        "/v1/devices/{name}": {"get": _operation("device", "One device", "Device",
                                                 parameters=[name], known=404)},
        "/v1/models": {"get": _operation("models", "Names of models", "Models")},
        "/v1/spaces": {"get": _operation("spaces", "Search spaces, signals, samplers", "Spaces")},
        "/v1/searches": {
            "post": _operation("start_search", "Start a search", "Job", status=202, known=404,
                               body={"application/json": {**_schema("Search"),
                                                          "example": SEARCH}},
                               links=True),
            "get": _operation("searches", "Searches of this token", "Jobs")},
        "/v1/searches/{id}": {
            "get": _operation("search", "How far a search is", "Job", parameters=[search],
                              known=404),
            "delete": _operation("delete_search", "End a search and forget it", "Job",
                                 parameters=[search], known=404)},
        "/v1/searches/{id}/events": {"get": _operation(
            "search_events", "Server-sent events: progress, then end", None,
            parameters=[search], known=404, media="text/event-stream")},
        "/v1/searches/{id}/cancel": {"post": _operation(
            "cancel_search", "End a search; what it found stays", "Job", parameters=[search],
            known=404)},
        "/v1/searches/{id}/front": {"get": _operation(
            "search_front", "What a search has found so far", "Front", parameters=[search],
            known=404, late=True)},
        "/v1/health": {"get": _operation("health", "The server lives", "Health", open_=True)},
        "/v1/ready": {"get": _operation("ready", "The server can predict", "Ready", open_=True)},
        "/v1/metrics": {"get": _operation("metrics", "Figures for Prometheus", None,
                                          media="text/plain")},
        "/v1/openapi.json": {"get": _operation("openapi", "This document", "Any", open_=True)},
    }  # fmt: skip


def _schema(name: str) -> dict[str, Any]:
    return {"schema": {"$ref": f"{_REF}{name}"}}


def _operation(
    name: str, about: str, answer: str | None, *, status: int = 200, known: int = 0,
    body: Mapping[str, Any] | None = None, parameters: Sequence[Mapping[str, Any]] = (),
    media: str = "application/json", open_: bool = False, csv: bool = False, links: bool = False,
    late: bool = False,
) -> dict[str, Any]:  # fmt: skip
    if media == "text/event-stream":
        answer = "Event"
    content: dict[str, Any] = {media: _schema(answer) if answer else {"schema": {"type": "string"}}}
    if csv:
        content["text/csv"] = {"schema": {"type": "string"}}
    headers = {"X-Request-ID": {"schema": {"type": "string"}, "description": "also in the log"}}
    said: dict[str, Any] = {
        str(status): {"description": about, "content": content, "headers": headers}
    }
    if links:
        said[str(status)]["links"] = {
            name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
            for name in (
                "search",
                "cancel_search",
                "search_events",
                "search_front",
                "delete_search",
            )
        }
    refused = {*_GUARDED, *(_BODY if body else ()), *((409,) if late else ()), 422}
    if known:
        refused.add(known)
    for code in sorted(refused - {401, 429} if open_ else refused):
        said[str(code)] = {"description": _TEXT[code],
                           "content": {"application/json": _schema("Error")}}  # fmt: skip
    found: dict[str, Any] = {"operationId": name, "summary": about, "responses": said,
                             "tags": ["operations" if open_ else "predictions"]}  # fmt: skip
    if open_:
        found["security"] = []
    if parameters:
        found["parameters"] = list(parameters)
    if body is not None:
        found["requestBody"] = {"required": True, "content": dict(body)}
    return found


def _settings() -> list[dict[str, Any]]:
    """Settings as query parameters; they win over the body."""
    properties = schemas.requests()["Settings"]["properties"]
    names = (*TEXTS, *NUMBERS)
    found = [{"name": name, "in": "query", "schema": _plain(properties[name]),
              "description": properties[name]["description"]} for name in names]  # fmt: skip
    size = {"type": "string", "pattern": "^[1-9][0-9]{0,4}(x[1-9][0-9]{0,4})?$"}
    return [*found, {"name": "resolution", "in": "query", "schema": size,
                     "description": "224, or height x width: 360x640"}]  # fmt: skip


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    found = {k: v for k, v in schema.items() if k != "description"}
    if found.get("type") == "string" and "enum" not in found:
        found |= {"minLength": 1, "maxLength": 100}
    if found.get("type") == "integer":
        found["maximum"] = min(found.get("maximum", 999_999_999), 999_999_999)
    return found


def _table() -> list[dict[str, Any]]:
    several = {"type": "array", "maxItems": MOST_DEVICES, "items": schemas.NAME}
    return [{"name": "device", "in": "query", "description": "for rows without their own",
             "schema": several}]  # fmt: skip


def _model(name: str) -> dict[str, Any]:
    return {
        "application/json": {**_schema(name), "example": EXAMPLE},
        "application/yaml": {**_schema(name), "example": EXAMPLE}, **_form("Settings"),
    }  # fmt: skip


def _form(settings: str) -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": "an .onnx, .pt2 or .yaml file"}
    return {"multipart/form-data": {
        "schema": {
            "type": "object", "additionalProperties": False,
            "required": ["file", "settings"] if settings == "CompareFiles" else ["file"],
            "properties": {"file": file, "settings": {"$ref": f"{_REF}{settings}"}},
        },
        "encoding": {"settings": {"contentType": "application/json"},
                     "file": {"contentType": "application/octet-stream"}},
    }}  # fmt: skip


def _compare() -> dict[str, Any]:
    return {"application/json": {**_schema("Compare"), "example": COMPARE},
            **_form("CompareFiles")}  # fmt: skip


def _batch() -> dict[str, Any]:
    table = {"schema": {"type": "string"}, "example": "model,batch\ndecoder:gpt2,1\n"}
    return {"application/json": {**_schema("Batch"), "example": ROWS}, "text/csv": table}
