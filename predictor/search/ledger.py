"""What the parts of networks cost on one target, as rows that add up.

A network's latency is a function of sums over its kernels, so a part that was costed once is a row
of numbers, and a candidate is a sum of rows. Trees of a measured target see what stands in the
caches before a kernel: there, the parts' kernels are kept and joined, which is slower but builds
and fuses nothing either.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from predictor.builder import GraphBuilder
from predictor.estimate import Source as Origin
from predictor.frontends.families.parts import Part, assembled
from predictor.graph import PRECISIONS, Graph, Kernel, Op, TensorSpec
from predictor.kernels.autocast import autocast
from predictor.kernels.details import WINDOW, Details, details_of
from predictor.kernels.features import Features, Floats, Ints
from predictor.kernels.lowering import Prepared, prepare
from predictor.kernels.rules import FusionRules, load_rules, words
from predictor.latency.kernelwise import launched
from predictor.latency.physical import floor_s
from predictor.latency.table import Entry

if TYPE_CHECKING:
    from predictor.latency.source import Source
    from predictor.pipeline import Predictor

Place = tuple[tuple[int, ...], str, str]
"""Shape and element type of the tensor between two parts (floats are called float32), and ``half``
where mixed precision keeps it so."""
MACS, PARAMS, MODEL_BYTES, MS, LAUNCHES, OPERATORS, BARE_MS = range(7)
"""Columns that add up: multiply-accumulates, parameters, bytes of the model, milliseconds of its
kernels, operators launched and handled, milliseconds that only the roofline covers. Those
of whole-model experts and of a calibrated target's sources stand behind them."""
OWN = 7
PEAK_BYTES, LARGEST_S, WAIT_MS = range(3)
"""Columns that do not: of peak memory and of the slowest kernel the largest counts (sources have
theirs behind these), of the wait before the first kernel the first (NaN: unknown)."""
OWN_PEAKS = 3


class PartGraphs:
    """A short chain of parts as a graph, built once for every precision that is asked for."""

    def __init__(self, place: Place, chain: Sequence[tuple[str, Part]]) -> None:
        self.place, self.chain = place, chain
        self._made: dict[tuple[str, str], Graph] = {}

    def at(self, precision: str) -> Graph:
        """The graph as it is best prepared for ``precision``."""
        shape, dtype, state = self.place
        floats = _floats(precision)
        own = dtype
        if dtype == "float32":
            own = PRECISIONS[precision] if state and is_mixed(precision) else floats
        if (floats, own) not in self._made:
            builder = GraphBuilder("part", dtype=floats)
            self._made[floats, own] = assembled(builder, shape, self.chain, own)
        return self._made[floats, own]

    def leaves(self, precisions: Collection[str]) -> Place:
        """What comes out, where it is asked for in these precisions."""
        graph = self.at(min(precisions))
        mixed = min(filter(is_mixed, precisions), default=None)
        state = ""
        if mixed is not None:
            half = PRECISIONS[mixed]
            state = "half" if _output(autocast(self.at(mixed), half)).dtype == half else ""
        spec = _output(graph)
        return spec.shape, "float32" if spec.is_float else spec.dtype, state


def is_mixed(precision: str) -> bool:
    """Whether operators choose their element type by themselves."""
    return precision.startswith("amp")


def _floats(precision: str) -> str:
    return "float32" if is_mixed(precision) else PRECISIONS[precision]


def _output(graph: Graph) -> TensorSpec:
    for op in reversed(graph.ops):
        for tensor, spec in zip(op.output_ids, op.outputs, strict=True):
            if tensor == graph.output_ids[0]:
                return spec
    return graph.input_specs[0]  # no operator at all


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
    covered: npt.NDArray[np.bool_]


class Ledger:
    """Rows of one target's parts."""

    def __init__(self, predictor: Predictor, scope: str = "engine") -> None:
        self.predictor, self.scope, self.coster = predictor, scope, predictor.coster
        target = predictor.target
        self.precision = target.precision
        rules = predictor.rules
        self.rules: FusionRules = load_rules(rules) if isinstance(rules, str) else rules
        self.sources: tuple[Source, ...] = predictor.blend.sources if predictor.blend else ()
        self.precisions = {self.precision, *(s.target.precision for s in self.sources)}
        """What graphs are asked for in: the target's, and its sources' own."""
        self.totals = None if self.sources else self.coster.totals
        self.joins = self.coster.kernelwise is not None
        """Kernels are kept, as their latency depends on those before them."""
        self.sum_columns = OWN + (self.totals.width if self.totals is not None else 0)
        self.sum_columns += sum(source.width for source in self.sources)
        self.peak_columns = OWN_PEAKS + len(self.sources)
        self._kept: list[_Kept] = []

    def reaches_out(self, graph: Graph, empty: bool) -> bool:
        """Whether what stands before a part changes how its operators are fused, or the other way.

        ``empty`` says that the parts before it may have no operator at all.
        """
        rules = self.rules
        if rules.zeros != "run" and any(op.attrs.get("zero") for op in graph.ops):
            return True  # a tensor known to be zero takes away what comes after it too
        if not empty:
            return False
        outside = set(graph.input_ids)
        for op in graph.ops:
            if not outside.intersection(op.input_ids):
                continue
            if rules.views.get(op.kind) == "free" or op.kind in rules.drop:
                outside.update(op.output_ids)
            elif op.kind == "concat" and rules.concat != "kernel":
                return True
            elif outside.issuperset(op.input_ids) and joins_others(op, rules):
                return True  # an operator joins the latest kernel that made one of its inputs
        return False

    def rows(self, parts: Sequence[PartGraphs]) -> Rows:
        """One row for each part."""
        target, coster, count = self.predictor.target, self.coster, len(parts)
        ready = [prepare(one.at(self.precision), self.precision, self.rules, target.layout)
                 for one in parts]  # fmt: skip
        kernels, features, owner = _together(ready)
        each = coster.each(kernels, features)
        bare = np.array([source is Origin.ROOFLINE for source in each.sources], dtype=bool)
        sums, peaks = np.zeros((count, self.sum_columns)), np.zeros((count, self.peak_columns))
        for column, values in (
            (MS, each.latency_ms), (LAUNCHES, features.launches),
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
            self._add_sources(parts, sums, peaks)
        if self.joins:
            self._keep(ready, ~bare)
        return Rows(sums, peaks)

    def _add_sources(self, parts: Sequence[PartGraphs], sums: Floats, peaks: Floats) -> None:
        at, made = OWN, dict[tuple[str, str], tuple[tuple[Kernel, ...], Features, Ints]]()
        for number, source in enumerate(self.sources):
            under = source.rules, source.target.precision
            if under not in made:
                rules = load_rules(source.rules)
                precision = source.target.precision
                made[under] = _together([prepare(one.at(precision), precision, rules)
                                         for one in parts])  # fmt: skip
            kernels, features, owner = made[under]
            columns, seconds = source.columns(kernels, features)
            sums[:, at : at + source.width] = _summed(columns, owner, len(parts))
            np.maximum.at(peaks[:, OWN_PEAKS + number], owner, seconds)
            at += source.width

    def _keep(self, ready: Sequence[Prepared], covered: npt.NDArray[np.bool_]) -> None:
        """Keep the kernels of parts; ``covered`` says of all of them what the roofline is not alone
        for."""
        table, start = self.coster.table, 0
        for one in ready:
            kernels = tuple(one.kernels)
            end = start + len(kernels)
            entries = table.find(kernels) if table is not None else [None] * len(kernels)
            self._kept.append(_Kept(
                one.features, details_of(kernels), one.features.bytes, one.features.weight_bytes,
                tuple(entries), covered[start:end],
            ))  # fmt: skip
            start = end

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
        total: Floats = np.bincount(owner, ms, minlength=len(chains)).astype(np.float64)
        uncovered: Floats = np.bincount(owner, bare, minlength=len(chains)).astype(np.float64)
        return total, uncovered


def joins_others(op: Op, rules: FusionRules) -> bool:
    """Whether an operator can join a kernel that was begun before it."""
    if op.attrs.get("alone"):
        return False
    both = words(op)
    return any(word in allowed for allowed in rules.follow.values() for word in both)


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
