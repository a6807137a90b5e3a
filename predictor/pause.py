"""Hold the garbage collector still while many objects are made that all stay."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection for a while.

    A full collection walks everything that a deep-learning framework has loaded, 0.1 to 0.2 s;
    reading a network would set off several of them and free nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
