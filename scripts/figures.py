"""Published figures as rows of a fit: trace the network, fuse it as the target does, featurize.

Graphs are cached (``--cache``) under the network's name and shape, as tracing takes longer than
fitting. Nothing of the tables is stored there.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from predictor.device import load_device
from predictor.errors import ModelError
from predictor.graph import Graph, TensorSpec
from predictor.hardware import Device
from predictor.kernels.features import Features, featurize
from predictor.kernels.fusion import fuse
from predictor.kernels.lowering import lower
from predictor.latency.costing import hardware_of
from predictor.latency.fitting import Fit, FitRow
from predictor.latency.physical import INDEX, Hardware, floor_s, kernel_times
from predictor.operators import make_op
from scripts.public_rows import Row, build

SHARED_GENERATION = {"maxwell": "maxwell-pascal", "pascal": "maxwell-pascal"}
"""Generations whose kernels are alike enough to share the shape of their efficiencies."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure and everything that a fit, a fold or a baseline needs of it.

    ``model`` is the network (variants of one network share it), ``family`` its family, ``board``
    the profile's name.
    """

    fit: FitRow
    board: str
    model: str
    family: str
    source: str
    macs: float
    roofline_ms: float
    layer: bool = False


class Graphs:
    """Traced networks, kept on disk between runs."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        cache.mkdir(parents=True, exist_ok=True)
        self._features: dict[tuple[str, str, str], Features] = {}
        self._params: dict[tuple[object, ...], int] = {}

    def graph(self, key: str, row: Row) -> Graph:
        """The graph of a row's network at batch 1 shapes of the row."""
        label = f"{key}|{row.input_shape}|{row.classes}"
        name = hashlib.sha1(label.encode(), usedforsecurity=False).hexdigest()[:16]
        path = self.cache / f"{name}.json"
        if path.is_file():
            return Graph.from_dict(json.loads(path.read_text()))
        graph = self._trace(key, row)
        path.write_text(json.dumps(graph.to_dict()))
        return graph

    def params(self, row: Row) -> int:
        """Parameters of a row's network."""
        label = (row.model_key, row.input_shape, row.classes)
        if label not in self._params:
            self._params[label] = self.graph(row.model_key, row).params
        return self._params[label]

    def features(self, row: Row, rules: str) -> Features:
        """The kernels of a row's network as numbers."""
        label = (f"{row.model_key}|{row.input_shape}|{row.classes}", rules,
                 f"{row.precision} {row.suppression}")  # fmt: skip
        if label not in self._features:
            graph = lower(self.graph(row.model_key, row), row.precision, rules, row.layout)
            if row.suppression:
                graph = _with_suppression(graph)
            self._features[label] = featurize(fuse(graph, rules))
            self._params[row.model_key, row.input_shape, row.classes] = graph.params
        return self._features[label]

    def _trace(self, key: str, row: Row) -> Graph:
        from predictor.frontends.families import family_graph, is_family
        from predictor.frontends.torch_module import trace

        if is_family(key):
            return family_graph(key, batch=row.input_shape[0], resolution=row.input_shape[-1])
        module, shape = build(key, row)
        return trace(module, shape, name=key)


def _same_size(graphs: Graphs, row: Row) -> bool:
    """Tables of reparameterised networks describe another form than the package builds."""
    params = graphs.params(row)
    return abs(params / (row.param_count * 1e6) - 1) < 0.01 if row.param_count else True


def _with_suppression(graph: Graph) -> Graph:
    """The plug-in that the engine ran behind the network: it sorts all scores of all boxes."""
    made = {i: spec for op in graph.ops for i, spec in zip(op.output_ids, op.outputs, strict=True)}
    ends = [i for i in graph.output_ids if i in made]
    specs = tuple(made[i] for i in ends)
    length = max(spec.shape[-2] if len(spec.shape) > 1 else 1 for spec in specs)
    last = max(made) + 1
    op = make_op("suppression", "sort", "EfficientNMS", specs, (TensorSpec((1, 100, 6)),), (),
                 tuple(ends), (last,), (), {"length": length})  # fmt: skip
    return replace(graph, ops=(*graph.ops, op), output_ids=(last,))


def jetson_rules(row: Row) -> str:
    """The fusion rules of a TensorRT version: JetPack 4 ships 8.2 and older."""
    return "tensorrt-7" if "JetPack 4" in row.software or "7.1" in row.software else "tensorrt"


def figures_of(
    rows: Sequence[Row],
    graphs: Graphs,
    rules: Callable[[Row], str],
    *,
    group: str = "",
    cores: float = 1.0,
    single: bool = False,
) -> tuple[list[Figure], Counter[str]]:
    """Figures, and how many rows were left out by reason.

    ``cores`` is the share of the device's cores that the rows used; ``single`` leaves out the
    levels, for rows of one target that share nothing. Rows whose network cannot be rebuilt, or has
    another number of parameters than the table says (1 %), are left out and counted.
    """
    found, left = [], Counter[str]()
    per_series = Counter((r.device, r.source, r.model_key) for r in rows)
    devices: dict[str, Device] = {}
    for row in rows:
        device = devices.get(row.device)
        if device is None:
            device = devices[row.device] = load_device(row.device)
        try:
            features = graphs.features(row, rules(row))
        except KeyError:
            left[f"{row.source}: {row.model_key} is not rebuilt"] += 1
            continue
        except ModelError:
            left[f"{row.source}: the network cannot be traced at the row's size"] += 1
            continue
        if row.param_count and not _same_size(graphs, row):
            left[f"{row.source}: other parameters than the table says"] += 1
            continue
        hardware = hardware_of(device, row.precision)
        if cores != 1.0:
            hardware = replace(hardware, units=hardware.units * cores,
                               peak_flops=hardware.peak_flops * cores,
                               vector_flops=hardware.vector_flops * cores)  # fmt: skip
        # A series of one network over many input sizes says less than as many networks.
        weight = 1.0 / np.sqrt(per_series[row.device, row.source, row.model_key])
        generation = SHARED_GENERATION.get(device.generation, device.generation)
        if device.kind == "gpu" and not device.shared_memory:
            generation = "card"  # boards with memory of their own differ more from SoCs than by age
        levels = (f"gen:{generation}", f"board:{group}{row.device}",
                  f"only:{group}{row.device}/{row.source}")  # fmt: skip
        if group:
            levels = (levels[0], f"gen:{group}{generation}", *levels[1:])
        fit = FitRow(features, hardware, row.latency_ms, () if single else levels,
                     row.scope != "layer_sum", weight)  # fmt: skip
        found.append(Figure(
            fit, row.device, row.model_key.removesuffix("-raw"), row.family, row.source,
            float(features.macs.sum()), floor_ms(features, hardware),
        ))  # fmt: skip
    return found, left


def floor_ms(features: Features, hardware: Hardware) -> float:
    """Plain roofline of a whole network, milliseconds."""
    return 1e3 * float(floor_s(features, hardware).sum())


def predicted_ms(fit: Fit, figure: Figure) -> float:
    """What a fit says of a figure, milliseconds; groups that it never saw deviate by nothing."""
    row = figure.fit
    theta = fit.theta(row.levels)
    seconds = kernel_times(row.features, row.hardware, theta).total.sum()
    if row.whole:
        seconds += 1e-6 * np.exp(theta[INDEX["call_us"]])
    correction = getattr(fit, "correction", None)  # a fit may know what its sum misses
    return float(seconds) * 1e3 * (float(np.exp(correction(row))) if correction else 1.0)


def log_errors(fit: Fit, figures: Sequence[Figure]) -> np.ndarray:
    """log(predicted / measured) of each figure."""
    return np.array([np.log(predicted_ms(fit, f) / f.fit.latency_ms) for f in figures])


def summary(log_error: np.ndarray) -> Mapping[str, float]:
    """Median and mean absolute percentage error, shares within 10 and 20 %, bias; all rows."""
    if not len(log_error):
        return {"n": 0}
    percent = 100 * np.abs(np.expm1(log_error))
    return {
        "n": len(log_error),
        "median_pct": round(float(np.median(percent)), 1),
        "mean_pct": round(float(np.mean(percent)), 1),
        "within_10_pct": round(100 * float(np.mean(percent <= 10)), 1),
        "within_20_pct": round(100 * float(np.mean(percent <= 20)), 1),
        "bias_pct": round(100 * float(np.expm1(np.mean(log_error))), 1),
    }
