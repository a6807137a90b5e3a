"""The best of a search measured for real, and the device calibrated with what they took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from predictor.errors import ConfigError, MeasurementError
from predictor.front import SearchResult, Trial, figure_name
from predictor.tables import csv_line

if TYPE_CHECKING:
    from predictor.pipeline import Predictor
    from predictor.search.study import Search

TABLE = "measured.csv"
FEWEST = 3
"""Measurements from which a device is calibrated."""


def measure_winners(
    search: Search, result: SearchResult, count: int, host: str | None, output: Path | None,
    say: Callable[[str], None],
) -> tuple[SearchResult, list[str]]:  # fmt: skip
    """The result with ``measured_ms`` among the figures of what was measured, and notes.

    The measurements are written to ``measured.csv`` in ``output``. The best of the front are taken
    first, then the most accurate within the budgets.

    Raises:
        ConfigError: several devices, or a runtime that is not measured here.
        MeasurementError: nothing could be measured.
    """
    pricer = search.problem.pricer
    if len(pricer.names) > 1:
        raise ConfigError("--measure-top measures on one machine; give one --device")
    if not pricer.space.source:
        raise ConfigError(
            f"--measure-top: architectures of {pricer.space.name} have no name that can be "
            "measured by; write them with --output and profile those files"
        )
    chosen = _chosen(result, count)
    with TemporaryDirectory(prefix="predictor-measure-") as scratch:
        found = _measure(pricer.predictors[0], _names(search, chosen), pricer.batch, host,
                         Path(scratch), say)  # fmt: skip
    if not found:
        raise MeasurementError("--measure-top: none of the winners could be measured")
    device = pricer.names[0]
    trials = tuple(_with(trial, found, device, search) for trial in result.trials)
    result = replace(result, trials=trials)
    notes = _told(search, result, device, output)
    return result, notes


def _chosen(result: SearchResult, count: int) -> list[Trial]:
    once = dict[str, Trial]()
    for trial in result.ranked:
        once.setdefault(trial.key, trial)
    return list(once.values())[:count]


def _names(search: Search, trials: list[Trial]) -> dict[str, str]:
    source = search.problem.space.source
    return {f"{source}:{trial.key}": trial.key for trial in trials}


def _measure(
    predictor: Predictor, names: Mapping[str, str], batch: int, host: str | None, folder: Path,
    say: Callable[[str], None],
) -> dict[str, float]:  # fmt: skip
    """Milliseconds by key."""
    from predictor.profiling import hosts, session
    from predictor.profiling.plan import make_plan
    from predictor.profiling.records import read_measurements

    target, plan = predictor.target, folder / session.PLAN
    draft = make_plan(
        plan, name=predictor.device.name, runtime=target.runtime, precision=target.precision,
        threads=1, device="cuda" if predictor.device.kind == "gpu" else "cpu",
        networks=tuple(names), medley_count=0, kernels=0, say=say,
    )  # fmt: skip
    say(f"measuring {len(draft.tasks)} networks")
    place = hosts.find(host, folder / session.BOARD)
    session.run(plan, folder, place, None, lambda state: say(state.say()))
    measured = read_measurements(plan, folder / session.RESULTS)
    found: dict[str, list[float]] = {}
    for timing in measured.networks:
        key = next((k for name, k in names.items() if timing.label.startswith(name)), None)
        if key is not None and timing.graph.batch == batch:
            found.setdefault(key, []).append(timing.latency_ms)
    return {key: sum(values) / len(values) for key, values in found.items()}


def _with(trial: Trial, found: Mapping[str, float], device: str, search: Search) -> Trial:
    """A trial with what was measured of it; the limit is held against that."""
    if trial.key not in found:
        return trial
    figures = {**trial.figures, figure_name("measured_ms", device): found[trial.key]}
    violations = dict(trial.violations)
    for limit in search.problem.limits:
        if limit.quantity == "latency_ms":
            excess = found[trial.key] / limit.limit - 1
            violations.pop(limit.name, None)
            if excess > 0:
                violations[limit.name] = excess
    return replace(trial, figures=figures, violations=violations)


def _told(search: Search, result: SearchResult, device: str, output: Path | None) -> list[str]:
    column = figure_name("measured_ms", device)
    rows = {t.key: t for t in result.trials if column in t.figures}
    off = [t.figures[column] / t.figures[figure_name("latency_ms", device)] - 1
           for t in rows.values()]  # fmt: skip
    notes = [f"{len(rows)} measured: they took {100 * min(off):+.1f} to {100 * max(off):+.1f} % of "
             "what was predicted"]  # fmt: skip
    late = [t for t in rows.values() if t.violations]
    if late:
        notes.append(f"{len(late)} of them are over budget as measured")
    if output is None:
        return notes
    output.mkdir(parents=True, exist_ok=True)
    source = search.problem.space.source
    lines = [csv_line(["model", "latency_ms"])]
    lines += [csv_line([f"{source}:{t.key}", f"{t.figures[column]:.6g}"]) for t in rows.values()]
    (output / TABLE).write_text("".join(lines), encoding="utf-8")
    if len(rows) >= FEWEST:
        notes.append(f"calibrate the device with them: predict-latency calibrate --measurements "
                     f"{output / TABLE} --base {device} --name {device}-calibrated")  # fmt: skip
    return notes
