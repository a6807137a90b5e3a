"""ncnn's benchmark table as figures of a fit: boards, cores that a run used, rebuilt networks."""

from __future__ import annotations

import csv
import functools
import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from predictor.device import load_device
from predictor.graph import PRECISIONS
from predictor.hardware import Device
from predictor.kernels.features import Features, featurize
from predictor.kernels.fusion import cast_graph, fuse
from predictor.latency.costing import hardware_of
from predictor.latency.fitting import FitRow
from predictor.latency.physical import Hardware
from scripts.figures import Figure, floor_ms
from scripts.ncnn_boards import KINDS, Board, board_of
from scripts.networks.ncnn_catalogue import NETWORKS, NOT_REBUILT, graph

ONLY_SMALL_CORES = 1
"""Value of ``powersave`` that binds a run to the small cores, where there are any."""


ERAS = {
    "c": frozenset({"vision_transformer", "FastestDet"}),
    "b": frozenset({"yolo-fastest-1.1", "yolo-fastestv2", "nanodet_m", "efficientnetv2_b0"}),
}
"""Networks that newer versions of the benchmark added, newest first."""


@dataclass(frozen=True, slots=True)
class Run:
    """One row of the table: ``profile`` ran ``model`` on ``cores`` cores (0: a GPU).

    ``run`` tells apart repetitions of one setting; ``era`` is that of ncnn, by the
    networks that the run's benchmark had.
    """

    profile: str
    model: str
    side: int
    precision: str
    cores: int
    clock_mhz: float | None
    run: str
    latency_ms: float
    era: str = ""

    @property
    def setting(self) -> str:
        """Board, number of cores and clock: what repetitions have in common."""
        clock = f" {self.clock_mhz:g} MHz" if self.clock_mhz else ""
        return f"{self.profile} x{self.cores}{clock}"


def runs(public: Path) -> tuple[list[Run], Counter[str]]:
    """Usable rows, and how many were left out by reason. ``precision`` is that of the target."""
    kept, left = [], Counter[str]()
    for record in _records(public):
        found = _run(record)
        if isinstance(found, str):
            left[f"ncnn: {found}"] += 1
        else:
            kept.append(found)
    had: dict[str, set[str]] = {}
    for row in kept:
        had.setdefault(row.run, set()).add(row.model)
    return [replace(row, era=_era(had[row.run])) for row in kept], left


def _era(networks: set[str]) -> str:
    """``c`` has the networks added last (2022 and later), ``b`` those before, ``a`` neither."""
    for era, added in ERAS.items():
        if networks & added:
            return era
    return "a"


@functools.cache
def profile(name: str) -> Device:
    """The shipped device, read once."""
    return load_device(name)


def _records(public: Path) -> Iterator[dict[str, str]]:
    with gzip.open(public / "ncnn" / "ncnn_models.csv.gz", "rt", encoding="utf-8") as handle:
        yield from csv.DictReader(handle)


def _run(record: dict[str, str]) -> Run | str:
    """The row, or why it is left out."""
    model = record["model"].removesuffix("_int8")
    vulkan = record["accelerator"] == "gpu_vulkan"
    board = board_of(record["device"])
    name = "" if board is None else board.gpu if vulkan else board.cpu
    if board is None or not name:
        return "no profile of the device"
    if model in NOT_REBUILT or model not in NETWORKS:
        return f"{model} is not rebuilt"
    if record["unstable"] == "1":
        return "the table marks the row as unstable"
    device = profile(name)
    cores = 0 if vulkan else _cores(board, device, record)
    if cores is None:
        return "small cores took part"
    int8 = record["model"].endswith("_int8")
    if int8 and vulkan:
        return "int8 networks do not run in int8 under Vulkan"
    half = "fp16" in device.peak_tflops
    precision = "int8" if int8 else "fp16" if half else "fp32"
    return Run(name, model, int(record["input_size"]), precision, cores, board.clock_mhz,
               record["run_id"], float(record["latency_ms"]))  # fmt: skip


def _cores(board: Board, device: Device, record: dict[str, str]) -> int | None:
    """How many of the profile's cores a run used; None where others did its work."""
    threads = int(record["num_threads"])
    small = int(record["powersave"]) == ONLY_SMALL_CORES or threads > device.units
    if board.mixed and small:
        return None
    return min(threads, device.units)


class Kernels:
    """Features of the rebuilt networks, each made once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, str], Features] = {}

    def of(self, run: Run) -> Features:
        """The kernels that ncnn runs for a row's network."""
        key = (run.model, run.side, run.precision)
        if key not in self._known:
            traced = cast_graph(graph(run.model, run.side), PRECISIONS[run.precision])
            self._known[key] = featurize(fuse(traced, "ncnn"))
        return self._known[key]


def hardware_for(run: Run, device: Device) -> Hardware:
    """The cores that a row used; memory is shared by all of them."""
    hardware = hardware_of(device, run.precision)
    if run.clock_mhz:
        faster = run.clock_mhz / device.clock_mhz
        hardware = replace(hardware, clock_hz=hardware.clock_hz * faster,
                           peak_flops=hardware.peak_flops * faster,
                           vector_flops=hardware.vector_flops * faster)  # fmt: skip
    if not run.cores:
        return hardware
    share = run.cores / device.units
    return replace(hardware, units=hardware.units * share,
                   peak_flops=hardware.peak_flops * share,
                   vector_flops=hardware.vector_flops * share)  # fmt: skip


def levels_of(
    device: Device, cores: int, era: str, clock_mhz: float | None = None
) -> tuple[str, ...]:
    """Groups of a row, coarse to fine: kind of core, one or many cores, board and era, setting."""
    kind = KINDS[device.generation]
    clock = f" {clock_mhz:g} MHz" if clock_mhz else ""
    series = f"series:{device.name}{clock} {era}"
    if not cores:
        card = "" if device.shared_memory else "-card"
        return (f"gen:{kind}{card}", series)
    many = "one" if cores == 1 else "many"
    return (f"gen:{kind}", f"gen:{many}", series, f"board:{device.name}{clock} {era} x{cores}")


def figures(rows: Sequence[Run], kernels: Kernels) -> list[Figure]:
    """Rows as figures; repetitions of a setting share the weight of one."""
    repeats = Counter((row.setting, row.era, row.model) for row in rows)
    found = []
    for row in rows:
        device = profile(row.profile)
        features, hardware = kernels.of(row), hardware_for(row, device)
        weight = 1.0 / np.sqrt(repeats[row.setting, row.era, row.model])
        levels = levels_of(device, row.cores, row.era, row.clock_mhz)
        fit = FitRow(features, hardware, row.latency_ms, levels, True, weight)
        found.append(Figure(
            fit, f"{row.setting} {row.era}", row.model, NETWORKS[row.model].family, "ncnn",
            float(features.macs.sum()), floor_ms(features, hardware),
        ))  # fmt: skip
    return found
