"""Optuna's own strategies, told the limits as constraints of each trial."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from predictor.search.problem import Problem

if TYPE_CHECKING:
    import optuna


def _quiet(make: Any, **settings: Any) -> optuna.samplers.BaseSampler:
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = make(**settings)
    return sampler


def _tpe(problem: Problem, seed: int, front: bool) -> optuna.samplers.BaseSampler:
    from optuna.samplers import TPESampler

    return _quiet(TPESampler, seed=seed, multivariate=True, constant_liar=True)


def _nsga2(problem: Problem, seed: int, front: bool) -> optuna.samplers.BaseSampler:
    from optuna.samplers import NSGAIISampler

    return _quiet(NSGAIISampler, seed=seed)


def _nsga3(problem: Problem, seed: int, front: bool) -> optuna.samplers.BaseSampler:
    from optuna.samplers import NSGAIIISampler

    return _quiet(NSGAIIISampler, seed=seed)


def _gp(problem: Problem, seed: int, front: bool) -> optuna.samplers.BaseSampler:
    from optuna.samplers import GPSampler

    return _quiet(GPSampler, seed=seed)


SAMPLERS = {"tpe": _tpe, "nsga2": _nsga2, "nsga3": _nsga3, "gp": _gp}
