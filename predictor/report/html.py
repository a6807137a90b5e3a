"""An :class:`~predictor.estimate.Estimate` as one HTML file that needs nothing else.

No network, no fonts, no libraries; a content security policy holds the page to that. Names come
from models that nobody vouches for, so every text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from predictor.estimate import Estimate, KernelEstimate
from predictor.report import charts
from predictor.report.table import (
    TIER_WORDS,
    accuracy_lines,
    check_text,
    conditions,
    headline,
)
from predictor.report.units import (
    count,
    digits,
    megabytes,
    milliseconds,
    nbytes,
    percent,
    printable,
    time_unit,
    unit_beside,
)

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_SOURCE_WORDS = {
    "measured": "measured (in the target's table)",
    "learned": "learned (model of measured kernels)",
    "fitted": "fitted (physical model)",
    "roofline": "roofline (datasheet only)",
}


def render(estimate: Estimate, *, requested: str | None = None) -> str:
    """The page. ``requested`` is the device name that was asked for, shown if it is an alias."""
    here = Path(__file__).parent
    style = (here / "page.css").read_text(encoding="utf-8")
    script = (here / "page.js").read_text(encoding="utf-8")
    title = f"{estimate.model} on {headline(estimate, requested)}"
    body = "".join((
        _header(title, estimate), _answer(estimate), _warnings(estimate), _size(estimate),
        _pictures(estimate), _kernels(estimate.kernels), _remarks(estimate),
    ))  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _text(value: str) -> str:
    return escape(printable(value))


def _header(title: str, estimate: Estimate) -> str:
    tier = estimate.tier.value
    chips = [*conditions(estimate), f"tier: {tier} ({TIER_WORDS[tier]})"]
    items = "".join(f"<li>{_text(chip)}</li>" for chip in chips)
    return f'<h1>{_text(title)}</h1>\n<ul class="chips">{items}</ul>\n'


def _rate(estimate: Estimate) -> str:
    if estimate.language:
        return f"{digits(estimate.language['tokens_per_second'])} tokens/s"
    return f"{digits(estimate.throughput_fps)} frames/s"


def _answer(estimate: Estimate) -> str:
    low, high = estimate.interval_ms
    unit = time_unit(estimate.latency_ms)
    span = f"{milliseconds(low, unit).split()[0]} to {milliseconds(high, unit)}"
    parts = [
        '<section class="card"><div class="hero">'
        f'<div><div class="soft small">latency</div><div class="value">'
        f"{milliseconds(estimate.latency_ms, unit)}</div></div>",
        f'<div><div class="soft small">90 % interval</div><div class="second">{span}</div></div>',
        '<div><div class="soft small">throughput</div><div class="second">'
        f"{_rate(estimate)}</div></div></div>",
    ]
    for check in estimate.checks:
        verdict = "met" if check.met else "over"
        parts.append(
            f'<p class="small budget">budget: {_text(check_text(check))}: '
            f'<span class="{verdict}">{"met" if check.met else "OVER"}</span></p>'
        )
    parts.append(_sources(estimate))
    overheads = ", ".join(
        f"{_text(name.replace('_', ' '))} {milliseconds(value)}"
        for name, value in estimate.overheads_ms.items()
        if value
    )
    if overheads:
        parts.append(f'<p class="soft small below">overheads: {overheads}</p>')
    for line in accuracy_lines(estimate.accuracy):
        parts.append(f'<p class="soft small below">accuracy, {_text(line)}</p>')
    return "".join(parts) + "</section>\n"


def _sources(estimate: Estimate) -> str:
    shares = {name: share for name, share in estimate.sources.items() if share > 0}
    bars = "".join(
        f'<span class="{name}" style="flex:{share:.4f}"></span>' for name, share in shares.items()
    )
    words = "".join(
        f'<span><i class="{name}"></i>{_SOURCE_WORDS[name]} {percent(share)}</span>'
        for name, share in shares.items()
    )
    return (
        '<div style="margin-top:16px"><div class="soft small">where the latency comes from</div>'
        f'<div class="shares">{bars}</div><div class="legend">{words}</div></div>'
    )


def _warnings(estimate: Estimate) -> str:
    if not estimate.warnings:
        return ""
    items = "".join(f"<li>{_text(text)}</li>" for text in estimate.warnings)
    return f'<section class="card warnings"><h2>Warnings</h2><ul>{items}</ul></section>\n'


def _size(estimate: Estimate) -> str:
    room = f"of {megabytes(estimate.device_memory_mb)}: " if estimate.device_memory_mb else ""
    fits = {None: "of an unknown memory", True: f"{room}fits", False: f"{room}DOES NOT FIT"}
    tiles = (
        ("MACs", count(estimate.macs), f"{count(estimate.flops)} FLOPs"),
        ("element-wise", count(estimate.elementwise_flops), "FLOPs on top"),
        ("parameters", count(estimate.params),
         f"{megabytes(estimate.model_mb)} in {estimate.precision}"),
        ("memory access", megabytes(estimate.fused_memory_access_mb),
         f"{megabytes(estimate.memory_access_mb)} unfused"),
        ("memory needed", megabytes(estimate.memory_needed_mb), fits[estimate.fits_memory]),
        ("peak activations", megabytes(estimate.peak_activation_mb), "alive at one time"),
        ("roof reached", percent(estimate.peak_share), "of the roofline"),
    )  # fmt: skip
    cells = "".join(
        f'<div><span class="soft small">{_text(name)}</span><b>{_text(value)}</b>'
        f'<span class="{"over" if below == fits[False] else "soft"} small">{_text(below)}</span>'
        "</div>"
        for name, value, below in tiles
    )
    return f'<section class="card tiles">{cells}</section>\n'


def _pictures(estimate: Estimate) -> str:
    parts = []
    profile = charts.profile(estimate.kernels)
    if profile:
        parts.append(
            '<section class="card"><h2>Latency, kernel by kernel</h2><p class="soft small">In '
            "execution order, coloured by source; whiskers are 90 % intervals, cut where "
            f"they leave the picture.</p>{_legend(estimate.kernels)}"
            f'<div class="scroll picture">{profile}</div></section>\n'
        )
    roof = charts.roofline(estimate)
    if roof:
        parts.append(
            '<section class="card"><h2>Roofline</h2><p class="soft small">How fast each kernel '
            "computes for the work it does on a byte; larger dots take more of the latency. "
            "On the slope memory limits a kernel, under the flat part arithmetic. Kernels "
            f"without arithmetic are left out.</p>{_legend(estimate.kernels)}"
            f'<div class="scroll picture">{roof}</div></section>\n'
        )
    return "".join(parts)


def _legend(kernels: Sequence[KernelEstimate]) -> str:
    used = {kernel.source.value for kernel in kernels}
    names = [name for name in _SOURCE_WORDS if name in used]
    items = "".join(f'<span><i class="{name}"></i>{name}</span>' for name in names)
    return f'<div class="legend">{items}</div>'


_COLUMNS = (
    ("#", True), ("kernel", False), ("kind", False), ("latency", True), ("90 % interval", True),
    ("", False), ("share", True), ("FLOPs", True), ("moved", True), ("of roof", True),
    ("bound", False), ("source", False),
)  # fmt: skip


def _kernels(kernels: Sequence[KernelEstimate]) -> str:
    if not kernels:
        return ""
    total = sum(kernel.latency_ms for kernel in kernels)
    most = charts.full_scale(kernels)
    unit = time_unit(max(kernel.latency_ms for kernel in kernels))
    head = "".join(
        f"<th{' class=num' if number else ''}>"
        + (f'<button type="button">{title}</button>' if title else "")
        + "</th>"
        for title, number in _COLUMNS
    )
    rows = "".join(_row(i, kernel, total, most, unit) for i, kernel in enumerate(kernels, start=1))
    return (
        '<section class="card"><h2>Kernels</h2><p class="soft small">Click on a title to sort; '
        'point at a name to see the operators inside.</p><div class="scroll"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div></section>\n"
    )


def _row(index: int, kernel: KernelEstimate, total: float, most: float, usual: str) -> str:
    low, high = kernel.interval_ms
    unit = unit_beside(kernel.latency_ms, usual)
    share = kernel.latency_ms / total if total else 0.0
    ops = _text(" + ".join(kernel.ops)) or _text(kernel.name)
    source = kernel.source.value
    work = kernel.flops + kernel.elementwise_flops
    span = f"{milliseconds(low, unit).split()[0]} – {milliseconds(high, unit).split()[0]}"
    return "<tr>" + "".join((
        _number(index, str(index)),
        f'<td class="name" title="{ops}">{_text(kernel.name)}</td>',
        f"<td>{_text(kernel.kind)}</td>",
        _number(kernel.latency_ms, milliseconds(kernel.latency_ms, unit)),
        _number(high, span),
        f"<td>{charts.bar(kernel, most)}</td>",
        _number(share, percent(share)),
        _number(work, count(work)),
        _number(kernel.bytes, nbytes(kernel.bytes)),
        _number(kernel.peak_share, f"{100 * kernel.peak_share:.0f} %"),
        f"<td>{kernel.bound.value}</td>",
        f'<td><i class="{source}"></i>{source}</td>',
    )) + "</tr>\n"  # fmt: skip


def _number(key: float, text: str) -> str:
    return f'<td class="num" data-key="{key:.9g}">{text}</td>'


def _remarks(estimate: Estimate) -> str:
    parts = []
    for title, texts in (("Hints", estimate.hints), ("What this number covers", estimate.notes)):
        if texts:
            items = "".join(f"<li>{_text(text)}</li>" for text in texts)
            parts.append(
                f'<section class="card"><h2>{title}</h2><ul class="plain">{items}</ul></section>\n'
            )
    return "".join(parts)
