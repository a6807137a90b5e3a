"""Imported once by the process that workers are forked from: all but PyTorch."""

from __future__ import annotations

import gc


def load() -> None:
    """Everything that a prediction from layers, names of families or ONNX needs."""
    import jsonschema_rs  # noqa: F401
    import numpy
    import onnx  # noqa: F401
    import orjson  # noqa: F401
    import python_multipart  # noqa: F401

    numpy.zeros(1)


load()
gc.collect()
gc.freeze()  # shared by all workers, and not to be looked at again by any
