"""``predict-latency search SPACE``: architectures under budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from predictor.commands.options import (
    Duration,
    batch_help,
    complete_device,
    complete_file,
    debug_option,
    json_option,
    target_options,
)
from predictor.commands.output import emit, progress, terminal_style, write_file
from predictor.commands.profile import Seconds
from predictor.errors import ConfigError

if TYPE_CHECKING:
    from predictor.front import SearchResult
    from predictor.search.study import Search

BUDGETS = ("latency_ms", "macs", "flops", "params", "memory_mb", "model_mb")


class Amount(click.ParamType):  # type: ignore[type-arg]
    """A number above 0, with 5K, 600M or 1.2G allowed."""

    name = "amount"
    factors: Mapping[str, float] = {"K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
    most = 1e30
    said = "is no number above 0: use 600M, 1.2G or 5000000"

    def digits(self, value: Any) -> str:
        """What was written, in capitals."""
        return str(value).strip().upper()

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number."""
        if isinstance(value, int | float):
            return float(value)
        text = self.digits(value)
        factor = self.factors.get(text[-1:])
        try:
            number = float(text if factor is None else text[:-1]) * (factor or 1.0)
        except ValueError:
            number = -1.0
        if not 0 < number < self.most:
            self.fail(f"'{value}' {self.said}", param, ctx)
        return number


class Megabytes(Amount):
    """Megabytes: 8, 8MB, 500KB or 1.5GB."""

    name = "megabytes"
    factors: Mapping[str, float] = {"K": 1e-3, "M": 1.0, "G": 1e3}
    most = 1e12
    said = "is no size above 0: use 8, 8MB, 500KB or 1.5GB"

    def digits(self, value: Any) -> str:
        """Without the B of bytes."""
        return super().digits(value).removesuffix("B")


@click.command("search")
@click.argument("space", shell_complete=complete_file)
@click.option(
    "--device", "-d", "devices", multiple=True, metavar="NAME", shell_complete=complete_device,
    help="A device that the latency budget holds on; several give several budgets.",
)  # fmt: skip
@click.option(
    "--latency", "latency_ms", type=Duration(), metavar="TIME",
    help="Budget of the latency on every device: 15ms, 0.02s, 500us.",
)  # fmt: skip
@click.option("--macs", type=Amount(), metavar="N", help="Budget of multiply-accumulates: 300M.")
@click.option("--flops", type=Amount(), metavar="N", help="Budget of FLOPs (2 x MACs): 600M.")
@click.option("--params", type=Amount(), metavar="N", help="Budget of parameters: 5M.")
@click.option(
    "--memory", "memory_mb", type=Megabytes(), metavar="MB",
    help="Budget of memory: weights and the largest sum of live activations.",
)  # fmt: skip
@click.option(
    "--model-size", "model_mb", type=Megabytes(), metavar="MB", help="Budget of the weights."
)
@click.option(
    "--caution", type=click.FloatRange(0, 10), metavar="N",
    help="What it costs to turn out over a latency budget: 0 nothing, 1 all that makes an "
    "architecture better than the median one. [default: 1]",
)  # fmt: skip
@click.option(
    "--margin", type=click.FloatRange(0, 10), metavar="SHARE",
    help="Share of a latency's 90 % interval that its budget keeps free: 0 holds the latency "
    "itself against it, 1 the interval's upper end. [default: 0]",
)  # fmt: skip
@click.option(
    "--upper",
    is_flag=True,
    help="Hold the upper end of the latency's 90 % interval against the budget.",
)
@click.option(
    "--accuracy", "signal", metavar="SIGNAL",
    help="What tells accuracy: train.py:evaluate, table:FILE.csv, digits, naswot, synflow, zico, "
    "gradnorm, ensemble, params or flops. [default: ensemble]",
)  # fmt: skip
@click.option(
    "--trials", type=click.IntRange(min=1), metavar="N",
    help="Architectures whose accuracy is asked. [default: 200]",
)  # fmt: skip
@click.option(
    "--aim", type=click.Choice(["best", "front"]), default="best", show_default=True,
    help="The most accurate within the budgets, or all trade-offs of accuracy and latency.",
)  # fmt: skip
@click.option(
    "--sampler", metavar="NAME",
    help="learned, evolution, random, tpe, nsga2, nsga3 or gp. [default: learned]",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="[default: 0]")
@click.option(
    "--time", "seconds", type=Seconds(), metavar="TIME", help="Stop after 90s, 20min or 2h."
)
@click.option(
    "--storage", metavar="PLACE",
    help="Keep trials in a file or in postgresql://user@host/name: the same command goes on with "
    "them, and several processes or machines share them. [default: memory]",
)  # fmt: skip
@click.option(
    "--name", default="search", show_default=True, metavar="NAME",
    help="The search's name in the storage.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N",
    help="Processes on this machine.",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="FILE.npz", shell_complete=complete_file,
    help="Inputs x and labels y for zero-cost signals. [default: scikit-learn's digits]",
)  # fmt: skip
@click.option("--column", metavar="NAME", help="The accuracy's column of a table.")
@click.option(
    "--evaluation-time", "evaluation_seconds", type=Seconds(), metavar="TIME",
    help="Longest evaluation of a function of yours. [default: 1h]",
)  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Write the winners there, each as config.yaml, as a Python module and as ONNX.",
)  # fmt: skip
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, metavar="N",
    help="How many of the front are listed and written.",
)  # fmt: skip
@click.option(
    "--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write all trials as a table.",
)  # fmt: skip
@click.option(
    "--html", "html_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the front and all trials as one page.",
)  # fmt: skip
@click.option(
    "--measure-top", type=click.IntRange(min=1), metavar="N",
    help="Measure the N best for real and calibrate the device with them.",
)  # fmt: skip
@click.option(
    "--host", metavar="PLACE",
    help="Where they are measured: ssh://[user@]host, adb://SERIAL. [default: this machine]",
)  # fmt: skip
@target_options
@click.option("--batch", "-b", type=click.IntRange(min=1), default=1, metavar="N", help=batch_help)
@json_option
@click.option("--as-worker", is_flag=True, hidden=True)
@debug_option
def command(
    space: str, devices: tuple[str, ...], workers: int, output: Path | None, top: int,
    csv_file: Path | None, html_file: Path | None, measure_top: int | None, host: str | None,
    as_json: bool, as_worker: bool, scope: str | None, **asked: Any,
) -> None:  # fmt: skip
    """Search SPACE for architectures that are accurate and keep budgets.

    SPACE is a file (see docs/search-space.md), python:FILE.py:CLASS, or one of ofa, fbnet,
    nasbench201, resnet, vit and decoder. Candidates over budget cost no evaluation.
    """
    _refuse_files(csv_file, html_file, space, asked["signal"], asked["data"], asked["storage"])
    budget = {name: asked.pop(name) for name in BUDGETS}
    from predictor.search.crew import Crew
    from predictor.search.running import make_search

    said = [f"searching {space}"]
    with Crew(1 if as_worker else workers, asked["storage"]) as crew, progress(lambda: said[-1]):
        asked["storage"] = crew.storage
        made = make_search(
            space, device=devices or None, scope=scope or "engine", say=said.append,
            budget={name: value for name, value in budget.items() if value is not None}, **asked,
        )  # fmt: skip
        try:
            crew.start()
            result = made.run()
            if crew.wait():
                result = made.run()  # with what the others evaluated last
        finally:
            made.signal.close()
    if as_worker:
        return
    result = replace(result, notes=(*result.notes, *crew.notes))
    if measure_top is not None:
        result = _measured(made, result, measure_top, host, output)
    _tell(made, result, output, top, csv_file, html_file, as_json)


def _refuse_files(csv_file: Path | None, html_file: Path | None, *read: Any) -> None:
    """Refuse, before hours are spent, to write over what the search reads or where it cannot."""
    for file in (csv_file, html_file):
        if file is None:
            continue
        if not file.absolute().parent.is_dir():
            raise ConfigError(f"{file}: there is no folder {file.parent}; make it first")
        for text in map(str, filter(None, read)):
            # FILE, table:FILE, FILE:FUNCTION, python:FILE:CLASS
            for piece in (text, text.partition(":")[2], *text.split(":")):
                if piece and file.exists() and Path(piece).exists() and file.samefile(piece):
                    raise ConfigError(f"{file}: the search reads that; choose another file")
    if csv_file is not None and csv_file == html_file:
        raise ConfigError(f"{csv_file}: --csv and --html cannot be one file")


def _measured(
    made: Search, result: SearchResult, count: int, host: str | None, output: Path | None
) -> SearchResult:
    from predictor.search.measured import measure_winners

    said = ["measuring"]
    with progress(lambda: said[-1]):
        result, notes = measure_winners(made, result, count, host, output, said.append)
    return replace(result, notes=(*result.notes, *notes))


def _tell(
    made: Search, result: SearchResult, output: Path | None, top: int, csv_file: Path | None,
    html_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    from predictor.report import front

    written: Sequence[Path] = ()
    try:
        if csv_file is not None:
            write_file(csv_file, front.csv_text(result))
        if html_file is not None:
            write_file(html_file, front.html(result))
        if output is not None:
            from predictor.search.winners import write_winners

            with progress("writing the winners"):
                written = write_winners(result, made.problem.space, output, top)
    finally:  # what was found is told where a file cannot be written, too
        if as_json:
            from predictor.report.json_report import dumps

            emit(dumps(result.to_dict()))
        else:
            emit(front.table(result, style=terminal_style(), top=top))
    for path in (*written[:1], csv_file, html_file):
        if path is not None:
            click.echo(f"written: {path}", err=True)
    if len(written) > 1:
        click.echo(f"and {len(written) - 1} more beside it", err=True)
