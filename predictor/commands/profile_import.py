"""``predict-latency profile import``: measurements that other tools took."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from predictor.commands.options import (
    Resolution,
    batch_help,
    complete_file,
    complete_precision,
    complete_runtime,
    debug_option,
    json_option,
    resolution_help,
)
from predictor.commands.output import emit, progress, terminal_style, warn
from predictor.graph import PRECISIONS
from predictor.report.layout import Column, table

if TYPE_CHECKING:
    from predictor.profiling.importing import Imported

SCHEMA_VERSION = 1
"""Raised when a key of the JSON output changes its meaning or goes away."""
FORMATS = ("auto", "trtexec", "onnxruntime", "tflite", "csv")
LISTED = 20
"""Layers without a kernel that are listed; --json has all."""


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=complete_file)
@click.option("--name", required=True, metavar="NAME", help="What the measured device is called.")
@click.option(
    "--runtime", metavar="NAME", shell_complete=complete_runtime,
    help="What ran the models. [default: what the format says; a table needs it]",
)  # fmt: skip
@click.option(
    "--precision", metavar="NAME", shell_complete=complete_precision,
    help=f"One of {', '.join(PRECISIONS)}. [default: what the file says, if it does]",
)  # fmt: skip
@click.option(
    "--model", metavar="MODEL", shell_complete=complete_file,
    help="The network that the files are about, a path or a name; a table names its own.",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="auto", show_default=True,
    help="What wrote the files; told from their contents otherwise.",
)  # fmt: skip
@click.option("--batch", "-b", type=click.IntRange(min=1), metavar="N", help=batch_help)
@click.option("--resolution", "-r", type=Resolution(), metavar="PIXELS", help=resolution_help)
@json_option
@debug_option
def command(files: tuple[str, ...], form: str, as_json: bool, **settings: Any) -> None:
    """Take measurements from FILES that other tools wrote into your own data.

    FILES are what trtexec exports (times, profile and layer info of one run may be given
    together), profiles of ONNX Runtime, output of TFLite's benchmark_model, or tables with the
    columns model and latency_ms. A file that is not understood in full is refused, and a file that
    was imported before changes nothing.
    """
    from predictor.profiling.import_networks import Target
    from predictor.profiling.importing import import_files

    with progress(f"importing {files[0]}" + (" and others" if len(files) > 1 else "")):
        found = import_files(files, Target(**settings), form)
    warn(found.remarks)
    if as_json:
        from predictor.report.json_report import dumps

        emit(dumps(as_dict(found)))
    else:
        emit(_text(found))


def as_dict(found: Imported) -> dict[str, Any]:
    """What the command prints with ``--json``."""
    total = found.layers_ms
    return {
        "schema_version": SCHEMA_VERSION,
        "name": found.name,
        "folders": [str(folder) for folder in found.folders],
        "networks": [
            {"model": network.cells["model"], "runtime": network.runtime,
             "precision": network.precision, "batch": network.cells["batch"] or None,
             "resolution": network.cells["resolution"] or None,
             "latency_ms": network.latency.latency_ms, "median_ms": network.latency.median_ms,
             "p10_ms": network.latency.p10_ms, "p90_ms": network.latency.p90_ms,
             "n": network.latency.n or None, "first_run_ms": network.latency.first_run_ms}
            for network in found.networks
        ],
        "layers": [
            {"name": match.layer.name, "type": match.layer.type,
             "latency_ms": match.layer.latency_ms, "share": match.layer.latency_ms / total,
             "kernel": match.kernel.name if match.kernel else None, "why": match.why or None}
            for match in found.matches
        ],
        "mapped_share": found.mapped_ms / total if total else None,
        "new_networks": found.new_networks,
        "new_kernels": found.new_kernels,
        "remarks": list(found.remarks),
    }  # fmt: skip


def _text(found: Imported) -> str:
    style = terminal_style()
    lines = [f"{found.name}: {_plural(len(found.networks), 'network')}, {found.new_networks} new"]
    if found.networks:
        columns = [Column("model", right=False, shrinks=True), Column("target", right=False),
                   Column("ms"), Column("p10"), Column("p90"), Column("n")]  # fmt: skip
        cells = [
            [network.cells["model"], f"{network.runtime}-{network.precision}",
             f"{network.latency.latency_ms:.4g}", _figure(network.latency.p10_ms),
             _figure(network.latency.p90_ms), str(network.latency.n or "")]
            for network in found.networks[:LISTED]
        ]  # fmt: skip
        lines += ["", *table(columns, cells, style)]
        if len(found.networks) > LISTED:
            lines.append(f"and {len(found.networks) - LISTED} more")
    if found.matches:
        lines += ["", *_layers(found)]
    for folder in found.folders:
        lines += ["", f"Kept in {folder}"]
    if found.networks:
        path = shlex.quote(str(found.folders[-1] / "networks.csv"))
        lines.append(f"Use it: predict-latency calibrate --measurements {path} --name {found.name}")
    return "\n".join(lines)


def _layers(found: Imported) -> list[str]:
    """How much of the time is known by kernel, and what is not, the longest first."""
    total = found.layers_ms
    left = sorted((m for m in found.matches if m.kernel is None),
                  key=lambda match: -match.layer.latency_ms)  # fmt: skip
    share = 100 * found.mapped_ms / total if total else 0.0
    lines = [f"{len(found.matches) - len(left)} of {_plural(len(found.matches), 'layer')} are "
             f"kernels of the model, {share:.1f} % of {total:.4g} ms; {found.new_kernels} are "
             "new in the table."]  # fmt: skip
    if not left:
        return lines
    columns = [Column("not mapped", right=False, shrinks=True), Column("ms"), Column("share"),
               Column("because", right=False)]  # fmt: skip
    cells = [
        [match.layer.name or match.layer.type, f"{match.layer.latency_ms:.4g}",
         f"{100 * match.layer.latency_ms / total:.1f} %" if total else "", match.why]
        for match in left[:LISTED]
    ]  # fmt: skip
    lines += ["", *table(columns, cells, terminal_style())]
    if len(left) > LISTED:
        rest = sum(match.layer.latency_ms for match in left[LISTED:])
        lines.append(f"and {len(left) - LISTED} more, {100 * rest / total:.1f} % of the time")
    return lines


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
