"""The command line ``predict-latency``. Thin: each command is a file in :mod:`predictor.commands`.

Results go to stdout, progress, warnings and errors to stderr. Exit codes: 0 ok, 1 internal error,
2 usage or configuration, 3 over budget, 4 unknown device or damaged artefact, 5 measurement or
transport, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from predictor import commands
from predictor.commands.output import discard_stdout, emit, lenient_streams
from predictor.errors import PredictorError

PROGRAM = "predict-latency"
DEFAULT_COMMAND = "predict"
DEBUG_VARIABLE = "PREDICTOR_DEBUG"
"""Set to anything but 0: an internal error shows its traceback."""

INTERRUPTED = 130


class CommandGroup(click.Group):
    """Commands are found in ``predictor/commands`` and imported when they are asked for.

    A first argument that is no command is a model, for the default command.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the command files, the default command first."""
        found = (info.name for info in pkgutil.iter_modules(commands.__path__))
        names = [name for name in found if name not in commands.HELPERS]
        return sorted(names, key=lambda name: (name != DEFAULT_COMMAND, name))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, None where there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"predictor.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front of what is neither a command nor the group's option."""
        own = {name for param in self.get_params(ctx) for name in param.opts}
        if args and args[0] not in own and args[0] not in self.list_commands(ctx):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands and, since a model may stand here, files."""
        items = super().shell_complete(ctx, incomplete)
        return items if incomplete.startswith("-") else [*items, CompletionItem("", type="file")]


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib import metadata

    try:
        version = metadata.version("latency-predictor")
    except metadata.PackageNotFoundError:
        version = "(not installed: running from a source folder)"
    emit(f"{PROGRAM} {version}")
    ctx.exit()


@click.command(
    cls=CommandGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="A first argument that is no command is a model: "
    "'predict-latency config.yaml --device jetson' is "
    "'predict-latency predict config.yaml --device jetson'.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Show the version and exit.",
)  # fmt: skip
def cli() -> None:
    """Latency of a neural network on hardware that you do not have, layer by layer."""


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; no exception leaves, save SystemExit.

    Args:
        args: arguments without the program's name; ``sys.argv`` by default.
    """
    argv = list(sys.argv[1:] if args is None else args)
    lenient_streams()
    try:
        result = cli.main(argv, prog_name=PROGRAM, standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        emit(error.ctx.get_help() if error.ctx else str(error))
        code = 2
    except click.ClickException as error:
        _show_usage(error)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except PredictorError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except (RecursionError, MemoryError) as error:
        code = _internal(error, argv, "the model is too deep or too large for this machine; ")
    except Exception as error:  # the last line of defence: a user must not meet a traceback
        code = _internal(error, argv, "")
    return code


def _show_usage(error: click.ClickException) -> None:
    ctx = getattr(error, "ctx", None)
    if ctx is not None:
        click.echo(ctx.get_usage(), err=True)
        click.echo(f"See: {ctx.command_path} --help", err=True)
    click.echo(f"error: {error.format_message()}", err=True)


def _internal(error: BaseException, argv: Sequence[str], cause: str) -> int:
    wanted = os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")
    if wanted or "--debug" in argv:
        import traceback

        traceback.print_exception(error)
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    click.echo(
        f"internal error: {said}\n{cause}please report it with the command that you ran and the "
        f"traceback, which --debug or {DEBUG_VARIABLE}=1 shows",
        err=True,
    )
    return PredictorError.exit_code


def main() -> NoReturn:
    """Entry point of the ``predict-latency`` script."""
    code = run()
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        discard_stdout()  # closed by the reader: what it did not take, it did not want
    sys.exit(code)


if __name__ == "__main__":
    main()
