"""Errors as HTTP answers: one shape, a status each, and no path of this machine in any.

::

    {"error": {"code": "unknown_device", "message": "unknown device 'jetsen'. Did you ...",
               "request_id": "5f0c2a9be1d84c07"}}

A status is 4xx where another request would do better, and 503 where the same one may later.
"""

from __future__ import annotations

import re

from predictor.errors import (
    ArtifactError,
    ConfigError,
    MissingExtra,
    PredictorError,
    UncoveredOperator,
    UnknownDevice,
)
from predictor.frontends.remote import without_folders

CODES = {
    "bad_request": 400, "unauthorized": 401, "forbidden": 403, "not_found": 404,
    "unknown_device": 404, "unknown_model": 404, "missing_package": 404,
    "method_not_allowed": 405, "slow_request": 408, "conflict": 409, "not_covered": 409,
    "unsupported_file": 409, "no_device": 409, "too_many_combinations": 409,
    "body_too_large": 413, "graph_too_large": 413, "batch_too_large": 413,
    "unsupported_media_type": 415, "invalid": 422, "too_many_requests": 429,
    "too_many_searches": 429,
    "headers_too_large": 431, "internal": 500, "busy": 503, "timeout": 503, "worker_lost": 503,
    "out_of_memory": 503, "damaged_profile": 503, "stopping": 503,
}  # fmt: skip
"""Every code that an answer can carry, with its status. ``conflict``: each part is well-formed, but
they do not go together."""


UNREAD = frozenset({"slow_request", "body_too_large"})
"""Codes after which the rest of a body is not read, so that the connection ends."""
INTERNAL = "something went wrong inside; the log of this server says what"


class Refusal(Exception):
    """A request is answered with an error.

    Args:
        code: one of :data:`CODES`.
        message: what is wrong and what to do.
        retry_after_s: when the same request may do better.
    """

    def __init__(self, code: str, message: str, *, retry_after_s: int | None = None) -> None:
        self.code, self.message, self.retry_after_s = code, message, retry_after_s
        self.trace = ""
        super().__init__(message)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return CODES[self.code]


def error_body(code: str, message: str, request_id: str) -> bytes:
    """The JSON of an error."""
    import orjson

    text = message.encode("utf-8", "replace").decode()
    return orjson.dumps({"error": {"code": code, "message": text, "request_id": request_id}})


def refusal_of(error: Exception) -> Refusal:
    """How an error of the prediction is answered.

    Raises:
        Exception: ``error`` itself, where it is none that was meant.
    """
    if isinstance(error, Refusal):
        return error
    text = without_paths(str(error))
    if isinstance(error, UnknownDevice):
        return Refusal("unknown_device", text.replace("See: predict-latency devices",
                                                      "See: GET /v1/devices"))  # fmt: skip
    if isinstance(error, ArtifactError):
        return Refusal("damaged_profile", "the profile of this device is damaged on this server; "
                       "its log says where", retry_after_s=60)  # fmt: skip
    if isinstance(error, MissingExtra):
        return Refusal("missing_package", text)
    if isinstance(error, UncoveredOperator):
        return Refusal("not_covered", text)
    if isinstance(error, ConfigError):
        return Refusal("conflict", text)
    if isinstance(error, PredictorError):
        return Refusal("conflict", text)
    if isinstance(error, MemoryError):
        return Refusal("out_of_memory", "this request needs more memory than a worker may take; "
                       "send a smaller model", retry_after_s=60)  # fmt: skip
    raise error


def without_paths(text: str) -> str:
    """``text`` with the folders of this machine cut off from paths."""
    return without_folders(_UPLOAD.sub("", text))


_UPLOAD = re.compile(r"\buploads[/\\]\d+[/\\]")
"""Where a worker keeps the file that came with a request."""
