"""The one self-contained file that a board runs: ``python3 board.pyz PLAN.zip RESULTS.jsonl``.

A zip with a ``__main__.py`` behind a ``#!`` line (PEP 441), of the board-side files as they are
here. It needs Python 3.6 or newer and the runtime that is measured, nothing else. The same sources
give the same bytes, on any machine.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from predictor.errors import ConfigError
from predictor.files import write_whole

SHEBANG = b"#!/usr/bin/env python3\n"
MODULES = ("journal", "protocol", "watch", "leash", "agent")
"""Files of this folder that a board needs, beside all of ``runtimes``."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def board_files() -> dict[str, str]:
    """Text of the files by their path inside; the two packages themselves are empty there."""
    here = Path(__file__).parent
    paths = [here / f"{name}.py" for name in MODULES] + sorted((here / "runtimes").glob("*.py"))
    found = {
        "__main__.py": (here / "__main__.py").read_text(encoding="utf-8"),
        "predictor/__init__.py": "",
        "predictor/profiling/__init__.py": "",
    }
    for path in paths:
        name = f"predictor/profiling/{path.relative_to(here).as_posix()}"
        found[name] = path.read_text(encoding="utf-8")
    return found


def content() -> bytes:
    """The bytes of the file."""
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, text in sorted(board_files().items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, text.encode())
    return buffer.getvalue()


def build(path: Path) -> Path:
    """Write the file in one step, executable; returns ``path``.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        write_whole(path, content(), mode=0o755)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path
