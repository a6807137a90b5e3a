"""YOLOv8 n/s/m/l/x detectors, deployed form: boxes and scores out, suppression left to a plug-in.

Structure from the published configuration (widths, depths, channel cap) of YOLOv8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scripts.networks.blocks import ChainedPools, ConvAct, DistributionDecode, c2f, rounded
from scripts.networks.pyramid import TwoWayPyramid

STRIDES = (8, 16, 32)
SCALES = {
    "n": (0.33, 0.25, 1024), "s": (0.33, 0.50, 1024), "m": (0.67, 0.75, 768),
    "l": (1.00, 1.00, 512), "x": (1.00, 1.25, 512),
}  # fmt: skip
"""Letter to depth factor, width factor and largest width before the factor."""


class DecoupledHead(nn.Module):
    """Per level a box branch and a class branch, two 3x3 convolutions and a 1x1 each."""

    def __init__(self, widths: tuple[int, ...], image: tuple[int, int], classes: int) -> None:
        super().__init__()
        bins = 4 * DistributionDecode.BINS
        box, cls = max(16, widths[0] // 4, bins), max(widths[0], min(classes, 100))
        self.boxes = nn.ModuleList(self._branch(w, box, bins) for w in widths)
        self.scores = nn.ModuleList(self._branch(w, cls, classes) for w in widths)
        self.decode = DistributionDecode(image, STRIDES, classes, corners=False)

    @staticmethod
    def _branch(inputs: int, hidden: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            ConvAct(inputs, hidden, 3), ConvAct(hidden, hidden, 3), nn.Conv2d(hidden, outputs, 1)
        )

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (N, M, 4) as centre and size in pixels, scores (N, M, classes)."""
        levels = [
            torch.cat((box(x), score(x)), 1)
            for x, box, score in zip(features, self.boxes, self.scores, strict=True)
        ]
        boxes, scores = self.decode(levels)
        # Suppression plug-ins read one box a row.
        out = torch.cat((boxes, scores), 1).transpose(1, 2)
        return out[..., :4], out[..., 4:]


class YOLOv8(TwoWayPyramid):
    """Detector for images of one size, (N, 3, H, W) with H and W multiples of 32."""

    def __init__(self, scale: str, image: tuple[int, int], classes: int = 80) -> None:
        super().__init__()
        depth, width, cap = SCALES[scale]
        c1, c2, c3, c4, c5 = (rounded(min(c, cap) * width) for c in (64, 128, 256, 512, 1024))
        three, six = max(round(3 * depth), 1), max(round(6 * depth), 1)
        self.to_p3 = nn.Sequential(
            ConvAct(3, c1, 3, 2), ConvAct(c1, c2, 3, 2), c2f(c2, c2, three, True),
            ConvAct(c2, c3, 3, 2), c2f(c3, c3, six, True),
        )  # fmt: skip
        self.to_p4 = nn.Sequential(ConvAct(c3, c4, 3, 2), c2f(c4, c4, six, True))
        self.to_p5 = nn.Sequential(
            ConvAct(c4, c5, 3, 2), c2f(c5, c5, three, True), ChainedPools(c5, c5, c5 // 2)
        )
        self.up4 = c2f(c5 + c4, c4, three, False)
        self.up3 = c2f(c4 + c3, c3, three, False)
        self.down3, self.merge4 = ConvAct(c3, c3, 3, 2), c2f(c3 + c4, c4, three, False)
        self.down4, self.merge5 = ConvAct(c4, c4, 3, 2), c2f(c4 + c5, c5, three, False)
        self.head = DecoupledHead((c3, c4, c5), image, classes)
