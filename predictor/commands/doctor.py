"""``predict-latency doctor``: what is installed, what is damaged, what to run."""

from __future__ import annotations

import click

from predictor.commands.options import debug_option, json_option
from predictor.commands.output import emit, progress, terminal_style
from predictor.errors import ArtifactError

SCHEMA_VERSION = 1
"""Raised when a key of the JSON output changes its meaning or goes away."""

_COLORS = {"ok": "green", "optional": "yellow", "broken": "red"}


@click.command("doctor")
@json_option
@debug_option
def command(as_json: bool) -> int:
    """Check the installation, the profiles' hashes and the extras; say what to run.

    Exits with 4 if something is broken. A missing extra is no fault.
    """
    from predictor.doctor import Health, examine

    with progress("checking"):
        findings = examine()
    broken = [finding for finding in findings if finding.health is Health.BROKEN]
    if as_json:
        from predictor.report.json_report import dumps

        plain = [finding.to_dict() for finding in findings]
        emit(dumps({"schema_version": SCHEMA_VERSION, "sound": not broken, "findings": plain}))
    else:
        style = terminal_style()
        for finding in findings:
            word = style.paint(finding.health.value.ljust(8), _COLORS[finding.health.value])
            emit(f"{word}  {finding.check.ljust(18)}  {style.plain(finding.text)}")
            if finding.remedy:
                emit(f"{'':30}run: {finding.remedy}")
        emit(f"\n{len(broken)} faults found." if broken else "\nNo fault found.")
    return ArtifactError.exit_code if broken else 0
