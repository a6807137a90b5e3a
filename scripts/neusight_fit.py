"""Fit eager fp32 on GPUs from NeuSight's tables; write its profiles and docs/accuracy-operators.md.

    python -m scripts.neusight_fit --public-data DIR [--profiles DIR] [--page FILE]

Whole devices are left out, everything refitted on the rest; all rows of the device are scored.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from predictor.device import shipped_profiles
from predictor.kernels.features import CLASSES, Floats
from predictor.latency.boosted import Forest
from scripts.figures import summary
from scripts.neusight_data import (
    Devices,
    Network,
    Operators,
    load_networks,
    load_operators,
)
from scripts.neusight_page import page
from scripts.neusight_ship import ship_all
from scripts.neusight_train import Trained, call_seconds, fitted_tiles, kernel_seconds, train

OLDER = ("p4", "p100", "v100", "t4")
NEWER = ("a100", "a100-80gb")
KINDS = ("bmm", "linear", "conv2d", "softmax", "layer_norm", "add", "mul", "div", "pow", "relu",
         "gelu", "tanh")  # fmt: skip
SHAPE_FOLDS = 5


@dataclass(slots=True)
class Outcome:
    """Log errors (predicted over measured) of one left-out device, by operator and of networks."""

    device: str
    trained_on: tuple[str, ...]
    operators: dict[str, Floats]
    roofline: dict[str, Floats]
    flops: dict[str, Floats]
    networks: Floats
    network_roofline: Floats
    network_flops: Floats
    by_model: dict[str, Floats]


def left_out(
    rows: Operators, networks: Sequence[Network], device: str, names: Sequence[str],
    devices: Devices, trained: Trained | None = None,
) -> Outcome:  # fmt: skip
    """What a model of the devices ``names`` says of another device."""
    trained = trained or train(rows, names, devices)
    factor = _roofline_factor(rows, names, devices)
    constant = _flops_constant(rows, names)
    operators, roofline, flops = {}, {}, {}
    for kind in KINDS:
        index = rows.where(devices=[device], kind=kind)
        if len(index):
            some = rows.take(index)
            said = call_seconds(trained.forest, device, some, devices)
            operators[kind] = np.log(said / some.seconds)
            cls = CLASSES[int(some.features.cls[0])]
            flops[kind] = np.log(constant * _work(some) / some.seconds)
            roofline[kind] = np.log(factor[cls] * _floor(some, device, devices) / some.seconds)
    mine = [n for n in networks if n.device == device]
    errors = network_errors(trained.forest, mine, devices)
    others = [n for n in networks if n.device in names]
    return Outcome(
        device, tuple(names), operators, roofline, flops, errors,
        _network_baseline(mine, others, lambda n: _floor_sum(n, devices)),
        _network_baseline(mine, others, lambda n: float(n.features.macs.sum())),
        {m: np.array([e for e, n in zip(errors, mine, strict=True) if n.model == m])
         for m in sorted({n.model for n in mine})},
    )  # fmt: skip


def network_errors(forest: Forest, networks: Sequence[Network], devices: Devices) -> Floats:
    """log(predicted / measured) of whole networks: the sum of their kernels."""
    return np.array([
        np.log(kernel_seconds(forest, n.device, n.features, n.shapes, devices).sum() / n.seconds)
        for n in networks
    ])  # fmt: skip


def _floor(rows: Operators, device: str, devices: Devices) -> Floats:
    hardware = devices(device)[1]
    f = rows.features
    return np.maximum(2 * f.macs / hardware.peak_flops, f.bytes / hardware.bandwidth)


def _roofline_factor(
    rows: Operators, names: Sequence[str], devices: Devices
) -> Mapping[str, float]:
    """Median of measured over roofline by class, on the training devices."""
    found: dict[str, list[float]] = {}
    for name in names:
        some = rows.take(rows.where(devices=[name]))
        ratio = np.log(some.seconds / _floor(some, name, devices))
        for index in np.unique(some.features.cls):
            found.setdefault(CLASSES[index], []).extend(ratio[some.features.cls == index])
    return {cls: float(np.exp(np.median(values))) for cls, values in found.items()}


def _work(rows: Operators) -> Floats:
    """MACs, or bytes of what has none."""
    return np.where(rows.features.macs > 0, rows.features.macs, rows.features.bytes)


def _flops_constant(rows: Operators, names: Sequence[str]) -> float:
    some = rows.take(rows.where(devices=names))
    return float(np.exp(np.median(np.log(some.seconds / _work(some)))))


def _floor_sum(network: Network, devices: Devices) -> float:
    hardware = devices(network.device)[1]
    f = network.features
    return float(np.maximum(2 * f.macs / hardware.peak_flops, f.bytes / hardware.bandwidth).sum())


def _network_baseline(
    mine: Sequence[Network], others: Sequence[Network], work: Callable[[Network], float]
) -> Floats:
    """Work of whole networks times the training devices' median, as log errors."""

    def ratio(n: Network) -> float:
        return float(np.log(work(n) / n.seconds))

    centre = np.median([ratio(n) for n in others]) if others else 0.0
    return np.array([ratio(n) - centre for n in mine])


def new_shapes(rows: Operators, device: str, devices: Devices) -> dict[str, Floats]:
    """The device and a fifth of all shapes left out together: errors on just those."""
    fold = rows.shape % SHAPE_FOLDS == 0
    trained = train(rows.take(np.flatnonzero(~fold)), OLDER, devices)
    some = rows.take(np.flatnonzero(fold & (rows.device == device)))
    errors = np.log(call_seconds(trained.forest, device, some, devices) / some.seconds)
    return {k: errors[some.kind == k] for k in KINDS if (some.kind == k).any()}


def own_rows(rows: Operators, device: str, devices: Devices) -> dict[str, Floats]:
    """A ceiling: trained on four fifths of the device's own shapes, errors on the rest."""
    fold = rows.shape % SHAPE_FOLDS == 0
    trained = train(rows.take(np.flatnonzero(~fold)), [device], devices)
    some = rows.take(np.flatnonzero(fold & (rows.device == device)))
    forest = trained.of(device)
    errors = np.log(call_seconds(forest, device, some, devices) / some.seconds)
    return {k: errors[some.kind == k] for k in KINDS if (some.kind == k).any()}


def main() -> None:
    """Fit, score, write; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--public-data", type=Path, required=True)
    parser.add_argument("--profiles", type=Path, default=shipped_profiles())
    parser.add_argument("--page", type=Path, default=Path("docs/accuracy-operators.md"))
    arguments = parser.parse_args()
    devices = Devices()
    rows, networks = load_operators(arguments.public_data), load_networks(arguments.public_data)
    outcomes = []
    blind = train(rows, OLDER, devices)
    for device in (*NEWER, *OLDER):
        names = [name for name in OLDER if name != device]
        trained = blind if device in NEWER else None
        outcomes.append(left_out(rows, networks, device, names, devices, trained))
        print(device, {k: summary(e)["mean_pct"] for k, e in outcomes[-1].operators.items()},
              "networks", dict(summary(outcomes[-1].networks)), flush=True)  # fmt: skip
    every = (*OLDER, *NEWER)
    tiles = fitted_tiles(rows, every, devices)
    told = left_out(rows, networks, "a100", OLDER, devices,
                    train(rows, OLDER, devices, tiles=tiles))  # fmt: skip
    shapes = {d: new_shapes(rows, d, devices) for d in NEWER}
    ceiling = {d: own_rows(rows, d, devices) for d in NEWER}
    final = train(rows, every, devices)
    known = {d: network_errors(final.of(d), [n for n in networks if n.device == d], devices)
             for d in every}  # fmt: skip
    text = page(outcomes, told, shapes, ceiling, known)
    arguments.page.write_text(text, encoding="utf-8")
    print(text)
    ship_all(arguments.profiles, arguments.public_data, final, rows, outcomes, known)


if __name__ == "__main__":
    main()
