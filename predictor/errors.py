"""Every error that this package raises on purpose.

::

    PredictorError            exit 1   something inside went wrong
    ├── ConfigError           exit 2   a setting, file or argument is wrong
    │   ├── ModelError        exit 2   the model cannot be read or traced
    │   ├── MissingExtra      exit 2   an optional package is not installed
    │   └── UncoveredOperator exit 2   --strict met an operator without a formula or a model
    ├── BudgetExceeded        exit 3   the estimate is over the budget
    ├── UnknownDevice         exit 4   no profile of that name
    ├── ArtifactError         exit 4   a profile or model bundle is damaged
    └── MeasurementError      exit 5   measuring or transport failed

A message names the place, the cause and the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PredictorError(Exception):
    """Base of all errors; ``exit_code`` is what the command line returns for it."""

    exit_code = 1


class ConfigError(PredictorError):
    """A setting, a file or an argument is wrong.

    Args:
        message: what is wrong and what to do.
        file, line, column: where, counted from 1; shown as ``file:line:column:``.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        self.file, self.line, self.column = file, line, column
        place = ":".join(str(part) for part in (file, line, column) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)


class ModelError(ConfigError):
    """The model cannot be read, built or traced."""


class MissingExtra(ConfigError):
    """An optional package is needed. The message holds the line that installs it."""


class UncoveredOperator(ConfigError):
    """``strict`` was asked for and an operator has no formula, or a kernel no model."""


class BudgetExceeded(PredictorError):
    """The estimate is over the budget that the caller set."""

    exit_code = 3


class UnknownDevice(PredictorError):
    """No device profile has that name."""

    exit_code = 4


class ArtifactError(PredictorError):
    """A profile, table or model bundle is missing, damaged or of another version."""

    exit_code = 4


class MeasurementError(PredictorError):
    """A measurement or its transport failed. What was measured before is kept."""

    exit_code = 5


def suggest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """``" Did you mean 'x'?"`` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" Did you mean '{near[0]}'?" if near else ""
