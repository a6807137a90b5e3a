"""What SSH and ADB have in common: a shell elsewhere, a folder there, files that are sent once.

The other side's shell reads one text, so everything in it that somebody chose is quoted. Only
``/bin/sh`` and Python 3.6 are taken for granted there.
"""

from __future__ import annotations

import abc
import hashlib
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from predictor.errors import MeasurementError
from predictor.profiling import leash, standalone
from predictor.profiling.hosts.base import RUN_AGAIN, Host, last_words

GREETING_S = 90.0
"""Seconds until a place must have answered."""
NO_FOLDER, NO_PYTHON = 73, 74
"""Exit codes of the greeting."""
VERSION = (
    "import sys; sys.stderr.write('Python %d.%d\\n' % sys.version_info[:2]); "
    "sys.exit(sys.version_info < (3, 6))"
)


class RemoteHost(Host):
    """A place that is reached by a command.

    Args:
        folder: the folder there; relative ones start where the shell does.
        python: the interpreter there, a name or a path.
    """

    def __init__(self, folder: str, python: str | None) -> None:
        super().__init__()
        self.folder, self.python = folder, python or "python3"

    @abc.abstractmethod
    def command(self, script: str) -> list[str]:
        """Arguments that have the other side's ``/bin/sh`` read ``script``."""

    @abc.abstractmethod
    def send(self, data: bytes, name: str) -> None:
        """Put a file into the folder there, whole or not at all.

        Raises:
            MeasurementError: it did not arrive.
        """

    @abc.abstractmethod
    def transport(self, code: int, words: Sequence[str]) -> MeasurementError | None:
        """The error when the way there is broken, None when the other side itself ended so."""

    def start(
        self, plan: Path, done: Iterable[str], seconds: float | None, key: str
    ) -> Iterator[bytes]:
        """As :meth:`Host.start` says."""
        board, body = standalone.content(), plan.read_bytes()
        files = {f"board-{_short(board)}.pyz": board, f"plan-{_short(body)}.zip": body}
        there = self._greet(files)
        for name, data in files.items():
            if name not in there:
                self.send(data, name)
        left_out = f"done-{key}.txt"
        self.send("".join(f"{task}\n" for task in sorted(done)).encode(), left_out)
        words = [self.python, *files, f"results-{key}.jsonl", "--echo", "--done", left_out]
        if seconds is not None:
            words += ["--time", f"{seconds:.0f}s"]
        # The shell stays, to tell a death by signal as an exit code.
        run = f"{leash.VARIABLE}=1 {shlex.join(words)}; exit $?"
        yield from self._follow(self.command(f"cd {self.quoted} && {run}"))

    @property
    def quoted(self) -> str:
        """The folder as the shell there takes it."""
        return shlex.quote(self.folder)

    def _greet(self, names: Iterable[str]) -> set[str]:
        """Make the folder, try the interpreter; which of the files are there."""
        tests = "; ".join(f"test -f {name} && echo have {name}" for name in names)
        code, out, words = self.ask(
            f"mkdir -p {self.quoted} && cd {self.quoted} || exit {NO_FOLDER}; "
            f"{shlex.join([self.python, '-c', VERSION])} || exit {NO_PYTHON}; {tests}; exit 0"
        )
        said = last_words(words)
        if code == NO_FOLDER:
            raise MeasurementError(f"{self.describe()}: the folder {self.folder} cannot be used "
                                   f"there ({said}); name another one behind the host")  # fmt: skip
        if code == NO_PYTHON:
            raise MeasurementError(f"{self.describe()}: no Python 3.6 or newer answers to "
                                   f"'{self.python}' ({said}); install it, or name it with "
                                   "--python")  # fmt: skip
        self.expect(code, words, "the first command failed")
        return {line[5:] for line in out.decode("utf-8", "replace").splitlines()
                if line.startswith("have ")}  # fmt: skip

    def ask(self, script: str, data: bytes = b"") -> tuple[int, bytes, list[str]]:
        """Exit code, stdout and lines of stderr of a short script there.

        Raises:
            MeasurementError: no answer.
        """
        return self.call(self.command(script), data, GREETING_S if not data else None)

    def call(
        self, argv: Sequence[str], data: bytes = b"", seconds: float | None = None
    ) -> tuple[int, bytes, list[str]]:
        """Exit code, stdout and lines of stderr of a command here."""
        try:
            # A file, not a pipe: a command that ends before it has read all breaks no pipe.
            with tempfile.TemporaryFile() as stdin:
                stdin.write(data)
                stdin.seek(0)
                done = subprocess.run(list(argv), stdin=stdin, capture_output=True,
                                      timeout=seconds, check=False)  # fmt: skip
        except OSError as error:
            raise MeasurementError(f"{argv[0]}: cannot be started: {error.strerror or error}; "
                                   "install it, or put it on PATH") from error  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise MeasurementError(f"{self.describe()}: no answer within {seconds:.0f} s; is it "
                                   f"on? {RUN_AGAIN}") from error  # fmt: skip
        return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace").splitlines()

    def expect(self, code: int, words: Sequence[str], what: str) -> None:
        """An error unless ``code`` is 0."""
        if code:
            said = last_words(words) or f"exit code {code}"
            raise self.transport(code, words) or MeasurementError(
                f"{self.describe()}: {what} ({said}). {RUN_AGAIN}"
            )

    def _error(self, code: int, words: Sequence[str]) -> MeasurementError:
        return self.transport(code, words) or super()._error(code, words)


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
