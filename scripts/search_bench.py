"""Search strategies against the known optimum: NAS-Bench-201 on measured devices.

    python -m scripts.search_bench --public-data DIR --cache DIR [--only METHOD] [--seeds 20]
    python -m scripts.search_bench --public-data DIR --cache DIR --write

Eight devices with measured latencies, three latency budgets each (quantiles of all cells'
latencies), CIFAR-10 accuracies; every strategy may ask for 200 accuracies. Regret is the accuracy
of the best cell within the budget (of all 15,625) less that of the best cell the search has found.
The strategy that is the default was chosen on four of the devices; the other four were not looked
at before. Runs are kept in the cache folder as they end, so a stopped script goes on; ``--write``
makes ``docs/search-nasbench201.json`` and the page of it. Aggregates only.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from predictor.front import Limit, Values
from predictor.search.candidate import Candidate, Signal
from predictor.search.problem import Problem
from predictor.search.spaces.nasbench201 import NasBench201
from predictor.search.study import Search
from scripts.help_rows import Table, read_table

CHOSEN_ON = (("gtx-1080-ti", 1), ("xeon-silver-4114", 1), ("galaxy-s7", 1), ("raspberry-pi-4", 1))
REPORTED_ON = (("titan-rtx", 32), ("xeon-gold-6240", 1), ("pixel-3", 1), ("galaxy-a50", 1))
QUANTILES = (0.2, 0.4, 0.6)
EVALUATIONS, SEEDS = 200, 20
METHODS = ("learned", "random", "evolution", "tpe", "nsga2")
OUTPUT = Path("docs/search-nasbench201.json")


class MeasuredPricer:
    """What :class:`~predictor.search.pricing.Pricer` does, from a table of measured latencies."""

    way, batch, scope = "table", 1, "engine"

    def __init__(self, name: str, rows: dict[str, tuple[float, float, float]], space: Any) -> None:
        self.names, self.targets, self.rows, self.space = (name,), (name,), rows, space

    def price(self, candidates: Sequence[Values]) -> dict[str, np.ndarray]:
        """Latency (its interval is itself), MACs and parameters."""
        found = np.array([self.rows[self.space.key(values)] for values in candidates])
        name = self.names[0]
        columns = {f"{word} {name}": found[:, 0] for word in ("latency_ms", "low_ms", "high_ms")}
        return {**columns, "macs": found[:, 1], "flops": 2 * found[:, 1], "params": found[:, 2]}


class Known(Signal):
    """Accuracies of the benchmark."""

    name, unit = "nats-bench", "%"

    def __init__(self, accuracies: dict[str, float]) -> None:
        self.accuracies, self.asked = accuracies, []

    def score(self, candidate: Candidate) -> float:
        """The table's; every question counts."""
        self.asked.append(self.accuracies[candidate.key])
        return self.asked[-1]


def accuracies(public: Path) -> dict[str, float]:
    """CIFAR-10 test accuracy in percent by cell."""
    path = public / "nats-bench" / "nasbench201_accuracy.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return {row["arch"]: float(row["cifar10_test_accuracy_pct"])
                for row in csv.DictReader(file)}  # fmt: skip


def sizes(keys: Sequence[str], cache: Path) -> dict[str, tuple[float, float]]:
    """MACs and parameters of every cell, from its graph."""
    path = cache / "sizes.json"
    if not path.exists():
        space, found = NasBench201(), {}
        from predictor.pipeline import Predictor
        from predictor.search.pricing import Pricer

        figures = Pricer(space, [Predictor("a100", precision="fp32")]).price(
            [space.values(key) for key in keys]
        )
        for key, macs, params in zip(keys, figures["macs"], figures["params"], strict=True):
            found[key] = (float(macs), float(params))
        path.write_text(json.dumps(found))
    return {key: tuple(value) for key, value in json.loads(path.read_text()).items()}


def latencies(table: Table, device: str, batch: int) -> np.ndarray:
    """Milliseconds of every cell; what was no measurement is never within a budget."""
    column = next(c for c in table.columns if (c.device, c.batch) == (device, batch))
    return np.where(column.usable, column.latency_ms, 10 * np.nanmax(column.latency_ms))


def one(
    method: str, problem: Problem, known: dict[str, float], seed: int, evaluations: int
) -> list[float]:
    """The accuracies that a run asked for, in order."""
    signal = Known(known)
    Search(problem, signal, trials=evaluations, sampler=method, seed=seed).run()
    return signal.asked


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--public-data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--only", choices=METHODS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--devices", choices=("chosen", "reported"))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    table, known = (
        read_table(arguments.public_data, "nasbench201"),
        accuracies(arguments.public_data),
    )
    keys = [key.partition(":")[2] for key in table.keys]
    truth = np.array([known[key] for key in keys])
    if arguments.write:
        write(arguments.cache, table, truth)
        return
    size = sizes(keys, arguments.cache)
    devices = {"chosen": CHOSEN_ON, "reported": REPORTED_ON, None: (*CHOSEN_ON, *REPORTED_ON)}
    space = NasBench201()
    for seed in range(arguments.first_seed, arguments.seeds):
        for device, batch in devices[arguments.devices]:
            ms = latencies(table, device, batch)
            rows = {key: (float(value), *size[key]) for key, value in zip(keys, ms, strict=True)}
            for quantile in QUANTILES:
                budget = budget_of(table, device, batch, quantile)
                for method in METHODS if arguments.only is None else (arguments.only,):
                    name = f"{method} {device} {batch} {quantile} {seed}"
                    path = arguments.cache / f"{name.replace(' ', '_')}.json"
                    if path.exists():
                        continue
                    pricer = MeasuredPricer(device, rows, space)
                    limit = Limit("latency_ms", budget, device)
                    problem = Problem(space, pricer, (limit,))  # type: ignore[arg-type]
                    start = time.process_time()
                    asked = one(method, problem, known, seed, EVALUATIONS)
                    best = float(truth[ms <= budget].max())
                    spent = time.process_time() - start
                    path.write_text(json.dumps([best - max(asked), len(asked), spent]))
                    print(f"{name}: {best - max(asked):.3f} ({spent:.1f} s)", flush=True)


def budget_of(table: Table, device: str, batch: int, quantile: float) -> float:
    """The latency that this share of all measured cells keeps."""
    column = next(c for c in table.columns if (c.device, c.batch) == (device, batch))
    return float(np.quantile(column.latency_ms[column.usable], quantile))


def regrets(cache: Path, method: str, devices: Sequence[tuple[str, int]]) -> np.ndarray:
    """Of all runs of a method: (devices x budgets) x seeds."""
    rows = []
    for device, batch in devices:
        for quantile in QUANTILES:
            stem = f"{method}_{device}_{batch}_{quantile}"
            paths = sorted(cache.glob(f"{stem}_*.json"), key=lambda p: int(p.stem.rsplit("_")[-1]))
            rows.append([json.loads(path.read_text())[0] for path in paths])
    width = min(len(row) for row in rows)
    return np.array([row[:width] for row in rows])


def write(cache: Path, table: Table, truth: np.ndarray) -> None:
    """Aggregates as JSON and as a page."""
    from scipy.stats import wilcoxon

    found: dict[str, Any] = {"evaluations": EVALUATIONS, "halves": {}}
    lines = [PAGE]
    for half, devices in (("chosen on", CHOSEN_ON), ("reported on", REPORTED_ON)):
        own = {method: regrets(cache, method, devices) for method in METHODS}
        seeds = own["learned"].shape[1]
        names = ", ".join(f"{name} (batch {batch})" for name, batch in devices)
        lines += ["", f"## Devices that the default was {half}: {names}", "",
                  f"{own['learned'].size} runs of the default ({len(devices)} devices, "
                  f"{len(QUANTILES)} budgets, {seeds} seeds).", "",
                  "| strategy | runs | median regret | mean | within 0.1 | optimum found | "
                  "largest | learned is better, p |",
                  "|---|---|---|---|---|---|---|---|"]  # fmt: skip
        entry = {}
        for method in METHODS:
            values = own[method].ravel()
            other = None
            if method != "learned":
                width = min(own["learned"].shape[1], own[method].shape[1])
                a, b = own["learned"][:, :width].ravel(), own[method][:, :width].ravel()
                other = float(wilcoxon(a, b, alternative="less").pvalue)
            entry[method] = {
                "median": float(np.median(values)), "mean": float(values.mean()),
                "within_0.1_pct": float(100 * (values <= 0.1 + 1e-9).mean()),
                "optimum_pct": float(100 * (values <= 1e-9).mean()),
                "largest": float(values.max()), "runs": int(values.size), "p": other,
            }  # fmt: skip
            e = entry[method]
            shown = "–" if other is None else f"{other:.1g}"
            lines.append(f"| {method} | {e['runs']} | {e['median']:.3f} | {e['mean']:.3f} | "
                         f"{e['within_0.1_pct']:.0f} % | {e['optimum_pct']:.0f} % | "
                         f"{e['largest']:.2f} | {shown} |")  # fmt: skip
        found["halves"][half] = entry
    OUTPUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    OUTPUT.with_suffix(".md").write_text("\n".join([*lines, ""]), encoding="utf-8")


PAGE = """# Search strategies on NAS-Bench-201

`python -m scripts.search_bench --public-data DIR --cache DIR` runs the searches and keeps them;
with `--write` it makes this page. Measured latencies: HELP (Lee et al., NeurIPS 2021) and
HW-NAS-Bench (Li et al., ICLR 2021); accuracies: NATS-Bench (Dong et al., TPAMI 2021).

Every strategy may ask for 200 accuracies of cells that keep a latency budget: the latency that 20,
40 or 60 % of all cells keep. Regret is the CIFAR-10 accuracy, in points, of the best of all 15,625
cells within the budget, less that of the best one found. `learned` is the default; `evolution` is
regularised evolution and `random` draws evenly, both among cells within the budget only; `tpe`
(multivariate) and `nsga2` are Optuna's, the budget given as a constraint of each trial; a cell over
budget costs them no evaluation. p: Wilcoxon's signed rank test, one-sided, runs paired by device,
budget and seed (runs of one device and budget share their optimum). No accuracy of the benchmark is
a prior of any strategy."""


if __name__ == "__main__":
    main()
