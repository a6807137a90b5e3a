"""Search for architectures under latency and other budgets: spaces, costs, signals, studies.

from predictor.search import search
result = search("ofa", device="jetson", budget={"latency_ms": 15}, accuracy="train.py:evaluate")
print(result.best.key)
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "Candidate": "candidate", "Pruned": "candidate", "Search": "study", "SearchSpace": "space",
    "Signal": "candidate", "load_space": "spaces.find", "search": "running",
}  # fmt: skip
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'predictor.search' has no attribute '{name}'")
    return getattr(importlib.import_module(f"predictor.search.{_WHERE[name]}"), name)
