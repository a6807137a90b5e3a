"""Per-layer tables as rows of a fit: one kernel each, rebuilt from the layer's parameters."""

from __future__ import annotations

from collections.abc import Sequence

from predictor.builder import GraphBuilder
from predictor.device import load_device
from predictor.graph import PRECISIONS, Graph
from predictor.kernels.features import featurize
from predictor.kernels.fusion import cast_graph, fuse
from predictor.latency.costing import hardware_of
from predictor.latency.fitting import FitRow
from scripts.figures import SHARED_GENERATION, Figure, floor_ms
from scripts.public_rows import LayerRow

STAND_IN = {"jetson-orin-unstated": "jetson-orin-nano"}
"""The source does not say which Orin it was; its text says Nano, and the times fit it."""
LAYER_WEIGHT = 0.02
"""A layer says less than a network, and layers of 10 us are near the profiler's resolution."""
RELEVANT = {"conv2d", "max_pool2d", "avg_pool2d", "linear", "softmax"}


def layer_figures(rows: Sequence[LayerRow]) -> list[Figure]:
    """Figures of the layers that are kernels of their own; ``median`` profiles and single runs."""
    found = []
    for row in rows:
        if row.op not in RELEVANT or (row.source == "hax-conn" and row.profile != "median"):
            continue
        graph = layer_graph(row)
        if graph is None:
            continue
        board = STAND_IN.get(row.device, row.device)
        device = load_device(board)
        features = featurize(fuse(cast_graph(graph, PRECISIONS[row.precision]), "tensorrt"))
        if len(features) != 1:
            continue
        hardware = hardware_of(device, row.precision)
        generation = SHARED_GENERATION.get(device.generation, device.generation)
        levels = (f"gen:{generation}", f"board:{row.device}", f"only:{row.device}/{row.source}")
        fit = FitRow(features, hardware, row.latency_ms, levels, False, LAYER_WEIGHT)
        found.append(Figure(
            fit, row.device, row.network, row.network, row.source, float(features.macs.sum()),
            floor_ms(features, hardware), layer=True,
        ))  # fmt: skip
    return found


def layer_graph(row: LayerRow) -> Graph | None:
    """The one-layer network, or None where the table lacks a size."""
    if row.in_channels is None or row.in_size is None:
        return None
    b = GraphBuilder(row.name)
    x = b.input((row.batch, row.in_channels, *row.in_size))
    if row.op == "conv2d":
        if row.out_channels is None or row.kernel is None:
            return None
        out = b.conv(x, row.out_channels, row.kernel, stride=row.stride or 1,
                     padding=row.padding or 0, groups=row.groups or 1)  # fmt: skip
        if row.fused_activation:
            out = b.activation(out, "relu")
    elif row.op in ("max_pool2d", "avg_pool2d") and row.kernel:
        out = b.pool(x, row.op[:3], row.kernel, stride=row.stride or 1,
                     padding=row.padding or 0, ceil_mode=True)  # fmt: skip
    elif row.op == "linear" and row.out_channels:
        out = b.linear(b.reshape(x, (row.batch, -1)), row.out_channels)
    else:
        return None
    return b.finish(out)
