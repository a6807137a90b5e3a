"""Puts models into a worker process that end it, or keep it busy until a file says go on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from predictor.batching import Answer, Task, jobs

plain = jobs.answers


def answers(tasks: Sequence[Task]) -> Iterator[tuple[Answer, ...]]:
    """``deadly:FILE:N`` kills its process N times, ``slow:FOLDER`` waits for FOLDER/go."""
    for task in tasks:
        word, _, rest = task.model.partition(":")
        if word == "deadly":
            file, _, times = rest.rpartition(":")
            with Path(file).open("a+") as log:
                log.seek(0)
                count = len(log.read())
                log.write("x")
            if count < int(times):
                os.kill(os.getpid(), signal.SIGKILL)
        elif word == "slow":
            folder = Path(rest)
            (folder / f"pid{os.getpid()}").touch()
            while not (folder / "go").exists():
                time.sleep(0.01)
        else:
            yield from plain([task])
            continue
        yield tuple(Answer(device, 1.5, 1.0, 2.0) for device in task.devices)


jobs.answers = answers
