"""PIDNet-S for semantic segmentation, inference form (no auxiliary heads, output at 1/8).

Structure from the paper "PIDNet: A Real-time Semantic Segmentation Network Inspired by PID
Controllers" (arXiv 2206.02066). Batch norm is folded where a convolution stands before it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from scripts.networks.blocks import ConvAct

WIDTH, POOL_WIDTH, HEAD_WIDTH = 32, 96, 128
SHALLOW, DEEP = 2, 3


class Block(nn.Module):
    """Residual block: two 3x3, or (``bottleneck``) 1x1, 3x3 and 1x1 to twice the width."""

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        bottleneck: bool = False,
        activate: bool = True,
    ) -> None:
        super().__init__()
        outputs = 2 * width if bottleneck else width
        if bottleneck:
            self.body = nn.Sequential(
                ConvAct(inputs, width, act=nn.ReLU), ConvAct(width, width, 3, stride, act=nn.ReLU),
                ConvAct(width, outputs, act=None),
            )  # fmt: skip
        else:
            self.body = nn.Sequential(
                ConvAct(inputs, width, 3, stride, act=nn.ReLU), ConvAct(width, width, 3, act=None)
            )
        same = stride == 1 and inputs == outputs
        self.side = nn.Identity() if same else ConvAct(inputs, outputs, 1, stride, act=None)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        out = self.body(x) + self.side(x)
        return relu(out) if self.activate else out


def stack(inputs: int, width: int, depth: int, stride: int = 1) -> nn.Module:
    """Blocks of two 3x3; the last one gives its sum without activation."""
    widths = [inputs, *[width] * (depth - 1)]
    return nn.Sequential(
        *(
            Block(w, width, stride if i == 0 else 1, activate=i < depth - 1)
            for i, w in enumerate(widths)
        )
    )


def wide(inputs: int, width: int, stride: int = 1) -> Block:
    """Bottleneck block to twice the width, without activation."""
    return Block(inputs, width, stride, bottleneck=True, activate=False)


def norm_conv(inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> nn.Module:
    """Batch norm, ReLU, convolution without bias, in this order."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv)


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize to the size of another map."""
    return interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class PixelAttention(nn.Module):
    """Mixes the context map into the detail map by how alike they are at each pixel."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.detail, self.context = (ConvAct(width, inner, act=None) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Detail (N, C, H, W) and smaller context (N, C, h, w) to (N, C, H, W)."""
        alike = (self.detail(x) * resized(self.context(y), x)).sum(1, keepdim=True).sigmoid()
        return (1 - alike) * x + alike * resized(y, x)


class ParallelPyramid(nn.Module):
    """Five pooled scales in parallel, four of them through one grouped convolution."""

    def __init__(self, inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        pools = [nn.AvgPool2d(k, s, k // 2) for k, s in ((5, 2), (9, 4), (17, 8))]
        self.scales = nn.ModuleList(
            nn.Sequential(pool, norm_conv(inputs, inner))
            for pool in (*pools, nn.AdaptiveAvgPool2d(1))
        )
        self.full = norm_conv(inputs, inner)
        self.grouped = norm_conv(4 * inner, 4 * inner, 3, groups=4)
        self.merge, self.side = norm_conv(5 * inner, outputs), norm_conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        full = self.full(x)
        pooled = [resized(scale(x), full) + full for scale in self.scales]
        merged = self.merge(torch.cat((full, self.grouped(torch.cat(pooled, 1))), 1))
        return merged + self.side(x)


class BoundaryFusion(nn.Module):
    """Adds detail and context, weighted by the boundary map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.detail, self.context = (ConvAct(width, width, act=None) for _ in range(2))

    def forward(self, p: Tensor, i: Tensor, d: Tensor) -> Tensor:
        """Three maps (N, C, H, W) to one."""
        edge = d.sigmoid()
        return self.detail((1 - edge) * i + p) + self.context(i + edge * p)


class PIDNetS(nn.Module):
    """Class logits at an eighth of the image's size."""

    def __init__(self, classes: int = 19) -> None:
        super().__init__()
        w = WIDTH
        self.stem = nn.Sequential(
            ConvAct(3, w, 3, 2, act=nn.ReLU), ConvAct(w, w, 3, 2, act=nn.ReLU),
            stack(w, w, SHALLOW), nn.ReLU(), stack(w, 2 * w, SHALLOW, 2), nn.ReLU(),
        )  # fmt: skip
        self.i3, self.i4 = stack(2 * w, 4 * w, DEEP, 2), stack(4 * w, 8 * w, DEEP, 2)
        self.i5 = nn.Sequential(wide(8 * w, 8 * w, 2), wide(16 * w, 8 * w))
        self.pyramid = ParallelPyramid(16 * w, POOL_WIDTH, 4 * w)
        self.p3, self.p4 = stack(2 * w, 2 * w, SHALLOW), stack(2 * w, 2 * w, SHALLOW)
        self.p5, self.d5 = wide(2 * w, 2 * w), wide(2 * w, 2 * w)
        self.squeeze3 = ConvAct(4 * w, 2 * w, act=None)
        self.squeeze4 = ConvAct(8 * w, 2 * w, act=None)
        self.mix3, self.mix4 = PixelAttention(2 * w, w), PixelAttention(2 * w, w)
        self.d3, self.d4 = Block(2 * w, w, activate=False), wide(w, w)
        self.diff3, self.diff4 = ConvAct(4 * w, w, 3, act=None), ConvAct(8 * w, 2 * w, 3, act=None)
        self.fusion = BoundaryFusion(4 * w)
        self.head = nn.Sequential(
            nn.BatchNorm2d(4 * w), nn.ReLU(), ConvAct(4 * w, HEAD_WIDTH, 3, act=nn.ReLU),
            nn.Conv2d(HEAD_WIDTH, classes, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, classes, H / 8, W / 8)."""
        x = self.stem(x)
        p, d = self.p3(x), self.d3(x)
        x = relu(self.i3(x))
        p = self.mix3(p, self.squeeze3(x))
        d = d + resized(self.diff3(x), d)
        x = relu(self.i4(x))
        p = self.mix4(self.p4(relu(p)), self.squeeze4(x))
        d = self.d4(relu(d))
        d = d + resized(self.diff4(x), d)
        p, d = self.p5(relu(p)), self.d5(relu(d))
        return self.head(self.fusion(p, resized(self.pyramid(self.i5(x)), d), d))
