"""Remember what was worked out for a tuple of kernels: the same network is asked for again."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from predictor.graph import Kernel

Result = TypeVar("Result")

KEPT = 16
"""Tuples that each function remembers, the latest used."""


def remembered(work: Callable[[Sequence[Kernel]], Result]) -> Callable[[Sequence[Kernel]], Result]:
    """``work``, done once for each tuple of kernels; for lists, which may change, every time.

    A tuple is known by its identity: it is held as long as its result, so that the number stays
    its own.
    """
    kept: OrderedDict[int, tuple[Sequence[Kernel], Result]] = OrderedDict()
    lock = threading.Lock()

    @functools.wraps(work)
    def known(kernels: Sequence[Kernel]) -> Result:
        if not isinstance(kernels, tuple):
            return work(kernels)
        with lock:
            found = kept.get(id(kernels))
            if found is not None:
                kept.move_to_end(id(kernels))
                return found[1]
        result = work(kernels)
        with lock:
            kept[id(kernels)] = (kernels, result)
            while len(kept) > KEPT:
                kept.popitem(last=False)
        return result

    return known
