"""The network of factory.yaml."""

from itertools import pairwise

from torch import nn


def build(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """Three convolutions and a classifier."""
    sizes = [3, *(int(channels * width) for channels in (32, 64, 128))]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(sizes[-1], classes)]
    return nn.Sequential(*layers)
