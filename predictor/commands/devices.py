"""``predict-latency devices [NAME]``: which devices are known, and how well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from predictor.commands.options import complete_device, debug_option, json_option
from predictor.commands.output import emit, terminal_style
from predictor.inventory import accuracy_card, devices_dict
from predictor.report.layout import Column, Style, table, wrapped

if TYPE_CHECKING:
    from predictor.device import Device


@click.command("devices")
@click.argument("name", required=False, shell_complete=complete_device)
@click.option("--targets", is_flag=True, help="List every target, not only each device's default.")
@json_option
@debug_option
def command(name: str | None, targets: bool, as_json: bool) -> None:
    """List the known devices, or show NAME with its targets, accuracy and power modes."""
    from predictor.device import devices, load_device

    chosen = [load_device(name)] if name else list(devices())
    if as_json:
        from predictor.report.json_report import dumps

        emit(dumps(devices_dict(chosen)))
    elif name:
        emit(describe(chosen[0], terminal_style(), requested=name))
    else:
        emit(overview(chosen, terminal_style(), every_target=targets))


def overview(chosen: Sequence[Device], style: Style, *, every_target: bool = False) -> str:
    """One line a device with its default target, or one line for every target."""
    from predictor.report.table import headline_error

    columns = (
        Column("name", right=False), Column("device", right=False, shrinks=True),
        Column("target", right=False), Column("tier", right=False), Column("error"),
        Column("short", right=False),
    )  # fmt: skip
    rows = []
    for device in sorted(chosen, key=lambda device: device.name):
        # An alias is worth a column where it spares typing; the details list all of them.
        short = min((word for word in device.aliases if len(word) < len(device.name)),
                    key=len, default="")  # fmt: skip
        for target in sorted(device.targets, key=lambda target: not target.default):
            if every_target or target.default:
                error = headline_error(accuracy_card(device, target) or {})
                rows.append([device.name, device.title, target.name, target.tier, error or "-",
                             short])  # fmt: skip
    lines = table(columns, rows, style, indent=0)
    lines += ["", *wrapped(_LEGEND, style, indent=0, hang=0)]
    return "\n".join(lines)


_LEGEND = (
    "error: median on whole model families that were left out of the fit. Every target of all "
    "devices: --targets. Accuracy, power modes and sources of one: predict-latency devices NAME"
)


def describe(device: Device, style: Style, *, requested: str | None = None) -> str:
    """Everything about one device: facts, targets with accuracy, power modes, sources."""
    from predictor.report.table import is_path

    title = f"{device.title} ({device.name})"
    if requested and requested != device.name and not is_path(requested):
        title = f"{requested} = {title}"
    lines = [style.paint(style.plain(title), "bold"), *_facts(device, style)]
    lines += ["", style.paint("Targets", "bold"), *_targets(device, style)]
    if device.power_modes:
        lines += ["", style.paint("Power modes", "bold"), *_modes(device, style)]
    for note in device.notes:
        lines += ["", *wrapped(f"note: {note}", style, indent=0)]
    if device.sources:
        lines += ["", style.paint("Sources of these facts", "bold")]
        for fact, source in device.sources.items():
            lines += wrapped(f"{fact}: {source}", style)
    return "\n".join(lines)


def _facts(device: Device, style: Style) -> list[str]:
    peaks = ", ".join(f"{name} {value:g}" for name, value in device.peak_tflops.items())
    shared = " shared with the host" if device.shared_memory else ""
    parts = [
        f"{device.kind}, {device.generation}; {device.units} {device.unit_name}s at "
        f"{device.clock_mhz:g} MHz",
        f"peak TFLOP/s (TOP/s for integers): {peaks}",
        f"memory: {device.memory_gb:g} GB{shared} at {device.bandwidth_gbs:g} GB/s",
    ]
    if device.power_limit_w:
        parts.append(f"power limit: {device.power_limit_w:g} W")
    if device.aliases:
        parts.append(f"also called: {', '.join(device.aliases)}")
    return [line for part in parts for line in wrapped(part, style)]


def _targets(device: Device, style: Style) -> list[str]:
    from predictor.report.table import TIER_WORDS, accuracy_lines

    lines = []
    for target in sorted(device.targets, key=lambda target: not target.default):
        usual = " [default]" if target.default else ""
        software = f", {target.software}" if target.software else ""
        tier = f"{target.tier} ({TIER_WORDS[target.tier]})"
        lines += wrapped(f"{target.name}{usual}{software}: {tier}", style)
        if target.batch_note:
            lines += wrapped(target.batch_note, style, indent=4)
        for text in accuracy_lines(accuracy_card(device, target) or {}):
            lines += wrapped(text, style, indent=4)
    return lines


def _modes(device: Device, style: Style) -> list[str]:
    columns = (
        Column("mode", right=False), Column("limit"), Column("clock"),
        Column(f"{device.unit_name}s"), Column("bandwidth"), Column("CPU clock"),
    )  # fmt: skip
    rows = [
        [
            mode.name + (" [default]" if mode.default else ""), _number(mode.limit_w, "W"),
            _number(mode.clock_mhz, "MHz"), _number(mode.units, ""),
            _number(mode.bandwidth_gbs, "GB/s"), _number(mode.cpu_clock_mhz, "MHz"),
        ]
        for mode in device.power_modes
    ]  # fmt: skip
    return table(columns, rows, style)


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:g} {unit}".rstrip()
