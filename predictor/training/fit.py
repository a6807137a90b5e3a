"""Choose how trees are grown, by networks of left-out families; then what comes on top of kernels.

Deterministic given the measurements: Optuna's sampler has a seed, and so has what it tries.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from predictor.errors import MissingExtra
from predictor.kernels.features import CLASSES, Floats, Ints
from predictor.latency.intervals import conformal_quantile
from predictor.latency.kernelwise import network_ms as whole_ms
from predictor.training.dataset import LEAST_NETWORKS, PLACES, Dataset, Flags
from predictor.training.folds import family_groups
from predictor.training.rates import INSTALL
from predictor.training.trees import SEED, Pool, Settings, Trained, grow, kernel_ms, pooled

TRIALS = 20
INNER_FOLDS = 3
"""Groups of families on which hyper-parameters are chosen, inside what a fit may see."""
HUBER = 0.05
"""Relative error from which a network counts less."""
LEAST_HOST_US = 1e-3
PROBES_US = tuple(0.25 * step for step in range(1, 33))
"""What timing one kernel in place may have added, microseconds."""
LEAST_LEFT = 0.3
"""Part of a kernel's time that is left at least when that is taken off."""


@dataclass(frozen=True, slots=True)
class Inner:
    """Inner folds of a training set, their rows pooled once for all trials."""

    data: Dataset
    pools: tuple[Pool, ...]
    held: tuple[Flags, ...]
    measured_ms: Floats
    overhead: Overhead

    @staticmethod
    def of(data: Dataset, rows: Flags, networks: Flags, seed: int = SEED) -> Inner:
        """Folds of the families of ``networks``; ``rows`` are the kernels that may be seen."""
        beside = overhead(data, rows, networks)
        data = without_probe(data, beside.probe_us)
        pools, held = [], []
        for group in family_groups(data.networks.family[networks], INNER_FOLDS, seed):
            out_rows, out_networks = data.inside(group)
            pools.append(pooled(data.rows.take(rows & ~out_rows)))
            held.append(networks & out_networks)
        return Inner(data, tuple(pools), tuple(held), class_sums_ms(data, rows), beside)

    def sums_ms(self, settings: Settings) -> Floats:
        """Milliseconds (networks x classes) of held-out networks' kernels, NaN for the others."""
        nets = self.data.networks
        found = np.full((len(nets), len(CLASSES)), np.nan)
        for pool, held in zip(self.pools, self.held, strict=True):
            each = kernel_ms(grow(pool, settings), self.data, held)
            sums = _by_class(nets.owner, nets.kernels.cls, each, len(nets))
            found[held] = sums[held]
        return found

    def score(self, settings: Settings) -> float:
        """How far the classes' sums of held-out networks are off, as shares of the network.

        Errors of one class do not make up for those of another: totals alone reward settings
        whose errors happen to cancel. Networks whose kernels were not timed in place do not count.
        """
        sums, total = self.sums_ms(settings), self.measured_ms.sum(axis=1)
        known = _counting(self.data, np.isfinite(sums[:, 0]) & (total > 0))
        off = np.abs(sums[known] - self.measured_ms[known]).sum(axis=1) / total[known]
        return float(np.mean(off))


def class_sums_ms(data: Dataset, rows: Flags) -> Floats:
    """Milliseconds (networks x classes) of the kernels that were timed in place, among ``rows``."""
    seen = data.rows
    mine = np.flatnonzero(rows & (seen.place == 0) & (seen.network >= 0))
    return _by_class(seen.network[mine], seen.kernels.cls[mine], 1e3 * seen.seconds[mine],
                     len(data.networks))  # fmt: skip


def _by_class(owner: Ints, cls: Ints, values: Floats, networks: int) -> Floats:
    count = len(CLASSES)
    sums = np.bincount(owner * count + cls, values, minlength=networks * count)
    return sums.astype(np.float64).reshape(networks, count)


@dataclass(frozen=True, slots=True)
class Overhead:
    """What networks take beside the sum of their kernels: a factor, and a cost an operator.

    ``probe_us`` is what timing a kernel in place added to it.
    """

    scale: float
    host_us: float
    probe_us: float = 0.0

    def log_errors(self, sums_ms: Floats, data: Dataset) -> Floats:
        """log(predicted / measured) of networks whose kernels take ``sums_ms``."""
        total = whole_ms(sums_ms, data.networks.launches, self.scale, self.host_us,
                         overlaps=data.overlaps)  # fmt: skip
        result: Floats = np.log(total / data.networks.label_ms)
        return result


def overhead(data: Dataset, rows: Flags, networks: Flags) -> Overhead:
    """From networks whose kernels were timed in place: measured sums against measured totals.

    Least squares on log errors with Huber's weights, no part negative. Where the kernels' sums are
    too large by so much a kernel, that is what timing each of them added. Networks that only train
    (medleys run without modules around them) do not count.
    """
    counting = _counting(data, networks & (class_sums_ms(data, rows).sum(axis=1) > 0))
    if counting.sum() < LEAST_NETWORKS:
        return Overhead(1.0, 0.0)
    best, loss = _beside(data, rows, counting, 0.0)
    if best.host_us > 0:
        return best
    for probe_us in PROBES_US:
        found, its_loss = _beside(data, rows, counting, probe_us)
        if its_loss < loss:
            best, loss = found, its_loss
    return best


def without_probe(data: Dataset, probe_us: float) -> Dataset:
    """``data`` with what timing a kernel in place added taken off; at least a part stays."""
    if probe_us <= 0:
        return data
    rows = data.rows
    less = np.maximum(rows.seconds - 1e-6 * probe_us, LEAST_LEFT * rows.seconds)
    seconds = np.where(rows.place == PLACES.index("place"), less, rows.seconds)
    return replace(data, rows=replace(rows, seconds=seconds))


def _beside(data: Dataset, rows: Flags, counting: Flags, probe_us: float) -> tuple[Overhead, float]:
    """The factor and the cost an operator that suit best, and how badly they do."""
    sums = class_sums_ms(without_probe(data, probe_us), rows).sum(axis=1)[counting]
    label, launches = data.networks.label_ms[counting], data.networks.launches[counting]

    def error(logs: Floats) -> Floats:
        scale, host_us = np.exp(logs)
        total = whole_ms(sums, launches, scale, host_us, overlaps=data.overlaps)
        return np.log(total / label)

    start = np.log([float(np.median(label / sums)), 1.0])
    found = _optimiser()(error, start, loss="huber", f_scale=HUBER,
                         bounds=(np.log([0.1, LEAST_HOST_US]), np.log([10.0, 1e4])))  # fmt: skip
    scale, host_us = np.exp(found.x)
    host_us = float(host_us) if host_us > 2 * LEAST_HOST_US else 0.0
    return Overhead(float(scale), host_us, probe_us), float(found.cost)


def _optimiser() -> Any:
    try:
        from scipy.optimize import least_squares
    except ImportError:
        raise MissingExtra(INSTALL) from None
    return least_squares


def _counting(data: Dataset, networks: Flags) -> Flags:
    """Those of ``networks`` that are scored; all of them where none is."""
    scored = networks & data.networks.scored
    return scored if scored.any() else networks


def tune(inner: Inner, trials: int = TRIALS, seed: int = SEED) -> Settings:
    """The best of ``trials`` settings on the inner folds, the defaults among them.

    Raises:
        MissingExtra: Optuna is not installed.
    """
    if trials < 1:
        return Settings()
    try:
        import optuna
    except ImportError:
        raise MissingExtra(INSTALL) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, trials))
        study = optuna.create_study(sampler=sampler)
        study.enqueue_trial(asdict(Settings()))
        study.optimize(lambda trial: inner.score(_suggested(trial)), n_trials=trials)
    return Settings(**study.best_params)


def _suggested(trial: Any) -> Settings:
    return Settings(
        rounds=trial.suggest_int("rounds", 80, 160, step=20),
        leaves=trial.suggest_int("leaves", 8, 24, log=True),
        rate=trial.suggest_float("rate", 0.05, 0.15, log=True),
        least_rows=trial.suggest_int("least_rows", 3, 12, log=True),
        columns=trial.suggest_float("columns", 0.25, 0.8),
        l2=trial.suggest_float("l2", 0.1, 10.0, log=True),
        share_power=trial.suggest_float("share_power", 0.0, 0.4),
    )


def fit(data: Dataset, rows: Flags, networks: Flags, trials: int = TRIALS) -> Trained:
    """Settings chosen on inner folds, trees on all of ``rows``, what comes on top of their sum.

    That is :func:`overhead`, times the median of measured over predicted for networks that were
    left out of an inner fold, hence of ``networks`` only, and of kernels not seen by their trees.
    """
    inner = Inner.of(data, rows, networks)
    settings = tune(inner, trials)
    error = inner.overhead.log_errors(inner.sums_ms(settings).sum(axis=1), data)
    factor = math.exp(-float(np.median(error[_counting(data, np.isfinite(error))])))
    grown = grow(pooled(inner.data.rows.take(rows)), settings)
    beside = inner.overhead
    return replace(grown, scale=factor * beside.scale, host_us=factor * beside.host_us,
                   probe_us=beside.probe_us)  # fmt: skip


def log_error_90(log_errors: Sequence[float]) -> float:
    """Half-width of the 90 % interval, from networks of left-out families (conformal)."""
    return max(1e-3, conformal_quantile(list(log_errors)))
