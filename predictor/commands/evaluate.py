"""``predict-latency evaluate``: how well a measured device is predicted."""

from __future__ import annotations

from typing import Any

import click

from predictor.commands.options import (
    complete_device,
    complete_precision,
    complete_runtime,
    debug_option,
    json_option,
)
from predictor.commands.output import emit, terminal_style
from predictor.errors import MeasurementError

SCHEMA_VERSION = 1
"""Raised when a key of the JSON output changes its meaning or goes away."""


@click.command("evaluate")
@click.argument("name", shell_complete=complete_device)
@click.option(
    "--runtime", metavar="NAME", shell_complete=complete_runtime,
    help="Only the targets of this runtime. [default: all that were measured]",
)  # fmt: skip
@click.option(
    "--precision", metavar="NAME", shell_complete=complete_precision,
    help="Only the targets of this precision.",
)  # fmt: skip
@json_option
@debug_option
def command(name: str, runtime: str | None, precision: str | None, as_json: bool) -> None:
    """Show the accuracy cards of a measured device.

    They hold the errors on families of networks that were left out, beside how far two timings of
    one network lie apart and beside simpler predictors. 'predict-latency train' makes them.
    """
    from predictor.device import load_device
    from predictor.latency.bundle import load_card
    from predictor.training.card import card_text

    device = load_device(name)
    cards: dict[str, Any] = {}
    for target in device.targets:
        wanted = runtime in (None, target.runtime) and precision in (None, target.precision)
        card = load_card(device, target) if wanted and target.tier == "measured" else None
        if card is not None:
            cards[target.name] = card
    if not cards:
        raise MeasurementError(
            f"{device.name} has no measured target{'' if runtime is None else f' of {runtime}'}; "
            f"run: predict-latency profile --name {device.name}, then predict-latency train "
            f"{device.name}. Fitted devices: predict-latency devices {device.name}"
        )
    if as_json:
        from predictor.report.json_report import dumps

        emit(dumps({"schema_version": SCHEMA_VERSION, "device": device.name, "targets": cards}))
        return
    lines: list[str] = []
    for target_name, card in cards.items():
        lines += [*([""] if lines else []),
                  *card_text(card, f"{device.name} {target_name}", terminal_style())]  # fmt: skip
    emit("\n".join(lines))
