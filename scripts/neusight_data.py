"""NeuSight's operator and language-model tables as arrays, features made by the predictor itself.

The tables time a call of one operator with CUDA events: 25 calls, the mean of the fastest five, so
a row is what the host needs to launch, and then the kernel. A shape was timed on every device.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from predictor.device import load_device
from predictor.hardware import Device
from predictor.kernels.features import CLASSES, Features, Floats, featurize
from predictor.kernels.fusion import fuse
from predictor.kernels.rules import FusionRules, load_rules
from predictor.latency.costing import hardware_of
from predictor.latency.physical import MEDIAN, Hardware, Times, kernel_times
from predictor.latency.tiles import Shapes, shapes_of
from scripts.neusight_models import MODELS, language_model
from scripts.operator_figures import operator_graph
from scripts.public_rows import DEVICES, neusight_rows

RULES = "eager-plain"
PRECISION = "fp32"


@dataclass(frozen=True, slots=True)
class Operators:
    """Rows of the operator tables: one kernel each, and what a call of it took.

    ``shape`` numbers the distinct shapes.
    """

    device: npt.NDArray[np.str_]
    kind: npt.NDArray[np.str_]
    seconds: Floats
    features: Features
    shapes: Shapes
    shape: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, index: npt.NDArray[np.intp]) -> Operators:
        """The rows at ``index``."""
        shapes = Shapes(*(getattr(self.shapes, n)[index] for n in Shapes.__slots__))
        return Operators(self.device[index], self.kind[index], self.seconds[index],
                         self.features.take(index), shapes, self.shape[index])  # fmt: skip

    def where(self, *, devices: Sequence[str] | None = None, cls: str | None = None,
              kind: str | None = None) -> npt.NDArray[np.intp]:  # fmt: skip
        """Positions of the rows of ``devices``, of a kernel class, of a table's kind."""
        keep = np.ones(len(self), bool)
        if devices is not None:
            keep &= np.isin(self.device, list(devices))
        if cls is not None:
            keep &= self.features.cls == CLASSES.index(cls)
        if kind is not None:
            keep &= self.kind == kind
        return np.flatnonzero(keep)


@dataclass(frozen=True, slots=True)
class Network:
    """A row of the language-model table: kernels in order, and what a pass took."""

    device: str
    model: str
    batch: int
    length: int
    seconds: float
    features: Features
    shapes: Shapes


def rules() -> FusionRules:
    """How PyTorch ran the tables' models."""
    return load_rules(RULES)


def load_operators(public: Path) -> Operators:
    """All rows of the three operator tables."""
    rows = neusight_rows(public)
    numbers: dict[object, int] = {}
    kernels = []
    shape = []
    for row in rows:
        key = (row.kind, row.inputs, row.weights)
        if key not in numbers:
            numbers[key] = len(kernels)
            (kernel,) = fuse(operator_graph(row), rules())
            kernels.append(kernel)
        shape.append(numbers[key])
    index = np.array(shape, dtype=np.intp)
    shapes = shapes_of(kernels)
    return Operators(
        np.array([row.device for row in rows]), np.array([row.kind for row in rows]),
        np.array([row.latency_ms for row in rows]) * 1e-3, featurize(kernels).take(index),
        Shapes(*(getattr(shapes, n)[index] for n in Shapes.__slots__)), index,
    )  # fmt: skip


def load_networks(public: Path) -> list[Network]:
    """Inference of a whole model on one GPU, without fused kernels."""
    made: dict[tuple[str, int, int], tuple[Features, Shapes]] = {}
    found = []
    with (public / "neusight" / "llm_model_latency.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            device = DEVICES.get(row["device"])
            if row["phase"] != "inf" or row["extra"] or device is None:
                continue
            if row["model"] not in MODELS:
                continue
            key = (row["model"], int(row["batch_size"]), int(row["seq_len"]))
            if key not in made:
                kernels = fuse(language_model(*key), rules())
                made[key] = featurize(kernels), shapes_of(kernels)
            found.append(Network(device, *key, float(row["e2e_latency_ms"]) * 1e-3, *made[key]))
    return found


def joined(features: Sequence[Features], shapes: Sequence[Shapes]) -> tuple[Features, Shapes]:
    """Kernels of several networks, one after the other."""
    parts = [np.concatenate([getattr(s, f.name) for s in shapes]) for f in fields(Shapes)]
    return Features.join(features), Shapes(*parts)


class Devices:
    """Facts of the devices, read once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Device, Hardware]] = {}

    def __call__(self, name: str) -> tuple[Device, Hardware]:
        """A profile, and what the physics needs of it."""
        if name not in self._known:
            device = load_device(name)
            self._known[name] = device, hardware_of(device, PRECISION)
        return self._known[name]


def plain_times(features: Features, hardware: Hardware) -> Times:
    """The kernel model at its prior, for what no tree answers for."""
    return kernel_times(features, hardware, MEDIAN)
