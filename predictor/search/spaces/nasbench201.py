"""NAS-Bench-201: six edges of five operations each, see the family of that name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from predictor.errors import ConfigError, ModelError
from predictor.front import Value, Values
from predictor.frontends.families import nasbench201 as family
from predictor.frontends.families.parts import Part
from predictor.search.space import SearchSpace

if TYPE_CHECKING:
    from torch import nn

EDGES = tuple(f"edge_{source}{target}" for target in (1, 2, 3) for source in range(target))
PARAMETERS: dict[str, tuple[Value, ...]] = dict.fromkeys(EDGES, family.OPERATIONS)


class NasBench201(SearchSpace):
    """``edge_01`` to ``edge_23`` are the operations of the cell's edges."""

    name = source = "nasbench201"
    parameters = PARAMETERS

    def input_shape(self, values: Values) -> tuple[int, ...]:
        """CIFAR images."""
        return (3, family.RESOLUTION, family.RESOLUTION)

    def chain(self, values: Values) -> Sequence[tuple[str, Part]]:
        """Stem, cells and reductions, head."""
        return family.chain(self._cell(values))

    def key(self, values: Values) -> str:
        """In the benchmark's own notation."""
        return self._cell(values).key

    def values(self, key: str) -> dict[str, Value]:
        """Inverse of :meth:`key`."""
        try:
            cell = family.parse(key)
        except ModelError as error:
            raise ConfigError(str(error)) from None
        return dict(zip(EDGES, cell.operations, strict=True))

    def module(self, values: Values) -> nn.Module:
        """The family's own module."""
        return family.module(self.key(values))

    @staticmethod
    def _cell(values: Values) -> family.Cell:
        return family.Cell(tuple(str(values[edge]) for edge in EDGES))
