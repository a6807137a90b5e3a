"""The networks of Qualcomm AI Hub that can be rebuilt, beside what their model cards publish.

Image sizes are those that the AI Hub models compile for, as their published definitions say; a
card's "input resolution" differs for a few (EfficientNet-B4 and V2-S, FCN, U-Net, MobileViT) and is
not what ran.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scripts.networks import aihub_vision as vision
from scripts.networks.yolov7 import YOLOv7Tiny
from scripts.networks.yolov8 import YOLOv8
from scripts.networks.yolox import YOLOX

Inputs = Any
"""What :func:`predictor.trace` takes."""
_IMAGE: Inputs = (1, 3, 224, 224)
_TOKENS = {
    "input_ids": {"shape": [1, 384], "dtype": "int64"},
    "attention_mask": {"shape": [1, 384], "dtype": "int64"},
}


@dataclass(frozen=True, slots=True)
class Network:
    """How to build it, its family, its inputs, and the card's parameters in 1e6.

    ``reason`` says why the parameters differ by more than 2 % from the card's.
    """

    build: Callable[[], nn.Module]
    family: str
    params_m: float
    inputs: Inputs = _IMAGE
    reason: str = ""


def _tv(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from torchvision import models

        return models.get_model(name, weights=None, **options)

    return make


def _inception(name: str) -> Callable[[], nn.Module]:
    """Both Inceptions of torchvision rescale their input, and have no second head in use."""
    return _tv(name, transform_input=True, aux_logits=False, init_weights=False)


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, **options)

    return make


def _hf(head: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import transformers

        settings = getattr(transformers, config)(**options)
        return getattr(transformers, head)(settings)

    return make


def _fcn() -> nn.Module:
    return vision.PixelClasses(
        _tv("fcn_resnet50", weights_backbone=None, num_classes=21, aux_loss=False)()
    )


class Detections(nn.Module):
    """Box corners, best score and best class of every candidate: what AI Hub's detectors end in."""

    def __init__(self, detector: nn.Module, objectness: bool = False) -> None:
        super().__init__()
        self.detector, self.objectness = detector, objectness

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) to (N, M, 4), (N, M) and (N, M)."""
        boxes, scores = self.detector(x)
        half = boxes[..., 2:] / 2
        corners = torch.cat((boxes[..., :2] - half, boxes[..., :2] + half), -1)
        best, label = scores.max(-1)
        return corners, best, label


def _detr(depth: int, dc5: bool = False, conditional: bool = False) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import transformers

        prefix = "ConditionalDetr" if conditional else "Detr"
        backbone = transformers.TimmBackboneConfig(
            backbone=f"resnet{depth}", use_pretrained_backbone=False, out_indices=[1, 2, 3, 4],
            **({"output_stride": 16} if dc5 else {}),
        )  # fmt: skip
        config = getattr(transformers, f"{prefix}Config")(backbone_config=backbone)
        return getattr(transformers, f"{prefix}ForObjectDetection")(config)

    return make


_BIG = (640, 640)
_DETECT: Inputs = (1, 3, *_BIG)
_SUPER: Inputs = (1, 3, 128, 128)
_CLIP: Inputs = (1, 3, 16, 112, 112)
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
         "intermediate_size": 3072}  # fmt: skip
_CARD = "the card's count is not the network's"

NETWORKS: dict[str, Network] = {
    "resnet18": Network(_tv("resnet18"), "resnet", 11.7),
    "resnet50": Network(_tv("resnet50"), "resnet", 25.5),
    "resnet101": Network(_tv("resnet101"), "resnet", 44.5),
    "wideresnet50": Network(_tv("wide_resnet50_2"), "resnet", 68.9),
    "resnext50": Network(_tv("resnext50_32x4d"), "resnext", 25.0),
    "resnext101": Network(_tv("resnext101_32x8d"), "resnext", 88.7),
    "regnet": Network(_tv("regnet_x_3_2gf"), "regnet", 15.3),
    "regnet_y_800mf": Network(_tv("regnet_y_800mf"), "regnet", 6.43),
    "densenet121": Network(_tv("densenet121"), "densenet", 7.98),
    "dla102x": Network(_timm("dla102x"), "dla", 26.4),
    "googlenet": Network(_inception("googlenet"), "inception", 6.62),
    "inception_v3": Network(_inception("inception_v3"), "inception", 23.9),
    "squeezenet1_1": Network(_tv("squeezenet1_1"), "squeezenet", 1.24),
    "shufflenet_v2": Network(_tv("shufflenet_v2_x0_5"), "shufflenetv2", 1.37),
    "mnasnet05": Network(_tv("mnasnet0_5"), "mnasnet", 2.21),
    "mobilenet_v2": Network(_tv("mobilenet_v2"), "mobilenetv2", 3.49),
    "mobilenet_v3_large": Network(_tv("mobilenet_v3_large"), "mobilenetv3", 5.47),
    "mobilenet_v3_small": Network(_tv("mobilenet_v3_small"), "mobilenetv3", 2.54),
    "efficientnet_b0": Network(_tv("efficientnet_b0"), "efficientnet", 5.27),
    "efficientnet_b4": Network(_tv("efficientnet_b4"), "efficientnet", 19.3),
    "efficientnet_v2_s": Network(_tv("efficientnet_v2_s"), "efficientnet", 21.4),
    "convnext_tiny": Network(_tv("convnext_tiny"), "convnext", 28.6),
    "convnext_base": Network(_tv("convnext_base"), "convnext", 88.6),
    "vit": Network(_tv("vit_b_16"), "vit", 86.6),
    "beit": Network(_hf("BeitForImageClassification", "BeitConfig",
                        use_relative_position_bias=True, use_absolute_position_embeddings=False,
                        layer_scale_init_value=0.1, num_labels=1000),
                    "vit", 92.0, reason="the card also counts the tables of relative positions"),
    "levit": Network(_timm("levit_128s"), "levit", 7.82,
                     reason="the package folds the second head away, or pairs it with the first"),
    "mobile_vit": Network(_hf("MobileViTForImageClassification", "MobileViTConfig",
                              num_labels=1000), "mobilevit", 5.57, (1, 3, 256, 256)),
    "efficientformer": Network(_timm("efficientformer_l1"), "efficientformer", 12.3),
    "efficientvit_b2_cls": Network(_timm("efficientvit_b2"), "efficientvit", 24.3),
    "efficientvit_l2_cls": Network(_timm("efficientvit_l2"), "efficientvit", 63.7),
    "nasnet": Network(_timm("nasnetalarge"), "nasnet", 88.7),
    "sequencer2d": Network(_timm("sequencer2d_s"), "sequencer2d", 27.6),
    "resnet_3d": Network(_tv("r3d_18"), "video-resnet", 33.4, _CLIP),
    "resnet_mixed": Network(_tv("mc3_18"), "video-resnet", 11.7, _CLIP),
    "resnet_2plus1d": Network(_tv("r2plus1d_18"), "video-resnet", 31.5, _CLIP),
    "fcn_resnet50": Network(_fcn, "fcn", 33.0, (1, 3, 520, 520)),
    "deeplabv3_plus_mobilenet": Network(vision.DeepLabV3Plus, "deeplab", 5.80, (1, 3, 513, 513)),
    "unet_segmentation": Network(vision.UNet, "unet", 31.0, (1, 3, 640, 1280)),
    "segformer_base": Network(_hf("SegformerForSemanticSegmentation", "SegformerConfig",
                                  num_labels=150), "segformer", 3.75, (1, 3, 512, 512)),
    "midas": Network(vision.MidasSmall, "midas", 16.6, (1, 3, 256, 256)),
    "depth_anything": Network(_hf("DepthAnythingForDepthEstimation", "DepthAnythingConfig"),
                              "depth-anything", 24.7, (1, 3, 518, 518)),
    "depth_anything_v2": Network(_hf("DepthAnythingForDepthEstimation", "DepthAnythingConfig"),
                                 "depth-anything", 24.8, (1, 3, 518, 518)),
    "esrgan": Network(vision.RRDBNet, "rrdb", 16.7, _SUPER),
    "real_esrgan_x4plus": Network(vision.RRDBNet, "rrdb", 16.7, _SUPER),
    "real_esrgan_general_x4v3": Network(vision.CompactSuperResolution, "plain-sr", 1.21, _SUPER),
    "quicksrnetsmall": Network(partial(vision.QuickSRNet, 32, 2), "plain-sr", 0.0333, _SUPER),
    "quicksrnetmedium": Network(partial(vision.QuickSRNet, 32, 5), "plain-sr", 0.061, _SUPER),
    "quicksrnetlarge": Network(partial(vision.QuickSRNet, 64, 11), "plain-sr", 0.436, _SUPER),
    "yolov7": Network(lambda: Detections(YOLOv7Tiny(image=_BIG, classes=80)), "yolo", 6.39,
                      _DETECT, reason="the card counts batch norm, which is folded here"),
    "yolov8_det": Network(lambda: Detections(YOLOv8("n", image=_BIG)), "yolo", 3.18, _DETECT),
    "yolox": Network(lambda: Detections(YOLOX("s", image=_BIG, classes=80)), "yolo", 8.98, _DETECT),
    "detr_resnet50": Network(_detr(50), "detr", 41.5, _DETECT),
    "detr_resnet101": Network(_detr(101), "detr", 60.4, _DETECT),
    "detr_resnet50_dc5": Network(_detr(50, dc5=True), "detr", 41.5, _DETECT),
    "detr_resnet101_dc5": Network(_detr(101, dc5=True), "detr", 60.5, _DETECT),
    "conditional_detr_resnet50": Network(_detr(50, conditional=True), "detr", 43.4, _DETECT),
    "bert_base_uncased_hf": Network(_hf("BertForMaskedLM", "BertConfig"), "bert", 110.0, _TOKENS),
    "electra_bert_base_discrim_google": Network(
        _hf("ElectraForPreTraining", "ElectraConfig", embedding_size=768, **_BASE), "bert", 109.0,
        _TOKENS),
    "distil_bert_base_uncased_hf": Network(
        _hf("DistilBertForMaskedLM", "DistilBertConfig"), "bert", 67.0, _TOKENS, reason=_CARD),
    "albert_base_v2_hf": Network(
        _hf("AlbertForMaskedLM", "AlbertConfig", embedding_size=128, **_BASE), "bert", 11.8,
        _TOKENS, reason="the card counts the pooling layer, which this head does not use"),
}  # fmt: skip
"""AI Hub's name of a model to the network; one component each."""

_HEADS = "several networks in one; their cut is not published"
_CODE = "no permissive definition with a known size"
NOT_REBUILT = {
    "mobile_bert_uncased_google": "the card's parameters fit neither the base nor the head",
    "yolov10_det": "ends otherwise than the form built for another table",
    "gpunet": _CODE, "cavaface": _CODE, "openai_clip": _HEADS, "mediapipe_face": _HEADS,
    "mediapipe_hand": _HEADS, "mediapipe_hand_gesture": _HEADS, "mediapipe_pose": _HEADS,
}  # fmt: skip
"""Models whose rows are left out, where the reason is not just that nobody rebuilt them."""

SAME = {"depth_anything_v2": "depth_anything", "real_esrgan_x4plus": "esrgan"}
"""Models that are one network with other weights: they stand on one side of a fold together."""


def build(name: str) -> nn.Module:
    """Network ``name`` in inference mode, without weights; KeyError if it is not rebuilt."""
    from predictor.frontends.zoo_build import build_module, import_torchvision

    network = NETWORKS[name]
    import_torchvision(name)
    return build_module(network.build, on_meta=True)
