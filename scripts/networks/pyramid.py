"""The two-way feature pyramid of YOLOv8, v9 and v10; they differ in what fills its places."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


class TwoWayPyramid(nn.Module):
    """Three stages down, up twice, down twice, and a head over the three scales.

    A subclass sets ``to_p3``, ``to_p4``, ``to_p5`` (backbone stages), ``up4``, ``up3``, ``down3``,
    ``merge4``, ``down4``, ``merge5`` and ``head``, which takes the list of three feature maps and
    says what comes out.
    """

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """What the head returns for images (N, 3, H, W)."""
        p3 = self.to_p3(x)
        p4 = self.to_p4(p3)
        p5 = self.to_p5(p4)
        up4 = self.up4(torch.cat((interpolate(p5, scale_factor=2.0), p4), 1))
        out3 = self.up3(torch.cat((interpolate(up4, scale_factor=2.0), p3), 1))
        out4 = self.merge4(torch.cat((self.down3(out3), up4), 1))
        out5 = self.merge5(torch.cat((self.down4(out4), p5), 1))
        return self.head([out3, out4, out5])
