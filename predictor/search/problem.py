"""What is searched for: a space, what its candidates cost, and the limits that they must keep."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from predictor.errors import BudgetExceeded
from predictor.front import Limit, Value, Values, figure_name
from predictor.kernels.features import Floats
from predictor.search.pricing import Figures, Pricer
from predictor.search.space import SearchSpace

DRAWS = 256
"""Candidates that are drawn and priced at a time while one within the limits is looked for."""
SLOW_DRAWS = 24
"""The same where networks have to be priced whole."""
ROUNDS = 60
"""How often those are varied that miss the limits by least, before none is said to meet them."""
KEPT = 16
"""Candidates that are varied."""


@dataclass
class Problem:
    """A space on targets under limits.

    ``margin`` is how much of a latency's 90 % interval counts on top of it, for limits that are not
    of the interval's end anyway: 0 is the latency itself, 1 the upper end.
    """

    space: SearchSpace
    pricer: Pricer
    limits: tuple[Limit, ...] = ()
    margin: float = 0.0
    _figures: dict[str, dict[str, float]] = field(default_factory=dict, repr=False)
    _keys: dict[tuple[Value, ...], str] = field(default_factory=dict, repr=False)

    @property
    def draws(self) -> int:
        """How many candidates are cheap enough to be looked at for one that is evaluated."""
        return SLOW_DRAWS if self.pricer.way == "whole" else DRAWS

    def key(self, values: Values) -> str:
        """The space's key, remembered: writing one takes longer than pricing."""
        token = tuple([values[name] for name in self.space.parameters])
        found = self._keys.get(token)
        if found is None:
            found = self._keys[token] = self.space.key(values)
        return found

    def price(self, candidates: Sequence[Values]) -> list[dict[str, float]]:
        """The figures of candidates; those that were asked for before are remembered."""
        keys = [self.key(values) for values in candidates]
        new = {key: values for key, values in zip(keys, candidates, strict=True)
               if key not in self._figures}  # fmt: skip
        if new:
            found = self.pricer.price(list(new.values()))
            for i, key in enumerate(new):
                self._figures[key] = {name: float(column[i]) for name, column in found.items()}
        return [self._figures[key] for key in keys]

    def violations(self, figures: Mapping[str, float]) -> dict[str, float]:
        """By how much each limit that is missed is exceeded (0.1: 10 %)."""
        found = {}
        for limit in self.limits:
            over = self.excess(limit, figures)
            if over > 0:
                found[limit.name] = over
        return found

    def excess(self, limit: Limit, figures: Mapping[str, float]) -> float:
        """What is asked for over a limit, less 1; negative within it."""
        value = figures[limit.name]
        if limit.quantity == "latency_ms" and not limit.upper:
            high = figures[figure_name("high_ms", limit.device)]
            value *= (high / value) ** self.margin if value else 1.0
        return value / limit.limit - 1

    def miss(self, figures: Mapping[str, float]) -> float:
        """How far from the limits a candidate is; 0 within all."""
        return sum(math.log1p(over) for over in self.violations(figures).values())

    def within(self, candidates: Sequence[Values]) -> list[Values]:
        """Those that keep all limits."""
        return [values for values, figures in zip(candidates, self.price(candidates), strict=True)
                if not self.violations(figures)]  # fmt: skip

    def feasible(self, chance: Random, count: int, seen: set[str]) -> list[Values]:
        """Up to ``count`` candidates within the limits whose keys are not in ``seen``.

        Drawn evenly where that finds enough; else those that miss the limits by least are varied
        until they meet them.
        """
        found: dict[str, Values] = {}
        pool: list[Values] = []
        for _ in range(ROUNDS):
            drawn = [self.space.random(chance) for _ in range(self.draws)]
            drawn += [self.space.mutated(chance.choice(pool), chance, chance.choice((1, 1, 2, 4)))
                      for _ in range(self.draws if pool and not found else 0)]  # fmt: skip
            figures = self.price(drawn)
            for values, own in zip(drawn, figures, strict=True):
                key = self.key(values)
                if key not in seen and not self.violations(own):
                    found.setdefault(key, values)
            if len(found) >= count:
                break
            best = sorted(zip([self.miss(own) for own in figures], range(len(drawn)), strict=True))
            pool = [drawn[i] for _, i in best[:KEPT]]
        return list(found.values())[:count]

    def nearest(self, chance: Random) -> tuple[Values, dict[str, float]]:
        """The candidate that misses the limits by least, as far as varying the best finds it."""
        pool = [self.space.random(chance) for _ in range(self.draws)]
        for _ in range(ROUNDS):
            figures = self.price(pool)
            order = sorted(range(len(pool)), key=lambda i: self.miss(figures[i]))[:KEPT]
            best = [pool[i] for i in order]
            if self.miss(figures[order[0]]) == 0:
                break
            pool = best + [self.space.mutated(chance.choice(best), chance, chance.choice((1, 2, 4)))
                           for _ in range(self.draws)]  # fmt: skip
        return best[0], self.price(best[:1])[0]

    def refuse_unmeetable(self, seed: int = 0) -> None:
        """Raise where no candidate within the limits can be found.

        Raises:
            BudgetExceeded: says by how much the nearest candidate misses which limits.
        """
        if not self.limits or self.feasible(Random(seed), 1, set()):
            return
        values, figures = self.nearest(Random(seed + 1))
        if not self.violations(figures):
            return
        raise BudgetExceeded("\n".join(self._misses(values, figures)))

    def _misses(self, values: Values, figures: Mapping[str, float]) -> Iterator[str]:
        yield (f"no architecture of {self.space.name} was found within the budgets. The nearest, "
               f"{self.space.key(values)[:200]}:")  # fmt: skip
        for limit in self.limits:
            over = self.excess(limit, figures)
            said = f"misses it by {over:.1%}" if over > 0 else "keeps it"
            value = figures[limit.name]
            yield f"  {limit.name}: {value:.6g}, budget {limit.limit:.6g}: {said}"
        yield "Raise what is missed, or widen the space."

    @functools.cached_property
    def sizes(self) -> tuple[str, ...]:
        """Figures that say how large a candidate is: MACs, parameters, latencies."""
        return ("macs", "params", *(figure_name("latency_ms", name) for name in self.pricer.names))


def table(figures: Sequence[Mapping[str, float]], names: Sequence[str]) -> Floats:
    """Figures as a matrix (candidates x names)."""
    return np.array([[own[name] for name in names] for own in figures], dtype=np.float64)


def columns_of(figures: Figures, names: Sequence[str]) -> Floats:
    """The same of columns."""
    return np.column_stack([figures[name] for name in names])
