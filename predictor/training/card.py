"""The accuracy card of a measured target: figures on left-out families, as data and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from predictor.profiling.records import Measurements
from predictor.report.layout import Column, Style, table
from predictor.training.evaluate import (
    Evaluation,
    agreeing,
    by_group,
    by_size,
    figures,
    repeatability,
)

NAS = "nas"
RULES = (
    "Whole families are left out, everything is refitted in each fold, nothing is trimmed. A "
    "network's label is the geometric mean of its turns. Networks agree where their two turns lie "
    "no further apart than the median pair."
)
BASELINE_NAMES = {
    "flops": "FLOPs x a factor", "flops_linear": "FLOPs, a line", "roofline": "roofline x a factor",
    "class_nnls": "non-negative sum by kernel class",
    "whole_model_lightgbm": "LightGBM on whole networks",
    "isolated_forests": "random forests on isolated kernels",
}  # fmt: skip


def card_of(found: Evaluation, measured: Measurements) -> dict[str, Any]:
    """The card: ``protocols.family`` has the keys of every card, more stands beside it."""
    nets, counted = found.data.networks, found.counted
    label = nets.label_ms
    nas = counted & (np.array(nets.space) == NAS)
    agree = agreeing(found.repeat, counted)
    families = [found.data.families[number] for number in nets.family]
    family = {
        **figures(found.log_error[counted], label[counted], found.covered[counted]),
        "folds": by_group(found, families),
        "baselines": {name: figures(errors[counted], label[counted])
                      for name, errors in found.baselines.items()},
        "sizes": by_size(found),
        "nas": figures(found.log_error[nas], label[nas], found.covered[nas]),
        "agreeing": figures(found.log_error[agree], label[agree], found.covered[agree]),
        "repeatability": repeatability(found.repeat[counted]),
        "repeatability_nas": repeatability(found.repeat[nas]),
    }  # fmt: skip
    places = {where: sum(k.where == where for k in measured.kernels)
              for where in ("place", "flushed", "hot")}  # fmt: skip
    return {
        "n": int(counted.sum()), "protocols": {"family": family}, "rules": RULES,
        "kernels": places, "threads": measured.threads, "versions": dict(measured.versions),
        "machine": {key: measured.machine[key] for key in ("model", "system")
                    if key in measured.machine},
        "settings": [dict(setting) for setting in found.settings],
    }  # fmt: skip


def card_text(card: Mapping[str, Any], title: str, style: Style) -> list[str]:
    """The card as lines for a terminal."""
    family = card["protocols"]["family"]
    repeat = family["repeatability"]
    rows = [("all networks", family), ("NAS subnets", family["nas"]),
            ("repeats agree", family["agreeing"])]  # fmt: skip
    baselines = [(BASELINE_NAMES.get(name, name), values)
                 for name, values in family["baselines"].items()]  # fmt: skip
    lines = [f"{title}: {card['n']} networks, whole families left out", ""]
    lines += _figures("", rows, style)
    lines += ["", *_repeat("Repeatability, the same networks later", repeat)]
    if family["repeatability_nas"].get("n"):
        lines += _repeat("Repeatability of NAS subnets", family["repeatability_nas"])
    if baselines:
        lines += ["", *_figures("baseline, same folds", baselines, style)]
    lines += ["", *_figures("size", list(family["sizes"].items()), style)]
    lines += ["", *_figures("family", list(family["folds"].items()), style)]
    return [*lines, "", *_wrapped(card["rules"])]


def _repeat(title: str, values: Mapping[str, float]) -> list[str]:
    if not values.get("n"):
        return [f"{title}: not measured"]
    return [f"{title}: median {values['median_pct']} %, mean {values['mean_pct']} %, within 10 % "
            f"{values['within_10_pct']} % (n={values['n']})"]  # fmt: skip


_COLUMNS = (
    ("n", "n"), ("median %", "median_pct"), ("mean %", "mean_pct"), ("<5 %", "within_5_pct"),
    ("<10 %", "within_10_pct"), ("<20 %", "within_20_pct"), ("bias %", "bias_pct"),
    ("rank", "spearman"), ("in interval %", "coverage_90_pct"),
)  # fmt: skip


def _figures(
    title: str, rows: Sequence[tuple[str, Mapping[str, float]]], style: Style
) -> list[str]:
    shown = [(name, key) for name, key in _COLUMNS if any(key in values for _, values in rows)]
    columns = [Column(title, right=False, shrinks=True), *(Column(name) for name, _ in shown)]
    cells = [[name, *(_cell(values.get(key)) for _, key in shown)] for name, values in rows]
    return list(table(columns, cells, style))


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 96)
