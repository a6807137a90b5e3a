"""One JSON object a line, on stderr."""

from __future__ import annotations

import datetime
import logging
import sys
from typing import Any


def emit(level: str, event: str, **facts: Any) -> None:
    """Write one line. A reader that is gone stops nothing."""
    import orjson

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    line = orjson.dumps({"time": now, "level": level, "event": event, **facts},
                        default=str, option=orjson.OPT_APPEND_NEWLINE)  # fmt: skip
    try:
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
    except (OSError, ValueError, AttributeError):
        return


class JsonHandler(logging.Handler):
    """The server's own log records in the same shape."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        facts: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            facts["trace"] = logging.Formatter().formatException(record.exc_info)
        emit(record.levelname.lower(), record.getMessage(), **facts)


def settle() -> None:
    """Records and warnings of libraries, in the shape of the others, in this process."""
    root = logging.getLogger()
    root.handlers[:] = [JsonHandler()]
    root.setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the answer says it
    logging.captureWarnings(True)
