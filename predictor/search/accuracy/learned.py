"""Accuracy learned from candidates that were evaluated: a Gaussian process over their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from predictor.errors import ConfigError
from predictor.front import Value, Values
from predictor.search.gaussian import Process, encoded

Floats = npt.NDArray[np.float64]
LARGEST = 2000
"""Points of a fit; its time grows with their cube. Of more, a seeded draw."""


class LearnedAccuracy:
    """Mean and deviation of the accuracy of architectures that were not evaluated.

    A Gaussian process (:mod:`predictor.search.gaussian`) over three groups of features: one-hot
    values of parameters, the places of numbers among a parameter's values, logarithms of sizes.
    """

    def __init__(self, parameters: Mapping[str, Sequence[Value]], *, seed: int = 0) -> None:
        """Know the space.

        Args:
            parameters: the values of each parameter, in their order.
            seed: of the draw where there are too many points.
        """
        self.parameters = {name: tuple(values) for name, values in parameters.items()}
        self.seed = seed
        self._process: Process | None = None
        self._size_shift: Floats = np.zeros(0)
        self._size_scale: Floats = np.ones(0)
        self._size_names: tuple[str, ...] = ()

    def fit(
        self,
        values: Sequence[Values],
        accuracies: Sequence[float],
        sizes: Sequence[Mapping[str, float]] | None = None,
    ) -> LearnedAccuracy:
        """Learn.

        Args:
            values: architectures.
            accuracies: of each, in any unit; ``predict`` answers in it.
            sizes: figures of each above 0, such as macs and params, the same for all; optional.

        Raises:
            ConfigError: fewer than two points, lengths that differ, a value that the space lacks,
                or an accuracy that is not finite.
        """
        y: Floats = np.asarray(accuracies, dtype=np.float64)
        if len(values) != len(y) or len(y) < 2 or not np.isfinite(y).all():
            raise ConfigError(
                f"learned accuracy: {len(values)} architectures and {len(y)} accuracies: two or "
                "more, each with its own finite accuracy"
            )
        rows = np.random.default_rng(self.seed).permutation(len(y))[:LARGEST]
        picked = None if sizes is None else [sizes[i] for i in rows]
        self._size_names = tuple(sorted(picked[0])) if picked else ()
        groups = self._features([values[i] for i in rows], picked, learn=True)
        y = y[rows]
        self._process = Process(groups, y)
        return self

    def predict(
        self, values: Sequence[Values], sizes: Sequence[Mapping[str, float]] | None = None
    ) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the accuracy (without the noise of an evaluation).

        Raises:
            ConfigError: nothing was fitted, or sizes are given at one time only.
        """
        if self._process is None:
            raise ConfigError("learned accuracy: fit it first")
        if not values:
            return np.zeros(0), np.zeros(0)
        return self._process.predict(self._features(values, sizes, learn=False))

    def _features(
        self, values: Sequence[Values], sizes: Sequence[Mapping[str, float]] | None, *, learn: bool
    ) -> list[Floats]:
        """One matrix a group: one-hot, ordinal, sizes."""
        if (sizes is None) != (not self._size_names) or (sizes and len(sizes) != len(values)):
            raise ConfigError(
                "learned accuracy: give sizes of every architecture, in fit and after"
            )
        places = [np.array([self._place(name, v) for v in values]) for name in self.parameters]
        groups = encoded(places, list(self.parameters.values()))
        if sizes:
            table = np.array([[float(s[name]) for name in self._size_names] for s in sizes])
            logs = np.log(np.clip(table, 1e-12, None))
            if learn:
                self._size_shift = logs.mean(0)
                self._size_scale = np.where(logs.std(0) > 0, logs.std(0), 1.0)
            groups.append((logs - self._size_shift) / self._size_scale)
        return groups

    def _place(self, name: str, values: Values) -> int:
        known = self.parameters[name]
        if name not in values or values[name] not in known:
            raise ConfigError(
                f"learned accuracy: {name}={values.get(name)} is none of the space's values: "
                f"{', '.join(map(str, known))}"
            )
        return known.index(values[name])
