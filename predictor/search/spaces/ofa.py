"""Once-for-all MobileNetV3: kernel and expansion a block, depth a stage, resolution and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from predictor.errors import ConfigError, ModelError
from predictor.front import Value, Values
from predictor.frontends.families import ofa as family
from predictor.frontends.families.parts import Part
from predictor.search.space import SearchSpace

if TYPE_CHECKING:
    from torch import nn

RESOLUTIONS = tuple(range(128, 225, 16))
WIDTHS = (1.0, 1.2)
_KERNELS = tuple(f"k{stage}{slot}" for stage in range(1, 6) for slot in range(1, 5))
_EXPANSIONS = tuple(f"e{name[1:]}" for name in _KERNELS)
_DEPTHS = tuple(f"d{stage}" for stage in range(1, 6))
_SLOT_OF = {name: divmod(index, family.SLOTS) for names in (_KERNELS, _EXPANSIONS)
            for index, name in enumerate(names)}  # fmt: skip

PARAMETERS: dict[str, tuple[Value, ...]] = {
    "resolution": RESOLUTIONS, "width": WIDTHS,
    **dict.fromkeys(_DEPTHS, family.DEPTHS), **dict.fromkeys(_KERNELS, family.KERNELS),
    **dict.fromkeys(_EXPANSIONS, family.EXPANSIONS),
}  # fmt: skip


class OnceForAll(SearchSpace):
    """``k11`` is the kernel of stage 1's first block, ``e11`` its expansion, ``d1`` the depth of
    stage 1, ``resolution`` the pixels a side and ``width`` the multiplier of all channels."""

    name = source = "ofa"
    parameters = PARAMETERS

    def input_shape(self, values: Values) -> tuple[int, ...]:
        """RGB images of the resolution."""
        side = int(values["resolution"])
        return (3, side, side)

    def chain(self, values: Values) -> Sequence[tuple[str, Part]]:
        """First convolution, blocks, head."""
        return family.chain(self._net(values))

    def canonical(self, values: Values) -> dict[str, Value]:
        """Blocks that the depth leaves out stand at their first values."""
        found = {name: values[name] for name in self.parameters}
        for name, (stage, slot) in _SLOT_OF.items():
            if slot >= values[_DEPTHS[stage]]:  # type: ignore[operator]
                found[name] = self.parameters[name][0]
        return found

    def key(self, values: Values) -> str:
        """As in ``ofa:KEY``."""
        return self._net(self.canonical(values)).key

    def values(self, key: str) -> dict[str, Value]:
        """Inverse of :meth:`key`."""
        try:
            net = family.parse(key)
        except ModelError as error:
            raise ConfigError(str(error)) from None
        found: dict[str, Value] = {"resolution": net.r, "width": net.w}
        found.update(zip(_DEPTHS, net.d, strict=True))
        found.update(zip(_KERNELS, net.ks, strict=True))
        found.update(zip(_EXPANSIONS, net.e, strict=True))
        return self.canonical(found)

    def module(self, values: Values) -> nn.Module:
        """The family's own module."""
        return family.module(self.key(values))

    @staticmethod
    def _net(values: Values) -> family.SubNet:
        return family.SubNet(
            tuple([int(values[name]) for name in _KERNELS]),
            tuple([int(values[name]) for name in _EXPANSIONS]),
            tuple([int(values[name]) for name in _DEPTHS]),
            int(values["resolution"]), float(values["width"]),
        )  # fmt: skip
