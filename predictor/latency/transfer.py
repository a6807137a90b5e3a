"""A target from a few measurements: sources, their terms, which of them to mix, and the result.

Without a base every known target is a source (:mod:`predictor.latency.mixture` weighs them); with
one it is the only source, and the rows decide how much more than one factor they carry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from predictor.errors import ArtifactError
from predictor.graph import Graph, Kernel
from predictor.kernels.features import Features, Floats, featurize
from predictor.kernels.fusion import fuse
from predictor.kernels.lowering import lower
from predictor.latency.mixture import Fitted, Mixture, Spreads
from predictor.latency.physical import to_parameters
from predictor.latency.source import BOUNDS, PARTS, Source

if TYPE_CHECKING:
    from predictor.latency.bundle import Bundle

HOST_US = 0.01
"""The host's chain of launches is in what was measured: it adds nothing."""
MOST_SOURCES = 6
"""Sources that are mixed: those that best follow the measurements after one factor. More are no
better, and each costs a prediction about 0.2 ms."""
RULES = 2
"""Sets of fusion rules among them, each with the parts of its best source as directions; each
costs a prediction as much as fusing the graph once."""
SIMPLER = 0.98
FEWEST_ROWS = {"scale": 0, "bounds": 5, "parts": 6, "sources": 4}
"""Rows that a kind of choice needs; with fewer it cannot be told from noise."""


class Reader:
    """Kernels and features of graphs under any rules and precision, each made once."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self.graphs = graphs
        self._fused: dict[tuple[int, str, str], tuple[Sequence[Kernel], Features]] = {}

    def fused(self, index: int, rules: str, precision: str) -> tuple[Sequence[Kernel], Features]:
        """Those of one graph."""
        label = (index, rules, precision)
        if label not in self._fused:
            kernels = fuse(lower(self.graphs[index], precision, rules), rules)
            self._fused[label] = (kernels, featurize(kernels))
        return self._fused[label]

    def bring(self, index: int, rules: str, precision: str, kernels: Sequence[Kernel]) -> None:
        """Take kernels of a graph that were fused elsewhere."""
        self._fused[index, rules, precision] = (kernels, featurize(kernels))

    def terms(self, sources: Sequence[Source]) -> tuple[Floats, Floats]:
        """Totals (graphs x sources) and parts (graphs x sources x :data:`PARTS`), milliseconds."""
        totals = np.zeros((len(self.graphs), len(sources)))
        parts = np.zeros((*totals.shape, len(PARTS)))
        for i in range(len(self.graphs)):
            for j, source in enumerate(sources):
                fused = self.fused(i, source.rules, source.target.precision)
                totals[i, j], parts[i, j] = source.terms(*fused)
        return totals, parts


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the measurements carry.

    ``kept`` are indices of sources, ``directions`` (index of a source, index of a part); ``kind``
    is ``scale``, ``bounds``, ``parts`` or ``sources``; ``left_out_log_errors`` are
    log(predicted / measured) of each row, the rest of the rows having chosen the weights.
    """

    kind: str
    kept: tuple[int, ...]
    directions: tuple[tuple[int, int], ...]
    mixture: Mixture
    left_out_log_errors: Floats

    def inputs(self, totals: Floats, parts: Floats) -> tuple[Floats, Floats]:
        """The columns that the mixture takes, of all sources' totals and parts."""
        columns = [parts[:, source, part] for source, part in self.directions]
        shape = (len(totals), 0)
        return totals[:, list(self.kept)], np.column_stack(columns) if columns else np.zeros(shape)

    def of_kept(self) -> Chosen:
        """The same choice among the kept sources alone."""
        at = {index: place for place, index in enumerate(self.kept)}
        directions = tuple((at[source], part) for source, part in self.directions)
        return replace(self, kept=tuple(range(len(at))), directions=directions)

    def predict(self, totals: Floats, parts: Floats) -> Floats:
        """Milliseconds of models whose terms are given."""
        return self.mixture.predict(*self.inputs(totals, parts))


def choose(
    totals: Floats, parts: Floats, measured_ms: Floats, rules: Sequence[str], *,
    spreads: Spreads | None = None,
) -> Chosen:  # fmt: skip
    """The mixture of sources, or the correction of a single one, that the rows carry.

    Every row is left out once, sources ranked anew without it; a larger kind is taken where it
    brings the error of the rows left out below :data:`SIMPLER` of a simpler one's.

    Args:
        totals: rows x sources, milliseconds.
        parts: rows x sources x :data:`PARTS`.
        measured_ms: the measurements.
        rules: the fusion rules of each source.
    """
    best: tuple[str, Floats] | None = None
    for kind in kinds(totals.shape[1], len(measured_ms)):
        errors = _left_out(kind, totals, parts, measured_ms, rules, spreads)
        if best is None or _rms(errors) < SIMPLER * _rms(best[1]):
            best = (kind, errors)
    assert best is not None
    return replace(fit_kind(best[0], totals, parts, measured_ms, rules, spreads),
                   left_out_log_errors=best[1])  # fmt: skip


def kinds(sources: int, rows: int) -> list[str]:
    """What so many rows can tell apart, the simplest first."""
    names = ("scale", "sources") if sources > 1 else ("scale", "bounds", "parts")
    return [name for name in names if rows >= FEWEST_ROWS[name]]


def fit_kind(
    kind: str, totals: Floats, parts: Floats, measured_ms: Floats, rules: Sequence[str],
    spreads: Spreads | None = None,
) -> Chosen:  # fmt: skip
    """The weights of one kind of choice, on all rows."""
    kept, directions = _choice(kind, ranked(totals, measured_ms), rules)
    chosen = Chosen(kind, kept, directions, _NO_MIXTURE, np.zeros(0))
    fitted = Fitted(*chosen.inputs(totals, parts), measured_ms, spreads)
    return replace(chosen, mixture=fitted.mixture())


def ranked(totals: Floats, measured_ms: Floats) -> list[int]:
    """Sources by how well one factor on them explains the measurements, the best first."""
    ratio = np.log(measured_ms)[:, None] - np.log(totals)
    return [int(i) for i in np.argsort(ratio.std(axis=0), kind="stable")]


def _left_out(
    kind: str, totals: Floats, parts: Floats, measured_ms: Floats, rules: Sequence[str],
    spreads: Spreads | None,
) -> Floats:  # fmt: skip
    """log(predicted / measured) of every row from the others."""
    errors = np.zeros(len(measured_ms))
    for i in range(len(measured_ms)):
        rest = np.delete(np.arange(len(measured_ms)), i)
        fitted = fit_kind(kind, totals[rest], parts[rest], measured_ms[rest], rules, spreads)
        errors[i] = np.log(fitted.predict(totals[i : i + 1], parts[i : i + 1])[0] / measured_ms[i])
    return errors


def _choice(
    kind: str, order: Sequence[int], rules: Sequence[str]
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Sources and directions of a kind, ``order`` being the ranking."""
    if kind == "scale":
        return (order[0],), ()
    if kind == "bounds":
        return (order[0],), tuple((order[0], PARTS.index(name)) for name in BOUNDS)
    if kind == "parts":
        return (order[0],), tuple((order[0], part) for part in range(len(PARTS)))
    kinds_of_rules = list(dict.fromkeys(rules[source] for source in order))[:RULES]
    kept = [source for source in order if rules[source] in kinds_of_rules][:MOST_SOURCES]
    leaders = [next((s for s in kept if rules[s] == name), None) for name in kinds_of_rules]
    directions = [(s, part) for s in leaders if s is not None for part in range(len(PARTS))]
    return tuple(kept), tuple(directions)


def _rms(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))


_NO_MIXTURE = Mixture(np.zeros(0), np.zeros(0), np.zeros(0), 0.0)


class Blend:
    """A calibrated target's mixture, ready to predict.

    Its sources lie in the target's own folder, so that it stays what it is when the package's
    targets change.
    """

    def __init__(
        self, sources: Sequence[Source], weights: Floats, bases: Floats,
        directions: Sequence[tuple[int, int, float]],
    ) -> None:  # fmt: skip
        self.sources = tuple(sources)
        self.directions = tuple((source, part) for source, part, _ in directions)
        self.mixture = Mixture(weights, np.array([w for _, _, w in directions]), bases, 0.0)

    @classmethod
    def load(cls, bundle: Bundle, folder: str | Path) -> Blend:
        """The mixture that a bundle describes; ``folder`` is its device's.

        Raises:
            ArtifactError: the description or a source is damaged.
        """
        from predictor.errors import ConfigError
        from predictor.hardware import Device

        data = bundle.blend or {}
        try:
            sources, weights, bases = [], [], []
            for entry in data["sources"]:
                facts = {**entry["device"], "folder": str(folder)}
                device = Device.from_dict(facts)
                sources.append(Source.of(device, device.targets[0]))
                weights.append(_finite(entry["weight"]))
                bases.append(_finite(entry["base"]))
            directions = [
                (range(len(sources))[entry["source"]], PARTS.index(entry["part"]),
                 _finite(entry["weight"]))
                for entry in data["directions"]
            ]  # fmt: skip
        except (KeyError, TypeError, ValueError, IndexError, ConfigError) as error:
            raise ArtifactError(
                f"{bundle.target}: the mixture of sources is damaged ({error}); calibrate it anew: "
                "predict-latency calibrate"
            ) from None
        if not sources or min(bases) < 0 or sum(bases) <= 0:
            raise ArtifactError(f"{bundle.target}: the mixture has no base; calibrate it anew: "
                                "predict-latency calibrate")  # fmt: skip
        return cls(sources, np.array(weights), np.array(bases), directions)

    def total_ms(
        self, graph: Graph, kernels: Sequence[Kernel] | None = None, rules: str = "",
        precision: str = "fp32",
    ) -> float:  # fmt: skip
        """Latency of ``graph`` in milliseconds, before what a call from Python adds.

        ``kernels`` may bring the graph as fused by ``rules`` in ``precision``, which saves doing it
        again.
        """
        reader = Reader([graph])
        if kernels is not None:
            reader.bring(0, rules, precision, kernels)
        return float(self.of_terms(*reader.terms(self.sources))[0])

    def of_terms(self, totals: Floats, parts: Floats) -> Floats:
        """The same of networks (rows) from their terms, see :meth:`Reader.terms`."""
        columns = [parts[:, source, part] for source, part in self.directions]
        directions = np.column_stack(columns) if columns else np.zeros((len(totals), 0))
        return self.mixture.predict(totals, directions)


def described(chosen: Chosen, sources: Sequence[Source], files: Sequence[str]) -> dict[str, Any]:
    """What a bundle's ``blend`` holds; ``files`` names the copied bundle of each kept source."""
    entries = []
    for at, (index, file) in enumerate(zip(chosen.kept, files, strict=True)):
        source = sources[index]
        target = replace(source.target, bundle=file, default=True)
        device = replace(source.device, targets=(target,), folder=None)
        facts = device.to_dict()
        facts.pop("folder")
        entries.append({
            "name": source.name, "device": facts,
            "weight": float(chosen.mixture.sources[at]), "base": float(chosen.mixture.base[at]),
        })  # fmt: skip
    directions = [
        {"source": chosen.kept.index(source), "part": PARTS[part], "weight": float(weight)}
        for (source, part), weight in zip(chosen.directions, chosen.mixture.directions, strict=True)
        if weight
    ]
    return {"kind": chosen.kind, "sources": entries, "directions": directions}


def bundle_of(
    sources: Sequence[Source], main: int, chosen: Chosen, target: str, blend: Mapping[str, Any],
    log_error_90: float, smallest_batch: int,
) -> Bundle:  # fmt: skip
    """The bundle of the new target: kernels as the main source has them, totals as mixed."""
    from predictor.latency.bundle import Bundle

    source = sources[main]
    parameters = to_parameters(source.coster.theta)
    del parameters["call_us"]  # what was measured has it in it already
    errors = chosen.left_out_log_errors
    percent = 100 * np.abs(np.expm1(errors))
    card = {
        "n": len(errors),
        "protocols": {"row": {
            "n": len(errors), "median_pct": round(float(np.median(percent)), 1),
            "mean_pct": round(float(np.mean(percent)), 1),
            "within_10_pct": round(100 * float(np.mean(percent <= 10)), 1),
            "within_20_pct": round(100 * float(np.mean(percent <= 20)), 1),
        }},
    }  # fmt: skip
    names = [sources[index].name for index in chosen.kept]
    bundles = [sources[index].coster.bundle for index in chosen.kept]
    cited = dict.fromkeys(c for bundle in bundles if bundle for c in bundle.citations)
    return Bundle(
        target, source.rules, parameters, {"family": round(log_error_90, 4)},
        tuple(sorted(source.coster.covered)),
        f"calibrated with {len(errors)} measurements from {', '.join(names)}",
        tuple(cited), host_us=HOST_US, card=card, blend=blend, smallest_batch=smallest_batch,
    )  # fmt: skip


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise ValueError(f"{str(value)[:40]} is no weight")
    return float(value)
