"""Which published figures are fitted together, and which targets ship from them."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from scripts.aihub_targets import AIHUB
from scripts.collection import Collection, Loaded, Ship
from scripts.figures import Graphs, figures_of, jetson_rules
from scripts.folds import hash_of
from scripts.help_targets import HELP
from scripts.layer_figures import layer_figures
from scripts.ncnn_targets import NCNN
from scripts.operator_figures import operator_figures
from scripts.pi_targets import PI, PI_CELLS
from scripts.public_rows import jetson_rows, layer_rows, neusight_rows, timm_rows
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
)  # fmt: skip

TIMM_CITATIONS = ("timm benchmark tables, R. Wightman, Hugging Face (Apache-2.0)",)


def _timm(device: str, file_words: tuple[str, ...], rules: str, sample: int = 260):  # type: ignore[no-untyped-def]
    def load(public: Path, graphs: Graphs) -> Loaded:
        rows = [
            row for row in timm_rows(public)
            if row.device == device and all(word in row.software for word in file_words)
            and row.layout == "nchw" and row.precision in ("amp", "fp32")
        ]  # fmt: skip
        rows = random.Random(0).sample(rows, min(sample, len(rows)))
        figures, left = figures_of(rows, graphs, lambda row: rules, single=True)
        return figures, [], left

    return load


def _timm_collection(
    device: str, words: tuple[str, ...], rules: str, target: str, software: str,
    smallest_batch: int = 256,
) -> Collection:  # fmt: skip
    return Collection(
        f"timm-{device} {target}",
        _timm(device, words, rules),
        (Ship(device, target, rules, (), software, smallest_batch=smallest_batch),),
        TIMM_CITATIONS,
        protocols=("model", "family"),
        keys={"model": lambda f: f"models {hash_of(f.model)}",
              "family": lambda f: f"families {hash_of(f.family)}"},
    )  # fmt: skip


TIMM = (
    _timm_collection("rtx-3090", ("2.4.0", "eager"), "eager", "eager-amp",
                     "PyTorch 2.4.0, CUDA 12.4"),
    _timm_collection("rtx-4090", ("2.9.1", "eager"), "eager", "eager-amp",
                     "PyTorch 2.9.1, CUDA 12.8"),
    _timm_collection("rtx-pro-6000-max-q", ("2.9.1", "eager"), "eager", "eager-amp",
                     "PyTorch 2.9.1, CUDA 13.0"),
    _timm_collection("rtx-4090", ("2.9.1", "compile"), "torch_compile", "torch_compile-amp",
                     "PyTorch 2.9.1, CUDA 12.8"),
    _timm_collection("i9-10940x", ("2.4.0", "compile"), "torch_compile", "torch_compile-fp32",
                     "PyTorch 2.4.0", smallest_batch=1),
)  # fmt: skip


def _operators(public: Path, graphs: Graphs) -> Loaded:
    return operator_figures(neusight_rows(public)), [], Counter[str]()


def _operator_target(device: str, generation: str) -> Ship:
    levels = (f"gen:ops-{generation}", f"board:ops-{device}")
    # A call timed alone waits for its launch; inside a network launches queue up ahead.
    return Ship(device, "eager-fp32", "eager", levels, "PyTorch 2.1.0, CUDA 12.1, TF32 off",
                overrides=(("call_us", 10.0),),
                basis="fitted on published times of single operators; whole networks were not "
                "among them")  # fmt: skip


OPERATORS = Collection(
    "operators eager-fp32",
    _operators,
    tuple(
        _operator_target(device, generation)
        for device, generation in (("p4", "pascal"), ("p100", "pascal"), ("v100", "volta"),
                                   ("t4", "turing"), ("a100", "ampere"), ("a100-80gb", "ampere"))
    ),
    ("NeuSight operator tables, Lee et al., ASPLOS 2025 (MIT)",),
    protocols=("model", "family", "board"),
)  # fmt: skip

COLLECTIONS: tuple[Collection, ...] = (
    JETSON, PI, PI_CELLS, *TIMM, OPERATORS, *HELP, *NCNN, *AIHUB, *TFNAS,
)  # fmt: skip
