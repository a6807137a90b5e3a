"""Which published figures are fitted together, and which targets ship from them."""

from __future__ import annotations

from pathlib import Path

from scripts.aihub_targets import AIHUB
from scripts.collection import Collection, Loaded, Ship
from scripts.figures import Graphs, figures_of, jetson_rules
from scripts.help_targets import HELP
from scripts.jetson_fit import boosted_fit
from scripts.layer_figures import layer_figures
from scripts.ncnn_targets import NCNN
from scripts.pi_targets import PI, PI_CELLS
from scripts.public_rows import jetson_rows, layer_rows
from scripts.tfnas_targets import TFNAS

JETSON_CITATIONS = (
    "NetsPresso Trainer benchmark tables, Nota Inc. (Apache-2.0)",
    "trtutils benchmark tables, J. Davis (MIT)",
    "HaX-CoNN profiles, Dagli and Belviranli, PPoPP 2024",
    "edge-vision-power-estimation, Fuzzy Labs (Apache-2.0)",
)


def _jetson(public: Path, graphs: Graphs) -> Loaded:
    rows = [row for row in jetson_rows(public) if row.device != "rtx-5080"]
    figures, left = figures_of(rows, graphs, jetson_rules)
    return figures, layer_figures(layer_rows(public)), left


def _engine(
    device: str, generation: str, *, rules: str = "tensorrt", software: str = "",
    source: str = "trtutils", siblings: tuple[str, ...] = (),
) -> Ship:  # fmt: skip
    levels = (f"gen:{generation}", f"board:{device}", f"only:{device}/{source}")
    return Ship(device, "tensorrt-fp16", rules, levels, software, siblings)


_ORINS = ("jetson-agx-orin", "jetson-agx-orin-devkit", "jetson-orin-nano")
_ORIN_SOFTWARE = "TensorRT 8.5 and newer (JetPack 5 and 6)"

JETSON = Collection(
    "jetson",
    _jetson,
    (
        _engine("jetson-nano", "maxwell-pascal", rules="tensorrt-7", source="netspresso",
                software="TensorRT 8.2 (JetPack 4.6)"),
        _engine("jetson-tx2", "maxwell-pascal", rules="tensorrt-7", siblings=("jetson-nano",),
                software="TensorRT 8.2 (JetPack 4.6)"),
        _engine("jetson-xavier-nx", "volta", software="TensorRT 8.5 (JetPack 5)"),
        _engine("jetson-agx-xavier", "volta", rules="tensorrt-7", source="netspresso",
                software="TensorRT 8.2 (JetPack 4.6)"),
        _engine("jetson-orin-nano", "ampere", software="TensorRT 8.5 (JetPack 5)"),
        _engine("jetson-agx-orin", "ampere", software="TensorRT 8.6 (JetPack 6)"),
        _engine("jetson-agx-orin-devkit", "ampere", software=_ORIN_SOFTWARE),
        _engine("jetson-orin-nano-4gb", "ampere", siblings=_ORINS, software=_ORIN_SOFTWARE),
        _engine("jetson-orin-nx", "ampere", siblings=_ORINS, software=_ORIN_SOFTWARE),
        _engine("jetson-orin-nx-8gb", "ampere", siblings=_ORINS, software=_ORIN_SOFTWARE),
        _engine("jetson-agx-orin-32gb", "ampere", siblings=_ORINS, software=_ORIN_SOFTWARE),
        _engine("rtx-3090", "card"),
        _engine("titan-rtx", "card"),
    ),
    JETSON_CITATIONS,
    headline=("jetson-nano", "jetson-xavier-nx", "jetson-agx-xavier", *_ORINS),
    fit=boosted_fit,
)  # fmt: skip

COLLECTIONS: tuple[Collection, ...] = (
    JETSON, PI, PI_CELLS, *HELP, *NCNN, *AIHUB, *TFNAS,
)  # fmt: skip
"""The timm tables are fitted by :mod:`scripts.timm_fit`, operators by
:mod:`scripts.neusight_fit`."""
