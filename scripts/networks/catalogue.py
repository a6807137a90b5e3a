"""Every network built here, beside what its authors publish about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from scripts.networks.googlenet import googlenet
from scripts.networks.pidnet import PIDNetS
from scripts.networks.yolov7 import YOLOv7, YOLOv7Tiny
from scripts.networks.yolov8 import YOLOv8
from scripts.networks.yolov9 import YOLOv9
from scripts.networks.yolov10 import YOLOv10
from scripts.networks.yolox import YOLOX

Image = tuple[int, int]
Factory = Callable[[Image, int | None], nn.Module]


@dataclass(frozen=True, slots=True)
class Published:
    """What the authors publish: parameters in millions, 1e9 operations, at which image.

    ``per_mac`` is how many operations the authors count for a multiply-accumulate, ``reason`` why
    a rebuilt network may differ by more than 1 %.
    """

    params_m: float
    gflops: float
    image: Image
    source: str
    per_mac: int = 2
    reason: str = ""


def _detector(network: Callable[..., nn.Module], *args: object, **options: object) -> Factory:
    return lambda image, classes: network(*args, image=image, classes=classes or 80, **options)


def _pidnet(image: Image, classes: int | None) -> nn.Module:
    return PIDNetS(classes or 19)


def _googlenet(image: Image, classes: int | None) -> nn.Module:
    return googlenet(classes or 1000)


def _mobilenetv3(name: str, image: Image, classes: int | None) -> nn.Module:
    """MobileNetV3 whose classifier stands on the pooled last map, without the hidden layer."""
    import timm

    network = timm.create_model(name, num_classes=classes or 1000)
    pooled = network.conv_head.in_channels
    network.conv_head = network.act2 = nn.Identity()
    network.classifier = nn.Linear(pooled, classes or 1000)
    return network


def _segformer(image: Image, classes: int | None) -> nn.Module:
    """SegFormer-B0, which is the default configuration of its Transformers class."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=classes or 150))


def factories() -> dict[str, Factory]:
    """Key to what builds the network for an image size and a number of classes."""
    found: dict[str, Factory] = {
        "yolov7t": _detector(YOLOv7Tiny),
        "yolov7m": _detector(YOLOv7),
        "pidnet-s": _pidnet,
        "googlenet": _googlenet,
        "segformer-b0": _segformer,
        "mobilenetv3-small-pooled": partial(_mobilenetv3, "mobilenetv3_small_100"),
        "mobilenetv3-large-pooled": partial(_mobilenetv3, "mobilenetv3_large_100"),
    }
    found |= {f"yolov8{s}": _detector(YOLOv8, s) for s in "nsmlx"}
    found |= {f"yolov9{s}": _detector(YOLOv9, s) for s in "tsm"}
    found |= {f"yolov10{s}": _detector(YOLOv10, s) for s in "nsm"}
    found |= {f"yolox{s}": _detector(YOLOX, s) for s in "ntsmlx"}
    found |= {f"yolox{s}-raw": _detector(YOLOX, s, decode=False) for s in "ntsmlx"}
    return found


_V8 = "Ultralytics YOLOv8 model card"
_V9 = "YOLOv9 repository, converted models"
_V10 = "YOLOv10 paper, table 1"
_X = "YOLOX repository, model zoo"
_TINY = "the published count includes batch norm, which is folded here; it weighs more in nano"
_BIG, _SMALL = (640, 640), (416, 416)

PUBLISHED: dict[str, Published] = {
    "yolov7t": Published(6.2, 13.8, _BIG, "YOLOv7 paper"),
    "yolov7m": Published(36.9, 104.7, _BIG, "YOLOv7 paper"),
    "yolov8n": Published(3.2, 8.7, _BIG, _V8, reason="3.15 M rounded to one decimal"),
    "yolov8s": Published(11.2, 28.6, _BIG, _V8),
    "yolov8m": Published(25.9, 78.9, _BIG, _V8),
    "yolov9t": Published(2.0, 7.7, _BIG, _V9),
    "yolov9s": Published(7.1, 26.4, _BIG, _V9),
    "yolov9m": Published(20.0, 76.3, _BIG, _V9),
    "yolov10n": Published(2.3, 6.7, _BIG, _V10),
    "yolov10s": Published(7.2, 21.6, _BIG, _V10),
    "yolov10m": Published(15.4, 59.1, _BIG, _V10),
    "yoloxn": Published(0.91, 1.08, _SMALL, _X, reason=_TINY),
    "yoloxt": Published(5.06, 6.45, _SMALL, _X),
    "yoloxs": Published(9.0, 26.8, _BIG, _X),
    "yoloxm": Published(25.3, 73.8, _BIG, _X),
    "yoloxl": Published(54.2, 155.6, _BIG, _X),
    "pidnet-s": Published(7.6, 47.6, (1024, 2048), "PIDNet paper", per_mac=1),
    "googlenet": Published(
        6.99, 1.583, (224, 224), "Caffe definition; operations as propagated from it", per_mac=1
    ),
}
