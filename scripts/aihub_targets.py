"""The Snapdragon targets that Qualcomm AI Hub's figures are fitted for, a collection a precision.

All devices and the three runtimes of a precision are fitted together: shapes of efficiency are
shared by runtime and by the NPU's generation, each board keeps its own scale.
"""

from __future__ import annotations

import zlib
from collections import Counter
from functools import partial
from pathlib import Path

from predictor.device import load_device
from scripts.aihub_figures import RULES, aihub_figures, board_of, levels_of
from scripts.aihub_fit import chosen_fit
from scripts.aihub_rows import CITATION, DEVICES
from scripts.collection import Collection, Loaded, Ship
from scripts.figures import Figure, Graphs

PAGE = "accuracy-snapdragon"
FEWEST = 20
"""Figures that a target must have to ship."""
SOFTWARE = {
    "qnn": "Qualcomm AI Engine Direct 2.42",
    "tflite": "TFLite with the QNN delegate, Qualcomm AI Engine Direct 2.42",
    "onnxruntime": "ONNX Runtime with the QNN provider, Qualcomm AI Engine Direct 2.37",
}
_MISSING = {
    "onnxruntime": ("iq-8275", "sa8775p", "sa8295p", "q-6690", "rb3-gen-2"),
    "tflite": ("snapdragon-x-elite",),
    "qnn": (),
}
"""Devices without FEWEST figures of a runtime."""
_NO_FP16 = ("q-6690", "rb3-gen-2")


def _load(precision: str, public: Path, graphs: Graphs) -> Loaded:
    figures, layers, left = aihub_figures(public, graphs)
    mine = [f for f in figures if f.board.endswith(f"-{precision}")]
    counts = Counter(f.board for f in mine)
    few = {board for board, n in counts.items() if n < FEWEST}
    left.update({f"ai-hub: {board} has fewer than {FEWEST} figures": counts[board]
                 for board in few})  # fmt: skip
    return [f for f in mine if f.board not in few], layers, left


def _ships(precision: str) -> tuple[Ship, ...]:
    return tuple(
        _ship(device, runtime, precision)
        for device in DEVICES.values() if precision != "fp16" or device not in _NO_FP16
        for runtime in SOFTWARE if device not in _MISSING[runtime]
    )  # fmt: skip


def _ship(device: str, runtime: str, precision: str) -> Ship:
    target = f"{runtime}-{precision}"
    levels = levels_of(device, load_device(device).generation, runtime, precision)
    return Ship(device, target, RULES, levels, SOFTWARE[runtime],
                board=board_of(device, target))  # fmt: skip


def device_of(figure: Figure) -> str:
    """The device of a figure; leaving it out leaves out all its runtimes."""
    return figure.board.partition(" ")[0]


def _group(text: str, parts: int) -> int:
    return zlib.crc32(text.encode()) % parts


def _collection(precision: str) -> Collection:
    return Collection(
        f"snapdragon {precision}",
        partial(_load, precision),
        _ships(precision),
        (CITATION,),
        protocols=("model", "family", "board"),
        keys={
            "model": lambda f: f"models {_group(f.model, 10)}",
            "family": lambda f: f.family,
            "board": device_of,
        },
        fit=chosen_fit,
        page=PAGE,
    )


AIHUB = tuple(_collection(precision) for precision in ("fp16", "int8"))
