"""The builder makes what tracing the same torch module makes, and refuses what does not fit."""

import pytest

from predictor.builder import GraphBuilder
from predictor.errors import ModelError


def shape_of(make, shape=(2, 8, 16, 16)):
    b = GraphBuilder("g")
    return make(b, b.input(shape)).shape


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda b, x: b.conv(x, 4, 3), (2, 4, 14, 14)),
        (lambda b, x: b.conv(x, 4, 3, padding="same", stride=2), (2, 4, 8, 8)),
        (lambda b, x: b.conv(x, 4, (1, 3), padding=(0, 1)), (2, 4, 16, 16)),
        (lambda b, x: b.conv(x, 4, 3, dilation=3), (2, 4, 10, 10)),
        (lambda b, x: b.conv(x, 4, 4, stride=2, padding=1, transposed=True), (2, 4, 32, 32)),
        (lambda b, x: b.conv(x, 4, 3, stride=2, padding=1, output_padding=1, transposed=True),
         (2, 4, 32, 32)),
        (lambda b, x: b.pool(x, "max", 3, stride=2, padding=1), (2, 8, 8, 8)),
        (lambda b, x: b.pool(x, "max", 3, stride=2, ceil_mode=True), (2, 8, 8, 8)),
        (lambda b, x: b.pool(x, "avg", 5, stride=3, ceil_mode=True), (2, 8, 5, 5)),
        (lambda b, x: b.global_pool(x), (2, 8, 1, 1)),
        (lambda b, x: b.global_pool(x, flatten=True), (2, 8)),
        (lambda b, x: b.reshape(x, (2, -1, 4)), (2, 512, 4)),
        (lambda b, x: b.transpose(x, (0, 2, 3, 1)), (2, 16, 16, 8)),
        (lambda b, x: b.concat([x, x, x], -1), (2, 8, 16, 48)),
        (lambda b, x: b.split(x, [3, 5])[1], (2, 5, 16, 16)),
        (lambda b, x: b.matmul(x, b.transpose(x, (0, 1, 3, 2))), (2, 8, 16, 16)),
        (lambda b, x: b.linear(x, 3), (2, 8, 16, 3)),
        (lambda b, x: b.resize(x, (4, 4)), (2, 8, 4, 4)),
        (lambda b, x: b.add(x, b.global_pool(x)), (2, 8, 16, 16)),
    ],
)  # fmt: skip
def test_shapes(make, expected):
    assert shape_of(make) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.conv(x, 4, 30), lambda b, x: b.conv(x, 4, 3, groups=3),
        lambda b, x: b.conv(x, 0, 3), lambda b, x: b.conv(x, 4, 3, stride=0),
        lambda b, x: b.conv(x, 4, 3, padding="full"), lambda b, x: b.reshape(x, (7, -1)),
        lambda b, x: b.reshape(x, (3, 3)), lambda b, x: b.transpose(x, (0, 1, 1, 2)),
        lambda b, x: b.split(x, [3, 4])[0], lambda b, x: b.split(x, [0, 8])[0],
        lambda b, x: b.matmul(x, b.global_pool(x)), lambda b, x: b.pool(x, "max", 40),
        lambda b, x: b.concat([x, b.global_pool(x)]), lambda b, x: b.add(x, b.linear(x, 3)),
        lambda b, x: b.rnn(x, 4), lambda b, x: b.group_norm(x, 3), lambda b, x: b.linear(x, -1),
        lambda b, x: b.attention(x, b.linear(x, 3), x), lambda b, x: b.linear(x, 1 << 40),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(ModelError):
        shape_of(make)


def test_shared_weights_count_once():
    b = GraphBuilder("g")
    x = b.linear(b.linear(b.input((1, 8)), 8, share="s"), 8, share="s")
    graph = b.finish(x)
    assert graph.params == 8 * 8 + 8
    assert graph.macs == 128


def both():
    torch = pytest.importorskip("torch", reason="the comparison is with torch modules")
    nn = torch.nn
    return [
        (nn.Conv2d(8, 4, 3, stride=2, padding=1), lambda b, x: b.conv(x, 4, 3, stride=2, padding=1)),
        (nn.Conv2d(8, 8, 3, groups=8, bias=False),
         lambda b, x: b.conv(x, 8, 3, groups=8, bias=False)),
        (nn.ConvTranspose2d(8, 4, 4, 2, 1),
         lambda b, x: b.conv(x, 4, 4, stride=2, padding=1, transposed=True)),
        (nn.BatchNorm2d(8), lambda b, x: b.batch_norm(x)),
        (nn.GroupNorm(2, 8), lambda b, x: b.group_norm(x, 2)),
        (nn.LayerNorm(16), lambda b, x: b.layer_norm(x)),
        (nn.RMSNorm(16), lambda b, x: b.rms_norm(x)),
        (nn.Linear(16, 3), lambda b, x: b.linear(x, 3)),
        (nn.MaxPool2d(3, 2, 1), lambda b, x: b.pool(x, "max", 3, stride=2, padding=1)),
        (nn.MaxPool2d(3, 2, ceil_mode=True),
         lambda b, x: b.pool(x, "max", 3, stride=2, ceil_mode=True)),
        (nn.AvgPool2d(2), lambda b, x: b.pool(x, "avg", 2)),
        (nn.AdaptiveAvgPool2d(1), lambda b, x: b.global_pool(x)),
        (nn.Upsample(scale_factor=2, mode="nearest"), lambda b, x: b.resize(x, (32, 32))),
        (nn.Upsample(scale_factor=2, mode="bilinear"), lambda b, x: b.resize(x, (32, 32), "bilinear")),
        (nn.Softmax(-1), lambda b, x: b.softmax(x)),
        *((getattr(nn, cls)(), lambda b, x, fn=fn: b.activation(x, fn)) for cls, fn in (
            ("ReLU", "relu"), ("ReLU6", "relu6"), ("SiLU", "silu"), ("GELU", "gelu"),
            ("Sigmoid", "sigmoid"), ("Tanh", "tanh"), ("Hardswish", "hardswish"), ("ELU", "elu"),
            ("Hardsigmoid", "hardsigmoid"), ("LeakyReLU", "leaky_relu"), ("Mish", "mish"),
            ("Softplus", "softplus"))),
    ]  # fmt: skip


def test_equal_to_tracing():
    import predictor

    for module, make in both():
        traced = predictor.trace(module, (2, 8, 16, 16))
        b = GraphBuilder("g")
        built = b.finish(make(b, b.input((2, 8, 16, 16))))
        (op,) = built.ops
        ours = next(o for o in traced.ops if o.kind == op.kind)
        label = type(module).__name__
        assert ours.outputs[0] == op.outputs[0], label
        assert (traced.macs, traced.params) == (built.macs, built.params), label
        assert ours.elementwise_flops == op.elementwise_flops, label
        assert ours.read_bytes == op.read_bytes, label
        assert ours.parallelism == op.parallelism, label
        shared = set(ours.attrs) & set(op.attrs) - {"inplace"}
        assert {k: ours.attrs[k] for k in shared} == {k: op.attrs[k] for k in shared}, label


def test_recurrent_equal_to_tracing():
    torch = pytest.importorskip("torch", reason="the comparison is with torch modules")
    import predictor

    for mode in ("LSTM", "GRU", "RNN"):
        module = getattr(torch.nn, mode)(8, 12, 2, bidirectional=True, batch_first=True)
        traced = predictor.trace(module, (3, 5, 8))
        b = GraphBuilder("g")
        built = b.finish(
            b.rnn(b.input((3, 5, 8)), 12, mode=mode.lower(), layers=2, bidirectional=True)
        )
        assert (traced.macs, traced.params) == (built.macs, built.params)
        assert traced.elementwise_flops == built.elementwise_flops
