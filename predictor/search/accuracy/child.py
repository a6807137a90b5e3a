"""The process in which a user's evaluation runs, so that its crash is no crash of the search.

Started by :mod:`predictor.search.accuracy.callable_file` alone. Requests come as JSON lines on
standard input, answers go out on what was standard output; what the user prints goes to standard
error. When the search is gone, standard input closes, and this process ends with all of its
process group.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from predictor.errors import suggest
from predictor.search.candidate import Candidate, Pruned

Message = dict[str, Any]


class Line:
    """JSON lines to and from the search."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._sink = sink
        self._arrived: queue.Queue[Message] = queue.Queue()
        threading.Thread(target=self._follow, args=(source,), name="leash", daemon=True).start()

    def say(self, message: Message) -> None:
        """Send a message."""
        self._sink.write(json.dumps(message).encode() + b"\n")
        self._sink.flush()

    def next(self) -> Message:
        """Wait for one."""
        return self._arrived.get()

    def _follow(self, source: IO[bytes]) -> None:
        for line in source:
            self._arrived.put(json.loads(line))
        end()


def end() -> None:
    """End this process and what it started."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Import the user's file, say whether that went well, and answer requests until the end."""
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    line = Line(source, sink)
    hello = line.next()
    sys.path[:] = hello["path"]
    file = Path(hello["file"])
    sys.path.insert(0, str(file.parent))
    try:
        evaluate, known = _function(file, hello["function"])
    except BaseException as error:
        line.say({"broken": _described(error, file)})
        return
    if evaluate is None:
        line.say({"absent": suggest(hello["function"], known)})
        return
    line.say({"ready": True})
    space: Any = None
    while True:
        request = line.next()
        try:
            if "space" in request:
                space = _unpacked(request["space"])
            value = evaluate(Candidate(space, request["values"], _asking(line)))
            answer = _number(value)
        except Pruned:
            answer = {"pruned": True}
        except BaseException as error:
            answer = {"error": _described(error, file)}
        sys.stdout.flush()
        line.say(answer)


def _asking(line: Line) -> Callable[[int, float], bool]:
    def prune(step: int, accuracy: float) -> bool:
        line.say({"report": [int(step), accuracy]})
        return bool(line.next()["prune"])

    return prune


def _number(value: Any) -> Message:
    """A float, or words for what it is instead. Tensors and arrays of one element are numbers."""
    if value is None or isinstance(value, (str, bytes)):
        return {"odd": repr(value)[:80]}
    try:
        return {"value": float(value)}
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return {"odd": f"{type(value).__name__} {repr(value)[:80]}"}


def _function(file: Path, name: str) -> tuple[Callable[[Candidate], Any] | None, list[str]]:
    module = load(f"_user_evaluation_{file.stem}", file)
    found = getattr(module, name, None)
    known = [word for word, value in vars(module).items()
             if callable(value) and not word.startswith("_")]  # fmt: skip
    return (found if callable(found) else None), known


def load(label: str, file: Path) -> ModuleType:
    """Import a file under a name; classes in it are pickled under that name."""
    spec = importlib.util.spec_from_file_location(label, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[label] = module
    spec.loader.exec_module(module)
    return module


def _unpacked(packed: Message) -> Any:
    """The space, after the files that its classes come from; from the search, our own parent."""
    for label, file in packed["files"]:
        if label not in sys.modules or label == "__main__":
            module = load("__mp_main__" if label == "__main__" else label, Path(file))
            sys.modules[label] = module
    return pickle.loads(base64.b64decode(packed["pickle"]))


def _described(error: BaseException, file: Path) -> Message:
    """Type, message, and the last line of the user's own code that it went through."""
    if isinstance(error, SyntaxError) and error.filename:
        return {"type": "SyntaxError", "text": error.msg, "file": error.filename,
                "line": error.lineno}  # fmt: skip
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename) == file]
    near = [frame for frame in frames if Path(frame.filename).parent == file.parent]
    frame = (near or own or frames)[-1] if frames else None
    return {"type": type(error).__name__, "text": str(error)[:2000],
            "file": frame.filename if frame else str(file),
            "line": frame.lineno if frame else None}  # fmt: skip
