"""Imported once by the process that workers are forked from: what they all need."""

from __future__ import annotations

import contextlib
import gc
import importlib.util

from predictor.errors import PredictorError
from predictor.service import preload_light  # noqa: F401 - loads the rest


def load() -> None:
    """PyTorch and the model libraries, as far as they are installed."""
    if importlib.util.find_spec("torch") is None:
        return

    with contextlib.suppress(PredictorError):  # a broken one is told to who asks for its models
        if importlib.util.find_spec("torchvision") is not None:
            from predictor.frontends.zoo_build import import_torchvision

            import_torchvision()
            import torchvision.models  # noqa: F401
        if importlib.util.find_spec("timm") is not None:
            import timm  # noqa: F401


load()
gc.collect()
gc.freeze()  # shared by all workers, and not to be looked at again by any
