"""``predict-latency compare``: models, devices, batches and resolutions side by side."""

from __future__ import annotations

from itertools import product
from typing import Any

import click

from predictor.commands.model import estimate_model, read_config
from predictor.commands.options import (
    Resolution,
    batch_help,
    complete_device,
    complete_file,
    debug_option,
    given,
    json_option,
    language_options,
    resolution_help,
    strict_option,
    target_options,
)
from predictor.commands.output import emit, progress, terminal_style, warn
from predictor.report.units import Size


@click.command("compare")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", shell_complete=complete_file)
@click.option(
    "--device", "-d", "devices", multiple=True, metavar="NAME", shell_complete=complete_device,
    help="A device; several are compared. [default: each config file's]",
)  # fmt: skip
@target_options
@language_options
@click.option(
    "--batch", "-b", "batches", type=click.IntRange(min=1), multiple=True, metavar="N",
    help=f"{batch_help} Several are compared.",
)  # fmt: skip
@click.option(
    "--resolution", "-r", "resolutions", type=Resolution(), multiple=True,
    metavar="PIXELS", help=f"{resolution_help} Several are compared.",
)  # fmt: skip
@strict_option
@click.option(
    "--top", type=click.IntRange(min=0), default=15, show_default=True, metavar="N",
    help="Layers to list when two estimates are compared, those that differ most.",
)  # fmt: skip
@json_option
@debug_option
def command(
    models: tuple[str, ...], devices: tuple[str, ...], batches: tuple[int, ...],
    resolutions: tuple[Size, ...], top: int, as_json: bool, strict: bool, **settings: Any,
) -> None:  # fmt: skip
    """Compare models, devices, batches or resolutions.

    Every combination is predicted, one line each. Two estimates are also set side by side layer by
    layer.
    """
    from predictor.report import comparison

    cases = []
    warnings: dict[str, None] = {}
    grid = product(models, devices or (None,), batches or (None,), resolutions or (None,))
    configs = {model: read_config(model) for model in models}
    with progress(f"comparing {', '.join(models)}"):
        for model, device, batch, size in grid:
            options = given(batch=batch, resolution=size, strict=strict or None, **settings)
            estimate, _ = estimate_model(model, configs[model], device=device, **options)
            cases.append(comparison.Case(estimate, size))
            for text in estimate.warnings:
                warnings[f"{estimate.model} on {estimate.device}: {text}"] = None
    warn(warnings)
    if as_json:
        from predictor.report.json_report import dumps

        emit(dumps(comparison.to_dict(cases)))
    else:
        emit(comparison.render(cases, style=terminal_style(), top=top))
