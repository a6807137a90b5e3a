"""``predict-latency predict MODEL``: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from predictor.commands.model import estimate_model, read_config
from predictor.commands.options import (
    Duration,
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
from predictor.commands.output import emit, progress, terminal_style, warn, write_file
from predictor.errors import BudgetExceeded, ConfigError
from predictor.estimate import Check, Estimate


@click.command("predict")
@click.argument("model", shell_complete=complete_file)
@click.option(
    "--device", "-d", metavar="NAME", shell_complete=complete_device,
    help="A name or alias from 'predict-latency devices', or the path of a device.yaml.",
)  # fmt: skip
@target_options
@language_options
@click.option("--batch", "-b", type=click.IntRange(min=1), metavar="N", help=batch_help)
@click.option("--resolution", "-r", type=Resolution(), metavar="PIXELS", help=resolution_help)
@strict_option
@click.option(
    "--fail-over", type=Duration(), metavar="TIME",
    help="Exit with 3 if the latency is over this: 20ms, 0.02s, 500us. "
    "Wins over the file's budget.",
)  # fmt: skip
@click.option(
    "--top", type=click.IntRange(min=0), default=10, show_default=True, metavar="N",
    help="Kernels to list, slowest first.",
)  # fmt: skip
@json_option
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Also write a self-contained HTML report.",
)  # fmt: skip
@debug_option
def command(
    model: str, device: str | None, fail_over: float | None, top: int, as_json: bool,
    html: Path | None, strict: bool, **settings: Any,
) -> int:  # fmt: skip
    """Predict the latency of MODEL on a device.

    MODEL is a config.yaml, model.onnx or model.pt2, a name such as torchvision:resnet50, or - to
    read a YAML config from stdin. Options win over the file.
    """
    if html is not None and Path(model).exists() and html.exists() and html.samefile(model):
        raise ConfigError(f"--html {html}: that is the model itself; choose another file")
    with progress(f"predicting {model}"):
        estimate, requested = estimate_model(
            model, read_config(model), device=device, **given(strict=strict or None, **settings)
        )
    if fail_over is not None:
        estimate = with_latency_limit(estimate, fail_over)
    warn(estimate.warnings)
    emit(_text(estimate, requested, top, as_json))
    if html is not None:
        from predictor.report.html import render as render_html

        write_file(html, render_html(estimate, requested=requested))
        click.echo(f"report written to {html}", err=True)
    return _verdict(estimate)


def with_latency_limit(estimate: Estimate, limit_ms: float) -> Estimate:
    """The estimate checked against a latency limit (ms), which replaces one that it had."""
    others = [check for check in estimate.checks if check.quantity not in ("latency", "latency_ms")]
    mine = Check("latency_ms", estimate.latency_ms, limit_ms, "ms")
    return replace(estimate, checks=(mine, *others))


def _text(estimate: Estimate, requested: str | None, top: int, as_json: bool) -> str:
    if as_json:
        from predictor.report.json_report import render as render_json

        return render_json(estimate)
    from predictor.report.table import render

    return render(estimate, style=terminal_style(), requested=requested, top=top, warnings=False)


def _verdict(estimate: Estimate) -> int:
    over = [check for check in estimate.checks if not check.met]
    if not over:
        return 0
    from predictor.report.table import check_text

    for check in over:
        click.echo(f"over budget: {check_text(check)}", err=True)
    return BudgetExceeded.exit_code
