"""Once-for-all MobileNetV3: sub-networks of elastic kernel size, expansion, depth and resolution.

A key sets ``ks`` (kernel size) and ``e`` (expansion ratio) for 5 stages x 4 slots, ``d`` (depth) a
stage, ``r`` (input pixels, default 224) and ``w`` (width multiplier, default 1.0)::

    ofa:ks=7,e=6,d=4
    ofa:ks=7-5-5-5-7-7-5-7-5-7-3-7-5-3-7-3-5-3-5-3,e=6,d=2-2-2-2-3,r=204,w=1.2

One value stands for all slots. Of each stage's four slots only the first ``d`` exist.
Source: Cai et al., "Once for All", ICLR 2020, and the network definition published with it:
channels rounded to multiples of 8, squeeze-and-excitation of a quarter of the expanded channels
in stages 2, 4 and 5, hard-swish from stage 3 on. Its hard-swish and hard-sigmoid are one operator
each here (the published code composes them of four), as is global pooling.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from predictor.builder import GraphBuilder, Value
from predictor.errors import ModelError, suggest
from predictor.frontends.families.parts import Part, assembled, part
from predictor.graph import Graph

if TYPE_CHECKING:
    from torch import Tensor, nn

STAGES = 5
SLOTS = 4
KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
DEPTHS = (2, 3, 4)
RESOLUTION = 224
CLASSES = 1000

STEM, FIRST_BLOCK = 16, 16
STAGE_WIDTHS = (24, 40, 80, 112, 160)
STAGE_STRIDES = (2, 2, 2, 1, 2)
STAGE_SE = (False, True, False, True, True)
STAGE_ACTIVATIONS = ("relu", "relu", "hardswish", "hardswish", "hardswish")
FINAL_EXPAND, LAST = 960, 1280
SE_REDUCTION = 4


@dataclass(frozen=True, slots=True)
class SubNet:
    """A sub-network: 20 kernel sizes, 20 expansion ratios, 5 depths, pixels, width multiplier."""

    ks: tuple[int, ...]
    e: tuple[int, ...]
    d: tuple[int, ...]
    r: int = RESOLUTION
    w: float = 1.0

    @property
    def key(self) -> str:
        """The sub-network as text, without the prefix; ``parse(net.key) == net``."""
        lists = (f"{name}={_short(getattr(self, name))}" for name in ("ks", "e", "d"))
        return f"{','.join(lists)},r={self.r},w={self.w:g}"


class Block(NamedTuple):
    """One inverted residual block, channels worked out."""

    channels: int
    mid: int
    out: int
    kernel: int
    stride: int
    expand: bool
    se: bool
    activation: str

    @property
    def residual(self) -> bool:
        """True where the input is added to the output."""
        return self.stride == 1 and self.channels == self.out

    @property
    def squeezed(self) -> int:
        """Channels inside squeeze-and-excitation."""
        return make_divisible(self.mid // SE_REDUCTION)


def make_divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor``, never below 90 % of ``value``."""
    near = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * value else near


def parse(key: str) -> SubNet:
    """Read a key.

    Errors: :class:`ModelError` naming the setting, its position and what it may be.
    """
    settings: dict[str, tuple[str, int]] = {}
    position = 1
    for setting in key.strip().split(","):
        name, equals, text = setting.partition("=")
        name = name.strip()
        if name not in ("ks", "e", "d", "r", "w") or not equals:
            hint = suggest(name, ("ks", "e", "d", "r", "w"), cutoff=0.4)
            raise ModelError(
                f"ofa: character {position}: '{setting}' is no setting.{hint} "
                "Settings: ks=, e=, d=, r=, w=, as in ofa:ks=7,e=6,d=4,r=224,w=1.0"
            )
        if name in settings:
            raise ModelError(f"ofa: character {position}: '{name}' is set twice")
        settings[name] = (text.strip(), position + len(setting) - len(text))
        position += len(setting) + 1
    missing = [name for name in ("ks", "e", "d") if name not in settings]
    if missing:
        raise ModelError(f"ofa:{key}: {missing[0]}= is missing; for example ofa:ks=7,e=6,d=4")
    return SubNet(
        _numbers("ks", *settings["ks"], STAGES * SLOTS, KERNELS),
        _numbers("e", *settings["e"], STAGES * SLOTS, EXPANSIONS),
        _numbers("d", *settings["d"], STAGES, DEPTHS),
        _resolution(*settings["r"]) if "r" in settings else RESOLUTION,
        _width(*settings["w"]) if "w" in settings else 1.0,
    )


_DIGITS = {str(digit): digit for digit in range(10)}


def _numbers(
    name: str, text: str, position: int, count: int, allowed: tuple[int, ...]
) -> tuple[int, ...]:
    words = text.split("-")
    if len(words) == count:  # the usual case, for tables of 100,000 keys
        found = tuple([known for word in words if (known := _DIGITS.get(word, -1)) in allowed])
        if len(found) == count:
            return found
    values: list[int] = []
    for index, word in enumerate(words):
        if not (word.isascii() and word.isdigit()) or int(word) not in allowed:
            raise ModelError(
                f"ofa: {name}, value {index + 1} (character {position}): '{word}' is none of "
                f"{', '.join(map(str, allowed))}"
            )
        values.append(int(word))
        position += len(word) + 1
    if len(values) == 1:
        values *= count
    if len(values) != count:
        raise ModelError(
            f"ofa: {name} has {len(values)} values; give {count} joined by '-', or one for all"
        )
    return tuple(values)


def _resolution(text: str, position: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 32 <= int(text) <= 1024):
        raise ModelError(
            f"ofa: r (character {position}): '{text}' is no number of pixels from 32 to 1024"
        )
    return int(text)


def _width(text: str, position: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.25 <= value <= 4:
        raise ModelError(
            f"ofa: w (character {position}): '{text}' is no width from 0.25 to 4; "
            "the published networks have 1.0 and 1.2"
        )
    return value


def _short(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else "-".join(map(str, values))


def resolution_of(config: SubNet) -> int:
    """Input height and width in pixels."""
    return config.r


def blocks(net: SubNet) -> Iterator[Block]:
    """The first block and the blocks of all stages, in order."""
    channels, first = make_divisible(STEM * net.w), make_divisible(FIRST_BLOCK * net.w)
    yield Block(channels, channels, first, 3, 1, False, False, "relu")
    for stage in range(STAGES):
        yield from _stage(stage, net.w, *_choices(net, stage))


def _choices(net: SubNet, stage: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Kernels and expansions of the blocks that a stage has."""
    start = stage * SLOTS
    stop = start + net.d[stage]
    return net.ks[start:stop], net.e[start:stop]


@functools.lru_cache(maxsize=1 << 12)
def _stage(
    stage: int, width: float, kernels: tuple[int, ...], expansions: tuple[int, ...]
) -> tuple[Block, ...]:
    """The blocks of a stage; there are 7,371 choices a stage, which a search meets again."""
    before = STAGE_WIDTHS[stage - 1] if stage else FIRST_BLOCK
    channels, out = make_divisible(before * width), make_divisible(STAGE_WIDTHS[stage] * width)
    found = []
    for slot, (kernel, expansion) in enumerate(zip(kernels, expansions, strict=True)):
        found.append(Block(
            channels, make_divisible(channels * expansion), out, kernel,
            STAGE_STRIDES[stage] if slot == 0 else 1, True, STAGE_SE[stage],
            STAGE_ACTIVATIONS[stage],
        ))  # fmt: skip
        channels = out
    return tuple(found)


@functools.lru_cache(maxsize=1 << 12)
def _stage_parts(
    stage: int, width: float
) -> tuple[dict[tuple[int, int], Part], dict[tuple[int, int], Part]]:
    """What a stage's first block can be and what the others can, by kernel and expansion."""
    first, others = {}, {}
    for kernel in KERNELS:
        for expansion in EXPANSIONS:
            one, other = _stage(stage, width, (kernel, kernel), (expansion, expansion))
            first[kernel, expansion] = part(_block_ops, one)
            others[kernel, expansion] = part(_block_ops, other)
    return first, others


_BLOCK_NAMES = tuple(f"blocks.{index}" for index in range(1 + STAGES * SLOTS))


def graph(key: str, *, batch: int = 1, resolution: int | None = None) -> Graph:
    """The sub-network ``key`` for ``batch`` images; ``resolution`` wins over the key's ``r``.

    Errors: :class:`ModelError` for a wrong key, or a batch or resolution below 1.
    """
    net = parse(key)
    size = net.r if resolution is None else resolution
    if batch < 1 or size < 1:
        raise ModelError(f"ofa: batch {batch}, resolution {size}: both must be 1 or more")
    return assembled(GraphBuilder(f"ofa:{net.key}", source="ofa"), (batch, 3, size, size),
                     chain(net))  # fmt: skip


def chain(net: SubNet) -> list[tuple[str, Part]]:
    """The named parts of the network: first convolution, blocks, and what ends it."""
    conv, block, last_conv, head = _ends(net.w)
    choices = list(zip(net.ks, net.e, strict=True))
    parts = [block]
    for stage, depth in enumerate(net.d):
        first, others = _stage_parts(stage, net.w)
        start = stage * SLOTS
        parts.append(first[choices[start]])
        parts += [others[choice] for choice in choices[start + 1 : start + depth]]
    return [("first_conv", conv), *zip(_BLOCK_NAMES, parts, strict=False),
            ("final_expand_layer", last_conv), ("", head)]  # fmt: skip


@functools.lru_cache(maxsize=1 << 12)
def _ends(width: float) -> tuple[Part, Part, Part, Part]:
    """First convolution and block; last convolution and head."""
    first, out = make_divisible(STEM * width), make_divisible(FIRST_BLOCK * width)
    block = Block(first, first, out, 3, 1, False, False, "relu")
    return (part(_conv_ops, first, 3, "hardswish", 2), part(_block_ops, block),
            part(_conv_ops, make_divisible(FINAL_EXPAND * width), 1, "hardswish"),
            part(_head_ops, make_divisible(LAST * width)))  # fmt: skip


def _head_ops(b: GraphBuilder, x: Value, _: str, last: int) -> Value:
    x = b.global_pool(x, name="global_avg_pool")
    x = b.conv(x, last, 1, bias=False, name="feature_mix_layer.conv")
    x = b.activation(x, "hardswish", name="feature_mix_layer.act")
    return b.linear(b.reshape(x, (x.shape[0], last)), CLASSES, name="classifier")


def _conv_ops(
    b: GraphBuilder, x: Value, name: str, out: int, kernel: int, activation: str | None,
    stride: int = 1, groups: int = 1,
) -> Value:  # fmt: skip
    x = b.conv(x, out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False,
               name=f"{name}.conv")  # fmt: skip
    x = b.batch_norm(x, name=f"{name}.bn")
    return x if activation is None else b.activation(x, activation, name=f"{name}.act")


def _block_ops(b: GraphBuilder, x: Value, name: str, block: Block) -> Value:
    y = x
    if block.expand:
        y = _conv_ops(b, y, f"{name}.inverted_bottleneck", block.mid, 1, block.activation)
    y = _conv_ops(b, y, f"{name}.depth_conv", block.mid, block.kernel, block.activation,
                  block.stride, block.mid)  # fmt: skip
    if block.se:
        se = f"{name}.se"
        gate = b.global_pool(y, name=f"{se}.pool")
        gate = b.conv(gate, block.squeezed, 1, name=f"{se}.reduce")
        gate = b.activation(gate, "relu", name=f"{se}.relu")
        gate = b.conv(gate, block.mid, 1, name=f"{se}.expand")
        gate = b.activation(gate, "hardsigmoid", name=f"{se}.gate")
        y = b.mul(y, gate, name=se)
    y = _conv_ops(b, y, f"{name}.point_linear", block.out, 1, None)
    return b.add(y, x, name=name) if block.residual else y


def module(key: str) -> nn.Module:
    """The same sub-network as a ``torch.nn.Module`` that can be traced, trained and exported."""
    from torch import nn

    net = parse(key)
    layers = list(blocks(net))
    expand, last = make_divisible(FINAL_EXPAND * net.w), make_divisible(LAST * net.w)

    class OnceForAll(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first_conv = _conv(3, layers[0].channels, 3, "hardswish", stride=2)
            self.blocks = nn.Sequential(*(_block_module(block) for block in layers))
            self.final_expand_layer = _conv(layers[-1].out, expand, 1, "hardswish")
            self.global_avg_pool = nn.AdaptiveAvgPool2d(1)
            self.feature_mix_layer = nn.Sequential()
            self.feature_mix_layer.add_module("conv", nn.Conv2d(expand, last, 1, bias=False))
            self.feature_mix_layer.add_module("act", nn.Hardswish(inplace=True))
            self.classifier = nn.Linear(last, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = self.final_expand_layer(self.blocks(self.first_conv(x)))
            x = self.feature_mix_layer(self.global_avg_pool(x))
            logits: Tensor = self.classifier(x.flatten(1))
            return logits

    return OnceForAll()


def _conv(
    width: int, out: int, kernel: int, activation: str | None, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    from torch import nn

    layers = nn.Sequential()
    layers.add_module(
        "conv",
        nn.Conv2d(width, out, kernel, stride, kernel // 2, groups=groups, bias=False),
    )
    layers.add_module("bn", nn.BatchNorm2d(out))
    if activation is not None:
        act = nn.ReLU(inplace=True) if activation == "relu" else nn.Hardswish(inplace=True)
        layers.add_module("act", act)
    return layers


def _block_module(block: Block) -> nn.Module:
    from torch import nn

    class InvertedResidual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inverted_bottleneck = (
                _conv(block.channels, block.mid, 1, block.activation)
                if block.expand
                else nn.Identity()
            )
            self.depth_conv = _conv(
                block.mid, block.mid, block.kernel, block.activation,
                stride=block.stride, groups=block.mid,
            )  # fmt: skip
            self.se = _se_module(block) if block.se else nn.Identity()
            self.point_linear = _conv(block.mid, block.out, 1, None)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.point_linear(self.se(self.depth_conv(self.inverted_bottleneck(x))))
            return y + x if block.residual else y

    return InvertedResidual()


def _se_module(block: Block) -> nn.Module:
    from torch import nn

    class SqueezeExcite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.reduce = nn.Conv2d(block.mid, block.squeezed, 1)
            self.relu = nn.ReLU(inplace=True)
            self.expand = nn.Conv2d(block.squeezed, block.mid, 1)
            self.gate = nn.Hardsigmoid(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            gate: Tensor = self.gate(self.expand(self.relu(self.reduce(self.pool(x)))))
            return x * gate

    return SqueezeExcite()
