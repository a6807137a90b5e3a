"""Count a network: the drop-in for people who come from thop or ptflops."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError
from predictor.graph import Graph
from predictor.report.count_table import Count, count_graph
from predictor.report.units import Size

if TYPE_CHECKING:
    from predictor.config import Config

__all__ = ["Count", "count"]


def count(
    model: Any,
    inputs: Any = None,
    *,
    batch: int | None = None,
    resolution: Size | None = None,
    by: str = "layer",
    depth: int | None = None,
    config: Config | None = None,
) -> Count:
    """Exact costs of one forward pass of ``model``, layer by layer; weights are never allocated.

    ::

        macs, params = predictor.count(model, (1, 3, 224, 224))
        print(predictor.count("timm:resnet50"))

    Args:
        model: a Graph, a torch module (left exactly as it was), a path or a model name.
        inputs: one shape, tensors, or a tuple or dict of either; a file or name brings its own.
        batch: images (batch items) in one pass; None keeps the model's own.
        resolution: side of square images in pixels, or (height, width); None keeps the model's own.
        by: rows by ``layer``, or by ``module`` with all that is inside it.
        depth: cut module paths to this many parts.
        config: a configuration that was read already (``model`` is then only a label).

    Raises:
        ConfigError: a setting is wrong (among them ModelError: the model cannot be read).
    """
    if by not in ("layer", "module"):
        raise ConfigError(f"by={by!r}: rows are by 'layer' or by 'module'")
    if depth is not None and depth < 1:
        raise ConfigError(f"depth={depth}: use 1 or more; 1 is the model's direct children")
    if isinstance(model, Graph):
        if inputs is not None or batch is not None or resolution is not None:
            raise ConfigError("a Graph has fixed shapes: count the model it was made from instead")
        return count_graph(model, by=by, depth=depth)
    return count_graph(_graph(model, inputs, batch, resolution, config), by=by, depth=depth)


def _graph(
    model: Any, inputs: Any, batch: int | None, resolution: Size | None, config: Config | None
) -> Graph:
    if isinstance(model, str | PathLike):
        from predictor.frontends.load import load_graph

        return load_graph(model, batch=batch, resolution=resolution, inputs=inputs, config=config)
    if inputs is None:
        raise ConfigError("a module needs inputs, such as inputs=(1, 3, 224, 224)")
    from predictor.frontends.load import resized
    from predictor.frontends.torch_module import rebatched, trace

    if resolution is not None:
        sides = (resolution, resolution) if isinstance(resolution, int) else resolution
        inputs = resized(inputs, sides)
    return trace(model, inputs if batch is None else rebatched(inputs, batch))
