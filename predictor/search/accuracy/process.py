"""A child process that answers in JSON lines, with deadlines, and that ends with all it started."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import predictor

Message = dict[str, Any]
START = "import sys; sys.path.insert(0, sys.argv[1]); from {module} import main; main()"
LOOK_S = 0.5
"""How often a child that says nothing is looked at: is it still there?"""


class TooLate(Exception):
    """The child did not answer in time."""


class Gone(Exception):
    """The child ended; the text says how."""


class Child:
    """``main`` of a module of this package in a process of its own."""

    def __init__(self, module: str) -> None:
        root = str(Path(predictor.__file__).resolve().parent.parent)
        self._process = subprocess.Popen(
            [sys.executable, "-c", START.format(module=module), root],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin
        self._arrived: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self._follow, args=(self._process.stdout,), daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    def say(self, message: Message) -> None:
        """Send a message.

        Raises:
            Gone: it ended before.
        """
        try:
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.flush()
        except OSError:
            raise Gone(self.end()) from None

    def next(self, deadline: float) -> Message:
        """Its next message, waited for until ``deadline`` (as of ``time.monotonic``).

        Raises:
            TooLate: none came; the child is as it was.
            Gone: it ended.
        """
        while True:
            left = deadline - time.monotonic()
            try:
                line = self._arrived.get(timeout=max(min(left, LOOK_S), 0.001))
            except queue.Empty:
                if self._ended() and self._arrived.empty():  # its own children may hold the pipe
                    raise Gone(self.end()) from None
                if left <= 0:
                    raise TooLate from None
                continue
            if line is None:
                raise Gone(self.end())
            message: Message = json.loads(line)
            return message

    def end(self) -> str:
        """End it and all that it started, if need be; how it ended."""
        for _ in range(20):  # a moment for its own end, whose status says more than our signal
            if self._ended():
                break
            time.sleep(0.01)
        self.kill()
        code = self._process.returncode
        if code >= 0:
            return f"ended with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"was ended by signal {signal.Signals(-code).name}"
        return f"was ended by signal {-code}"

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self._process.returncode is None:  # not waited for: the group's number is still its own
            with contextlib.suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            self._stdin.close()

    def _ended(self) -> bool:
        """Whether it ended; with waitid its group can still be named afterwards."""
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        if self._process.returncode is not None:
            return True
        wanted = os.WEXITED | os.WNOWAIT | os.WNOHANG
        return os.waitid(os.P_PID, self._process.pid, wanted) is not None

    def _follow(self, source: IO[bytes]) -> None:
        with source, contextlib.suppress(OSError, ValueError):
            for line in source:
                self._arrived.put(line)
        self._arrived.put(None)
