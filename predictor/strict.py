"""Checked values for frozen dataclasses: what a file may say, and where it says it wrong.

``fail(place, message)`` is called for the first mistake; it knows the file and its lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from predictor.errors import ConfigError, suggest

Place = tuple[str | int, ...]
"""Keys and list positions from the top of the file to a value."""
Fail = Callable[[Place, str], NoReturn]
"""Raises ConfigError for the value at a place."""


def no_place(place: Place, message: str) -> NoReturn:
    """A :data:`Fail` for data that came from no file."""
    raise ConfigError(f"{dotted(place)}: {message}" if place else message)


def dotted(place: Place) -> str:
    """``targets[0].runtime``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in place]
    return "".join(parts).lstrip(".")


def parts(noun: Any, data: Any, place: Place, fail: Fail) -> list[dict[str, Any]]:
    """A list of :func:`part`."""
    if not isinstance(data, list | tuple):
        fail(place, "a list is needed here")
    return [part(noun, item, (*place, index), fail) for index, item in enumerate(data)]


def part(noun: Any, data: Any, place: Place, fail: Fail) -> dict[str, Any]:
    """Checked values of the dataclass ``noun``; absent and null keys are left to its defaults.

    Scalars are checked by the field's metadata: ``check`` (``text``, ``number``, ``count``,
    ``flag``, ``texts``; without one the value is left to the caller) and ``choices``.
    """
    values = mapping(data, place, fail)
    known = {fact.name: fact for fact in fields(noun) if not fact.metadata.get("closed")}
    for key in values:
        if key not in known:
            fail((*place, key), f"unknown key.{suggest(key, known)}")
    values = {key: value for key, value in values.items() if value is not None}
    for name, fact in known.items():
        if fact.metadata.get("required") and name not in values:
            fail(place, f"'{name}' is missing")
    for key, value in values.items():
        facts = known[key].metadata
        if facts.get("check"):
            values[key] = checked(facts["check"], value, (*place, key), fail)
        if "choices" in facts:
            choice(key, value, facts["choices"], (*place, key), fail)
    return values


def mapping(data: Any, place: Place, fail: Fail) -> dict[str, Any]:
    """A copy of a mapping with text keys."""
    if not isinstance(data, Mapping):
        fail(place, "'key: value' lines are needed here")
    for key in data:
        if not isinstance(key, str):
            fail(place, f"the key {key!r} is not text; put it in quotes")
    return dict(data)


def choice(what: str, word: str, known: Sequence[str], place: Place, fail: Fail) -> None:
    """Fail where ``word`` is none of ``known``."""
    if word not in known:
        fail(place, f"unknown {what} '{word}'.{suggest(word, known)} Known: {', '.join(known)}")


def checked(check: str, value: Any, place: Place, fail: Fail) -> Any:
    """The value, or a failure that says what is needed."""
    if check == "texts":
        if not isinstance(value, list | tuple):
            fail(place, "a list of words is needed here")
        return tuple(checked("text", v, (*place, i), fail) for i, v in enumerate(value))
    if check == "flag":
        if not isinstance(value, bool):
            fail(place, f"true or false is needed here, not {_short(value)}")
        return value
    if check == "text":
        if not isinstance(value, str) or not value.strip():
            fail(place, f"text is needed here, not {_short(value)}; put it in quotes")
        return value
    return _number(value, place, fail, whole=check == "count")


def _number(value: Any, place: Place, fail: Fail, *, whole: bool) -> float:
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            fail(place, f"a number is needed here, not {_short(value)}")
        fail(place, f"{_short(value)} is text in YAML; write {number:.15g}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        fail(place, f"a number above 0 (and below 1e12) is needed here, not {_short(value)}")
    if whole and value != int(value):
        fail(place, f"a whole number is needed here, not {value!r}")
    return int(value) if whole else value


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 1 << 60:
        return "a huge number"
    shown = "a list or mapping" if isinstance(value, dict | list) else repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."
