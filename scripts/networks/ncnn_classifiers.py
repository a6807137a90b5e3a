"""Image classifiers of ncnn's benchmark, from their papers and in the sizes of the benchmark.

Each function takes the side of the square image in pixels and gives the graph at batch 1.
"""

from __future__ import annotations

from predictor.builder import Value
from predictor.graph import Graph
from scripts.networks.ncnn_blocks import Net

FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""Squeeze and expand widths of SqueezeNet 1.1."""
MOBILENET = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5,
             (1024, 2), (1024, 1))  # fmt: skip
"""Width and stride of MobileNet's separable convolutions."""
MOBILENET_V2 = ((6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                (6, 320, 1, 1))  # fmt: skip
"""Expansion, width, blocks and first stride of MobileNetV2's stages after the first."""


def start(name: str, side: int) -> tuple[Net, Value]:
    """A builder and its image."""
    net = Net(name)
    return net, net.input((1, 3, side, side), name="image")


def alexnet(side: int) -> Graph:
    """AlexNet as Caffe trained it: grouped convolutions, local response norm."""
    net, x = start("alexnet", side)
    for width, kernel, stride, pad, groups in ((96, 11, 4, 0, 1), (256, 5, 1, 2, 2)):
        x = net.cba(x, width, kernel, stride, pad=pad, groups=groups)
        x = net.op("norm", [x], [x.shape], attrs={"type": "lrn", "size": 5})[0]
        x = net.pool(x, "max", 3, stride=2, ceil_mode=True)
    for width, groups in ((384, 1), (384, 2), (256, 2)):
        x = net.cba(x, width, 3, groups=groups)
    x = net.pool(x, "max", 3, stride=2, ceil_mode=True)
    return _hidden_layers(net, x)


def vgg16(side: int) -> Graph:
    """VGG-16."""
    net, x = start("vgg16", side)
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            x = net.cba(x, width, 3)
        x = net.pool(x, "max", 2)
    return _hidden_layers(net, x)


def _hidden_layers(net: Net, x: Value) -> Graph:
    x = net.reshape(x, (1, -1))
    for _ in range(2):
        x = net.activation(net.linear(x, 4096), "relu")
    return net.finish(net.softmax(net.linear(x, 1000)))


def squeezenet(side: int) -> Graph:
    """SqueezeNet 1.1; its last convolution is padded in the benchmark's file."""
    net, x = start("squeezenet", side)
    x = net.pool(net.cba(x, 64, 3, 2, pad=0), "max", 3, stride=2, ceil_mode=True)
    for index, (squeeze, expand) in enumerate(FIRES):
        if index in (2, 4):
            x = net.pool(x, "max", 3, stride=2, ceil_mode=True)
        x = net.fire(x, squeeze, expand)
    x = net.cba(x, 1000, 1, pad=1)
    return net.finish(net.softmax(net.global_pool(x, flatten=True)))


def googlenet(side: int) -> Graph:
    """GoogLeNet of Caffe, without batch norm."""
    from scripts.networks.googlenet import STAGES

    def local_norm(x: Value) -> Value:
        return net.op("norm", [x], [x.shape], attrs={"type": "lrn", "size": 5})[0]

    net, x = start("googlenet", side)
    x = local_norm(net.pool(net.cba(x, 64, 7, 2), "max", 3, stride=2, ceil_mode=True))
    x = local_norm(net.cba(net.cba(x, 64), 192, 3))
    for blocks in STAGES:
        x = net.pool(x, "max", 3, stride=2, ceil_mode=True)
        for one, reduce3, three, reduce5, five, pooled in blocks:
            x = net.concat([
                net.cba(x, one), net.cba(net.cba(x, reduce3), three, 3),
                net.cba(net.cba(x, reduce5), five, 5),
                net.cba(net.pool(x, "max", 3, stride=1, padding=1), pooled),
            ])  # fmt: skip
    return net.finish(net.classify(x))


def resnet18(side: int) -> Graph:
    """ResNet-18 with a projection in the first stage too, as in the benchmark's file."""
    net, x = _resnet_stem("resnet18", side)
    for width, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for index in range(2):
            stride = first if index == 0 else 1
            kept = net.cba(x, width, 1, stride, act="") if index == 0 else x
            y = net.cba(net.cba(x, width, 3, stride), width, 3, act="")
            x = net.activation(net.add(kept, y), "relu")
    return net.finish(net.classify(x))


def resnet50(side: int) -> Graph:
    """ResNet-50 of the paper: the stride is in a stage's first 1x1 convolution."""
    net, x = _resnet_stem("resnet50", side)
    for width, depth, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(depth):
            stride = first if index == 0 else 1
            kept = net.cba(x, 4 * width, 1, stride, act="") if index == 0 else x
            y = net.cba(net.cba(x, width, 1, stride), width, 3)
            x = net.activation(net.add(kept, net.cba(y, 4 * width, act="")), "relu")
    return net.finish(net.classify(x))


def _resnet_stem(name: str, side: int) -> tuple[Net, Value]:
    net, x = start(name, side)
    return net, net.pool(net.cba(x, 64, 7, 2), "max", 3, stride=2, ceil_mode=True)


def mobilenet(side: int) -> Graph:
    """MobileNet, width 1."""
    net, x = start("mobilenet", side)
    x = net.cba(x, 32, 3, 2)
    for width, stride in MOBILENET:
        x = net.separable(x, width, stride)
    return net.finish(net.classify(x))


def mobilenet_v2_body(net: Net, x: Value) -> tuple[Value, Value]:
    """The blocks of MobileNetV2 after the first, and what the first block at 1/32 expands to."""
    tapped = x
    for expansion, width, depth, first in MOBILENET_V2:
        for index in range(depth):
            if width == 160 and index == 0:
                tapped = net.cba(x, expansion * x.shape[1])
                x = net.cba(net.dw(tapped, 3, first), width, act="")
                continue
            x = net.inverted(x, width, expansion * x.shape[1], 3, first if index == 0 else 1)
    return x, tapped


def mobilenet_v2(side: int) -> Graph:
    """MobileNetV2, width 1, with the first block's 1x1 expansion of 32 channels to 32."""
    net, x = start("mobilenet_v2", side)
    x = net.cba(net.dw(net.cba(net.cba(x, 32, 3, 2), 32)), 16, act="")
    x, _ = mobilenet_v2_body(net, x)
    return net.finish(net.classify(net.cba(x, 1280)))


def mobilenet_v3(side: int) -> Graph:
    """MobileNetV3-Large; gates of a quarter of the expanded width, hard-swish on its own."""
    net, x = start("mobilenet_v3", side)
    x = net.cba(x, 16, 3, 2, act="hardswish")
    x = net.add(x, net.cba(net.dw(x), 16, act=""))
    blocks = (
        (3, 64, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 1, 2), (5, 120, 40, 1, 1),
        (5, 120, 40, 1, 1), (3, 240, 80, 0, 2), (3, 200, 80, 0, 1), (3, 184, 80, 0, 1),
        (3, 184, 80, 0, 1), (3, 480, 112, 1, 1), (3, 672, 112, 1, 1), (5, 672, 160, 1, 1),
        (5, 672, 160, 1, 2), (5, 960, 160, 1, 1),
    )  # fmt: skip
    for index, (kernel, expanded, width, gated, stride) in enumerate(blocks):
        act = "relu" if index < 5 else "hardswish"
        x = net.inverted(x, width, expanded, kernel, stride, act=act, se=gated * expanded // 4,
                         gate="hardsigmoid", act_last=True)  # fmt: skip
    x = net.activation(net.global_pool(net.cba(x, 960, act="hardswish"), flatten=True), "hardswish")
    x = net.activation(net.linear(x, 1280), "hardswish")
    return net.finish(net.softmax(net.linear(x, 1000)))


def shufflenet(side: int) -> Graph:
    """ShuffleNet, width 1, three groups; the first unit neither groups nor shuffles."""
    net, x = start("shufflenet", side)
    x = net.pool(net.cba(x, 24, 3, 2), "max", 3, stride=2, ceil_mode=True)
    for width, depth in ((240, 3), (480, 7), (960, 3)):
        hidden, lone = width // 4, x.shape[1] == 24
        kept = net.pool(x, "avg", 3, stride=2, ceil_mode=True)
        y = net.cba(x, 54 if lone else hidden, groups=1 if lone else 3)
        y = net.dw(y if lone else net.shuffle(y, 3), 3, 2, act="")
        y = net.cba(y, width - x.shape[1], groups=3, act="")
        x = net.activation(net.concat([kept, y]), "relu")
        for _ in range(depth):
            y = net.shuffle(net.cba(x, hidden, groups=3), 3)
            y = net.cba(net.dw(y, act=""), width, groups=3, act="")
            x = net.activation(net.add(x, y), "relu")
    return net.finish(net.classify(x))


def shufflenet_v2(side: int) -> Graph:
    """ShuffleNetV2, width 1."""
    net, x = start("shufflenet_v2", side)
    x = net.pool(net.cba(x, 24, 3, 2), "max", 3, stride=2, ceil_mode=True)
    for width, depth in ((116, 4), (232, 8), (464, 4)):
        for index in range(depth):
            x = net.shuffle(net.shuffle_unit(x, width, 2 if index == 0 else 1), 2)
    return net.finish(net.classify(net.cba(x, 1024)))


def mnasnet(side: int) -> Graph:
    """MnasNet-B1."""
    stages = ((3, 3, 24, 3, 2), (5, 3, 40, 3, 2), (5, 6, 80, 3, 2), (3, 6, 96, 2, 1),
              (5, 6, 192, 4, 2), (3, 6, 320, 1, 1))  # fmt: skip
    net, x = start("mnasnet", side)
    x = net.cba(net.dw(net.cba(x, 32, 3, 2)), 16, act="")
    for kernel, expansion, width, depth, first in stages:
        for index in range(depth):
            stride = first if index == 0 else 1
            x = net.inverted(x, width, expansion * x.shape[1], kernel, stride)
    return net.finish(net.classify(net.cba(x, 1280)))


def proxylessnasnet(side: int) -> Graph:
    """ProxylessNAS for mobile phones; the benchmark's first block ends with 32 channels."""
    blocks = (
        (5, 48, 32, 2), (3, 96, 32, 1), (7, 96, 40, 2), (3, 120, 40, 1), (5, 120, 40, 1),
        (5, 120, 40, 1), (7, 240, 80, 2), (5, 240, 80, 1), (5, 240, 80, 1), (5, 240, 80, 1),
        (5, 480, 96, 1), (5, 288, 96, 1), (5, 288, 96, 1), (5, 288, 96, 1), (7, 576, 192, 2),
        (7, 1152, 192, 1), (7, 576, 192, 1), (7, 576, 192, 1), (7, 1152, 320, 1),
    )  # fmt: skip
    net, x = start("proxylessnasnet", side)
    x = net.cba(net.dw(net.cba(x, 32, 3, 2)), 32, act="")
    for kernel, expanded, width, stride in blocks:
        x = net.inverted(x, width, expanded, kernel, stride)
    return net.finish(net.classify(net.cba(x, 1280)))


def efficientnet_b0(side: int) -> Graph:
    """EfficientNet-B0; its swish is a layer of its own."""
    stages = ((3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (5, 6, 40, 2, 2), (3, 6, 80, 3, 2),
              (5, 6, 112, 3, 1), (5, 6, 192, 4, 2), (3, 6, 320, 1, 1))  # fmt: skip
    net, x = start("efficientnet_b0", side)
    x = net.cba(x, 32, 3, 2, act="silu")
    for kernel, expansion, width, depth, first in stages:
        for index in range(depth):
            inputs = x.shape[1]
            x = net.inverted(x, width, expansion * inputs, kernel, first if index == 0 else 1,
                             act="silu", se=inputs // 4, gate_act="silu")  # fmt: skip
    return net.finish(net.classify(net.cba(x, 1280, act="silu")))


def efficientnetv2_b0(side: int) -> Graph:
    """EfficientNetV2-B0; a residual block adds its last bias after the sum."""
    net, x = start("efficientnetv2_b0", side)
    x = net.cba(net.cba(x, 32, 3, 2, act="silu"), 16, 3, act="silu")
    for width, depth in ((32, 2), (48, 2)):
        for index in range(depth):
            y = net.cba(x, 4 * x.shape[1], 3, 2 if index == 0 else 1, act="silu")
            x = _late_bias(net, x, net.conv(y, width, 1, bias=index == 0))
    for width, expansion, depth, first in ((96, 4, 3, 2), (112, 6, 5, 1), (192, 6, 8, 2)):
        for index in range(depth):
            inputs = x.shape[1]
            y = net.cba(x, expansion * inputs, act="silu")
            y = net.dw(y, 3, first if index == 0 else 1, act="silu")
            y = net.gate(y, inputs // 4, "silu")
            x = _late_bias(net, x, net.conv(y, width, 1, bias=index == 0))
    x = net.global_pool(net.cba(x, 1280, act="silu"), flatten=True)
    return net.finish(net.linear(x, 1000))


def _late_bias(net: Net, x: Value, y: Value) -> Value:
    """x + y and a bias a channel, where the sizes allow the sum; y alone otherwise."""
    if x.shape != y.shape:
        return y
    total = net.add(x, y)
    return net.op("elementwise", [total], [total.shape], attrs={"fn": "add"},
                  weights=[("bias", (total.shape[1],), "parameter")])[0]  # fmt: skip


def regnety_400m(side: int) -> Graph:
    """RegNetY-400MF: groups of 8 channels, gates of a quarter of a block's input."""
    net, x = start("regnety_400m", side)
    x = net.cba(x, 32, 3, 2)
    for width, depth in ((48, 1), (104, 3), (208, 6), (440, 6)):
        for index in range(depth):
            inputs, stride = x.shape[1], 2 if index == 0 else 1
            kept = net.cba(x, width, 1, 2, act="", pad=0) if index == 0 else x
            y = net.cba(net.cba(x, width), width, 3, stride, groups=width // 8)
            y = net.cba(net.gate(y, inputs // 4), width, act="")
            x = net.activation(net.add(kept, y), "relu")
    return net.finish(net.linear(net.global_pool(x, flatten=True), 1000))


def vision_transformer(side: int) -> Graph:
    """ViT-B/32: 12 blocks of width 768 with 12 heads."""
    width, heads, patch = 768, 12, 32
    net, x = start("vision_transformer", side)
    x = net.conv(x, width, patch, stride=patch)
    x = net.transpose(net.reshape(x, (1, width, -1)), (0, 2, 1))
    tokens = x.shape[1] + 1
    x = net.op("copy", [x], [(1, tokens, width)], attrs={"fn": "concat"},
               weights=[("class", (1, width), "parameter")])[0]  # fmt: skip
    x = net.op("elementwise", [x], [x.shape], attrs={"fn": "add"},
               weights=[("position", (tokens, width), "parameter")])[0]  # fmt: skip
    for _ in range(12):
        y = net.layer_norm(x)
        q, k, v = (
            net.transpose(net.reshape(net.linear(y, width), (1, tokens, heads, -1)), (0, 2, 1, 3))
            for _ in range(3)
        )
        y = net.transpose(net.attention(q, k, v), (0, 2, 1, 3))
        x = net.add(x, net.linear(net.reshape(y, x.shape), width))
        y = net.activation(net.linear(net.layer_norm(x), 4 * width), "gelu")
        x = net.add(x, net.linear(y, width))
    first = net.split(net.layer_norm(x), [1, tokens - 1], 1)[0]
    return net.finish(net.softmax(net.linear(first, 1000)))
