"""Fits that belong to no device: pooled over the GPUs of the timm tables, each left out in turn.

    python -m scripts.share_fits --public-data DIR [--cache DIR]

Writes ``profiles/shared/`` and ``docs/accuracy-unseen-gpus.json``: every GPU predicted from the
others, without a measurement of its own and with ten.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from predictor.device import shipped_profiles
from predictor.kernels.features import CLASSES, Floats
from predictor.latency.bundle import Bundle, write_bundle, write_checked
from predictor.latency.intervals import conformal_quantile
from predictor.latency.physical import INDEX, to_parameters
from predictor.latency.shared import FOLDER
from scripts.accuracy_tables import pair, table
from scripts.figures import summary
from scripts.timm_fit import NO_CALL_US, LeftOut, score
from scripts.timm_targets import CITATIONS, SOURCE, TARGETS, TimmFeatures, families, total_rows
from scripts.totals_training import TotalRow, fit_totals, with_widths

SEEDS = 20
MEASURED = 10
POOLS = (("eager", "amp"), ("torch_compile", "amp"))

Tables = Mapping[str, Sequence[TotalRow]]


def unseen(tables: Tables) -> dict[str, LeftOut]:
    """Each device predicted by a fit to all others."""
    found = {}
    for device, test in tables.items():
        train = [row for other, rows in tables.items() if other != device for row in rows]
        outcome = LeftOut()
        score(outcome, fit_totals(train), train, test, 0)
        found[device] = outcome
    return found


def width_of(outcomes: Sequence[LeftOut]) -> float:
    """The 90 % half-width for one more card: errors within a card go together, so cards count.

    The widest card's own 90 % quantile, widened by (n + 1) / n for n cards, as the conformal
    quantile of so few is.
    """
    widest = max(conformal_quantile(outcome.errors) for outcome in outcomes)
    return widest * (len(outcomes) + 1) / len(outcomes)


def with_measurements(errors: Floats, count: int) -> Mapping[str, float]:
    """The same after one factor from ``count`` measured networks, mean over seeds; all others."""
    pooled = []
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(errors))
        pooled.append(errors[order[count:]] - errors[order[:count]].mean())
    return summary(np.concatenate(pooled))


def figures(outcomes: Mapping[str, LeftOut]) -> dict[str, Any]:
    """Aggregates of one pool."""
    result: dict[str, Any] = {}
    for device, outcome in outcomes.items():
        errors = np.array(outcome.errors)
        width = width_of([o for name, o in outcomes.items() if name != device])
        result[device] = {
            "nothing measured": outcome.card() | {
                "coverage_90_pct": round(100 * float((np.abs(errors) <= width).mean()), 1)},
            f"{MEASURED} measured": dict(with_measurements(errors, MEASURED)),
        }  # fmt: skip
        result[device]["nothing measured"].pop("folds")
    return result


def ship(name: str, tables: Tables, outcomes: Mapping[str, LeftOut], folder: Path) -> None:
    """The fit to all tables, as a bundle of no device."""
    rows = [row for part in tables.values() for row in part]
    errors = np.concatenate([o.errors for o in outcomes.values()])
    fit = fit_totals(rows)
    fit = with_widths(fit, np.concatenate([o.distances for o in outcomes.values()]), errors)
    theta = fit.theta.copy()
    theta[INDEX["call_us"]] = np.log(NO_CALL_US)
    classes = sorted({int(c) for row in rows for c in row.features.cls})
    runtime, precision = name.split("-")[1:3]
    write_checked(folder, f"{name}-totals.npz", fit.totals.to_bytes())
    write_bundle(folder, f"{name}.json", Bundle(
        target=f"{runtime}-{precision}", rules=runtime,
        parameters={k: round(v, 8) for k, v in to_parameters(theta).items()},
        log_error_90={"board": round(width_of(list(outcomes.values())), 4)},
        classes=tuple(CLASSES[c] for c in classes),
        basis=f"fitted on {len(rows)} published figures of {len(tables)} other GPUs ({SOURCE}); "
        "clocks, units, caches and bandwidth its own",
        citations=CITATIONS, siblings_only=True, smallest_batch=256, sustained=True,
        totals=f"{name}-totals.npz",
    ))  # fmt: skip


INTRO = """# GPUs that were never measured

`python -m scripts.share_fits --public-data DIR` makes this page.

The timm tables of three cards, PyTorch in mixed precision, large batches. Each card is predicted
from the others alone: constants, forest and roofline factor are fitted on them, and of the card
only its datasheet is used (peaks, bandwidth, units, clock, power limit). Its networks are mostly
known from the other tables. *Ten measured*: one factor from ten networks drawn at random, over 20
seeds, on all other networks. Errors are median / mean in percent, no row trimmed; *roofline* is
the plain roofline times the factor of the other cards; *covered* is the share of rows inside a
90 % interval made from the other cards' errors when they were left out.
"""
OUTRO = """What is left is mostly one offset per card: the order of networks is right, and ten
measurements take the offset away. With three cards every offset rests on two others. The formulas
of `predictor/latency/sustained.py` were written with all three tables in view (delivered bytes set
on one ratio of the RTX 3090 and 4090, after a first setting on medians that left the 3090 17 % too
slow; the power of memory and leakage such that the PRO 6000 Max-Q, the T4 and the L4 hold about the
clocks that they are known to hold), so these figures are not blind to them.
"""


def page(report: Mapping[str, Any]) -> str:
    """The whole of ``docs/accuracy-unseen-gpus.md``."""
    header = ("software", "left out", "n", "nothing measured", "bias", "Spearman", "roofline",
              "FLOPs", "covered", "ten measured")  # fmt: skip
    rows = []
    for pool, devices in report.items():
        for device, said in devices.items():
            bare, ten = said["nothing measured"], said[f"{MEASURED} measured"]
            base = bare["baselines"]
            cells = (
                pool.removeprefix("gpu-"), device, str(bare["n"]), pair(bare),
                f"{bare['bias_pct']:+.0f}", f"{bare['spearman']:.3f}", pair(base["roofline"]),
                pair(base["flops"]), f"{bare['coverage_90_pct']:.0f} %", pair(ten),
            )  # fmt: skip
            rows.append(cells)
    return f"{INTRO}\n{table(header, rows)}\n\n{OUTRO}"


def main() -> None:
    """Fit and write; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--public-data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder for kernel features")
    parser.add_argument("--aggregates", type=Path, default=Path("docs/accuracy-unseen-gpus.json"))
    arguments = parser.parse_args()
    cache = arguments.cache or Path(tempfile.gettempdir()) / "latency-predictor-features"
    features, family_of = TimmFeatures(cache), families()
    report: dict[str, Any] = {}
    for runtime, precision in POOLS:
        tables = {
            target.device: total_rows(arguments.public_data, target, features, family_of)[0]
            for target in TARGETS
            if (target.runtime, target.precision, target.release) == (runtime, precision, "")
        }
        outcomes = unseen(tables)
        name = f"gpu-{runtime}-{precision}"
        report[name] = figures(outcomes)
        print(json.dumps({name: report[name]}, indent=1), flush=True)
        ship(name, tables, outcomes, shipped_profiles() / FOLDER)
    arguments.aggregates.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    arguments.aggregates.with_suffix(".md").write_text(page(report))


if __name__ == "__main__":
    main()
