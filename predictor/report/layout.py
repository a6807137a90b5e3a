"""Plain-text tables that fit the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from predictor.report.units import printable

_NARROWEST = 60
_KEEP = "\u2060"  # holds a number and its unit together while text is folded
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_PLAIN = {"…": "~", "·": "|", "─": "-", "×": "x", "µ": "u", "–": "-"}


@dataclass(frozen=True, slots=True)
class Style:
    """How text may look: columns available, escape codes for colour, characters beyond ASCII."""

    width: int = 100
    color: bool = False
    unicode: bool = True

    def paint(self, text: str, *codes: str) -> str:
        """``text`` in a colour or weight, where colour is on."""
        if not self.color or not text:
            return text
        return f"\x1b[{';'.join(_CODES[code] for code in codes)}m{text}\x1b[0m"

    def plain(self, text: str) -> str:
        """``text`` in ASCII where nothing else may be printed; unknown characters are escaped."""
        if self.unicode or text.isascii():
            return text
        for char, stand_in in _PLAIN.items():
            text = text.replace(char, stand_in)
        return text.encode("ascii", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, and whether it holds numbers, is dimmed or gives way when narrow."""

    title: str
    right: bool = True
    shrinks: bool = False


def shorten(text: str, width: int, style: Style) -> str:
    """``text`` in at most ``width`` characters, its middle left out (both ends of a path tell)."""
    if len(text) <= width:
        return text
    if width < 2:
        return text[:width]
    head = (width - 1) // 3
    return text[:head] + style.plain("…") + text[len(text) - (width - 1 - head) :]


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    style: Style,
    *,
    indent: int = 2,
    total: Sequence[str] | None = None,
) -> list[str]:
    """Lines of a table: titles, a rule, the rows, and below another rule the totals.

    Columns that shrink give way, the widest first, until a line fits ``style.width`` (but no
    narrower than 60 columns). Cells are cleaned of control characters.
    """
    clean = [[style.plain(printable(cell)) for cell in row] for row in rows]
    last = [style.plain(printable(cell)) for cell in total] if total else None
    body = [*clean, last] if last else clean
    widths = [
        max([len(column.title), *(len(row[i]) for row in body)]) for i, column in enumerate(columns)
    ]
    room = max(style.width, _NARROWEST) - indent - 2 * (len(columns) - 1)
    shrinking = [i for i, column in enumerate(columns) if column.shrinks]
    while sum(widths) > room and shrinking:
        widest = max(shrinking, key=lambda i: widths[i])
        floor = max(8, len(columns[widest].title))
        if widths[widest] <= floor:
            break
        widths[widest] -= 1

    def line(cells: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if column.right else shorten(cell, width, style).ljust(width)
            for column, width, cell in zip(columns, widths, cells, strict=True)
        ]
        return (" " * indent + "  ".join(parts)).rstrip()

    rule = " " * indent + style.plain("─") * (sum(widths) + 2 * (len(columns) - 1))
    lines = [style.paint(line([column.title for column in columns]), "bold")]
    lines.append(style.paint(rule, "dim"))
    lines += [line(row) for row in clean]
    if last:
        lines += [style.paint(rule, "dim"), style.paint(line(last), "bold")]
    return lines


def wrapped(text: str, style: Style, *, indent: int = 2, hang: int = 2) -> list[str]:
    """``text`` folded at blanks to ``style.width``, continuation lines set in by ``hang``."""
    import textwrap

    lines = textwrap.wrap(
        style.plain(printable(text)).replace(" %", _KEEP + "%"),
        max(style.width, _NARROWEST),
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hang),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_KEEP, " ") for line in lines] or [""]
