"""A board without a framework, for tests: a quick runtime, plans for it, and a host to be killed.

python stand_in.py PLAN FOLDER      runs a session with it in this process
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from predictor.profiling import journal, session, standalone
from predictor.profiling.hosts.local import LocalHost

NAME = "stand_in"
RUNTIME = '''
"""A runtime whose programs say how long they take and how they end."""
import json
import os
import signal
import time

from predictor.profiling.runtimes import Program, ProgramError, Runtime


class Fixed(Program):
    outside = True

    def __init__(self, body):
        self.body = body

    def alone(self, seconds):
        time.sleep(float(os.environ.get("STAND_IN_SLEEP", self.body.get("sleep_s", 0.0))))
        if self.body.get("do") == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        value = self.body["value"]
        return {"latency_us": [value] * 40, "single_us": [value], "settled": True}


class StandIn(Runtime):
    name = "stand_in"

    def versions(self):
        return {"stand_in": "1"}

    def load(self, name, data):
        body = json.loads(data.decode())
        if body.get("do") == "fail":
            raise ProgramError("this one cannot be loaded")
        return Fixed(body)


RUNTIME = StandIn
'''


def board_files() -> dict[str, str]:
    return {**_files(), f"predictor/profiling/runtimes/{NAME}.py": RUNTIME}


_files = standalone.board_files
with_runtime = mock.patch.object(standalone, "board_files", board_files)
"""The self-contained file has the runtime while this is in effect."""


def write_plan(
    path: Path, tasks: int = 8, *, sleep_s: float = 0.0, do: Mapping[int, str] | None = None,
    runtime: str = NAME, **more: Any,
) -> list[str]:  # fmt: skip
    """A plan of so many tasks; the ids. ``do`` says which ones end otherwise than well."""
    ids = [f"task-{index}.1" for index in range(tasks)]
    body = {
        "format": 1, "name": "stand-in", "runtime": runtime, "precision": "fp32", "threads": 1,
        "device": "cpu", "reference": "programs/reference.json", "settings": {}, "weights_bytes": 0,
        "tasks": [{"id": task, "kind": "network" if index % 2 else "kernel", "pass": 1,
                   "program": f"programs/{index}.json", "graph": f"graphs/{index}.json",
                   "label": f"net {index}", "family": "none", "space": "zoo", "detail": False}
                  for index, task in enumerate(ids)],
        **more,
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("plan.json", json.dumps(body))
        archive.writestr("programs/reference.json", json.dumps({"value": 1.0}))
        for index in range(tasks):
            program = {"value": index + 0.5, "sleep_s": sleep_s, "do": (do or {}).get(index)}
            archive.writestr(f"programs/{index}.json", json.dumps(program))
    return ids


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a results file whose checksum holds."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [line for line in lines if journal.parse_line(line) is not None]


def tasks_of(lines: Sequence[bytes]) -> list[str]:
    """The tasks that the lines say are measured, in order, as often as they say so."""
    rows = [journal.parse_line(line) or {} for line in lines]
    return [row["task"] for row in rows if row.get("row") == "task"]


def local(folder: Path) -> LocalHost:
    return LocalHost(folder / "board", sys.executable)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    plan_file, target = map(Path, sys.argv[1:3])
    with with_runtime:
        made = session.run(plan_file, target, local(target))
    print(len(made.measured), "measured")
