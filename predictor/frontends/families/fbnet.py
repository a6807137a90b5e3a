"""FBNet for CIFAR-100: 22 blocks, each one of nine choices.

A key lists the choices in order, as numbers or names joined by ``-`` (spaces and commas do too)::

    fbnet:7-8-1-8-4-8-8-8-7-4-1-4-7-3-2-7-3-2-4-2-4-5

0 k3_e1, 1 k3_e1_g2, 2 k3_e3, 3 k3_e6, 4 k5_e1, 5 k5_e1_g2, 6 k5_e3, 7 k5_e6, 8 skip, where k is
the kernel of the depthwise convolution, e the expansion and g the groups of the 1x1 convolutions,
with a channel shuffle between. A skip whose stride is 2 or whose channels change is a 1x1
convolution with norm and ReLU.

Source: Wu et al., "FBNet", CVPR 2019, in the CIFAR layout of Li et al., "HW-NAS-Bench", ICLR 2021:
input 32x32, first convolution of stride 1, last one to 1,504 channels, 100 classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from predictor.builder import GraphBuilder, Value
from predictor.errors import ModelError, suggest
from predictor.frontends.families.parts import Part, assembled, part
from predictor.graph import Graph

if TYPE_CHECKING:
    from torch import Tensor, nn

RESOLUTION = 32
CLASSES = 100
STEM, HEADER = 16, 1504
STAGES = ((1, 16, 1), (4, 24, 1), (4, 32, 2), (4, 64, 2), (4, 112, 1), (4, 184, 2), (1, 352, 1))
"""(blocks, channels, stride of the first block) of each stage."""
BLOCKS = sum(count for count, _, _ in STAGES)


class Choice(NamedTuple):
    """Kernel, expansion and groups of a block; a kernel of 0 is a skip."""

    kernel: int
    expansion: int
    groups: int


CHOICES: dict[str, Choice] = {
    "k3_e1": Choice(3, 1, 1), "k3_e1_g2": Choice(3, 1, 2), "k3_e3": Choice(3, 3, 1),
    "k3_e6": Choice(3, 6, 1), "k5_e1": Choice(5, 1, 1), "k5_e1_g2": Choice(5, 1, 2),
    "k5_e3": Choice(5, 3, 1), "k5_e6": Choice(5, 6, 1), "skip": Choice(0, 1, 1),
}  # fmt: skip
"""What a block can be; the number of a choice in a key is its place here."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """The 22 choices, by name."""

    choices: tuple[str, ...]

    @property
    def key(self) -> str:
        """The choices as numbers, without the prefix; ``parse(blocks.key) == blocks``."""
        names = list(CHOICES)
        return "-".join(str(names.index(choice)) for choice in self.choices)


class Slot(NamedTuple):
    """One block with its channels and stride."""

    channels: int
    out: int
    stride: int
    choice: Choice

    @property
    def mid(self) -> int:
        """Channels of the depthwise convolution."""
        return self.channels * self.choice.expansion

    @property
    def same(self) -> bool:
        """True where input and output have one shape."""
        return self.stride == 1 and self.channels == self.out


def parse(key: str) -> Blocks:
    """Read a key.

    Errors: :class:`ModelError` naming the block, its position and the nearest word, or the count.
    """
    names = list(CHOICES)
    choices = []
    for number, match in enumerate(re.finditer(r"[^-,\s]+", key), start=1):
        word = match.group()
        if word in CHOICES:
            choices.append(word)
        elif word.isascii() and word.isdigit() and len(word) == 1 and int(word) < len(names):
            choices.append(names[int(word)])
        else:
            raise ModelError(
                f"fbnet: block {number} (character {match.start() + 1}): '{word}' is no choice."
                f"{suggest(word, names)} Choices: "
                + ", ".join(f"{index} {name}" for index, name in enumerate(names))
            )
    if len(choices) != BLOCKS:
        raise ModelError(f"fbnet: {len(choices)} blocks where the network has {BLOCKS}")
    return Blocks(tuple(choices))


def resolution_of(config: Blocks) -> int:
    """Input height and width in pixels: those of CIFAR."""
    return RESOLUTION


def slots(config: Blocks) -> Iterator[Slot]:
    """The 22 blocks in order."""
    names, channels = iter(config.choices), STEM
    for count, out, stride in STAGES:
        for index in range(count):
            yield Slot(channels, out, stride if index == 0 else 1, CHOICES[next(names)])
            channels = out


def graph(key: str, *, batch: int = 1, resolution: int | None = None) -> Graph:
    """The network of ``key`` for ``batch`` images of ``resolution`` pixels a side.

    Errors: :class:`ModelError` for a wrong key, or a batch or resolution below 1.
    """
    config, size = parse(key), RESOLUTION if resolution is None else resolution
    if batch < 1 or size < 1:
        raise ModelError(f"fbnet: batch {batch}, resolution {size}: both must be 1 or more")
    return assembled(GraphBuilder(f"fbnet:{config.key}", source="fbnet"), (batch, 3, size, size),
                     chain(config))  # fmt: skip


def chain(config: Blocks) -> list[tuple[str, Part]]:
    """The named parts of the network: stem, 22 blocks, header and classifier."""
    blocks = [(f"cells.{index}", part(_slot_ops, slot)) for index, slot in enumerate(slots(config))]
    return [("stem", part(_conv_ops, STEM, 3, 1, 1, True)), *blocks,
            ("header", part(_conv_ops, HEADER, 1, 1, 1, True)), ("", part(_head_ops))]  # fmt: skip


def _head_ops(b: GraphBuilder, x: Value, _: str) -> Value:
    return b.linear(b.global_pool(x, flatten=True, name="avgpool"), CLASSES, name="fc")


def _conv_ops(
    b: GraphBuilder, x: Value, name: str, out: int, kernel: int, stride: int = 1,
    groups: int = 1, relu: bool = False,
) -> Value:  # fmt: skip
    x = b.conv(x, out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False,
               name=f"{name}.0")  # fmt: skip
    x = b.batch_norm(x, name=f"{name}.1")
    return b.activation(x, "relu", name=f"{name}.2") if relu else x


def _slot_ops(b: GraphBuilder, x: Value, name: str, slot: Slot) -> Value:
    kernel, _, groups = slot.choice
    if kernel == 0:
        if slot.same:
            return x
        return _conv_ops(b, x, name, slot.out, 1, slot.stride, relu=True)
    y = _conv_ops(b, x, f"{name}.expand", slot.mid, 1, groups=groups, relu=True)
    if groups > 1:
        y = _shuffle_ops(b, y, groups, f"{name}.shuffle")
    y = _conv_ops(b, y, f"{name}.depthwise", slot.mid, kernel, slot.stride, slot.mid,
                  relu=True)  # fmt: skip
    y = _conv_ops(b, y, f"{name}.project", slot.out, 1, groups=groups)
    return b.add(y, x, name=name) if slot.same else y


def _shuffle_ops(b: GraphBuilder, x: Value, groups: int, name: str) -> Value:
    n, c, h, w = x.shape
    y = b.reshape(x, (n, groups, c // groups, h, w), name=name)
    y = b.transpose(y, (0, 2, 1, 3, 4), name=name)
    (y,) = b.op("copy", [y], [y.shape], name=name, attrs={"fn": "clone"})
    return b.reshape(y, (n, c, h, w), name=name)


def module(key: str) -> nn.Module:
    """The same network as a ``torch.nn.Module`` that can be traced, trained and exported."""
    from torch import nn

    layers = list(slots(parse(key)))

    class FBNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = _conv(3, STEM, 3, relu=True)
            self.cells = nn.Sequential(*(_slot_module(slot) for slot in layers))
            self.header = _conv(layers[-1].out, HEADER, 1, relu=True)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(HEADER, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = self.avgpool(self.header(self.cells(self.stem(x))))
            logits: Tensor = self.fc(x.flatten(1))
            return logits

    return FBNet()


def _conv(
    width: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = False
) -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = [
        nn.Conv2d(width, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


def _slot_module(slot: Slot) -> nn.Module:
    from torch import nn

    kernel, _, groups = slot.choice
    if kernel == 0:
        if slot.same:
            return nn.Identity()
        return _conv(slot.channels, slot.out, 1, stride=slot.stride, relu=True)

    class InvertedResidual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.expand = _conv(slot.channels, slot.mid, 1, groups=groups, relu=True)
            self.shuffle = _shuffle_module(groups) if groups > 1 else nn.Identity()
            self.depthwise = _conv(
                slot.mid, slot.mid, kernel, stride=slot.stride, groups=slot.mid, relu=True
            )
            self.project = _conv(slot.mid, slot.out, 1, groups=groups)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.project(self.depthwise(self.shuffle(self.expand(x))))
            return y + x if slot.same else y

    return InvertedResidual()


def _shuffle_module(groups: int) -> nn.Module:
    from torch import nn

    class ChannelShuffle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            n, c, h, w = x.shape
            y = x.view(n, groups, c // groups, h, w).permute(0, 2, 1, 3, 4)
            return y.contiguous().view(n, c, h, w)

    return ChannelShuffle()
