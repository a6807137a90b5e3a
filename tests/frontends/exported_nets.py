"""Small torch modules with counts worked out by hand, for the tests that export them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass
class Case:
    """A module, its inputs, and what it counts.

    ``folded`` are the parameters that an export folds away with batch norm.
    """

    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    macs: int
    params: int
    folded: int = 0


class Residual(nn.Module):
    """A convolution, a depthwise one, squeeze and excite, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.wise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.down, self.up = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = torch.relu(self.norm(self.stem(x)))
        y = self.wise(x)
        s = torch.sigmoid(self.up(torch.relu(self.down(y.mean((2, 3), keepdim=True)))))
        return self.head((x + y * s).mean((2, 3)))


class Block(nn.Module):
    """A transformer block."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (batch, tokens, width)."""
        b, t, c = x.shape
        q, k, v = (
            self.qkv(self.norm(x))
            .reshape(b, t, 3, self.heads, c // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(nn.functional.gelu(self.up(x)))


class Lstm(nn.Module):
    """Two bidirectional layers."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(10, 12, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (batch, steps, features)."""
        return self.rnn(x)[0]


class Decoder(nn.Module):
    """Transposed convolutions and an upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1)
        self.out = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (batch, 8, h, w)."""
        x = nn.functional.relu6(self.up(x))
        return self.out(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))


def nets() -> dict[str, Case]:
    """The cases, weights all different so that no export merges equal ones."""
    torch.manual_seed(0)
    t, w = 9, 32
    cases = {
        "residual": Case(
            Residual(), (torch.randn(2, 3, 16, 16),),
            2 * (16 * 64 * 27 + 16 * 64 * 9 + 16 * 4 * 2 + 160),
            432 + 32 + 160 + 68 + 80 + 170, folded=16,
        ),
        "block": Case(
            Block(), (torch.randn(2, t, w),),
            2 * (t * (3 * w * w + w * w + 8 * w * w) + 2 * t * t * w),
            2 * w + (3 * w * w + 3 * w) + (w * w + w) + (4 * w * w + 4 * w) + (4 * w * w + w),
        ),
        "lstm": Case(
            Lstm(), (torch.randn(2, 5, 10),),
            2 * 5 * 2 * 4 * 12 * ((10 + 12) + (24 + 12)),
            2 * 4 * 12 * ((10 + 12 + 2) + (24 + 12 + 2)),
        ),
        "decoder": Case(
            Decoder(), (torch.randn(1, 8, 5, 5),),
            25 * 8 * 6 * 16 + 20 * 20 * 3 * 6 * 9, 8 * 6 * 16 + 6 + 3 * 6 * 9 + 3,
        ),
    }  # fmt: skip
    for case in cases.values():
        case.module.eval()
        with torch.no_grad():
            for tensor in case.module.parameters():
                tensor.copy_(torch.randn_like(tensor) * 0.1)
    return cases


def state(module: nn.Module) -> dict[str, Any]:
    """Parameter sizes by name."""
    return {name: p.numel() for name, p in module.named_parameters()}
