"""What candidates cost, thousands a second: latencies with their intervals, MACs, memory.

A network that is a chain of parts is priced part by part. What a part costs may depend on where it
stands: an activation at its start may be fused into what comes before. So a space is tried out on
each set of targets first: on random candidates, parts priced apart (``apart``) must give what the
whole network is predicted to take; else each part is priced behind its predecessor (``pairs``);
and where neither agrees, networks are priced whole (``whole``), which builds each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from predictor.errors import ConfigError
from predictor.front import Values, figure_name
from predictor.frontends.families.parts import Part
from predictor.kernels.features import Floats
from predictor.pause import collector_paused
from predictor.search.ledger import (
    MACS,
    MODEL_BYTES,
    PARAMS,
    PEAK_BYTES,
    WAIT_MS,
    Ledger,
    PartGraphs,
    Place,
    Rows,
)
from predictor.search.space import SearchSpace

if TYPE_CHECKING:
    from predictor.pipeline import Predictor

TRIED = 6
"""Random candidates that a way of pricing must get right before it is used."""
SAME = 1e-9
"""Relative difference that counts as equal: the order of summation moves the last digits."""
CHUNK = 512
"""Candidates added up at once: their rows fit the caches."""
SIZES = ("macs", "flops", "params", "model_mb", "memory_mb")
"""Figures that every candidate has, beside those of each device."""

Figures = dict[str, Floats]
"""One column a figure (see :class:`predictor.front.Trial`), one entry a candidate."""


@dataclass(slots=True)
class _Table:
    """A growing array, a row for each part at each input shape."""

    columns: int
    rows: Floats = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.rows = np.zeros((256, self.columns))

    def add(self, rows: Floats) -> None:
        while self.count + len(rows) > len(self.rows):
            self.rows = np.vstack([self.rows, np.zeros_like(self.rows)])
        self.rows[self.count : self.count + len(rows)] = rows
        self.count += len(rows)


class _Inseparable(Exception):
    """Parts cannot be priced the way that was tried."""


class Pricer:
    """Figures of candidates of one space on one or several targets.

    Args:
        space: the space.
        predictors: the targets, each under the name of its device in the figures.
        batch: images at once.
        scope: ``engine`` or ``call``.
        names: what the figures call the devices; their own names by default.

    Raises:
        ConfigError: no target, or two of one name.
    """

    def __init__(
        self, space: SearchSpace, predictors: Sequence[Predictor], *, batch: int = 1,
        scope: str = "engine", names: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.space, self.predictors, self.batch, self.scope = space, tuple(predictors), batch, scope
        self.names = tuple(names) or tuple(p.device.name for p in predictors)
        if not predictors or len(set(self.names)) < len(self.names):
            raise ConfigError("a search needs devices, each named once")
        self.way = ""
        self._whole: dict[str, dict[str, float]] = {}
        self._begin("apart")

    def _begin(self, way: str) -> None:
        self._ledgers = [Ledger(predictor, self.scope) for predictor in self.predictors]
        self._sums = [_Table(ledger.sum_columns) for ledger in self._ledgers]
        self._peaks = [_Table(ledger.peak_columns) for ledger in self._ledgers]
        self._precisions = set().union(*(ledger.precisions for ledger in self._ledgers))
        self._states: dict[Place, int] = {}
        self._shapes: list[Place] = []
        self._known: dict[tuple[int, Part | None, Part], tuple[int, int]] = {}
        self._waiting: list[PartGraphs] = []
        self._before: list[int] = []
        """Of each row, the row that it stands behind and that is not counted again; -1: none."""
        self._pairs = way == "pairs"

    def price(self, candidates: Sequence[Values]) -> Figures:
        """The figures of ``candidates``."""
        if not candidates:
            return {name: np.zeros(0) for name in self.figures}
        if not self.way:
            self._choose_way()
        with collector_paused():
            if self.way != "whole":
                try:
                    return self._of_parts(candidates)
                except _Inseparable:  # no random candidate had such a part
                    self.way = "whole"
            return self._of_whole(candidates)

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures."""
        return (*SIZES, *(figure_name(quantity, name) for name in self.names
                          for quantity in ("latency_ms", "low_ms", "high_ms")))  # fmt: skip

    @property
    def parts(self) -> int:
        """How many parts are known, each at each shape of its input."""
        return len(self._before)

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets, each with what makes it another one."""
        return tuple(
            " ".join((name, one.target.name, one.device.power_mode or "")).strip()
            for name, one in zip(self.names, self.predictors, strict=True)
        )

    # -- which way ------------------------------------------------------------------------------

    def _choose_way(self) -> None:
        chance = Random(0)
        tried = [self.space.random(chance) for _ in range(TRIED)]
        self.way = "whole"
        if self.space.chain(tried[0]) is None:
            return
        wanted = self._of_whole(tried)
        for way in ("apart", "pairs"):
            if way == "pairs" and any(ledger.joins for ledger in self._ledgers):
                return  # kernels that are kept cannot be taken off again
            self._begin(way)
            try:
                found = self._of_parts(tried)
            except _Inseparable:
                continue
            if all(np.allclose(found[name], wanted[name], rtol=SAME, atol=0) for name in wanted):
                self.way = way
                return

    def _of_whole(self, candidates: Sequence[Values]) -> Figures:
        rows = []
        for values in candidates:
            key = self.space.key(values)
            if key not in self._whole:
                self._whole[key] = self.exactly(values)
            rows.append(self._whole[key])
        return {name: np.array([row[name] for row in rows]) for name in self.figures}

    def exactly(self, values: Values) -> dict[str, float]:
        """The figures of one candidate from its whole graph, as ``predict`` gives them."""
        graph = self.space.graph(values, self.batch)
        found: dict[str, float] = {"model_mb": 0.0, "memory_mb": 0.0}
        for name, predictor in zip(self.names, self.predictors, strict=True):
            said = predictor.estimate(graph, scope=self.scope)
            low, high = said.interval_ms
            found |= {
                "macs": said.macs, "flops": said.flops, "params": said.params,
                "model_mb": max(found["model_mb"], said.model_mb),
                "memory_mb": max(found["memory_mb"], said.memory_needed_mb),
                figure_name("latency_ms", name): said.latency_ms,
                figure_name("low_ms", name): low, figure_name("high_ms", name): high,
            }  # fmt: skip
        return found

    # -- by parts -------------------------------------------------------------------------------

    def _of_parts(self, candidates: Sequence[Values]) -> Figures:
        parts: list[Figures] = []
        chains = [self._walk(values) for values in candidates]
        self._cost_waiting()
        for start in range(0, len(chains), CHUNK):
            parts.append(self._of_chains(chains[start : start + CHUNK]))
        return {name: np.concatenate([part[name] for part in parts]) for name in self.figures}

    def _of_chains(self, chains: Sequence[Sequence[int]]) -> Figures:
        flat = np.array([row for chain in chains for row in chain], dtype=np.int64)
        starts = np.cumsum([0, *(len(chain) for chain in chains[:-1])])
        found: Figures = {}
        model, memory = np.zeros(len(chains)), np.zeros(len(chains))
        tables = zip(self.names, self._ledgers, self._sums, self._peaks, strict=True)
        for name, ledger, own_sums, own_peaks in tables:
            sums = np.add.reduceat(own_sums.rows[flat], starts, axis=0)
            picked = own_peaks.rows[flat]
            peaks = np.maximum.reduceat(picked, starts, axis=0)
            peaks[:, WAIT_MS] = picked[starts, WAIT_MS]
            latency, width = ledger.answers(Rows(sums, peaks), chains, self.batch)
            weights = sums[:, MODEL_BYTES] / 1e6
            model = np.maximum(model, weights)
            memory = np.maximum(memory, weights + peaks[:, PEAK_BYTES] / 1e6)
            found[figure_name("latency_ms", name)] = latency
            found[figure_name("low_ms", name)] = latency * np.exp(-width)
            found[figure_name("high_ms", name)] = latency * np.exp(width)
        found |= {"macs": sums[:, MACS], "flops": 2 * sums[:, MACS], "params": sums[:, PARAMS],
                  "model_mb": model, "memory_mb": memory}  # fmt: skip
        return found

    def _walk(self, values: Values) -> list[int]:
        """The rows of a candidate; parts that are met for the first time wait to be costed."""
        chain = self.space.chain(values)
        assert chain is not None
        shape = ((self.batch, *self.space.input_shape(values)), self.space.input_dtype(), "")
        state = self._states.get(shape)
        if state is None:
            state = self._state(shape)
        known, pairs = self._known, self._pairs
        before: Part | None = None
        came_from = state
        rows = []
        for _, part in chain:
            found = known.get((came_from, before, part))
            if found is None:
                found = self._meet(came_from, state, before, part)
            rows.append(found[0])
            if pairs:
                came_from, before, state = state, part, found[1]
            else:
                came_from = state = found[1]
        return rows

    def _state(self, shape: Place) -> int:
        if shape not in self._states:
            self._states[shape] = len(self._shapes)
            self._shapes.append(shape)
        return self._states[shape]

    def _meet(self, came_from: int, state: int, before: Part | None, part: Part) -> tuple[int, int]:
        """A row for a part that enters at ``state``, behind ``before`` that enters at
        ``came_from``; and the state that it leaves."""
        alone = -1 if before is None else self._alone(came_from, before)
        chain = [("a", before), ("b", part)] if before is not None else [("b", part)]
        graphs = PartGraphs(self._shapes[state if before is None else came_from], chain)
        self._refuse_reaching(graphs, first=before is None and not self._before)
        row = len(self._before)
        self._waiting.append(graphs)
        self._before.append(alone)
        found = row, self._state(graphs.leaves(self._precisions))
        self._known[came_from if before is not None else state, before, part] = found
        return found

    def _refuse_reaching(self, graphs: PartGraphs, *, first: bool) -> None:
        """Raise where a part's fusion reaches further than this way of pricing looks."""
        one = graphs.chain[0][1]
        empty = len(graphs.chain) == 1 and not self._pairs
        if len(graphs.chain) == 2:
            alone = PartGraphs(graphs.place, [("a", one)])
            empty = not alone.at(self._ledgers[0].precision).ops
        if first and not self._pairs:
            empty = False  # nothing stands before the first part
        if any(ledger.reaches_out(graphs.at(ledger.precision), empty) for ledger in self._ledgers):
            raise _Inseparable

    def _alone(self, state: int, part: Part) -> int:
        key = (state, None, part)
        if key not in self._known:
            self._known[key] = self._meet(state, state, None, part)
        return self._known[key][0]

    def _cost_waiting(self) -> None:
        if not self._waiting:
            return
        first = len(self._before) - len(self._waiting)
        tables = zip(self._ledgers, self._sums, self._peaks, strict=True)
        for ledger, sums, peaks in tables:
            made = ledger.rows(self._waiting)
            sums.add(made.sums)
            peaks.add(made.peaks)
            for row in range(first, len(self._before)):
                if self._before[row] >= 0:
                    sums.rows[row] -= sums.rows[self._before[row]]
        self._waiting = []
