"""Detectors of ncnn's benchmark, from their authors' definitions and in the benchmark's sizes.

Each function takes the side of the square image in pixels and gives the graph at batch 1. Prior
boxes depend on sizes only and are left out; the detection layer is one operator.
"""

from __future__ import annotations

from predictor.builder import Value
from predictor.graph import Graph
from scripts.networks.ncnn_blocks import Net
from scripts.networks.ncnn_classifiers import FIRES, MOBILENET, mobilenet_v2_body, start

LEAKY = "leaky_relu"


def _ssd_heads(net: Net, maps: list[tuple[Value, int]], kernel: int, classes: int = 21) -> Value:
    """Boxes and scores of single-shot detection for (map, boxes a cell), joined and sorted."""
    flat: dict[int, list[Value]] = {4: [], classes: []}
    count = 0
    for x, boxes in maps:
        for outputs, parts in flat.items():
            y = net.conv(x, boxes * outputs, kernel, padding=kernel // 2)
            parts.append(net.reshape(net.transpose(y, (0, 2, 3, 1)), (1, -1)))
        count += boxes * x.shape[2] * x.shape[3]
    places = net.concat(flat[4])
    scores = net.softmax(net.reshape(net.concat(flat[classes]), (1, -1, classes)))
    return net.boxes([places, scores], count)


def mobilenet_ssd(side: int) -> Graph:
    """MobileNet-SSD for 20 classes."""
    net, x = start("mobilenet_ssd", side)
    x = net.cba(x, 32, 3, 2)
    maps: list[tuple[Value, int]] = []
    for index, (width, stride) in enumerate(MOBILENET):
        x = net.separable(x, width, stride)
        if index == 10:
            maps.append((x, 3))
    maps.append((x, 6))
    for hidden, width in ((256, 512), (128, 256), (128, 256), (64, 128)):
        x = net.cba(net.cba(x, hidden), width, 3, 2)
        maps.append((x, 6))
    return net.finish(_ssd_heads(net, maps, 1))


def squeezenet_ssd(side: int) -> Graph:
    """SqueezeNet-SSD for 20 classes: SqueezeNet 1.1 and two wider fire modules."""
    net, x = start("squeezenet_ssd", side)
    x = net.pool(net.cba(x, 64, 3, 2, pad=0), "max", 3, stride=2, ceil_mode=True)
    maps: list[tuple[Value, int]] = []
    for index, (squeeze, expand) in enumerate((*FIRES, (96, 384), (96, 384))):
        if index in (2, 4, 8, 9):
            x = net.pool(x, "max", 3, stride=2, ceil_mode=True)
        x = net.fire(x, squeeze, expand)
        if index == 3:
            maps.append((net.batch_norm(x), 4))
        if index >= 7:
            maps.append((x, 6))
    x = net.cba(net.cba(x, 128), 256, 3, 2)
    maps.append((x, 6))
    x = net.cba(net.cba(x, 64), 128, 3, 2)
    maps.append((x, 4))
    return net.finish(_ssd_heads(net, maps, 3))


def mobilenet_yolo(side: int) -> Graph:
    """MobileNet-YOLO for 20 classes: two maps of five boxes."""
    net, x = start("mobilenet_yolo", side)
    x = net.cba(x, 32, 3, 2)
    for width, stride in MOBILENET:
        x = net.separable(x, width, stride)
    x = net.cba(net.cba(x, 256), 1024, 3)
    # The upsampling is a transposed convolution of 256 groups.
    y = net.conv(x, 256, 4, stride=2, padding=1, groups=256, bias=False, transposed=True)
    y = net.cba(net.cba(net.cba(y, 1024, 3), 256), 1024, 3)
    outputs = [net.conv(x, 125, 1), net.conv(y, 125, 1)]
    return net.finish(net.boxes(outputs, _cells(outputs, 5)))


def mobilenetv2_yolov3(side: int) -> Graph:
    """MobileNetV2-YOLOv3 for 20 classes: two maps of three boxes."""
    net, x = start("mobilenetv2_yolov3", side)
    x = net.cba(net.dw(net.cba(x, 32, 3, 2)), 16, act="")
    x, tapped = mobilenet_v2_body(net, x)
    x = net.separable(net.cba(x, 1280), 576)
    up = net.conv(x, 576, 1, stride=2, groups=576, bias=False, transposed=True)
    up = net.pool(net.padded(up, rows=2), "max", 2, stride=1)  # zeros between the values
    y = net.separable(net.add(up, net.separable(tapped, 576)), 576)
    outputs = [net.conv(x, 75, 1), net.conv(y, 75, 1)]
    return net.finish(net.boxes(outputs, _cells(outputs, 3)))


def _cells(outputs: list[Value], boxes: int) -> int:
    return boxes * sum(y.shape[2] * y.shape[3] for y in outputs)


def yolov4_tiny(side: int) -> Graph:
    """YOLOv4-tiny for 80 classes."""

    def conv(x: Value, width: int, kernel: int = 1, stride: int = 1) -> Value:
        return net.cba(x, width, kernel, stride, act=LEAKY)

    net, x = start("yolov4-tiny", side)
    x = conv(conv(x, 32, 3, 2), 64, 3, 2)
    for width in (64, 128, 256):
        whole = conv(x, width, 3)
        first = conv(net.halves(whole)[1], width // 2, 3)
        second = conv(first, width // 2, 3)
        tapped = conv(net.concat([second, first]), width)
        x = net.pool(net.concat([whole, tapped]), "max", 2)
    x = conv(conv(x, 512, 3), 256)
    up = net.resize(conv(x, 128), (2 * x.shape[2], 2 * x.shape[3]))
    y = conv(net.concat([up, tapped]), 256, 3)
    outputs = [net.conv(conv(x, 512, 3), 255, 1), net.conv(y, 255, 1)]
    return net.finish(net.boxes(outputs, _cells(outputs, 3)))


def yolo_fastest(side: int) -> Graph:
    """YOLO-Fastest 1.1 for 80 classes."""
    # Hidden width, width, residual blocks, and the hidden width and stride of what leads on.
    stages = ((8, 4, 1, 24, 2), (32, 8, 2, 32, 2), (48, 8, 2, 48, 1), (96, 16, 4, 96, 2),
              (136, 24, 4, 136, 2), (224, 48, 5, 0, 0))  # fmt: skip

    def down(x: Value, hidden: int, width: int, stride: int) -> Value:
        y = net.dw(net.cba(x, hidden, act=LEAKY), 3, stride, act=LEAKY)
        return net.cba(y, width, act="")

    def head(x: Value) -> Value:
        for _ in range(2):
            x = net.cba(net.dw(x, 5, act=LEAKY), x.shape[1], act="")
        return net.conv(x, 255, 1)

    net, x = start("yolo-fastest-1.1", side)
    x = fine = down(net.cba(x, 8, 3, 2, act=LEAKY), 8, 4, 1)
    for index, (hidden, width, depth, leading, stride) in enumerate(stages):
        for _ in range(depth):
            x = net.add(down(x, hidden, width, 1), x)
        if leading:
            fine = x
            x = down(x, leading, stages[index + 1][1], stride)
    pools = [net.pool(x, "max", k, stride=1, padding=k // 2) for k in (9, 5, 3)]
    x = net.cba(net.concat([*pools, x]), 96, act=LEAKY)
    up = net.resize(x, (2 * x.shape[2], 2 * x.shape[3]))
    outputs = [head(x), head(net.concat([up, fine]))]
    return net.finish(net.boxes(outputs, _cells(outputs, 3)))


def yolo_fastest_v2(side: int) -> Graph:
    """YOLO-FastestV2 for 80 classes: a thin ShuffleNetV2 and heads that levels share."""

    def branch(x: Value) -> Value:
        for _ in range(2):
            x = net.cba(net.dw(x, 5), 72, act="")
        return x

    net, x = start("yolo-fastestv2", side)
    maps = _thin_shufflenet(net, x)
    x = net.cba(maps[2], 72)
    up = net.resize(maps[2], maps[1].shape[2:])
    fine = net.cba(net.concat([up, maps[1]]), 72)
    outputs = []
    for level in (fine, x):
        cls, box = branch(level), branch(level)
        scores = net.transpose(net.conv(cls, 80, 1), (0, 2, 3, 1))
        scores = net.transpose(net.softmax(scores), (0, 3, 1, 2))
        boxes = net.activation(net.conv(box, 12, 1), "sigmoid")
        object_ = net.activation(net.conv(cls, 3, 1), "sigmoid")
        joined = net.concat([boxes, object_, scores])
        outputs.append(net.transpose(joined, (0, 2, 3, 1)))
    return net.finish(*outputs)


def _thin_shufflenet(net: Net, x: Value) -> list[Value]:
    x = net.pool(net.cba(x, 24, 3, 2), "max", 3, stride=2, padding=1)
    maps = []
    for width, depth in ((48, 4), (96, 8), (192, 4)):
        for index in range(depth):
            x = net.shuffle_unit(net.shuffle(x, 2) if index else x, width, 1 if index else 2)
        maps.append(x)
    return maps


def fastest_det(side: int) -> Graph:
    """FastestDet for 80 classes: one map, three branches of depthwise convolutions side by side."""
    net, x = start("FastestDet", side)
    maps = _thin_shufflenet(net, x)
    down = net.pool(maps[0], "avg", 3, stride=2, padding=1)
    x = net.cba(net.concat([down, maps[1], net.resize(maps[2], maps[1].shape[2:])]), 96)
    branches = []
    for depth in (1, 2, 3):
        y = x
        for _ in range(depth):
            y = net.dw(y, 5)
        branches.append(y)
    x = net.activation(net.add(x, net.conv(net.concat(branches), 96, 1)), "relu")
    x = net.cba(x, 96)
    scores = net.softmax(net.conv(net.dw(x, 5), 80, 1))
    boxes = net.conv(net.dw(x, 5), 4, 1)
    object_ = net.activation(net.conv(net.dw(x, 5), 1, 1), "sigmoid")
    return net.finish(net.concat([object_, boxes, scores]))


def nanodet_m(side: int) -> Graph:
    """NanoDet-m for 80 classes: ShuffleNetV2 with leaky ReLU, two ways of adding levels."""
    net, x = start("nanodet_m", side)
    x = net.pool(net.cba(x, 24, 3, 2, act=LEAKY), "max", 3, stride=2, padding=1)
    maps = []
    for width, depth in ((116, 4), (232, 8), (464, 4)):
        for index in range(depth):
            x = net.shuffle(net.shuffle_unit(x, width, 1 if index else 2, act=LEAKY), 2)
        maps.append(x)
    p3, p4, p5 = (net.conv(level, 96, 1) for level in maps)
    p4 = net.add(p4, net.resize(p5, p4.shape[2:], "linear"))
    p3 = net.add(p3, net.resize(p4, p3.shape[2:], "linear"))
    p4 = net.add(p4, net.resize(p3, p4.shape[2:], "linear"))
    p5 = net.add(p5, net.resize(p4, p5.shape[2:], "linear"))
    outputs = []
    for level in (p3, p4, p5):
        y = level
        for _ in range(2):
            y = net.cba(net.dw(y, act=LEAKY), 96, act=LEAKY)
        scores, sides = net.split(net.conv(y, 112, 1), [80, 32])
        for part in (net.activation(scores, "sigmoid"), sides):
            flat = net.reshape(part, (1, part.shape[1], -1))
            outputs.append(net.transpose(flat, (0, 2, 1)))
    return net.finish(*outputs)


def blazeface(side: int) -> Graph:
    """BlazeFace's body for close faces, as the benchmark has it: no heads."""
    blocks = ((24, 1), (28, 1), (32, 2), (36, 1), (42, 1), (48, 2), (56, 1), (64, 1), (72, 1),
              (80, 1), (88, 1), (96, 2), *((96, 1),) * 4)  # fmt: skip
    net, x = start("blazeface", side)
    x = net.cba(net.padded(x, rows=3), 24, 5, 2, pad=0)
    for width, stride in blocks:
        kept = net.pool(x, "max", 2) if stride == 2 else x
        if width > x.shape[1]:
            kept = net.padded(kept, channels=width - x.shape[1])
        y = net.dw(net.padded(x, rows=2), 3, 2, act="", pad=0) if stride == 2 else net.dw(x, act="")
        x = net.activation(net.add(net.cba(y, width, act=""), kept), "relu")
    return net.finish(x)
