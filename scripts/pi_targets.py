"""TFLite on Raspberry Pi boards."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from scripts.collection import Collection, Loaded, Ship
from scripts.figures import Graphs, figures_of
from scripts.folds import hash_of
from scripts.public_rows import Row, pi_rows

PI_CITATIONS = (
    "NetsPresso Trainer benchmark tables, Nota Inc. (Apache-2.0)",
    "HELP, Lee et al., NeurIPS 2021 (MIT), with HW-NAS-Bench, Li et al., ICLR 2021",
    "HW-NAS-Bench-360, R. den Bijvank",
)
ONE_OF_FOUR = 0.25
"""TFLite runs one thread unless told otherwise: two of the tables say so or pin one core, and the
third agrees with them only as one thread."""


def _pi(public: Path, graphs: Graphs) -> Loaded:
    rows = [row for row in pi_rows(public, sample=150) if row.runtime == "tflite"]
    figures, left = [], Counter[str]()
    for precision in ("fp16", "fp32"):
        mine = [row for row in rows if row.precision == precision]
        found, also = figures_of(mine, graphs, _tflite_rules, group=f"{precision}-",
                                 cores=ONE_OF_FOUR)  # fmt: skip
        figures += [replace(f, board=f"{f.board} {precision}") for f in found]
        left.update(also)
    return figures, [], left


def _tflite_rules(row: Row) -> str:
    """HELP's models went through TensorFlow's graph optimiser."""
    return "tflite-1" if row.source == "help-nasbench201" else "tflite"


def _tflite(
    device: str, generation: str, precision: str, source: str, rules: str = "tflite"
) -> Ship:
    group = f"{precision}-"
    levels = (f"gen:{generation}", f"gen:{group}{generation}", f"board:{group}{device}",
              f"only:{group}{device}/{source}")  # fmt: skip
    return Ship(device, f"tflite-{precision}", rules, levels, "TFLite, one thread",
                board=f"{device} {precision}", units_share=ONE_OF_FOUR)  # fmt: skip


PI = Collection(
    "raspberry-pi",
    _pi,
    (
        _tflite("raspberry-pi-5", "cortex-a76", "fp16", "netspresso"),
        _tflite("raspberry-pi-5", "cortex-a76", "fp32", "hw-nas-bench-360"),
        _tflite("raspberry-pi-4", "cortex-a72", "fp32", "help-nasbench201", "tflite-1"),
        _tflite("raspberry-pi-3b-plus", "cortex-a53", "fp16", "netspresso"),
        _tflite("raspberry-pi-zero-2w", "cortex-a53", "fp16", "netspresso"),
    ),
    PI_CITATIONS,
    protocols=("model", "family", "board"),
    keys={"model": lambda f: f.model if "nasbench" not in f.model else f"cells {hash_of(f.model)}"},
)
