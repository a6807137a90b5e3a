"""NAS-Bench-201: 15,625 cells of six edges in a fixed CIFAR network.

A cell has four nodes; node 0 is its input, node 3 its output, and a node is the sum of its
incoming edges. A key lists the edges node by node, each ``operation~source``::

    |nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|

The network around it: 3x3 convolution to 16 channels, then three stages of five cells at 16, 32
and 64 channels with a residual block of stride 2 between stages, global pooling, 10 classes.
Source: Dong and Yang, "NAS-Bench-201", ICLR 2020, figure 1 and appendix A.

Every edge is kept, also those that do not reach the output: eager runtimes execute them.
``none`` multiplies its input by zero, as the published network does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from predictor.builder import GraphBuilder, Value
from predictor.errors import ModelError, suggest
from predictor.frontends.families.parts import Part, assembled, part
from predictor.graph import Graph

if TYPE_CHECKING:
    from torch import Tensor, nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What an edge can be."""

CHANNELS = 16
CELLS_PER_STAGE = 5
STAGES = 3
CLASSES = 10
RESOLUTION = 32


@dataclass(frozen=True, slots=True)
class Cell:
    """Six operations, in the order 0->1, 0->2, 1->2, 0->3, 1->3, 2->3."""

    operations: tuple[str, ...]

    @property
    def edges(self) -> tuple[tuple[int, int, str], ...]:
        """(source node, target node, operation) of each edge."""
        pairs = ((source, target) for target in (1, 2, 3) for source in range(target))
        return tuple(
            (source, target, operation)
            for (source, target), operation in zip(pairs, self.operations, strict=True)
        )

    @property
    def key(self) -> str:
        """The cell as text, without the prefix; ``parse(cell.key) == cell``."""
        groups = []
        for node in (1, 2, 3):
            edges = [f"{op}~{source}" for source, target, op in self.edges if target == node]
            groups.append(f"|{'|'.join(edges)}|")
        return "+".join(groups)


def parse(key: str) -> Cell:
    """Read a cell.

    Errors: :class:`ModelError` naming the edge, its position in the key and the nearest word.
    """
    operations: list[str] = []
    groups = key.strip().split("+")
    if len(groups) != 3:
        raise ModelError(
            f"nasbench201:{key}: {len(groups)} nodes where a cell has 3, joined by '+': "
            "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
        )
    position = 1
    for node, group in enumerate(groups, start=1):
        place = f"nasbench201: node {node} (character {position})"
        if len(group) < 2 or group[0] != "|" or group[-1] != "|":
            raise ModelError(f"{place}: '{group}' must start and end with '|', as in '|none~0|'")
        edges = group[1:-1].split("|")
        if len(edges) != node:
            raise ModelError(f"{place}: {len(edges)} edges, but node {node} has {node}")
        start = position + 1
        for source, edge in enumerate(edges):
            operations.append(_operation(edge, source, node, start))
            start += len(edge) + 1
        position += len(group) + 1
    return Cell(tuple(operations))


def _operation(edge: str, source: int, node: int, position: int) -> str:
    place = f"nasbench201: edge {source}->{node} (character {position})"
    operation, tilde, origin = edge.partition("~")
    if operation not in OPERATIONS:
        raise ModelError(
            f"{place}: unknown operation '{operation}'.{suggest(operation, OPERATIONS)} "
            f"Operations: {', '.join(OPERATIONS)}"
        )
    if not tilde or origin != str(source):
        raise ModelError(f"{place}: '{edge}' must come from node {source}: '{operation}~{source}'")
    return operation


def resolution_of(config: Cell) -> int:
    """Input height and width in pixels: those of CIFAR."""
    return RESOLUTION


def graph(key: str, *, batch: int = 1, resolution: int | None = None) -> Graph:
    """The network around the cell ``key`` for ``batch`` images of ``resolution`` pixels a side.

    Errors: :class:`ModelError` for a wrong key or sizes that the two halvings do not divide.
    """
    cell, size = parse(key), RESOLUTION if resolution is None else resolution
    if batch < 1 or size < 4 or size % 4:
        raise ModelError(
            f"nasbench201: batch {batch}, resolution {size}: the batch must be 1 or more and the "
            "resolution a multiple of 4, for it is halved twice"
        )
    return assembled(GraphBuilder(f"nasbench201:{cell.key}", source="nasbench201"),
                     (batch, 3, size, size), chain(cell))  # fmt: skip


def chain(cell: Cell) -> list[tuple[str, Part]]:
    """The named parts of the network: stem, cells and reductions, and what ends it."""
    blocks = [(f"cells.{index}", part(_reduction_ops, channels) if halve else part(_cell_ops, cell))
              for index, (channels, halve) in enumerate(_layout())]  # fmt: skip
    return [("stem", part(_stem_ops)), *blocks, ("", part(_head_ops))]


def _stem_ops(b: GraphBuilder, x: Value, name: str) -> Value:
    x = b.conv(x, CHANNELS, 3, padding=1, bias=False, name=f"{name}.0")
    return b.batch_norm(x, name=f"{name}.1")


def _head_ops(b: GraphBuilder, x: Value, _: str) -> Value:
    x = b.activation(b.batch_norm(x, name="lastact.0"), "relu", name="lastact.1")
    return b.linear(b.global_pool(x, flatten=True, name="global_pooling"), CLASSES,
                    name="classifier")  # fmt: skip


def _layout() -> list[tuple[int, bool]]:
    """(channels, is it the residual block of stride 2) of each of the 17 blocks."""
    blocks: list[tuple[int, bool]] = []
    for stage in range(STAGES):
        channels = CHANNELS << stage
        blocks += [(channels, True)] * (stage > 0) + [(channels, False)] * CELLS_PER_STAGE
    return blocks


def _cell_ops(b: GraphBuilder, x: Value, name: str, cell: Cell) -> Value:
    nodes: dict[int, Value] = {0: x}
    for index, (source, target, operation) in enumerate(cell.edges):
        label = f"{name}.edges.{index}"
        value = _edge_ops(b, nodes[source], operation, label)
        nodes[target] = b.add(nodes[target], value, name=name) if target in nodes else value
    return nodes[3]


def _edge_ops(b: GraphBuilder, x: Value, operation: str, name: str) -> Value:
    if operation == "none":
        return b.op("elementwise", [x], [x.shape], name=name, attrs={"fn": "mul", "zero": True})[0]
    if operation == "skip_connect":
        return x
    if operation == "avg_pool_3x3":
        return b.pool(x, "avg", 3, stride=1, padding=1, name=name)
    return _relu_conv_bn_ops(b, x, x.shape[1], 1 if operation == "nor_conv_1x1" else 3, 1, name)


def _relu_conv_bn_ops(
    b: GraphBuilder, x: Value, out: int, kernel: int, stride: int, name: str
) -> Value:
    x = b.activation(x, "relu", name=f"{name}.0")
    x = b.conv(x, out, kernel, stride=stride, padding=kernel // 2, bias=False, name=f"{name}.1")
    return b.batch_norm(x, name=f"{name}.2")


def _reduction_ops(b: GraphBuilder, x: Value, name: str, channels: int) -> Value:
    y = _relu_conv_bn_ops(b, x, channels, 3, 2, f"{name}.conv_a")
    y = _relu_conv_bn_ops(b, y, channels, 3, 1, f"{name}.conv_b")
    shortcut = b.pool(x, "avg", 2, name=f"{name}.downsample.0")
    shortcut = b.conv(shortcut, channels, 1, bias=False, name=f"{name}.downsample.1")
    return b.add(shortcut, y, name=name)


def module(key: str) -> nn.Module:
    """The same network as a ``torch.nn.Module`` that can be traced, trained and exported."""
    from torch import nn

    cell = parse(key)
    blocks, width = [], CHANNELS
    for channels, halve in _layout():
        blocks.append(_reduction_module(width, channels) if halve else _cell_module(cell, channels))
        width = channels

    class NasBench201(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS)
            )
            self.cells = nn.Sequential(*blocks)
            self.lastact = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
            self.global_pooling = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Linear(width, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = self.global_pooling(self.lastact(self.cells(self.stem(x))))
            logits: Tensor = self.classifier(x.flatten(1))
            return logits

    return NasBench201()


def _relu_conv_bn(width: int, out: int, kernel: int, stride: int = 1) -> nn.Module:
    from torch import nn

    # The input of an edge feeds other edges too, so this ReLU must not overwrite it.
    return nn.Sequential(
        nn.ReLU(inplace=False),
        nn.Conv2d(width, out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out),
    )


def _edge_module(operation: str, channels: int) -> nn.Module:
    from torch import nn

    class Zero(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul(0.0)

    if operation == "none":
        return Zero()
    if operation == "skip_connect":
        return nn.Identity()
    if operation == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return _relu_conv_bn(channels, channels, 1 if operation == "nor_conv_1x1" else 3)


def _cell_module(cell: Cell, channels: int) -> nn.Module:
    from torch import nn

    class CellModule(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.edges = nn.ModuleList(_edge_module(op, channels) for _, _, op in cell.edges)

        def forward(self, x: Tensor) -> Tensor:
            nodes: dict[int, Tensor] = {0: x}
            for (source, target, _), edge in zip(cell.edges, self.edges, strict=True):
                value = edge(nodes[source])
                nodes[target] = nodes[target] + value if target in nodes else value
            return nodes[3]

    return CellModule()


def _reduction_module(width: int, channels: int) -> nn.Module:
    from torch import nn

    class Reduction(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv_a = _relu_conv_bn(width, channels, 3, stride=2)
            self.conv_b = _relu_conv_bn(channels, channels, 3)
            self.downsample = nn.Sequential(
                nn.AvgPool2d(2), nn.Conv2d(width, channels, 1, bias=False)
            )

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv_b(self.conv_a(x))
            total: Tensor = self.downsample(x) + y
            return total

    return Reduction()
