"""Several estimates side by side, and two of them kernel by kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from predictor.estimate import Estimate, KernelEstimate
from predictor.report.count_table import size_text
from predictor.report.layout import Column, Style, table
from predictor.report.table import SCOPE_WORDS
from predictor.report.units import Size, count, digits, milliseconds, percent

SCHEMA_VERSION = 1
"""Raised when a key of :func:`to_dict` changes its meaning or goes away."""


@dataclass(frozen=True, slots=True)
class Case:
    """One estimate of a comparison, and the resolution that was asked for, if any."""

    estimate: Estimate
    resolution: Size | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A kernel of the first estimate beside its counterpart in the second; None where missing."""

    first: KernelEstimate | None
    second: KernelEstimate | None

    @property
    def difference_ms(self) -> float:
        """Latency of the second less that of the first, ms; a missing kernel takes no time."""
        first = self.first.latency_ms if self.first else 0.0
        return (self.second.latency_ms if self.second else 0.0) - first


def align(first: Estimate, second: Estimate) -> list[Pair]:
    """Kernels side by side, in execution order.

    Kernels of the same name and kind belong together; between those, kernels are paired in order
    where their kind is the same.
    """
    a, b = first.kernels, second.kernels
    pairs: list[Pair] = []
    for i1, i2, j1, j2, same in _blocks(a, b, [(k.name, k.kind) for k in a],
                                        [(k.name, k.kind) for k in b]):  # fmt: skip
        if same:
            pairs += [Pair(x, y) for x, y in zip(a[i1:i2], b[j1:j2], strict=True)]
            continue
        left, right = a[i1:i2], b[j1:j2]
        kinds = _blocks(left, right, [k.kind for k in left], [k.kind for k in right])
        for k1, k2, l1, l2, alike in kinds:
            if alike:
                pairs += [Pair(x, y) for x, y in zip(left[k1:k2], right[l1:l2], strict=True)]
            else:
                pairs += [Pair(x, None) for x in left[k1:k2]]
                pairs += [Pair(None, y) for y in right[l1:l2]]
    return pairs


def _blocks(
    a: Sequence[KernelEstimate], b: Sequence[KernelEstimate], keys_a: list[Any], keys_b: list[Any]
) -> list[tuple[int, int, int, int, bool]]:
    matcher = SequenceMatcher(None, keys_a, keys_b, autojunk=False)
    return [(i1, i2, j1, j2, tag == "equal") for tag, i1, i2, j1, j2 in matcher.get_opcodes()]


def to_dict(cases: Sequence[Case]) -> dict[str, Any]:
    """Plain JSON values: every estimate and, for two of them, the aligned kernels."""
    data: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "estimates": [{**c.estimate.to_dict(), "resolution": c.resolution} for c in cases],
    }
    if len(cases) == 2:
        data["layers"] = [
            {
                "first": pair.first.name if pair.first else None,
                "second": pair.second.name if pair.second else None,
                "first_ms": pair.first.latency_ms if pair.first else None,
                "second_ms": pair.second.latency_ms if pair.second else None,
                "difference_ms": pair.difference_ms,
            }
            for pair in align(cases[0].estimate, cases[1].estimate)
        ]
    return data


def render(cases: Sequence[Case], *, style: Style | None = None, top: int = 15) -> str:
    """A row for each estimate; for two of them the ``top`` kernels that differ most as well."""
    style = style or Style()
    lines = _summary(cases, style)
    if len(cases) == 2 and top > 0:
        lines += ["", *_layers(cases[0].estimate, cases[1].estimate, top, style)]
    return "\n".join(lines)


def _summary(cases: Sequence[Case], style: Style) -> list[str]:
    first = cases[0].estimate.latency_ms
    every: list[tuple[Column, list[str]]] = [
        (Column("model", right=False, shrinks=True), [c.estimate.model for c in cases]),
        (Column("device", right=False, shrinks=True), [c.estimate.device for c in cases]),
        (Column("target", right=False), [_target(c.estimate) for c in cases]),
        (Column("scope", right=False),
         [SCOPE_WORDS.get(c.estimate.scope, c.estimate.scope) for c in cases]),
        (Column("tier", right=False), [c.estimate.tier.value for c in cases]),
        (Column("batch"), [str(c.estimate.batch) for c in cases]),
        (Column("resolution"), [size_text(c.resolution) for c in cases]),
        (Column("MACs"), [count(c.estimate.macs) for c in cases]),
        (Column("params"), [count(c.estimate.params) for c in cases]),
        (Column("latency"), [milliseconds(c.estimate.latency_ms) for c in cases]),
        (Column("90 % interval"), [_span(c.estimate) for c in cases]),
        (Column("frames/s"), [digits(c.estimate.throughput_fps) for c in cases]),
        (Column("times first"), [f"{c.estimate.latency_ms / first:.2f}" if first else "-"
                                 for c in cases]),
    ]  # fmt: skip
    # What is the same in every row is said once above the table, so that the rest fits.
    once = {"device", "target", "scope", "tier", "batch", "resolution", "model"}
    shared = [(col, cells[0]) for col, cells in every
              if col.title in once and len(set(cells)) == 1]  # fmt: skip
    titles = {column.title for column, _ in shared}
    varying = [(column, cells) for column, cells in every if column.title not in titles]
    said = [text if col.title != "batch" else f"batch {text}"
            for col, text in shared if text != "as given"]  # fmt: skip
    head = [style.paint(style.plain(" · ".join(said)), "bold"), ""] if said else []
    rows = [list(row) for row in zip(*(cells for _, cells in varying), strict=True)]
    return [*head, *table([column for column, _ in varying], rows, style, indent=0)]


def _target(estimate: Estimate) -> str:
    parts = (estimate.runtime, estimate.precision, estimate.power_mode)
    return " ".join(part for part in parts if part)


def _span(estimate: Estimate) -> str:
    low, high = estimate.interval_ms
    unit = milliseconds(estimate.latency_ms).rsplit(" ", 1)[1]
    return f"{milliseconds(low, unit).split()[0]} – {milliseconds(high, unit)}"


def _layers(first: Estimate, second: Estimate, top: int, style: Style) -> list[str]:
    pairs = align(first, second)
    shown = set(sorted(range(len(pairs)), key=lambda i: -abs(pairs[i].difference_ms))[:top])
    kept = [pair for i, pair in enumerate(pairs) if i in shown]
    total = abs(second.latency_ms - first.latency_ms)
    rows = [
        [
            pair.first.name if pair.first else "-",
            milliseconds(pair.first.latency_ms) if pair.first else "-",
            pair.second.name if pair.second else "-",
            milliseconds(pair.second.latency_ms) if pair.second else "-",
            f"{'+' if pair.difference_ms > 0 else ''}{milliseconds(pair.difference_ms)}",
            percent(pair.difference_ms / total) if total else "-",
        ]
        for pair in kept
    ]
    columns = (
        Column("first", right=False, shrinks=True), Column("latency"),
        Column("second", right=False, shrinks=True), Column("latency"), Column("difference"),
        Column("of the total"),
    )  # fmt: skip
    title = (
        f"Layer by layer: the {len(kept)} largest differences of {len(pairs)}, in execution order"
        if len(kept) < len(pairs)
        else "Layer by layer, in execution order"
    )
    return [style.paint(title, "bold"), *table(columns, rows, style)]
