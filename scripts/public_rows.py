"""Published latency measurements as rows that name a device, a target and a network.

Every function reads the folder of normalised tables given with ``--public-data`` and keeps nothing
of it; latencies are milliseconds. :func:`build` makes the network that a row timed.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, str]

DEVICES = {
    "Jetson AGX Orin": "jetson-agx-orin",
    "Jetson AGX Orin 64GB": "jetson-agx-orin",
    "Jetson AGX Orin 32GB": "jetson-agx-orin-devkit",
    "Jetson Orin Nano 8GB": "jetson-orin-nano",
    "Jetson Xavier NX": "jetson-xavier-nx",
    "Jetson Xavier NX 8GB": "jetson-xavier-nx",
    "Jetson AGX Xavier": "jetson-agx-xavier",
    "Jetson AGX Xavier 32GB": "jetson-agx-xavier",
    "Jetson Nano": "jetson-nano",
    "Jetson Orin developer kit (exact model not stated)": "jetson-orin-unstated",
    "Jetson Nano Orin": "jetson-orin-nano",
    "NVIDIA GeForce RTX 3090": "rtx-3090",
    "NVIDIA GeForce RTX 4090": "rtx-4090",
    "NVIDIA GeForce RTX 5080": "rtx-5080",
    "NVIDIA RTX PRO 6000 Max-Q": "rtx-pro-6000-max-q",
    "NVIDIA TITAN RTX": "titan-rtx",
    "Intel Core i9-10940X": "i9-10940x",
    "Raspberry Pi 5": "raspberry-pi-5",
    "Raspberry Pi 3B PLUS": "raspberry-pi-3b-plus",
    "Raspberry Pi Zero 2 W": "raspberry-pi-zero-2w",
    "Tesla P4": "p4",
    "Tesla T4": "t4",
    "Tesla P100-PCIE-16GB": "p100",
    "Tesla V100-PCIE-32GB": "v100",
    "NVIDIA A100-PCIE-40GB": "a100",
    "NVIDIA A100 80GB PCIe": "a100-80gb",
}
"""What the tables call a device, and its profile."""

NETSPRESSO_MODELS = {
    "EfficientFormer-l1": ("timm:efficientformer_l1", "efficientformer"),
    "MixNet-s": ("timm:mixnet_s", "mixnet"),
    "MixNet-m": ("timm:mixnet_m", "mixnet"),
    "MixNet-l": ("timm:mixnet_l", "mixnet"),
    "MobileNetV3-small": ("mobilenetv3-small-pooled", "mobilenetv3"),
    "MobileNetV3-large": ("mobilenetv3-large-pooled", "mobilenetv3"),
    "ResNet18": ("timm:resnet18", "resnet"),
    "ResNet34": ("timm:resnet34", "resnet"),
    "ResNet50": ("timm:resnet50", "resnet"),
    "ViT-tiny": ("timm:vit_tiny_patch16_224", "vit"),
    "MovileViT-s": ("timm:mobilevit_s", "mobilevit"),
    "YOLOX-s": ("yoloxs-raw", "yolox"),
    "YOLOX-m": ("yoloxm-raw", "yolox"),
    "YOLOX-l": ("yoloxl-raw", "yolox"),
    "PIDNet-s": ("pidnet-s", "pidnet"),
    "SegFormet-b0": ("segformer-b0", "segformer"),
}
"""The names of the netspresso table (its spelling) to model key and family."""


@dataclass(frozen=True, slots=True)
class Row:
    """One whole-model measurement.

    ``scope`` is ``engine_only`` (the network's execution alone) or ``layer_sum`` (a profiler's sum
    over layers). ``suppression`` says that the engine also ran a non-maximum-suppression plug-in,
    which no network built here contains. ``file`` tells apart runs of one source.
    """

    device: str
    source: str
    runtime: str
    precision: str
    software: str
    batch: int
    model_key: str
    family: str
    input_shape: tuple[int, ...]
    latency_ms: float
    scope: str = "engine_only"
    classes: int | None = None
    suppression: bool = False
    layout: str = "nchw"
    param_count: float | None = None
    file: str = ""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer of a network, timed by the runtime's own profiler.

    ``op`` is conv2d, linear, max_pool2d, avg_pool2d, lrn, softmax, relu, reformat (a change of
    tensor layout) or copy (into a concatenation). Sizes are (height, width); a quantity that the
    table lacks is None. ``profile`` is ``median`` (over the profiles that hold the layer) or the
    name of one run; the layers of one run sum to the network.
    """

    device: str
    source: str
    runtime: str
    precision: str
    software: str
    batch: int
    network: str
    profile: str
    name: str
    op: str
    latency_ms: float
    in_channels: int | None = None
    out_channels: int | None = None
    kernel: tuple[int, int] | None = None
    stride: int | None = None
    padding: int | None = None
    groups: int | None = None
    in_size: tuple[int, int] | None = None
    out_size: tuple[int, int] | None = None
    fused_layers: int = 1
    fused_activation: bool = False


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """One operator timed alone; shapes as the operator takes them."""

    device: str
    source: str
    runtime: str
    precision: str
    kind: str
    inputs: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[int, ...], ...]
    latency_ms: float
    attrs: dict[str, Any] = field(default_factory=dict)


def build(model_key: str, row: Row) -> tuple[Any, tuple[int, ...]]:
    """Network on the meta device in inference mode, and the input shape that the row timed.

    NAS-Bench-201 cells keep the classifier of the family (10 classes) whatever the row says.
    """
    if model_key.startswith("nasbench201:"):
        import torch

        from predictor.frontends.families.nasbench201 import module

        with torch.device("meta"):
            return module(model_key.removeprefix("nasbench201:")).eval(), row.input_shape
    from scripts.networks import build as build_network

    return build_network(model_key, row.input_shape, row.classes), row.input_shape


def jetson_rows(public_data: Path) -> list[Row]:
    """TensorRT engines on Jetson boards and, from the same benchmark, on desktop cards."""
    rows = [*_trtutils(public_data), *_netspresso(public_data, "TensorRT")]
    return [*rows, *_googlenet_totals(public_data)]


def pi_rows(public_data: Path, sample: int | None = 1500, seed: int = 0) -> list[Row]:
    """CPU runtimes on Raspberry Pi boards.

    ``sample`` cells of NAS-Bench-201 are drawn from each of its two tables (None: all).
    """
    rows = list(_netspresso(public_data, "TFLite"))
    draw = random.Random(seed)
    for part in (list(_help_pi4(public_data)), list(_nb360_pi5(public_data))):
        cells = sorted({row.model_key for row in part})
        kept = set(cells if sample is None else draw.sample(cells, min(sample, len(cells))))
        rows.extend(row for row in part if row.model_key in kept)
    return rows


def timm_rows(public_data: Path) -> list[Row]:
    """PyTorch rows of the timm tables whose model the installed timm still defines."""
    modules = _timm_modules()
    rows = []
    for record in _read(public_data / "timm" / "timm_inference.csv.gz"):
        name = record["model"].split(".")[0]
        if name not in modules:
            continue
        batch, size = int(float(record["batch_size"])), int(float(record["img_size"]))
        compiled = "compile" in record["runtime"]
        rows.append(
            Row(
                device=DEVICES[record["device"]], source="timm",
                runtime="pytorch-compile" if compiled else "pytorch-eager",
                precision=record["precision"], software=record["runtime"], batch=batch,
                model_key=f"timm:{name}", family=modules[name],
                input_shape=(batch, 3, size, size), latency_ms=float(record["latency_ms"]),
                scope="forward", layout=record["layout"],
                param_count=_float(record["param_count"]), file=record["file"],
            )
        )  # fmt: skip
    return rows


def layer_rows(public_data: Path) -> list[LayerRow]:
    """Per-layer TensorRT times: GoogLeNet on AGX Xavier, MobileNetV2 convolutions on an Orin."""
    folder = public_data / "hax-conn"
    rows = [
        _layer(r, "hax-conn", "median")
        for r in _read(folder / "xavier_agx_googlenet_trt_layers.csv")
        if r["accelerator"] == "gpu"
    ]
    for r in _read(folder / "xavier_agx_googlenet_trt_layers_raw.csv"):
        if r["experiment"] == "plain_gpu":
            rows.append(_layer(r, "hax-conn", r["file"]))
    path = public_data / "fuzzylabs-jetson-orin" / "orin_mobilenetv2_trt_conv_layers.csv"
    return [*rows, *(_layer(r, "fuzzylabs", r["run"]) for r in _read(path))]


def neusight_rows(public_data: Path) -> list[OperatorRow]:
    """Operators timed alone under eager PyTorch, fp32 without TF32."""
    folder = public_data / "neusight"
    rows = [_conv_row(r) for r in _read(folder / "gpu_conv2d.csv.gz")]
    rows.extend(_matmul_row(r) for r in _read(folder / "gpu_matmul.csv.gz"))
    rows.extend(_vector_row(r) for r in _read(folder / "gpu_vector_ops.csv.gz"))
    return rows


def _trtutils(public_data: Path) -> Iterator[Row]:
    for r in _read(public_data / "trtutils" / "trtutils_yolo_detr.csv"):
        if r["framework"] != "tensorrt":
            continue
        batch, size = int(r["batch_size"]), int(r["input_size"])
        family = r["model"].rstrip("ntsmlx") if "yolov" in r["model"] else "yolox"
        yield Row(
            device=DEVICES[r["device"]], source="trtutils", runtime="tensorrt", precision="fp16",
            software=r["software"], batch=batch, model_key=r["model"], family=family,
            input_shape=(batch, 3, size, size), latency_ms=float(r["latency_ms"]),
            scope=r["scope"], suppression=family != "yolov10",
        )  # fmt: skip


def _netspresso(public_data: Path, runtime: str) -> Iterator[Row]:
    for r in _read(public_data / "netspresso" / "netspresso_models.csv"):
        if not r["runtime"].startswith(runtime) or r["device"] not in DEVICES:
            continue
        if r["precision"] != "fp16":
            continue
        key, family = NETSPRESSO_MODELS[r["model"]]
        batch = int(r["batch_size"])
        yield Row(
            device=DEVICES[r["device"]], source="netspresso", runtime=runtime.lower(),
            precision="fp16", software=r["runtime"].removeprefix(runtime).strip(), batch=batch,
            model_key=key, family=family,
            input_shape=(batch, 3, int(r["input_h"]), int(r["input_w"])),
            latency_ms=float(r["latency_ms"]), classes=int(r["num_classes"]),
        )  # fmt: skip


def _googlenet_totals(public_data: Path) -> Iterator[Row]:
    for r in _read(public_data / "hax-conn" / "xavier_agx_googlenet_totals.csv"):
        if r["experiment"] == "plain_gpu":
            yield Row(
                device=DEVICES[r["device"]], source="hax-conn", runtime="tensorrt",
                precision=r["precision"], software=r["runtime"], batch=int(r["batch_size"]),
                model_key="googlenet", family="googlenet",
                input_shape=(int(r["batch_size"]), 3, 224, 224),
                latency_ms=float(r["latency_ms"]), scope="layer_sum", file=r["file"],
            )  # fmt: skip


def _help_pi4(public_data: Path) -> Iterator[Row]:
    for r in _read(public_data / "help-nasbench201" / "nasbench201_latency.csv.gz"):
        # TensorFlow Lite folds a network that ignores its input to a constant.
        if r["input_independent"] == "0" and r["raspi4_ms"]:
            yield _cell_row("raspberry-pi-4", "help-nasbench201", "tflite", r, "raspi4_ms", 10)


def _nb360_pi5(public_data: Path) -> Iterator[Row]:
    columns = {"tflite": "litert", "onnxruntime": "onnx", "pytorch-mobile": "torchmobile"}
    for r in _read(public_data / "hw-nas-bench-360" / "nb201_pi5_pixel_latency.csv.gz"):
        if r["input_independent"] != "0":
            continue
        for runtime, column in columns.items():
            name = f"pi5_{column}_cifar100_ms"
            if r[name]:
                yield _cell_row("raspberry-pi-5", "hw-nas-bench-360", runtime, r, name, 100)


def _cell_row(
    device: str, source: str, runtime: str, record: Record, column: str, classes: int
) -> Row:
    return Row(
        device=device, source=source, runtime=runtime, precision="fp32", software="", batch=1,
        model_key=f"nasbench201:{record['arch_str']}", family="nasbench201",
        input_shape=(1, 3, 32, 32), latency_ms=float(record[column]), classes=classes,
    )  # fmt: skip


def _layer(r: Record, source: str, profile: str) -> LayerRow:
    return LayerRow(
        device=DEVICES[r["device"]], source=source, runtime="tensorrt", precision=r["precision"],
        software=r["runtime"], batch=int(r["batch_size"]), network=r["network"], profile=profile,
        name=r["layer"], op=r["op"], latency_ms=float(r["latency_ms"]),
        in_channels=_int(r["in_channels"]), out_channels=_int(r["out_channels"]),
        kernel=_pair(r, "kernel"), stride=_int(r["stride"]), padding=_int(r["padding"]),
        groups=_int(r["groups"]), in_size=_pair(r, "in"), out_size=_pair(r, "out"),
        fused_layers=_int(r.get("fused_layers", "")) or 1,
        fused_activation=r.get("fused_relu", r.get("fused_activation", "")) in ("1", "1.0"),
    )  # fmt: skip


def _conv_row(r: Record) -> OperatorRow:
    n, cin, cout = int(r["batch_size"]), int(r["in_channels"]), int(r["out_channels"])
    kernel, stride, padding = int(r["kernel_h"]), int(r["stride"]), int(r["padding"])
    return _operator(
        r, "conv2d", ((n, cin, int(r["in_h"]), int(r["in_w"])),), ((cout, cin, kernel, kernel),),
        {"stride": stride, "padding": padding, "groups": int(r["groups"])},
    )  # fmt: skip


def _matmul_row(r: Record) -> OperatorRow:
    b, m, k, n = (int(r[c]) for c in ("batch", "m_rows", "k_reduce", "n_out"))
    if r["op"] == "linear":
        return _operator(r, "linear", ((b, m, k),), ((n, k), (n,)), {})
    return _operator(r, "bmm", ((b, m, k), (b, k, n)), (), {})


def _vector_row(r: Record) -> OperatorRow:
    shape = (int(r["rows"]), int(r["cols"]))
    unary_scalar = r["op"].endswith("u") and r["op"] not in ("relu", "gelu")
    kind = {"ln": "layer_norm"}.get(r["op"], r["op"].removesuffix("u") if unary_scalar else r["op"])
    binary = kind in ("add", "mul", "div", "pow") and not unary_scalar
    attrs = {"scalar": True} if unary_scalar else {}
    return _operator(r, kind, (shape, shape) if binary else (shape,), (), attrs)


def _operator(
    r: Record,
    kind: str,
    inputs: tuple[tuple[int, ...], ...],
    weights: tuple[tuple[int, ...], ...],
    attrs: dict[str, Any],
) -> OperatorRow:
    return OperatorRow(
        DEVICES[r["device"]], "neusight", r.get("runtime", ""), "fp32",
        kind, inputs, weights, float(r["latency_ms"]), attrs,
    )  # fmt: skip


def _timm_modules() -> dict[str, str]:
    """Model name to the module that defines its family, for every model of the installed timm."""
    import timm

    entrypoints: dict[str, Callable[..., Any]] = {
        name: timm.models.model_entrypoint(name) for name in timm.list_models()
    }
    return {name: entry.__module__.rsplit(".", 1)[-1] for name, entry in entrypoints.items()}


def _read(path: Path) -> Iterator[Record]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="", encoding="utf-8") as handle:
        yield from csv.DictReader(handle)


def _float(text: str) -> float | None:
    return float(text) if text else None


def _int(text: str) -> int | None:
    return int(float(text)) if text else None


def _pair(r: Record, stem: str) -> tuple[int, int] | None:
    high, wide = _int(r[f"{stem}_h"]), _int(r[f"{stem}_w"])
    return None if high is None or wide is None else (high, wide)
