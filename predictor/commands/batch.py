"""``predict-latency batch TABLE``: one prediction a row."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click

from predictor.batching import ADDED, Answer, Answered, Job, Splitter, answer_row
from predictor.batching.spreading import Crew, Source, answered_by, answered_here
from predictor.commands.options import (
    allow_python_option,
    complete_device,
    complete_file,
    debug_option,
    given,
    language_options,
    row_sizes,
    strict_option,
    target_options,
)
from predictor.commands.output import discard_stdout, progress, warn
from predictor.cores import usable
from predictor.errors import ConfigError
from predictor.tables import ENCODING, ERRORS, Row, Table, need, open_table


@click.command("batch")
@click.argument("table", metavar="TABLE", shell_complete=complete_file)
@click.option(
    "--device", "-d", "devices", multiple=True, metavar="NAME", shell_complete=complete_device,
    help="A device for rows whose column 'device' is empty; several give one row each.",
)  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Where the answers go, row by row. [default: stdout]",
)  # fmt: skip
@click.option(
    "--resume", is_flag=True,
    help="Go on where FILE of --output ends; rows in it are not predicted again.",
)  # fmt: skip
@click.option(
    "--jobs", "-j", type=click.IntRange(0, 1024), metavar="COUNT",
    help="Processes of this machine that predict; 0 is one a core. [default: 1]",
)  # fmt: skip
@click.option(
    "--scheduler", metavar="ADDRESS",
    help="Predict on the workers of a Dask scheduler, such as tcp://10.0.0.5:8786.",
)  # fmt: skip
@target_options
@language_options
@row_sizes
@strict_option
@allow_python_option
@debug_option
def command(
    table: str, devices: tuple[str, ...], output: Path | None, resume: bool, strict: bool,
    allow_python: bool, jobs: int | None, scheduler: str | None, **settings: Any,
) -> int:  # fmt: skip
    """Predict every row of TABLE, a CSV file or - for stdin.

    The column 'model' holds names or paths; 'batch', 'precision', 'resolution' and 'device' are
    optional and win over the options. All columns are carried through, and latency_ms, low_ms,
    high_ms and error are added. A row that cannot be predicted says why in its column 'error'.
    """
    options = given(strict=strict or None, **settings)
    if resume and (output is None or str(output) == "-"):
        raise ConfigError("--resume needs --output FILE: the file to go on with")
    if output is not None and Path(table).exists() and output.exists() and output.samefile(table):
        raise ConfigError(f"--output {output}: that is the table itself; choose another file")
    if jobs is not None and scheduler is not None:
        raise ConfigError("--jobs and --scheduler: the scheduler's workers say how many there are; "
                          "leave out --jobs")  # fmt: skip
    where = None if output is None or str(output) == "-" else output
    with open_table(table) as source, contextlib.ExitStack() as stack:
        job = Job(source.name, source.columns, devices, options, allow_python)
        need(source.columns, "model", source.name)
        crew: Crew | None = None
        if scheduler is None and (count := usable() if jobs == 0 else jobs or 1) > 1:
            from predictor.batching.processes import Processes

            crew = stack.enter_context(Processes(job, count))  # they check the job
        else:
            job.check()  # a mistake here would be every row's
        warn(job.remarks())
        if scheduler is not None:
            from predictor.batching.on_dask import Machines

            crew = stack.enter_context(Machines(job, scheduler))
        return run(job, source, where, resume, crew)


@dataclass(slots=True)
class Tally:
    """Rows of the output so far."""

    done: int = 0
    failed: int = 0
    kept: int = 0
    read: int = 0
    """Bytes of the table."""
    exit_code: int = 0
    first_error: str = ""
    started: float = 0.0

    def count(self, answered: Answered) -> None:
        """Take the answers of a chunk in."""
        self.done += answered.lines
        self.failed += answered.failed
        self.exit_code = self.exit_code or answered.exit_code
        self.first_error = self.first_error or answered.first_error

    def summary(self) -> str:
        """One line for people."""
        seconds = time.monotonic() - self.started
        rate = f", {self.done / seconds:,.0f} rows a second" if seconds >= 1 and self.done else ""
        kept = f"; {self.kept:,} were there already" if self.kept else ""
        failed = f", {self.failed:,} failed (first: {self.first_error})" if self.failed else ""
        rows = "row" if self.done == 1 else "rows"
        return f"{self.done:,} {rows} in {seconds:.1f} s{rate}{failed}{kept}"


def run(job: Job, table: Table, output: Path | None, resume: bool, crew: Crew | None = None) -> int:
    """Predict, write, and say how it went; returns the exit code.

    It is 0 where any row was predicted (now or before), or there was none to predict; else that of
    the first error.
    """
    tally = Tally(started=time.monotonic())
    size = _size(table.name)

    def task() -> str:
        share = f" ({min(1.0, tally.read / size):.0%})" if size else ""
        return f"predicting {table.name}: {tally.done:,} rows{share}"

    try:
        with progress(task):
            _write_all(job, table, output, resume, crew, tally)
    except BrokenPipeError:
        discard_stdout()  # the reader of stdout has seen enough
        return 0
    except KeyboardInterrupt:
        if output is not None:
            click.echo(f"{output} holds {tally.done + tally.kept:,} rows; go on with --resume",
                       err=True)  # fmt: skip
        raise
    click.echo(tally.summary(), err=True)
    return tally.exit_code if tally.done and tally.failed == tally.done and not tally.kept else 0


def _size(name: str) -> int:
    with contextlib.suppress(OSError):
        return os.path.getsize(name)
    return 0


def _write_all(
    job: Job, table: Table, output: Path | None, resume: bool, crew: Crew | None, tally: Tally
) -> None:
    with _sink(job, output, resume) as (write, kept):
        for answered in _answered(job, table, kept, crew, tally):
            if answered.data:
                write(answered.data)
            tally.count(answered)
            tally.read = answered.end


def _answered(
    job: Job, table: Table, kept: Iterator[Row], crew: Crew | None, tally: Tally
) -> Iterator[Answered]:
    """Answers of what the output does not hold yet; what it holds must be of this table."""
    yield from _behind_kept(job, table, kept, tally)
    splitter = Splitter(table.name, table.columns, line=table.line, offset=table.bytes_read)
    if data := table.rest():
        splitter.add(data)
    source = Source(table.stream, splitter, ahead=crew is not None)
    try:
        yield from answered_here(job, source) if crew is None else answered_by(crew, source)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise ConfigError(f"the table cannot be read: {error.strerror or error}",
                          file=table.name) from None  # fmt: skip


def _behind_kept(job: Job, table: Table, kept: Iterator[Row], tally: Tally) -> Iterator[Answered]:
    """Go past the rows of the table that the output holds; one of which it holds some devices
    alone is completed."""
    old = next(kept, None)
    if old is None:
        return
    for row in table.rows():
        missing = list(job.task(row).devices)
        while old is not None and missing:
            _same(job, row, table.name, missing.pop(0), old)
            tally.kept += 1
            old = next(kept, None)
        tally.read = row.end
        if missing:
            yield answer_row(job, row, missing)
        if old is None:
            return
    raise ConfigError("the output has more rows than this table: it is another table's. "
                      "Choose another --output, or leave out --resume")  # fmt: skip


def _same(job: Job, row: Row, name: str, device: str | None, old: Row) -> None:
    expected = job.line(row, Answer(device))
    width = len(expected) - len(ADDED)
    if old.cells[:width] != expected[:width]:
        raise ConfigError(
            f"line {old.line} of the output is not of line {row.line} of {name}: it is "
            "another table's. Choose another --output, or leave out --resume"
        )


@contextlib.contextmanager
def _sink(
    job: Job, output: Path | None, resume: bool
) -> Iterator[tuple[Callable[[bytes], None], Iterator[Row]]]:
    """Where lines go, flushed at once, and the rows that are there already."""
    if output is None:
        _print(job.header_line)
        yield _print, iter(())
        return
    header = job.header_line
    try:
        there = resume and output.exists()
        with output.open("r+b" if there else "wb") as stream:
            start = stream.read(len(header)) if there else b""
            if not header.startswith(start):
                raise ConfigError(f"{output}: its columns are not {', '.join(job.header)}: it is "
                                  "another table's. Choose another --output, or leave out "
                                  "--resume")  # fmt: skip
            stream.seek(0)
            if start != header:
                _write(stream, header)

            def write(data: bytes) -> None:
                _write(stream, data)

            yield write, _kept(stream, output) if start == header else iter(())
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror or error}") from error


def _kept(stream: BinaryIO, output: Path) -> Iterator[Row]:
    """The rows of a file that is to be gone on with; a last one that was cut is cut off."""
    table = Table(stream, str(output))
    end, cut = table.bytes_read, None
    for row in table.rows():
        if cut is not None:
            raise ConfigError("this row is damaged; leave out --resume to write the file anew",
                              file=str(output), line=cut.line)  # fmt: skip
        if row.fault or not row.whole:
            cut = row
            continue
        end = row.end
        yield row
    stream.seek(end)
    stream.truncate()


def _write(stream: BinaryIO, data: bytes) -> None:
    stream.write(data)
    stream.flush()


def _print(data: bytes) -> None:
    try:
        click.echo(data.decode(ENCODING, ERRORS), nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise ConfigError(f"stdout cannot be written: {error.strerror or error}") from error
