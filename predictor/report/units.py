"""Numbers as people read them: three significant digits and a unit."""

from __future__ import annotations

import re
from typing import Final

_COUNT_STEPS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BYTE_STEPS: Final = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_TIME_STEPS: Final = ((1e3, "s"), (1.0, "ms"), (1e-3, "us"))

Size = int | tuple[int, int]
"""Size of input images in pixels: the side of a square, or (height, width)."""


def size_from_text(text: str) -> Size | None:
    """``224`` or ``360x640`` (height x width); None for any other text."""
    match = re.fullmatch(r"([0-9]{1,6})(?:[x×]([0-9]{1,6}))?", text.strip().lower())
    sizes = [int(size) for size in match.groups() if size] if match else []
    if not sizes or min(sizes) < 1:
        return None
    return sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])


def digits(value: float) -> str:
    """Three significant digits without an exponent; whole numbers from 1000 on."""
    size = abs(value)
    if size == 0:
        return "0"
    places = 2 if size < 9.995 else 1 if size < 99.95 else 0
    if size < 0.995:
        places = 3 if size >= 0.0995 else 4
    return f"{value:,.{places}f}"


def milliseconds(value: float, unit: str | None = None) -> str:
    """A duration given in ms, in ``unit`` ("s", "ms" or "us") or in the one that fits."""
    for step, name in _TIME_STEPS:
        if name == unit or (unit is None and abs(value) >= step * 0.9995):
            return f"{digits(value / step)} {name}"
    return f"{digits(value / 1e-3)} us"


def time_unit(value: float) -> str:
    """The unit that :func:`milliseconds` chooses for ``value`` ms."""
    return milliseconds(value).rsplit(" ", 1)[1]


def unit_beside(value: float, usual: str) -> str:
    """The unit for ``value`` ms in a column of ``usual``: its own where digits would be lost."""
    step = next(step for step, name in _TIME_STEPS if name == usual)
    return usual if abs(value) >= 0.01 * step or value == 0 else time_unit(value)


def count(value: float) -> str:
    """4089184256 is ``4.09 G``; below 1000 the number itself."""
    for step, name in _COUNT_STEPS:
        if abs(value) >= step * 0.9995:
            return f"{digits(value / step)} {name}"
    return f"{value:g}"


def nbytes(value: float) -> str:
    """Bytes in decimal units: 1 MB is 1,000,000 bytes."""
    for step, name in _BYTE_STEPS:
        if abs(value) >= step * 0.9995:
            return f"{digits(value / step)} {name}"
    return f"{value:g} B"


def megabytes(value: float) -> str:
    """A size given in MB (1,000,000 bytes)."""
    return nbytes(value * 1e6)


def percent(share: float) -> str:
    """A share of 1 as a percentage."""
    return f"{100 * share:.1f} %"


def printable(text: str) -> str:
    """``text`` with control characters escaped, so that a name cannot steer the terminal."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shape(sizes: tuple[int, ...]) -> str:
    """``1x64x112x112``; a scalar is ``()``."""
    return "x".join(map(str, sizes)) if sizes else "()"
