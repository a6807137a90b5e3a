"""A space of tiny networks, and a worker of a search in it that tests start as a process.

    python search_worker.py '{"storage": "journal.log", "evaluate": "train.py:evaluate", ...}'

It prints ``ready`` when everything is imported, and how its search ended as the last line.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from predictor.errors import PredictorError
from predictor.front import Limit, SearchResult
from predictor.frontends.families.parts import part
from predictor.pipeline import Predictor
from predictor.search import storage as storages
from predictor.search.candidate import Candidate, Signal
from predictor.search.pricing import Pricer
from predictor.search.problem import Problem
from predictor.search.space import SearchSpace
from predictor.search.study import Search

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = tuple(range(8, 72, 8))
PARAMETERS = {"first": WIDTHS, "second": WIDTHS, "kernel": (1, 3, 5), "act": ("relu", "silu")}


def convolution(b: Any, x: Any, name: str, width: int, kernel: int, act: str) -> Any:
    padding = kernel // 2
    return b.activation(b.conv(x, width, kernel, padding=padding, name=name), act)


class Two(SearchSpace):
    """Two convolutions, 384 of them."""

    name = "two"
    parameters = PARAMETERS

    def input_shape(self, values: Any) -> tuple[int, ...]:
        return (3, 32, 32)

    def chain(self, values: Any) -> Any:
        return [(n, part(convolution, values[n], values["kernel"], values["act"]))
                for n in ("first", "second")]  # fmt: skip


def goodness(values: Any) -> float:
    """What stands for an accuracy: no two architectures have the same."""
    return (values["first"] * 1.37 + values["second"] * values["kernel"] ** 0.5
            + 2.0 * (values["act"] == "silu"))  # fmt: skip


class Known(Signal):
    """Goodness, and what else a test wants to happen."""

    name = "goodness"

    def __init__(self, happens: Any = None) -> None:
        self.asked: list[str] = []
        self.happens = happens

    def score(self, candidate: Candidate) -> float:
        self.asked.append(candidate.key)
        if self.happens is not None:
            found = self.happens(len(self.asked), candidate)
            if found is not None:
                return float(found)
        return goodness(candidate.values)


TRAIN = """
import json, os, time

def evaluate(candidate):
    from search_worker import goodness
    time.sleep(float(os.environ.get("TEST_SLEEP", "0")))
    accuracy = goodness(candidate.values)
    log = os.open(os.environ["TEST_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, (json.dumps([candidate.key, accuracy]) + "\\n").encode())
    os.close(log)
    return accuracy
"""


def problem(limit: float | None = None, **parameters: Any) -> Problem:
    space = Two()
    space.parameters = {**PARAMETERS, **parameters}
    limits = () if limit is None else (Limit("macs", limit),)
    return Problem(space, Pricer(space, [Predictor("jetson")]), limits)


def keys(result: SearchResult) -> list[str]:
    return [trial.key for trial in result.trials]


@functools.cache
def _database(url: str) -> Any:
    return storages.open_storage(url)  # each that is opened holds a connection


def opened(storage: str) -> Any:
    """A storage to look into, as often as one likes."""
    return _database(storage) if "://" in storage else storages.open_storage(storage)


class Worker(subprocess.Popen):  # type: ignore[type-arg]
    """The process."""

    def __init__(self, folder: Path, sleep: float = 0.0, **settings: Any) -> None:
        import os

        train = folder / "train.py"
        if not train.exists():
            train.write_text(TRAIN)
        settings = {"evaluate": f"{train}:evaluate", **settings}
        self.storage = str(settings["storage"])
        paths = [str(ROOT), str(ROOT / "tests" / "search")]
        super().__init__(
            [sys.executable, __file__, json.dumps(settings)], stdout=subprocess.PIPE, text=True,
            cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths),
                             "TEST_LOG": str(folder / "log"), "TEST_SLEEP": str(sleep)},
        )  # fmt: skip

    def ready(self) -> None:
        assert self.stdout is not None
        assert self.stdout.readline() == "ready\n"

    def kill_at_work(self, seconds: float = 60) -> None:
        """Kill it while it has begun a candidate, and wait for its end.

        It is stopped for each look, so that what is seen still holds when it dies.
        """
        import os
        import signal

        until = time.monotonic() + seconds
        while time.monotonic() < until:
            os.kill(self.pid, signal.SIGSTOP)
            os.waitpid(self.pid, os.WUNTRACED)
            if self._at_work():
                self.kill()
                self.communicate()
                return
            os.kill(self.pid, signal.SIGCONT)
            time.sleep(0.02)
        raise TimeoutError("it began nothing")

    def _at_work(self) -> bool:
        import optuna

        study = optuna.load_study(study_name="search", storage=opened(self.storage))
        return any(t.state.name == "RUNNING" and "about" in t.user_attrs
                   and t.user_attrs["worker"].split(" ")[1] == str(self.pid)
                   for t in study.get_trials(deepcopy=False))  # fmt: skip

    def outcome(self, seconds: float = 60) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.communicate(timeout=seconds)[0].splitlines()[-1])
        return found


def main() -> None:
    from search_worker import problem  # the space's class then has a name that can be imported

    from predictor.search.accuracy import find

    wanted = json.loads(sys.argv[1])
    if "host" in wanted:
        storages.socket.gethostname = lambda: wanted["host"]
        storages.HEARTBEAT_S, storages.GRACE_S = 1, 3
    signal = find(wanted["evaluate"], seconds=60)
    space = problem(wanted.get("limit"))
    space.price([space.space.random(__import__("random").Random(0))])
    import optuna  # noqa: F401

    print("ready", flush=True)
    while wanted.get("together") and not Path("go").exists():
        time.sleep(0.005)
    said: list[str] = []
    search = Search(space, signal, trials=wanted["trials"], sampler=wanted.get("sampler", "random"),
                    seed=wanted.get("seed", 0), storage=wanted["storage"],
                    say=said.append)  # fmt: skip
    try:
        result = search.run()
    except PredictorError as error:
        print(json.dumps({"error": str(error), "exit": error.exit_code,
                          "kind": type(error).__name__}))  # fmt: skip
    else:
        print(json.dumps({"notes": list(result.notes), "trials": len(result.trials),
                          "said": said, "seconds": result.seconds}))  # fmt: skip
    finally:
        signal.close()


if __name__ == "__main__":
    main()
