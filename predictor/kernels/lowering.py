"""What a runtime makes of a graph before it fuses, and the kernels that come of it.

Graphs do not change, so what was prepared for one is kept a while: the same network on several
devices, or asked for again, is lowered, fused and featurized once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from predictor.graph import PRECISIONS, Graph, Kernel
from predictor.kernels.autocast import autocast
from predictor.kernels.blocked import in_blocks
from predictor.kernels.features import Features, featurize
from predictor.kernels.fusion import cast_graph, fuse
from predictor.kernels.layout import lay_out
from predictor.kernels.memo import Memory
from predictor.kernels.onnx_graph import optimised
from predictor.kernels.rules import FusionRules, load_rules


@dataclass(frozen=True, slots=True)
class Prepared:
    """A graph as a target runs it.

    ``stored`` is the graph with its floats in the target's element type (what memory it needs);
    ``kernels`` are what the runtime launches, ``features`` their numbers.
    """

    graph: Graph
    stored: Graph
    kernels: Sequence[Kernel]
    features: Features
    peak_activation_bytes: int
    memory_access_bytes: int


_MEMORY: Memory[Prepared] = Memory()


def prepare(
    graph: Graph, precision: str, rules: FusionRules | str, layout: str = "nchw"
) -> Prepared:
    """Lower, fuse and featurize ``graph``, or find what was made of it before.

    ``rules`` is a runtime's name, or rules of one's own (those are not kept).
    """
    if not isinstance(rules, str):
        return _made(graph, precision, rules, layout)
    return _MEMORY.get(graph, (precision, rules, layout),
                       lambda: _made(graph, precision, load_rules(rules), layout))  # fmt: skip


def _made(graph: Graph, precision: str, rules: FusionRules, layout: str) -> Prepared:
    stored = cast_graph(graph, PRECISIONS[precision])
    kernels = tuple(fuse(_lowered(graph, stored, precision, rules, layout), rules))
    return Prepared(graph, stored, kernels, featurize(kernels), stored.peak_activation_bytes,
                    stored.memory_access_bytes)  # fmt: skip


def _lowered(graph: Graph, stored: Graph, precision: str, rules: FusionRules, layout: str) -> Graph:
    mixed = precision.startswith("amp")
    lowered = autocast(graph, PRECISIONS[precision]) if mixed else stored
    if rules.layout == "blocked":
        return in_blocks(optimised(lowered))
    if not rules.layout.startswith("strided"):
        return lowered
    return lay_out(lowered, images_channels_last=layout == "nhwc",
                   on_cpu=rules.layout == "strided-cpu")  # fmt: skip


def lower(graph: Graph, precision: str, rules: FusionRules | str, layout: str = "nchw") -> Graph:
    """``graph`` in the element types of ``precision``, as the runtime of ``rules`` lays it out.

    ``layout`` is the order of images where the runtime leaves it to the caller.
    """
    rules = load_rules(rules) if isinstance(rules, str) else rules
    stored = cast_graph(graph, PRECISIONS[precision])
    return _lowered(graph, stored, precision, rules, layout)
