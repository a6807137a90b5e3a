"""GoogLeNet as its Caffe definition has it: biases, local response norm, no batch norm.

Structure from the paper "Going Deeper with Convolutions" (arXiv 1409.4842); the auxiliary
classifiers exist in training only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scripts.networks.blocks import ConvAct

STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)  # fmt: skip
"""Per block: 1x1, reduction and 3x3, reduction and 5x5, 1x1 after the pool."""


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> ConvAct:
    """Convolution and ReLU."""
    return ConvAct(inputs, outputs, kernel, stride, act=nn.ReLU)


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = widths
        self.outputs = one + three + five + pooled
        self.branches = nn.ModuleList(
            (
                conv(inputs, one),
                nn.Sequential(conv(inputs, reduce3), conv(reduce3, three, 3)),
                nn.Sequential(conv(inputs, reduce5), conv(reduce5, five, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inputs, pooled)),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def googlenet(classes: int = 1000) -> nn.Module:
    """(N, 3, 224, 224) to class probabilities (N, classes)."""
    halve = nn.MaxPool2d(3, 2, ceil_mode=True)
    layers: list[nn.Module] = [
        conv(3, 64, 7, 2), halve, nn.LocalResponseNorm(5), conv(64, 64), conv(64, 192, 3),
        nn.LocalResponseNorm(5),
    ]  # fmt: skip
    width = 192
    for blocks in STAGES:
        layers.append(halve)
        for widths in blocks:
            block = Inception(width, widths)
            layers.append(block)
            width = block.outputs
    tail = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes), nn.Softmax(1)
    return nn.Sequential(*layers, *tail)
