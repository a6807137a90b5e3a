"""``$name`` and whole-number arithmetic in the text of a block space: read here, never evaluated
as code.

    parse("$width * 2 + 8").value({"width": 16}.__getitem__)     # 40

``+ - * //`` and brackets; ``//`` drops the remainder. A lone ``$name`` is whatever the parameter
is, text and fractions too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from predictor.errors import ConfigError
from predictor.front import Value
from predictor.kinds import LARGEST

MAX_TEXT = 200
"""Characters of an expression."""
_TOKEN = re.compile(r"\s*(?:(?P<name>\$[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[0-9]{1,15})"
                    r"|(?P<sign>//|[-+*()]))")  # fmt: skip
_LEVELS = (("+", "-"), ("*", "//"))
"""Signs from the loosest to the tightest."""


@dataclass(frozen=True, slots=True)
class Expression:
    """Steps in postfix order: names with their dollar, whole numbers, signs."""

    text: str
    steps: tuple[str | int, ...]

    @property
    def names(self) -> frozenset[str]:
        """The parameters that it reads."""
        return frozenset(s[1:] for s in self.steps if isinstance(s, str) and s[0] == "$")

    def value(self, lookup: Callable[[str], Value]) -> Value:
        """What it is where parameters are what ``lookup`` says.

        Raises:
            ConfigError: arithmetic on what is no whole number, or with an absurd result.
        """
        stack: list[Value] = []
        for step in self.steps:
            if isinstance(step, int):
                stack.append(step)
            elif step[0] == "$":
                stack.append(lookup(step[1:]))
            else:
                right, left = self._whole(stack.pop()), self._whole(stack.pop())
                stack.append(self._result(left, step, right))
        return stack[0]

    def _whole(self, value: Value) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"'{self.text}' computes with '{value}'; arithmetic is for whole "
                              "numbers, so list the results as a parameter's values")  # fmt: skip
        return value

    def _result(self, left: int, sign: str, right: int) -> int:
        if sign == "//" and right == 0:
            raise ConfigError(f"'{self.text}' divides by 0")
        found = {"+": lambda: left + right, "-": lambda: left - right, "*": lambda: left * right,
                 "//": lambda: left // right}[sign]()  # fmt: skip
        if abs(found) > LARGEST:
            raise ConfigError(f"'{self.text}' is beyond 2^53")
        return found


def parse(text: str) -> Expression:
    """The expression in ``text``.

    Raises:
        ConfigError: it is none; the message says what stands where something else should.
    """
    if len(text) > MAX_TEXT:
        raise ConfigError(f"an expression has at most {MAX_TEXT} characters")
    reader = _Reader(text)
    steps = reader.level(0)
    if reader.at < len(reader.tokens):
        raise reader.wrong()
    return Expression(text.strip(), tuple(steps))


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text.strip(), 0
        self.tokens: list[str] = []
        place = 0
        while place < len(self.text):
            match = _TOKEN.match(self.text, place)
            if match is None:
                rest = self.text[place:].lstrip()
                advice = ("write //, which drops the remainder" if rest[0] == "/"
                          else "write $name without brackets" if rest.startswith("${")
                          else "an expression is made of $name, whole numbers, + - * // and "
                          "brackets")  # fmt: skip
                raise ConfigError(f"'{rest}' in '{self.text}' cannot be read; {advice}")
            self.tokens.append(match[0].strip())
            place = match.end()

    def wrong(self) -> ConfigError:
        """What stands here does not belong here."""
        if self.at >= len(self.tokens):
            more = "; a bracket is not closed" if "(" in self.tokens else ""
            return ConfigError(f"'{self.text}' ends too early{more}")
        return ConfigError(f"'{self.tokens[self.at]}' is in the wrong place in '{self.text}'")

    def level(self, level: int) -> list[str | int]:
        """Operands with the signs of ``level`` between them."""
        if level == len(_LEVELS):
            return self.operand()
        steps = self.level(level + 1)
        while self.at < len(self.tokens) and self.tokens[self.at] in _LEVELS[level]:
            sign = self.tokens[self.at]
            self.at += 1
            steps += [*self.level(level + 1), sign]
        return steps

    def operand(self) -> list[str | int]:
        """A name, a number or something in brackets."""
        if self.at >= len(self.tokens):
            raise self.wrong()
        token = self.tokens[self.at]
        if token == "(":
            self.at += 1
            steps = self.level(0)
            if self.tokens[self.at : self.at + 1] != [")"]:
                raise self.wrong()
            self.at += 1
            return steps
        if token[0] != "$" and not token.isdigit():
            raise self.wrong()
        self.at += 1
        return [token if token[0] == "$" else int(token)]
