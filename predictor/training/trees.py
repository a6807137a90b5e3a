"""Rates and trees for each class of kernels, grown on distinct kernels that were timed in place.

Everything is deterministic given the measurements: LightGBM on one thread, with a seed. Equal
kernels are pooled first, so a kernel that stands in forty networks is a few rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from predictor.errors import MissingExtra
from predictor.kernels.features import CLASS_INDEX, CLASSES, Floats, Ints
from predictor.latency.boosted import Forest, from_lightgbm
from predictor.latency.kernelwise import COLUMNS, Kernelwise, with_classes
from predictor.latency.kernelwise import network_ms as whole_ms
from predictor.latency.rates import Rates
from predictor.training.dataset import Columns, Dataset, Flags, Rows
from predictor.training.rates import INSTALL, fit_rates

SEED = 20250
LEAST_OWN = 20
"""Pooled rows of a class from which trees are grown; below, one factor is taken."""
KIN = {"grouped": ("conv", "pointwise"), "matmul": ("linear",), "linear": ("matmul",)}
KIN_WEIGHT = 0.3
"""Classes whose rows help to grow a class's trees, as the same routines run them, and how much."""
SHARE_FLOOR = 1e-3


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
    share_power: float = 0.0


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
    ``host_us`` microseconds for each operator that is launched; ``probe_us`` is what timing a
    kernel in place added, taken off before the fit."""

    rates: Rates
    boosters: Mapping[int, Any]
    constants: Mapping[int, float]
    settings: Settings
    scale: float = 1.0
    host_us: float = 0.0
    probe_us: float = 0.0

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
    return np.where(which, data.networks.sums(kernel_ms(trained, data, which)), np.nan)


def kernel_ms(trained: Trained, data: Dataset, which: Flags) -> Floats:
    """Milliseconds of each kernel of the networks in ``which``, 0 for kernels of others."""
    nets = data.networks
    mine = np.flatnonzero(which[nets.owner])
    found = np.zeros(len(nets.owner))
    found[mine] = 1e3 * trained.seconds(nets.kernels.take(mine))
    return found


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
