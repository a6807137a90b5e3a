"""Targets from ncnn's benchmark table: boards, phones and PCs, on their cores or under Vulkan."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from predictor.device import load_device
from predictor.latency.fitting import Fit, FitRow, fit_rows
from predictor.latency.physical import INDEX, MEDIAN, SPREAD
from scripts.collection import Collection, Loaded, Ship
from scripts.figures import Figure, Graphs
from scripts.folds import Key
from scripts.ncnn_boards import SHIPPED_CPUS, SHIPPED_GPUS
from scripts.ncnn_figures import Kernels, Run, figures, levels_of, runs

CITATIONS = ("ncnn benchmark tables, Tencent and contributors (BSD-3-Clause)",)
NOISE = 0.15
"""Runs of one board by two people differ by more than the two of one person do."""
ERAS = {"a": "an early version", "b": "a middle version", "c": "a recent version"}
"""Versions of ncnn, by the networks that its benchmark has."""
BOARD_GROUPS = 8
NETWORK_GROUPS = 9
PAGE = "accuracy-ncnn"

CPU_PRIOR: Mapping[str, tuple[float, float]] = {
    "vector": (0.5, 1.0), "off_pack": (0.3, 1.0), "group": (0.3, 1.0), "wide_taps": (1.0, 0.4),
    "winograd": (2.0, 0.3), "k_step": (0.05, 0.7), "compute.depthwise": (0.12, 0.7),
}  # fmt: skip
"""Medians and spreads in which CPU libraries differ from GPU ones: exponentials are computed, not
looked up; channels that fill no vector take a slow path; groups run one after the other; Winograd
saves more; a long reduction does not wait for memory; depthwise layers reach a tenth of peak."""


def cpu_fit(rows: Sequence[FitRow]) -> Fit:
    """The physical model with :data:`CPU_PRIOR`."""
    median, spread = MEDIAN.copy(), SPREAD.copy()
    for name, (middle, width) in CPU_PRIOR.items():
        median[INDEX[name]], spread[INDEX[name]] = np.log(middle), width
    return fit_rows(rows, noise=NOISE, median=median, spread=spread)


def gpu_fit(rows: Sequence[FitRow]) -> Fit:
    """The physical model for Vulkan, with this table's noise."""
    return fit_rows(rows, noise=NOISE)


def shipped(text: str) -> dict[str, tuple[int, str]]:
    """Profile to cores (0: a GPU) and era, from a list of :mod:`scripts.ncnn_boards`."""
    parts = [word.split(":") for word in text.split()]
    return {part[0]: (int(part[1]) if len(part) == 3 else 0, part[-1]) for part in parts}


def _loader(wanted: Callable[[Run], bool]) -> Callable[[Path, Graphs], Loaded]:
    def load(public: Path, graphs: Graphs) -> Loaded:
        rows, left = runs(public)
        return figures([row for row in rows if wanted(row)], Kernels()), [], left

    return load


def _on_cores(run: Run) -> bool:
    """Runs on one core, and on as many as the board's target stands for."""
    ships = shipped(SHIPPED_CPUS).get(run.profile, (1, ""))
    return run.precision != "int8" and run.cores in (1, ships[0])


def _on_gpu(run: Run) -> bool:
    return run.cores == 0


def _ship(profile: str, cores: int, era: str) -> Ship:
    device = load_device(profile)
    half = "fp16" in device.peak_tflops
    threads = f"{cores} thread{'s' if cores > 1 else ''}" if cores else "Vulkan"
    return Ship(
        profile, f"ncnn-{'fp16' if half else 'fp32'}", "ncnn",
        levels_of(device, cores, era), f"ncnn, {ERAS[era]}, {threads}",
        board=f"{profile} x{cores} {era}",
        units_share=cores / device.units if cores else 1.0,
    )  # fmt: skip


def device_of(figure: Figure) -> str:
    """The profile of a figure, whose board also names cores, clock and era."""
    return figure.board.split(" x")[0]


def board_group(figure: Figure) -> str:
    """One of :data:`BOARD_GROUPS` groups of boards, each left out as a whole."""
    return f"boards {zlib.crc32(device_of(figure).encode()) % BOARD_GROUPS}"


_KEYS: Mapping[str, Key] = {
    "board": board_group,
    "model": lambda f: f"networks {zlib.crc32(f.model.encode()) % NETWORK_GROUPS}",
}

NCNN = (
    Collection(
        "ncnn cpu", _loader(_on_cores),
        tuple(_ship(name, *rest) for name, rest in shipped(SHIPPED_CPUS).items()),
        CITATIONS, protocols=("model", "family", "board"), keys=_KEYS,
        fit=cpu_fit, page=PAGE,
    ),
    Collection(
        "ncnn vulkan", _loader(_on_gpu),
        tuple(_ship(name, *rest) for name, rest in shipped(SHIPPED_GPUS).items()),
        CITATIONS, protocols=("model", "family", "board"), keys=_KEYS,
        fit=gpu_fit, page=PAGE,
    ),
)  # fmt: skip
