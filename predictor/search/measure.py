"""Winners measured for real, and what to measure next when only a few can be.

Three measurements, one after the other, find an architecture that keeps a latency budget on a
device whose latencies are only predicted: the first keeps a part of the interval free; one that
turns out to be over budget teaches how far predictions are off there, and the next keeps more; one
within budget lets the next be bolder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from predictor.kernels.features import Floats

FIRST_MARGIN = 0.5
BOLDER = (0.0, 0.25)
"""Margins after a measurement within the budget: the second, and later ones."""
SAFER = (0.75, 1.25)
"""The same after one over the budget."""
SHRUNK = 0.5
"""How much of the mean error of what was measured within budget is taken for the next one's."""


@dataclass
class Verification:
    """Which of many candidates to measure next.

    Args:
        predicted_ms: what each is predicted to take.
        half_width: of the 90 % interval, in logarithms: one for all, or one each.
        accuracy: of each; NaN where it is not known.
        budget_ms: what the answer must not exceed.
    """

    predicted_ms: Floats
    half_width: Floats | float
    accuracy: Floats
    budget_ms: float
    measured: dict[int, float] = field(default_factory=dict)

    @property
    def answer(self) -> int | None:
        """The most accurate candidate that was measured within the budget."""
        good = [i for i, ms in self.measured.items() if ms <= self.budget_ms]
        return max(good, key=lambda i: float(self.accuracy[i]), default=None)

    def next(self) -> int | None:
        """The candidate to measure now; None where no other promises more than the answer."""
        margin, shift = self._caution()
        bound = self.predicted_ms * np.exp(margin * self.half_width + shift)
        fits = (bound <= self.budget_ms) & np.isfinite(self.accuracy)
        best = self.answer
        if best is not None:
            fits &= self.accuracy > self.accuracy[best]
        fits[list(self.measured)] = False
        if fits.any():
            at = np.flatnonzero(fits)
            return int(at[np.argmax(self.accuracy[at])])
        if best is not None:
            return None
        left = np.isfinite(self.accuracy)
        left[list(self.measured)] = False
        at = np.flatnonzero(left)
        return int(at[np.argmin(self.predicted_ms[at])]) if len(at) else None

    def tell(self, index: int, measured_ms: float) -> None:
        """What a candidate took."""
        self.measured[index] = measured_ms

    def _caution(self) -> tuple[float, float]:
        if not self.measured:
            return FIRST_MARGIN, 0.0
        errors = [math.log(ms / self.predicted_ms[i]) for i, ms in self.measured.items()]
        later = min(len(errors) - 1, 1)
        if self.answer is not None:
            return BOLDER[later], SHRUNK * sum(errors) / len(errors)
        return SAFER[later], max(*errors, 0.0)
