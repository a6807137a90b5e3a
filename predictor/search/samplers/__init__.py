"""What to evaluate next: one strategy a file, found by themselves, chosen by a word.

A file that has ``SAMPLERS``, words and functions that make an Optuna sampler for a problem, adds
its strategies. Those that inherit :class:`~predictor.search.samplers.proposer.Proposer` propose
candidates within the limits only, as they ask what candidates cost; Optuna's own are told the
limits as constraints of each trial.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from predictor.errors import ConfigError, suggest

if TYPE_CHECKING:
    import optuna

    from predictor.search.problem import Problem

    Maker = Callable[[Problem, int, bool], optuna.samplers.BaseSampler]
    """Of a problem, a seed, and whether the whole front is looked for instead of the best."""

DEFAULT = "learned"


@functools.cache
def makers() -> dict[str, Maker]:
    """Every strategy by its word."""
    found: dict[str, Maker] = {}
    for info in pkgutil.iter_modules(__path__):
        found |= getattr(importlib.import_module(f"{__name__}.{info.name}"), "SAMPLERS", {})
    return dict(sorted(found.items()))


def find(word: str, problem: Problem, seed: int, *, front: bool) -> optuna.samplers.BaseSampler:
    """The strategy of that word.

    Raises:
        ConfigError: there is none.
    """
    known = makers()
    if word not in known:
        raise ConfigError(f"unknown sampler '{word}'.{suggest(word, known)} Samplers: "
                          f"{', '.join(known)}")  # fmt: skip
    return known[word](problem, seed, front)
