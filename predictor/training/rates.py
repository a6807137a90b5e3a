"""Fit what a call, an operation and a byte cost: least squares on relative errors."""

from __future__ import annotations

import numpy as np

from predictor.errors import MissingExtra
from predictor.kernels.features import Floats, Ints
from predictor.latency.rates import CODES, GENERAL, PARTS, USUAL, Rates

INSTALL = "training needs LightGBM, Optuna and scikit-learn: pip install 'latency-predictor[train]'"
LEAST_OF_VARIANT = 8
"""Distinct kernels from which a variant has rates of its own."""
USUAL_PULL, VARIANT_PULL = 0.01, 2.0
"""How firmly a class's rates are pulled to the usual ones, as so much of one kernel that is off by
all of itself; and how much more firmly a variant's to its class's."""
FEW = 30.0
"""Kernels: with as few, the pull is four times as firm."""
TIGHT = {"cold": 0.3}
"""Parts whose rates are pulled more firmly: they stand for little, and fit much."""
LEAST_SHARE = 0.3
"""A class's rate pulls no lower than this much of the usual one, or a variant could not leave 0."""
TRUSTED, STEPS = 0.3, 8
"""Log error from which a kernel counts less, and how often that is worked out anew."""


def fit_rates(parts_s: Floats, variant: Ints, seconds: Floats, weight: Floats) -> Rates:
    """Rates of every class and variant among the kernels.

    Args:
        parts_s: seconds (kernels x parts of the roofline).
        variant: their variants' numbers.
        seconds, weight: what they took, and what each counts.
    """
    found: dict[int, Floats] = {}
    usual = np.array(USUAL)
    for cls in np.unique(variant // CODES):
        mine = variant // CODES == cls
        general = _fitted(parts_s[mine], seconds[mine], weight[mine], usual, USUAL_PULL)
        found[int(cls) * CODES + GENERAL] = general
        for key in np.unique(variant[mine]):
            own = variant == key
            if LEAST_OF_VARIANT <= own.sum() < mine.sum():
                prior = np.maximum(general, LEAST_SHARE * usual)
                found[int(key)] = _fitted(
                    parts_s[own], seconds[own], weight[own], prior, VARIANT_PULL * USUAL_PULL
                )
    keys = sorted(found)
    return Rates(np.array(keys, dtype=np.int64), np.array([found[key] for key in keys]))


def _fitted(parts_s: Floats, seconds: Floats, weight: Floats, prior: Floats, pull: float) -> Floats:
    """Rates that make 1 of each kernel's parts over its seconds; outliers count less each step."""
    try:
        from scipy.optimize import nnls
    except ImportError:
        raise MissingExtra(INSTALL) from None
    design, weight = parts_s / seconds[:, None], weight / weight.mean()
    trust = np.ones(len(seconds))
    pull *= (1 + FEW / len(seconds)) ** 2
    room = prior * np.array([TIGHT.get(name, 1.0) for name in PARTS])
    pulls = np.sqrt(pull) * np.diag(1 / room)
    found = prior
    for _ in range(STEPS):
        root = np.sqrt(weight * trust)
        matrix = np.vstack([design * root[:, None], pulls])
        found = nnls(matrix, np.concatenate([root, pulls @ prior]))[0]
        error = np.abs(np.log(np.maximum(design @ found, 1e-9)))
        trust = np.minimum(1.0, TRUSTED / np.maximum(error, 1e-9))
    result: Floats = found
    return result
