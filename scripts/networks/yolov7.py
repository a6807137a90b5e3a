"""YOLOv7 and YOLOv7-tiny detectors, deployed form.

Structure from the paper "YOLOv7: Trainable bag-of-freebies sets new state-of-the-art for
real-time object detectors" (arXiv 2207.02696) and its published deployment configurations:
re-parameterised 3x3 convolutions and the implicit vectors of the head are plain convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from scripts.networks.blocks import ConvAct, LeakyReLU01, ParallelPools

STRIDES = (8, 16, 32)
ANCHORS = 3


class Aggregation(nn.Module):
    """Two 1x1 branches, a chain of 3x3 convolutions on the second, some outputs merged by a 1x1.

    ``kept`` are the positions, in the list [first, second, conv 1, conv 2, ...], that are merged.
    """

    def __init__(
        self,
        inputs: int,
        branch: int,
        inner: int,
        outputs: int,
        depth: int,
        kept: Sequence[int],
        act: type[nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        self.first = ConvAct(inputs, branch, act=act)
        self.second = ConvAct(inputs, branch, act=act)
        widths = [branch, *[inner] * depth]
        self.chain = nn.ModuleList(ConvAct(a, b, 3, act=act) for a, b in pairwise(widths))
        self.kept = tuple(kept)
        widths = [branch, *widths]
        self.leave = ConvAct(sum(widths[i] for i in self.kept), outputs, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        parts = [self.first(x), self.second(x)]
        for conv in self.chain:
            parts.append(conv(parts[-1]))
        return self.leave(torch.cat([parts[i] for i in reversed(self.kept)], 1))


class PoolOrStride(nn.Module):
    """Halves the image twice over: max pool then 1x1, and 1x1 then a 3x3 of stride 2."""

    def __init__(self, inputs: int, branch: int) -> None:
        super().__init__()
        self.pooled = nn.Sequential(nn.MaxPool2d(2), ConvAct(inputs, branch))
        self.strided = nn.Sequential(ConvAct(inputs, branch), ConvAct(branch, branch, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, 2 * branch, H / 2, W / 2)."""
        return torch.cat((self.strided(x), self.pooled(x)), 1)


class CrossStagePyramid(nn.Module):
    """Spatial pyramid pooling on one of two branches (the base network's neck)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            ConvAct(inputs, width), ConvAct(width, width, 3), ConvAct(width, width),
            ParallelPools((5, 9, 13)), ConvAct(4 * width, width), ConvAct(width, width, 3),
        )  # fmt: skip
        self.side = ConvAct(inputs, width)
        self.leave = ConvAct(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, width, H, W)."""
        return self.leave(torch.cat((self.main(x), self.side(x)), 1))


class TinyPyramid(nn.Module):
    """Spatial pyramid pooling of the tiny network."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        act = LeakyReLU01
        self.side = ConvAct(inputs, width, act=act)
        self.main = nn.Sequential(
            ConvAct(inputs, width, act=act), ParallelPools((5, 9, 13)),
            ConvAct(4 * width, width, act=act),
        )  # fmt: skip
        self.leave = ConvAct(2 * width, width, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, width, H, W)."""
        return self.leave(torch.cat((self.main(x), self.side(x)), 1))


class AnchorHead(nn.Module):
    """1x1 convolution a level and the decoding of three anchor boxes a cell."""

    def __init__(self, widths: Sequence[int], image: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.values = classes + 5
        self.convs = nn.ModuleList(nn.Conv2d(w, ANCHORS * self.values, 1) for w in widths)
        for i, stride in enumerate(STRIDES):
            rows, columns = image[0] // stride, image[1] // stride
            self.register_buffer(f"grid{i}", torch.empty(1, 1, rows, columns, 2))
            self.register_buffer(f"anchor{i}", torch.empty(1, ANCHORS, 1, 1, 2))

    def _level(self, i: int, x: Tensor) -> Tensor:
        raw = self.convs[i](x)
        n, _, rows, columns = raw.shape
        y = raw.view(n, ANCHORS, self.values, rows, columns).permute(0, 1, 3, 4, 2).sigmoid()
        centre, size, rest = y.split((2, 2, self.values - 4), 4)
        centre = centre * (2.0 * STRIDES[i]) + self.get_buffer(f"grid{i}")
        size = size**2 * self.get_buffer(f"anchor{i}")
        return torch.cat((centre, size, rest), 4).view(n, -1, self.values)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (N, M, 4) as centre and size in pixels, scores (N, M, classes)."""
        out = torch.cat([self._level(i, x) for i, x in enumerate(features)], 1)
        return out[..., :4], out[..., 5:] * out[..., 4:5]


class YOLOv7(nn.Module):
    """The base network, for images of one size (multiples of 32)."""

    def __init__(self, image: tuple[int, int], classes: int = 80) -> None:
        super().__init__()
        four, six = (0, 1, 3, 5), (0, 1, 2, 3, 4, 5)
        self.to_p2 = nn.Sequential(
            ConvAct(3, 32, 3), ConvAct(32, 64, 3, 2), ConvAct(64, 64, 3), ConvAct(64, 128, 3, 2),
            Aggregation(128, 64, 64, 256, 4, four),
        )  # fmt: skip
        self.to_p3 = nn.Sequential(PoolOrStride(256, 128), Aggregation(256, 128, 128, 512, 4, four))
        self.to_p4 = nn.Sequential(
            PoolOrStride(512, 256), Aggregation(512, 256, 256, 1024, 4, four)
        )
        self.to_p5 = nn.Sequential(
            PoolOrStride(1024, 512), Aggregation(1024, 256, 256, 1024, 4, four),
            CrossStagePyramid(1024, 512),
        )  # fmt: skip
        self.reduce5, self.route4 = ConvAct(512, 256), ConvAct(1024, 256)
        self.up4 = Aggregation(512, 256, 128, 256, 4, six)
        self.reduce4, self.route3 = ConvAct(256, 128), ConvAct(512, 128)
        self.up3 = Aggregation(256, 128, 64, 128, 4, six)
        self.down3, self.merge4 = PoolOrStride(128, 128), Aggregation(512, 256, 128, 256, 4, six)
        self.down4, self.merge5 = PoolOrStride(256, 256), Aggregation(1024, 512, 256, 512, 4, six)
        self.last = nn.ModuleList(ConvAct(w, 2 * w, 3) for w in (128, 256, 512))
        self.head = AnchorHead((256, 512, 1024), image, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, M, 4) and scores (N, M, classes) before suppression."""
        p3 = self.to_p3(self.to_p2(x))
        p4 = self.to_p4(p3)
        p5 = self.to_p5(p4)
        wide = interpolate(self.reduce5(p5), scale_factor=2.0)
        up4 = self.up4(torch.cat((self.route4(p4), wide), 1))
        wide = interpolate(self.reduce4(up4), scale_factor=2.0)
        out3 = self.up3(torch.cat((self.route3(p3), wide), 1))
        out4 = self.merge4(torch.cat((self.down3(out3), up4), 1))
        out5 = self.merge5(torch.cat((self.down4(out4), p5), 1))
        outs = zip(self.last, (out3, out4, out5), strict=True)
        return self.head([conv(out) for conv, out in outs])


class YOLOv7Tiny(nn.Module):
    """The tiny network (LeakyReLU), for images of one size (multiples of 32)."""

    def __init__(self, image: tuple[int, int], classes: int = 80) -> None:
        super().__init__()
        act = LeakyReLU01

        def block(inputs: int, width: int, outputs: int) -> Aggregation:
            return Aggregation(inputs, width, width, outputs, 2, (0, 1, 2, 3), act)

        self.to_p3 = nn.Sequential(
            ConvAct(3, 32, 3, 2, act=act), ConvAct(32, 64, 3, 2, act=act), block(64, 32, 64),
            nn.MaxPool2d(2), block(64, 64, 128),
        )  # fmt: skip
        self.to_p4 = nn.Sequential(nn.MaxPool2d(2), block(128, 128, 256))
        self.to_p5 = nn.Sequential(nn.MaxPool2d(2), block(256, 256, 512), TinyPyramid(512, 256))
        self.reduce5, self.route4 = ConvAct(256, 128, act=act), ConvAct(256, 128, act=act)
        self.up4 = block(256, 64, 128)
        self.reduce4, self.route3 = ConvAct(128, 64, act=act), ConvAct(128, 64, act=act)
        self.up3 = block(128, 32, 64)
        self.down3, self.merge4 = ConvAct(64, 128, 3, 2, act=act), block(256, 64, 128)
        self.down4, self.merge5 = ConvAct(128, 256, 3, 2, act=act), block(512, 128, 256)
        self.last = nn.ModuleList(ConvAct(w, 2 * w, 3, act=act) for w in (64, 128, 256))
        self.head = AnchorHead((128, 256, 512), image, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, M, 4) and scores (N, M, classes) before suppression."""
        p3 = self.to_p3(x)
        p4 = self.to_p4(p3)
        p5 = self.to_p5(p4)
        wide = interpolate(self.reduce5(p5), scale_factor=2.0)
        up4 = self.up4(torch.cat((self.route4(p4), wide), 1))
        wide = interpolate(self.reduce4(up4), scale_factor=2.0)
        out3 = self.up3(torch.cat((self.route3(p3), wide), 1))
        out4 = self.merge4(torch.cat((self.down3(out3), up4), 1))
        out5 = self.merge5(torch.cat((self.down4(out4), p5), 1))
        outs = zip(self.last, (out3, out4, out5), strict=True)
        return self.head([conv(out) for conv, out in outs])
