"""Fit trees per class of kernels, choose how they are grown, and scale their sum to networks.

Everything is deterministic given the measurements: LightGBM on one thread with a seed, Optuna's
sampler with a seed. Equal kernels are pooled first, so a kernel that stands in forty networks is
one row; hyper-parameters are chosen by what networks of left-out families take, not by kernels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from predictor.errors import MissingExtra
from predictor.kernels.features import CLASSES, Floats, Ints
from predictor.latency.boosted import Forest, from_lightgbm
from predictor.latency.intervals import conformal_quantile
from predictor.latency.kernelwise import COLUMNS, Kernelwise, with_classes
from predictor.training.dataset import Dataset, Flags, Rows
from predictor.training.folds import family_groups

SEED = 20250
TRIALS = 24
INNER_FOLDS = 3
"""Groups of families on which hyper-parameters are chosen, inside what a fit may see."""
LEAST_ROWS = 24
"""Pooled rows of a class from which trees are grown; below, one factor is taken."""
SHARE_FLOOR = 1e-3
INSTALL = "training needs LightGBM and Optuna: pip install 'latency-predictor[train]'"


@dataclass(frozen=True, slots=True)
class Settings:
    """How trees are grown, the same for all classes.

    ``share_power`` is how much a kernel counts by its share of a network: 0 all alike, 1 in
    proportion.
    """

    rounds: int = 150
    leaves: int = 15
    rate: float = 0.08
    least_rows: int = 4
    columns: float = 0.6
    l2: float = 1.0
    share_power: float = 0.5


@dataclass(frozen=True, slots=True)
class Pool:
    """Distinct kernels with the mean of their labels, one entry each."""

    cls: Ints
    matrix: Floats
    label: Floats
    weight: Floats
    share: Floats


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model: ``scale`` is what a whole network takes over the sum of its kernels."""

    boosters: Mapping[int, Any]
    constants: Mapping[int, float]
    settings: Settings
    scale: float = 1.0

    def log_factors(self, cls: Ints, matrix: Floats) -> Floats:
        """log(seconds / roofline) a kernel; 0 for classes without a measurement."""
        result = np.zeros(len(cls))
        for kind in np.unique(cls):
            mine = np.flatnonzero(cls == kind)
            if int(kind) in self.boosters:
                result[mine] = self.boosters[int(kind)].predict(matrix[mine], num_threads=1)
            else:
                result[mine] = self.constants.get(int(kind), 0.0)
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
    """Equal kernels timed in the same kind of place as one row: weighted mean of their logs.

    A pool's weight grows with the root of what its rows count: forty occurrences in one run share
    the run's drift and their surroundings.
    """
    rows = rows.take(rows.weight > 0)
    key = rows.signature * 8 + rows.place
    _, first, back = np.unique(key, return_index=True, return_inverse=True)
    weight = np.bincount(back, rows.weight)
    label = np.bincount(back, rows.weight * np.log(rows.seconds / rows.roofline_s)) / weight
    share = np.bincount(back, rows.weight * rows.share) / weight
    known = share > 0
    usual = float(np.median(share[known])) if known.any() else 1.0
    share = np.where(known, share, usual)
    return Pool(rows.cls[first], rows.matrix[first], label, np.sqrt(weight), share)


def grow(pool: Pool, settings: Settings, seed: int = SEED) -> Trained:
    """Trees for each class of ``pool``."""
    boosters: dict[int, Any] = {}
    constants: dict[int, float] = {}
    weight = pool.weight * (pool.share + SHARE_FLOOR) ** settings.share_power
    for kind in np.unique(pool.cls):
        mine = np.flatnonzero(pool.cls == kind)
        if len(mine) < LEAST_ROWS:
            constants[int(kind)] = float(np.average(pool.label[mine], weights=weight[mine]))
        else:
            boosters[int(kind)] = _booster(
                pool.matrix[mine], pool.label[mine], weight[mine], settings, seed
            )
    return Trained(boosters, constants, settings)


def _booster(matrix: Floats, label: Floats, weight: Floats, settings: Settings, seed: int) -> Any:
    module = lightgbm()
    parameters = {
        "objective": "regression", "num_leaves": settings.leaves, "verbosity": -1,
        "learning_rate": settings.rate, "min_data_in_leaf": settings.least_rows,
        "feature_fraction_bynode": settings.columns, "lambda_l2": settings.l2,
        "max_bin": 255, "min_data_in_bin": 1, "min_sum_hessian_in_leaf": 0.0, "seed": seed,
        "deterministic": True, "force_row_wise": True, "num_threads": 1,
    }  # fmt: skip
    data = module.Dataset(matrix, label, weight=weight / weight.mean(), free_raw_data=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module.train(parameters, data, num_boost_round=settings.rounds)


def network_ms(trained: Trained, data: Dataset, which: Flags) -> Floats:
    """Milliseconds of the networks in ``which``, the sum of their kernels; NaN for the others."""
    nets = data.networks
    mine = np.flatnonzero(which[nets.owner])
    log_factor = trained.log_factors(nets.cls[mine], nets.matrix[mine])
    seconds = np.zeros(len(nets.owner))
    seconds[mine] = nets.roofline_s[mine] * np.exp(log_factor)
    return np.where(which, 1e3 * nets.sums(seconds), np.nan)


@dataclass(frozen=True, slots=True)
class Inner:
    """Inner folds of a training set, their rows pooled once for all trials."""

    data: Dataset
    pools: tuple[Pool, ...]
    held: tuple[Flags, ...]

    @staticmethod
    def of(data: Dataset, rows: Flags, networks: Flags, seed: int = SEED) -> Inner:
        """Folds of the families of ``networks``; ``rows`` are the kernels that may be seen."""
        pools, held = [], []
        for group in family_groups(data.networks.family[networks], INNER_FOLDS, seed):
            out_rows, out_networks = data.inside(group)
            pools.append(pooled(data.rows.take(rows & ~out_rows)))
            held.append(networks & out_networks)
        return Inner(data, tuple(pools), tuple(held))

    def log_ratios(self, settings: Settings) -> Floats:
        """log(sum of kernels / measured) of every held-out network, NaN for networks not seen."""
        ratio = np.full(len(self.data.networks), np.nan)
        for pool, held in zip(self.pools, self.held, strict=True):
            total = network_ms(grow(pool, settings), self.data, held)
            ratio[held] = np.log(total[held] / self.data.networks.label_ms[held])
        return ratio

    def score(self, settings: Settings) -> float:
        """Mean absolute log error of held-out networks after one factor, lower is better."""
        ratio = self.log_ratios(settings)
        scored = self.data.networks.scored & np.isfinite(ratio)
        known = ratio[scored] if scored.any() else ratio[np.isfinite(ratio)]
        return float(np.mean(np.abs(known - np.median(known))))


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
        rounds=trial.suggest_int("rounds", 50, 250, step=10),
        leaves=trial.suggest_int("leaves", 4, 31, log=True),
        rate=trial.suggest_float("rate", 0.03, 0.2, log=True),
        least_rows=trial.suggest_int("least_rows", 2, 20, log=True),
        columns=trial.suggest_float("columns", 0.2, 1.0),
        l2=trial.suggest_float("l2", 0.01, 10.0, log=True),
        share_power=trial.suggest_float("share_power", 0.0, 1.0),
    )


def fit(data: Dataset, rows: Flags, networks: Flags, trials: int = TRIALS) -> Trained:
    """Settings chosen on inner folds, trees on all of ``rows``, the scale from the inner folds.

    The scale is the median of measured over predicted for networks that were left out of an inner
    fold, hence of ``networks`` only, and of kernels that the trees had not seen.
    """
    inner = Inner.of(data, rows, networks)
    settings = tune(inner, trials)
    ratio = inner.log_ratios(settings)
    scale = math.exp(-float(np.median(ratio[np.isfinite(ratio)])))
    grown = grow(pooled(data.rows.take(rows)), settings)
    return Trained(grown.boosters, grown.constants, settings, scale)


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
    return Kernelwise(_joined(forests, owners), data.hardware, data.threads,
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
