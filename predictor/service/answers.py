"""JSON Schemas of the answers, for the OpenAPI document. Tests hold them to what is sent."""

from __future__ import annotations

from typing import Any

from predictor.service.schemas import REFERENCE

TEXT: dict[str, Any] = {"type": "string"}
NUMBER: dict[str, Any] = {"type": "number"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
FLAG: dict[str, Any] = {"type": "boolean"}
ANY: dict[str, Any] = {"type": "object"}
SHARES: dict[str, Any] = {"type": "object", "additionalProperties": NUMBER}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"{REFERENCE}{name}"}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _maybe(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


def _object(about: str, optional: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "description": about, "properties": properties,
            "required": [name for name in properties if name not in optional]}  # fmt: skip


INTERVAL = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
SIZE = {"oneOf": [{"type": "integer"}, _list({"type": "integer"}), {"type": "null"}]}

ANSWERS: dict[str, Any] = {
    "Kernel": _object(
        "One kernel's share of an estimate.", name=TEXT, kind=TEXT, ops=_list(TEXT),
        latency_ms=NUMBER, interval_ms=INTERVAL,
        source={"enum": ["measured", "learned", "fitted", "roofline"]},
        bound={"enum": ["compute", "memory", "overhead"]}, flops=COUNT, elementwise_flops=COUNT,
        bytes=COUNT, peak_share=NUMBER,
    ),
    "Check": _object("One line of a budget.", quantity=TEXT, value=NUMBER, limit=NUMBER, unit=TEXT,
                     met=FLAG),
    "Estimate": _object(
        "A latency with its provenance; what predict-latency --json prints.", ("resolution",),
        schema_version=COUNT, model=TEXT, device=TEXT, device_title=TEXT, runtime=TEXT,
        precision=TEXT, power_mode=TEXT, software=TEXT, batch=COUNT,
        tier={"enum": ["measured", "calibrated", "datasheet"]}, latency_ms=NUMBER,
        interval_ms=INTERVAL, throughput_fps=NUMBER, kernels=_list(_ref("Kernel")),
        overheads_ms=SHARES, macs=COUNT, flops=COUNT, elementwise_flops=COUNT, params=COUNT,
        model_mb=NUMBER, memory_access_mb=NUMBER, fused_memory_access_mb=NUMBER,
        peak_activation_mb=NUMBER, memory_needed_mb=NUMBER, device_memory_mb=_maybe(NUMBER),
        fits_memory=_maybe(FLAG), peak_share=NUMBER, scope={"enum": ["engine", "call"]},
        checks=_list(_ref("Check")), warnings=_list(TEXT), hints=_list(TEXT), notes=_list(TEXT),
        accuracy=ANY, roof=SHARES, language=ANY, sources=SHARES, within_budget=_maybe(FLAG),
        resolution=SIZE,
    ),
    "Comparison": _object(
        "Estimates in the order models, devices, batches, resolutions; of two also their layers.",
        ("layers",), schema_version=COUNT, estimates=_list(_ref("Estimate")), layers=_list(ANY),
    ),
    "Count": {"type": "object", "description": "What predict-latency count --json prints.",
              "required": ["schema_version"]},
    "BatchRow": _object(
        "A row of a batch on one device.", row=COUNT, device=_maybe(TEXT),
        latency_ms=_maybe(NUMBER), low_ms=_maybe(NUMBER), high_ms=_maybe(NUMBER), error=TEXT,
    ),
    "BatchAnswer": _object("One row for each row asked and device.", schema_version=COUNT,
                           rows=_list(_ref("BatchRow"))),
    "Device": _object("A device with its targets; each target's accuracy is a card, or null.",
                      name=TEXT, title=TEXT, aliases=_list(TEXT), kind=TEXT, targets=_list(ANY)),
    "Devices": _object("Every device.", schema_version=COUNT, devices=_list(_ref("Device"))),
    "Models": _object(
        "Names of models.", schema_version=COUNT,
        examples=_list(_object("A name and what it is.", name=TEXT, title=TEXT)),
        sources=_list(_object("Names by source; none where a key follows.", prefix=TEXT,
                              names=_list(TEXT))),
    ),
    "Spaces": _object(
        "What a search can name.", schema_version=COUNT,
        spaces=_list(_object("A search space.", name=TEXT, title=TEXT, parameters=COUNT)),
        signals=_list(TEXT), samplers=_list(TEXT),
    ),
    "Job": _object(
        "A search.", id=TEXT,
        state={"enum": ["queued", "running", "done", "failed", "cancelled"]}, space=TEXT,
        done=COUNT, trials=COUNT, message=TEXT, code=TEXT, began=NUMBER, has_front=FLAG,
    ),
    "Jobs": _object("Searches, the newest first.", searches=_list(_ref("Job"))),
    "Front": _object("Every trial and the front; what predict-latency search --json prints.",
                     schema_version=COUNT, space=TEXT, trials=_list(ANY), devices=_list(TEXT)),
    "Health": _object("The server lives.", status={"const": "ok"}),
    "Ready": _object("The server can predict.", status={"const": "ready"}, workers=COUNT,
                     damaged_profiles=_list(TEXT)),
    "Event": _object("A server-sent event; data is JSON.", ("event",), event=TEXT, data=TEXT),
    "Any": ANY,
}  # fmt: skip
