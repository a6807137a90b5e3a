"""Where output goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from predictor.errors import ConfigError
from predictor.files import write_whole
from predictor.report.layout import Style

PATIENCE_S = 2.0
"""Seconds of silence before progress is shown."""
REPORT_S = 30.0
"""Seconds between two lines of progress where there is no terminal."""


def lenient_streams() -> None:
    """Print what the locale cannot as an escape, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_stdout() -> None:
    """Send what is still to come to nowhere, as the reader of stdout is gone."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def emit(text: str) -> None:
    """Print a result. A reader that went away (``| head``) is no error.

    Raises:
        ConfigError: stdout cannot be written (a full disk).
    """
    try:
        click.echo(text)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
    except OSError as error:
        discard_stdout()
        raise ConfigError(f"stdout cannot be written: {error.strerror or error}") from error


def warn(texts: Iterable[str]) -> None:
    """Print warnings, one a line, to stderr."""
    for text in texts:
        click.echo(f"warning: {text}", err=True)


def terminal_style() -> Style:
    """Width, colour and characters that stdout can take.

    No colour where stdout is no terminal, the terminal is dumb or ``NO_COLOR`` is set.
    """
    tty = sys.stdout is not None and sys.stdout.isatty()
    color = tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    return Style(
        # A file or a pipe has no width: there, names are worth more than short lines.
        width=min(shutil.get_terminal_size((160, 24)).columns, 160),
        color=color,
        unicode=encoding.startswith("utf"),
    )


def write_file(path: Path, text: str) -> None:
    """Write a report in full or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        write_whole(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def progress(task: str | Callable[[], str]) -> Iterator[None]:
    """Say on stderr what takes long, once it takes more than two seconds.

    On a terminal the line counts the seconds and is wiped at the end; elsewhere it is one line.
    A task that is a function says how far it is: on a terminal always, elsewhere twice a minute.
    """
    done = threading.Event()
    tty = sys.stderr is not None and sys.stderr.isatty()
    start = time.monotonic()

    def said() -> str:
        return task() if callable(task) else task

    def show() -> None:
        if done.wait(PATIENCE_S):
            return
        if not tty:
            click.echo(f"{said()} ...", err=True)
            while callable(task) and not done.wait(REPORT_S):
                click.echo(f"{said()} ...", err=True)
            return
        while not done.wait(0.5):
            click.echo(f"\r{said()} ... {time.monotonic() - start:.0f} s\x1b[K", err=True, nl=False)
        click.echo("\r\x1b[K", err=True, nl=False)

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
