"""How evaluated candidates compare: by accuracy, or by what the front leaves them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from predictor.kernels.features import Floats
from predictor.search.problem import Problem, table
from predictor.search.samplers.proposer import Done


def normal_ranks(values: Floats) -> Floats:
    """Normal quantiles of ranks: what is learned then does not hang on how far the worst lie off.

    Equal values have their mean.
    """
    from statistics import NormalDist

    order = np.argsort(values, kind="stable")
    place = np.empty(len(values))
    place[order] = np.arange(len(values))
    for value in np.unique(values):
        same = values == value
        place[same] = place[same].mean()
    quantile = NormalDist().inv_cdf
    return np.array([quantile((at + 0.5) / len(values)) for at in place])


def best_below(costs: Floats, scores: Floats, where: Floats) -> Floats:
    """For each row of ``where``, the best score among those that cost no more in every column.

    Minus infinity where there is none.
    """
    fits = (costs[None, :, :] <= where[:, None, :]).all(axis=2)
    found: Floats = np.where(fits, scores[None, :], -np.inf).max(axis=1)
    return found


def objectives(problem: Problem) -> tuple[str, ...]:
    """Figures that the front trades accuracy against: the latencies."""
    return problem.sizes[2:]


def standings(done: Sequence[Done], problem: Problem, *, front: bool) -> list[float]:
    """Fitness of evaluated candidates: what they are worth, their risk to be over budget taken into
    account, or how far the front lies beyond them (0: on it)."""
    accuracy = np.array([one.accuracy for one in done])
    if not front:
        middle = float(np.median(accuracy))
        worth = middle + problem.weights([one.figures for one in done]) * (accuracy - middle)
        return [float(value) for value in worth]
    costs = table([one.figures for one in done], objectives(problem))
    return [float(value) for value in accuracy - best_below(costs, accuracy, costs)]
