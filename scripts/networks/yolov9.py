"""YOLOv9 t/s/m detectors, converted form: the main branch alone, re-parameterised.

Structure from the paper "YOLOv9: Learning What You Want to Learn Using Programmable Gradient
Information" (arXiv 2402.13616) and its published configurations of the branch kept for inference.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from scripts.networks.blocks import (
    ChainedPools,
    ConvAct,
    DistributionDecode,
    bottleneck,
    rounded,
)
from scripts.networks.pyramid import TwoWayPyramid

STRIDES = (8, 16, 32)
SCALES = {
    "t": (16, 32, (32, 64, 96, 128), 3, True),
    "s": (32, 64, (64, 128, 192, 256), 3, True),
    "m": (32, 64, (128, 240, 360, 480), 1, False),
}
"""Letter to: the two stem widths, widths of levels 2 to 5, cells a block, plain second level."""


class CrossStage(nn.Module):
    """Two 1x1 branches of half the width, one through residual pairs of 3x3, merged by a 1x1."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        half = outputs // 2
        self.main, self.side = ConvAct(inputs, half), ConvAct(inputs, half)
        self.cells = nn.Sequential(*(bottleneck(half, True) for _ in range(depth)))
        self.leave = ConvAct(2 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        return self.leave(torch.cat((self.cells(self.main(x)), self.side(x)), 1))


class Gelan(nn.Module):
    """1x1 split in two, two stages in a row on the second half, all four parts merged by a 1x1.

    ``depth`` None: a stage is one 3x3 convolution; else a cross stage and a 3x3 convolution.
    """

    def __init__(self, inputs: int, outputs: int, width: int, depth: int | None) -> None:
        super().__init__()
        inner = width // 2
        self.enter = ConvAct(inputs, width)
        self.first = self._stage(width // 2, inner, depth)
        self.second = self._stage(inner, inner, depth)
        self.leave = ConvAct(width + 2 * inner, outputs)

    @staticmethod
    def _stage(inputs: int, outputs: int, depth: int | None) -> nn.Module:
        if depth is None:
            return ConvAct(inputs, outputs, 3)
        return nn.Sequential(CrossStage(inputs, outputs, depth), ConvAct(outputs, outputs, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        parts = list(self.enter(x).chunk(2, 1))
        parts.append(self.first(parts[-1]))
        parts.append(self.second(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class AverageDown(nn.Module):
    """2x2 average of stride 1, then a 3x3 convolution of stride 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvAct(inputs, outputs, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / 2, W / 2)."""
        return self.conv(avg_pool2d(x, 2, 1))


class GroupedHead(nn.Module):
    """Per level a box branch with convolutions in four groups and a class branch."""

    def __init__(self, widths: tuple[int, ...], image: tuple[int, int], classes: int) -> None:
        super().__init__()
        bins = 4 * DistributionDecode.BINS
        box = rounded(max(widths[0] // 4, bins, 16), 4)
        cls = max(widths[0], min(classes, 100))
        self.boxes = nn.ModuleList(self._branch(w, box, bins, 4) for w in widths)
        self.scores = nn.ModuleList(self._branch(w, cls, classes, 1) for w in widths)
        self.decode = DistributionDecode(image, STRIDES, classes, corners=False)

    @staticmethod
    def _branch(inputs: int, hidden: int, outputs: int, groups: int) -> nn.Module:
        return nn.Sequential(
            ConvAct(inputs, hidden, 3), ConvAct(hidden, hidden, 3, groups=groups),
            nn.Conv2d(hidden, outputs, 1, groups=groups),
        )  # fmt: skip

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (N, M, 4) as centre and size in pixels, scores (N, M, classes)."""
        branches = zip(features, self.boxes, self.scores, strict=True)
        levels = [torch.cat((box(x), score(x)), 1) for x, box, score in branches]
        out = torch.cat(self.decode(levels), 1).transpose(1, 2)
        return out[..., :4], out[..., 4:]


class YOLOv9(TwoWayPyramid):
    """Detector for images of one size, (N, 3, H, W) with H and W multiples of 32."""

    def __init__(self, scale: str, image: tuple[int, int], classes: int = 80) -> None:
        super().__init__()
        c0, c1, (c2, c3, c4, c5), depth, plain = SCALES[scale]

        def block(inputs: int, width: int) -> Gelan:
            return Gelan(inputs, width, width, depth)

        self.to_p3 = nn.Sequential(
            ConvAct(3, c0, 3, 2), ConvAct(c0, c1, 3, 2),
            Gelan(c1, c2, c2, None if plain else depth), AverageDown(c2, c3), block(c3, c3),
        )  # fmt: skip
        self.to_p4 = nn.Sequential(AverageDown(c3, c4), block(c4, c4))
        pyramid = ChainedPools(c5, c5, c5 // 2)
        self.to_p5 = nn.Sequential(AverageDown(c4, c5), block(c5, c5), pyramid)
        self.up4, self.up3 = block(c5 + c4, c4), block(c4 + c3, c3)
        # Widths are multiples of 8: 180 of the medium network is 184.
        half4, half5 = rounded(c4 / 2), rounded(c5 / 2)
        self.down3, self.merge4 = AverageDown(c3, half4), block(half4 + c4, c4)
        self.down4, self.merge5 = AverageDown(c4, half5), block(half5 + c5, c5)
        self.head = GroupedHead((c3, c4, c5), image, classes)
