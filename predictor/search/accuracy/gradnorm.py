"""The norm of an untrained network's gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictor.search.accuracy.gradients import gradients
from predictor.search.accuracy.options import Maker
from predictor.search.accuracy.proxies import Batch, Proxy

if TYPE_CHECKING:
    from torch import nn


class GradNorm(Proxy):
    """Sum over parameter tensors of the Euclidean norm of the cross-entropy's gradient.

    Abdelfattah, Mehrotra, Dudziak and Lane, "Zero-Cost Proxies for Lightweight NAS", ICLR 2021,
    section 3.1. The floor is 0.
    """

    name = "gradnorm"

    def measure(self, module: nn.Module, data: list[Batch]) -> float:
        """One forward and backward pass."""
        return sum(float(g.norm()) for g in gradients(module, data[0], weights_only=False))


SIGNALS: dict[str, Maker] = {
    "gradnorm": lambda rest, options: GradNorm(options.data, seed=options.seed)
}
