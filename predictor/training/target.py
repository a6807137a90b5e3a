"""A measured target as files of the user's folder: the device's facts, bundle, trees and table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from predictor.calibrated import device_yaml
from predictor.errors import ConfigError, UnknownDevice
from predictor.files import write_whole
from predictor.hardware import Device, Host, Target
from predictor.kernels.features import CLASSES, Floats, class_of
from predictor.latency.bundle import Bundle, write_bundle, write_checked
from predictor.latency.table import COLUMNS, signature
from predictor.training.dataset import Dataset, cache_bytes, clock_of, rules_of, unit_count
from predictor.training.fit import log_error_90, without_probe
from predictor.training.trees import Trained, stored

if TYPE_CHECKING:
    from predictor.graph import Kernel
    from predictor.profiling.records import Measurements
    from predictor.training.evaluate import Evaluation

USUAL_MEMORY_GB = 1.0
"""Where a machine does not tell how much memory it has."""
LEAST_SPREAD_ROWS = 10
SOURCES = {
    "peak_tflops": "measured: a large matrix product on the threads that were used",
    "bandwidth_gbs": "measured: a large copy, read and written bytes",
    "memory_gb": "as the system tells",
    "clock_mhz": "as the system tells",
    "l2_mb": "as the system tells",
    "units": "the threads that were used",
}
"""Where each fact of a measured device comes from."""


def write_target(
    measured: Measurements, data: Dataset, trained: Trained, found: Evaluation,
    card: Mapping[str, Any], folder: Path,
) -> Device:  # fmt: skip
    """Write (or replace) the target in the device's ``folder``; its other targets stay.

    Args:
        measured, data: what was measured.
        trained: the model that ships, fitted on all of it.
        found, card: how well it did on families that were left out.
        folder: the device's own; its name is the device's name.

    Raises:
        ConfigError: the folder cannot be written, or holds a device of another kind.
    """
    target = Target(measured.runtime, measured.precision, software=software_of(measured),
                    tier="measured")  # fmt: skip
    target = replace(target, bundle=f"{target.name}.json")
    stem = target.name
    spread = kernel_spread(found)
    bundle = Bundle(
        target=stem, rules=rules_of(measured), parameters={},
        log_error_90={"family": log_error_90(found.log_error[found.counted].tolist()),
                      "kernel": float(np.nanmedian(spread)) if np.isfinite(spread).any() else 0.5},
        classes=tuple(CLASSES[int(c)] for c in sorted({*trained.boosters, *trained.constants})),
        basis=basis_of(measured), software=target.software, card=dict(card),
        host_us=trained.host_us or None, scale=trained.scale,
        kernelwise=f"{stem}-kernels.npz", table=f"{stem}-table.csv",
    )  # fmt: skip
    device = device_of(measured, data, target, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_checked(folder, f"{stem}-kernels.npz", stored(trained, data, spread).to_bytes())
        write_checked(
            folder, f"{stem}-table.csv", table_text(measured, data, trained.probe_us).encode()
        )
        write_bundle(folder, f"{stem}.json", bundle)
        write_whole(folder / "device.yaml", device_yaml(device, "train").encode())
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}") from error
    from predictor.device import load_device

    return load_device(folder)


def software_of(measured: Measurements) -> str:
    """Versions and threads, such as ``PyTorch 2.13.0+cpu, 1 thread``."""
    names = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}
    known = [f"{title} {measured.versions[key]}" for key, title in names.items()
             if key in measured.versions]  # fmt: skip
    if measured.device == "cpu":
        known.append(f"{measured.threads} thread{'' if measured.threads == 1 else 's'}")
    return ", ".join(known)


def basis_of(measured: Measurements) -> str:
    """In words, what the target stands on."""
    networks = {timing.label for timing in measured.networks}
    in_place = sum(kernel.where == "place" for kernel in measured.kernels)
    return (f"measured on {measured.machine.get('model', 'the device')}: {len(networks)} networks, "
            f"{in_place:,} kernels in place, {len(measured.kernels) - in_place:,} timings of "
            "isolated ones")  # fmt: skip


def table_text(measured: Measurements, data: Dataset, probe_us: float = 0.0) -> str:
    """Kernels timed in place as the measured table: one row a distinct kernel, for reader and
    machine; :data:`READABLE` are the columns that only the reader needs.

    Equal kernels are pooled: the median of what each network's says, all repeats together; the
    spread is the larger of the usual one inside a network and that between networks. ``probe_us``
    is what timing a kernel added.
    """
    timed = [kernel for kernel in measured.kernels if kernel.latency_ms > 0]
    data = without_probe(data, probe_us)
    rows, groups = data.rows, dict[str, list[int]]()
    names = [signature(kernel) for kernel in data.distinct]
    for at in np.flatnonzero(rows.place == 0).tolist():
        groups.setdefault(names[rows.signature[at]], []).append(at)
    lines = [",".join((*COLUMNS, *READABLE))]
    for name in sorted(groups):
        mine = groups[name]
        ms = sorted(1e3 * float(rows.seconds[at]) for at in mine)
        middle = statistics.median(ms)
        between = statistics.median(abs(value - middle) for value in ms) / middle
        inside = statistics.median(timed[at].spread for at in mine)
        repeats = sum(timed[at].repeats for at in mine)
        kernel = data.distinct[rows.signature[mine[0]]]
        p10, p90 = np.quantile(ms, (0.1, 0.9))
        lines.append(",".join((
            name, f"{middle:.6g}", str(repeats), f"{max(inside, between):.4g}", *_readable(kernel),
            "place", str(len({int(rows.network[at]) for at in mine})), f"{p10:.6g}", f"{p90:.6g}",
        )))  # fmt: skip
    return "\n".join(lines) + "\n"


READABLE = ("class", "operators", "inputs", "weights", "outputs", "flops", "elementwise_flops",
            "bytes", "where", "networks", "p10_ms", "p90_ms")  # fmt: skip
"""Columns of the measured table behind the four that are looked up."""


def _readable(kernel: Kernel) -> tuple[str, ...]:
    op = kernel.ops[kernel.anchor]
    shapes = (" ".join("x".join(map(str, spec.shape)) or "1" for spec in specs)
              for specs in (op.inputs, op.weights, op.outputs[:1]))  # fmt: skip
    return (class_of(kernel), " ".join(one.target for one in kernel.ops).replace(",", ";"), *shapes,
            str(kernel.flops), str(kernel.elementwise_flops), str(kernel.bytes))  # fmt: skip


def kernel_spread(found: Evaluation) -> Floats:
    """By class, the 90 % quantile of ``|log(predicted / measured)|`` of kernels timed in place, by
    trees that saw no kernel of their families; NaN where there are few."""
    known = np.isfinite(found.kernel_log_error)
    cls, error = found.data.rows.kernels.cls, np.abs(found.kernel_log_error)
    spread = np.full(len(CLASSES), np.nan)
    for kind in np.unique(cls[known]):
        mine = error[known & (cls == kind)]
        if len(mine) >= LEAST_SPREAD_ROWS:
            spread[kind] = min(10.0, max(1e-3, float(np.quantile(mine, 0.9))))
    return spread


def device_of(measured: Measurements, data: Dataset, target: Target, folder: Path) -> Device:
    """The facts of the machine with the new target among those that the folder has already.

    Raises:
        ConfigError: the folder holds a device of another kind.
    """
    from predictor.device import load_device

    machine, hardware = measured.machine, data.hardware
    kind = "gpu" if measured.device == "cuda" else "cpu"
    peaks = {measured.precision: hardware.peak_flops / 1e12}
    peaks.setdefault("fp32", hardware.vector_flops / 1e12)
    try:
        known: Device | None = load_device(folder)
    except UnknownDevice:
        known = None
    if known is None:
        return Device(
            name=folder.name, kind=kind, generation=folder.name,
            memory_gb=float(machine.get("memory_gb", USUAL_MEMORY_GB)),
            bandwidth_gbs=hardware.bandwidth / 1e9, units=unit_count(measured),
            clock_mhz=clock_of(machine), peak_tflops=peaks,
            targets=(replace(target, default=True),),
            title=str(machine.get("model", folder.name)), l2_mb=cache_bytes(machine) / 1e6,
            shared_memory=kind == "cpu", host=Host(),
            sources=SOURCES,
            notes=("Written by 'predict-latency train' from what the machine says of itself.",),
        )  # fmt: skip
    if known.kind != kind:
        raise ConfigError(f"{folder.name} is a {known.kind}; give what runs on the {kind} a name "
                          "of its own")  # fmt: skip
    others = [t for t in known.targets if t.name != target.name]
    default = next((t.default for t in known.targets if t.name == target.name), not others)
    most = {name: max(peaks.get(name, 0.0), known.peak_tflops.get(name, 0.0))
            for name in {**known.peak_tflops, **peaks}}  # fmt: skip
    bandwidth_gbs = max(known.bandwidth_gbs, hardware.bandwidth / 1e9)
    return replace(known, targets=(*others, replace(target, default=default)), peak_tflops=most,
                   bandwidth_gbs=bandwidth_gbs)  # fmt: skip
