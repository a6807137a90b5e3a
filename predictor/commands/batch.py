"""``predict-latency batch TABLE``: one prediction a row."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import click

from predictor.batching import (
    ADDED,
    NOT_READ,
    TARGET_SETTINGS,
    Answer,
    Task,
    predict_rows,
    task_of,
)
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
from predictor.errors import ConfigError
from predictor.tables import ENCODING, ERRORS, Row, Table, csv_line, free_names, open_table


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
@target_options
@language_options
@row_sizes
@strict_option
@allow_python_option
@debug_option
def command(
    table: str, devices: tuple[str, ...], output: Path | None, resume: bool, strict: bool,
    allow_python: bool, **settings: Any,
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
    with open_table(table) as source:
        source.need("model")
        from predictor.pipeline import find_predictor

        for device in devices:  # a mistake here would be every row's
            find_predictor(device, **{k: v for k, v in options.items() if k in TARGET_SETTINGS})
        job = Job(source, devices, options, allow_python)
        warn(job.remarks())
        where = None if output is None or str(output) == "-" else output
        return run(job, where, resume)


@dataclass(frozen=True, slots=True)
class Job:
    """A table and what to predict for it."""

    table: Table
    devices: tuple[str, ...]
    options: dict[str, Any]
    allow_python: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The input's columns under the names that they have in the output."""
        return free_names(self.table.columns, ADDED)

    @property
    def names_device(self) -> bool:
        """The output needs a column of its own for the device."""
        return len(self.devices) > 1 and "device" not in self.table.columns

    @property
    def header(self) -> tuple[str, ...]:
        """Columns of the output."""
        return (*self.columns, *(("device",) if self.names_device else ()), *ADDED)

    def remarks(self) -> Iterator[str]:
        """What a reader of the output may not expect."""
        for old, new in zip(self.table.columns, self.columns, strict=True):
            if old != new:
                yield f"the column '{old}' of the table is '{new}' in the output"
        for name in NOT_READ:
            if name in self.table.columns:
                option = name.replace("_", "-")
                yield f"the column '{name}' is carried through, not read: use --{option}"

    def task(self, row: Row) -> Task:
        """What the row asks for."""
        return task_of(row, self.table, self.devices, self.options, python=self.allow_python)

    def line(self, row: Row, answer: Answer) -> tuple[str, ...]:
        """The cells of one row of the output."""
        cells = list(row.cells)
        device = answer.device or ""
        if len(self.devices) > 1 and not self.names_device:
            cells[self.table.columns.index("device")] = device
        return (*cells, *((device,) if self.names_device else ()), *answer.cells)


@dataclass(slots=True)
class Tally:
    """Rows of the output so far."""

    done: int = 0
    failed: int = 0
    kept: int = 0
    exit_code: int = 0
    first_error: str = ""
    started: float = 0.0

    def count(self, line: int, answer: Answer) -> None:
        """Take one answer in."""
        self.done += 1
        if answer.error:
            self.failed += 1
            self.exit_code = self.exit_code or answer.exit_code
            self.first_error = self.first_error or f"line {line}: {answer.error}"

    def summary(self) -> str:
        """One line for people."""
        seconds = time.monotonic() - self.started
        rate = f", {self.done / seconds:,.0f} rows a second" if seconds >= 1 and self.done else ""
        kept = f"; {self.kept:,} were there already" if self.kept else ""
        failed = f", {self.failed:,} failed (first: {self.first_error})" if self.failed else ""
        rows = "row" if self.done == 1 else "rows"
        return f"{self.done:,} {rows} in {seconds:.1f} s{rate}{failed}{kept}"


def run(job: Job, output: Path | None, resume: bool) -> int:
    """Predict, write, and say how it went; returns the exit code.

    It is 0 where any row was predicted (now or before), or there was none to predict; else that of
    the first error.
    """
    tally = Tally(started=time.monotonic())
    size = _size(job.table.name)

    def task() -> str:
        share = f" ({min(1.0, job.table.bytes_read / size):.0%})" if size else ""
        return f"predicting {job.table.name}: {tally.done:,} rows{share}"

    try:
        with progress(task):
            _write_all(job, output, resume, tally)
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


def _write_all(job: Job, output: Path | None, resume: bool, tally: Tally) -> None:
    rows: deque[Row] = deque()  # of tasks under way; one, unless tasks run ahead
    with _sink(job, output, resume) as (write, kept):
        tasks = _remaining(job, kept, rows, tally)
        for answers in predict_rows(tasks):
            row = rows.popleft()
            for answer in answers:
                write(csv_line(job.line(row, answer)))
                tally.count(row.line, answer)


def _remaining(job: Job, kept: Iterator[Row], rows: deque[Row], tally: Tally) -> Iterator[Task]:
    """Tasks for what the output does not hold yet; what it holds must be of this table."""
    for row in job.table.rows():
        task = job.task(row)
        there = []
        for device in task.devices:
            old = next(kept, None)
            if old is None:
                break
            _same(job, row, device, old)
            there.append(device)
        tally.kept += len(there)
        if len(there) < len(task.devices):
            rows.append(row)
            yield replace(task, devices=task.devices[len(there) :])
    if next(kept, None) is not None:
        raise ConfigError("the output has more rows than this table: it is another table's. "
                          "Choose another --output, or leave out --resume")  # fmt: skip


def _same(job: Job, row: Row, device: str | None, old: Row) -> None:
    expected = job.line(row, Answer(device))
    width = len(expected) - len(ADDED)
    if old.cells[:width] != expected[:width]:
        raise ConfigError(
            f"line {old.line} of the output is not of line {row.line} of {job.table.name}: it is "
            "another table's. Choose another --output, or leave out --resume"
        )


@contextlib.contextmanager
def _sink(
    job: Job, output: Path | None, resume: bool
) -> Iterator[tuple[Callable[[str], None], Iterator[Row]]]:
    """Where lines go, flushed one by one, and the rows that are there already."""
    if output is None:
        _print(csv_line(job.header))
        yield _print, iter(())
        return
    header = csv_line(job.header).encode(ENCODING, ERRORS)
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

            def write(text: str) -> None:
                _write(stream, text.encode(ENCODING, ERRORS))

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


def _print(text: str) -> None:
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise ConfigError(f"stdout cannot be written: {error.strerror or error}") from error
