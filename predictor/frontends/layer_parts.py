"""What the makers of layers work with: a builder that ties weights, and the layer at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from predictor.builder import GraphBuilder, Value
from predictor.errors import ModelError


class TyingBuilder(GraphBuilder):
    """A builder that ties the weights of layers that ``share`` a word."""

    _word: str | None = None
    _step = 0

    def tie(self, word: str | None) -> None:
        """The next layer's weights are those of ``word``; None: its own."""
        self._word, self._step = word, 0

    def op(
        self, kind: str, inputs: Sequence[Value], out_shapes: Sequence[Sequence[int]], *,
        name: str = "", attrs: dict[str, Any] | None = None,
        weights: Sequence[tuple[str, Sequence[int], str]] = (), dtype: str | None = None,
        share: str | None = None,
    ) -> tuple[Value, ...]:  # fmt: skip
        """As in :class:`GraphBuilder`; tied weights must have the same shapes."""
        if self._word is not None and weights:
            share = f"{self._word}/{self._step}"
            self._step += 1
            if share in self._shared:
                there = [list(self._weights[i].spec.shape) for i in self._shared[share]]
                wanted = [list(shape) for _, shape, _ in weights]
                if there != wanted:
                    raise ModelError(f"share: '{self._word}' has weights {there}, this layer wants "
                                     f"{wanted}")  # fmt: skip
        return super().op(kind, inputs, out_shapes, name=name, attrs=attrs, weights=weights,
                          dtype=dtype, share=share)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer to be made: its sources, and its keys with defaults filled in."""

    b: GraphBuilder
    type: str
    name: str
    xs: tuple[Value, ...]
    keys: Mapping[str, Any]

    @property
    def x(self) -> Value:
        """The first source."""
        return self.xs[0]

    def __getitem__(self, key: str) -> Any:
        return self.keys[key]

    def axis(self, axis: int, x: Value | None = None) -> int:
        """``axis`` counted from 0."""
        shape = (x or self.x).shape
        if not -len(shape) <= axis < len(shape):
            raise ModelError(f"axis {axis} is none of {list(shape)}")
        return axis % len(shape)

    def sides(self, value: Any, key: str) -> tuple[int, ...]:
        """One number for every side of (N, C, *sides), or as many as there are."""
        count = len(self.x.shape) - 2
        if count < 1:
            raise ModelError(f"reads (N, C, ...), got {list(self.x.shape)}")
        items = (value,) if isinstance(value, int) else tuple(value)
        if len(items) not in (1, count):
            raise ModelError(f"{key} has {len(items)} numbers for {count} sides of "
                             f"{list(self.x.shape)}")  # fmt: skip
        return items * count if len(items) == 1 else items
