"""Judge a target on families that were left out, beside baselines and its own repeatability.

Everything is done anew inside each fold: pooling, hyper-parameters (on inner folds of what the fold
may see), trees, scale, and every baseline. A network's label is the geometric mean of its turns.
No network is trimmed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from predictor.kernels.features import Floats, Ints
from predictor.training.baselines import BASELINES
from predictor.training.dataset import Dataset, Flags
from predictor.training.fit import TRIALS, fit, log_error_90, without_probe
from predictor.training.folds import FOLDS, family_groups, size_class
from predictor.training.trees import network_ms

SMALLEST_GROUP = 3
"""Families of fewer networks are shown together."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Left-out predictions of every scored network, in the dataset's order; NaN elsewhere.

    ``log_error`` is log(predicted / label), ``covered`` whether the label lies in the interval
    that the other folds' errors give; ``kernel_log_error`` is the same as ``log_error`` for each
    row of kernels timed in place, by trees that saw no kernel of its family; ``baselines`` holds
    log errors by name.
    """

    data: Dataset
    log_error: Floats
    covered: Floats
    fold: Ints
    kernel_log_error: Floats
    baselines: Mapping[str, Floats]
    settings: tuple[Mapping[str, Any], ...]
    scales: tuple[float, ...]
    host_us: tuple[float, ...]

    @property
    def counted(self) -> Flags:
        """Networks that were scored."""
        return np.isfinite(self.log_error)

    @property
    def repeat(self) -> Floats:
        """log(second turn / first turn), NaN where there is one turn only."""
        turns = self.data.networks.turns_ms
        result: Floats = np.log(turns[:, 1] / turns[:, 0])
        return result


def evaluate(
    data: Dataset, *, folds: int = FOLDS, trials: int = TRIALS, seed: int = 0,
    baselines: bool = True, say: Say = lambda text: None,
) -> Evaluation:  # fmt: skip
    """Leave groups of families out, one after the other.

    Args:
        data: the measurements.
        folds: how many groups.
        trials: hyper-parameters tried in each fold.
        seed: deals families of one size to groups.
        baselines: also fit the baselines.
        say: told of each fold.
    """
    nets = data.networks
    scored = nets.scored if nets.scored.any() else np.ones(len(nets), dtype=bool)
    groups = family_groups(nets.family[scored], folds, seed)
    log_error = np.full(len(nets), np.nan)
    fold = np.full(len(nets), -1, dtype=np.int64)
    kernel_error = np.full(len(data.rows), np.nan)
    beside = {name: np.full(len(nets), np.nan) for name in BASELINES} if baselines else {}
    settings, scales, host_us = [], [], []
    for number, group in enumerate(groups):
        say(f"fold {number + 1} of {len(groups)}")
        out_rows, out_networks = data.inside(group)
        held = out_networks & scored
        fitted = fit(data, ~out_rows, ~out_networks, trials)
        predicted = network_ms(fitted, data, held)
        log_error[held] = np.log(predicted[held] / nets.label_ms[held])
        fold[held] = number
        mine = np.flatnonzero(out_rows & (data.rows.place == 0))
        said = fitted.seconds(data.rows.kernels.take(mine))
        own = without_probe(data, fitted.probe_us).rows.seconds[mine]
        kernel_error[mine] = np.log(said / own)
        for name, values in beside.items():
            answer = BASELINES[name](data, ~out_rows, ~out_networks)
            values[held] = np.log(answer[held] / nets.label_ms[held])
        settings.append({n: getattr(fitted.settings, n) for n in type(fitted.settings).__slots__})
        scales.append(fitted.scale)
        host_us.append(fitted.host_us)
    return Evaluation(data, log_error, _covered(log_error, fold), fold, kernel_error, beside,
                      tuple(settings), tuple(scales), tuple(host_us))  # fmt: skip


def _covered(log_error: Floats, fold: Ints) -> Floats:
    """1 where a network lies in the 90 % interval that the errors of the other folds give."""
    covered = np.full(len(log_error), np.nan)
    for number in np.unique(fold[fold >= 0]):
        others = (fold >= 0) & (fold != number)
        mine = fold == number
        if others.any():
            width = log_error_90(log_error[others].tolist())
            covered[mine] = np.abs(log_error[mine]) <= width
    return covered


def figures(
    log_error: Floats, label: Floats | None = None, covered: Floats | None = None
) -> dict[str, float]:
    """Errors of some networks in percent, all of them; what cannot be said is left out.

    ``label`` (milliseconds) adds Spearman's rank correlation, ``covered`` the interval's coverage.
    """
    if not len(log_error):
        return {"n": 0}
    percent = 100 * np.abs(np.expm1(log_error))
    found = {
        "n": len(log_error), "median_pct": float(np.median(percent)),
        "mean_pct": float(np.mean(percent)),
        **{f"within_{limit}_pct": 100 * float(np.mean(percent <= limit)) for limit in (5, 10, 20)},
        "bias_pct": 100 * float(np.expm1(np.mean(log_error))),
    }  # fmt: skip
    found = {key: round(value, 1) for key, value in found.items()}
    found["n"] = len(log_error)
    if label is not None and len(label) > 2:
        found["spearman"] = round(spearman(label * np.exp(log_error), label), 4)
    if covered is not None and np.isfinite(covered).any():
        found["coverage_90_pct"] = round(100 * float(np.nanmean(covered)), 1)
    return found


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; equal values share the mean of their ranks."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / size) if size > 0 else 0.0


def ranks(values: Floats) -> Floats:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, back, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count) - 1
    result: Floats = (last - (count - 1) / 2)[back]
    return result


def repeatability(repeat: Floats) -> dict[str, float]:
    """How far two turns of one network lie apart."""
    known = repeat[np.isfinite(repeat)]
    if not len(known):
        return {"n": 0}
    percent = 100 * np.expm1(np.abs(known))
    return {
        "n": len(known), "median_pct": round(float(np.median(percent)), 1),
        "mean_pct": round(float(np.mean(percent)), 1),
        "within_10_pct": round(100 * float(np.mean(percent <= 10)), 1),
        "bias_pct": round(100 * float(np.expm1(np.mean(known))), 1),
    }  # fmt: skip


def agreeing(repeat: Floats, counted: Flags) -> Flags:
    """Networks whose two turns lie no further apart than the median pair of turns does."""
    known = counted & np.isfinite(repeat)
    if not known.any():
        return known
    result: Flags = known & (np.abs(repeat) <= np.median(np.abs(repeat[known])))
    return result


def by_group(found: Evaluation, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Figures by a name for each network; groups of fewer than three networks together."""
    counted, rows = found.counted, np.asarray(names)
    shown: dict[str, dict[str, float]] = {}
    rest = np.zeros(len(rows), dtype=bool)
    few = 0
    for name in sorted(set(rows[counted].tolist())):
        mine = counted & (rows == name)
        if mine.sum() < SMALLEST_GROUP:
            rest |= mine
            few += 1
        else:
            shown[name] = figures(found.log_error[mine], found.data.networks.label_ms[mine],
                                  found.covered[mine])  # fmt: skip
    if few:
        shown[f"{few} families of fewer than {SMALLEST_GROUP}"] = figures(found.log_error[rest])
    return shown


def by_size(found: Evaluation) -> dict[str, dict[str, float]]:
    """Figures by tercile of the label."""
    counted = found.counted
    label = found.data.networks.label_ms
    names = np.full(len(label), "", dtype="U8")
    names[counted] = size_class(label[counted].tolist())
    return {
        name: figures(found.log_error[names == name], label[names == name],
                      found.covered[names == name])
        for name in ("small", "medium", "large") if (names == name).any()
    }  # fmt: skip
