"""What runs on the board: a plan in, a journal out. The entry of the one self-contained file.

    python3 board.pyz PLAN.zip RESULTS.jsonl [--time 20min] [--echo] [--done FILE]

Tasks that the journal already holds are left out, so a run that was cut short goes on. Runs with
Python 3.6 or newer, the standard library, and the runtime that the plan names.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
import zipfile
from typing import Any, Dict, List, Optional, Set

from predictor.profiling import journal, protocol, runtimes, watch

FORMAT = 1
"""Version of the plan format that is read."""
EXIT_OK, EXIT_USAGE, EXIT_MEASURE = 0, 2, 5
UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
MALLOC = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), "1000000000")
"""glibc returns freed memory and faults it in again otherwise: 21 page faults a ResNet-50 run."""


class Trouble(Exception):
    """Something that ends the run; ``code`` is the exit code."""

    def __init__(self, text, code):
        # type: (str, int) -> None
        Exception.__init__(self, text)
        self.code = code


def seconds_of(text):
    # type: (str) -> float
    """``90``, ``90s``, ``20min`` or ``2h`` in seconds; ValueError for anything else."""
    stripped = text.strip()
    number = stripped.rstrip("abcdefghijklmnopqrstuvwxyz")
    value = float(number) * UNITS[stripped[len(number) :] or "s"]
    if not 0 < value < 1e7:
        raise ValueError(text)
    return value


def _duration(text):
    # type: (str) -> float
    try:
        return seconds_of(text)
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError("'%s' is no time; write 90s, 20min or 2h" % text)


def _arguments(argv):
    # type: (List[str]) -> Any
    parser = argparse.ArgumentParser(
        prog="board", description="Measure what a plan asks for; append to a results file."
    )
    parser.add_argument("plan", help="plan file (.zip)")
    parser.add_argument("results", help="results file; measured tasks in it are left out")
    parser.add_argument("--time", type=_duration, help="stop after 90s, 20min or 2h")
    parser.add_argument("--echo", action="store_true", help="print every line of the results")
    parser.add_argument("--done", help="file with tasks to leave out, one a line")
    return parser.parse_args(argv)


class Plan(object):
    """The plan file, checked as far as the board needs it."""

    def __init__(self, path):
        # type: (str) -> None
        try:
            with open(path, "rb") as handle:
                self.sha256 = hashlib.sha256(handle.read()).hexdigest()
            self.archive = zipfile.ZipFile(path)
            self.body = json.loads(self.archive.read("plan.json").decode("utf-8"))
            version = self.body["format"]
            self.tasks = list(self.body["tasks"])  # type: List[Dict[str, Any]]
            for key in ("runtime", "precision", "threads", "reference"):
                self.body[key]
        except OSError as error:
            raise Trouble("%s: %s" % (path, error.strerror or error), EXIT_USAGE)
        except (zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
            raise Trouble("%s: not a plan file (%s); write it anew" % (path, error), EXIT_USAGE)
        if version != FORMAT:
            raise Trouble("%s: plan format %s, this file reads %d" % (path, version, FORMAT),
                          EXIT_USAGE)  # fmt: skip

    def read(self, name):
        # type: (str) -> bytes
        """The bytes of a file in the plan."""
        try:
            return self.archive.read(name)
        except (KeyError, zipfile.BadZipFile) as error:
            raise runtimes.ProgramError("the plan lacks or damages %s (%s)" % (name, error))


class Run(object):
    """One run of the agent: a runtime, a bench, a journal."""

    def __init__(self, plan, book, options, parent, folder):
        # type: (Plan, Any, Any, int, str) -> None
        self.plan, self.book, self.options = plan, book, options
        self.parent = parent
        self.started = time.monotonic()
        settings = dict(plan.body, folder=folder)
        self.watch = watch.Watch(list(plan.body.get("watch", [])))
        self.runtime = runtimes.find(plan.body["runtime"])(settings)  # type: runtimes.Runtime
        reference = self.runtime.load(plan.body["reference"], plan.read(plan.body["reference"]))
        self.bench = None  # type: Optional[protocol.Bench]
        if not reference.outside:
            on_cpu = plan.body.get("device", "cpu") == "cpu"
            limits = plan.body.get("settings", {})
            self.bench = protocol.Bench(reference, limits, on_cpu, self.runtime.evict)

    def head(self):
        # type: () -> Dict[str, Any]
        """The row that says what measures."""
        body = self.plan.body
        facts = watch.machine()
        facts.update(self.runtime.peak())
        return {
            "row": "run", "plan": body.get("name", ""), "plan_sha256": self.plan.sha256,
            "runtime": body["runtime"], "precision": body["precision"],
            "threads": body["threads"], "device": body.get("device", "cpu"),
            "versions": self.runtime.versions(), "machine": facts,
            "watches": self.watch.names, "state": self.watch.state(), "started": _now(),
        }  # fmt: skip

    def left(self, done):
        # type: (Set[str]) -> List[Dict[str, Any]]
        """Tasks that are not done."""
        return [task for task in self.plan.tasks if task["id"] not in done]

    def alive(self):
        # type: () -> None
        """End when nobody waits for the results any more."""
        if self.options.echo and os.getppid() != self.parent:
            raise Trouble("whoever started this run is gone", EXIT_MEASURE)

    def over(self):
        # type: () -> bool
        """Whether the time is up."""
        limit = self.options.time
        return limit is not None and time.monotonic() - self.started >= limit

    def task(self, task):
        # type: (Dict[str, Any]) -> Dict[str, Any]
        """Measure one task; the journal's row of it."""
        begin, before = time.monotonic(), self.watch.state()
        keys = ("program", "label", "kind", "pass", "family", "space")
        row = {"row": "task", "task": task["id"], "started": _now()}  # type: Dict[str, Any]
        row.update((key, task[key]) for key in keys if key in task)
        program = self.runtime.load(task["program"], self.plan.read(task["program"]))
        try:
            if program.outside or self.bench is None:
                row.update(program.alone(self.plan.body.get("alone_s", 3.0)))
            elif task["kind"] == "network":
                row.update(self.bench.network(program, bool(task.get("detail")), self.alive))
            else:
                row.update(self.bench.kernel(program, self.alive))
        finally:
            program.close()
        after = self.watch.state()
        row.update(state=before, state_after=after, seconds=round(time.monotonic() - begin, 3))
        why = self.watch.disturbed(before, after)
        if why is not None:
            row["settled"] = False
            row.setdefault("remarks", []).append(why)
        return row

    def attempt(self, task):
        # type: (Dict[str, Any]) -> Dict[str, Any]
        """As :meth:`task`, again while the machine was disturbed; a row that says why it failed."""
        row = {}  # type: Dict[str, Any]
        for _ in range(1 + int(self.plan.body.get("retries", 1))):
            try:
                row = self.task(task)
            except (runtimes.ProgramError, runtimes.RuntimeUnavailable, MemoryError,
                    RuntimeError) as error:  # fmt: skip
                return failed(task, "%s: %s" % (type(error).__name__, error))
            if not any(row.get(key) for key in TIMES):
                row.setdefault("remarks", []).append(_rejected(row))
            if not row.get("remarks"):
                return row
        return failed(task, "; ".join(row["remarks"]) + ": not kept, measure it again later")

    def all(self, done):
        # type: (Set[str]) -> None
        """Every task that is left, until the time is up."""
        todo = self.left(done)
        self.book.append(self.head())
        self.echo()
        for index, task in enumerate(todo):
            if self.over():
                print("time is up, %d tasks are left" % (len(todo) - index), file=sys.stderr)
                break
            print("progress %d %d %s" % (index, len(todo), task.get("label", task["id"])),
                  file=sys.stderr, flush=True)  # fmt: skip
            self.alive()
            self.book.append(self.attempt(task))
            self.echo()

    def echo(self):
        # type: () -> None
        """Print the lines of the journal that were not printed yet, where that was asked."""
        if self.options.echo:
            self.book.echo(sys.stdout)


TIMES = ("steady_us", "hot_us", "latency_us")
"""Fields of a row of which one must hold something, or nothing was measured."""


def _rejected(row):
    # type: (Dict[str, Any]) -> str
    reasons = [entry["why"] for entry in row.get("rejected", [])]
    return "all %d blocks were disturbed (%s)" % (len(reasons), reasons[-1] if reasons else "-")


def failed(task, error):
    # type: (Dict[str, Any], str) -> Dict[str, Any]
    """The row of a task that cannot be measured here."""
    return {"row": "failed", "task": task["id"], "label": task.get("label", ""), "error": error,
            "started": _now()}  # fmt: skip


def _now():
    # type: () -> str
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def measured(rows):
    # type: (List[Dict[str, Any]]) -> Set[str]
    """Tasks that a journal holds."""
    return {row["task"] for row in rows if row.get("row") == "task"}


def _prepared(argv, plan):
    # type: (List[str], Plan) -> None
    """Start anew with the allocator and thread settings, which libraries read when they load."""
    wanted = dict(MALLOC)
    wanted.update((name, str(plan.body["threads"])) for name in THREAD_VARIABLES)
    missing = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    if missing and os.environ.get("LATENCY_PROFILE_PREPARED") != "1":
        environment = dict(os.environ, LATENCY_PROFILE_PREPARED="1")
        environment.update(missing)
        main = os.path.abspath(sys.argv[0])
        start = [main] if zipfile.is_zipfile(main) else ["-m", "predictor.profiling"]
        os.execve(sys.executable, [sys.executable] + start + argv, environment)


def main(argv=None):
    # type: (Optional[List[str]]) -> int
    """The command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    options = _arguments(argv)
    parent = os.getppid()  # before anything that takes long: it may die meanwhile
    try:
        plan = Plan(options.plan)
        _prepared(argv, plan)
        done = set()  # type: Set[str]
        if options.done:
            with open(options.done) as handle:
                done.update(line.strip() for line in handle if line.strip())
        scratch = tempfile.TemporaryDirectory(prefix="latency-profile-")  # weights, profiles
        with scratch as folder, journal.Journal(options.results) as book:
            for remark in book.remarks:
                print("note: %s" % remark, file=sys.stderr)
            done |= measured(book.rows)
            run = Run(plan, book, options, parent, folder)
            run.echo()
            run.all(done)
    except Trouble as error:
        print("error: %s" % error, file=sys.stderr)
        return error.code
    except (runtimes.RuntimeUnavailable, runtimes.ProgramError, journal.JournalError) as error:
        print("error: %s" % error, file=sys.stderr)
        return EXIT_MEASURE
    except BrokenPipeError:
        return EXIT_MEASURE
    except KeyboardInterrupt:
        return 130
    return EXIT_OK
