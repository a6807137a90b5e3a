"""A network family as a space whose architectures are read keys, at any resolution."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from predictor.errors import ModelError
from predictor.front import Value, Values
from predictor.frontends.families import FAMILIES, fbnet, nasbench201, ofa
from predictor.frontends.families.parts import Part
from predictor.search.space import SearchSpace
from predictor.search.spaces.find import load_space

_CHAINS: dict[str, Any] = {"ofa": ofa.chain, "nasbench201": nasbench201.chain, "fbnet": fbnet.chain}
_LEAST = {"ofa": 1, "nasbench201": 4, "fbnet": 1}
"""Pixels a side: the least, and what they must be a multiple of."""
CONFIG, SIDE = "config", "side"


def values_of(source: str, model: str, resolution: Any) -> dict[str, Any] | None:
    """What the family ``source`` makes of a model's name at a resolution; None: an error of it.

    ``resolution`` is a number of pixels, a pair of them, or None, which is what the key asks for.
    """
    family = FAMILIES[source]
    try:
        config = family.parse(model[len(source) + 1 :])
    except ModelError:
        return None
    side = family.resolution(config) if resolution is None else resolution
    if isinstance(side, tuple):
        side = side[0] if len(side) == 2 and side[0] == side[1] else 0
    least = _LEAST[source]
    if not isinstance(side, int) or side < least or side % least:
        return None
    return {CONFIG: config, SIDE: side}


class FamilySpace(SearchSpace):
    """Architectures as :func:`values_of` gives them; it is never asked for its parameters."""

    def __init__(self, source: str) -> None:
        self.name = self.source = source
        self._space = load_space(source).space
        self._chain = _CHAINS[source]

    def input_shape(self, values: Values) -> tuple[int, ...]:
        """RGB images."""
        side = int(values[SIDE])
        return (3, side, side)

    def chain(self, values: Values) -> Sequence[tuple[str, Part]]:
        """The family's parts."""
        found: Sequence[tuple[str, Part]] = self._chain(values[CONFIG])
        return found

    def key(self, values: Values) -> str:
        """Without the prefix."""
        config: Any = values[CONFIG]
        return str(config.key)

    def random(self, chance: Random) -> dict[str, Value]:
        """An architecture of the published space."""
        key = self._space.key(self._space.random(chance))
        found = values_of(self.source, f"{self.source}:{key}", None)
        assert found is not None
        return found
