"""Operators that were timed alone as rows of a fit: one kernel each."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

from predictor.builder import GraphBuilder
from predictor.device import load_device
from predictor.graph import Graph
from predictor.hardware import Device
from predictor.kernels.features import featurize
from predictor.kernels.fusion import fuse
from predictor.latency.costing import hardware_of
from predictor.latency.fitting import FitRow
from predictor.operators.elementwise import ACTIVATION_FLOPS
from scripts.figures import Figure, floor_ms
from scripts.public_rows import OperatorRow

FOLDS = 5


def operator_figures(
    rows: Sequence[OperatorRow], *, per_kind: int = 120, seed: int = 0
) -> list[Figure]:
    """``per_kind`` rows of each device and operator, drawn with a fixed seed."""
    groups: dict[tuple[str, str], list[OperatorRow]] = {}
    for row in rows:
        groups.setdefault((row.device, row.kind), []).append(row)
    draw = random.Random(seed)
    devices: dict[str, Device] = {}
    found = []
    for (name, kind), group in sorted(groups.items()):
        device = devices.setdefault(name, load_device(name))
        hardware = hardware_of(device, "fp32")
        for row in draw.sample(group, min(per_kind, len(group))):
            features = featurize(fuse(operator_graph(row), "eager"))
            levels = (f"gen:ops-{device.generation}", f"board:ops-{name}")
            fit = FitRow(features, hardware, row.latency_ms, levels)
            shapes = str((row.kind, row.inputs, row.weights))
            found.append(Figure(
                fit, name, f"shapes {zlib.crc32(shapes.encode()) % FOLDS}", kind, row.source,
                float(features.macs.sum() or features.bytes.sum()), floor_ms(features, hardware),
            ))  # fmt: skip
    return found


def operator_graph(row: OperatorRow) -> Graph:
    """The one-operator network of a row."""
    b = GraphBuilder(row.kind)
    xs = [b.input(shape, name=f"input_{i}") for i, shape in enumerate(row.inputs)]
    x = xs[0]
    if row.kind == "conv2d":
        weight = row.weights[0]
        out = b.conv(x, weight[0], weight[2:], stride=row.attrs["stride"],
                     padding=row.attrs["padding"], groups=row.attrs["groups"],
                     bias=False)  # fmt: skip
    elif row.kind == "linear":
        out = b.linear(x, row.weights[0][0])
    elif row.kind == "bmm":
        out = b.matmul(x, xs[1])
    elif row.kind == "layer_norm":
        out = b.layer_norm(x)
    elif row.kind == "softmax":
        out = b.softmax(x)
    elif row.kind in ACTIVATION_FLOPS:
        out = b.activation(x, row.kind)
    else:
        out = b.elementwise(row.kind, *xs)
    return b.finish(out)
