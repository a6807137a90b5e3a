"""Several processes of this machine on one search: the running command, started again."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

KILLED_AFTER_S = 10.0


class Crew:
    """``count`` - 1 more processes with the command line of this one, sharing its storage.

    ``storage`` is where trials are kept: what was asked for, or a file of its own for the time
    being where several processes were asked for and no storage. ``notes`` tell of processes that
    ended badly.
    """

    def __init__(self, count: int, storage: str | None) -> None:
        self.count, self.notes = count, list[str]()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._others: list[subprocess.Popen[bytes]] = []
        if count > 1 and storage is None:
            self._folder = tempfile.TemporaryDirectory(prefix="predictor-search-")
            storage = str(Path(self._folder.name) / "trials.log")
        self.storage = storage

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for other in self._others:
            if other.poll() is None:
                other.terminate()
        for other in self._others:
            try:
                other.wait(KILLED_AFTER_S)
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()
        if self._folder is not None:
            self._folder.cleanup()

    def start(self) -> None:
        """Start the others."""
        own = sys.argv[1:]
        end = own.index("--") if "--" in own else len(own)
        own[end:end] = ["--workers", "1", "--as-worker", "--storage", str(self.storage)]
        for _ in range(self.count - 1):
            self._others.append(subprocess.Popen(
                [sys.executable, "-m", "predictor.cli", *own], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            ))  # fmt: skip

    def wait(self) -> bool:
        """Let the others finish what they evaluate; whether there were any."""
        for other in self._others:
            _, said = other.communicate()
            if other.returncode:
                last = said.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
                self.notes.append(f"a worker ended with {other.returncode}: {last[0]}")
        return bool(self._others)
