"""Trials a second of one worker and of four on one file, each trial half a second of sleep.

    python -m scripts.search_workers [--trials 40] [--storage postgresql://...]

Prints both and their ratio. Starting the processes is not counted: time runs from the first trial's
begin to the last one's end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SLEEP_S = 0.5
TRAIN = f"""
import time

def evaluate(candidate):
    time.sleep({SLEEP_S})
    return sum(map(ord, candidate.key)) % 97
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Finished trials a second, and how many evaluated what another one had."""

    workers: int
    a_second: float
    twice: int


def work(storage: str, name: str, train: str, trials: int, sampler: str) -> None:
    """One worker, in a process of its own."""
    from predictor.pipeline import Predictor
    from predictor.search.accuracy import find
    from predictor.search.pricing import Pricer
    from predictor.search.problem import Problem
    from predictor.search.spaces.ofa import OnceForAll
    from predictor.search.study import Search

    space = OnceForAll()
    signal = find(f"{train}:evaluate")
    problem = Problem(space, Pricer(space, [Predictor("jetson")]))
    print("ready", flush=True)
    sys.stdin.readline()  # all begin together
    Search(problem, signal, trials=trials, sampler=sampler, storage=storage, name=name).run()
    signal.close()


def measured(
    folder: Path, workers: int, trials: int = 40, storage: str | None = None,
    sampler: str = "learned",
) -> Measured:  # fmt: skip
    """What so many workers do with ``trials`` trials each, in a new file unless told otherwise."""
    import optuna

    from predictor.search.storage import open_storage

    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    place = storage or str(folder / f"{workers}.log")
    name = f"workers-{workers}-{os.getpid()}"
    words = [sys.executable, "-m", "scripts.search_workers", "--work", place, name,
             str(folder / "train.py"), str(trials * workers), sampler]  # fmt: skip
    started = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
               for _ in range(workers)]  # fmt: skip
    for one in started:
        assert one.stdout is not None
        one.stdout.readline()
    for one in started:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for one in started:
        one.communicate()
        assert one.returncode == 0
    study = optuna.load_study(study_name=name, storage=open_storage(place))
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    begin = min(trial.datetime_start for trial in done if trial.datetime_start)
    end = max(trial.datetime_complete for trial in done if trial.datetime_complete)
    keys = {json.loads(trial.user_attrs["about"])["key"] for trial in done}
    return Measured(workers, len(done) / (end - begin).total_seconds(), len(done) - len(keys))


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, default=40, help="of each worker")
    parser.add_argument("--sampler", default="learned")
    parser.add_argument("--storage")
    arguments = parser.parse_args()
    if arguments.work:
        storage, name, train, trials, sampler = arguments.work
        work(storage, name, train, int(trials), sampler)
        return
    found = []
    for workers in (1, 4):
        with tempfile.TemporaryDirectory() as folder:
            found.append(measured(Path(folder), workers, arguments.trials, arguments.storage,
                                  arguments.sampler))  # fmt: skip
        one = found[-1]
        print(
            f"{workers} workers: {one.a_second:.3f} trials a second, {one.twice} twice", flush=True
        )
    print(f"ratio {found[1].a_second / found[0].a_second:.2f}")


if __name__ == "__main__":
    main()
