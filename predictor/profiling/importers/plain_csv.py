"""The plain table that is used everywhere here: ``model,latency_ms`` and optional columns."""

from __future__ import annotations

import io
import math
from typing import NoReturn

from predictor.errors import ConfigError
from predictor.profiling.importers import (
    LONGEST_MS,
    SHORTEST_MS,
    SLIP,
    Latency,
    Reading,
    TableRow,
    fail,
)
from predictor.report.units import size_from_text
from predictor.tables import Row, Table

NEEDED = ("model", "latency_ms")
OPTIONAL = ("batch", "precision", "resolution", "device")
FIGURES = ("median_ms", "p10_ms", "p90_ms", "first_run_ms")
"""More columns in milliseconds that are kept, as this package writes them; ``n`` is the repeats."""


def is_ours(text: str) -> bool:
    """True where the first line looks like the header of such a table."""
    header = text.lstrip("\ufeff").split("\n", 1)[0]
    return "model" in [cell.strip().strip('"') for cell in header.replace(";", ",").split(",")]


def read(data: bytes, file: str) -> Reading:
    """Every row of the table; one wrong row fails the whole.

    Raises:
        ConfigError: a column is missing, or a row is wrong, with its line.
    """
    if not data.strip():
        fail(file, "the file is empty; the first line must be: model,latency_ms")
    table = Table(io.BytesIO(data), file)
    table.need("model")
    if "latency_ms" not in table.columns:
        _other_unit(table, file)
        table.need("latency_ms")
    for column in table.columns:
        if table.columns.count(column) > 1:
            fail(file, f"the column '{column}' stands twice; leave one", 1)
    rows = [_row(row, table, file) for row in table.rows()]
    if not rows:
        fail(file, "no row after the header: nothing was measured")
    return Reading(file, "csv", rows=tuple(rows))


def _other_unit(table: Table, file: str) -> None:
    for column in table.columns:
        if column.lower() in ("latency", "latency_us", "latency_ns", "latency_s", "latency_sec"):
            fail(file, f"the column '{column}' is no 'latency_ms': give milliseconds under that "
                 "name", 1)  # fmt: skip


def _row(row: Row, table: Table, file: str) -> TableRow:
    if row.fault:
        fail(file, row.fault, row.line)
    if not row.whole:
        fail(file, f"this row ends before its {len(table.columns)} cells and the end of the line: "
             "the file was cut. Complete the row, and end it with a new line",
             row.line)  # fmt: skip
    cells = {name: cell.strip() for name, cell in zip(table.columns, row.cells, strict=True)}
    if not cells["model"]:
        fail(file, "the cell 'model' is empty", row.line)
    if any("\udc80" <= char <= "\udcff" for cell in row.cells for char in cell):
        fail(file, "no UTF-8 text; save the table as UTF-8", row.line)
    latency_ms = _milliseconds(cells, "latency_ms", file, row.line)
    if latency_ms is None:
        fail(file, "the cell 'latency_ms' is empty: leave rows out that were not measured",
             row.line)  # fmt: skip
    figures = {name: _milliseconds(cells, name, file, row.line) for name in FIGURES}
    _one_unit(figures, latency_ms, file, row.line)
    latency = Latency(latency_ms, _whole(cells, "n", file, row.line) or 0, **figures)
    if cells.get("resolution") and size_from_text(cells["resolution"]) is None:
        fail(file, f"resolution '{cells['resolution'][:40]}': use pixels, such as 224, or height x "
             "width: 360x640", row.line)  # fmt: skip
    batch = _whole(cells, "batch", file, row.line)
    return TableRow(row.line, cells["model"], latency, "" if batch is None else str(batch),
                    *(cells.get(name, "") for name in OPTIONAL[1:]))  # fmt: skip


def _one_unit(figures: dict[str, float | None], latency_ms: float, file: str, line: int) -> None:
    told = [figures[name] for name in ("p10_ms", "median_ms", "p90_ms")]
    values = [value for value in told if value is not None]
    near = all(latency_ms / SLIP < value < SLIP * latency_ms for value in values)
    if values != sorted(values) or not near:
        fail(file, "p10_ms, median_ms and p90_ms must grow in this order, and be near latency_ms: "
             "are they in one unit?", line)  # fmt: skip


def _milliseconds(cells: dict[str, str], name: str, file: str, line: int) -> float | None:
    text = cells.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and SHORTEST_MS <= value <= LONGEST_MS):
        _no_time(name, text, file, line)
    return value


def _no_time(name: str, text: str, file: str, line: int) -> NoReturn:
    unit = text.lower().rstrip(".").endswith(("ms", "us", "µs", "ns", "s"))
    why = "a cell has no unit" if unit else "a time is above 0"
    raise ConfigError(f"{name} '{text[:40]}': {why}; write milliseconds, such as 12.5", file=file,
                      line=line)  # fmt: skip


def _whole(cells: dict[str, str], name: str, file: str, line: int) -> int | None:
    text = cells.get(name, "")
    if not text:
        return None
    number = text.removesuffix(".0")  # what spreadsheets make of whole numbers
    if not (number.isascii() and number.isdigit() and len(number) < 10 and int(number)):
        fail(file, f"{name} '{text[:40]}': use a whole number of 1 or more", line)
    return int(number)
