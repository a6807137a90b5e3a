"""What the parts of networks cost on one target, as rows that add up.

A network's latency is a function of sums over its kernels, so a part that was costed once is a row
of numbers, and a candidate is a sum of rows. Trees of a measured target see what stands in the
caches before a kernel: there, the parts' kernels are kept and joined, which is slower but builds
and fuses nothing either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from predictor.estimate import Source as Origin
from predictor.graph import PRECISIONS, Graph, Kernel
from predictor.kernels.details import WINDOW, Details, details_of
from predictor.kernels.features import Features, Floats, Ints
from predictor.kernels.lowering import Prepared, prepare
from predictor.kernels.rules import FusionRules, load_rules
from predictor.latency.kernelwise import launched
from predictor.latency.physical import floor_s
from predictor.latency.table import Entry

if TYPE_CHECKING:
    from predictor.latency.source import Source
    from predictor.pipeline import Predictor

MACS, PARAMS, MODEL_BYTES, MS, LAUNCHES, OPERATORS, BARE_MS, COUNT = range(8)
"""Columns that add up: multiply-accumulates, parameters, bytes of the model, milliseconds of its
kernels, operators launched and handled, milliseconds that only the roofline covers, kernels. Those
of whole-model experts and of a calibrated target's sources stand behind them."""
OWN = 8
PEAK_BYTES, LARGEST_S, WAIT_MS = range(3)
"""Columns that do not: of peak memory and of the slowest kernel the largest counts (sources have
theirs behind these), of the wait before the first kernel the first (NaN: unknown)."""
OWN_PEAKS = 3


@dataclass(frozen=True, slots=True)
class Rows:
    """Parts x columns: ``sums`` add up, ``peaks`` do not."""

    sums: Floats
    peaks: Floats


@dataclass(frozen=True, slots=True)
class _Kept:
    """The kernels of a part, for targets that look at what stands before each."""

    features: Features
    details: Details
    moved: Floats
    weights: Floats
    entries: tuple[Entry | None, ...]
    covered: Floats


class Ledger:
    """Rows of one target's parts; ``dtype`` is the element type that graphs are best built in."""

    def __init__(self, predictor: Predictor, scope: str = "engine") -> None:
        self.predictor, self.scope, self.coster = predictor, scope, predictor.coster
        target = predictor.target
        mixed = target.precision.startswith("amp")
        self.dtype = "float32" if mixed else PRECISIONS[target.precision]
        rules = predictor.rules
        self.rules: FusionRules = load_rules(rules) if isinstance(rules, str) else rules
        self.sources: tuple[Source, ...] = predictor.blend.sources if predictor.blend else ()
        self.totals = None if self.sources else self.coster.totals
        self.joins = self.coster.kernelwise is not None
        """Kernels are kept, as their latency depends on those before them."""
        self.mixes_kernelwise = any(s.coster.kernelwise is not None for s in self.sources)
        """A source looks at what stands before a kernel: its rows hold within a part only."""
        self.sum_columns = OWN + (self.totals.width if self.totals is not None else 0)
        self.sum_columns += sum(source.width for source in self.sources)
        self.peak_columns = OWN_PEAKS + len(self.sources)
        self._kept: list[_Kept] = []

    def rows(self, graphs: Sequence[Graph]) -> Rows:
        """One row for each part."""
        target, coster, count = self.predictor.target, self.coster, len(graphs)
        ready = [prepare(graph, target.precision, self.rules, target.layout) for graph in graphs]
        kernels, features, owner = _together(ready)
        each = coster.each(kernels, features)
        bare = np.array([source is Origin.ROOFLINE for source in each.sources], dtype=bool)
        sums, peaks = np.zeros((count, self.sum_columns)), np.zeros((count, self.peak_columns))
        for column, values in (
            (MS, each.latency_ms), (LAUNCHES, features.launches), (COUNT, None),
            (BARE_MS, np.where(bare, each.latency_ms, 0.0)),
        ):  # fmt: skip
            sums[:, column] = np.bincount(owner, values, minlength=count)
        np.maximum.at(peaks[:, LARGEST_S], owner, each.times.total)
        for i, one in enumerate(ready):
            wait = coster.first_wait_ms(one.features) if one.kernels else None
            peaks[i, WAIT_MS] = np.nan if wait is None else wait
            peaks[i, PEAK_BYTES] = one.peak_activation_bytes
            sums[i, OPERATORS] = launched(target.runtime, one.graph, one.kernels)
            sums[i, MACS], sums[i, PARAMS] = one.graph.macs, one.graph.params
            sums[i, MODEL_BYTES] = one.stored.model_bytes
        if self.totals is not None:
            floor = floor_s(features, coster.hardware)
            own = self.totals.columns(features, coster.hardware, each.times, floor)
            sums[:, OWN:] = _summed(own, owner, count)
        if self.sources:
            self._add_sources(graphs, sums, peaks)
        if self.joins:
            self._keep(ready)
        return Rows(sums, peaks)

    def _add_sources(self, graphs: Sequence[Graph], sums: Floats, peaks: Floats) -> None:
        at, made = OWN, dict[tuple[str, str], tuple[tuple[Kernel, ...], Features, Ints]]()
        for number, source in enumerate(self.sources):
            under = source.rules, source.target.precision
            if under not in made:
                rules = load_rules(source.rules)
                made[under] = _together([prepare(g, source.target.precision, rules)
                                         for g in graphs])  # fmt: skip
            kernels, features, owner = made[under]
            columns, seconds = source.columns(kernels, features)
            sums[:, at : at + source.width] = _summed(columns, owner, len(graphs))
            np.maximum.at(peaks[:, OWN_PEAKS + number], owner, seconds)
            at += source.width

    def _keep(self, ready: Sequence[Prepared]) -> None:
        table = self.coster.table
        for one in ready:
            kernels = tuple(one.kernels)
            each = self.coster.each(kernels, one.features)
            entries = table.find(kernels) if table is not None else [None] * len(kernels)
            self._kept.append(_Kept(
                one.features, details_of(kernels), one.features.bytes, one.features.weight_bytes,
                tuple(entries), np.array([s is not Origin.ROOFLINE for s in each.sources]),
            ))  # fmt: skip

    def answers(
        self, rows: Rows, chains: Sequence[Sequence[int]], batch: int
    ) -> tuple[Floats, Floats]:
        """Latencies (ms) of networks, and the half-widths of their intervals in logarithms.

        Args:
            rows: networks x columns, added up (or the largest, or the first) over their parts.
            chains: the rows that each network is made of.
            batch: images at once.
        """
        sums, peaks, coster = rows.sums, rows.peaks, self.coster
        kernels_ms, whole = sums[:, MS], None
        bare_ms = sums[:, BARE_MS]
        if self.joins:
            kernels_ms, bare_ms = self._joined(chains)
        share = np.divide(bare_ms, kernels_ms, out=np.zeros(len(sums)), where=kernels_ms > 0)
        if self.sources:
            kernels_ms = self._mixed(rows)
        elif self.totals is not None:
            whole = self.totals.answers(sums[:, OWN:], peaks[:, LARGEST_S], coster.hardware)
            kernels_ms = 1e3 * whole.total_s
        latency = np.zeros(len(sums))
        for wait in {None if np.isnan(value) else float(value) for value in peaks[:, WAIT_MS]}:
            mine = np.isnan(peaks[:, WAIT_MS]) if wait is None else peaks[:, WAIT_MS] == wait
            own = kernels_ms[mine]
            beside = coster.overheads_ms(own, sums[mine, LAUNCHES], sums[mine, OPERATORS],
                                         self.scope, wait)  # fmt: skip
            latency[mine] = own + sum(beside.values())
        errors = None if whole is None else whole.log_error
        return latency, coster.log_errors(share, batch, errors)

    def _mixed(self, rows: Rows) -> Floats:
        """What a calibrated target's mixture says of all kernels."""
        assert self.predictor.blend is not None
        terms, at = [], OWN
        for number, source in enumerate(self.sources):
            columns = rows.sums[:, at : at + source.width]
            terms.append(source.of_sums(columns, rows.peaks[:, OWN_PEAKS + number]))
            at += source.width
        totals = np.column_stack([total for total, _ in terms])
        parts = np.stack([parts for _, parts in terms], axis=1)
        return self.predictor.blend.of_terms(totals, parts)

    def _joined(self, chains: Sequence[Sequence[int]]) -> tuple[Floats, Floats]:
        """Milliseconds of all kernels of each chain, and those that only the roofline covers."""
        assert self.coster.kernelwise is not None
        kept = [self._kept[at] for chain in chains for at in chain]
        counts = [sum(len(self._kept[at].features) for at in chain) for chain in chains]
        owner = np.repeat(np.arange(len(chains)), counts)
        starts = np.repeat(np.cumsum([0, *counts[:-1]]), counts)
        details = replace(
            Details.join([one.details for one in kept]),
            before=_before(np.concatenate([one.moved for one in kept]), starts),
            weights_before=_before(np.concatenate([one.weights for one in kept]), starts),
        )
        features = Features.join([one.features for one in kept])
        times = self.coster.kernelwise.times(features, details)
        ms = times.total * 1e3
        entries = [entry for one in kept for entry in one.entries]
        for i, entry in enumerate(entries):
            if entry is not None:
                ms[i] = entry.combined(float(ms[i]))
        ms = ms * min(1.0, self.coster.scale)
        covered = np.concatenate([one.covered for one in kept])
        bare = np.where(covered, 0.0, ms)
        return (np.bincount(owner, ms, minlength=len(chains)),
                np.bincount(owner, bare, minlength=len(chains)))  # fmt: skip


def _together(ready: Sequence[Prepared]) -> tuple[tuple[Kernel, ...], Features, Ints]:
    """All kernels of several graphs, their features, and the graph that each belongs to."""
    kernels = tuple(kernel for one in ready for kernel in one.kernels)
    owner = np.repeat(np.arange(len(ready)), [len(one.kernels) for one in ready])
    return kernels, Features.join([one.features for one in ready]), owner


def _summed(columns: Floats, owner: Ints, count: int) -> Floats:
    found = np.zeros((count, columns.shape[1]))
    np.add.at(found, owner, columns)
    return found


def _before(values: Floats, starts: Ints) -> Floats:
    """For each kernel, the sum over the few before it, from its network's first on."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    found: Floats = total[at] - total[np.maximum(at - WINDOW, starts)]
    return found
