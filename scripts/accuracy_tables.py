"""Tables that the accuracy pages have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def pair(entry: Mapping[str, Any] | None) -> str:
    """Median / mean error in percent; a dash where nothing was left out."""
    if not entry or not entry.get("n"):
        return "–"
    return f"{entry['median_pct']:.1f} / {entry['mean_pct']:.1f}"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(tuple(header))]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def fold_table(entry: Mapping[str, Any]) -> str:
    """One row a group that was left out."""
    rows = [
        (group, str(fold["n"]), pair(fold), f"{fold['within_20_pct']:.0f}",
         f"{fold['bias_pct']:+.0f}")
        for group, fold in entry["folds"].items()
    ]  # fmt: skip
    return table(("left out", "n", "median / mean", "within 20 %", "bias"), rows)


def target_table(word: str, targets: Mapping[str, Any], protocols: Mapping[str, str]) -> str:
    """One row a target (``word`` names it); ``protocols`` are names and column titles."""
    rows = []
    for name, said in targets.items():
        family = said["family"]
        rank = family.get("spearman")
        rows.append((
            name, str(family["n"]), *(pair(said.get(protocol)) for protocol in protocols),
            f"{rank:.3f}" if rank is not None else "–", pair(family["baselines"]["flops"]),
            pair(family["baselines"]["roofline"]),
        ))  # fmt: skip
    header = (word, "n", *protocols.values(), "rank", "FLOPs (families)", "roofline (families)")
    return table(header, rows)
