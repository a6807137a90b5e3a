"""Left-out protocols: whole groups are left out, everything is refitted inside each fold."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from predictor.latency.fitting import Fit, FitRow, fit_rows
from predictor.latency.intervals import conformal_quantile
from scripts.figures import Figure, log_errors, summary

Key = Callable[[Figure], str]

SMALLEST_FOLD = 3
PROTOCOLS: Mapping[str, Key] = {
    "model": lambda f: f.model,
    "family": lambda f: f.family,
    "board": lambda f: f.board,
    "source": lambda f: f.source,
}


def hash_of(text: str, parts: int = 10) -> int:
    """One of ``parts`` groups, the same in every run."""
    return zlib.crc32(text.encode()) % parts


@dataclass(slots=True)
class Outcome:
    """Errors of one protocol: the figures that were left out, and what was said of them."""

    protocol: str
    figures: list[Figure] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    baselines: dict[str, list[float]] = field(default_factory=dict)
    key: Key = field(default=lambda figure: figure.model)

    def of(self, keep: Callable[[Figure], bool]) -> np.ndarray:
        """Log errors of the figures that ``keep`` wants."""
        return np.array([e for f, e in zip(self.figures, self.errors, strict=True) if keep(f)])

    def baseline(self, name: str, keep: Callable[[Figure], bool]) -> np.ndarray:
        """The same of a baseline."""
        rows = zip(self.figures, self.baselines[name], strict=True)
        return np.array([e for f, e in rows if keep(f)])


def left_out(
    figures: Sequence[Figure], protocol: str, *, scored: Callable[[Figure], bool] = lambda f: True,
    layers: Sequence[Figure] = (), key: Key | None = None,
    fitter: Callable[[Sequence[FitRow]], Fit] = fit_rows,
) -> Outcome:  # fmt: skip
    """Every group left out once; ``layers`` help fitting where their board is not left out."""
    key = key or PROTOCOLS[protocol]
    outcome = Outcome(protocol, baselines={"flops": [], "roofline": []}, key=key)
    groups = sorted({key(f) for f in figures if scored(f)})
    for group in groups:
        train = [f for f in figures if key(f) != group]
        train += [f for f in layers if key(f) != group]
        test = [f for f in figures if key(f) == group and scored(f)]
        fit = fitter([f.fit for f in train])
        errors = log_errors(fit, test)
        outcome.figures += test
        outcome.errors += [float(e) for e in errors]
        for name, values in _baselines(train, test).items():
            outcome.baselines[name] += values
    return outcome


def _baselines(train: Sequence[Figure], test: Sequence[Figure]) -> dict[str, list[float]]:
    """FLOPs x constant and roofline x constant, the constant fitted per board (all, if new)."""
    result: dict[str, list[float]] = {}
    for name, work in (("flops", lambda f: f.macs), ("roofline", lambda f: f.roofline_ms)):
        whole = [f for f in train if not f.layer]
        ratios = [np.log(f.fit.latency_ms / work(f)) for f in whole]
        by_board: dict[str, list[float]] = {}
        for f, ratio in zip(whole, ratios, strict=True):
            by_board.setdefault(f.board, []).append(float(ratio))
        every = float(np.median(ratios))
        result[name] = [
            float(np.log(work(f)) + (np.median(by_board[f.board]) if f.board in by_board else every)
                  - np.log(f.fit.latency_ms))
            for f in test
        ]  # fmt: skip
    return result


def card(
    outcomes: Mapping[str, Outcome], keep: Callable[[Figure], bool]
) -> tuple[dict[str, Any], dict[str, float]]:
    """The accuracy card of the figures that ``keep`` wants, and 90 % quantiles by protocol."""
    protocols: dict[str, Any] = {}
    quantiles: dict[str, float] = {}
    for name, outcome in outcomes.items():
        errors = outcome.of(keep)
        if not len(errors):
            continue
        sources = sorted({f.source for f in outcome.figures if keep(f)})
        per_fold = _folds(outcome, keep)
        protocols[name] = {
            **summary(errors), "spearman": rank_correlation(outcome, keep),
            "sources": sources, "folds": per_fold,
            "baselines": {b: dict(summary(outcome.baseline(b, keep))) for b in outcome.baselines},
        }  # fmt: skip
        quantiles[name] = round(conformal_quantile(list(errors)), 4)
    return protocols, quantiles


def rank_correlation(outcome: Outcome, keep: Callable[[Figure], bool]) -> float | None:
    """Spearman's, of what was predicted with what was measured; None for fewer than 5 figures."""
    rows = zip(outcome.figures, outcome.errors, strict=True)
    pairs = [(f.fit.latency_ms, f.fit.latency_ms * float(np.exp(e))) for f, e in rows if keep(f)]
    if len(pairs) < 5:
        return None
    measured, predicted = (np.argsort(np.argsort(side)) for side in zip(*pairs, strict=True))
    return round(float(np.corrcoef(measured, predicted)[0, 1]), 3)


def _folds(outcome: Outcome, keep: Callable[[Figure], bool]) -> dict[str, Any]:
    """Figures of each left-out group; groups of one or two rows are pooled, as a single error
    beside our estimate would give away the measured value."""
    sizes = Counter(outcome.key(f) for f in outcome.figures if keep(f))
    large = sorted(group for group, n in sizes.items() if n >= SMALLEST_FOLD)
    folds = {g: dict(summary(outcome.of(lambda f, g=g: keep(f) and outcome.key(f) == g)))
             for g in large}  # fmt: skip
    rest = [group for group in sizes if group not in large]
    if sum(sizes[group] for group in rest) >= SMALLEST_FOLD:
        errors = outcome.of(lambda f: keep(f) and outcome.key(f) in rest)
        folds[f"{len(rest)} folds of fewer than {SMALLEST_FOLD} rows"] = dict(summary(errors))
    return folds


def final_fit(
    figures: Sequence[Figure], layers: Sequence[Figure] = (),
    fitter: Callable[[Sequence[FitRow]], Fit] = fit_rows,
) -> Fit:  # fmt: skip
    """The fit that ships: all figures."""
    return fitter([f.fit for f in (*figures, *layers)])
