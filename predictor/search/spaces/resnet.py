"""Residual networks: depth and width a stage, kind of block, expansion, resolution.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, as published with
torchvision: a 7x7 stem of stride 2 with max pooling, stages of 64, 128, 256 and 512 channels,
bottlenecks with their stride in the 3x3 convolution, a projection where the shape changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from predictor.builder import GraphBuilder
from predictor.builder import Value as Tensor
from predictor.front import Value, Values
from predictor.frontends.families.ofa import make_divisible
from predictor.frontends.families.parts import Part, part
from predictor.search.space import SearchSpace

STAGE_WIDTHS = (64, 128, 256, 512)
DEPTHS = ((1, 2, 3, 4), (1, 2, 3, 4, 6, 8), (1, 2, 3, 4, 6, 9, 12, 18, 23), (1, 2, 3, 4))
"""Blocks of each stage: ResNet-18, 34, 50 and 101 are among them."""
MULTIPLIERS = (0.5, 0.75, 1.0, 1.25, 1.5)
CLASSES = 1000
PARAMETERS: dict[str, tuple[Value, ...]] = {
    "resolution": tuple(range(128, 289, 32)), "stem": (32, 48, 64),
    "bottleneck": (False, True), "expansion": (2, 3, 4),
    **{f"depth_{stage}": depths for stage, depths in enumerate(DEPTHS, 1)},
    **{f"width_{stage}": MULTIPLIERS for stage in range(1, 5)},
}  # fmt: skip


class ResNet(SearchSpace):
    """``depth_1`` to ``depth_4`` are blocks a stage, ``width_1`` to ``width_4`` multiply the
    stages' channels, ``bottleneck`` chooses the block, whose output is ``expansion`` times as wide
    as its middle (basic blocks have none), ``stem`` is the channels of the first convolution.

    ResNet-50 is ``resolution=224,stem=64,bottleneck=yes,expansion=4``, depths 3, 4, 6, 3 and
    widths 1; ResNet-18 has ``bottleneck=no`` and depths of 2.
    """

    name = "resnet"
    parameters = PARAMETERS

    def input_shape(self, values: Values) -> tuple[int, ...]:
        """RGB images of the resolution."""
        side = int(values["resolution"])
        return (3, side, side)

    def canonical(self, values: Values) -> dict[str, Value]:
        """Basic blocks have no expansion."""
        found = super().canonical(values)
        if not found["bottleneck"]:
            found["expansion"] = self.parameters["expansion"][0]
        return found

    def chain(self, values: Values) -> Sequence[tuple[str, Part]]:
        """Stem, blocks, head."""
        expansion = int(values["expansion"]) if values["bottleneck"] else 0
        found = [("stem", part(_stem, int(values["stem"])))]
        for stage, channels in enumerate(STAGE_WIDTHS, 1):
            width = make_divisible(channels * float(values[f"width_{stage}"]))
            for index in range(int(values[f"depth_{stage}"])):
                stride = 2 if stage > 1 and index == 0 else 1
                found.append((f"stage{stage}.{index}", part(_block, width, expansion, stride)))
        return [*found, ("", part(_head))]


def _conv(
    b: GraphBuilder, x: Tensor, name: str, out: int, kernel: int, stride: int = 1,
    activation: bool = True,
) -> Tensor:  # fmt: skip
    x = b.conv(x, out, kernel, stride=stride, padding=kernel // 2, bias=False, name=f"{name}.conv")
    x = b.batch_norm(x, name=f"{name}.bn")
    return b.activation(x, name=f"{name}.relu") if activation else x


def _stem(b: GraphBuilder, x: Tensor, name: str, channels: int) -> Tensor:
    x = _conv(b, x, name, channels, 7, 2)
    return b.pool(x, "max", 3, stride=2, padding=1, name=f"{name}.pool")


def _block(
    b: GraphBuilder, x: Tensor, name: str, width: int, expansion: int, stride: int
) -> Tensor:
    """A bottleneck, or without an expansion a basic block."""
    out = width * (expansion or 1)
    if expansion:
        y = _conv(b, x, f"{name}.reduce", width, 1)
        y = _conv(b, y, f"{name}.middle", width, 3, stride)
        y = _conv(b, y, f"{name}.expand", out, 1, activation=False)
    else:
        y = _conv(b, x, f"{name}.first", width, 3, stride)
        y = _conv(b, y, f"{name}.second", out, 3, activation=False)
    if stride > 1 or x.shape[1] != out:
        x = _conv(b, x, f"{name}.project", out, 1, stride, activation=False)
    return b.activation(b.add(y, x, name=f"{name}.add"), name=f"{name}.relu")


def _head(b: GraphBuilder, x: Tensor, _: str) -> Tensor:
    x = b.global_pool(x, name="pool")
    return b.linear(b.reshape(x, x.shape[:2], name="flatten"), CLASSES, name="classifier")
