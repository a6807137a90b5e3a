"""What others do with the same measurements and the same folds, one function each.

Each takes the dataset and which rows and networks may be seen, and answers for all networks:
milliseconds, in the order of the dataset. Nothing is trimmed, and each is fitted as well as its
kind allows (relative errors are minimised where it has a choice).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np

from predictor.errors import MissingExtra
from predictor.kernels.features import CLASSES, Floats
from predictor.training.dataset import PLACES, Dataset, Flags
from predictor.training.rates import INSTALL
from predictor.training.trees import SEED, lightgbm

Baseline = Callable[[Dataset, Flags, Flags], Floats]
"""(dataset, rows that may be seen, networks that may be seen) to milliseconds of every network."""

LEAST_MS = 1e-6
FOREST_TREES = 100
LEAST_OF_CLASS = 10
"""Isolated kernels of a class from which a random forest is grown."""


def flops_factor(data: Dataset, rows: Flags, networks: Flags) -> Floats:
    """FLOPs times one factor, the median of the training networks' own."""
    flops = 2 * data.networks.sums(data.networks.kernels.features.macs) + 1.0
    return _scaled(flops, data, networks)


def flops_linear(data: Dataset, rows: Flags, networks: Flags) -> Floats:
    """A constant and a rate for FLOPs, least squares on relative errors, neither negative."""
    flops = 2 * data.networks.sums(data.networks.kernels.features.macs)
    return _nnls(np.column_stack([np.ones(len(flops)), flops]), data, networks)


def roofline_factor(data: Dataset, rows: Flags, networks: Flags) -> Floats:
    """The sum of the kernels' rooflines times one factor."""
    return _scaled(data.networks.sums(data.networks.kernels.roofline_s), data, networks)


def class_nnls(data: Dataset, rows: Flags, networks: Flags) -> Floats:
    """Per class of kernels a rate for FLOPs and one for bytes, and a cost a kernel, on totals."""
    nets, parts = data.networks, []
    for kind in range(len(CLASSES)):
        mine = nets.kernels.cls == kind
        if mine.any():
            parts.append(nets.sums(np.where(mine, 2 * nets.kernels.features.macs, 0.0)))
            parts.append(nets.sums(np.where(mine, nets.kernels.features.bytes, 0.0)))
    parts.append(nets.sums(np.ones(len(nets.kernels.cls))))
    return _nnls(np.column_stack(parts), data, networks)


def whole_model_trees(data: Dataset, rows: Flags, networks: Flags) -> Floats:
    """LightGBM on aggregates of the network, log(measured / roofline of the network)."""
    matrix, roofline = aggregates(data), data.networks.sums(data.networks.kernels.roofline_s)
    label = np.log(data.networks.label_ms / (1e3 * roofline))
    parameters = {
        "objective": "regression", "num_leaves": 8, "learning_rate": 0.06, "min_data_in_leaf": 4,
        "feature_fraction": 0.6, "lambda_l2": 1.0, "verbosity": -1, "seed": SEED,
        "deterministic": True, "force_row_wise": True, "num_threads": 1, "min_data_in_bin": 1,
    }  # fmt: skip
    module = lightgbm()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = module.Dataset(matrix[networks], label[networks])
        booster = module.train(parameters, seen, num_boost_round=200)
    result: Floats = 1e3 * roofline * np.exp(booster.predict(matrix, num_threads=1))
    return result


def isolated_forests(data: Dataset, rows: Flags, networks: Flags) -> Floats:
    """Random forests per class on raw dimensions of kernels timed alone in hot loops, summed.

    Zhang et al., "nn-Meter: towards accurate latency prediction of deep-learning model inference
    on diverse edge devices", MobiSys 2021: one regressor a kind of kernel, no factor on the sum. A
    class without enough isolated kernels takes the roofline times the factor of all that there are.
    """
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError:
        raise MissingExtra(INSTALL) from None
    hot = rows & (data.rows.place == PLACES.index("hot"))
    if not hot.any():
        return np.full(len(data.networks), np.nan)
    ratio = float(np.median(data.rows.seconds[hot] / data.rows.kernels.roofline_s[hot]))
    seconds = ratio * data.networks.kernels.roofline_s
    for kind in range(len(CLASSES)):
        mine, asked = (
            hot & (data.rows.kernels.cls == kind),
            np.flatnonzero(data.networks.kernels.cls == kind),
        )
        if mine.sum() >= LEAST_OF_CLASS and len(asked):
            forest = RandomForestRegressor(FOREST_TREES, random_state=SEED, n_jobs=1)
            forest.fit(data.rows.kernels.raw[mine], data.rows.seconds[mine])
            seconds[asked] = forest.predict(data.networks.kernels.raw[asked])
    return 1e3 * data.networks.sums(seconds)


BASELINES: Mapping[str, Baseline] = {
    "flops": flops_factor, "flops_linear": flops_linear, "roofline": roofline_factor,
    "class_nnls": class_nnls, "whole_model_lightgbm": whole_model_trees,
    "isolated_forests": isolated_forests,
}  # fmt: skip
"""By the key that the accuracy card uses."""


def aggregates(data: Dataset) -> Floats:
    """One row a network: totals, and the share of each class of kernels in FLOPs and bytes."""
    nets = data.networks
    macs, moved = nets.sums(nets.kernels.features.macs), nets.sums(nets.kernels.features.bytes)
    count, weights = (
        nets.sums(np.ones(len(nets.kernels.cls))),
        nets.sums(nets.kernels.features.weight_bytes),
    )
    parts = [np.log10(macs + 1), np.log10(moved + 1), np.log10(count), np.log10(weights + 1),
             np.log10((macs + 1) / (moved + 1)), np.log10(moved / count)]  # fmt: skip
    for kind in range(len(CLASSES)):
        mine = nets.kernels.cls == kind
        if mine.any():
            parts.append(nets.sums(np.where(mine, nets.kernels.features.macs, 0.0)) / (macs + 1))
            parts.append(nets.sums(np.where(mine, nets.kernels.features.bytes, 0.0)) / (moved + 1))
    return np.column_stack(parts)


def _scaled(quantity: Floats, data: Dataset, networks: Flags) -> Floats:
    factor = np.exp(np.median(np.log(data.networks.label_ms[networks] / quantity[networks])))
    result: Floats = factor * quantity
    return result


def _nnls(matrix: Floats, data: Dataset, networks: Flags) -> Floats:
    try:
        from scipy.optimize import nnls
    except ImportError:
        raise MissingExtra(INSTALL) from None
    size = np.maximum(np.abs(matrix[networks]).max(axis=0), 1e-30)
    label = data.networks.label_ms[networks]
    rates, _ = nnls(matrix[networks] / size / label[:, None], np.ones(len(label)))
    result: Floats = np.maximum(matrix / size @ rates, LEAST_MS)
    return result
