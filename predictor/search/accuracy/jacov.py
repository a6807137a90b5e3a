"""Jacobian covariance: how differently an untrained network's answer bends for different inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from predictor.search.accuracy.images import Data
from predictor.search.accuracy.options import Maker
from predictor.search.accuracy.proxies import BATCH_SIZE, Batch, Proxy, logits_of

if TYPE_CHECKING:
    from torch import Tensor, nn

OFFSET = 1e-5


class Jacov(Proxy):
    """-sum(log(e + k) + 1 / (e + k)) over the eigenvalues e of a correlation matrix, k = 1e-5.

    The matrix correlates, over a batch, the derivatives of the summed outputs by each input.
    Mellor, Turner, Storkey and Crowley, "Neural Architecture Search without Training", first
    version (arXiv 2006.04647v1, 2020), section 3; called jacob_cov in Abdelfattah et al., ICLR
    2021. The floor is the value of eigenvalues that are all 0.
    """

    name = "jacov"

    def __init__(
        self, data: Data = None, *, batch_size: int = BATCH_SIZE, seeds: int = 1, seed: int = 0
    ) -> None:
        """As :class:`Proxy`."""
        super().__init__(data, batch_size=batch_size, seeds=seeds, seed=seed)
        self.floor = -batch_size * (math.log(OFFSET) + 1 / OFFSET)

    def measure(self, module: nn.Module, data: list[Batch]) -> float:
        """One forward and backward pass."""
        import torch

        inputs = data[0][0].clone().requires_grad_(True)
        (slopes,) = torch.autograd.grad(logits_of(module(inputs)).sum(), inputs)
        return spread_score(slopes.flatten(1))


def spread_score(rows: Tensor) -> float:
    """The formula of :class:`Jacov` for derivatives, a row an input; NaN where one is constant."""
    import torch

    correlation = torch.corrcoef(rows.double())
    if not bool(correlation.isfinite().all()):
        return math.nan
    values = torch.linalg.eigvalsh(correlation) + OFFSET
    return -float((values.log() + 1 / values).sum())


SIGNALS: dict[str, Maker] = {"jacov": lambda rest, options: Jacov(options.data, seed=options.seed)}
