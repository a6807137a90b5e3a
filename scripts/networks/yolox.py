"""YOLOX nano/tiny/s/m/l/x detectors.

Structure from the paper "YOLOX: Exceeding YOLO Series in 2021" (arXiv 2107.08430) and its
published configurations (depth, width, depthwise for nano).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from scripts.networks.blocks import ConvAct, ParallelPools, Residual

STRIDES = (8, 16, 32)
SCALES = {
    "n": (0.33, 0.25, True), "t": (0.33, 0.375, False), "s": (0.33, 0.50, False),
    "m": (0.67, 0.75, False), "l": (1.00, 1.00, False), "x": (1.33, 1.25, False),
}  # fmt: skip
"""Letter to depth factor, width factor and whether 3x3 convolutions are separable."""


def conv3(inputs: int, outputs: int, stride: int = 1, separable: bool = False) -> nn.Module:
    """3x3 convolution with SiLU; separable: depthwise 3x3 and 1x1, each with SiLU."""
    if not separable:
        return ConvAct(inputs, outputs, 3, stride)
    depthwise = ConvAct(inputs, inputs, 3, stride, groups=inputs)
    return nn.Sequential(depthwise, ConvAct(inputs, outputs))


class CrossStage(nn.Module):
    """Two 1x1 branches of half the width, one through bottlenecks, merged by a 1x1."""

    def __init__(
        self, inputs: int, outputs: int, depth: int, shortcut: bool, separable: bool
    ) -> None:
        super().__init__()
        half = outputs // 2
        self.main, self.side = ConvAct(inputs, half), ConvAct(inputs, half)
        cells = [
            nn.Sequential(ConvAct(half, half), conv3(half, half, separable=separable))
            for _ in range(depth)
        ]
        self.cells = nn.Sequential(*(Residual(c) if shortcut else c for c in cells))
        self.leave = ConvAct(2 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        main, side = self.main(x), self.side(x)
        return self.leave(torch.cat((self.cells(main), side), 1))


class Focus(nn.Module):
    """Every second pixel to channels (four slices), then a 3x3 convolution."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = ConvAct(12, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, outputs, H / 2, W / 2)."""
        parts = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.conv(torch.cat(parts, 1))


class Head(nn.Module):
    """Decoupled head; ``decode`` turns the maps into boxes in pixels and class scores."""

    corner: Tensor
    scale: Tensor

    def __init__(
        self,
        widths: tuple[int, ...],
        hidden: int,
        image: tuple[int, int],
        classes: int,
        separable: bool,
        decode: bool,
    ) -> None:
        super().__init__()
        twice = partial(_two_convs, hidden, separable)
        self.stems = nn.ModuleList(ConvAct(w, hidden) for w in widths)
        self.cls_convs = nn.ModuleList(twice() for _ in widths)
        self.reg_convs = nn.ModuleList(twice() for _ in widths)
        self.cls = nn.ModuleList(nn.Conv2d(hidden, classes, 1) for _ in widths)
        self.box = nn.ModuleList(nn.Conv2d(hidden, 4, 1) for _ in widths)
        self.obj = nn.ModuleList(nn.Conv2d(hidden, 1, 1) for _ in widths)
        self.decode = decode
        cells = sum((image[0] // s) * (image[1] // s) for s in STRIDES)
        self.register_buffer("corner", torch.empty(1, cells, 2))
        self.register_buffer("scale", torch.empty(1, cells, 1))

    def _level(self, i: int, x: Tensor) -> Tensor:
        stem = self.stems[i](x)
        scores, boxes = self.cls_convs[i](stem), self.reg_convs[i](stem)
        parts = self.box[i](boxes), self.obj[i](boxes), self.cls[i](scores)
        if not self.decode:
            return torch.cat(parts, 1)
        return torch.cat((parts[0], parts[1].sigmoid(), parts[2].sigmoid()), 1)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """Decoded: boxes (N, M, 4), scores (N, M, classes). Else one raw map a level."""
        levels = [self._level(i, x) for i, x in enumerate(features)]
        if not self.decode:
            return tuple(levels)
        out = torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2)
        boxes = torch.cat(
            ((out[..., :2] + self.corner) * self.scale, out[..., 2:4].exp() * self.scale), -1
        )
        return boxes, out[..., 4:5] * out[..., 5:]


def _two_convs(hidden: int, separable: bool) -> nn.Module:
    return nn.Sequential(*(conv3(hidden, hidden, separable=separable) for _ in range(2)))


class YOLOX(nn.Module):
    """Detector for images of one size, (N, 3, H, W) with H and W multiples of 32."""

    def __init__(
        self, scale: str, image: tuple[int, int], classes: int = 80, decode: bool = True
    ) -> None:
        super().__init__()
        depth, width, dw = SCALES[scale]
        c1, c2, c3, c4, c5 = (int(c * width) for c in (64, 128, 256, 512, 1024))
        n = max(round(3 * depth), 1)
        block = partial(CrossStage, separable=dw)
        self.to_p3 = nn.Sequential(
            Focus(c1), conv3(c1, c2, 2, dw), block(c2, c2, n, True),
            conv3(c2, c3, 2, dw), block(c3, c3, 3 * n, True),
        )  # fmt: skip
        self.to_p4 = nn.Sequential(conv3(c3, c4, 2, dw), block(c4, c4, 3 * n, True))
        pyramid = ConvAct(c5, c5 // 2), ParallelPools((5, 9, 13)), ConvAct(c5 * 2, c5)
        self.to_p5 = nn.Sequential(conv3(c4, c5, 2, dw), *pyramid, block(c5, c5, n, False))
        self.lateral5, self.up4 = ConvAct(c5, c4), block(2 * c4, c4, n, False)
        self.lateral4, self.up3 = ConvAct(c4, c3), block(2 * c3, c3, n, False)
        self.down3, self.merge4 = conv3(c3, c3, 2, dw), block(2 * c3, c4, n, False)
        self.down4, self.merge5 = conv3(c4, c4, 2, dw), block(2 * c4, c5, n, False)
        self.head = Head((c3, c4, c5), int(256 * width), image, classes, dw, decode)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """What :class:`Head` gives for the three levels."""
        p3 = self.to_p3(x)
        p4 = self.to_p4(p3)
        lat5 = self.lateral5(self.to_p5(p4))
        up4 = self.up4(torch.cat((interpolate(lat5, scale_factor=2.0), p4), 1))
        lat4 = self.lateral4(up4)
        out3 = self.up3(torch.cat((interpolate(lat4, scale_factor=2.0), p3), 1))
        out4 = self.merge4(torch.cat((self.down3(out3), lat4), 1))
        out5 = self.merge5(torch.cat((self.down4(out4), lat5), 1))
        return self.head([out3, out4, out5])
