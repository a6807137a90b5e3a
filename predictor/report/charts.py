"""Pictures of an estimate as SVG text: the latency profile and the roofline plot.

Everything that comes from the model is escaped; colours are classes of the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from predictor.estimate import Estimate, KernelEstimate
from predictor.report.units import digits, milliseconds, nbytes, percent, printable

_WIDTH, _HEIGHT = 1000, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 34
_FLOPS_STEPS = ((1e15, "PFLOP/s"), (1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s"),
                (1e3, "kFLOP/s"))  # fmt: skip


def profile(kernels: Sequence[KernelEstimate]) -> str:
    """A bar for each kernel in execution order, coloured by source, whiskers at the interval."""
    if not kernels:
        return ""
    most = full_scale(kernels)
    step = (_WIDTH - _LEFT - _RIGHT) / len(kernels)
    width = min(max(step * 0.8, 0.6), 44.0)
    floor = _HEIGHT - _BOTTOM

    def y(value: float) -> float:
        return floor - min(value / most, 1.0) * (floor - _TOP)

    parts = [_open(_WIDTH, _HEIGHT, "Latency of each kernel in execution order")]
    for tick in _ticks(most):
        parts.append(_line("grid", _LEFT, y(tick), _WIDTH - _RIGHT, y(tick)))
        parts.append(_text(_LEFT - 8, y(tick) + 4, milliseconds(tick) if tick else "0", "end"))
    for i, kernel in enumerate(kernels):
        middle = _LEFT + step * (i + 0.5)
        top, tall = y(kernel.latency_ms), max(floor - y(kernel.latency_ms), 0.5)
        parts.append(
            f'<rect class="bar {kernel.source.value}" x="{middle - width / 2:.2f}" y="{top:.2f}"'
            f' width="{width:.2f}" height="{tall:.2f}" rx="{min(2, width / 3):.1f}">'
            f"<title>{_tip(kernel)}</title></rect>"
        )
        if step >= 4:
            low, high = kernel.interval_ms
            parts.append(_line("whisker", middle, y(low), middle, y(high)))
    parts.append(_line("axis", _LEFT, floor, _WIDTH - _RIGHT, floor))
    parts.append(_text(_LEFT, _HEIGHT - 10, "first kernel", "start"))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 10, f"kernel {len(kernels)}", "end"))
    return "".join(parts) + "</svg>"


def full_scale(kernels: Sequence[KernelEstimate]) -> float:
    """The latency (ms) that a picture ends at.

    That of the highest whisker, but no more than 3 x the slowest kernel: one absurdly wide
    interval must not flatten all bars.
    """
    slowest = max(kernel.latency_ms for kernel in kernels)
    return min(max(k.interval_ms[1] for k in kernels), 3 * slowest) or 1.0


def bar(kernel: KernelEstimate, most: float) -> str:
    """A small horizontal bar with its whisker; ``most`` (ms) is the full width."""
    width, height = 110.0, 14.0

    def x(value: float) -> float:
        return min(value / most, 1.0) * width if most else 0.0

    low, high = kernel.interval_ms
    middle = height / 2
    return (
        f'<svg class="mini" viewBox="0 0 {width:g} {height:g}" aria-hidden="true">'
        f'<rect class="{kernel.source.value}" y="2" width="{max(x(kernel.latency_ms), 1):.1f}"'
        f' height="{height - 4:g}" rx="2"></rect>'
        + _line("whisker", x(low), middle, x(high), middle)
        + _line("whisker", x(low), middle - 3, x(low), middle + 3)
        + _line("whisker", x(high), middle - 3, x(high), middle + 3)
        + "</svg>"
    )


def roofline(estimate: Estimate) -> str:
    """Achieved FLOP/s over FLOPs per byte, both logarithmic, under the device's roof.

    Element-wise arithmetic counts here. Kernels that compute nothing or move nothing have no place
    on these axes and are left out; an empty text means that none is left.
    """
    points = [
        (work / kernel.bytes, work / (kernel.latency_ms / 1e3), kernel)
        for kernel in estimate.kernels
        for work in [kernel.flops + kernel.elementwise_flops]
        if work > 0 and kernel.bytes > 0 and kernel.latency_ms > 0
    ]
    if not points:
        return ""
    peak, bandwidth = estimate.roof.get("peak_flops"), estimate.roof.get("bandwidth")
    ridge = peak / bandwidth if peak and bandwidth else None
    plot = _LogPlot(
        [p[0] for p in points] + ([ridge] if ridge else []),
        [p[1] for p in points] + ([peak] if peak else []),
    )
    parts = [_open(plot.width, plot.height, "Roofline plot"), *plot.axes()]
    if peak and bandwidth and ridge:
        parts += plot.roof(peak, bandwidth, ridge)
    total = sum(kernel.latency_ms for kernel in estimate.kernels)
    for intensity, speed, kernel in sorted(points, key=lambda p: -p[2].latency_ms):
        share = kernel.latency_ms / total
        tip = f"{_tip(kernel)}&#10;{digits(intensity)} FLOPs/byte, {flop_rate(speed)}"
        parts.append(
            f'<circle class="dot {kernel.source.value}" cx="{plot.x(intensity):.1f}"'
            f' cy="{plot.y(speed):.1f}" r="{4 + 22 * math.sqrt(share):.1f}">'
            f"<title>{tip}</title></circle>"
        )
    return "".join(parts) + "</svg>"


def flop_rate(value: float) -> str:
    """FLOP/s with three digits: ``1.28 TFLOP/s``."""
    for step, name in _FLOPS_STEPS:
        if value >= step * 0.9995:
            return f"{digits(value / step)} {name}"
    return f"{digits(value)} FLOP/s"


class _LogPlot:
    """Two logarithmic axes that end at whole decades."""

    width, height = 1000, 440
    left, right, top, bottom = 92, 16, 16, 46

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.x0, self.x1 = _decades(xs)
        self.y0, self.y1 = _decades(ys)

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        share = (math.log10(value) - self.x0) / (self.x1 - self.x0)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Vertical place of a value."""
        share = (math.log10(value) - self.y0) / (self.y1 - self.y0)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def axes(self) -> Iterator[str]:
        """Grid lines at decades, their values and the axes' names."""
        floor, end = self.height - self.bottom, self.width - self.right
        for power in range(self.x0, self.x1 + 1):
            x = self.x(10.0**power)
            yield _line("grid", x, self.top, x, floor)
            yield _text(x, floor + 18, f"{10.0**power:g}", "middle")
        for power in range(self.y0, self.y1 + 1):
            y = self.y(10.0**power)
            yield _line("grid", self.left, y, end, y)
            yield _text(self.left - 8, y + 4, _whole_rate(10.0**power), "end")
        yield _text((self.left + end) / 2, self.height - 8, "FLOPs per byte moved", "middle")

    def roof(self, peak: float, bandwidth: float, ridge: float) -> Iterator[str]:
        """Bandwidth slope up to the ridge, then the flat peak."""
        start = max(10.0**self.x0, 10.0**self.y0 / bandwidth)
        end = 10.0**self.x1
        yield (
            f'<polyline class="roof" points="{self.x(start):.1f},{self.y(start * bandwidth):.1f}'
            f' {self.x(ridge):.1f},{self.y(peak):.1f} {self.x(end):.1f},{self.y(peak):.1f}"/>'
        )
        label = f"peak {flop_rate(peak)}"
        yield _text(self.x(end) - 4, self.y(peak) - 8, label, "end", "strong")
        middle = 10 ** ((math.log10(start) + math.log10(ridge)) / 2)
        x, y = self.x(middle), self.y(middle * bandwidth)
        run = self.x(ridge) - self.x(start)
        angle = math.degrees(math.atan2(self.y(peak) - self.y(start * bandwidth), run))
        yield (
            f'<text class="strong" text-anchor="middle" x="{x:.1f}" y="{y - 8:.1f}"'
            f' transform="rotate({angle:.1f} {x:.1f} {y:.1f})">{nbytes(bandwidth)}/s</text>'
        )


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values) * 1.05))
    return low, max(high, low + 1)


def _whole_rate(value: float) -> str:
    for step, name in _FLOPS_STEPS:
        if value >= step * 0.9995:
            return f"{value / step:.0f} {name}"
    return f"{value:g} FLOP/s"


def _ticks(most: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10(most))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if most / s <= 5.5)
    return [i * step for i in range(int(most / step) + 1)]


def _tip(kernel: KernelEstimate) -> str:
    low, high = kernel.interval_ms
    span = f"{milliseconds(low)} to {milliseconds(high)}"
    return escape(
        f"{printable(kernel.name)} ({printable(kernel.kind)})\n"
        f"{milliseconds(kernel.latency_ms)}, 90 % {span}\n{kernel.source.value}, "
        f"{kernel.bound.value} bound, {percent(kernel.peak_share)} of the roof"
    ).replace("\n", "&#10;")


def _open(width: int, height: int, label: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    extra = f' class="{kind}"' if kind else ""
    return f'<text{extra} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
