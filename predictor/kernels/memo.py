"""Remember what was worked out for a graph or its kernels: the same network is asked for again."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from predictor.graph import Kernel

Result = TypeVar("Result")

KEPT = 16
"""Results that each memory keeps, the latest used."""


class Memory(Generic[Result]):
    """Results by the identity of an object and anything else that they depend on.

    The object is held as long as its result, so that its number stays its own.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, Hashable], tuple[object, Result]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, held: object, rest: Hashable, make: Callable[[], Result]) -> Result:
        """What was made for ``held`` and ``rest``, or what ``make`` makes now."""
        key = (id(held), rest)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found[1]
        result = make()
        with self._lock:
            self._kept[key] = (held, result)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return result


def remembered(work: Callable[[Sequence[Kernel]], Result]) -> Callable[[Sequence[Kernel]], Result]:
    """``work``, done once for each tuple of kernels; for lists, which may change, every time."""
    memory: Memory[Result] = Memory()

    @functools.wraps(work)
    def known(kernels: Sequence[Kernel]) -> Result:
        if not isinstance(kernels, tuple):
            return work(kernels)
        return memory.get(kernels, None, lambda: work(kernels))

    return known
