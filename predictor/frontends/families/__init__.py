"""Networks that a short key builds: one family per file, one prefix per family.

``nasbench201:|nor_conv_3x3~0|+...``, ``ofa:ks=7,e=6,d=4`` and ``fbnet:7-8-1-...`` name members of
published search spaces. A family file parses its key into a frozen dataclass, and turns that
into a :class:`~predictor.graph.Graph` (no framework needed) or into a ``torch.nn.Module``; both
hold the same operators. The format of the keys is described in ``docs/model-names.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from predictor.errors import ModelError, suggest
from predictor.frontends.families import fbnet, nasbench201, ofa
from predictor.graph import Graph

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "FAMILIES", "NetworkFamily", "default_resolution", "family_graph", "family_module", "is_family",
    "parse_key",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class NetworkFamily:
    """What a family offers.

    ``parse`` reads a key into the family's configuration and raises :class:`ModelError`;
    ``graph`` and ``module`` take a key, ``resolution`` says what the configuration asks for.
    """

    prefix: str
    parse: Callable[[str], Any]
    graph: Callable[..., Graph]
    module: Callable[[str], nn.Module]
    resolution: Callable[[Any], int]


def _family(prefix: str, source: ModuleType) -> NetworkFamily:
    return NetworkFamily(prefix, source.parse, source.graph, source.module, source.resolution_of)


FAMILIES: dict[str, NetworkFamily] = {
    prefix: _family(prefix, source)
    for prefix, source in (("nasbench201", nasbench201), ("ofa", ofa), ("fbnet", fbnet))
}
"""Families by prefix."""


def is_family(name: str) -> bool:
    """True where ``name`` starts with the prefix of a family."""
    return name.partition(":")[0] in FAMILIES


def parse_key(name: str) -> Any:
    """The configuration that ``name`` (prefix and key) stands for.

    Errors: :class:`ModelError` with the position of what is wrong.
    """
    family, key = _split(name)
    return family.parse(key)


def default_resolution(name: str) -> int:
    """Height and width in pixels of the input that ``name`` asks for."""
    family, key = _split(name)
    return family.resolution(family.parse(key))


def family_graph(name: str, *, batch: int = 1, resolution: int | None = None) -> Graph:
    """The graph of ``name``, built without any framework.

    Args:
        name: prefix and key, such as ``ofa:ks=7,e=6,d=4``.
        batch: images at once.
        resolution: height and width in pixels; None is what the key asks for.

    Errors: :class:`ModelError` for an unknown prefix, a wrong key, or sizes that do not fit.
    """
    family, key = _split(name)
    return family.graph(key, batch=batch, resolution=resolution)


def family_module(name: str) -> nn.Module:
    """The ``torch.nn.Module`` of ``name``, on torch's default device, randomly initialised.

    Errors: :class:`ModelError` as in :func:`family_graph`; ImportError without torch.
    """
    family, key = _split(name)
    return family.module(key)


def _split(name: str) -> tuple[NetworkFamily, str]:
    prefix, colon, key = name.partition(":")
    if prefix not in FAMILIES or not colon:
        raise ModelError(
            f"'{name}': no network family of the name '{prefix}'.{suggest(prefix, FAMILIES)} "
            f"Families: {', '.join(f'{known}:KEY' for known in FAMILIES)}"
        )
    return FAMILIES[prefix], key
