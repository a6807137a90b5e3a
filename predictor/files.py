"""Writing a file so that it is whole or as it was, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write ``data`` to ``path`` in one step, on the disk before this returns.

    Args:
        path: the file; its folder must be there.
        data: all of its contents.
        mode: its permissions; those of a new file otherwise.

    Raises:
        OSError: it cannot be written; what was there before is as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if mode is not None:
            part.chmod(mode)
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
