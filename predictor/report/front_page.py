"""The page of a search: one HTML file that needs no network, no fonts and no libraries.

The trials travel as JSON inside the page and are drawn by its script, so that thousands of them
stay light. Keys and errors come from files and from others' code: all text is escaped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from predictor.front import SearchResult, Trial, Value
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
    unit_of,
    violations_text,
)
from predictor.report.units import printable

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""The same as that of an estimate's page."""
TABLED = ("latency_ms", "measured_ms", "macs", "params")
"""Figures that have a column in the table of trials; all are in each trial's own view."""


def page(result: SearchResult) -> str:
    """The page as text."""
    here = Path(__file__).parent
    style = "".join((here / name).read_text(encoding="utf-8") for name in ("page.css", "front.css"))
    script = (here / "front.js").read_text(encoding="utf-8")
    body = "".join((_header(result), _best(result), _picture(result), _table(result),
                    _notes(result)))  # fmt: skip
    title = f"Search in {result.space}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n"
        f'<script type="application/json" id="data">{_json(data_of(result))}</script>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _text(value: str) -> str:
    return escape(printable(value))


def _json(value: Any) -> str:
    """JSON that no text in it can end: a script element ends at the first ``</script``."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def data_of(result: SearchResult) -> dict[str, Any]:
    """What the script draws: names once, and an array for each trial."""
    names = figure_names(result)
    parameters = tuple(dict.fromkeys(name for trial in result.trials for name in trial.values))
    return {
        "unit": printable(result.unit),
        "figures": [{"name": printable(name), "words": printable(figure_words(name)),
                     "unit": unit_of(name),
                     "column": name.partition(" ")[0] in TABLED} for name in names],
        "axes": _axes(result, names),
        "limits": [{"name": printable(limit.name), "limit": limit.limit,
                    "words": printable(limit_text(limit))} for limit in result.limits],
        "parameters": [printable(name) for name in parameters],
        "trials": [_trial(trial, names, parameters) for trial in result.trials],
    }  # fmt: skip


def _axes(result: SearchResult, names: tuple[str, ...]) -> dict[str, Any]:
    """Which figures can be on the x axis, the first being the one to begin with, and what is on
    the y axis: the accuracy, or in a search without any its first objective but that on x."""
    objectives = [name for name in result.objectives if name in names]
    first = [*latency_names(result), *objectives]
    others = [name for name in names if not name.startswith(("low_ms", "high_ms"))]
    others += [limit.name for limit in result.limits if limit.name in names]
    x = list(dict.fromkeys([*first, *others]))
    scored = any(trial.accuracy is not None for trial in result.trials)
    y = "accuracy"
    if not scored and "accuracy" not in result.objectives:
        y = next((name for name in objectives if name != x[0]), "accuracy")
    return {"x": [names.index(name) for name in x], "y": names.index(y) if y in names else -1}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.7g}")


def _trial(trial: Trial, names: tuple[str, ...], parameters: tuple[str, ...]) -> list[Any]:
    return [
        trial.number, printable(trial.key), trial.state.value, int(trial.feasible),
        int(trial.on_front), _finite(trial.accuracy),
        [_finite(trial.figures.get(name)) for name in names],
        [_value(trial.values, name) for name in parameters],
        printable(violations_text(trial)), printable(trial.error),
    ]  # fmt: skip


def _value(values: Mapping[str, Value], name: str) -> Any:
    value = values.get(name)
    if isinstance(value, float):
        return _finite(value)
    return printable(value) if isinstance(value, str) else value


def _header(result: SearchResult) -> str:
    words = [*how(result), *(f"limit: {limit_text(limit)}" for limit in result.limits)]
    chips = "".join(f"<li>{_text(word)}</li>" for word in words)
    return f'<h1>Search in {_text(result.space)}</h1>\n<ul class="chips">{chips}</ul>\n'


def _best(result: SearchResult) -> str:
    best = result.best
    tiles = [("trials", len(result.trials)), *counts(result), ("on the front", len(result.front))]
    cells = "".join(f'<div><span class="soft small">{_text(word)}</span><b>{n:,}</b></div>'
                    for word, n in tiles)  # fmt: skip
    if best is None:
        close = nearest(result)
        said = "No trial within all limits was scored."
        if close is not None and not any(trial.feasible for trial in result.trials):
            said = (f"No trial is within all limits. The nearest is trial {close.number}: "
                    f"{violations_text(close)}.")  # fmt: skip
        head = f"<p>{_text(said)}</p>"
    else:
        risk = best.figures.get("risk", 0.0)
        head = "most accurate within all limits"
        if result.caution and risk:
            head = f"worth most within all limits (risk to be over: {100 * risk:.1f} %)"
        parts = [(head, accuracy_text(best.accuracy, result.unit))]
        parts += [(figure_words(name), figure_text(name, best.figures.get(name)))
                  for name in latency_names(result)[:3]]  # fmt: skip
        blocks = "".join(
            f'<div><div class="soft small">{_text(word)}</div>'
            f'<div class="{"second" if i else "value"}">{_text(value)}</div></div>'
            for i, (word, value) in enumerate(parts)
        )
        head = f'<div class="hero">{blocks}</div><p class="small below key">{_text(best.key)}</p>'
    return f'<section class="card">{head}<div class="tiles below">{cells}</div></section>\n'


_MARKS = (
    ("ok", "within all limits", '<circle cx="8" cy="8" r="4.5"/>'),
    ("no", "over a limit", '<path d="M8 3.2 13 12.4H3z"/>'),
    ("best", "on the front", '<circle cx="8" cy="8" r="5.5"/>'),
    ("tick ok", "not scored, within", '<path d="M8 2V14"/>'),
    ("tick no", "not scored, over a limit", '<path d="M5 5l6 6m0-6l-6 6"/>'),
)


def _picture(result: SearchResult) -> str:
    objectives = " and ".join(figure_words(name) for name in result.objectives)
    legend = "".join(
        f'<span><svg class="mark {kind}" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>'
        f"{word}</span>"
        for kind, word, shape in _MARKS
    )
    return (
        '<section class="card" aria-labelledby="plot-title"><h2 id="plot-title">Trials</h2>'
        f'<p class="soft small">No trial within all limits beats one of the front in '
        f"{_text(objectives)}. Click on a point, or reach the picture with Tab: arrows left and "
        "right go from trial to trial, up and down along the front.</p>"
        f'<div class="bar-of"><div class="legend">{legend}</div>'
        '<label class="small" id="axis-label" hidden>x axis '
        '<select id="axis"></select></label></div>'
        "<noscript><p>The picture and the other trials need JavaScript; the front is below.</p>"
        '</noscript><div class="two"><div class="scroll picture"><div class="plot-box">'
        '<svg id="plot" viewBox="0 0 760 440" tabindex="0" role="application" '
        'aria-roledescription="scatter plot" aria-describedby="plot-text"></svg>'
        '<div id="tip" hidden></div></div><p id="plot-text" class="soft small below"></p></div>'
        '<div id="view" class="view" role="region" aria-label="Chosen trial">'
        '<p class="soft">No trial chosen.</p></div></div>'
        '<p id="say" class="unseen" role="status"></p></section>\n'
    )


def _table(result: SearchResult) -> str:
    """The front; the script puts all trials in its place."""
    names = [name for name in figure_names(result) if name.partition(" ")[0] in TABLED]
    titles = ["trial", "accuracy", *(figure_words(name) for name in names), "state", "network"]
    numbers = 2 + len(names)
    head = "".join(f'<th scope="col"{" class=num" if i < numbers else ""}><button type="button">'
                   f"{_text(title)}</button></th>" for i, title in enumerate(titles))  # fmt: skip
    rows = "".join(_row(trial, result, names) for trial in result.front[:200])
    return (
        '<section class="card"><h2 id="trials-title">All trials</h2><div class="bar-of">'
        '<label class="small">show <select id="show"><option value="all">all</option>'
        '<option value="front">the front</option><option value="ok">within all limits</option>'
        '<option value="no">over a limit</option><option value="scored">scored</option>'
        '<option value="bad">failed or given up</option></select></label> '
        '<label class="small">network has <input id="find" type="search" size="24"></label>'
        '<span id="found" class="soft small" role="status"></span></div>'
        '<div class="scroll"><table id="trials" aria-labelledby="trials-title"><thead><tr>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="below"><button type="button" id="more" hidden>Show more</button></p>'
        "</section>\n"
    )


def _row(trial: Trial, result: SearchResult, names: list[str]) -> str:
    cells = [str(trial.number), accuracy_text(trial.accuracy, result.unit)]
    cells += [figure_text(name, trial.figures.get(name)) for name in names]
    numbers = "".join(f'<td class="num">{_text(cell)}</td>' for cell in cells)
    return (f"<tr>{numbers}<td>{_text(trial.state.value)}</td>"
            f'<td class="name">{_text(trial.key)}</td></tr>\n')  # fmt: skip


def _notes(result: SearchResult) -> str:
    if not result.notes:
        return ""
    items = "".join(f"<li>{_text(text)}</li>" for text in result.notes)
    return f'<section class="card"><h2>Notes</h2><ul class="plain">{items}</ul></section>\n'
