"""YOLOv10 n/s/m detectors, the one-to-one head alone: no suppression, 300 boxes out.

Structure from the paper "YOLOv10: Real-Time End-to-End Object Detection" (arXiv 2405.14458) and
its published configurations; the large-kernel depthwise convolution is re-parameterised.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scripts.networks.blocks import (
    C2f,
    ChainedPools,
    ConvAct,
    DistributionDecode,
    Residual,
    c2f,
    rounded,
)
from scripts.networks.pyramid import TwoWayPyramid

STRIDES = (8, 16, 32)
KEPT = 300
SCALES = {
    "n": (0.33, 0.25, 1024, {"merge5": True}),
    "s": (0.33, 0.50, 1024, {"p5": True, "merge5": True}),
    "m": (0.67, 0.75, 768, {"p5": False, "merge4": False, "merge5": False}),
}
"""Letter to depth, width, largest width, and the blocks made of inverted cells: large kernel?"""


def inverted_cell(width: int, large: bool) -> Residual:
    """Depthwise, 1x1 to twice the width, depthwise (7x7 if large), 1x1 back, depthwise."""
    wide = 2 * width
    return Residual(
        nn.Sequential(
            ConvAct(width, width, 3, groups=width), ConvAct(width, wide),
            ConvAct(wide, wide, 7 if large else 3, groups=wide), ConvAct(wide, width),
            ConvAct(width, width, 3, groups=width),
        )
    )  # fmt: skip


def separate_down(inputs: int, outputs: int) -> nn.Module:
    """1x1 with activation, then a depthwise 3x3 of stride 2 without."""
    return nn.Sequential(
        ConvAct(inputs, outputs), ConvAct(outputs, outputs, 3, 2, groups=outputs, act=None)
    )


class Attention(nn.Module):
    """Self-attention over all positions; keys are half as wide as values (at least 64 a head)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.value = width // self.heads
        self.key = self.value // 2
        self.qkv = ConvAct(width, width + 2 * self.heads * self.key, act=None)
        self.position = ConvAct(width, width, 3, groups=width, act=None)
        self.project = ConvAct(width, width, act=None)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        n, c, rows, columns = x.shape
        qkv = self.qkv(x).view(n, self.heads, 2 * self.key + self.value, rows * columns)
        query, key, value = qkv.split((self.key, self.key, self.value), 2)
        weights = ((query.transpose(-2, -1) @ key) * self.key**-0.5).softmax(-1)
        mixed = (value @ weights.transpose(-2, -1)).view(n, c, rows, columns)
        place = self.position(value.reshape(n, c, rows, columns))
        return self.project(mixed + place)


class PartialAttention(nn.Module):
    """Attention and a two-layer 1x1 network on half of the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.enter, self.leave = ConvAct(width, 2 * half), ConvAct(2 * half, width)
        feed = nn.Sequential(ConvAct(half, 2 * half), ConvAct(2 * half, half, act=None))
        self.body = nn.Sequential(Residual(Attention(half)), Residual(feed))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        kept, changed = self.enter(x).chunk(2, 1)
        return self.leave(torch.cat((kept, self.body(changed)), 1))


class OneToOneHead(nn.Module):
    """Box and class branches, decoding, and the best 300 boxes."""

    def __init__(self, widths: tuple[int, ...], image: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.classes = classes
        bins = 4 * DistributionDecode.BINS
        box, cls = max(16, widths[0] // 4, bins), max(widths[0], min(classes, 100))
        self.boxes = nn.ModuleList(
            nn.Sequential(ConvAct(w, box, 3), ConvAct(box, box, 3), nn.Conv2d(box, bins, 1))
            for w in widths
        )
        self.scores = nn.ModuleList(self._separable(w, cls, classes) for w in widths)
        self.decode = DistributionDecode(image, STRIDES, classes, corners=True)

    @staticmethod
    def _separable(inputs: int, hidden: int, classes: int) -> nn.Module:
        return nn.Sequential(
            ConvAct(inputs, inputs, 3, groups=inputs), ConvAct(inputs, hidden),
            ConvAct(hidden, hidden, 3, groups=hidden), ConvAct(hidden, hidden),
            nn.Conv2d(hidden, classes, 1),
        )  # fmt: skip

    def forward(self, features: list[Tensor]) -> Tensor:
        """(N, 300, 6): corners in pixels, score, class."""
        branches = zip(features, self.boxes, self.scores, strict=True)
        levels = [torch.cat((box(x), score(x)), 1) for x, box, score in branches]
        out = torch.cat(self.decode(levels), 1).transpose(1, 2)
        boxes, scores = torch.split(out, [4, self.classes], -1)
        kept = min(KEPT, boxes.shape[1])
        best = scores.amax(-1).topk(kept, -1).indices.unsqueeze(-1)
        boxes = boxes.gather(1, best.expand(-1, -1, 4))
        scores = scores.gather(1, best.expand(-1, -1, self.classes))
        score, index = scores.flatten(1).topk(kept, -1)
        label, row = index % self.classes, index // self.classes
        boxes = boxes.gather(1, row.unsqueeze(-1).expand(-1, -1, 4))
        return torch.cat((boxes, score.unsqueeze(-1), label.unsqueeze(-1).to(boxes.dtype)), -1)


class YOLOv10(TwoWayPyramid):
    """Detector for images of one size, (N, 3, H, W) with H and W multiples of 32."""

    def __init__(self, scale: str, image: tuple[int, int], classes: int = 80) -> None:
        super().__init__()
        depth, width, cap, inverted = SCALES[scale]
        c1, c2, c3, c4, c5 = (rounded(min(c, cap) * width) for c in (64, 128, 256, 512, 1024))
        three, six = max(round(3 * depth), 1), max(round(6 * depth), 1)

        def block(name: str, inputs: int, outputs: int, shortcut: bool = False) -> C2f:
            if name not in inverted:
                return c2f(inputs, outputs, three, shortcut)
            cells = [inverted_cell(outputs // 2, inverted[name]) for _ in range(three)]
            return C2f(inputs, outputs, cells)

        self.to_p3 = nn.Sequential(
            ConvAct(3, c1, 3, 2), ConvAct(c1, c2, 3, 2), c2f(c2, c2, three, True),
            ConvAct(c2, c3, 3, 2), c2f(c3, c3, six, True),
        )  # fmt: skip
        self.to_p4 = nn.Sequential(separate_down(c3, c4), c2f(c4, c4, six, True))
        self.to_p5 = nn.Sequential(
            separate_down(c4, c5), block("p5", c5, c5, True), ChainedPools(c5, c5, c5 // 2),
            PartialAttention(c5),
        )  # fmt: skip
        self.up4, self.up3 = c2f(c5 + c4, c4, three, False), c2f(c4 + c3, c3, three, False)
        self.down3, self.merge4 = ConvAct(c3, c3, 3, 2), block("merge4", c3 + c4, c4)
        self.down4, self.merge5 = separate_down(c4, c4), block("merge5", c4 + c5, c5)
        self.head = OneToOneHead((c3, c4, c5), image, classes)
