"""An :class:`~predictor.estimate.Estimate` as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from predictor.estimate import Check, Estimate, KernelEstimate
from predictor.report.layout import Column, Style, table, wrapped
from predictor.report.units import (
    count,
    digits,
    megabytes,
    milliseconds,
    percent,
    printable,
    time_unit,
    unit_beside,
)

TIER_WORDS: Mapping[str, str] = {
    "measured": "measured on the device",
    "calibrated": "calibrated on published figures",
    "datasheet": "datasheet facts only",
}
"""What a tier means, in words."""

SCOPE_WORDS: Mapping[str, str] = {
    "engine": "the engine alone",
    "call": "a call through Python",
}
"""What a scope covers, in words."""

_LABEL = 14
_SOURCE_COLORS = {"measured": "green", "learned": "green", "fitted": "cyan", "roofline": "yellow"}


def render(
    estimate: Estimate,
    *,
    style: Style | None = None,
    requested: str | None = None,
    top: int = 10,
    warnings: bool = True,
) -> str:
    """The whole report.

    Args:
        estimate: what to show.
        style: width, colour and characters; plain and 100 columns wide by default.
        requested: the device name that the user gave, shown where it is another one's alias.
        top: kernels to list, slowest first; 0 lists none.
        warnings: whether to append the warnings (the command line sends them to stderr instead).
    """
    style = style or Style()
    lines = _header(estimate, requested, style)
    lines += ["", *_answer(estimate, style), "", *_size(estimate, style)]
    if estimate.checks:
        lines += ["", *_budget(estimate.checks, style)]
    if top > 0 and estimate.kernels:
        lines += ["", *_kernels(estimate, top, style)]
    sections = (
        ("warning", estimate.warnings if warnings else ()),
        ("hint", estimate.hints),
        ("note", estimate.notes),
    )
    for word, texts in sections:
        if texts:
            lines.append("")
            for text in texts:
                lines += wrapped(f"{word}: {text}", style, indent=0)
    return "\n".join(lines)


def headline(estimate: Estimate, requested: str | None = None) -> str:
    """Which device the answer stands for; an alias is resolved: ``jetson = NVIDIA Jetson ...``."""
    title = estimate.device_title or estimate.device
    if requested and requested not in (estimate.device, title) and not is_path(requested):
        return f"{requested} = {title}"
    return title


def conditions(estimate: Estimate) -> list[str]:
    """Runtime and software, precision, batch, power mode and scope, as the answer stands for."""
    software = estimate.software
    named = estimate.runtime.replace("_", " ")
    if software and named.lower() not in software.lower():
        software = f"{named} ({software})"
    mode = f"power mode {estimate.power_mode}" if estimate.power_mode else ""
    return [
        part
        for part in (
            software or named,
            estimate.precision,
            f"batch {estimate.batch}",
            mode,
            SCOPE_WORDS.get(estimate.scope, estimate.scope),
        )
        if part
    ]


def accuracy_lines(card: Mapping[str, Any]) -> list[str]:
    """One line for each protocol of an accuracy card: what was left out, the errors, baselines.

    A card holds, by what was left out (``model``, ``family``, ``board``, ...; at its top or under
    ``protocols``), a mapping with ``median_pct``, ``mean_pct`` (absolute errors, percent), ``n``
    and, optionally, the same of ``baselines``. Entries without errors are passed over.
    """
    lines = []
    for name, fold in _protocols(card).items():
        errors = _errors(fold)
        if errors:
            others = {
                word.replace("_", " "): _errors(figures)
                for word, figures in (fold.get("baselines") or {}).items()
            }
            beside = "".join(f"; {word}: {text}" for word, text in others.items() if text)
            n = f" (n={fold['n']}{beside})" if "n" in fold else ""
            lines.append(f"{_LEFT_OUT.get(name, name)} left out: {errors}{n}")
    return lines


def headline_error(card: Mapping[str, Any]) -> str | None:
    """Median error on left-out families as text, or None where the card does not hold it."""
    median = _protocols(card).get("family", {}).get("median_pct")
    return f"{digits(float(median))} %" if isinstance(median, int | float) else None


_LEFT_OUT = {"model": "models", "family": "families", "board": "boards", "source": "sources",
             "row": "single measurements"}  # fmt: skip


def _protocols(card: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    inner = card.get("protocols", card)
    return {str(k): v for k, v in inner.items() if isinstance(v, Mapping)}


def _errors(figures: Mapping[str, Any]) -> str:
    parts = [
        f"{word} {digits(float(figures[key]))} %"
        for word, key in (("median", "median_pct"), ("mean", "mean_pct"))
        if isinstance(figures.get(key), int | float)
    ]
    return f"error {', '.join(parts)}" if parts else ""


def is_path(name: str) -> bool:
    """True for what names a file rather than a device."""
    return "/" in name or "\\" in name or name.endswith((".yaml", ".yml"))


def _header(estimate: Estimate, requested: str | None, style: Style) -> list[str]:
    title = f"{estimate.model} on {headline(estimate, requested)}"
    tier = TIER_WORDS.get(estimate.tier.value, "")
    dot = " · "
    lines = [style.paint(style.plain(printable(title)), "bold")]
    lines += wrapped(dot.join(conditions(estimate)), style, indent=0)
    lines += wrapped(f"tier: {estimate.tier.value} ({tier})", style, indent=0)
    return lines


def _row(label: str, text: str, style: Style) -> list[str]:
    folded = wrapped(text, style, indent=_LABEL, hang=0)
    folded[0] = style.paint(f"  {label}".ljust(_LABEL), "dim") + folded[0][_LABEL:]
    return folded


def _answer(estimate: Estimate, style: Style) -> list[str]:
    low, high = estimate.interval_ms
    unit = time_unit(estimate.latency_ms)
    latency = milliseconds(estimate.latency_ms, unit)
    span = f"{milliseconds(low, unit).split()[0]} to {milliseconds(high, unit)}"
    lines = [
        style.paint("  latency".ljust(_LABEL), "dim")
        + style.paint(latency, "bold")
        + f"   90 % interval {span}"
    ]
    if estimate.language:
        lines += _language(estimate.language, style)
    else:
        lines += _row("throughput", f"{digits(estimate.throughput_fps)} frames/s", style)
    shares = [f"{name} {percent(share)}" for name, share in estimate.sources.items() if share > 0]
    if shares:
        lines += _row("sources", ", ".join(shares), style)
    parts = [
        f"{name.replace('_', ' ')} {milliseconds(value)}"
        for name, value in estimate.overheads_ms.items()
        if value
    ]
    if parts:
        lines += _row("overheads", ", ".join(parts), style)
    lines += _row("roofline", f"{percent(estimate.peak_share)} of it reached", style)
    for i, text in enumerate(accuracy_lines(estimate.accuracy)):
        lines += _row("accuracy" if i == 0 else "", text, style)
    return lines


def _language(figures: Mapping[str, Any], style: Style) -> list[str]:
    """Tokens instead of frames."""
    new, cached = figures["new_tokens"], figures["cached_tokens"]
    tokens = f"{new:,} new {'token' if new == 1 else 'tokens'}, {cached:,} in the cache before"
    lines = _row("phase", f"{figures['phase']}, {tokens}", style)
    for key, words in (("time_to_first_token_ms", "to the first token"),
                       ("time_per_output_token_ms", "an output token")):  # fmt: skip
        if key in figures:
            rate = f"{digits(figures['tokens_per_second'])} tokens/s"
            lines += _row("tokens", f"{milliseconds(figures[key])} {words}, {rate}", style)
    return lines + _row("KV cache", f"{megabytes(figures['kv_cache_mb'])} after the pass", style)


def _size(estimate: Estimate, style: Style) -> list[str]:
    work = (
        f"{count(estimate.macs)} MACs, {count(estimate.flops)} FLOPs, "
        f"{count(estimate.elementwise_flops)} element-wise FLOPs"
    )
    model = (
        f"{count(estimate.params)} parameters, {megabytes(estimate.model_mb)} in "
        f"{estimate.precision}"
    )
    access = (
        f"{megabytes(estimate.fused_memory_access_mb)} accessed as fused "
        f"({megabytes(estimate.memory_access_mb)} unfused), "
        f"peak activations {megabytes(estimate.peak_activation_mb)}"
    )
    lines = [*_row("work", work, style), *_row("model", model, style)]
    lines += _row("memory", access, style)
    lines += _row("needs", _fit(estimate), style)
    return lines


def _fit(estimate: Estimate) -> str:
    needed = megabytes(estimate.memory_needed_mb)
    if estimate.device_memory_mb is None or estimate.fits_memory is None:
        return f"{needed}; the device's memory is not known"
    verdict = "fits" if estimate.fits_memory else "DOES NOT FIT"
    return f"{needed} of {megabytes(estimate.device_memory_mb)} memory: {verdict}"


def check_text(check: Check) -> str:
    """``latency 23.1 ms, limit 20.0 ms``."""
    name = check.quantity.removesuffix("_ms").removesuffix("_mb").replace("_", " ")
    value, limit = (_quantity(number, check.unit) for number in (check.value, check.limit))
    return f"{name} {value}, limit {limit}"


def _quantity(value: float, unit: str) -> str:
    if unit == "ms":
        return milliseconds(value)
    if unit == "MB":
        return megabytes(value)
    return f"{count(value)} {unit}".rstrip() if unit != "count" else count(value)


def _budget(checks: Sequence[Check], style: Style) -> list[str]:
    lines = []
    for i, check in enumerate(checks):
        verdict = style.paint("met", "green") if check.met else style.paint("OVER", "red", "bold")
        label = style.paint(f"  {'budget' if i == 0 else ''}".ljust(_LABEL), "dim")
        lines.append(f"{label}{style.plain(check_text(check))}: {verdict}")
    return lines


_COLUMNS = (
    Column("kernel", right=False, shrinks=True),
    Column("kind", right=False, shrinks=True),
    Column("latency"),
    Column("90 % interval"),
    Column("share"),
    Column("of roof"),
    Column("bound", right=False),
    Column("source", right=False),
)

_ROOMY = 90
_LUXURIES = ("kind", "90 % interval", "of roof")
"""Columns that a terminal narrower than 90 characters does without."""


def _kernels(estimate: Estimate, top: int, style: Style) -> list[str]:
    total = sum(kernel.latency_ms for kernel in estimate.kernels)
    slowest = sorted(estimate.kernels, key=lambda kernel: -kernel.latency_ms)[:top]
    unit = time_unit(slowest[0].latency_ms)
    kept = [i for i, column in enumerate(_COLUMNS)
            if style.width >= _ROOMY or column.title not in _LUXURIES]  # fmt: skip
    columns = [_COLUMNS[i] for i in kept]
    cells = [_kernel_row(kernel, total, unit) for kernel in slowest]
    rows = [[row[i] for i in kept] for row in cells]
    n = len(estimate.kernels)
    title = (
        f"Slowest {len(slowest)} of {n} kernels"
        if len(slowest) < n
        else "The only kernel"
        if n == 1
        else f"All {n} kernels, slowest first"
    )
    lines = [style.paint(title, "bold"), *table(columns, rows, style)]
    if style.color:
        head = len(lines) - len(rows)
        for i, kernel in enumerate(slowest):
            word = kernel.source.value
            line = lines[head + i]
            cut = line.rindex(word)
            lines[head + i] = line[:cut] + style.paint(word, _SOURCE_COLORS[word])
    return lines


def _kernel_row(kernel: KernelEstimate, total: float, usual: str) -> list[str]:
    low, high = kernel.interval_ms
    unit = unit_beside(kernel.latency_ms, usual)
    return [
        kernel.name,
        kernel.kind,
        milliseconds(kernel.latency_ms, unit),
        f"{milliseconds(low, unit).split()[0]} – {milliseconds(high, unit).split()[0]}",
        percent(kernel.latency_ms / total if total else 0.0),
        f"{100 * kernel.peak_share:.0f} %",
        kernel.bound.value,
        kernel.source.value,
    ]
