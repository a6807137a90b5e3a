"""``train.py:evaluate``: a function of the user's, in a process of its own."""

from __future__ import annotations

import base64
import math
import pickle
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError, suggest
from predictor.search.accuracy.options import HOUR_S, Options
from predictor.search.accuracy.process import Child, Gone, Message, TooLate
from predictor.search.candidate import Candidate, Pruned, Signal, SignalError

if TYPE_CHECKING:
    from predictor.front import Values

CHILD = "predictor.search.accuracy.child"


class CallableFile(Signal):
    """``evaluate(candidate)`` of a Python file; it returns the accuracy, higher is better.

    It runs in one child process that is started once: its crash or hang costs one candidate. What
    ``candidate.report(step, accuracy)`` says there reaches the search, whose answer may end it.
    """

    def __init__(self, file: str | Path, function: str, *, seconds: float | None = None) -> None:
        """Start the child and import the file there.

        Args:
            file: the Python file; its neighbours can be imported in it.
            function: its name there.
            seconds: limit of one evaluation; an hour by default.

        Raises:
            ConfigError: the file is missing, fails to import or has no such function.
        """
        path = Path(file)
        if not path.is_file():
            near = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
            raise ConfigError(
                f"accuracy {file}:{function}: there is no file {file}.{suggest(path.name, near)}"
            )
        self.name = f"{path.name}:{function}"
        self.file, self.function = path.resolve(), function
        self.seconds = HOUR_S if seconds is None else seconds
        self._child: Child | None = None
        self._space: Any = None
        self._started()

    def score(self, candidate: Candidate) -> float:
        """Run the function on a candidate.

        Raises:
            Pruned: the search answered a report so.
            SignalError: it raised, returned no finite number, took too long or died.
            ConfigError: the file does not import any more, or the space cannot be sent.
        """
        child = self._child or self._started()
        request: Message = {"values": _plain(candidate.values)}
        if self._space is not candidate.space:
            request["space"] = packed(candidate.space)
        deadline = time.monotonic() + self.seconds
        try:
            child.say(request)
            self._space = candidate.space
            answer = self._answer(child, candidate, deadline)
        except TooLate:
            self.close()
            raise SignalError(
                f"{candidate.key}: {self.name} took longer than {self.seconds:g} s and was ended; "
                "--evaluation-time sets another limit"
            ) from None
        except Gone as error:
            self.close()
            raise SignalError(
                f"{candidate.key}: the process of {self.name} {error} (a crash or out of memory; "
                "what it printed is above)"
            ) from None
        except KeyboardInterrupt:
            self.close()
            raise
        return self._number(candidate, answer)

    def close(self) -> None:
        """End the child and all that it started; the next score starts another."""
        child, self._child, self._space = self._child, None, None
        if child is not None:
            child.kill()

    def _started(self) -> Child:
        """A child that has imported the file."""
        child = Child(CHILD)
        hello = {"path": sys.path, "file": str(self.file), "function": self.function}
        try:
            child.say(hello)
            answer = child.next(time.monotonic() + self.seconds)
        except (TooLate, Gone) as error:
            child.kill()
            how = f"took longer than {self.seconds:g} s (--evaluation-time)"
            how = how if isinstance(error, TooLate) else f"failed: its process {error}"
            raise ConfigError(f"importing it {how}", file=str(self.file)) from None
        except KeyboardInterrupt:
            child.kill()
            raise
        if answer.get("ready"):
            self._child = child
            return child
        child.kill()
        if "absent" in answer:
            raise ConfigError(
                f"there is no function '{self.function}'.{answer['absent']}", file=str(self.file)
            )
        broken = answer["broken"]
        raise ConfigError(
            f"importing it raised {broken['type']}: {broken['text']}",
            file=broken["file"], line=broken["line"],
        )  # fmt: skip

    def _answer(self, child: Child, candidate: Candidate, deadline: float) -> Message:
        """The final answer; reports on the way are passed to the search and its word back."""
        pruned = False
        while True:
            answer = child.next(deadline)
            if "report" not in answer:
                return {"pruned": True} if pruned and "error" not in answer else answer
            step, accuracy = answer["report"]
            pruned = pruned or candidate.prune(step, accuracy)
            child.say({"prune": pruned})

    def _number(self, candidate: Candidate, answer: Message) -> float:
        place = f"{candidate.key}: {self.name}"
        if "pruned" in answer:
            raise Pruned(f"{place} was given up")
        if "error" in answer:
            error = answer["error"]
            raise SignalError(
                f"{place} raised {error['type']}: {error['text']} ({error['file']}:{error['line']})"
            )
        if "odd" in answer:
            raise SignalError(f"{place} returned {answer['odd']}; return the accuracy as a number")
        value = float(answer["value"])
        if not math.isfinite(value):
            raise SignalError(f"{place} returned {value}; return a finite number")
        return value


def packed(space: Any) -> Message:
    """A space as a message: its pickle, and the files of classes that no import finds by name.

    Raises:
        ConfigError: it holds something that cannot be pickled.
    """
    files = []
    for kind in type(space).__mro__:
        module = sys.modules.get(kind.__module__)
        file = getattr(module, "__file__", None)
        if file and (kind.__module__ == "__main__" or not _importable(kind.__module__)):
            files.append([kind.__module__, file])
    try:
        data = pickle.dumps(space)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"the search space {type(space).__name__} cannot be sent to the process that evaluates "
            f"({error}): define it and what it holds at the top level of a file"
        ) from None
    return {"pickle": base64.b64encode(data).decode(), "files": files}


def _importable(name: str) -> bool:
    """Another process finds the module by its name (``find_spec`` would ask this one's memory)."""
    top = name.partition(".")[0]
    return any(finder.find_spec(top, None) is not None for finder in sys.meta_path)


def _plain(values: Values) -> dict[str, Any]:
    """Values without numpy's own kinds of numbers."""
    return {name: value.item() if hasattr(value, "item") else value
            for name, value in values.items()}  # fmt: skip


def _make(rest: str, options: Options) -> Signal:
    file, colon, function = rest.removeprefix("python:").rpartition(":")
    if not colon or not file or not function:
        raise ConfigError(f"accuracy python:{rest}: write FILE:FUNCTION, as in train.py:evaluate")
    return CallableFile(file, function, seconds=options.seconds)


SIGNALS = {"python:": _make}
