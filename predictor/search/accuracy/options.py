"""What a signal is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from predictor.errors import ConfigError
from predictor.search.accuracy.images import Data
from predictor.search.candidate import Signal

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that any signal can be told; each takes what concerns it.

    Args:
        data: inputs and labels, see :data:`~predictor.search.accuracy.images.Data`.
        seconds: limit of one evaluation of a user's function; None is an hour.
        seed: of weights, batches and the reference sample.
        column: of a table, that holds the accuracy; None is the one called accuracy.
        canonical: turns a key of a table into the space's own way of writing it.
        epochs: of the short training; None is its default.
    """

    data: Data = None
    seconds: float | None = None
    seed: int = 0
    column: str | None = None
    canonical: Callable[[str], str] | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError(f"--evaluation-time {self.seconds}: seconds above 0")
        if self.epochs is not None and self.epochs < 1:
            raise ConfigError(f"{self.epochs} epochs: 1 at least")


Maker = Callable[[str, Options], Signal]
"""Makes a signal from what follows the colon of its name (empty without one)."""
