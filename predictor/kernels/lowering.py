"""What a runtime makes of a graph before it fuses: element types, casts, layout copies."""

from __future__ import annotations

from predictor.graph import PRECISIONS, Graph
from predictor.kernels.autocast import autocast
from predictor.kernels.fusion import cast_graph
from predictor.kernels.layout import lay_out
from predictor.kernels.rules import FusionRules, load_rules


def lower(
    graph: Graph, precision: str, rules: FusionRules | str, layout: str = "nchw"
) -> Graph:
    """``graph`` in the element types of ``precision``, as the runtime of ``rules`` lays it out.

    ``layout`` is the order of images where the runtime leaves it to the caller.
    """
    dtype = PRECISIONS[precision]
    mixed = precision.startswith("amp")
    graph = autocast(graph, dtype) if mixed else cast_graph(graph, dtype)
    rules = load_rules(rules) if isinstance(rules, str) else rules
    if rules.layout != "strided":
        return graph
    return lay_out(graph, images_channels_last=layout == "nhwc")
