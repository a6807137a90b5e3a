"""What all zero-cost proxies share: fresh weights, batches, seeds, and floors for dead networks."""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError, MissingExtra
from predictor.search.accuracy.images import Data, Images, batches, images_of, input_shape
from predictor.search.candidate import Signal, SignalError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from predictor.search.candidate import Candidate

Batch = tuple["Tensor", "Tensor"]
"""Inputs and labels."""
BATCH_SIZE = 16
CHECKED = 4
"""Inputs whose answers must not all be alike."""
INSTALL = "PyTorch runs the networks: pip install 'latency-predictor[torch]'"


class Proxy(Signal):
    """A number from an untrained network that ranks architectures somewhat as training would.

    Every score is the mean over ``seeds`` draws of the weights; batches are the same for all
    candidates. The same arguments give the same score. ``floor`` is the lowest score there is: that
    of networks whose output does not depend on the input, and of anything that is not finite.
    """

    floor = 0.0
    batch_count = 1

    def __init__(
        self, data: Data = None, *, batch_size: int = BATCH_SIZE, seeds: int = 1, seed: int = 0
    ) -> None:
        """Read the data.

        Args:
            data: see :data:`~predictor.search.accuracy.images.Data`.
            batch_size: inputs at once, 2 or more.
            seeds: how many draws of the weights a score is the mean of.
            seed: the first one; it also draws the batches.

        Raises:
            ConfigError: a size that is too small, or data that cannot be read.
            MissingExtra: PyTorch is not installed, or scikit-learn for the digits.
        """
        if batch_size < 2 or seeds < 1:
            raise ConfigError(
                f"{self.name}: batches of {batch_size}, {seeds} seeds: 2 and 1 at least"
            )
        try:
            import torch  # noqa: F401
        except ImportError:
            raise MissingExtra(INSTALL) from None
        self.images: Images = images_of(data)
        self.batch_size, self.seeds, self.seed = batch_size, seeds, seed
        self._batches: tuple[tuple[int, ...], list[Batch]] | None = None

    @abstractmethod
    def measure(self, module: nn.Module, data: list[Batch]) -> float:
        """The score of one network in training mode; it may be changed. Infinite is allowed."""

    def score(self, candidate: Candidate) -> float:
        """Mean over the seeds; see :meth:`measure` for the formula.

        Raises:
            SignalError: the network cannot be run on one batch of floats.
        """
        with seeded(self.seed):  # tracing a candidate may build it
            data = self._data(input_shape(candidate))
        total = 0.0
        for seed in range(self.seed, self.seed + self.seeds):
            with seeded(seed):
                total += self._one(candidate, data)
        return total / self.seeds

    def _one(self, candidate: Candidate, data: list[Batch]) -> float:
        module = candidate.module().train()
        try:
            if ignores_input(module, data[0][0]):
                return self.floor
            value = self.measure(module, data)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise SignalError(
                f"{candidate.key}: {self.name} could not run it: {type(error).__name__}: {error}"
            ) from error
        return max(value, self.floor) if math.isfinite(value) else self.floor

    def _data(self, shape: tuple[int, ...]) -> list[Batch]:
        if self._batches is None or self._batches[0] != shape:
            made = batches(self.images, shape, self.batch_size, self.batch_count, self.seed)
            self._batches = (shape, made)
        return self._batches[1]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch draws as from this seed; afterwards as if nothing had happened."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def logits_of(output: Any) -> Tensor:
    """A network's answer as (batch, classes): of several its first tensor, of maps their mean."""
    import torch

    while not isinstance(output, torch.Tensor):
        if isinstance(output, dict):
            output = next(iter(output.values()), None)
        elif isinstance(output, (tuple, list)) and output:
            output = output[0]
        else:
            raise TypeError(f"the network returned {type(output).__name__}, not a tensor")
    return output.flatten(2).mean(2) if output.ndim > 2 else output.reshape(len(output), -1)


def loss_of(module: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of a batch; labels wrap around where the network has fewer classes."""
    from torch.nn.functional import cross_entropy

    logits = logits_of(module(batch[0]))
    return cross_entropy(logits, batch[1] % logits.shape[1])


def ignores_input(module: nn.Module, inputs: Tensor) -> bool:
    """The network answers all inputs alike, bar rounding."""
    import torch

    state = {name: value.clone() for name, value in module.named_buffers()}
    with torch.no_grad():
        logits = logits_of(module(inputs[:CHECKED]))
        for name, value in module.named_buffers():
            value.copy_(state[name])
    spread = (logits - logits.mean(0)).abs().max()
    return bool(spread <= 1e-6 * logits.abs().max().clamp(min=1e-30))
