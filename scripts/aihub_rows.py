"""The table of Qualcomm AI Hub: which row is which device, target and network.

On-device inference times that Qualcomm's hosted-device service reports for its published models
(quic/ai-hub-models, BSD-3-Clause), batch 1, milliseconds. Nothing of the table is kept.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = "qualcomm-ai-hub/aihub_models.csv"
CITATION = "Qualcomm AI Hub Models performance tables, Qualcomm (BSD-3-Clause)"
DEVICES = {
    "Samsung Galaxy S25": "snapdragon-8-elite",
    "Snapdragon 8 Elite Gen 5 QRD": "snapdragon-8-elite-gen-5",
    "Snapdragon X Elite CRD": "snapdragon-x-elite",
    "QCS8550 (Proxy)": "qcs8550",
    "Dragonwing IQ-9075 EVK": "iq-9075",
    "QCS8275 (Proxy)": "iq-8275",
    "SA8775P ADP": "sa8775p",
    "SA8295P ADP": "sa8295p",
    "Dragonwing Q-6690 MTP": "q-6690",
    "Dragonwing RB3 Gen 2 Vision Kit": "rb3-gen-2",
}
"""What the table calls a device, and its profile."""
SAME_ROWS = {"SA7255P ADP": "the same values as QCS8275 (Proxy), counted once"}
RUNTIMES = {
    "qnn_dlc": "qnn", "qnn_context_binary": "qnn", "tflite": "tflite", "onnx": "onnxruntime",
    "precompiled_qnn_onnx": "onnxruntime",
}  # fmt: skip
PRECISIONS = {"float": "fp16", "w8a8": "int8"}
"""Float networks run in fp16 on the NPU; other mixtures of widths are left out."""


@dataclass(frozen=True, slots=True)
class Row:
    """One network on one device: ``form`` is the table's runtime, ``runtime`` and ``precision``
    those of the target."""

    device: str
    form: str
    runtime: str
    precision: str
    model: str
    latency_ms: float

    @property
    def target(self) -> str:
        """``runtime-precision``."""
        return f"{self.runtime}-{self.precision}"


def aihub_rows(public_data: Path) -> tuple[list[Row], Counter[str]]:
    """Rows that ran on the NPU alone in fp16 or int8, and how many were left out by reason."""
    rows, left = [], Counter[str]()
    for record in _read(public_data / FILE):
        reason = _refused(record)
        if reason:
            left[f"ai-hub: {reason}"] += 1
            continue
        form = record["runtime"]
        rows.append(Row(
            DEVICES[record["device"]], form, RUNTIMES[form], PRECISIONS[record["precision"]],
            record["model"], float(record["latency_ms"]),
        ))  # fmt: skip
    return rows, left


def _refused(record: dict[str, str]) -> str:
    """Why a row cannot be used, or nothing."""
    if record["device"] in SAME_ROWS:
        return f"{record['device']}: {SAME_ROWS[record['device']]}"
    if record["precision"] not in PRECISIONS:
        return f"{record['precision']} is no precision of a target"
    if record["compute_unit"] != "NPU":
        return f"ran on the {record['compute_unit']}"
    if any(float(record[f"layers_{unit}"] or 0) for unit in ("gpu", "cpu")):
        return "some layers ran on another unit than the NPU"
    from scripts.networks.aihub_catalogue import NETWORKS, NOT_REBUILT

    if record["model"] not in NETWORKS:
        return f"{record['model']}: {NOT_REBUILT.get(record['model'], 'not rebuilt')}"
    return ""


def _read(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        yield from csv.DictReader(handle)
