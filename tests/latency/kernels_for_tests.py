"""Kernels and hardware that the latency tests share."""

import numpy as np

from predictor.builder import GraphBuilder
from predictor.kernels.features import Features, featurize
from predictor.kernels.fusion import fuse
from predictor.latency.physical import Hardware

HARDWARE = Hardware(1e13, 1e12, 1e11, 4e6, 16.0, 1e9)


def network(width=32, depth=4, size=56):
    """Convolutions of several kinds, a linear head, element-wise work."""
    b = GraphBuilder("network")
    x = b.activation(
        b.batch_norm(b.conv(b.input((1, 3, size, size)), width, 3, stride=2, padding=1))
    )
    for i in range(depth):
        y = b.activation(b.batch_norm(b.conv(x, 2 * width, 1)), "silu")
        y = b.activation(
            b.batch_norm(b.conv(y, 2 * width, 3, padding=1, groups=2 * width)), "relu6"
        )
        y = b.batch_norm(b.conv(y, width, 1))
        x = b.add(x, y)
        if i % 2:
            x = b.pool(b.conv(x, width, 3, padding=1), "max", 2)
    x = b.global_pool(x, flatten=True)
    return b.finish(b.softmax(b.linear(x, 1000)))


def kernels(runtime="tensorrt", **settings):
    return fuse(network(**settings), runtime)


def features(runtime="tensorrt", **settings) -> Features:
    return featurize(kernels(runtime, **settings))


def columns(hardware, count):
    return {name: np.full(count, getattr(hardware, name)) for name in Hardware.__slots__}
