"""What a measured matrix product and a measured copy are worth to a datasheet device.

    python -m scripts.check_two_measurements --public-data DIR

For each GPU of the operator tables: a square product and the largest addition stand for the two
measurements, all other rows (a fixed sample of each operator) are predicted from the datasheet
alone and with the two. Nothing is fitted, so nothing need be left out but the rows themselves.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from predictor.device import load_device
from predictor.hardware import Device, Measured
from predictor.kernels.features import Floats, featurize
from predictor.kernels.fusion import fuse
from predictor.latency.costing import hardware_of
from predictor.latency.physical import MEDIAN, Hardware, kernel_times
from predictor.latency.siblings import anchored
from scripts.operator_figures import operator_graph
from scripts.public_rows import OperatorRow, neusight_rows

PRECISION = "fp32"
PER_KIND = 120
SIDES = (2048, 4096, 8192)
MATRIX = ("linear", "bmm", "conv2d")
CALL_US = 10.0
"""A call timed alone waits for its launch; the figures are of such calls."""


def work(row: OperatorRow) -> tuple[float, float]:
    """Multiply-accumulates and bytes of the operator."""
    graph = operator_graph(row)
    return float(graph.macs), float(sum(op.memory_access_bytes for op in graph.ops))


def far_from_square(row: OperatorRow, side: int) -> float:
    """Distance of a product's three sizes from ``side``, in logarithms."""
    m, k, n = math.prod(row.inputs[0][:-1]), row.inputs[0][-1], row.weights[0][0]
    return sum(abs(math.log(size / side)) for size in (m, k, n))


def two_measurements(
    rows: Sequence[OperatorRow], device: Device, side: int
) -> tuple[Measured, list[int]]:
    """Figures of the product nearest to ``side`` and of the largest addition, and their rows."""
    products = [i for i, row in enumerate(rows) if row.kind == "linear"]
    sums = [i for i, row in enumerate(rows) if row.kind == "add"]
    product = min(products, key=lambda i: far_from_square(rows[i], side))
    copy = max(sums, key=lambda i: work(rows[i])[1])
    tflops = 2 * work(rows[product])[0] / rows[product].latency_ms / 1e9
    speed = work(rows[copy])[1] / rows[copy].latency_ms / 1e6
    return Measured({PRECISION: tflops}, speed), [product, copy]


def errors(rows: Sequence[OperatorRow], hardware: Hardware, theta: Floats) -> np.ndarray:
    """Log of predicted by measured."""
    features = featurize([kernel for row in rows for kernel in fuse(operator_graph(row), "eager")])
    times = kernel_times(features, hardware, theta).total * 1e3 + CALL_US / 1e3
    return np.log(times / np.array([row.latency_ms for row in rows]))


def sampled(rows: Sequence[OperatorRow], wanted: Callable[[str], bool]) -> list[OperatorRow]:
    """A fixed draw of each kind."""
    draw, found = random.Random(0), []
    for kind in sorted({row.kind for row in rows if wanted(row.kind)}):
        group = [row for row in rows if row.kind == kind]
        found += draw.sample(group, min(PER_KIND, len(group)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--public-data", type=Path, required=True)
    public = parser.parse_args().public_data
    by_device: dict[str, list[OperatorRow]] = {}
    for row in neusight_rows(public):
        by_device.setdefault(row.device, []).append(row)
    print("MAPE and 90 % of |log error|: datasheet, then with the two, by the product's side")
    print(" | ".join(("device", "operators", "n", "datasheet", *map(str, SIDES))))
    for name, rows in sorted(by_device.items()):
        device = load_device(name)
        if not {"linear", "add"} <= {row.kind for row in rows}:
            continue
        hardware = hardware_of(device, PRECISION)
        known = [two_measurements(rows, device, side) for side in SIDES]
        thetas = [MEDIAN] + [anchored(MEDIAN, replace(device, measured=m), PRECISION, ())[0]
                             for m, _ in known]  # fmt: skip
        used = {index for _, indices in known for index in indices}
        rest = [row for i, row in enumerate(rows) if i not in used]
        for word in ("products", "others"):
            sample = sampled(rest, lambda kind, word=word: (kind in MATRIX) == (word == "products"))
            found = [errors(sample, hardware, theta) for theta in thetas]
            said = [f"{np.abs(np.expm1(e)).mean():.1%}, {np.quantile(np.abs(e), 0.9):.2f}"
                    for e in found]  # fmt: skip
            print(" | ".join((name, word, str(len(sample)), *said)), flush=True)


if __name__ == "__main__":
    main()
