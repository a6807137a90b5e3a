"""``predict-latency count MODEL``: MACs, FLOPs, parameters and bytes, without a device."""

from __future__ import annotations

from typing import Any

import click

from predictor.commands.model import misspelt_command, read_config
from predictor.commands.options import (
    Resolution,
    batch_help,
    complete_file,
    debug_option,
    json_option,
    resolution_help,
)
from predictor.commands.output import emit, progress, terminal_style, warn
from predictor.errors import ModelError
from predictor.report.units import Size


@click.command("count")
@click.argument("model", shell_complete=complete_file)
@click.option(
    "--batch", "-b", "batches", type=click.IntRange(min=1), multiple=True, metavar="N",
    help=f"{batch_help} Several give one row each.",
)  # fmt: skip
@click.option(
    "--resolution", "-r", "resolutions", type=Resolution(), multiple=True,
    metavar="PIXELS", help=f"{resolution_help} Several give one row each.",
)  # fmt: skip
@click.option(
    "--by", type=click.Choice(["layer", "module"]), default="layer", show_default=True,
    help="Rows: one a layer, or one a module with all that is inside it.",
)  # fmt: skip
@click.option(
    "--depth", type=click.IntRange(min=1), metavar="N",
    help="Cut module paths to N parts; 1 is the model's direct children.",
)  # fmt: skip
@json_option
@debug_option
def command(
    model: str, batches: tuple[int, ...], resolutions: tuple[Size, ...], by: str,
    depth: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Count MACs, FLOPs, parameters and bytes of MODEL, layer by layer.

    MODEL is what predict takes. With several batches or resolutions one line for each combination
    is printed instead of the layers.
    """
    from predictor.counting import count

    config = read_config(model)
    with progress(f"counting {model}"):
        try:
            rows: dict[str, Any] = {"by": by, "depth": depth, "config": config}
            counts = [
                (count(model, batch=batch, resolution=size, **rows), size)
                for batch in batches or (None,)
                for size in resolutions or (None,)
            ]
        except ModelError as error:
            remark = misspelt_command(model)
            raise (ModelError(f"{error}{remark}") if remark else error) from error
    from predictor.report import count_table

    missing = count_table.unknown_text(counts[0][0])
    sweep = len(counts) > 1
    if missing and (sweep or as_json):  # the table of layers says it itself
        warn([missing])
    if as_json:
        from predictor.report.json_report import dumps

        plain = [{**c.to_dict(), "resolution": size} for c, size in counts]
        schema = count_table.SCHEMA_VERSION
        emit(dumps({"schema_version": schema, "counts": plain} if sweep else plain[0]))
    elif sweep:
        emit(count_table.render_sweep(counts, style=terminal_style()))
    else:
        emit(count_table.render(counts[0][0], style=terminal_style()))
