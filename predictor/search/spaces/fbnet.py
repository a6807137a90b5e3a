"""FBNet: 22 blocks of nine choices each, see the family of that name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from predictor.errors import ConfigError, ModelError
from predictor.front import Value, Values
from predictor.frontends.families import fbnet as family
from predictor.frontends.families.parts import Part
from predictor.search.space import SearchSpace

if TYPE_CHECKING:
    from torch import nn

_BLOCKS = tuple(f"block_{number}" for number in range(1, family.BLOCKS + 1))
PARAMETERS: dict[str, tuple[Value, ...]] = dict.fromkeys(_BLOCKS, tuple(family.CHOICES))


class FBNet(SearchSpace):
    """``block_1`` to ``block_22`` are the choices of the blocks, by name."""

    name = source = "fbnet"
    parameters = PARAMETERS

    def input_shape(self, values: Values) -> tuple[int, ...]:
        """CIFAR images."""
        return (3, family.RESOLUTION, family.RESOLUTION)

    def chain(self, values: Values) -> Sequence[tuple[str, Part]]:
        """Stem, blocks, header, head."""
        return family.chain(self._net(values))

    def key(self, values: Values) -> str:
        """As in ``fbnet:KEY``."""
        return self._net(values).key

    def values(self, key: str) -> dict[str, Value]:
        """Inverse of :meth:`key`."""
        try:
            net = family.parse(key)
        except ModelError as error:
            raise ConfigError(str(error)) from None
        return dict(zip(_BLOCKS, net.choices, strict=True))

    def module(self, values: Values) -> nn.Module:
        """The family's own module."""
        return family.module(self.key(values))

    @staticmethod
    def _net(values: Values) -> family.Blocks:
        return family.Blocks(tuple(str(values[name]) for name in _BLOCKS))
