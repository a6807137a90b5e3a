"""Networks that published latency tables measured, rebuilt from their published structure.

:func:`build` gives the inference form of a network on the meta device. ``docs/networks.md`` holds
each one against the parameters and operations that its authors publish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

Factory = Callable[[tuple[int, int], int | None], "nn.Module"]


def build(key: str, input_shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
    """Network ``key`` on the meta device, in inference mode.

    ``input_shape`` is (N, 3, H, W) in pixels; ``classes`` replaces the published number of
    classes. A key is a name of :func:`keys`, or ``timm:NAME``. Raises KeyError for any other.
    """
    import torch

    factory = _timm(key) if key.startswith("timm:") else _factories()[key]
    with torch.device("meta"):
        return factory((input_shape[-2], input_shape[-1]), classes).eval()


def keys() -> list[str]:
    """Names of the networks built here."""
    return sorted(_factories())


def _timm(key: str) -> Factory:
    from predictor.frontends.zoo_build import import_torchvision

    import_torchvision()  # timm imports it, also beside a torch that it was not built for
    import timm

    name = key.removeprefix("timm:")
    if timm.is_model(name):
        return lambda image, classes: _timm_model(name, image, classes)
    raise KeyError(key)


def _timm_model(name: str, image: tuple[int, int], classes: int | None) -> nn.Module:
    import timm

    extra: dict[str, object] = {} if classes is None else {"num_classes": classes}
    default = timm.get_pretrained_cfg(name, allow_unregistered=False)
    # Networks with position tables are built for their image; most others take any.
    if default is not None and default.fixed_input_size and tuple(default.input_size[1:]) != image:
        extra["img_size"] = image
    return timm.create_model(name, **extra)


def _factories() -> dict[str, Factory]:
    from scripts.networks.catalogue import factories

    return factories()
