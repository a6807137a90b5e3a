from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from golden_files import check
from hypothesis import given
from hypothesis import strategies as st
from report_fakes import HOSTILE, estimate, kernel, over_budget

from predictor.estimate import Estimate
from predictor.report import comparison, json_report, table, units
from predictor.report.layout import Column, Style, shorten, wrapped
from predictor.report.layout import table as lay_out


def test_report_as_seen() -> None:
    check("predict", table.render(estimate(), requested="board"))


def test_report_over_budget_as_seen() -> None:
    check("predict_over_budget", table.render(over_budget(), top=2))


def test_report_narrow_and_ascii_as_seen() -> None:
    text = table.render(estimate(), style=Style(width=64, unicode=False), top=3)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 64
    check("predict_narrow_ascii", text)


def test_minimal_report_has_no_empty_sections() -> None:
    text = table.render(
        estimate(kernels=(), warnings=(), hints=(), notes=(), overheads_ms={}, accuracy={},
                 power_mode="", device_memory_mb=None, fits_memory=None)
    )  # fmt: skip
    for word in (
        "warning",
        "hint",
        "note",
        "budget",
        "power mode",
        "accuracy",
        "sources",
        "kernel",
    ):
        assert word not in text
    assert "memory is not known" in text


def test_alias_is_resolved_and_a_name_is_not_repeated() -> None:
    assert table.headline(estimate(), "board") == "board = Example Board A 8GB"
    assert table.headline(estimate(), "board-a") == "Example Board A 8GB"
    assert table.headline(estimate(), "my/device.yaml") == "Example Board A 8GB"


def test_colour_only_where_asked() -> None:
    assert "\x1b[" not in table.render(over_budget())
    painted = table.render(over_budget(), style=Style(color=True))
    assert "\x1b[31;1mOVER\x1b[0m" in painted
    assert "\x1b[36mfitted\x1b[0m" in painted


def test_names_cannot_steer_the_terminal() -> None:
    hostile = estimate(model=HOSTILE, kernels=(kernel(HOSTILE, 1.0),), warnings=(HOSTILE,))
    text = table.render(hostile, requested=HOSTILE)
    assert "\x1b" not in text
    assert "\\x1b[31m" in text


def test_does_not_fit_is_loud() -> None:
    assert "DOES NOT FIT" in table.render(estimate(fits_memory=False))


def test_conditions_name_runtime_once() -> None:
    assert table.conditions(estimate())[0] == "TensorRT 8.5"
    assert table.conditions(estimate(software="JetPack 5.1"))[0] == "tensorrt (JetPack 5.1)"
    assert table.conditions(estimate(software="", runtime="torch_compile"))[0] == "torch compile"
    assert table.conditions(estimate(scope="call"))[-1] == "a call through Python"


def test_accuracy_card_lines() -> None:
    card = estimate().accuracy
    lines = [
        "models left out: error median 5.80 %, mean 8.30 % (n=48)",
        "families left out: error median 14.9 %, mean 19.0 % "
        "(n=48; flops: error median 71.0 %, mean 160 %)",
    ]
    assert table.accuracy_lines(card) == lines
    assert table.accuracy_lines({"protocols": card, "basis": "x"}) == lines
    assert table.accuracy_lines({"kernel": {"median_pct": 3}}) == [
        "kernel left out: error median 3.00 %"
    ]
    assert table.accuracy_lines({"model": {"n": 0}, "note": "x", "empty": {}}) == []
    assert table.headline_error(card) == "14.9 %"
    assert table.headline_error({}) is None


def test_json_is_the_estimate() -> None:
    text = json_report.render(over_budget())
    assert Estimate.from_dict(json.loads(text)) == over_budget()
    assert json.loads(text)["schema_version"] == 1
    with pytest.raises(ValueError, match="JSON"):
        json_report.render(estimate(latency_ms=float("nan")))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1.345, "1.34"), (9.999, "10.0"), (14.93, "14.9"), (99.96, "100"), (743.49, "743"),
     (12345.6, "12,346"), (0.5, "0.500"), (0.031, "0.0310"), (-2.5, "-2.50")],
)  # fmt: skip
def test_three_digits(value: float, text: str) -> None:
    assert units.digits(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.5, "1.50 ms"), (0.0125, "12.5 us"), (2500, "2.50 s"), (0.9999, "1.00 ms"), (0, "0 us")],
)
def test_milliseconds(value: float, text: str) -> None:
    assert units.milliseconds(value) == text


def test_a_column_keeps_its_unit_until_digits_are_lost() -> None:
    assert [units.unit_beside(ms, "s") for ms in (3410, 10, 9, 0.004, 0)] == [
        "s", "s", "ms", "us", "s",
    ]  # fmt: skip
    text = table.render(estimate(kernels=(kernel("slow", 3410.0), kernel("quick", 0.004))))
    assert "3.41 s" in text
    assert re.search(r"4\.00 us +3\.60 – 4\.48", text)


def test_counts_and_bytes() -> None:
    assert units.count(4089184256) == "4.09 G"
    assert units.count(999) == "999"
    assert units.count(999_600) == "1.00 M"
    assert units.nbytes(1_500_000) == "1.50 MB"
    assert units.nbytes(64) == "64 B"
    assert units.shape(()) == "()"
    assert units.shape((1, 3, 224)) == "1x3x224"


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_milliseconds_are_true_to_half_a_percent(value: float) -> None:
    number, unit = units.milliseconds(value).split()
    back = float(number.replace(",", "")) * {"s": 1e3, "ms": 1.0, "us": 1e-3}[unit]
    assert back == pytest.approx(value, rel=6e-3, abs=6e-8)


@given(st.text(max_size=60), st.integers(2, 40))
def test_shortened_text_fits_and_keeps_both_ends(text: str, width: int) -> None:
    short = shorten(text, width, Style())
    assert len(short) <= width
    if len(text) > width:
        assert text.endswith(short.split("…")[-1])
    else:
        assert short == text


@given(st.lists(st.text(max_size=80), min_size=1, max_size=5), st.integers(60, 160))
def test_tables_keep_their_width(names: list[str], width: int) -> None:
    columns = (Column("name", right=False, shrinks=True), Column("value"))
    lines = lay_out(columns, [[name, "1.0"] for name in names], Style(width=width))
    assert max(map(len, lines)) <= width
    assert len(lines) == len(names) + 2


def test_folded_text_keeps_percent_with_its_number() -> None:
    lines = wrapped("aaaa " * 10 + "32.9 % and more", Style(width=60), indent=0)
    assert not any(line.lstrip().startswith("%") for line in lines)


# --- comparisons -----------------------------------------------------------------------------------


def _faster() -> Estimate:
    base = estimate()
    kept = [replace(k, latency_ms=k.latency_ms / 2) for k in base.kernels if k.kind != "pool"]
    return replace(base, kernels=tuple(kept), latency_ms=0.6, interval_ms=(0.5, 0.8),
                   throughput_fps=1666.7, device="board-b")  # fmt: skip


def test_two_estimates_side_by_side_as_seen() -> None:
    cases = [comparison.Case(estimate()), comparison.Case(_faster())]
    check("compare_two", comparison.render(cases, top=4))


def test_grid_as_seen() -> None:
    cases = [
        comparison.Case(estimate(batch=b, latency_ms=1.345 * b, interval_ms=(1.1 * b, 1.7 * b)), r)
        for b in (1, 8)
        for r in (224, (360, 640))
    ]
    check("compare_grid", comparison.render(cases))


def test_alignment_pairs_by_name_then_kind() -> None:
    first = estimate(kernels=(kernel("a", 1), kernel("b.x", 2), kernel("c", 3, kind="pool")))
    second = estimate(kernels=(kernel("a", 2), kernel("q", 5), kernel("r", 1, kind="norm")))
    pairs = comparison.align(first, second)
    names = [(p.first and p.first.name, p.second and p.second.name) for p in pairs]
    assert names == [("a", "a"), ("b.x", "q"), ("c", None), (None, "r")]
    assert [p.difference_ms for p in pairs] == [1, 3, -3, 1]


def test_comparison_json_holds_every_kernel_once() -> None:
    data = comparison.to_dict([comparison.Case(estimate()), comparison.Case(_faster())])
    json.dumps(data, allow_nan=False)
    assert [row["first"] for row in data["layers"] if row["first"]] == [
        k.name for k in estimate().kernels
    ]
    total = sum(row["difference_ms"] for row in data["layers"])
    a, b = (sum(k.latency_ms for k in e.kernels) for e in (estimate(), _faster()))
    assert total == pytest.approx(b - a)
    assert "layers" not in comparison.to_dict([comparison.Case(estimate())])
