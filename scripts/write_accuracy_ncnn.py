"""Write ``docs/accuracy-ncnn.md`` from ``docs/accuracy-ncnn.json``.

python -m scripts.write_accuracy_ncnn [--public-data DIR] [--check]

``--public-data`` renews the spread between runs of one board; the rest is what
``python -m scripts.fit_profiles --only "ncnn cpu" --only "ncnn vulkan"`` left.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scripts.accuracy_tables import fold_table, pair, table, target_table
from scripts.ncnn_figures import Run, runs

ROOT = Path(__file__).resolve().parent.parent
SOURCE, PAGE = ROOT / "docs" / "accuracy-ncnn.json", ROOT / "docs" / "accuracy-ncnn.md"
NOISE = "between runs"
COLLECTIONS = {
    "ncnn cpu": "On CPU cores",
    "ncnn vulkan": "Under Vulkan",
}
PROTOCOLS = {"model": "networks out", "family": "families out", "board": "boards out"}
INTRO = """# Accuracy of the ncnn targets

What the page [Accuracy](accuracy.md) says holds here too: every error is on figures that were never
fitted, everything is refitted inside each fold, and no row is trimmed. *Networks out* leaves out a
ninth of the networks on all boards at once, *families out* every network of a family on all boards,
*boards out* an eighth of the boards with all their rows and settings. Baselines are FLOPs and the
plain roofline times a constant of the board's other rows (of all boards, for boards left out).

A target is named by its profile, the number of cores that ran it (0: the GPU) and the version of
ncnn's benchmark (`a` early, `b` middle, `c` recent, told by the networks that it times). Rows that
the table itself marks as unstable (slowest more than three times the fastest repetition, or mean
above 1.5 times the fastest) are neither fitted nor scored, and counted in the fit's output.
"""
NOTES = """## What to know

- Contributors' boards differ in version of ncnn, compiler, cooling and clock, little of which the
  table states. Two series of one board at one number of cores differ as the last table says: that
  is the floor under *boards out*.
- Every board has at most 27 networks. What a network of a new family takes is therefore mostly
  known from other boards' other networks; of transformers there is one, so nothing else tells.
- int8 networks of the table are eight float networks in another precision; they are not fitted.
- The Vulkan rows named after the Raspberry Pi 5 ran on llvmpipe, a program on the CPU; those of two
  laptops with two GPUs do not say which one ran. Both are left out.
"""


def main() -> None:
    """Write the page, or with ``--check`` say whether it is current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--public-data", type=Path)
    arguments = parser.parse_args()
    data = json.loads(SOURCE.read_text(encoding="utf-8"))
    if arguments.public_data:
        data[NOISE] = between_runs(runs(arguments.public_data)[0])
        SOURCE.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    content = page(data)
    if arguments.check and PAGE.read_text(encoding="utf-8") != content:
        raise SystemExit(f"{PAGE.name} is not current: run python -m scripts.write_accuracy_ncnn")
    if not arguments.check:
        PAGE.write_text(content, encoding="utf-8")


def between_runs(rows: list[Run]) -> dict[str, dict[str, float]]:
    """Spread between runs of one setting, percent: largest over smallest, of all networks."""
    series: dict[str, dict[tuple[str, str], dict[str, float]]] = {}
    for row in rows:
        if row.precision != "int8":
            key = (row.model, row.precision)
            series.setdefault(row.setting, {}).setdefault(key, {})[row.run] = row.latency_ms
    result = {}
    for setting, networks in sorted(series.items()):
        ratios = [max(v.values()) / min(v.values()) - 1 for v in networks.values() if len(v) > 1]
        if len(ratios) >= 5:
            result[setting] = {
                "n": len(ratios), "median_pct": round(100 * float(np.median(ratios)), 1),
                "mean_pct": round(100 * float(np.mean(ratios)), 1),
            }  # fmt: skip
    return result


def page(data: Mapping[str, Any]) -> str:
    """The whole of ``docs/accuracy-ncnn.md``."""
    parts = [INTRO]
    for name, title in COLLECTIONS.items():
        collection = data[name]
        parts.append(f"## {title}\n\n### All boards together\n")
        parts.append(_whole(collection["all"]) + "\n")
        parts.append("### Families left out\n\nMedian / mean error in percent, over all boards.\n")
        parts.append(fold_table(collection["all"]["family"]) + "\n")
        parts.append("### By board\n\nMedian / mean error in percent; rank is Spearman's "
                     "correlation, families left out.\n")  # fmt: skip
        parts.append(target_table("board", collection["boards"], PROTOCOLS) + "\n")
    parts.append("## Spread between runs of one setting\n\nLargest over smallest, less one, in "
                 "percent, over the networks that several runs timed.\n")  # fmt: skip
    rows = [(setting, str(v["n"]), pair(v)) for setting, v in data.get(NOISE, {}).items()]
    parts.append(table(("setting", "networks", "median / mean"), rows) + "\n")
    return "\n".join([*parts, NOTES])


def _whole(protocols: Mapping[str, Any]) -> str:
    rows = []
    for name, title in PROTOCOLS.items():
        entry = protocols[name]
        rows.append((
            title, str(entry["n"]), pair(entry), f"{entry['within_20_pct']:.0f}",
            f"{entry['bias_pct']:+.0f}", pair(entry["baselines"]["flops"]),
            pair(entry["baselines"]["roofline"]),
        ))  # fmt: skip
    header = ("protocol", "n", "median / mean", "within 20 %", "bias", "FLOPs x constant",
              "roofline x constant")  # fmt: skip
    return table(header, rows)


if __name__ == "__main__":
    main()
