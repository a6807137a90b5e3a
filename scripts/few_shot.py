"""How well a few measurements calibrate: NAS-Bench-201 cells on devices that no source knows.

    python -m scripts.few_shot --public-data DIR [--cache DIR]

For each of six devices all of its columns are left out; sources are the shipped targets of the
other devices of the table, each of which was fitted on its own device alone. Samples are drawn at
random, 20 seeds, and every other cell of the column is predicted by what ``calibrate`` chooses.
Writes aggregates to ``docs/few-shot.json`` and the page ``docs/accuracy-few-shot.md``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from predictor.device import load_device
from predictor.kernels.features import CLASSES, Floats
from predictor.latency.physical import kernel_times
from predictor.latency.source import OPERATOR_MS, PARTS, Source
from predictor.latency.transfer import choose
from scripts.help_features import Counted, counted
from scripts.help_rows import DEVICES, Column, Table, read_table

SIX = ("titan-rtx", "xeon-gold-6240", "pixel-3", "raspberry-pi-4", "zc706", "eyeriss")
"""HELP's unseen devices, or what of the same kind the table holds."""
SEEDS, SAMPLES = 20, (10, 20)
DIRECT = 900
"""Samples of the direct fit, as BRP-NAS used."""


@dataclass(frozen=True, slots=True)
class Known:
    """A source and what it says of every cell: totals and parts by batch."""

    source: Source
    networks: Counted

    def terms(self, batch: int) -> tuple[Floats, Floats]:
        """As :meth:`Source.terms`, for all cells at once."""
        coster = self.source.coster
        features = self.networks.at(batch)
        times = kernel_times(features, coster.hardware, coster.theta)
        counts = self.networks.counts
        parts = np.zeros((len(counts), len(PARTS)))
        for index in range(len(CLASSES)):
            parts[:, index] = counts @ (times.total * (features.cls == index)) * 1e3
        bounds = (times.compute, times.memory, times.launch)
        for at, seconds in enumerate(bounds, start=len(CLASSES)):
            parts[:, at] = counts @ seconds * 1e3
        parts[:, -1] = counts @ features.launches * OPERATOR_MS
        assert coster.bundle is not None
        assert coster.forest is None
        call_ms = 1e-3 * coster.bundle.parameters.get("call_us", 0.0)
        return counts @ times.total * 1e3 + call_ms, parts


def known_sources(table: Table, cache: Path) -> list[Known]:
    """The shipped targets of the table's devices, one a device."""
    found = []
    for name in dict.fromkeys(column.device for column in table.columns):
        device = load_device(name)
        target = next(t for t in device.targets if t.bundle is not None and t.tier == "calibrated"
                      and t.precision in ("fp32", "fp16") and t.runtime in
                      ("eager", "tflite", "simulated"))  # fmt: skip
        source = Source.of(device, target)
        networks = counted(table.keys, source.rules, cache, target.precision)
        found.append(Known(source, networks))
    return found


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b)[0])


def score(said: Floats, measured: Floats) -> dict[str, float]:
    """Rank correlation, and percent of cells within 10 %."""
    return {
        "spearman": rank_correlation(said, measured),
        "within_10_pct": 100 * float(np.mean(np.abs(said / measured - 1) <= 0.1)),
        "mape_pct": 100 * float(np.mean(np.abs(said / measured - 1))),
    }


def column_scores(
    table: Table, column: Column, known: Sequence[Known], seeds: int
) -> dict[str, list[dict[str, float]]]:
    """Scores of one column by method, one entry a seed."""
    others = [k for k in known if k.source.device.name != column.device]
    terms = [k.terms(column.batch) for k in others]
    totals = np.column_stack([total for total, _ in terms])
    parts = np.stack([part for _, part in terms], axis=1)
    rules = [k.source.rules for k in others]
    rivals = np.column_stack([c.latency_ms for c in table.columns if c.device != column.device])
    cells = np.flatnonzero(column.usable & ~table.ignores_input)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(cells)
        for count in SAMPLES:
            rows, rest = order[:count], order[count:]
            measured = column.latency_ms[rows]
            chosen = choose(totals[rows], parts[rows], measured, rules)
            said = chosen.predict(totals[rest], parts[rest])
            entry = score(said, column.latency_ms[rest])
            half = _half_width(chosen.left_out_log_errors)
            entry["covered_pct"] = 100 * float(
                np.mean(np.abs(np.log(said / column.latency_ms[rest])) <= half)
            )
            found.setdefault(f"calibrate {count}", []).append(entry)
            best = _best_column(rivals, rows, measured)
            found.setdefault(f"best other column {count}", []).append(
                score(rivals[rest, best[0]] * best[1], column.latency_ms[rest])
            )
    found["direct 900"] = [_direct(table, column, cells, known)]
    return found


def _half_width(errors: Floats) -> float:
    from predictor.latency.intervals import few_rows_quantile

    return few_rows_quantile([float(error) for error in errors])


def _best_column(rivals: Floats, rows: Floats, measured: Floats) -> tuple[int, float]:
    """The measured column of another device that agrees best with the samples, and its factor."""
    ranks = [rank_correlation(rivals[rows, i], measured) for i in range(rivals.shape[1])]
    best = int(np.argmax(ranks))
    return best, float(np.exp(np.mean(np.log(measured / rivals[rows, best]))))


def _direct(
    table: Table, column: Column, cells: Floats, known: Sequence[Known]
) -> dict[str, float]:
    """A boosted forest on 900 cells of the column itself: what so many samples give."""
    import lightgbm

    own = next(k for k in known if k.source.device.name == column.device)
    eager = next(k for k in known if k.source.rules == "eager")
    matrix = np.column_stack([eager.networks.counts, own.networks.counts, _edges(table)])
    order = np.random.default_rng(0).permutation(cells)
    train, rest = order[:DIRECT], order[DIRECT:]
    model = lightgbm.train(
        {"objective": "regression", "num_leaves": 15, "learning_rate": 0.05, "num_threads": 1,
         "min_data_in_leaf": 10, "verbose": -1, "seed": 0},
        lightgbm.Dataset(matrix[train], np.log(column.latency_ms[train])), 400,
    )  # fmt: skip
    said = np.exp(np.asarray(model.predict(matrix[rest]), dtype=float))
    return score(said, column.latency_ms[rest])


def _edges(table: Table) -> Floats:
    from predictor.frontends.families.nasbench201 import OPERATIONS, parse

    cells = [parse(key.partition(":")[2]).operations for key in table.keys]
    return np.array([[OPERATIONS.index(word) for word in cell] for cell in cells], dtype=float)


def mean(entries: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over seeds and columns."""
    return {key: round(float(np.mean([e[key] for e in entries])), 4) for key in entries[0]}


def run(public: Path, cache: Path, seeds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All six devices; their columns' means, and the mean over devices."""
    table = read_table(public, "nasbench201")
    known = known_sources(table, cache)
    devices: dict[str, dict[str, dict[str, float]]] = {}
    for device in SIX:
        pooled: dict[str, list[dict[str, float]]] = {}
        for column in table.columns:
            if column.device == device:
                for name, entries in column_scores(table, column, known, seeds).items():
                    pooled.setdefault(name, []).extend(entries)
        devices[device] = {name: mean(entries) for name, entries in pooled.items()}
        say(f"{device}: {devices[device]}")
    methods = devices[SIX[0]]
    overall = {name: mean([devices[d][name] for d in SIX]) for name in methods}
    return {"seeds": seeds, "cells": int((~table.ignores_input).sum()), "devices": devices,
            "mean": overall, "sources": len(set(DEVICES.values()) & {c.device for c in
                                                                   table.columns}) - 1}  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """The published page."""
    lines = [
        "# A few measurements", "",
        "`python -m scripts.few_shot --public-data DIR` makes this page.", "",
        f"NAS-Bench-201, {found['cells']:,} cells. Each of six devices is left out with all of its "
        f"columns; the sources are the targets of the other {found['sources']} devices of the "
        "table, every one fitted on its own device alone (the Raspberry Pi 4 beside other "
        "Raspberry boards, none of the six). 10 or 20 cells are drawn at "
        f"random ({found['seeds']} seeds, fixed), and all others are predicted by what "
        "`predict-latency calibrate` chooses: the same code. Devices: HELP's unseen ones, or what "
        "the table holds of the same kind. *Best column* is the column of another device that "
        "agrees best with the same samples, times one factor; *900 direct* is a boosted forest on "
        "900 cells of the column itself (one seed), which shows what the labels allow. No row is "
        "trimmed.", "",
        "| device | Spearman at 10 | at 20 | best column at 10 | at 20 | 900 direct |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    names = ("calibrate 10", "calibrate 20", "best other column 10", "best other column 20",
             "direct 900")  # fmt: skip
    rows = [*found["devices"].items(), ("**mean**", found["mean"])]
    lines += [f"| {d} | " + " | ".join(f"{r[n]['spearman']:.3f}" for n in names) + " |"
              for d, r in rows]  # fmt: skip
    lines += ["", "Cells within 10 % of the latency, percent (mean error in percent behind it), "
              "and what the 90 % interval covers:", "",
              "| device | at 10 | at 20 | best column at 20 | 900 direct | covered at 10 | at 20 |",
              "|---|---|---|---|---|---|---|"]  # fmt: skip
    for device, row in rows:
        shown = ("calibrate 10", "calibrate 20", "best other column 20", "direct 900")
        cells = [f"{row[n]['within_10_pct']:.0f} ({row[n]['mape_pct']:.1f})" for n in shown]
        cells += [f"{row[f'calibrate {k}']['covered_pct']:.0f}" for k in SAMPLES]
        lines.append(f"| {device} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *NOTES, ""])


NOTES = (
    "Where 900 samples of the device itself leave less than 90 % of cells within 10 %, its labels "
    "do not allow more: the Gold 6240, the Pixel 3 and the Raspberry Pi 4 scatter by more than "
    "that from cell to cell. The FPGA and Eyeriss columns are estimates of simulators.",
    "",
    "What was looked at on the six themselves, and so is no blind test: that six sources do as "
    "well as all of them, and the treatment of multiplications by zero "
    "(`predictor/kernels/zeros.py`), which was found in the Raspberry Pi 4 and Pixel 3 columns "
    "together. Spreads and noises of the hypotheses were never tuned.",
)


def main() -> None:
    """Run and write; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--public-data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--output", type=Path, default=Path("docs/few-shot.json"))
    arguments = parser.parse_args()
    cache = arguments.cache or Path(tempfile.gettempdir()) / "latency-predictor-counted"
    found = run(arguments.public_data, cache, arguments.seeds, lambda text: print(text, flush=True))
    arguments.output.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    arguments.output.with_name("accuracy-few-shot.md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
