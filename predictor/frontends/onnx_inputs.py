"""Shapes of an ONNX model's inputs: symbols bound to numbers, every assumption noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from predictor.errors import ModelError, suggest
from predictor.frontends.onnx_file import checked_spec, element_type
from predictor.graph import TensorSpec

Dim = int | str | None
"""A size, a symbol, or nothing said."""


class Binder:
    """Turns declared shapes into numbers, after what the caller asked for.

    Args:
        place: the file, for messages.
        batch: size of the first dimension of every input, or None for the file's (1 if symbolic).
        resolution: height and width (or one number for both) of inputs (N, C, H, W).
        shapes: whole shapes by input name; they win over everything else.
    """

    def __init__(
        self, place: str, batch: int | None, resolution: int | tuple[int, int] | None,
        shapes: Mapping[str, Sequence[int]] | None,
    ) -> None:  # fmt: skip
        if batch is not None and batch < 1:
            raise ModelError(f"batch must be 1 or more, got {batch}", file=place)
        sides = (resolution,) * 2 if isinstance(resolution, int) else resolution
        if sides is not None and (len(sides) != 2 or min(sides) < 1):
            raise ModelError(f"resolution must be 1 or more, got {resolution}", file=place)
        self.place, self.batch, self.sides = place, batch, sides
        self.shapes = {key: tuple(int(n) for n in s) for key, s in (shapes or {}).items()}
        self.symbols: dict[str, int] = {}
        self.notes: list[str] = []

    def inputs(self, declared: Sequence[Any]) -> list[tuple[str, TensorSpec]]:
        """Names and specs of ValueInfoProtos, in order."""
        names = [info.name for info in declared]
        for key in self.shapes:
            if key not in names:
                raise ModelError(
                    f"shapes names '{key}', which is no input; the inputs are "
                    f"{', '.join(names)}.{suggest(key, names)}",
                    file=self.place,
                )
        found = [(info, *self._declared(info)) for info in declared]
        for info, dims, _ in found:  # a symbol that one input fixes holds for all
            given = self.shapes.get(info.name)
            if given is not None and dims is not None and len(given) == len(dims):
                for size, dim in zip(given, dims, strict=True):
                    if isinstance(dim, str):
                        self.symbols.setdefault(dim, size)
        return [(info.name, self._bound(info.name, dims, dtype)) for info, dims, dtype in found]

    def declared(self, info: Any) -> TensorSpec | None:
        """The spec of a ValueInfoProto whose symbols are all bound; else None."""
        if info.type.WhichOneof("value") != "tensor_type" or not info.type.tensor_type.HasField(
            "shape"
        ):
            return None
        sizes: list[int] = []
        for dim in _dims(info):
            size = self.symbols.get(dim) if isinstance(dim, str) else dim
            if size is None or size < 0:
                return None
            sizes.append(size)
        dtype = element_type(info.type.tensor_type.elem_type, f"'{info.name}'")
        return checked_spec(tuple(sizes), dtype, f"'{info.name}'")

    def _declared(self, info: Any) -> tuple[list[Dim] | None, str]:
        label = f"{self.place}: input '{info.name}'"
        if info.type.WhichOneof("value") != "tensor_type":
            raise ModelError(f"{label} is no plain tensor; cut the part that takes it off")
        dtype = element_type(info.type.tensor_type.elem_type, label)
        return (_dims(info) if info.type.tensor_type.HasField("shape") else None), dtype

    def _bound(self, name: str, dims: list[Dim] | None, dtype: str) -> TensorSpec:
        label = f"{self.place}: input '{name}'"
        given = self.shapes.get(name)
        if given is not None:
            if dims is not None and len(given) != len(dims):
                raise ModelError(
                    f"{label} has {len(dims)} dimensions, shapes gives {len(given)}: {list(given)}"
                )
            self._note_changes(name, dims or [None] * len(given), given)
            return self._positive(given, dtype, label)
        if dims is None:
            raise ModelError(
                f"{label} has no shape in the file; give it: shapes={{'{name}': [1, ...]}}"
            )
        sizes = [self._size(name, dims, position) for position in range(len(dims))]
        return self._positive(tuple(sizes), dtype, label)

    def _size(self, name: str, dims: list[Dim], position: int) -> int:
        dim = dims[position]
        side = position - (len(dims) - 2)
        fixed = dim if isinstance(dim, int) else None
        if position == 0 and (self.batch is not None or fixed is None) and len(dims) > 0:
            bound = self.symbols.get(dim) if isinstance(dim, str) else None
            size = self.batch or bound or (1 if fixed is None else fixed)
            if fixed is None and self.batch is None and bound is None:
                self._note(f"input '{name}': the batch is open in the file; read with batch 1")
            elif fixed is not None and fixed != size:
                self._note(f"input '{name}': the file fixes batch {fixed}; read with {size}")
        elif len(dims) == 4 and side >= 0 and self.sides is not None:
            size = self.sides[side]
            if fixed is not None and fixed != size:
                self._note(f"input '{name}': the file fixes size {fixed}; read with {size}")
        elif fixed is not None:
            return fixed
        elif isinstance(dim, str) and dim in self.symbols:
            return self.symbols[dim]
        else:
            what = f"'{dim}'" if dim else "unnamed"
            shown = ", ".join(str(d) if d is not None else "?" for d in dims)
            also = " or resolution=" if len(dims) == 4 and side >= 0 else ""
            raise ModelError(
                f"{self.place}: input '{name}' [{shown}]: dimension {position} is open ({what}); "
                f"give the whole shape{also}: shapes={{'{name}': [...]}}"
            )
        if isinstance(dim, str):
            self.symbols.setdefault(dim, size)
        return size

    def _note_changes(self, name: str, dims: Sequence[Dim], given: tuple[int, ...]) -> None:
        if any(isinstance(dim, int) and dim != n for dim, n in zip(dims, given, strict=True)):
            shown = [d if d is not None else "?" for d in dims]
            self._note(f"input '{name}': the file says {shown}; read with {list(given)}")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _positive(self, sizes: tuple[int, ...], dtype: str, label: str) -> TensorSpec:
        return checked_spec(sizes, dtype, label)


def _dims(info: Any) -> list[Dim]:
    found: list[Dim] = []
    for dim in info.type.tensor_type.shape.dim:
        kind = dim.WhichOneof("value")
        found.append(dim.dim_value if kind == "dim_value" else (dim.dim_param or None))
    return found
