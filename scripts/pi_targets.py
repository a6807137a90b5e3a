"""TFLite on Raspberry Pi boards, which share the curves of their cores with ncnn's figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from predictor.device import load_device
from scripts.collection import Collection, Loaded, Ship
from scripts.figures import Figure, Graphs, figures_of
from scripts.folds import hash_of
from scripts.ncnn_boards import KINDS
from scripts.ncnn_figures import Kernels, figures, runs
from scripts.ncnn_targets import CITATIONS as NCNN_CITATIONS
from scripts.ncnn_targets import cpu_fit
from scripts.public_rows import Row, pi_rows

PI_CITATIONS = (
    "NetsPresso Trainer benchmark tables, Nota Inc. (Apache-2.0)",
    "HELP, Lee et al., NeurIPS 2021 (MIT), with HW-NAS-Bench, Li et al., ICLR 2021",
    "HW-NAS-Bench-360, R. den Bijvank",
)
ONE_OF_FOUR = 0.25
"""TFLite runs one thread unless told otherwise: two of the tables say so or pin one core, and the
third agrees with them only as one thread."""
SAME_CORES = frozenset({
    "raspberry-pi-5", "rk3588", "orange-pi-5",
    "orange-pi-4-lts", "khadas-vim3", "jetson-nano-cpu", "snapdragon-810",
    "raspberry-pi-3b-plus", "orange-pi-zero-2", "nanopi-r2s", "rdk-x3", "arduino-uno-q",
    "snapdragon-410",
})  # fmt: skip
"""Boards whose ncnn figures on one core say what the Raspberry Pis' cores are good at."""
CELLS = "raspberry-pi-5 fp32"
"""The board that only cells of NAS-Bench-201 were timed on; ncnn's curves make it worse."""


def _levels(figure: Figure, device: str) -> Figure:
    kind = KINDS[load_device(device).generation]
    levels = (f"gen:{kind}", "gen:one", "gen:tflite", f"series:{figure.board}")
    return replace(figure, fit=replace(figure.fit, levels=levels))


def _tflite_figures(public: Path, graphs: Graphs) -> tuple[list[Figure], Counter[str]]:
    rows = [row for row in pi_rows(public, sample=150) if row.runtime == "tflite"]
    found, left = [], Counter[str]()
    for precision in ("fp16", "fp32"):
        mine = [row for row in rows if row.precision == precision]
        some, also = figures_of(mine, graphs, _tflite_rules, cores=ONE_OF_FOUR)
        found += [_levels(replace(f, board=f"{f.board} {precision}"), f.board) for f in some]
        left.update(also)
    return found, left


def _alone(public: Path, graphs: Graphs) -> Loaded:
    found, left = _tflite_figures(public, graphs)
    return found, [], left


def _with_ncnn(public: Path, graphs: Graphs) -> Loaded:
    found, left = _tflite_figures(public, graphs)
    rows = [r for r in runs(public)[0]
            if r.profile in SAME_CORES and r.cores == 1 and r.precision != "int8"]  # fmt: skip
    return [*found, *figures(rows, Kernels())], [], left


def _tflite_rules(row: Row) -> str:
    """HELP's models went through TensorFlow's graph optimiser."""
    return "tflite-1" if row.source == "help-nasbench201" else "tflite"


def _tflite(device: str, precision: str, rules: str = "tflite") -> Ship:
    board = f"{device} {precision}"
    kind = KINDS[load_device(device).generation]
    levels = (f"gen:{kind}", "gen:one", "gen:tflite", f"series:{board}")
    return Ship(device, f"tflite-{precision}", rules, levels, "TFLite, one thread", board=board,
                units_share=ONE_OF_FOUR)  # fmt: skip


def _group(figure: Figure) -> str:
    """A network, or a tenth of the cells."""
    cell = "nasbench" in figure.model
    return f"cells {hash_of(figure.model)}" if cell else figure.model


PI = Collection(
    "raspberry-pi",
    _with_ncnn,
    (
        _tflite("raspberry-pi-5", "fp16"),
        _tflite("raspberry-pi-4", "fp32", "tflite-1"),
        _tflite("raspberry-pi-3b-plus", "fp16"),
        _tflite("raspberry-pi-zero-2w", "fp16"),
    ),
    (*PI_CITATIONS, *NCNN_CITATIONS),
    protocols=("model", "family", "board"),
    scored=lambda f: f.source != "ncnn" and f.board != CELLS,
    keys={"model": _group},
    fit=cpu_fit,
)

PI_CELLS = Collection(
    "raspberry-pi-5 tflite-fp32",
    _alone,
    (_tflite("raspberry-pi-5", "fp32"),),
    PI_CITATIONS,
    protocols=("model", "family", "board"),
    scored=lambda f: f.board == CELLS,
    keys={"model": _group},
    fit=cpu_fit,
)
