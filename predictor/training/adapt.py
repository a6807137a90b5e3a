"""More measurements where they help: made-up networks of the layers that are predicted worst."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from predictor.kernels.features import CLASSES
from predictor.profiling.plan import extend
from predictor.profiling.planfile import read_plan
from predictor.profiling.programs import medley_programs
from predictor.profiling.records import Measurements, read_measurements
from predictor.profiling.sampling import medleys
from predictor.profiling.session import PLAN, RESULTS
from predictor.training.dataset import dataset_of
from predictor.training.evaluate import Evaluation, evaluate

if TYPE_CHECKING:
    from predictor.profiling.programs import Program

LAYERS: Mapping[str, tuple[str, ...]] = {
    "conv": ("conv",), "pointwise": ("conv",), "depthwise": ("conv",), "grouped": ("conv",),
    "linear": ("linear",), "matmul": ("matmul",), "attention": ("attention",),
    "norm": ("layer_norm", "group_norm"), "pool": ("pool",), "elementwise": ("add", "act"),
    "softmax": ("softmax",), "reduce": ("mean",), "copy": ("concat",),
}  # fmt: skip
"""Layers of medleys that make kernels of a class."""
WORST = 3
"""Classes that more is drawn of."""


def worst_classes(found: Evaluation) -> list[tuple[str, float]]:
    """Classes of kernels by what their errors add to a network, largest first.

    That is the class's share of the time of all networks, times the mean of
    ``|log(predicted / measured)|`` of its kernels in families that were left out.
    """
    rows = found.data.rows
    known = np.isfinite(found.kernel_log_error)
    cls, error = rows.kernels.cls[known], np.abs(found.kernel_log_error[known])
    seconds = rows.seconds[known]
    total = float(seconds.sum())
    ranked = []
    for kind in np.unique(cls):
        mine = cls == kind
        weight = float(seconds[mine].sum()) / total * float(error[mine].mean())
        ranked.append((CLASSES[int(kind)], weight))
    return sorted(ranked, key=lambda pair: -pair[1])


def adapt(folder: Path, count: int) -> tuple[int, list[str]]:
    """Add ``count`` medleys to the plan in ``folder``, most of the layers that are predicted worst.

    Returns how many were added, and those layers.

    Raises:
        MeasurementError: too little was measured to tell what is predicted badly.
    """
    measured = read_measurements(folder / PLAN, folder / RESULTS)
    found = evaluate(dataset_of(measured), trials=0, baselines=False)
    layers = [layer for name, _ in worst_classes(found)[:WORST] for layer in LAYERS.get(name, ())]
    return extend(folder / PLAN, _programs(measured, folder, count, layers)), layers


def _programs(measured: Measurements, folder: Path, count: int, layers: list[str]) -> list[Program]:
    graphs = list({timing.label: timing.graph for timing in measured.networks}.values())
    # Another seed each time the plan grows, or the same medleys would come again.
    grown = len(read_plan(folder / PLAN).get("grown_from", ()))
    chance = random.Random(f"{measured.name}:{measured.runtime}:{grown}")
    return medley_programs(measured.runtime, medleys(graphs, count, chance, layers),
                           f"medley-{grown + 1}", lambda text: None)  # fmt: skip
