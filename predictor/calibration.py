"""A few measurements in, a target in the user's folder out; see ``docs/calibrate.md``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from predictor.errors import ArtifactError, ConfigError, PredictorError
from predictor.hardware import Device

if TYPE_CHECKING:
    from predictor.graph import Graph
    from predictor.latency.source import Source
    from predictor.latency.transfer import Chosen

SIMULATED = "simulated"
FEWEST = 3
"""Measurements that a calibration needs."""
POOL = (
    "timm:resnet18", "timm:resnet50", "timm:mobilenetv2_100", "timm:efficientnet_b0",
    "timm:vit_tiny_patch16_224", "timm:convnext_tiny", "timm:vgg11", "timm:densenet121",
    "timm:mobilenetv3_large_100", "timm:regnety_004", "ofa:ks=3,e=3,d=2", "ofa:ks=7,e=6,d=4",
    "fbnet:6-6-6-6-6-6-6-6-6-6-6-6-6-6-6-6-6-6-6-6-6-6",
    "nasbench201:|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    "nasbench201:|skip_connect~0|+|skip_connect~0|skip_connect~1|"
    "+|skip_connect~0|skip_connect~1|skip_connect~2|",
)  # fmt: skip
"""Networks of many kinds to measure next, where the table names none without a latency."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A row that counts: its place, what was measured, and milliseconds (None: not measured)."""

    line: int
    model: str
    graph: Graph
    latency_ms: float | None


@dataclass(slots=True)
class Measurements:
    """All rows of a table: those that count, candidates without a latency, and what is wrong."""

    rows: list[Measured] = field(default_factory=list)
    candidates: list[Measured] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    precision: str | None = None


def read_measurements(
    path: str | os.PathLike[str], *, settings: Mapping[str, Any] | None = None,
    allow_python: bool = False,
) -> Measurements:  # fmt: skip
    """The table's rows. A wrong row is named in ``faults``, ``file:line: what``; others count.

    Args:
        path: a CSV file, or ``-`` for stdin, with the columns model and latency_ms, and optionally
            batch, resolution and precision.
        settings: batch, resolution and precision of rows that do not say.
        allow_python: let rows name Python files, whose code is then run.

    Raises:
        ConfigError: the file is no such table.
    """
    from predictor.batching import task_of
    from predictor.tables import open_table

    found = Measurements()
    seen: dict[tuple[Any, ...], int] = {}
    with open_table(path) as table:
        table.need("model")
        table.need("latency_ms")
        at = table.columns.index("latency_ms")
        for row in table.rows():
            task = task_of(row, table, (), dict(settings or {}), python=allow_python)
            place = f"{table.name}:{row.line}"
            try:
                latency_ms = _latency(row.cells[at].strip()) if not row.fault else None
                if task.fault:
                    raise ConfigError(task.fault)
                _one_precision(found, task.settings.get("precision"))
                graph = _graph(task.model, task.settings, allow_python)
            except PredictorError as error:
                found.faults.append(f"{place}: {' '.join(str(error).split())}")
                continue
            measured = Measured(row.line, task.model, graph, latency_ms)
            if latency_ms is None:
                found.candidates.append(measured)
                continue
            label = (task.model, graph.batch, tuple(spec.shape for spec in graph.input_specs))
            if label in seen:
                _merge(found, seen[label], measured, place)
                continue
            seen[label] = len(found.rows)
            found.rows.append(measured)
    return found


def _latency(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 1e-6 <= value <= 1e9):
        raise ConfigError(f"latency_ms '{text[:40]}': use milliseconds above 0, such as 12.5; "
                          "leave it empty for a model that is not measured yet")  # fmt: skip
    return value


def _one_precision(found: Measurements, precision: str | None) -> None:
    if precision is None:
        return
    if found.precision not in (None, precision):
        raise ConfigError(f"precision {precision}, not {found.precision} as above: a target has "
                          "one; calibrate another target with these rows")  # fmt: skip
    found.precision = precision


def _graph(model: str, settings: Mapping[str, Any], allow_python: bool) -> Graph:
    from predictor.frontends.load import load_graph

    if model == "-":
        raise ConfigError("'-' is no model here: a table names files and models")
    if model.startswith("python:") and not allow_python:
        raise ConfigError(f"{model}: a Python file is run only if the command line says so; add "
                          "--allow-python if you trust the files of this table")  # fmt: skip
    return load_graph(model, batch=settings.get("batch"), resolution=settings.get("resolution"))


def _merge(found: Measurements, index: int, again: Measured, place: str) -> None:
    """Two figures of one model are one: their geometric mean."""
    first = found.rows[index]
    assert first.latency_ms is not None
    assert again.latency_ms is not None
    mean = math.sqrt(first.latency_ms * again.latency_ms)
    found.rows[index] = replace(first, latency_ms=mean)
    found.remarks.append(f"{place}: {again.model} stands in line {first.line} too; the mean of "
                         f"both counts once: {mean:.4g} ms")  # fmt: skip


# --- sources -------------------------------------------------------------------------------------


def base_source(base: str, runtime: str | None, precision: str | None,
                facts: Device | None) -> Source:  # fmt: skip
    """The target that a calibration starts from; with ``facts``, on that device's hardware.

    Raises:
        UnknownDevice, ConfigError, ArtifactError: as the names say.
    """
    from predictor.device import load_device
    from predictor.latency.source import Source

    device = load_device(base)
    source = Source.of(device, device.target(runtime, precision))
    if source.is_mixture:
        raise ConfigError(f"{source.name} is a calibration of yours: give the base that it was "
                          "made from, with all measurements in one table")  # fmt: skip
    return source if facts is None else source.on(facts)


def all_sources(
    warn: Callable[[str], None], facts: Device | None = None, runtime: str | None = None,
    precision: str | None = None,
) -> list[Source]:  # fmt: skip
    """Every target with figures of its own; a damaged one is left out with a warning.

    With ``facts`` also what is known of such a device without any figure (its kind's shared fit, a
    sibling's), and targets of its runtime and precision on its hardware.
    """
    from predictor.device import devices
    from predictor.latency.source import Source

    found = []
    for device in devices():
        for target in device.targets:
            if target.bundle is None or target.tier not in ("measured", "calibrated"):
                continue
            try:
                source = Source.of(device, target)
            except ArtifactError as error:
                warn(f"{device.name} {target.name} is left out: {error}")
                continue
            if source.has_own_figures:
                found.append(source)
    return found if facts is None else [*found, *_on_facts(found, facts, runtime, precision)]


def _on_facts(
    found: Sequence[Source], facts: Device, runtime: str | None, precision: str | None
) -> list[Source]:
    from predictor.latency.source import Source

    target = facts.target(runtime, precision)
    own = Source.of(facts, target)
    moved = [
        source.on(facts) for source in found
        if source.device.kind == facts.kind and source.target.runtime == target.runtime
        and source.target.precision == target.precision
    ]  # fmt: skip
    return [own, *moved] if own.coster.bundle is not None else moved


# --- calibrating ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Calibration:
    """A target to be, before it is written.

    ``main`` is the index of the source whose kernels, rules and (without a device file) facts the
    target takes; ``log_error_90`` the half-width of its 90 % interval as a logarithm.
    """

    sources: Sequence[Source]
    chosen: Chosen
    main: int
    log_error_90: float
    as_base_log_errors: Sequence[float]
    measurements: Measurements

    @property
    def predicted_ms(self) -> list[float]:
        """What the other rows say of each row."""
        return [
            float(row.latency_ms * math.exp(error))  # type: ignore[operator]
            for row, error in zip(self.measurements.rows, self.chosen.left_out_log_errors,
                                  strict=True)
        ]  # fmt: skip


def calibrate(
    measurements: Measurements, sources: Sequence[Source], *, runtime: str | None = None,
    precision: str | None = None,
) -> Calibration:  # fmt: skip
    """Choose what the measurements carry.

    ``runtime`` and ``precision`` name the new target, where they are known: its kernels are then
    fused as a source of that kind fuses them.

    Raises:
        ConfigError: fewer than :data:`FEWEST` rows count, or there is no source.
    """
    import numpy as np

    from predictor.latency.intervals import few_rows_quantile
    from predictor.latency.transfer import Reader, choose, ranked

    rows = measurements.rows
    if len(rows) < FEWEST:
        faults = "".join(f"\n  {fault}" for fault in measurements.faults[:20])
        raise ConfigError(f"{len(rows)} rows count, and a calibration needs {FEWEST} or more: "
                          f"measure other models too{faults}")  # fmt: skip
    if not sources:
        raise ConfigError("there is no target to start from; give --base NAME, see: "
                          "predict-latency devices")  # fmt: skip
    measured = np.array([row.latency_ms for row in rows], dtype=float)
    totals, parts = Reader([row.graph for row in rows]).terms(sources)
    rules = [source.rules for source in sources]
    chosen = choose(totals, parts, measured, rules)
    order = ranked(totals, measured)
    alike = [i for i in order if runtime in (None, sources[i].target.runtime)
             and precision in (None, sources[i].target.precision)]  # fmt: skip
    # A simulator may follow the figures best; the new target's kernels are a real runtime's.
    real = [i for i in alike or order if sources[i].target.runtime != SIMULATED]
    main = (real or alike or order)[0]
    return Calibration(sources, chosen, main, few_rows_quantile(list(chosen.left_out_log_errors)),
                       list(np.log(totals[:, main] / measured)), measurements)  # fmt: skip


def suggestions(calibration: Calibration, count: int) -> list[tuple[str, float]]:
    """Models to measure next, and the relative uncertainty (standard deviation) of each now.

    Taken one after the other, each as if it were measured then: from the table's rows without a
    latency, else from :data:`POOL` as far as it can be built here.
    """
    import numpy as np

    from predictor.latency.mixture import most_uncertain
    from predictor.latency.transfer import Reader, fit_kind, kinds

    pool = calibration.measurements.candidates or list(_pool(calibration.measurements))
    if not pool or not count:
        return []
    sources, rows = calibration.sources, calibration.measurements.rows
    measured = np.array([row.latency_ms for row in rows], dtype=float)
    terms = Reader([row.graph for row in rows]).terms(sources)
    # What one factor hides is open too: the largest kind knows of it.
    chosen = fit_kind(kinds(len(sources), len(rows))[-1], *terms, measured,
                      [source.rules for source in sources])  # fmt: skip
    sources = [sources[i] for i in chosen.kept]
    here = chosen.inputs(*terms)
    chosen = chosen.of_kept()
    there = chosen.inputs(*Reader([row.graph for row in pool]).terms(sources))
    picked = most_uncertain(here, there, measured, count)
    return [(pool[i].model, spread) for i, spread in picked]


def _pool(measurements: Measurements) -> Iterator[Measured]:
    from predictor.frontends.load import load_graph

    have = {row.model for row in measurements.rows}
    for name in POOL:
        if name in have:
            continue
        try:
            yield Measured(0, name, load_graph(name, batch=measurements.rows[0].graph.batch), None)
        except PredictorError:
            continue  # an optional package is not installed: others are as good
