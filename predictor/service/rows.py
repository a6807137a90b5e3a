"""Many rows in a worker: lines of a table, by what the server says of it, and rows in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from predictor.batching import TARGET_SETTINGS, Answer, Chunk, Job, Task, answer_chunk
from predictor.config import Config
from predictor.errors import PredictorError
from predictor.language import Language
from predictor.service import bodies
from predictor.service.problems import Refusal, refusal_of
from predictor.service.wire import Ask

if TYPE_CHECKING:
    from predictor.estimate import Estimate

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


def answered_json(
    asked: Sequence[tuple[int, Mapping[str, Any]]], estimate: Callable[[Config], Estimate]
) -> list[dict[str, Any]]:
    """The answers of numbered JSON rows; a row's error stands in its place.

    Args:
        asked: each row's number, and its settings with one ``device`` (or None).
        estimate: predicts what is not known by parts.
    """
    configs = [_config_of(data) for _, data in asked]
    known = iter(_by_parts([one for one in configs if isinstance(one, Config)]))
    found = []
    for (number, data), one in zip(asked, configs, strict=True):
        row = {"row": number, "device": data["device"], "latency_ms": None, "low_ms": None,
               "high_ms": None, "error": ""}  # fmt: skip
        found.append(row)
        if isinstance(one, str):
            row["error"] = one
            continue
        answer = next(known)
        try:
            if answer is None:
                said = estimate(one)
                answer = Answer(one.device, said.latency_ms, *said.interval_ms)
        except (Refusal, PredictorError) as error:
            row["error"] = refusal_of(error).message
            continue
        row |= {"latency_ms": answer.latency_ms, "low_ms": answer.low_ms, "high_ms": answer.high_ms}
    return found


def _config_of(data: Mapping[str, Any]) -> Config | str:
    """What a row asks for, or what is wrong with it."""
    given = {key: value for key, value in data.items() if key != "device" or value is not None}
    try:
        return bodies.configs_of(bodies.Body(given), {}, device=True)[0]
    except (Refusal, PredictorError) as error:
        return refusal_of(error).message


def _by_parts(configs: Sequence[Config]) -> list[Answer | None]:
    """Of each config what is known without building its network; see ``batching.families``."""
    from predictor.batching.families import priced

    tasks = {at: task for at, one in enumerate(configs) if (task := _task_of(one)) is not None}
    found: list[Answer | None] = [None] * len(configs)
    for at, answers in zip(tasks, priced([*tasks.values()]), strict=True):
        found[at] = answers[0] if answers else None
    return found


def _task_of(config: Config) -> Task | None:
    if not isinstance(config.model, str) or config.inputs or config.language != Language():
        return None
    names = ("batch", "resolution", "scope", *TARGET_SETTINGS)
    settings = {name: value for name in names if (value := getattr(config, name)) is not None}
    if config.strict:
        settings["strict"] = True
    return Task(0, config.model, (config.device,), settings, paths=False)
