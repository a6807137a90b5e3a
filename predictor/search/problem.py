"""What is searched for: a space, what its candidates cost, and the limits that they must keep."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from predictor.errors import BudgetExceeded
from predictor.front import Limit, Value, Values, figure_name
from predictor.kernels.features import Floats
from predictor.search.pricing import Pricer
from predictor.search.space import SearchSpace

DRAWS = 256
"""Candidates that are drawn and priced at a time while one within the limits is looked for."""
SLOW_DRAWS = 24
"""The same where networks have to be priced whole."""
ROUNDS = 60
"""How often those are varied that miss the limits by least, before none is said to meet them."""
LONGEST_KEY = 200
"""Characters of an architecture in a message."""
NORMAL_90 = 1.6448536
"""Standard deviations from the middle of a normal distribution to the end of its 90 % interval."""
PATIENCE = 8
"""Rounds without a better one that end that."""
KEPT = 16
"""Candidates that are varied."""
FEW, SLOW_FEW = 4096, 256
"""Spaces of so few choices are priced as a whole: what is left of them is then known for certain.
The second holds where networks are priced whole."""


class _Progress:
    """Whether the best of a round still gets better."""

    def __init__(self) -> None:
        self.best, self.since = math.inf, 0

    def ended(self, miss: float) -> bool:
        """No better for :data:`PATIENCE` rounds."""
        self.since = 0 if miss < self.best - 1e-9 else self.since + 1
        self.best = min(self.best, miss)
        return self.since >= PATIENCE


@dataclass
class Problem:
    """A space on targets under limits.

    ``margin`` is how much of a latency's 90 % interval counts on top of it, for limits that are not
    of the interval's end anyway: 0 is the latency itself, 1 the upper end. ``caution`` is what it
    costs to turn out over a latency budget: with 1 such an architecture is worth no more than the
    median one, with 0 nothing is lost.
    """

    space: SearchSpace
    pricer: Pricer
    limits: tuple[Limit, ...] = ()
    margin: float = 0.0
    caution: float = 0.0
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
        """The figures of candidates, ``risk`` among them; each is worked out once."""
        keys = [self.key(values) for values in candidates]
        new = {key: values for key, values in zip(keys, candidates, strict=True)
               if key not in self._figures}  # fmt: skip
        if new:
            found = self.pricer.price(list(new.values()))
            for i, key in enumerate(new):
                own = {name: float(column[i]) for name, column in found.items()}
                self._figures[key] = {**own, "risk": self.risk(own)}
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

    def risk(self, figures: Mapping[str, float]) -> float:
        """Probability that a latency budget will not be kept, the latency being known as its 90 %
        interval says (normal in logarithms)."""
        kept = 1.0
        for limit in self.limits:
            if limit.quantity != "latency_ms" or limit.upper:
                continue
            value = figures[figure_name("latency_ms", limit.device)]
            high = figures[figure_name("high_ms", limit.device)]
            room, spread = math.log(limit.limit / value), math.log(high / value) / NORMAL_90
            if spread > 0:
                kept *= 0.5 * math.erfc(-room / spread / math.sqrt(2))
            elif room < 0:
                kept = 0.0
        return 1 - kept

    def weights(self, figures: Sequence[Mapping[str, float]]) -> Floats:
        """What is left of each candidate's advantage over the median one, given its risk."""
        risks = np.array([own["risk"] for own in figures])
        return np.maximum(0.0, 1 - self.caution * risks)

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
        until they meet them. Of a small space all are known, so that none is missed.
        """
        every = self._every
        if every is not None:
            left = [v for v in self.within(every) if self.key(v) not in seen]
            return chance.sample(left, min(count, len(left)))
        found: dict[str, Values] = {}
        pool: list[Values] = []
        draws = min(SLOW_DRAWS, self.draws)  # most limits are met by one of a few
        progress = _Progress()
        for _ in range(ROUNDS):
            drawn = [self.space.random(chance) for _ in range(draws)]
            drawn += [self.space.mutated(chance.choice(pool), chance, chance.choice((1, 1, 2, 4)))
                      for _ in range(draws if pool and not found else 0)]  # fmt: skip
            draws = min(2 * draws, self.draws)
            figures = self.price(drawn)
            for values, own in zip(drawn, figures, strict=True):
                key = self.key(values)
                if key not in seen and not self.violations(own):
                    found.setdefault(key, values)
            if len(found) >= count:
                break
            best = sorted(zip([self.miss(own) for own in figures], range(len(drawn)), strict=True))
            pool = [drawn[i] for _, i in best[:KEPT]]
            if not found and progress.ended(best[0][0]):
                break
        return list(found.values())[:count]

    @functools.cached_property
    def _every(self) -> list[Values] | None:
        """All architectures of a small space, each once; None of a larger one."""
        space = self.space
        self.price([space.random(Random(0))])  # how it is priced is known from here on
        if space.size > (SLOW_FEW if self.pricer.way == "whole" else FEW):
            return None
        drawn = (space.canonical(dict(zip(space.parameters, chosen, strict=True)))
                 for chosen in itertools.product(*space.parameters.values()))  # fmt: skip
        return list({self.key(values): values for values in drawn}.values())

    def nearest(self, chance: Random) -> tuple[Values, dict[str, float]]:
        """The candidate that misses the limits by least, as far as varying the best finds it."""
        pool = [self.space.random(chance) for _ in range(self.draws)]
        progress = _Progress()
        for _ in range(ROUNDS):
            figures = self.price(pool)
            order = sorted(range(len(pool)), key=lambda i: self.miss(figures[i]))[:KEPT]
            best = [pool[i] for i in order]
            miss = self.miss(figures[order[0]])
            if miss == 0 or progress.ended(miss):
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
        from predictor.report.front_figures import figure_text, limit_text

        key = self.space.key(values)
        key = key if len(key) <= LONGEST_KEY else f"{key[: LONGEST_KEY - 1]}…"
        yield (f"no architecture of {self.space.name} was found within the budgets. The nearest, "
               f"{key}:")  # fmt: skip
        for limit in self.limits:
            over = 100 * self.excess(limit, figures)
            said = "keeps it" if over <= 0 else f"{over:,.1f} % over"
            if self.margin and limit.quantity == "latency_ms" and not limit.upper:
                said += f" with a margin of {self.margin:g}"
            have, most = figure_text(limit.name, figures[limit.name]), limit_text(limit)
            yield f"  {have} of {most}: {said}"
        yield "Raise what is missed, or widen the space."

    @functools.cached_property
    def sizes(self) -> tuple[str, ...]:
        """Figures that say how large a candidate is: MACs, parameters, latencies."""
        return ("macs", "params", *(figure_name("latency_ms", name) for name in self.pricer.names))


def table(figures: Sequence[Mapping[str, float]], names: Sequence[str]) -> Floats:
    """Figures as a matrix (candidates x names)."""
    return np.array([[own[name] for name in names] for own in figures], dtype=np.float64)
