"""The block tables of TF-NAS: inverted residual blocks, timed one by one under eager PyTorch.

Hu et al., "TF-NAS: Rethinking Three Search Freedoms of Latency-Constrained Differentiable NAS",
ECCV 2020. A block is a 1x1 convolution that widens, a depthwise one, squeeze-and-excitation where
it has any, and a 1x1 that narrows; batch norm behind each, and the input added where shapes allow.
Latencies are milliseconds; nothing of the tables is kept.
"""

from __future__ import annotations

import csv
import zlib
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from predictor.builder import GraphBuilder, Value
from predictor.device import load_device
from predictor.graph import Graph
from predictor.kernels.features import featurize
from predictor.kernels.fusion import fuse
from predictor.latency.costing import hardware_of
from predictor.latency.fitting import FitRow
from scripts.collection import Collection, Loaded, Ship
from scripts.figures import Figure, Graphs, floor_ms

FILE = "tf-nas/mbconv_block_lut.csv"
CITATION = "TF-NAS latency tables, Hu et al., ECCV 2020 (MIT)"
SOFTWARE = "PyTorch 1.1, cuDNN 7.6"
ONE_OF_SIXTEEN = 1 / 16
"""The Xeon's rows ran one thread on one of its cores."""
RULES = "eager"
PAGE = "accuracy-blocks"
_SHAPE = ("kernel", "mid_channels", "se_channels", "in_channels", "out_channels", "in_h")


def block(record: dict[str, str]) -> Graph:
    """The block of a row, as eager mode runs it: x * sigmoid(x) is two operators in PyTorch 1.1."""
    size = {name: int(record[name]) for name in (
        "batch_size", "in_h", "in_w", "in_channels", "mid_channels", "se_channels",
        "out_channels", "kernel", "stride")}  # fmt: skip
    b = GraphBuilder("block")
    entry = b.input((size["batch_size"], size["in_channels"], size["in_h"], size["in_w"]))
    swish = record["activation"] == "swish"
    x = b.batch_norm(b.conv(entry, size["mid_channels"], 1, bias=False))
    x = _activated(b, x, swish)
    x = b.conv(x, size["mid_channels"], size["kernel"], stride=size["stride"],
               padding=size["kernel"] // 2, groups=size["mid_channels"], bias=False)  # fmt: skip
    x = _activated(b, b.batch_norm(x), swish)
    if size["se_channels"]:
        gate = b.conv(b.global_pool(x), size["se_channels"], 1)
        gate = b.conv(_activated(b, gate, swish), size["mid_channels"], 1)
        x = b.mul(x, b.activation(gate, "sigmoid"))
    x = b.batch_norm(b.conv(x, size["out_channels"], 1, bias=False))
    same = size["stride"] == 1 and size["in_channels"] == size["out_channels"]
    return b.finish(b.add(x, entry) if same else x)


def _activated(b: GraphBuilder, x: Value, swish: bool) -> Value:
    return b.mul(x, b.activation(x, "sigmoid")) if swish else b.activation(x, "relu")


def _load(called: str, name: str, cores: float, public: Path, graphs: Graphs) -> Loaded:
    device = load_device(name)
    hardware = hardware_of(device, "fp32")
    hardware = replace(hardware, units=hardware.units * cores,
                       peak_flops=hardware.peak_flops * cores,
                       vector_flops=hardware.vector_flops * cores)  # fmt: skip
    figures = []
    with (public / FILE).open(newline="", encoding="utf-8") as handle:
        for record in csv.DictReader(handle):
            if not record["device"].startswith(called):
                continue
            features = featurize(fuse(block(record), RULES))
            model = " ".join(record[key] for key in _SHAPE)
            fit = FitRow(features, hardware, float(record["latency_ms"]))
            figures.append(Figure(
                fit, name, model, f"{record['in_h']} pixels", "tf-nas",
                float(features.macs.sum()), floor_ms(features, hardware),
            ))  # fmt: skip
    return figures, [], Counter()


def _tenth(figure: Figure) -> str:
    return f"blocks {zlib.crc32(figure.model.encode()) % 10}"


def _kernel(figure: Figure) -> str:
    return f"kernel {figure.model.split()[0]}"


def _width(figure: Figure) -> str:
    """Quarters of the widths that a stage has: widening by up to 2, 4, 6, and more."""
    _, wide, _, narrow, *_ = map(int, figure.model.split())
    return f"widened up to {min(2 * -(-wide // (2 * narrow)), 8)} times"


def _collection(called: str, device: str, target: str, cores: float, basis: str) -> Collection:
    ship = Ship(device, target, RULES, (), SOFTWARE, basis=basis, units_share=cores)
    return Collection(
        f"tf-nas-{device} {target}",
        partial(_load, called, device, cores),
        (ship,),
        (CITATION,),
        protocols=("model", "family", "kernel", "width"),
        keys={"model": _tenth, "kernel": _kernel, "width": _width},
        page=PAGE,
    )


_BLOCKS = "fitted on published times of single inverted residual blocks; whole networks were not "
TFNAS = (
    _collection("NVIDIA TITAN RTX", "titan-rtx", "eager-fp32-1.1", 1.0,
                _BLOCKS + "among them, and batch is 32"),
    _collection("Intel Xeon Gold 6130", "xeon-gold-6130", "eager-fp32", ONE_OF_SIXTEEN,
                _BLOCKS + "among them; one thread"),
)  # fmt: skip
