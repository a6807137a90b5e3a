"""Targets from the tables of HELP: one a device, all its batches and search spaces together."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from predictor.device import load_device
from predictor.latency.costing import hardware_of
from predictor.latency.fitting import FitRow
from scripts.collection import Collection, Loaded, Ship
from scripts.figures import Figure, Graphs, floor_ms
from scripts.folds import Key
from scripts.help_features import counted
from scripts.help_rows import Column, Table, read_table

CITATIONS = (
    "HELP, Lee et al., NeurIPS 2021 (MIT)",
    "HW-NAS-Bench, Li et al., ICLR 2021 (phones' TFLite, Raspberry Pi 4, FPGA and Eyeriss columns)",
)
NETWORKS = {"nasbench201": 150, "fbnet": 80, "ofa": 80}
"""Networks of each search space that a column is fitted on; more change nothing but the time."""
HOST_US = 0.01
"""Launches are in the fitted times already: the host's chain adds nothing to them."""
_TENTHS: Key = lambda figure: f"networks {zlib.crc32(figure.model.encode()) % 10}"  # noqa: E731


@dataclass(frozen=True, slots=True)
class HelpTarget:
    """A device of the tables and what ran on it.

    ``cores`` is the share of its cores, ``one_space`` that only one search space was timed: what
    it does with others is then as open as for a datasheet.
    """

    device: str
    target: str
    rules: str
    software: str
    cores: float = 1.0
    one_space: bool = False


_TORCH = "PyTorch, version not stated"
_PHONE = "framework not stated; executes dead branches, so no TFLite"
_TENSORFLOW = "TFLite by way of TensorFlow's graph optimiser"

TARGETS = (
    *(HelpTarget(device, "eager-fp32", "eager", _TORCH) for device in (
        "gtx-titan-x", "gtx-1080-ti", "titan-xp", "rtx-2080-ti", "titan-rtx", "xeon-silver-4114",
        "xeon-silver-4210r",
    )),
    *(HelpTarget(device, "eager-fp32", "eager", _TORCH, one_space=True)
      for device in ("xeon-gold-6226", "xeon-gold-6240")),
    *(HelpTarget(device, "eager-fp32", "eager", _PHONE)
      for device in ("galaxy-s7", "galaxy-a50", "essential-phone")),
    HelpTarget("pixel-3", "tflite-fp32", "tflite-1", _TENSORFLOW, 0.25),
    HelpTarget("eyeriss", "simulated-fp16", "simulated", "simulator of HW-NAS-Bench"),
    HelpTarget("zc706", "simulated-fp16", "simulated", "synthesis estimates of HW-NAS-Bench"),
)  # fmt: skip


def column_figures(
    target: HelpTarget, table: Table, column: Column, chosen: list[int], cache: Path
) -> list[Figure]:
    """Figures of the ``chosen`` networks of one column."""
    device = load_device(target.device)
    hardware = hardware_of(device, target.target.rsplit("-", 1)[1])
    hardware = replace(hardware, units=hardware.units * target.cores,
                       peak_flops=hardware.peak_flops * target.cores,
                       vector_flops=hardware.vector_flops * target.cores)  # fmt: skip
    keys = [table.keys[i] for i in chosen]
    networks = counted(keys, target.rules, cache, target.target.rsplit("-", 1)[1])
    found = []
    for at, i in enumerate(chosen):
        if not column.usable[i]:
            continue
        features = networks.network(at, column.batch)
        row = FitRow(features, hardware, float(column.latency_ms[i]))
        found.append(Figure(row, target.device, table.keys[i], table.space, f"help-{table.space}",
                            float(features.macs.sum()), floor_ms(features, hardware)))  # fmt: skip
    return found


def sampled(table: Table, count: int, seed: int = 0) -> list[int]:
    """Networks that a space is fitted on, the same for all of its columns."""
    usable = [i for i in range(len(table.keys)) if not table.ignores_input[i]]
    return sorted(random.Random(seed).sample(usable, min(count, len(usable))))


def _loader(target: HelpTarget) -> Callable[[Path, Graphs], Loaded]:
    def load(public: Path, graphs: Graphs) -> Loaded:
        figures: list[Figure] = []
        for space, count in NETWORKS.items():
            table = read_table(public, space)
            chosen = sampled(table, count)
            for column in table.columns:
                if column.device == target.device:
                    figures += column_figures(target, table, column, chosen,
                                              graphs.cache / "counted")  # fmt: skip
        return figures, [], Counter[str]()

    return load


def _collection(target: HelpTarget) -> Collection:
    ship = Ship(target.device, target.target, target.rules, (), target.software,
                units_share=target.cores, host_us=HOST_US)  # fmt: skip
    return Collection(
        f"help {target.device}", _loader(target), (ship,), CITATIONS,
        protocols=("model",) if target.one_space else ("model", "family"), keys={"model": _TENTHS},
    )  # fmt: skip


HELP = tuple(_collection(target) for target in TARGETS)
