"""Arguments and options that several commands share, with what they mean said once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from predictor.graph import PRECISIONS
from predictor.language import ATTENTION, LONGEST, PHASES
from predictor.report.units import Size, size_from_text

Command = TypeVar("Command", bound=Callable[..., Any])

_DURATION = re.compile(r"([0-9.]+(?:e[-+]?[0-9]+)?)\s*([a-zµ]*)")
_UNITS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "µs": 1e-3}


class Duration(click.ParamType):  # type: ignore[type-arg]
    """``20ms``, ``0.02s`` or ``500us``, as milliseconds. A number without a unit is refused."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Milliseconds."""
        if isinstance(value, int | float):
            return float(value)
        match = _DURATION.fullmatch(str(value).strip().lower())
        try:
            number = float(match[1]) if match else math.nan
        except ValueError:
            number = math.nan
        if not match or not 0 < number < math.inf:
            self.fail(f"'{value}' is no duration above 0: use 20ms, 0.02s or 500us", param, ctx)
        unit = match[2]
        if unit not in _UNITS:
            reason = f"the unit '{match[2]}' is unknown" if unit else "the unit is missing"
            self.fail(f"'{value}': {reason}: use 20ms, 0.02s or 500us", param, ctx)
        return number * _UNITS[unit]


class Resolution(click.ParamType):  # type: ignore[type-arg]
    """``224`` (square) or ``360x640`` (height x width), in pixels."""

    name = "resolution"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Size:
        """The side, or (height, width)."""
        if isinstance(value, int | tuple):
            return value
        size = size_from_text(str(value))
        if size is None:
            self.fail(f"'{value}': use pixels, such as 224, or height x width: 360x640", param, ctx)
        return size


def complete_device(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names and aliases of known devices, and files for a device.yaml."""
    from predictor.errors import PredictorError

    try:
        from predictor.device import devices

        words = {
            word: device.title for device in devices() for word in (device.name, *device.aliases)
        }
    except PredictorError:  # a damaged profile must not break the shell; doctor names it
        words = {}
    items = [
        CompletionItem(word, help=title)
        for word, title in sorted(words.items())
        if word.startswith(incomplete)
    ]
    return items or [CompletionItem("", type="file")]


def complete_runtime(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of runtimes."""
    from predictor.device import RUNTIMES

    return [CompletionItem(name) for name in RUNTIMES if name.startswith(incomplete)]


def complete_precision(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of precisions."""
    return [CompletionItem(name) for name in PRECISIONS if name.startswith(incomplete)]


def complete_file(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete a file name."""
    return [CompletionItem("", type="file")]


def target_options(command: Command) -> Command:
    """Runtime, precision, software, power mode, layout and scope."""
    for option in reversed((
        click.option(
            "--runtime", metavar="NAME", shell_complete=complete_runtime,
            help="What runs the model: tensorrt, onnxruntime, eager, ... "
            "[default: the device's default target]",
        ),
        click.option(
            "--precision", metavar="NAME", shell_complete=complete_precision,
            help=f"One of {', '.join(PRECISIONS)}. [default: the target's]",
        ),
        click.option(
            "--software", metavar="TEXT",
            help="Which of several versions of a runtime, such as 2.4.0, where the device lists "
            "them. [default: the first listed]",
        ),
        click.option(
            "--power-mode", metavar="MODE",
            help="Power mode of the board, such as 15W or MAXN. [default: the device's]",
        ),
        click.option(
            "--layout", type=click.Choice(["nchw", "nhwc"]),
            help="Order of channels in memory. [default: the target's]",
        ),
        click.option(
            "--scope", type=click.Choice(["engine", "call"]),
            help="What the latency covers: the engine alone, or a call through Python. "
            "[default: engine]",
        ),
    )):  # fmt: skip
        command = option(command)
    return command


def language_options(command: Command) -> Command:
    """``--phase``, ``--sequence``, ``--context`` and ``--attention``."""
    for option in reversed((
        click.option(
            "--phase", type=click.Choice(PHASES),
            help="Language models: process a prompt, or make one token from a KV cache.",
        ),
        click.option(
            "--sequence", type=click.IntRange(1, LONGEST), metavar="N",
            help="Tokens of the prompt, or of a text input. [default: 128]",
        ),
        click.option(
            "--context", type=click.IntRange(0, LONGEST), metavar="N",
            help="Tokens in the KV cache before the pass. [default: 128 for decode, 0 for prefill]",
        ),
        click.option(
            "--attention", type=click.Choice(tuple(ATTENTION)),
            help="Attention as one fused kernel, or as several. [default: what the runtime does]",
        ),
    )):  # fmt: skip
        command = option(command)
    return command


def debug_option(command: Command) -> Command:
    """``--debug``; read by :func:`predictor.cli.run`, since an error may come before parsing."""
    return click.option(
        "--debug", is_flag=True, expose_value=False, help="Show the traceback of an internal error."
    )(command)


def json_option(command: Command) -> Command:
    """``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON with a schema_version instead of text."
    )(command)


strict_option = click.option(
    "--strict", is_flag=True, default=False,
    help="Fail (exit code 2) where an operator has no formula or a kernel no model, "
    "instead of a roofline estimate with a warning.",
)  # fmt: skip

resolution_help = "Size of input images in pixels: 224, or height x width, 360x640."
batch_help = "Images (batch items) in one forward pass."

allow_python_option = click.option(
    "--allow-python", is_flag=True,
    help="Let rows name Python files (python:FILE:FACTORY), whose code is then run.",
)  # fmt: skip


def row_sizes(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--batch`` and ``--resolution`` of a table's rows that do not state their own."""
    batch = click.option(
        "--batch", "-b", type=click.IntRange(min=1), metavar="N",
        help=f"{batch_help} For rows whose column 'batch' is empty.",
    )  # fmt: skip
    resolution = click.option(
        "--resolution", "-r", type=Resolution(), metavar="PIXELS",
        help=f"{resolution_help} For rows whose column 'resolution' is empty.",
    )  # fmt: skip
    return batch(resolution(function))


def given(**settings: Any) -> dict[str, Any]:
    """The settings that the user gave: what was left out stays with the file or the default."""
    return {key: value for key, value in settings.items() if value is not None}
