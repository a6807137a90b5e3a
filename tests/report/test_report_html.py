from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_fakes import HOSTILE, big, estimate, kernel, over_budget

from predictor.estimate import Source
from predictor.report import charts
from predictor.report.html import render

_VOID = {"meta", "br", "line", "polyline"}


class _Page(HTMLParser):
    """Collects tags and checks that they are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)


def _count(page: _Page, tag: str) -> int:
    return sum(name == tag for name, _ in page.tags)


def test_page_is_well_formed_and_complete() -> None:
    page = _Page(render(over_budget(), requested="board"))
    assert not page.open
    text = " ".join(page.words)
    for word in ("board = Example Board A 8GB", "1.34 ms", "OVER", "TensorRT 8.5", "Warnings",
                 "not included: pre- and post-processing", "tier: calibrated", "peak 20.0 TFLOP/s",
                 "65 channels"):  # fmt: skip
        assert word in text
    assert _count(page, "tr") == 1 + len(over_budget().kernels)


def test_nothing_is_fetched() -> None:
    text = render(big())
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|src\s*=|@import|url\(|<link|<img|<iframe", text)


def test_untrusted_names_are_escaped() -> None:
    hostile = estimate(
        model=HOSTILE, device_title=HOSTILE, software=HOSTILE, power_mode=HOSTILE,
        kernels=(kernel(HOSTILE, 1.0, kind=HOSTILE, ops=(HOSTILE,)),), warnings=(HOSTILE,),
        hints=(HOSTILE,), notes=(HOSTILE,), overheads_ms={HOSTILE: 1.0},
        accuracy={HOSTILE: {"median_pct": 1.0}},
    )  # fmt: skip
    text = render(hostile, requested=HOSTILE)
    page = _Page(text)
    assert not page.open
    assert _count(page, "script") == 1
    assert "<script>alert" not in text
    assert "\x1b" not in text


def test_roofline_plot_holds_every_kernel_with_work() -> None:
    computing = [k for k in big().kernels if k.flops + k.elementwise_flops > 0 and k.bytes > 0]
    svg = charts.roofline(big())
    assert svg.count("<circle") == len(computing)
    assert 'class="roof"' in svg
    assert 'class="roof"' not in charts.roofline(estimate(roof={}))
    still = kernel("copy", 1.0, flops=0, elementwise_flops=0)
    assert charts.roofline(estimate(kernels=(still,))) == ""


def test_roofline_places_are_right() -> None:
    """1 GFLOP in 1 ms at 10 FLOPs/byte is 1 TFLOP/s: the decades' crossing."""
    one = kernel("k", 1.0, flops=10**9, elementwise_flops=0, bytes=10**8)
    svg = charts.roofline(estimate(kernels=(one,), roof={"peak_flops": 1e13, "bandwidth": 1e11}))
    dot = re.search(r'<circle[^>]* cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert dot
    # FLOPs/byte 10 .. 1000 (ridge 100 at 1.05 x 100), 1 T .. 100 T: the lower left corner.
    assert (float(dot[1]), float(dot[2])) == (92.0, 440 - 46)


def test_bars_carry_their_source_and_whiskers() -> None:
    svg = charts.profile(estimate().kernels)
    assert svg.count("<rect") == svg.count('class="whisker"') == 6
    for source in Source:
        assert f'class="bar {source.value}"' in svg
    assert charts.profile(()) == ""


def test_page_without_kernels_renders() -> None:
    assert not _Page(render(estimate(kernels=(), roof={}))).open


_sizes = st.floats(min_value=1e-6, max_value=1e6)


@settings(max_examples=60)
@given(st.lists(st.tuples(_sizes, _sizes, st.integers(0, 10**15), st.integers(0, 10**12)),
                min_size=1, max_size=12))  # fmt: skip
def test_everything_drawn_is_inside_the_picture(
    parts: list[tuple[float, float, int, int]],
) -> None:
    kernels = tuple(
        kernel(f"k{i}", ms, interval_ms=(ms / 2, ms + wide), flops=flops, bytes=size)
        for i, (ms, wide, flops, size) in enumerate(parts)
    )
    drawn = estimate(kernels=kernels)
    for svg in (charts.profile(kernels), charts.roofline(drawn)):
        assert "nan" not in svg
        assert "inf" not in svg.replace("info", "")
        for _, x in re.findall(r' (x1|x2|cx)="(-?[\d.e+-]+)"', svg):
            assert -1 <= float(x) <= 1001
        for _, y in re.findall(r' (y1|y2|cy)="(-?[\d.e+-]+)"', svg):
            assert -1 <= float(y) <= 441
    assert not _Page(render(drawn)).open


def test_flop_rate() -> None:
    assert charts.flop_rate(1.28e12) == "1.28 TFLOP/s"
    assert charts.flop_rate(12.0) == "12.0 FLOP/s"
    with pytest.raises(TypeError):
        charts.flop_rate(None)  # type: ignore[arg-type]
