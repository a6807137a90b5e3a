"""The networks of ncnn's benchmark by their names there, beside what is published about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from predictor.graph import Graph
from scripts.networks import ncnn_classifiers as c
from scripts.networks import ncnn_detectors as d


@dataclass(frozen=True, slots=True)
class Network:
    """How to build it, its family, and the published parameters and multiply-accumulates.

    ``params_m`` and ``gmacs`` are in 1e6 and 1e9 at the benchmark's input size, ``source`` says
    who publishes them, ``reason`` why they may differ by more than 2 %. None: not published.
    """

    build: Callable[[int], Graph]
    family: str
    side: int
    params_m: float | None
    gmacs: float | None
    source: str
    reason: str = ""


_TV = "torchvision model table"
_TIMM = "timm result tables"

NETWORKS: dict[str, Network] = {
    "squeezenet": Network(
        c.squeezenet, "squeezenet", 227, 1.24, 0.388, "SqueezeNet 1.1 release notes and Caffe file",
        reason="the paper's count is for 224 pixels and an unpadded last convolution"),
    "mobilenet": Network(c.mobilenet, "mobilenet", 224, 4.2, 0.569, "MobileNet paper"),
    "mobilenet_v2": Network(
        c.mobilenet_v2, "mobilenetv2", 224, 3.50, 0.300, _TV,
        reason="the benchmark's first block has an expansion that the paper leaves out"),
    "mobilenet_v3": Network(
        c.mobilenet_v3, "mobilenetv3", 224, 5.4, 0.219, "MobileNetV3 paper",
        reason="the benchmark's file halves the image one block later and rounds gates otherwise"),
    "shufflenet": Network(c.shufflenet, "shufflenet", 224, None, 0.137, "ShuffleNetV2 paper",
                          reason="the paper's own count varies between 0.137 and 0.140"),
    "shufflenet_v2": Network(c.shufflenet_v2, "shufflenetv2", 224, 2.28, 0.146, _TV),
    "mnasnet": Network(c.mnasnet, "mnasnet", 224, 4.38, 0.315, _TV),
    "proxylessnasnet": Network(
        c.proxylessnasnet, "proxylessnas", 224, 4.08, 0.320, "ProxylessNAS repository",
        reason="the benchmark's first block ends with 32 channels in place of 16"),
    "efficientnet_b0": Network(c.efficientnet_b0, "efficientnet", 224, 5.29, 0.39, _TIMM),
    "efficientnetv2_b0": Network(c.efficientnetv2_b0, "efficientnetv2", 224, 7.14, 0.73, _TIMM),
    "regnety_400m": Network(c.regnety_400m, "regnet", 224, 4.34, 0.402, _TV),
    "blazeface": Network(d.blazeface, "blazeface", 128, None, None, ""),
    "googlenet": Network(c.googlenet, "googlenet", 224, 6.99, 1.583, "Caffe definition"),
    "resnet18": Network(c.resnet18, "resnet", 224, 11.69, 1.814, _TV),
    "resnet50": Network(c.resnet50, "resnet", 224, 25.56, 3.86, "ResNet paper and Caffe file"),
    "alexnet": Network(c.alexnet, "alexnet", 227, 60.97, 0.724, "Caffe definition"),
    "vgg16": Network(c.vgg16, "vgg", 224, 138.36, 15.47, _TV),
    "squeezenet_ssd": Network(d.squeezenet_ssd, "squeezenet", 300, None, None, ""),
    "mobilenet_ssd": Network(
        d.mobilenet_ssd, "mobilenet", 300, 5.78, 1.15, "MobileNet-SSD Caffe definition"),
    "mobilenet_yolo": Network(d.mobilenet_yolo, "mobilenet", 416, None, None, ""),
    "mobilenetv2_yolov3": Network(d.mobilenetv2_yolov3, "mobilenetv2", 352, None, None, ""),
    "yolov4-tiny": Network(d.yolov4_tiny, "yolov4", 416, 6.06, 3.455, "YOLOv4 repository"),
    "nanodet_m": Network(d.nanodet_m, "shufflenetv2", 320, 0.95, 0.36, "NanoDet repository",
                         reason="published as 0.72 GFLOPs, batch norm counted"),
    "yolo-fastest-1.1": Network(
        d.yolo_fastest, "yolo-fastest", 320, 0.35, 0.126, "Yolo-Fastest repository",
        reason="published as 0.252 BFLOPs, two a multiply-accumulate, rounded"),
    "yolo-fastestv2": Network(
        d.yolo_fastest_v2, "shufflenetv2", 352, 0.25, 0.106, "Yolo-FastestV2 repository",
        reason="published as 0.212 GFLOPs, two a multiply-accumulate, and rounded parameters"),
    "FastestDet": Network(d.fastest_det, "shufflenetv2", 352, 0.24, None, "FastestDet repository",
                          reason="parameters published with two digits"),
    "vision_transformer": Network(c.vision_transformer, "vit", 384, 88.3, 13.06, _TIMM),
}  # fmt: skip
"""Name in the table (without ``_int8``) to the network."""

NOT_REBUILT = {
    "mobilenet_yolov3": "its definition is not in the benchmark any more, and two rows name it",
}
"""Networks whose rows are left out, and why."""


def graph(name: str, side: int) -> Graph:
    """The network ``name`` for a square image; KeyError if it is none of :data:`NETWORKS`."""
    return NETWORKS[name].build(side)
