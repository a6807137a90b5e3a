"""A search space as a Python class: parameters, the input's shape, and the module of a choice.

Written without a ``chain``, its networks are traced one by one: any module will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from predictor.search.space import SearchSpace

CHOICES: dict[str, tuple[int | str, ...]] = {
    "resolution": (64, 96, 128),
    "width": (16, 24, 32),
    "depth": (2, 3, 4),
    "pool": ("max", "avg"),
}


class Tower(nn.Module):
    """Convolutions that halve the image, and a linear layer."""

    def __init__(self, width: int, depth: int, pool: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for step in range(depth):
            out = width * 2**step
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2))
            channels = out
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, side, side) to scores (N, 10)."""
        scores: torch.Tensor = self.classifier(self.features(x).mean((2, 3)))
        return scores


class Towers(SearchSpace):
    """``width`` channels in the first of ``depth`` convolutions, twice as many in each next."""

    name = "towers"
    parameters = CHOICES

    def input_shape(self, values: Mapping[str, Any]) -> tuple[int, ...]:
        """RGB images."""
        return (3, values["resolution"], values["resolution"])

    def module(self, values: Mapping[str, Any]) -> nn.Module:
        """The tower of a choice."""
        return Tower(values["width"], values["depth"], values["pool"])
