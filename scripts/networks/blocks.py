"""Building blocks that several detection networks share, in the form a deployed graph has.

Batch norm is folded into the convolution before it (so every convolution carries a bias), and
branches that training keeps apart and export adds up are one convolution here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def rounded(channels: float, to: int = 8) -> int:
    """Channels rounded up to a multiple of ``to``, as width-scaled networks do."""
    return math.ceil(channels / to) * to


class ConvAct(nn.Sequential):
    """Convolution with folded batch norm, "same" padding for odd kernels, and an activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: type[nn.Module] | None = nn.SiLU,
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        super().__init__(conv, *([] if act is None else [act()]))


class LeakyReLU01(nn.LeakyReLU):
    """LeakyReLU with the slope 0.1."""

    def __init__(self) -> None:
        super().__init__(0.1)


class Residual(nn.Module):
    """Adds its input to what the body makes of it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        return x + self.body(x)


class C2f(nn.Module):
    """Cross-stage block of YOLOv8: split in two, a chain of cells, every cell's output kept."""

    def __init__(self, inputs: int, outputs: int, cells: Sequence[nn.Module]) -> None:
        super().__init__()
        half = outputs // 2
        self.enter = ConvAct(inputs, 2 * half)
        self.cells = nn.ModuleList(cells)
        self.leave = ConvAct((2 + len(cells)) * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        parts = list(self.enter(x).chunk(2, 1))
        for cell in self.cells:
            parts.append(cell(parts[-1]))
        return self.leave(torch.cat(parts, 1))


def bottleneck(width: int, shortcut: bool) -> nn.Module:
    """Two 3x3 convolutions of one width, with or without a shortcut around them."""
    body = nn.Sequential(ConvAct(width, width, 3), ConvAct(width, width, 3))
    return Residual(body) if shortcut else body


def c2f(inputs: int, outputs: int, depth: int, shortcut: bool) -> C2f:
    """:class:`C2f` of plain bottlenecks."""
    return C2f(inputs, outputs, [bottleneck(outputs // 2, shortcut) for _ in range(depth)])


class ChainedPools(nn.Module):
    """Spatial pyramid: 1x1, three 5x5 max pools one after the other, all four merged by a 1x1."""

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.enter = ConvAct(inputs, hidden)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.leave = ConvAct(4 * hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class ParallelPools(nn.Module):
    """Stride-1 max pools of several sizes side by side, concatenated with their input."""

    def __init__(self, kernels: Sequence[int]) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in kernels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C * (1 + pools), H, W)."""
        return torch.cat([x, *(pool(x) for pool in self.pools)], 1)


class DistributionDecode(nn.Module):
    """Turns box distributions and class logits of all levels into boxes and scores.

    Each box side is the expectation over ``bins`` softmax bins, in units of the level's stride,
    counted from the cell's centre. ``corners`` gives (x1, y1, x2, y2), else centre and size.
    """

    BINS = 16
    centres: Tensor
    scale: Tensor

    def __init__(
        self, image: tuple[int, int], strides: Sequence[int], classes: int, corners: bool
    ) -> None:
        super().__init__()
        self.classes, self.corners = classes, corners
        self.expect = nn.Conv2d(self.BINS, 1, 1, bias=False).requires_grad_(False)
        cells = sum((image[0] // s) * (image[1] // s) for s in strides)
        self.register_buffer("centres", torch.empty(1, 2, cells))
        self.register_buffer("scale", torch.empty(1, 1, cells))

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Level maps (N, 4 * bins + classes, H, W) to boxes (N, 4, M) and scores (N, C, M)."""
        flat = torch.cat([level.flatten(2) for level in levels], 2)
        sides, logits = torch.split(flat, [4 * self.BINS, self.classes], 1)
        bins = sides.view(sides.shape[0], 4, self.BINS, -1).transpose(1, 2).softmax(1)
        first, second = self.expect(bins).view(sides.shape[0], 4, -1).chunk(2, 1)
        low, high = self.centres - first, self.centres + second
        pair = (low, high) if self.corners else ((low + high) / 2, high - low)
        return torch.cat(pair, 1) * self.scale, logits.sigmoid()
