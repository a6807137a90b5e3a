"""ZiCo: how alike an untrained network's gradients are from batch to batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from predictor.search.accuracy.gradients import gradients
from predictor.search.accuracy.options import Maker
from predictor.search.accuracy.proxies import Batch, Proxy

if TYPE_CHECKING:
    from torch import nn


class ZiCo(Proxy):
    """Sum over layers of log sum over weights of mean |gradient| / deviation of the gradient.

    Mean and deviation are over batches. Li, Yang, Bhardwaj and Marculescu, "ZiCo: Zero-shot NAS via
    Inverse Coefficient of Variation on Gradients", ICLR 2023, equation 22. Layers whose gradients
    do not change from batch to batch (none reaches them) are left out, as in the authors' code.
    The floor is 0: a layer of a few weights scores more.
    """

    name = "zico"
    batch_count = 2

    def measure(self, module: nn.Module, data: list[Batch]) -> float:
        """A forward and backward pass for each batch."""
        import torch

        seen = [gradients(module, batch, weights_only=True) for batch in data]
        total = 0.0
        for layer in zip(*seen, strict=True):
            stacked = torch.stack(layer)
            spread = stacked.std(0, unbiased=False)
            ratio = float((stacked.abs().mean(0) / spread)[spread > 0].double().sum())
            total += math.log(ratio) if ratio > 0 else 0.0
        return total


SIGNALS: dict[str, Maker] = {"zico": lambda rest, options: ZiCo(options.data, seed=options.seed)}
