"""One architecture as an accuracy signal sees it, and what a signal is."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from predictor.errors import PredictorError
from predictor.front import Values

if TYPE_CHECKING:
    from torch import nn

    from predictor.graph import Graph
    from predictor.search.space import SearchSpace


class Pruned(Exception):
    """An accuracy signal gives up on a candidate, as its intermediate values do not promise."""


class SignalError(PredictorError):
    """An accuracy signal failed on one candidate; the search goes on with others."""

    exit_code = 1


def _never(step: int, accuracy: float) -> bool:
    return False


@dataclass(frozen=True)
class Candidate:
    """An architecture, its graph and its module, each made when it is asked for.

    ``prune`` tells whether a candidate with this accuracy after so many steps should be given up.
    """

    space: SearchSpace
    values: Values
    prune: Callable[[int, float], bool] = field(default=_never, compare=False)

    @functools.cached_property
    def key(self) -> str:
        """The architecture as text."""
        return self.space.key(self.values)

    @functools.cached_property
    def graph(self) -> Graph:
        """The network at batch 1."""
        return self.space.graph(self.values)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input, batch 1."""
        return self.graph.input_specs[0].shape

    def module(self) -> nn.Module:
        """A new ``torch.nn.Module`` with freshly drawn weights."""
        return self.space.module(self.values)

    def report(self, step: int, accuracy: float) -> None:
        """Tell an intermediate accuracy, such as that after an epoch.

        Raises:
            Pruned: compared with others at this step it does not promise; leave it to the search.
        """
        if self.prune(step, float(accuracy)):
            raise Pruned(f"given up at step {step}")


class Signal(ABC):
    """Something that tells how good an architecture is. Higher is better.

    ``name`` is what reports call it, ``unit`` what its numbers are ("%" or empty).
    """

    name: str = ""
    unit: str = ""

    @abstractmethod
    def score(self, candidate: Candidate) -> float:
        """The accuracy, or whatever stands in for it; a finite number.

        Raises:
            Pruned: the candidate was given up early.
            SignalError: this candidate cannot be scored; others can.
            PredictorError: no candidate can be.
        """

    def close(self) -> None:  # noqa: B027 (most signals hold nothing)
        """Give back what it holds: processes, files."""
