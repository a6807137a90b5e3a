"""The timm benchmark tables as targets: GPUs in mixed precision and a desktop CPU."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from predictor.device import load_device
from predictor.errors import ModelError, PredictorError
from predictor.frontends.load import load_graph
from predictor.graph import Graph
from predictor.hardware import Device
from predictor.kernels.features import Features
from predictor.latency.costing import hardware_of
from predictor.latency.sustained import sustained
from scripts.batched_features import BatchedFeatures, NotAffine
from scripts.totals_training import TotalRow

CITATIONS = ("timm benchmark tables, R. Wightman, Hugging Face (Apache-2.0)",)
SOURCE = "timm"


@dataclass(frozen=True, slots=True)
class TimmTarget:
    """A table of the benchmark, and the target that it becomes."""

    file: str
    device: str
    runtime: str
    precision: str
    software: str
    smallest_batch: int = 256
    layout: str = "nchw"
    release: str = ""

    @property
    def name(self) -> str:
        """As :attr:`predictor.hardware.Target.name` has it."""
        parts = (self.runtime, self.precision, self.layout if self.layout != "nchw" else "",
                 self.release)  # fmt: skip
        return "-".join(part for part in parts if part)

    @property
    def collection(self) -> str:
        """What the accuracy page calls it."""
        return f"timm-{self.device} {self.name}"


TARGETS = (
    TimmTarget("amp-nchw-pt240-cu124-rtx3090", "rtx-3090", "eager", "amp",
               "PyTorch 2.4.0, CUDA 12.4"),
    TimmTarget("amp-nchw-pt291-cu128-4090", "rtx-4090", "eager", "amp",
               "PyTorch 2.9.1, CUDA 12.8"),
    TimmTarget("amp-nchw-pt291-cu128-4090-dynamo", "rtx-4090", "torch_compile", "amp",
               "PyTorch 2.9.1, CUDA 12.8"),
    TimmTarget("amp-nchw-pt291-cu130-pro6000maxq", "rtx-pro-6000-max-q", "eager", "amp",
               "PyTorch 2.9.1, CUDA 13.0"),
    TimmTarget("amp-nchw-pt291-cu130-pro6000maxq-dynamo", "rtx-pro-6000-max-q", "torch_compile",
               "amp", "PyTorch 2.9.1, CUDA 13.0"),
    TimmTarget("fp32-nchw-pt240-cpu-i9_10940x-dynamo", "i9-10940x", "torch_compile", "fp32",
               "PyTorch 2.4.0", 1),
)  # fmt: skip
"""Those that ship."""


class TimmFeatures(BatchedFeatures):
    """Networks of the installed timm, read as a user's are."""

    def __init__(self, cache: Path) -> None:
        super().__init__(cache, _trace)


def _trace(key: str, shape: tuple[int, ...]) -> Graph:
    return load_graph(key, batch=shape[0], resolution=(shape[-2], shape[-1]))


def families() -> dict[str, str]:
    """Model name to the module of timm that defines it."""
    from predictor.frontends.zoo_build import import_torchvision

    import_torchvision()
    import timm

    return {
        name: timm.models.model_entrypoint(name).__module__.rsplit(".", 1)[-1]
        for name in timm.list_models()
    }


def total_rows(
    public: Path, target: TimmTarget, features: TimmFeatures, family_of: dict[str, str],
    device: Device | None = None,
) -> tuple[list[TotalRow], Counter[str]]:  # fmt: skip
    """Rows of a table whose network is known to be the one that was measured; and the others."""
    device = device or load_device(target.device)
    hardware = sustained(hardware_of(device, target.precision), device)
    rows, left = [], Counter[str]()
    for record in _records(public, target.file):
        name = record["model"].split(".")[0]
        if name not in family_of:
            left["the installed timm does not define the network"] += 1
            continue
        side = int(float(record["img_size"]))
        try:
            found, params = _features(features, target, name, side, record)
        except ModelError:
            left["the network cannot be traced at the row's size"] += 1
            continue
        except NotAffine:
            left["kernels change with the batch"] += 1
            continue
        counted = float(record["param_count"] or 0) * 1e6
        if counted and abs(params / counted - 1) > 0.01:
            left["other parameters than the table says"] += 1
            continue
        rows.append(TotalRow(found, hardware, float(record["latency_ms"]), name, family_of[name],
                             SOURCE))  # fmt: skip
    return rows, left


def _features(
    features: TimmFeatures, target: TimmTarget, name: str, side: int, record: dict[str, str]
) -> tuple[Features, int]:
    try:
        return features.at(f"timm:{name}", (3, side, side), int(float(record["batch_size"])),
                           target.runtime, target.precision)  # fmt: skip
    except PredictorError as error:
        raise ModelError(str(error)) from error


def _records(public: Path, file: str) -> Sequence[dict[str, str]]:
    path = public / "timm" / "timm_inference.csv.gz"
    with gzip.open(path, "rt", newline="", encoding="utf-8") as handle:
        return [record for record in csv.DictReader(handle) if record["file"] == file]
