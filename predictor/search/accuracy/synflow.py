"""SynFlow: how much an untrained network passes on through all of its paths."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from predictor.search.accuracy.options import Maker
from predictor.search.accuracy.proxies import Batch, Proxy, logits_of

if TYPE_CHECKING:
    from torch import nn

LOWEST, HIGHEST = math.log(5e-324), math.log(1.7976931348623157e308)
"""Logarithms of the smallest and the largest positive number in double precision."""


class SynFlow(Proxy):
    """log of the sum over parameters of parameter x gradient.

    Of the network with the absolute values of its weights, the sum of whose outputs R for an input
    of ones is differentiated: log sum(|theta| dR/d|theta|). Tanaka, Kunin, Yamins and Ganguli,
    "Pruning neural networks without any data by iteratively conserving synaptic flow", NeurIPS
    2020, equation 2; as a score of architectures: Abdelfattah et al., "Zero-Cost Proxies for
    Lightweight NAS", ICLR 2021. Normalisation layers pass their input on, as there. Double
    precision; beyond its range the score stays at its end.
    """

    name = "synflow"
    floor = LOWEST

    def measure(self, module: nn.Module, data: list[Batch]) -> float:
        """One forward and backward pass for one input of ones."""
        import torch

        module = module.double().eval()
        for part in module.modules():
            if _normalises(part):
                part.register_forward_hook(_pass_on)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.abs_()
        ones = torch.ones_like(data[0][0][:1], dtype=torch.float64)
        total = logits_of(module(ones)).sum()
        total.backward()  # type: ignore[no-untyped-call]
        if total.isinf():
            return HIGHEST
        flow = sum(
            float((p.detach() * p.grad).sum()) for p in module.parameters() if p.grad is not None
        )
        return min(math.log(flow), HIGHEST) if flow > 0 else self.floor


def _normalises(part: nn.Module) -> bool:
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    return isinstance(part, (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm))


def _pass_on(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    return inputs[0]


SIGNALS: dict[str, Maker] = {
    "synflow": lambda rest, options: SynFlow(options.data, seed=options.seed)
}
