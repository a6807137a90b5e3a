"""A :class:`~predictor.front.SearchResult` for people: a table, a CSV, and a page."""

from __future__ import annotations

from predictor.front import SearchResult, Trial, figure_name
from predictor.report.front_figures import (
    accuracy_text,
    counts,
    figure_names,
    figure_text,
    figure_words,
    how,
    latency_names,
    limit_text,
    nearest,
    violations_text,
)
from predictor.report.front_page import page
from predictor.report.layout import Column, Style, wrapped
from predictor.report.layout import table as lines_of
from predictor.report.units import milliseconds, printable
from predictor.tables import csv_line

_ROOMY = 90
"""A terminal narrower than this does without intervals and sizes."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "|")
"""What a spreadsheet takes a cell for a formula by."""


def table(result: SearchResult, *, style: Style | None = None, top: int = 20) -> str:
    """The front as text for a terminal.

    Args:
        result: the search.
        style: width, colour and characters; plain and 100 columns wide by default.
        top: trials of the front to list, the most accurate first; 0 lists all.
    """
    style = style or Style()
    front = result.front
    title = f"Search in {result.space}: {_many(len(result.trials))}, {len(front)} on the front"
    lines = [style.paint(line, "bold") for line in wrapped(title, style, indent=0)]
    lines += wrapped(" · ".join(how(result)), style, indent=0)
    if result.limits:
        said = ", ".join(limit_text(limit) for limit in result.limits)
        lines += wrapped(f"limits: {said}", style, indent=0)
    lines += wrapped(", ".join(f"{n:,} {word}" for word, n in counts(result)), style, indent=0)
    best = result.best
    if best is not None and result.caution and best.figures.get("risk"):
        worth = (f"worth most: trial {best.number}, accuracy "
                 f"{accuracy_text(best.accuracy, result.unit)}, risk to turn out over budget "
                 f"{100 * best.figures['risk']:.1f} %")  # fmt: skip
        lines += wrapped(worth, style, indent=0)
    lines += ["", *(_front(result, style, top) if front else _nothing(result, style))]
    for text in result.notes:
        lines += ["", *wrapped(f"note: {text}", style, indent=0)]
    return "\n".join(lines)


def csv_text(result: SearchResult) -> str:
    """All trials as CSV: numbers as they are, figures under their names.

    ``violations`` are ``NAME=SHARE``, joined by ``; ``, a share of 0.1 being 10 % over the limit.
    A text that a spreadsheet would take for a formula has an apostrophe in front.
    """
    names = figure_names(result)
    head = ("number", "key", "state", "feasible", "on_front", "accuracy", *names, "violations",
            "error")  # fmt: skip
    rows = [csv_line(_harmless(name) for name in head)]
    for trial in result.trials:
        missed = "; ".join(f"{name}={share:.6g}" for name, share in trial.violations.items())
        figures = [_number(trial.figures.get(name)) for name in names]
        rows.append(csv_line((
            str(trial.number), _harmless(trial.key), trial.state.value, _yes(trial.feasible),
            _yes(trial.on_front), _number(trial.accuracy), *figures, _harmless(missed),
            _harmless(trial.error),
        )))  # fmt: skip
    return "".join(rows)


def html(result: SearchResult) -> str:
    """One page that needs nothing else: the trials as a picture and a table, each to be opened."""
    return page(result)


def _many(trials: int) -> str:
    return "1 trial" if trials == 1 else f"{trials:,} trials"


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    whole = float(value).is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else repr(float(value))


def _harmless(text: str) -> str:
    text = printable(text)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _nothing(result: SearchResult, style: Style) -> list[str]:
    """Why there is no front, and what came nearest to one."""
    if not result.trials:
        return ["No trial yet."]
    close = nearest(result)
    if any(trial.feasible for trial in result.trials) or close is None:
        return wrapped("No front: no trial within all limits was scored.", style, indent=0)
    text = (f"No front: no trial is within all limits. The nearest is trial {close.number}, "
            f"{violations_text(close)}: {close.key}")  # fmt: skip
    return wrapped(text, style, indent=0)


def _front(result: SearchResult, style: Style, top: int) -> list[str]:
    front = result.front
    shown = front[:top] if top > 0 else front
    objectives = " and ".join(figure_words(name) for name in result.objectives)
    part = f" ({len(shown)} of {len(front)})" if len(shown) < len(front) else ""
    title = f"Front of {objectives}, the most accurate first{part}"
    columns, cells = _columns(result, shown, style)
    rows = [list(row) for row in zip(*cells, strict=True)]
    head = [style.paint(line, "bold") for line in wrapped(title, style, indent=0)]
    return [*head, *lines_of(columns, rows, style)]


def _columns(
    result: SearchResult, shown: tuple[Trial, ...], style: Style
) -> tuple[list[Column], list[list[str]]]:
    """Titles and, for each, the cells of all rows."""
    known = figure_names(result)
    roomy = style.width >= _ROOMY
    columns = [Column("trial"), Column("accuracy")]
    cells = [
        [str(t.number) for t in shown],
        [accuracy_text(t.accuracy, result.unit) for t in shown],
    ]
    latencies = latency_names(result)
    for name in latencies:
        device = name.partition(" ")[2]
        columns.append(Column(printable(device)))
        cells.append([figure_text(name, t.figures.get(name)) for t in shown])
        if roomy and len(latencies) == 1:
            columns.append(Column("90 % interval"))
            cells.append([_interval(t, device) for t in shown])
        measured = figure_name("measured_ms", device)
        if measured in known:
            columns.append(Column("measured"))
            cells.append([figure_text(measured, t.figures.get(measured)) for t in shown])
    wanted = [
        name for name in ("macs", "params", "memory_mb") if roomy or name in result.objectives
    ]
    wanted += [name for name in result.objectives
               if name not in (*wanted, *latencies, "accuracy")]  # fmt: skip
    for name in wanted:
        if name in known:
            columns.append(Column(printable(figure_words(name))))
            cells.append([figure_text(name, t.figures.get(name)) for t in shown])
    columns.append(Column("network", right=False, shrinks=True))
    cells.append([t.key for t in shown])
    return columns, cells


def _interval(trial: Trial, device: str) -> str:
    low, high = (trial.figures.get(figure_name(word, device)) for word in ("low_ms", "high_ms"))
    if low is None or high is None:
        return "–"
    unit = milliseconds(high).rsplit(" ", 1)[1]
    return f"{milliseconds(low, unit).split()[0]} – {milliseconds(high, unit).split()[0]}"
