"""``predict-latency profile``: measure what runs on a machine, here or on a board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from predictor.commands.options import (
    complete_file,
    complete_precision,
    complete_runtime,
    debug_option,
    json_option,
)
from predictor.commands.output import emit, progress, warn
from predictor.errors import ConfigError, MeasurementError

if TYPE_CHECKING:
    from predictor.profiling.session import Progress, Summary

SCHEMA_VERSION = 1
"""Raised when a key of the JSON output changes its meaning or goes away."""
LISTED = 20
"""Tasks that failed which are listed; --json has all."""
RUNTIME, PRECISION, THREADS = "eager", "fp32", 1
IMPORT = "import"


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """``90s``, ``20min`` or ``2h``, as seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        from predictor.profiling.agent import seconds_of

        try:
            return seconds_of(str(value))
        except (ValueError, KeyError):
            self.fail(f"'{value}' is no time: use 90s, 20min or 2h", param, ctx)


class ProfileGroup(click.Group):
    """Options of its own and the subcommand ``import``, which is loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The one subcommand."""
        return [IMPORT]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """``import``, None for any other name."""
        if cmd_name != IMPORT:
            return None
        from predictor.commands.profile_import import command as found

        return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the plan is to be of; None and empty is what an existing plan or the default says."""

    runtime: str | None
    precision: str | None
    threads: int | None
    cuda: bool
    networks: tuple[str, ...]

    def refuse(self, plan: Mapping[str, Any], path: Path) -> None:
        """Raise where ``plan`` is of something else."""
        networks = {task["label"] for task in plan["tasks"]
                    if task["kind"] == "network" and task.get("space") != "perturbed"}  # fmt: skip
        asked = (
            ("--runtime", self.runtime, plan["runtime"]),
            ("--precision", self.precision, plan["precision"]),
            ("--threads", self.threads, plan["threads"]),
            ("--cuda", "cuda" if self.cuda else None, plan.get("device", "cpu")),
            ("--network", set(self.networks) or None, networks),
        )
        for option, value, found in asked:
            if value is not None and value != found:
                said = f"is for {found}" if isinstance(found, str | int) else "has other networks"
                raise ConfigError(f"{option}: the plan {path} {said}; leave the option out, or "
                                  "begin anew with --restart")  # fmt: skip


@click.group(
    "profile", cls=ProfileGroup, invoke_without_command=True, subcommand_metavar="[import ...]"
)
@click.option("--name", metavar="NAME", help="What the measured device is called.")
@click.option(
    "--runtime", metavar="NAME", shell_complete=complete_runtime,
    help=f"eager, torch_compile, onnxruntime or tensorrt. [default: {RUNTIME}]",
)  # fmt: skip
@click.option(
    "--precision", metavar="NAME", shell_complete=complete_precision,
    help=f"What the networks compute in, such as fp32 or fp16. [default: {PRECISION}]",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(1, 1024), metavar="N",
    help=f"Threads of a CPU that run a network. [default: {THREADS}]",
)  # fmt: skip
@click.option("--cuda", is_flag=True, help="Run the networks on the first NVIDIA GPU.")
@click.option(
    "--time", "seconds", type=Seconds(), metavar="TIME",
    help="Stop after 90s, 20min or 2h of measuring. [default: when all is measured]",
)  # fmt: skip
@click.option(
    "--host", metavar="PLACE",
    help="ssh://[user@]host[:port][/folder] or adb://SERIAL[/folder]. [default: this machine]",
)  # fmt: skip
@click.option(
    "--python", metavar="PATH", help="The Python that measures, 3.6 or newer, where it is measured."
)
@click.option(
    "--ssh-option", "ssh_options", multiple=True, metavar="OPTION",
    help="An option for ssh, such as '-i key'; may be repeated.",
)  # fmt: skip
@click.option(
    "--network", "networks", multiple=True, metavar="MODEL",
    help="Measure this network, such as timm:resnet18, instead of ours; may be repeated.",
)  # fmt: skip
@click.option(
    "--plan", type=click.Path(path_type=Path), metavar="FILE", shell_complete=complete_file,
    help="Measure what this plan says. [default: a plan of our networks]",
)  # fmt: skip
@click.option(
    "--plan-only", type=click.Path(path_type=Path), metavar="FILE", shell_complete=complete_file,
    help="Write the plan to FILE and stop.",
)  # fmt: skip
@click.option(
    "--standalone", type=click.Path(path_type=Path), metavar="FILE", shell_complete=complete_file,
    help="Write the one file that measures a plan on a board by itself, and stop.",
)  # fmt: skip
@click.option(
    "--import-results", type=click.Path(path_type=Path), metavar="FILE",
    shell_complete=complete_file, help="Take home what that file wrote on a board, and stop.",
)  # fmt: skip
@click.option(
    "--adapt", type=click.IntRange(min=1), metavar="N",
    help="Add N networks of the layers that are predicted worst so far, and measure them too.",
)  # fmt: skip
@click.option(
    "--restart", is_flag=True,
    help="Begin anew; what was measured before is set aside, not deleted.",
)  # fmt: skip
@json_option
@debug_option
@click.pass_context
def command(
    ctx: click.Context, /, name: str | None, seconds: float | None, host: str | None,
    python: str | None, ssh_options: tuple[str, ...], plan: Path | None, plan_only: Path | None,
    standalone: Path | None, import_results: Path | None, adapt: int | None, restart: bool,
    as_json: bool, **wanted: Any,
) -> None:  # fmt: skip
    """Measure networks and their kernels, here or on a board.

    What is measured is kept row by row. The same command goes on where the last one ended, however
    it ended. Afterwards 'predict-latency train NAME' makes a device of it.
    """
    if ctx.invoked_subcommand is not None:
        _refuse_options(ctx)
        return
    if standalone is not None:
        from predictor.profiling.standalone import build

        emit(f"{build(standalone)}: run on the board: python3 {standalone.name} PLAN.zip "
             "RESULTS.jsonl")  # fmt: skip
        if name is None:
            return
    if name is None:
        raise click.UsageError("Missing option '--name'.", ctx)
    want, notes = Wanted(**wanted), list[str]()
    if plan_only is not None:
        with progress(f"planning for {name}"):
            count = _make(plan_only, name, want, notes)
        warn(notes)
        emit(f"{plan_only}: {count} measurements")
    if plan_only is not None or standalone is not None:
        return
    folder, plan = _prepare(name, want, plan, restart, notes)
    if adapt is not None:
        plan = _adapted(folder, adapt, notes)
    warn(notes)
    from predictor.profiling import hosts, session

    if import_results is not None:
        summary = session.take(plan, folder, import_results)
    else:
        place = hosts.find(host, folder / session.BOARD, python=python, ssh_options=ssh_options)
        state: list[Progress] = []
        with progress(lambda: state[0].say() if state else f"starting {place.describe()}"):
            summary = session.run(plan, folder, place, seconds, state.append)
    warn(dict.fromkeys(summary.remarks))
    _tell(name, folder, summary, as_json)


def _refuse_options(ctx: click.Context) -> None:
    given = [param.opts[0] for param in ctx.command.params
             if param.name and ctx.params.get(param.name)]  # fmt: skip
    if given:
        raise click.UsageError(f"{given[0]} goes behind 'import'.", ctx)


def _make(path: Path, name: str, want: Wanted, notes: list[str]) -> int:
    """Write a plan; how many tasks it has."""
    from predictor.profiling.imported import device_name
    from predictor.profiling.plan import make_plan

    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: no such folder")
    draft = make_plan(
        path, name=device_name(name), runtime=want.runtime or RUNTIME,
        precision=want.precision or PRECISION, threads=want.threads or THREADS,
        device="cuda" if want.cuda else "cpu", networks=want.networks or None, say=notes.append,
    )  # fmt: skip
    return len(draft.tasks)


def _prepare(
    name: str, want: Wanted, given: Path | None, restart: bool, notes: list[str]
) -> tuple[Path, Path]:
    """The target's folder, and the plan: the one that was given, the folder's or a new one."""
    from predictor.profiling import session
    from predictor.profiling.imported import measurements_folder
    from predictor.profiling.planfile import read_plan

    body = None if given is None else read_plan(given)
    runtime = body["runtime"] if body else want.runtime or RUNTIME
    precision = body["precision"] if body else want.precision or PRECISION
    folder = measurements_folder(name, runtime, precision)
    if body is not None and given is not None:
        want.refuse(body, given)
    if restart:
        aside = session.set_aside(folder)
        if aside is not None:
            notes.append(f"what was measured before is in {aside}")
    kept = folder / session.PLAN
    if given is not None:
        return folder, given
    if kept.exists():
        want.refuse(read_plan(kept), kept)
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be made: {error.strerror or error}") from error
        with progress(f"planning for {name}"):
            _make(kept, name, want, notes)
    return folder, kept


def _adapted(folder: Path, count: int, notes: list[str]) -> Path:
    """The folder's plan with more of what is predicted badly."""
    from predictor.profiling import session
    from predictor.training.adapt import adapt

    if not (folder / session.RESULTS).exists():
        raise MeasurementError("--adapt needs measurements to tell what is predicted badly; run "
                               "this command without it first")  # fmt: skip
    with progress("looking for what is predicted badly"):
        added, layers = adapt(folder, count)
    notes.append(f"{added} networks added, most of {', '.join(dict.fromkeys(layers))}")
    return folder / session.PLAN


def _tell(name: str, folder: Path, summary: Summary, as_json: bool) -> None:
    if summary.failed and not summary.measured:
        first, why = next(iter(summary.failed.items()))
        raise MeasurementError(
            f"nothing could be measured: {len(summary.failed)} of {len(summary.labels)} failed, "
            f"first {summary.labels[first]}: {why}"
        )
    if as_json:
        from predictor.report.json_report import dumps

        emit(dumps(as_dict(name, folder, summary)))
    else:
        emit(_text(name, folder, summary))


def as_dict(name: str, folder: Path, summary: Summary) -> dict[str, Any]:
    """What the command prints with ``--json``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "target": folder.name,
        "folder": str(folder),
        "planned": len(summary.labels),
        "measured": len(summary.measured),
        "new": len(summary.new),
        "left": len(summary.left),
        "failed": [{"task": task, "label": summary.labels[task], "error": why}
                   for task, why in summary.failed.items()],
        "seconds": summary.seconds,
        "remarks": list(dict.fromkeys(summary.remarks)),
    }  # fmt: skip


def _text(name: str, folder: Path, summary: Summary) -> str:
    from predictor.profiling.session import minutes

    kinds = Counter(summary.kinds[task] for task in summary.measured)
    what = ", ".join(f"{count:,} {kind}{'' if count == 1 else 's'}"
                     for kind, count in sorted(kinds.items(), reverse=True))  # fmt: skip
    lines = [f"{name} {folder.name}: {len(summary.new):,} new in {minutes(summary.seconds)}; "
             f"{len(summary.measured):,} of {len(summary.labels):,} measured"
             + (f" ({what})" if what else "")]  # fmt: skip
    if summary.failed:
        lines += ["", f"Failed, to be tried again by the next run: {len(summary.failed)}"]
        failed = list(summary.failed.items())
        lines += [f"  {summary.labels[task]}: {why}" for task, why in failed[:LISTED]]
        if len(failed) > LISTED:
            lines.append(f"  and {len(failed) - LISTED} more; --json has all")
    if summary.left:
        lines += ["", f"Left: {len(summary.left):,}. The same command goes on with them."]
    lines += ["", f"Kept in {folder}"]
    if summary.measured:
        lines.append(f"Use it: predict-latency train {name}")
    return "\n".join(lines)
