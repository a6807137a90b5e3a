"""The contract between a profile and the place where it is taken, and the process behind it."""

from __future__ import annotations

import abc
import collections
import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from predictor.errors import MeasurementError

Hear = Callable[[str], None]
RUN_AGAIN = "What was measured is kept; run the same command again to go on"
LAST_WORDS = 40
"""Lines of the other side's stderr that are kept to explain its end."""
PATIENCE_S = 5.0
"""For a process that was asked to end; then it is killed."""
TEMPORARY_PREFIXES = ("progress ", "note: ")


class Crashed(MeasurementError):
    """The measuring program died without a word of its own: a signal, or no memory left."""


class Host(abc.ABC):
    """A place where a plan can be measured.

    The place keeps a results file of its own for each ``key``: :meth:`start` gives what that holds
    first, then what comes, so that what a cut connection swallowed arrives next time.

    Attributes:
        hear: told every line of the other side's stderr.
    """

    def __init__(self) -> None:
        self.hear: Hear = lambda text: None
        self._stream: Stream | None = None

    @abc.abstractmethod
    def describe(self) -> str:
        """The place in a few words, for messages."""

    @abc.abstractmethod
    def start(
        self, plan: Path, done: Iterable[str], seconds: float | None, key: str
    ) -> Iterator[bytes]:
        """Measure what is left of ``plan``; the whole lines of the place's results file.

        Args:
            plan: the plan file.
            done: tasks to leave out.
            seconds: no task is begun after so many seconds; None is no limit.
            key: names the results file at that place; letters, digits and ``-``.

        Raises:
            Crashed: the measuring program died.
            MeasurementError: place, cause and remedy.
        """

    def close(self) -> None:
        """End what runs there; from any thread, more than once. :meth:`start` then just ends."""
        if self._stream is not None:
            self._stream.stop()

    def _follow(
        self, argv: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Iterator[bytes]:
        """The lines of a process; at its end an error if it was no good one."""
        stream = self._stream = Stream(argv, self.hear, environment)
        try:
            yield from stream.lines()
            code = stream.wait()
            if code and not stream.stopped:
                raise self._error(code, stream.words)
        finally:
            stream.close()

    def _error(self, code: int, words: Sequence[str]) -> MeasurementError:
        """What the end of the measuring program with ``code`` means."""
        place, said = self.describe(), last_words(words)
        if code in (2, 5) and said:
            return MeasurementError(f"{place}: {said.removeprefix('error: ')}")
        if code < 0 or 128 < code < 255:
            signal = -code if code < 0 else code - 128
            return Crashed(f"{place}: the measuring program was ended by signal {signal}"
                           + (" (often: no memory left)" if signal == 9 else "")
                           + f". {RUN_AGAIN}")  # fmt: skip
        if code in (126, 127):
            return MeasurementError(f"{place}: Python cannot be run ({said}); install Python 3.6 "
                                    "or newer there, or name it with --python")  # fmt: skip
        told = f", saying: {said}" if said else ""
        return MeasurementError(
            f"{place}: the measuring program ended with exit code {code}{told}. {RUN_AGAIN}"
        )


def last_words(words: Sequence[str]) -> str:
    """The line of a stderr that tells most: the last error, else the last line."""
    told = [word.strip() for word in words if word.strip()]
    told = [word for word in told if not word.startswith(TEMPORARY_PREFIXES)]
    errors = [word for word in told if word.startswith("error: ")]
    return (errors or told or [""])[-1]


class Stream:
    """A process whose stdout is lines of results and whose stderr is talk.

    Its standard input stays open for as long as this process lives, see
    :mod:`predictor.profiling.leash`.

    Raises:
        MeasurementError: it cannot be started.
    """

    def __init__(
        self, argv: Sequence[str], hear: Hear, environment: Mapping[str, str] | None = None
    ) -> None:
        self.stopped = False
        self._hear = hear
        self._words: collections.deque[str] = collections.deque(maxlen=LAST_WORDS)
        self._process = popen(argv, environment)
        self._listener = threading.Thread(target=self._listen, name="stderr", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            text = line.decode("utf-8", "replace").rstrip()
            self._words.append(text)
            self._hear(text)

    @property
    def words(self) -> list[str]:
        """The last lines of its stderr."""
        return list(self._words)

    def lines(self) -> Iterator[bytes]:
        """Whole lines of its stdout as they come; a torn last one is left out."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):
                yield line

    def wait(self) -> int:
        """Its exit code, negative for a signal, once it has ended."""
        code = self._process.wait()
        self._listener.join(PATIENCE_S)
        return code

    def stop(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            self.stopped = True
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        """End it and let its pipes go; for the reader of :meth:`lines` only."""
        self.stop()
        self._listener.join(PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def popen(argv: Sequence[str], environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    """Start a process with three pipes, out of reach of the terminal's Ctrl-C.

    Raises:
        MeasurementError: it cannot be started.
    """
    try:
        return subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise MeasurementError(
            f"{argv[0]}: cannot be started: {error.strerror or error}; install it, or put it on "
            "PATH"
        ) from error
