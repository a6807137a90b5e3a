"""Reading a plan file: a zip of ``plan.json``, the programs and the graphs of what is measured."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

from predictor.errors import ConfigError

BODY = "plan.json"
NEEDED = ("name", "runtime", "precision", "threads")


def read_plan(path: Path) -> dict[str, Any]:
    """``plan.json`` of a plan file.

    Raises:
        ConfigError: it is missing or no plan file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            body = json.loads(archive.read(BODY))
        missing = [key for key in NEEDED if key not in body]
        if missing or not all(isinstance(t["id"], str) and t["kind"] for t in body["tasks"]):
            raise ValueError(f"no {missing[0]}" if missing else "a task without an id")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: not a plan file ({error}); write one with profile --plan-only"
        ) from error
    plan: dict[str, Any] = body
    return plan


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hex digits: how a results file names its plan."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
