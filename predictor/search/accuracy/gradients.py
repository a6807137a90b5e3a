"""The gradients of a batch, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictor.search.accuracy.proxies import Batch, loss_of

if TYPE_CHECKING:
    from torch import Tensor, nn


def gradients(module: nn.Module, batch: Batch, *, weights_only: bool) -> list[Tensor]:
    """Gradients of the cross-entropy, one flat tensor a parameter, zeros where none arrives.

    Args:
        module: the network in training mode.
        batch: inputs and labels.
        weights_only: only the weights of layers (two axes or more), no biases or normalisations.
    """
    import torch

    parameters = [p for p in module.parameters() if p.requires_grad]
    if weights_only:
        parameters = [p for p in parameters if p.ndim > 1]
    found = torch.autograd.grad(loss_of(module, batch), parameters, allow_unused=True)
    return [
        torch.zeros(p.numel()) if g is None else g.detach().flatten()
        for p, g in zip(parameters, found, strict=True)
    ]
