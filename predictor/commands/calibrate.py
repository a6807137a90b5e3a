"""``predict-latency calibrate``: a target of your own from a few measurements."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from predictor.commands.options import (
    allow_python_option,
    complete_device,
    complete_file,
    complete_precision,
    complete_runtime,
    debug_option,
    given,
    json_option,
    row_sizes,
)
from predictor.commands.output import emit, progress, terminal_style, warn
from predictor.errors import ConfigError
from predictor.graph import PRECISIONS
from predictor.report.layout import Column, table

if TYPE_CHECKING:
    from predictor.calibration import Calibration, Measurements
    from predictor.hardware import Device

SCHEMA_VERSION = 1
"""Raised when a key of the JSON output changes its meaning or goes away."""
KINDS = {
    "scale": "one factor on {names}",
    "bounds": "{names} with factors for compute, memory and launches",
    "parts": "{names} with factors for classes of kernels",
    "sources": "a mixture of {names}",
}


@click.command("calibrate")
@click.option(
    "--measurements", "-m", required=True, metavar="TABLE", shell_complete=complete_file,
    help="CSV with the columns model and latency_ms (milliseconds), and optionally batch, "
    "resolution and precision; - is stdin.",
)  # fmt: skip
@click.option("--name", required=True, metavar="NAME", help="What the new device is called.")
@click.option(
    "--base", metavar="DEVICE", shell_complete=complete_device,
    help="Start from this device alone. [default: the known targets that follow the table best]",
)  # fmt: skip
@click.option(
    "--runtime", metavar="NAME", shell_complete=complete_runtime,
    help="What ran the models. [default: that of the base or of the best source]",
)  # fmt: skip
@click.option(
    "--precision", metavar="NAME", shell_complete=complete_precision,
    help=f"One of {', '.join(PRECISIONS)}. [default: the table's, or that of the base]",
)  # fmt: skip
@click.option(
    "--device", "facts", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE", help="A device.yaml with the facts of the hardware.",
)  # fmt: skip
@row_sizes
@click.option(
    "--suggest", type=click.IntRange(min=0), default=3, show_default=True, metavar="N",
    help="Say which N models to measure next: rows without a latency, or some of ours.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a device of yours that has this name.")
@allow_python_option
@json_option
@debug_option
def command(
    measurements: str, name: str, base: str | None, runtime: str | None, precision: str | None,
    facts: Path | None, suggest: int, force: bool, allow_python: bool, as_json: bool,
    **settings: Any,
) -> None:  # fmt: skip
    """Make a target from three measured models or more.

    It is kept in your own folder and found by its name afterwards. Rows that cannot count are
    named; the others do.
    """
    from predictor import calibrated, calibration
    from predictor.device import load_device

    name = calibrated.free_name(name, force=force)
    device = load_device(facts) if facts else None
    notes: list[str] = []
    with progress(f"calibrating {name}"):
        rows = calibration.read_measurements(
            measurements, settings=given(**settings), allow_python=allow_python
        )
        precision = _precision(rows, precision)
        if base is not None:
            sources = [calibration.base_source(base, runtime, precision, device)]
        else:
            sources = calibration.all_sources(notes.append, device, runtime, precision)
        found = calibration.calibrate(rows, sources, runtime=runtime, precision=precision)
        written = calibrated.write_target(found, name, device, runtime, precision)
        next_ones = calibration.suggestions(found, suggest)
    warn([*notes, *rows.remarks, *(f"this row does not count: {text}" for text in rows.faults)])
    if as_json:
        from predictor.report.json_report import dumps

        emit(dumps(as_dict(found, written, next_ones)))
    else:
        emit(_text(found, written, next_ones))


def _precision(rows: Measurements, asked: str | None) -> str | None:
    if asked is not None and rows.precision not in (None, asked):
        raise ConfigError(f"--precision {asked}, but the table says {rows.precision}; "
                          "leave one of them out")  # fmt: skip
    return asked or rows.precision


def as_dict(
    found: Calibration, device: Device, next_ones: list[tuple[str, float]]
) -> dict[str, Any]:
    """What the command prints with ``--json``."""
    rows = found.measurements.rows
    return {
        "schema_version": SCHEMA_VERSION,
        "device": device.name,
        "target": device.target().name,
        "folder": device.folder,
        "kind": found.chosen.kind,
        "sources": [found.sources[index].name for index in found.chosen.kept],
        "n": len(rows),
        "rows": [
            {"line": row.line, "model": row.model, "latency_ms": row.latency_ms,
             "predicted_ms": said, "main_source_ms": row.latency_ms * math.exp(first)}
            for row, said, first in zip(rows, found.predicted_ms, found.as_base_log_errors,
                                        strict=True)
            if row.latency_ms is not None
        ],
        "not_counted": list(found.measurements.faults),
        "mean_pct": _mean_pct(found.chosen.left_out_log_errors),
        "main_source_mean_pct": _mean_pct(found.as_base_log_errors),
        "interval_90_factor": math.exp(found.log_error_90),
        "measure_next": [
            {"model": model, "uncertainty_pct": 100 * spread} for model, spread in next_ones
        ],
    }  # fmt: skip


def _mean_pct(log_errors: Any) -> float:
    return 100 * sum(abs(math.expm1(error)) for error in log_errors) / len(log_errors)


def _text(found: Calibration, device: Device, next_ones: list[tuple[str, float]]) -> str:
    style = terminal_style()
    data = as_dict(found, device, next_ones)
    columns = [Column("model", right=False, shrinks=True), Column("measured ms"),
               Column("from the others ms"), Column("error")]  # fmt: skip
    cells = [
        [row["model"], f"{row['latency_ms']:.4g}", f"{row['predicted_ms']:.4g}",
         f"{100 * (row['predicted_ms'] / row['latency_ms'] - 1):+.1f} %"]
        for row in data["rows"]
    ]  # fmt: skip
    names = ", ".join(data["sources"])
    lines = [
        f"{device.name} {data['target']}: {KINDS[data['kind']].format(names=names)}",
        "",
        *table(columns, cells, style),
        "",
        f"{data['n']} measurements. Each predicted from the others: mean error "
        f"{data['mean_pct']:.1f} % ({data['main_source_mean_pct']:.1f} % with "
        f"{found.sources[found.main].name} as it is).",
        f"90 % interval: a factor of {data['interval_90_factor']:.2f} either way, tier calibrated.",
    ]
    if next_ones:
        lines += ["", "Most would be learned from measuring:"]
        lines += [f"  {model}  (uncertain by {100 * spread:.0f} %)" for model, spread in next_ones]
    return "\n".join([*lines, "", f"Use it: predict-latency MODEL --device {device.name}"])
