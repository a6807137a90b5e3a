"""A process that answers chunks for its parent: frames in on stdin, frames out on stdout."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from typing import IO, TYPE_CHECKING, Any

from predictor.errors import PredictorError

if TYPE_CHECKING:
    from predictor.batching.jobs import Job

_LENGTH = struct.Struct("<Q")


def send(stream: IO[bytes], value: Any) -> None:
    """Write one value."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one value that :func:`send` wrote.

    Raises:
        EOFError: the other side ended.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)


def _wrong_with(job: Job) -> PredictorError | None:
    try:
        job.check()
    except PredictorError as error:
        return error
    return None


def main() -> None:
    """Answer what comes until the parent ends: a job, of which is said what is wrong with it (or
    None), then (chunk, patience) again and again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to answer
    source = sys.stdin.buffer
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a user's model prints is no frame
    from predictor.batching.jobs import answer_chunk

    try:
        job = receive(source)
        send(out, _wrong_with(job))
        while True:
            chunk, patience_s = receive(source)
            send(out, answer_chunk(job, chunk, patience_s))
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the parent is gone, or done; nothing is left to say or to tidy up
