"""``digits``: a short real training on a small real data set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from predictor.errors import ConfigError, MissingExtra
from predictor.search.accuracy.images import Data, images_of, input_shape, shaped
from predictor.search.accuracy.options import Maker, Options
from predictor.search.accuracy.proxies import INSTALL, logits_of, loss_of, seeded
from predictor.search.candidate import Candidate, Signal, SignalError

if TYPE_CHECKING:
    from torch import Tensor, nn

Rows = npt.NDArray[np.int64]
EPOCHS, BATCH, LEARNING_RATE, MOMENTUM, DECAY = 4, 32, 0.0125, 0.9, 5e-4
SMALLEST_SIDE, LARGEST_SIDE = 8, 64
"""Pixels a side; between them networks train at a quarter of their own size, where they can."""
HELD_OUT = 0.25
CLIP = 5.0


class Digits(Signal):
    """Accuracy in percent on held-out images after a few epochs of training.

    By default scikit-learn's digits: 1,797 images, 1,348 to train on and 449 to judge by; the
    split, the order and the weights are drawn from the seed. SGD with Nesterov's momentum 0.9,
    weight decay 5e-4 and a cosine to 0, as NAS-Bench-201 trains (Dong and Yang, ICLR 2020), but
    from 0.0125, with which deep networks get going in so few steps, and with gradients clipped at
    norm 5. It tells what trains easily; how the accuracy after a long training on other images
    ranks, it tells worse than the ensemble of proxies (Spearman 0.4 on 24 NAS-Bench-201 cells).
    """

    name, unit = "digits", "%"

    def __init__(self, data: Data = None, *, epochs: int = EPOCHS, seed: int = 0) -> None:
        """Read the data.

        Raises:
            ConfigError: the data cannot be read or is too little.
            MissingExtra: PyTorch, or scikit-learn for the digits, is not installed.
        """
        try:
            import torch  # noqa: F401
        except ImportError:
            raise MissingExtra(INSTALL) from None
        self.images, self.epochs, self.seed = images_of(data), epochs, seed
        order = np.random.default_rng(seed).permutation(len(self.images))
        held = max(1, int(HELD_OUT * len(order)))
        self._held, self._train = order[:held], order[held:]
        if len(self._train) < 2:
            raise ConfigError(f"{self.images.name}: {len(order)} inputs are too few to train on")

    def score(self, candidate: Candidate) -> float:
        """Train and judge; every epoch's accuracy is reported.

        Raises:
            Pruned: the search gave it up after an epoch.
            SignalError: it cannot be trained: fewer outputs than classes, or an error of its own.
        """
        with seeded(self.seed):
            shape = input_shape(candidate)  # tracing it may build it, so the draws start anew
        with seeded(self.seed):
            module = candidate.module()
            try:
                x = self._inputs(candidate, module, shape)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise SignalError(
                    f"{candidate.key}: digits could not run it: {type(error).__name__}: {error}"
                ) from error
            return self._trained(candidate, module, x)

    def _inputs(self, candidate: Candidate, module: nn.Module, shape: tuple[int, ...]) -> Tensor:
        """All inputs, no larger than need be, in a size that the network takes."""
        import torch

        everything = np.arange(len(self.images))
        small = shape
        if len(shape) == 3 and max(shape[1:]) > SMALLEST_SIDE:
            side = min(max(max(shape[1:]) // 4, SMALLEST_SIDE), LARGEST_SIDE)
            small = (shape[0], side, side)
        tries = (small, shape) if small != shape else (shape,)
        for index, size in enumerate(tries):
            x = shaped(self.images, everything, size, self.seed)
            try:
                with torch.no_grad():
                    logits = logits_of(module.eval()(x[:2]))
            except (RuntimeError, ValueError):
                if index == len(tries) - 1:
                    raise
                continue
            break
        classes = int(self.images.labels.max()) + 1
        if logits.shape[1] < classes:
            raise SignalError(
                f"{candidate.key}: {logits.shape[1]} outputs, but {self.images.name} has {classes} "
                "classes"
            )
        return x

    def _trained(self, candidate: Candidate, module: nn.Module, x: Tensor) -> float:
        import torch

        labels = torch.from_numpy(self.images.labels)
        parameters = [p for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise SignalError(f"{candidate.key}: it has no parameters to train")
        sgd = torch.optim.SGD(parameters, LEARNING_RATE, MOMENTUM, weight_decay=DECAY,
                              nesterov=True)  # fmt: skip
        steps = [rows for epoch in range(self.epochs) for rows in self._epoch(epoch)]
        accuracy = 0.0
        for step, rows in enumerate(steps, start=1):
            for group in sgd.param_groups:
                group["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * (step - 1) / len(steps))) / 2
            module.train()
            sgd.zero_grad()
            loss = loss_of(module, (x[rows], labels[rows]))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            sgd.step()
            if step % (len(steps) // self.epochs) == 0:
                accuracy = self._accuracy(module, x, labels)
                candidate.report(step * self.epochs // len(steps), accuracy)
        return accuracy

    def _epoch(self, epoch: int) -> list[Rows]:
        """Rows of each step; the last few images of an odd number wait for another epoch."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self._train)
        size = min(BATCH, len(order))
        return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]

    def _accuracy(self, module: nn.Module, x: Tensor, labels: Tensor) -> float:
        import torch

        module.eval()
        right = 0
        with torch.no_grad():
            for start in range(0, len(self._held), 2 * BATCH):
                rows = self._held[start : start + 2 * BATCH]
                right += int((logits_of(module(x[rows])).argmax(1) == labels[rows]).sum())
        return 100 * right / len(self._held)


SIGNALS: dict[str, Maker] = {
    "digits": lambda rest, options: _make(options),
}


def _make(options: Options) -> Signal:
    return Digits(options.data, epochs=options.epochs or EPOCHS, seed=options.seed)
