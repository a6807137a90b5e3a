"""Latency of neural networks on hardware that is not there.

    import predictor
    graph = predictor.trace(module, (1, 3, 224, 224))
    estimate = predictor.predict(graph, device="jetson")
    print(estimate.latency_ms, estimate.interval_ms)

Importing this package loads neither torch nor any other heavy library; names arrive on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictor.counting import Count, count
    from predictor.device import devices, load_device
    from predictor.errors import PredictorError
    from predictor.estimate import Budget, Estimate, KernelEstimate
    from predictor.frontends.load import load_graph
    from predictor.frontends.torch_module import trace
    from predictor.graph import Graph, Kernel, Op, TensorSpec
    from predictor.hardware import Device
    from predictor.operators import register_custom
    from predictor.pipeline import Predictor, predict

__version__ = "0.1.0"

_WHERE = {
    "Budget": "estimate", "Count": "counting", "Device": "hardware", "Estimate": "estimate",
    "Graph": "graph", "Kernel": "graph", "KernelEstimate": "estimate", "Op": "graph",
    "Predictor": "pipeline", "PredictorError": "errors", "TensorSpec": "graph",
    "count": "counting", "devices": "device", "load_device": "device",
    "load_graph": "frontends.load", "predict": "pipeline", "register_custom": "operators",
    "trace": "frontends.torch_module",
}  # fmt: skip

__all__ = [
    "Budget", "Count", "Device", "Estimate", "Graph", "Kernel", "KernelEstimate", "Op",
    "Predictor", "PredictorError", "TensorSpec", "count", "devices", "load_device", "load_graph",
    "predict", "register_custom", "trace",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'predictor' has no attribute '{name}'")
    value = getattr(import_module(f"predictor.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
