"""Fit the targets of the timm tables, left-out protocols first, and write what ships.

    python -m scripts.timm_fit --public-data DIR [--cache DIR] [--only rtx-3090]

Folds and seeds are fixed; everything is refitted inside each fold, no row is trimmed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from predictor.device import shipped_profiles
from predictor.kernels.features import CLASSES, Floats
from predictor.latency.bundle import Bundle, write_bundle, write_checked
from predictor.latency.intervals import conformal_quantile
from predictor.latency.physical import INDEX, to_parameters
from scripts.collection import Ship
from scripts.figures import summary
from scripts.fit_profiles import _point_at_bundle
from scripts.timm_targets import CITATIONS, SOURCE, TARGETS, TimmFeatures, TimmTarget, total_rows
from scripts.timm_targets import families as timm_families
from scripts.totals_training import TotalRow, TotalsFit, fit_totals, floor_seconds, with_widths

FOLDS = {"family": 10, "model": 5}
NO_CALL_US = 0.01
"""The totals hold whatever a call costs."""


@dataclass(slots=True)
class LeftOut:
    """One protocol on one table: what was said of each row, by a fit that never saw its group."""

    rows: list[TotalRow] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    known: list[bool] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    fold: list[int] = field(default_factory=list)
    baselines: dict[str, list[float]] = field(default_factory=lambda: {"flops": [], "roofline": []})

    def card(self) -> dict[str, Any]:
        """Aggregates: error of all rows, of each large family, and of the baselines."""
        from scipy.stats import spearmanr

        errors = np.array(self.errors)
        logs = np.log([row.latency_ms for row in self.rows])
        by_family: dict[str, list[float]] = {}
        for row, error in zip(self.rows, self.errors, strict=True):
            by_family.setdefault(row.family, []).append(error)
        return {
            **summary(errors),
            "spearman": round(float(spearmanr(logs + errors, logs)[0]), 4),
            "coverage_90_pct": round(100 * self.coverage(), 1),
            "sources": [SOURCE],
            "folds": {name: dict(summary(np.array(found)))
                      for name, found in sorted(by_family.items()) if len(found) >= 20},
            "baselines": {b: dict(summary(np.array(e))) for b, e in self.baselines.items()},
        }  # fmt: skip

    def coverage(self) -> float:
        """Share of rows inside their 90 % interval, widths from the other folds' errors alone."""
        errors, distances, fold = map(np.array, (np.abs(self.errors), self.distances, self.fold))
        inside = np.zeros(len(errors), bool)
        for k in np.unique(fold):
            other, mine = fold != k, fold == k
            edges, widths = widths_of(distances[other], errors[other])
            inside[mine] = errors[mine] <= widths[np.searchsorted(edges, distances[mine])]
        return float(inside.mean())


def widths_of(distances: Floats, errors: Floats) -> tuple[Floats, Floats]:
    """Edges and half-widths as the shipped totals have them."""
    from predictor.latency.boosted import Forest
    from predictor.latency.totals import Totals

    empty = np.zeros(0)
    forest = Forest(*(np.zeros(0) for _ in range(6)))  # type: ignore[arg-type]
    bare = Totals(empty, forest, empty, empty, empty, 0.0, 0.0, empty, empty)
    found = with_widths(TotalsFit(empty, bare), distances, errors).totals
    return found.edges, found.widths


def groups(rows: Sequence[TotalRow], key: Callable[[TotalRow], str], count: int) -> list[int]:
    """A fold for each row: whole groups, largest first, to the emptiest fold."""
    sizes = Counter(key(row) for row in rows)
    load, fold = [0] * count, {}
    for name, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        fold[name] = load.index(min(load))
        load[fold[name]] += size
    return [fold[key(row)] for row in rows]


KEYS: dict[str, Callable[[TotalRow], str]] = {
    "family": lambda row: row.family,
    "model": lambda row: row.model,
}


def left_out(rows: Sequence[TotalRow], protocol: str) -> LeftOut:
    """Every fold predicted by a fit to the others."""
    fold = np.array(groups(rows, KEYS[protocol], FOLDS[protocol]))
    outcome = LeftOut()
    for k in range(FOLDS[protocol]):
        train = [row for row, at in zip(rows, fold, strict=True) if at != k]
        test = [row for row, at in zip(rows, fold, strict=True) if at == k]
        score(outcome, fit_totals(train), train, test, k)
    return outcome


def score(
    outcome: LeftOut, fit: TotalsFit, train: Sequence[TotalRow], test: Sequence[TotalRow], k: int
) -> None:
    """Add what ``fit`` says of ``test``, and the baselines fitted on ``train``."""
    for row in test:
        answer = fit.answer(row)
        outcome.rows.append(row)
        outcome.errors.append(float(np.log(answer.total_s * 1e3 / row.latency_ms)))
        outcome.distances.append(answer.distance)
        outcome.known.append(answer.known)
        outcome.fold.append(k)
    works: dict[str, Callable[[TotalRow], float]] = {
        "flops": lambda row: float(row.features.macs.sum()),
        "roofline": lambda row: 1e3 * float(floor_seconds(row).sum()),
    }
    for name, work in works.items():
        constant = np.median([np.log(row.latency_ms / work(row)) for row in train])
        outcome.baselines[name] += [
            float(constant + np.log(work(row) / row.latency_ms)) for row in test
        ]


def ship(
    target: TimmTarget, rows: Sequence[TotalRow], outcomes: dict[str, LeftOut], profiles: Path
) -> None:
    """Write bundle and totals of one target, and point its device at them."""
    fit = fit_totals(rows)
    pooled = [outcomes["family"], outcomes["model"]]
    fit = with_widths(
        fit, np.concatenate([o.distances for o in pooled]),
        np.concatenate([o.errors for o in pooled]),
    )  # fmt: skip
    theta = fit.theta.copy()
    theta[INDEX["call_us"]] = np.log(NO_CALL_US)
    classes = sorted({int(c) for row in rows for c in row.features.cls})
    folder, name = profiles / target.device, target.name
    write_checked(folder, f"{name}-totals.npz", fit.totals.to_bytes())
    bundle = Bundle(
        target=name, rules=target.runtime,
        parameters={k: round(v, 8) for k, v in to_parameters(theta).items()},
        log_error_90={p: round(conformal_quantile(o.errors), 4) for p, o in outcomes.items()},
        classes=tuple(CLASSES[c] for c in classes),
        basis=f"fitted on {len(rows)} published figures of {len({r.model for r in rows})} networks "
        f"({SOURCE})",
        citations=CITATIONS, software=target.software, smallest_batch=target.smallest_batch,
        card={"protocols": {p: o.card() for p, o in outcomes.items()}, "n": len(rows)},
        totals=f"{name}-totals.npz", sustained=True,
    )  # fmt: skip
    write_bundle(folder, f"{name}.json", bundle)
    line = Ship(target.device, name, target.runtime, (), target.software)
    _point_at_bundle(folder / "device.yaml", line, "calibrated")


def main() -> None:
    """Fit and write; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--public-data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder for kernel features")
    parser.add_argument("--profiles", type=Path, default=shipped_profiles())
    parser.add_argument("--only", action="append", help="a collection's name; several may be given")
    parser.add_argument("--aggregates", type=Path, default=Path("docs/accuracy.json"))
    arguments = parser.parse_args()
    cache = arguments.cache or Path(tempfile.gettempdir()) / "latency-predictor-features"
    features, family_of = TimmFeatures(cache), timm_families()
    for target in TARGETS:
        if arguments.only and target.collection not in arguments.only:
            continue
        rows, left = total_rows(arguments.public_data, target, features, family_of)
        print(f"{target.collection}: {len(rows)} rows; left out {dict(left)}", flush=True)
        outcomes = {protocol: left_out(rows, protocol) for protocol in FOLDS}
        for protocol, outcome in outcomes.items():
            card = outcome.card()
            print(f"  {protocol}: { {k: v for k, v in card.items() if k != 'folds'} }", flush=True)
        ship(target, rows, outcomes, arguments.profiles)
        known = json.loads(arguments.aggregates.read_text())
        card = {p: o.card() for p, o in outcomes.items()}
        known[target.collection] = {"all": card, "boards": {target.device: card}}
        arguments.aggregates.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
