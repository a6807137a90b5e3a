"""Fit trees per class of kernels, choose how they are grown, and scale their sum to networks.

Everything is deterministic given the measurements: LightGBM on one thread with a seed, Optuna's
sampler with a seed. Equal kernels are pooled first, so a kernel that stands in forty networks is
one row; hyper-parameters are chosen by what networks of left-out families take, not by kernels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from predictor.errors import MissingExtra
from predictor.kernels.features import CLASS_INDEX, CLASSES, Floats, Ints
from predictor.latency.boosted import Forest, from_lightgbm
from predictor.latency.intervals import conformal_quantile
from predictor.latency.kernelwise import (
    COLUMNS,
    Kernelwise,
    with_classes,
)
from predictor.latency.kernelwise import network_ms as whole_ms
from predictor.latency.rates import Rates
from predictor.training.dataset import LEAST_NETWORKS, Columns, Dataset, Flags, Rows
from predictor.training.folds import family_groups
from predictor.training.rates import INSTALL, fit_rates

SEED = 20250
TRIALS = 20
INNER_FOLDS = 3
"""Groups of families on which hyper-parameters are chosen, inside what a fit may see."""
LEAST_OWN = 20
"""Pooled rows of a class from which trees are grown; below, one factor is taken."""
KIN = {"grouped": ("conv", "pointwise"), "matmul": ("linear",), "linear": ("matmul",)}
KIN_WEIGHT = 0.3
"""Classes whose rows help to grow a class's trees, as the same routines run them, and how much."""
SHARE_FLOOR = 1e-3
HUBER = 0.05
"""Relative error from which a network counts less."""
LEAST_HOST_US = 1e-3


@dataclass(frozen=True, slots=True)
class Settings:
    """How trees are grown, the same for all classes.

    ``share_power`` is how much a kernel counts by its share of a network: 0 all alike, 1 in
    proportion.
    """

    rounds: int = 120
    leaves: int = 15
    rate: float = 0.1
    least_rows: int = 5
    columns: float = 0.4
    l2: float = 2.0
    share_power: float = 0.1


@dataclass(frozen=True, slots=True)
class Pool:
    """Distinct kernels with the mean of their labels, one entry each."""

    cls: Ints
    variant: Ints
    matrix: Floats
    parts: Floats
    log_seconds: Floats
    weight: Floats
    share: Floats


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model. A whole network takes ``scale`` times the sum of its kernels, and
    ``host_us`` microseconds for each operator that is launched."""

    rates: Rates
    boosters: Mapping[int, Any]
    constants: Mapping[int, float]
    settings: Settings
    scale: float = 1.0
    host_us: float = 0.0

    def seconds(self, kernels: Columns) -> Floats:
        """Seconds a kernel; at usual rates for classes without a measurement."""
        factor = np.zeros(len(kernels))
        for kind in np.unique(kernels.cls):
            mine = np.flatnonzero(kernels.cls == kind)
            if int(kind) in self.boosters:
                rows = kernels.matrix[mine]
                factor[mine] = self.boosters[int(kind)].predict(rows, num_threads=1)
            else:
                factor[mine] = self.constants.get(int(kind), 0.0)
        result: Floats = self.rates.seconds(kernels.parts, kernels.variant) * np.exp(factor)
        return result


def lightgbm() -> Any:
    """The module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import lightgbm as module
    except ImportError:
        raise MissingExtra(INSTALL) from None
    return module


def pooled(rows: Rows) -> Pool:
    """Equal kernels timed in like surroundings as one row: weighted mean of their logs.

    A pool's weight grows with the root of what its rows count: forty occurrences in one run share
    the run's drift and their surroundings.
    """
    rows = rows.take(rows.weight > 0)
    kernels = rows.kernels
    key = (rows.signature * 8 + rows.place) * 64 + kernels.surroundings
    _, first, back = np.unique(key, return_index=True, return_inverse=True)
    weight = np.bincount(back, rows.weight)
    log_seconds = np.bincount(back, rows.weight * np.log(rows.seconds)) / weight
    share = np.bincount(back, rows.weight * rows.share) / weight
    known = share > 0
    usual = float(np.median(share[known])) if known.any() else 1.0
    share = np.where(known, share, usual)
    return Pool(kernels.cls[first], kernels.variant[first], kernels.matrix[first],
                kernels.parts[first], log_seconds, np.sqrt(weight), share)  # fmt: skip


def grow(pool: Pool, settings: Settings, seed: int = SEED) -> Trained:
    """Rates and trees for each class of ``pool``."""
    rates = fit_rates(pool.parts, pool.variant, np.exp(pool.log_seconds), pool.weight)
    label = pool.log_seconds - np.log(rates.seconds(pool.parts, pool.variant))
    weight = pool.weight * (pool.share + SHARE_FLOOR) ** settings.share_power
    boosters: dict[int, Any] = {}
    constants: dict[int, float] = {}
    for kind in np.unique(pool.cls):
        own = pool.cls == kind
        if own.sum() < LEAST_OWN:
            constants[int(kind)] = float(np.average(label[own], weights=weight[own]))
            continue
        kin = [CLASS_INDEX[name] for name in KIN.get(CLASSES[kind], ())]
        mine = np.flatnonzero(own | np.isin(pool.cls, kin))
        counts = weight[mine] * np.where(own[mine], 1.0, KIN_WEIGHT)
        boosters[int(kind)] = _booster(pool.matrix[mine], label[mine], counts, settings, seed)
    return Trained(rates, boosters, constants, settings)


def _booster(matrix: Floats, label: Floats, weight: Floats, settings: Settings, seed: int) -> Any:
    module = lightgbm()
    parameters = {
        "objective": "regression", "num_leaves": settings.leaves, "verbosity": -1,
        "learning_rate": settings.rate, "min_data_in_leaf": settings.least_rows,
        "feature_fraction": settings.columns, "lambda_l2": settings.l2,
        "max_bin": 63, "min_data_in_bin": 1, "min_sum_hessian_in_leaf": 1e-3, "seed": seed,
        "deterministic": True, "force_row_wise": True, "num_threads": 1,
    }  # fmt: skip
    data = module.Dataset(matrix, label, weight=weight / weight.mean(), free_raw_data=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module.train(parameters, data, num_boost_round=settings.rounds)


def network_ms(trained: Trained, data: Dataset, which: Flags) -> Floats:
    """Milliseconds of the networks in ``which``; NaN for the others."""
    return whole_ms(kernels_ms(trained, data, which), data.networks.launches, trained.scale,
                    trained.host_us, overlaps=data.overlaps)  # fmt: skip


def kernels_ms(trained: Trained, data: Dataset, which: Flags) -> Floats:
    """Milliseconds of all kernels of the networks in ``which``; NaN for the others."""
    nets = data.networks
    mine = np.flatnonzero(which[nets.owner])
    seconds = np.zeros(len(nets.owner))
    seconds[mine] = trained.seconds(nets.kernels.take(mine))
    return np.where(which, 1e3 * nets.sums(seconds), np.nan)


@dataclass(frozen=True, slots=True)
class Inner:
    """Inner folds of a training set, their rows pooled once for all trials."""

    data: Dataset
    pools: tuple[Pool, ...]
    held: tuple[Flags, ...]
    overhead: Overhead

    @staticmethod
    def of(data: Dataset, rows: Flags, networks: Flags, seed: int = SEED) -> Inner:
        """Folds of the families of ``networks``; ``rows`` are the kernels that may be seen."""
        pools, held = [], []
        for group in family_groups(data.networks.family[networks], INNER_FOLDS, seed):
            out_rows, out_networks = data.inside(group)
            pools.append(pooled(data.rows.take(rows & ~out_rows)))
            held.append(networks & out_networks)
        return Inner(data, tuple(pools), tuple(held), overhead(data, rows, networks))

    def sums_ms(self, settings: Settings) -> Floats:
        """Milliseconds of the kernels of every held-out network, NaN for networks not seen."""
        found = np.full(len(self.data.networks), np.nan)
        for pool, held in zip(self.pools, self.held, strict=True):
            found[held] = kernels_ms(grow(pool, settings), self.data, held)[held]
        return found

    def score(self, settings: Settings) -> float:
        """Mean absolute log error of held-out networks after one factor, lower is better."""
        error = self.overhead.log_errors(self.sums_ms(settings), self.data)
        scored = _counting(self.data, np.isfinite(error))
        return float(np.mean(np.abs(error[scored] - np.median(error[scored]))))


@dataclass(frozen=True, slots=True)
class Overhead:
    """What networks take beside the sum of their kernels: a factor, and a cost an operator."""

    scale: float
    host_us: float

    def log_errors(self, sums_ms: Floats, data: Dataset) -> Floats:
        """log(predicted / measured) of networks whose kernels take ``sums_ms``."""
        total = whole_ms(sums_ms, data.networks.launches, self.scale, self.host_us,
                         overlaps=data.overlaps)  # fmt: skip
        result: Floats = np.log(total / data.networks.label_ms)
        return result


def overhead(data: Dataset, rows: Flags, networks: Flags) -> Overhead:
    """From networks whose kernels were timed in place: measured sums against measured totals.

    Least squares on log errors with Huber's weights, neither part negative. Networks that only
    train (medleys run without modules around them) do not count.
    """
    nets, seen = data.networks, data.rows
    mine = rows & (seen.place == 0) & (seen.network >= 0)
    sums = 1e3 * np.bincount(seen.network[mine], seen.seconds[mine], minlength=len(nets))
    sums = sums.astype(np.float64)
    counting = _counting(data, networks & (sums > 0))
    if counting.sum() < LEAST_NETWORKS:
        return Overhead(1.0, 0.0)
    least_squares = _optimiser()
    label, sums, launches = nets.label_ms[counting], sums[counting], nets.launches[counting]

    def error(logs: Floats) -> Floats:
        scale, host_us = np.exp(logs)
        total = whole_ms(sums, launches, scale, host_us, overlaps=data.overlaps)
        return np.log(total / label)

    start = np.log([float(np.median(label / sums)), 1.0])
    found = least_squares(error, start, loss="huber", f_scale=HUBER,
                          bounds=(np.log([0.1, LEAST_HOST_US]), np.log([10.0, 1e4])))  # fmt: skip
    scale, host_us = np.exp(found.x)
    return Overhead(float(scale), float(host_us) if host_us > 2 * LEAST_HOST_US else 0.0)


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
        rounds=trial.suggest_int("rounds", 60, 160, step=20),
        leaves=trial.suggest_int("leaves", 6, 24, log=True),
        rate=trial.suggest_float("rate", 0.05, 0.2, log=True),
        least_rows=trial.suggest_int("least_rows", 2, 20, log=True),
        columns=trial.suggest_float("columns", 0.2, 1.0),
        l2=trial.suggest_float("l2", 0.01, 10.0, log=True),
        share_power=trial.suggest_float("share_power", 0.0, 0.6),
    )


def fit(data: Dataset, rows: Flags, networks: Flags, trials: int = TRIALS) -> Trained:
    """Settings chosen on inner folds, trees on all of ``rows``, what comes on top of their sum.

    That is :func:`overhead`, times the median of measured over predicted for networks that were
    left out of an inner fold, hence of ``networks`` only, and of kernels not seen by their trees.
    """
    inner = Inner.of(data, rows, networks)
    settings = tune(inner, trials)
    error = inner.overhead.log_errors(inner.sums_ms(settings), data)
    factor = math.exp(-float(np.median(error[_counting(data, np.isfinite(error))])))
    grown = grow(pooled(data.rows.take(rows)), settings)
    return replace(grown, scale=factor * inner.overhead.scale,
                   host_us=factor * inner.overhead.host_us)  # fmt: skip


def log_error_90(log_errors: Sequence[float]) -> float:
    """Half-width of the 90 % interval, from networks of left-out families (conformal)."""
    return max(1e-3, conformal_quantile(list(log_errors)))


def stored(trained: Trained, data: Dataset, spread: Floats | None = None) -> Kernelwise:
    """The model as it ships: all trees in one forest, without LightGBM."""
    forests, owners = [], []
    for kind, booster in sorted(trained.boosters.items()):
        forests.append(from_lightgbm(booster, COLUMNS))
        owners.append(kind)
    for kind, value in sorted(trained.constants.items()):
        forests.append(_leaf(value))
        owners.append(kind)
    nothing = np.full(len(CLASSES), np.nan)
    return Kernelwise(_joined(forests, owners), data.hardware, trained.rates, data.threads,
                      nothing if spread is None else spread)  # fmt: skip


def _leaf(value: float) -> Forest:
    none = np.zeros(1, np.int32)
    return Forest(np.array([-1], np.int32), np.zeros(1), none, none, np.array([value]), none,
                  COLUMNS)  # fmt: skip


def _joined(forests: Sequence[Forest], owners: Sequence[int]) -> Forest:
    """One forest of all trees, each answering for the class in ``owners``."""
    starts = np.cumsum([0, *(len(f.feature) for f in forests)])[:-1]
    pairs = list(zip(forests, starts, strict=True))
    joined = Forest(
        np.concatenate([f.feature for f in forests]),
        np.concatenate([f.threshold for f in forests]),
        np.concatenate([f.left + at for f, at in pairs]).astype(np.int32),
        np.concatenate([f.right + at for f, at in pairs]).astype(np.int32),
        np.concatenate([f.value for f in forests]),
        np.concatenate([f.roots + at for f, at in pairs]).astype(np.int32),
        COLUMNS,
    )
    classes = [np.full(len(f.roots), kind) for f, kind in zip(forests, owners, strict=True)]
    return with_classes(joined, np.concatenate(classes).astype(np.int32))
