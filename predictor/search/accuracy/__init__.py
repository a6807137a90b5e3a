"""Accuracy signals: one file each, found by themselves, chosen by a text.

A file that has ``SIGNALS``, names and what makes them, adds its signals; names that end in a colon
take an argument behind it.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable

from predictor.errors import ConfigError, suggest
from predictor.search.accuracy.images import Data
from predictor.search.accuracy.options import Maker, Options
from predictor.search.candidate import Signal

__all__ = ["Options", "find", "makers"]


@functools.cache
def makers() -> dict[str, Maker]:
    """Every signal by its name."""
    found: dict[str, Maker] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for name, maker in getattr(module, "SIGNALS", {}).items():
            if name in found:
                raise ConfigError(f"accuracy signal '{name}' is defined twice")
            found[name] = maker
    return found


def find(
    spec: str,
    *,
    data: Data = None,
    seconds: float | None = None,
    seed: int = 0,
    column: str | None = None,
    canonical: Callable[[str], str] | None = None,
    epochs: int | None = None,
) -> Signal:
    """The accuracy signal that a text stands for.

    Args:
        spec: ``table:FILE.csv``, ``train.py:evaluate`` (also ``python:train.py:evaluate``),
            ``digits``, ``ensemble`` (also ``zero-cost``), ``naswot``, ``synflow``, ``zico``,
            ``gradnorm``, ``params`` or ``flops``.
        data, seconds, seed, column, canonical, epochs: see :class:`Options`.

    Raises:
        ConfigError: an unknown name, or a file or function that is missing or broken.
        MissingExtra: PyTorch or scikit-learn is needed and not installed.
    """
    options = Options(data, seconds, seed, column, canonical, epochs)
    known = makers()
    head, colon, rest = spec.partition(":")
    if spec in known:
        return known[spec]("", options)
    if colon and f"{head}:" in known:
        return known[f"{head}:"](rest, options)
    if spec.rpartition(":")[0].endswith(".py"):
        return known["python:"](spec, options)
    names = [f"{name}FILE.csv" if name == "table:" else name for name in sorted(known)]
    shown = [name for name in names if name != "python:"]
    raise ConfigError(
        f"'{spec}' is no accuracy signal.{_nearest(spec, known)} Signals: {', '.join(shown)}, or a "
        "function of your own as train.py:evaluate"
    )


def _nearest(spec: str, known: dict[str, Maker]) -> str:
    if spec.endswith((".csv", ".csv.gz")):
        return f" Did you mean 'table:{spec}'?"
    if spec.endswith(".py"):
        return f" Did you mean '{spec}:evaluate'?"
    return suggest(spec.partition(":")[0], [name.rstrip(":") for name in known])
