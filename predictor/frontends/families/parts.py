"""A network as a chain of parts, each from one tensor to one: what search spaces are made of.

Parts are interned: two parts that make the same operators are one object, so that what was worked
out for one is found again without building it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from predictor.builder import GraphBuilder, Value
from predictor.graph import Graph

Make = Callable[..., Value]
"""``make(builder, x, name, *arguments)`` adds operators and returns what they end in."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Operators from one tensor to one; equal arguments make equal operators."""

    make: Make
    arguments: tuple[Hashable, ...] = ()

    def add(self, builder: GraphBuilder, x: Value, name: str) -> Value:
        """Add the operators behind ``x``, their names beginning with ``name``."""
        return self.make(builder, x, name, *self.arguments)


@functools.cache
def part(make: Make, *arguments: Hashable) -> Part:
    """The one part that ``make`` and ``arguments`` are."""
    return Part(make, arguments)


def assembled(
    builder: GraphBuilder, shape: Sequence[int], chain: Iterable[tuple[str, Part]],
    dtype: str | None = None,
) -> Graph:  # fmt: skip
    """The graph of named parts, one behind the other, fed with one tensor of ``shape``."""
    x = builder.input(shape, dtype=dtype)
    for name, one in chain:
        x = one.add(builder, x, name)
    return builder.finish(x)
