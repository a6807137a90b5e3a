"""This machine: a process of its own, so that nothing else runs in what is timed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from predictor.errors import MeasurementError
from predictor.profiling import agent, leash, standalone
from predictor.profiling.hosts.base import Host
from predictor.profiling.planfile import read_plan


class LocalHost(Host):
    """This machine.

    Args:
        folder: where its results file is kept; made if needed.
        python: the interpreter; this one otherwise. Another one runs the self-contained file, so
            it needs the runtime but not this package.
    """

    def __init__(self, folder: Path, python: str | None = None) -> None:
        super().__init__()
        self.folder, self.python = folder, python

    def describe(self) -> str:
        """The words ``this machine``."""
        return "this machine"

    def start(
        self, plan: Path, done: Iterable[str], seconds: float | None, key: str
    ) -> Iterator[bytes]:
        """As :meth:`Host.start` says."""
        threads = str(read_plan(plan)["threads"])
        environment = {
            **os.environ,
            **agent.MALLOC,
            **dict.fromkeys(agent.THREAD_VARIABLES, threads),
            leash.VARIABLE: "1",
        }  # the first two as the agent wants them, or it would start itself anew
        left_out = self.folder / f"done-{key}.txt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            left_out.write_text("".join(f"{task}\n" for task in sorted(done)), encoding="utf-8")
        except OSError as error:
            raise MeasurementError(
                f"{left_out}: cannot be written: {error.strerror or error}; make room and run again"
            ) from error
        if self.python is None:
            start = [sys.executable, "-m", "predictor.profiling"]
            here = str(Path(__file__).resolve().parents[3])
            paths = [here, environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        else:
            start = [self.python, str(standalone.build(self.folder / "board.pyz"))]
        argv = [*start, str(plan), str(self.folder / f"results-{key}.jsonl"), "--echo",
                "--done", str(left_out)]  # fmt: skip
        if seconds is not None:
            argv += ["--time", f"{seconds:.0f}s"]
        yield from self._follow(argv, environment)
