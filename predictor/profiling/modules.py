"""Networks of a plan, built for real: weights in memory, inputs of random numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from predictor.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

_NAME = re.compile(r"(?P<model>.+?)(?:@(?P<side>\d+))?(?:\*(?P<batch>\d+))?\Z", re.DOTALL)


def split_name(name: str) -> tuple[str, int | None, int | None]:
    """A network's name in a plan as model, pixels a side and batch; None is the model's own."""
    found = _NAME.match(name)
    assert found is not None
    side, batch = found["side"], found["batch"]
    return found["model"], int(side) if side else None, int(batch) if batch else None


def build(name: str) -> tuple[nn.Module, Any]:
    """The module of a name such as ``timm:resnet18@160*4``, its weights set, and its input shape.

    Raises:
        ModelError: no such model, or it takes something else than one image.
    """
    from predictor.frontends.zoo import build_named

    model, side, batch = split_name(name)
    made = build_named(model, on_meta=False)
    shape = made.inputs
    if not (isinstance(shape, tuple) and len(shape) == 4):
        if side is not None or batch is not None or shape is None:
            raise ModelError(f"{name}: only networks that take one image can be resized in a plan")
        return made.module, shape
    pixels = side or shape[2]
    return made.module, (batch or 1, shape[1], pixels, pixels)


def built(
    model: Mapping[str, Any], floats: torch.dtype, device: torch.device
) -> tuple[nn.Module, list[Any], dict[str, Any]]:
    """The module that a program names, on ``device``, with inputs of ``floats``."""
    import torch

    module, shape = build(str(model["name"]))
    _steady(module)
    module = module.eval().to(device=device, dtype=floats)
    if not isinstance(shape, tuple):
        raise ModelError(f"{model['name']}: only networks that take images are timed as modules")
    shapes = shape if shape and isinstance(shape[0], tuple) else (shape,)
    return module, [torch.rand(*s, device=device, dtype=floats) - 0.5 for s in shapes], {}


def _steady(module: nn.Module) -> None:
    """Weights that no initialisation has set hold whatever was in memory: set those."""
    import torch

    with torch.no_grad():
        for name, tensor in module.named_parameters():
            if torch.isfinite(tensor).all() and tensor.abs().max() < 1e3:
                continue
            if tensor.dim() > 1:
                torch.nn.init.kaiming_uniform_(tensor)
            else:
                tensor.fill_(0.0 if name.endswith("bias") else 1.0)
        for name, buffer in module.named_buffers():
            if buffer.is_floating_point() and not torch.isfinite(buffer).all():
                buffer.fill_(1.0 if name.endswith("var") else 0.0)
