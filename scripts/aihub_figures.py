"""Qualcomm AI Hub's figures as rows of a fit: networks traced once, fused as the NPU runs them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from predictor.device import load_device
from predictor.graph import PRECISIONS, Graph
from predictor.kernels.features import Features, featurize
from predictor.kernels.fusion import cast_graph, fuse
from predictor.latency.costing import hardware_of
from predictor.latency.fitting import FitRow
from scripts.aihub_rows import Row, aihub_rows
from scripts.figures import Figure, Graphs, floor_ms

RULES = "qnn"
"""All three runtimes hand the network to the same compiler."""


def aihub_figures(public: Path, graphs: Graphs) -> tuple[list[Figure], list[Figure], Counter[str]]:
    """All usable figures, no layers, and how many rows were left out by reason."""
    rows, left = aihub_rows(public)
    networks = Networks(graphs.cache)
    return [figure(row, networks.features) for row in rows], [], left


def board_of(device: str, target: str) -> str:
    """What a figure's board is called: device and target."""
    return f"{device} {target}"


def levels_of(device: str, generation: str, runtime: str, precision: str) -> tuple[str, ...]:
    """Groups that share parameters, from coarse to fine.

    The runtime, the NPU's generation, the board's own factors, and its runtime's.
    """
    return (
        f"gen:npu-{runtime}-{precision}", f"gen:{generation}-{precision}",
        f"board:{device}-{precision}", f"only:{device}-{runtime}-{precision}",
    )  # fmt: skip


def figure(row: Row, features_of: Callable[[str, str], Features]) -> Figure:
    """A row as a figure."""
    from scripts.networks.aihub_catalogue import NETWORKS, SAME

    device = load_device(row.device)
    features = features_of(row.model, row.precision)
    hardware = hardware_of(device, row.precision)
    levels = levels_of(row.device, device.generation, row.runtime, row.precision)
    fit = FitRow(features, hardware, row.latency_ms, levels)
    return Figure(
        fit, board_of(row.device, row.target), SAME.get(row.model, row.model),
        NETWORKS[row.model].family, row.form, float(features.macs.sum()),
        floor_ms(features, hardware),
    )  # fmt: skip


class Networks:
    """Traced networks, kept on disk between runs, and their kernels."""

    def __init__(self, cache: Path, rules: str = RULES) -> None:
        self.cache, self.rules = cache, rules
        self._graphs: dict[str, Graph] = {}
        self._features: dict[tuple[str, str], Features] = {}

    def graph(self, name: str) -> Graph:
        """The network of that name at AI Hub's input size."""
        if name not in self._graphs:
            self._graphs[name] = self._load(name)
        return self._graphs[name]

    def features(self, name: str, precision: str) -> Features:
        """Its kernels in a precision."""
        label = (name, precision)
        if label not in self._features:
            graph = cast_graph(self.graph(name), PRECISIONS[precision])
            self._features[label] = featurize(fuse(graph, self.rules))
        return self._features[label]

    def _load(self, name: str) -> Graph:
        from scripts.networks.aihub_catalogue import NETWORKS, build

        label = f"aihub:{name}|{NETWORKS[name].inputs}"
        digest = hashlib.sha1(label.encode(), usedforsecurity=False).hexdigest()[:16]
        path = self.cache / f"{digest}.json"
        if path.is_file():
            return Graph.from_dict(json.loads(path.read_text()))
        from predictor.frontends.torch_module import trace

        graph = trace(build(name), NETWORKS[name].inputs, name=name)
        path.write_text(json.dumps(graph.to_dict()))
        return graph
