"""Features: classes and columns by hand, one row a kernel."""

import dataclasses

import numpy as np
import pytest

from predictor.builder import GraphBuilder
from predictor.kernels.features import CLASSES, Features, class_of, featurize
from predictor.kernels.fusion import fuse
from predictor.kernels.roofline import roofline_ms


def single(make, shape=(2, 16, 8, 8)):
    b = GraphBuilder("one")
    graph = b.finish(make(b, b.input(shape)))
    return fuse(graph, "eager")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda b, x: b.conv(x, 8, 3), "conv"), (lambda b, x: b.conv(x, 8, 1), "pointwise"),
        (lambda b, x: b.conv(x, 16, 3, groups=16), "depthwise"),
        (lambda b, x: b.conv(x, 32, 3, groups=16), "depthwise"),
        (lambda b, x: b.conv(x, 16, 3, groups=4), "grouped"),
        (lambda b, x: b.linear(x, 4), "linear"), (lambda b, x: b.matmul(x, x), "matmul"),
        (lambda b, x: b.attention(x, x, x), "attention"), (lambda b, x: b.softmax(x), "softmax"),
        (lambda b, x: b.batch_norm(x), "norm"), (lambda b, x: b.pool(x, "max", 2), "pool"),
        (lambda b, x: b.activation(x), "elementwise"), (lambda b, x: b.add(x, x), "elementwise"),
        (lambda b, x: b.concat([x, x]), "copy"), (lambda b, x: b.resize(x, (16, 16)), "resize"),
        (lambda b, x: b.op("unknown:thing", [x], [x.shape])[0], "other"),
    ],
)  # fmt: skip
def test_classes(make, name):
    (kernel,) = single(make)
    assert class_of(kernel) == name
    assert CLASSES[featurize([kernel]).cls[0]] == name


def test_columns_of_a_convolution_by_hand():
    f = featurize(single(lambda b, x: b.conv(x, 32, 3, stride=2, padding=1, groups=4)))
    assert f.macs[0] == 2 * 32 * 16 * 4 * 9
    assert (f.groups[0], f.m[0], f.n[0], f.k[0]) == (4, 2 * 16, 8, 36)
    assert (f.taps[0], f.stride[0], f.winograd[0], f.launches[0]) == (9, 2, 0, 1)
    assert f.outputs[0] == 2 * 32 * 16
    assert f.weight_bytes[0] == 4 * (32 * 4 * 9 + 32)
    assert f.read_bytes[0] == 4 * 2 * 16 * 64 + f.weight_bytes[0]
    assert f.groups[0] * f.m[0] * f.n[0] * f.k[0] == f.macs[0]


def test_columns_of_a_linear_layer_by_hand():
    f = featurize(single(lambda b, x: b.linear(x, 5), (2, 7, 16)))
    assert (f.groups[0], f.m[0], f.n[0], f.k[0]) == (1, 14, 5, 16)
    assert f.macs[0] == 14 * 5 * 16


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 1),
        ({"stride": 2}, 0),
        ({"groups": 2}, 0),
        ({"dilation": 2}, 0),
        ({"transposed": True}, 0),
    ],
)
def test_winograd_is_for_dense_3x3_of_stride_1(options, expected):
    f = featurize(single(lambda b, x: b.conv(x, 16, 3, padding=1, **options)))
    assert f.winograd[0] == expected


def test_a_transposed_convolution_is_the_same_product_turned_round():
    f = featurize(single(lambda b, x: b.conv(x, 6, 4, stride=2, padding=1, transposed=True)))
    assert f.groups[0] * f.m[0] * f.n[0] * f.k[0] == f.macs[0]


def test_take_and_join():
    f = featurize(single(lambda b, x: b.add(b.conv(x, 16, 1), x)))
    both = Features.join([f.take(np.array([1])), f.take(np.array([0]))])
    for field in dataclasses.fields(Features):
        np.testing.assert_array_equal(getattr(both, field.name), getattr(f, field.name)[::-1])
    assert len(featurize([])) == 0


def test_roofline_by_hand():
    f = featurize(single(lambda b, x: b.linear(x, 5), (2, 7, 16)))
    slow_memory = roofline_ms(f, peak_flops=1e15, vector_flops=1e15, bandwidth=1e6)
    assert slow_memory[0] == pytest.approx(1e3 * f.bytes[0] / 1e6)
    slow_compute = roofline_ms(f, peak_flops=1e6, vector_flops=1e15, bandwidth=1e15)
    assert slow_compute[0] == pytest.approx(1e3 * 2 * 14 * 5 * 16 / 1e6)
