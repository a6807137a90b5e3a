"""Rows of a table in a worker: what the server says of them, and their lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from predictor.batching import Chunk, Job, answer_chunk
from predictor.errors import PredictorError
from predictor.service.problems import refusal_of
from predictor.service.wire import Ask

NAME = "table.csv"


def said_of(job: Job, chunk: Mapping[str, Any] | None = None) -> str:
    """What a worker is told beside the rows, as JSON."""
    return json.dumps({"columns": job.columns, "devices": job.devices,
                       "settings": dict(job.settings), "chunk": chunk})  # fmt: skip


def job_of(said: Mapping[str, Any]) -> Job:
    """What :func:`said_of` describes, in a worker."""
    settings = dict(said["settings"])
    if isinstance(settings.get("resolution"), list):
        settings["resolution"] = tuple(settings["resolution"])
    return Job(NAME, tuple(said["columns"]), tuple(said["devices"]), settings, paths=False)


def checked(ask: Ask) -> bytes:
    """A worker tries what every row would share.

    Raises:
        PredictorError: it does not hold.
    """
    job_of(json.loads(ask.settings)).check()
    return b"{}"


def answered(ask: Ask, patience_s: float) -> bytes:
    """A worker's lines for a chunk, behind a line that says what is left of it."""
    said = json.loads(ask.settings)
    try:
        found = answer_chunk(job_of(said), Chunk(ask.body, **said["chunk"]), patience_s)
    except PredictorError as error:
        raise refusal_of(error) from None
    rest = found.rest
    left = None if rest is None else {
        "bytes": len(rest.data), "line": rest.line, "end": rest.end, "rows": rest.rows,
        "cut": rest.cut,
    }  # fmt: skip
    return json.dumps({"rest": left}).encode() + b"\n" + found.data
