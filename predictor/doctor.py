"""Is this installation sound? Every check says what it found and what to run."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from predictor.errors import PredictorError

DISTRIBUTION = "latency-predictor"
OLDEST_PYTHON = (3, 11)

EXTRAS: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "onnx": ("onnx",),
    "torchvision": ("torch", "torchvision"),
    "timm": ("torch", "timm"),
    "transformers": ("torch", "transformers"),
    "train": ("lightgbm", "optuna", "scikit-learn", "scipy"),
    "search": ("optuna", "scipy", "pg8000"),
    "service": ("fastapi", "httptools", "httpx", "jsonschema-rs", "onnx", "orjson",
                "prometheus-client", "python-multipart", "uvicorn", "uvloop"),
    "dask": ("distributed",),
}  # fmt: skip
"""Optional dependencies and the distributions that each needs; a test holds it to pyproject."""

REQUIRED = ("click", "numpy", "pyyaml")
"""Distributions without which nothing works."""


class Health(StrEnum):
    """Outcome of a check."""

    OK = "ok"
    OPTIONAL = "optional"  # something that is not needed is not there
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it (empty where nothing needs doing)."""

    check: str
    health: Health
    text: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "health": self.health.value}


def examine() -> list[Finding]:
    """Run every check. A check that fails itself is a finding, never an exception."""
    findings: list[Finding] = []
    checks: tuple[Callable[[], Iterable[Finding]], ...] = (
        _python, _required, _extras, _torchvision, _profiles, _bundles, _user_folder,
    )  # fmt: skip
    for check in checks:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            findings += check()
        except PredictorError as error:
            findings.append(Finding(name, Health.BROKEN, str(error), _REINSTALL))
        except Exception as error:  # doctor is what one runs when things are broken
            said = f"{type(error).__name__}: {error}"
            findings.append(Finding(name, Health.BROKEN, f"the check failed: {said}", _REINSTALL))
    return findings


_REINSTALL = f"pip install --force-reinstall {DISTRIBUTION}"


def _python() -> Iterable[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        needed = ".".join(map(str, OLDEST_PYTHON))
        yield Finding("python", Health.BROKEN, f"{version}; {needed} or newer is needed",
                      f"install Python {needed}")  # fmt: skip
    else:
        yield Finding("python", Health.OK, f"{version} ({sys.executable})")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _required() -> Iterable[Finding]:
    own = _version(DISTRIBUTION)
    source = "not installed, running from a source folder"
    yield Finding("package", Health.OK, f"{DISTRIBUTION} {own or source}")
    for name in REQUIRED:
        version = _version(name)
        if version:
            yield Finding(name, Health.OK, version)
        else:
            yield Finding(name, Health.BROKEN, "not installed", f"pip install {name}")


def _extras() -> Iterable[Finding]:
    for extra, needs in EXTRAS.items():
        found = {name: _version(name) for name in needs}
        missing = [name for name, version in found.items() if version is None]
        check = f"extra {extra}"
        if missing:
            yield Finding(check, Health.OPTIONAL, f"{', '.join(missing)} not installed",
                          f"pip install '{DISTRIBUTION}[{extra}]'")  # fmt: skip
        else:
            versions = ", ".join(f"{name} {version}" for name, version in found.items())
            yield Finding(check, Health.OK, versions)


def _torchvision() -> Iterable[Finding]:
    """torchvision's compiled operators load only beside the torch that they were built with."""
    torch, vision = _version("torch"), _version("torchvision")
    if torch is None or vision is None:
        return
    for line in metadata.requires("torchvision") or ():
        match = re.match(r"torch\s*\(?==\s*([0-9.]+)", line)
        if match and match[1] != torch.split("+")[0]:
            yield Finding(
                "torchvision", Health.BROKEN,
                f"torchvision {vision} was built with torch {match[1]}, installed is {torch}",
                f"pip install torch=={match[1]} torchvision=={vision.split('+')[0]}",
            )  # fmt: skip
            return
    if ("+cpu" in torch) != ("+cpu" in vision) and "+" in torch:
        yield Finding(
            "torchvision", Health.OPTIONAL,
            f"torch {torch} and torchvision {vision} are of different builds; torchvision may "
            "fail to load",
            "install both from the same index, such as https://download.pytorch.org/whl/cpu",
        )  # fmt: skip


def _profiles() -> Iterable[Finding]:
    from predictor.device import devices, shipped_profiles

    known = devices()
    if not known:
        yield Finding("device profiles", Health.BROKEN, f"none in {shipped_profiles()}", _REINSTALL)
        return
    targets = sum(len(device.targets) for device in known)
    text = f"{len(known)} devices with {targets} targets read without an error"
    yield Finding("device profiles", Health.OK, text)


def _bundles() -> Iterable[Finding]:
    """Lengths and hashes of every fitted model against its manifest."""
    from predictor.latency.bundle import verify_all

    problems = list(verify_all())
    for problem in problems:
        yield Finding("fitted models", Health.BROKEN, str(problem), _REINSTALL)
    if not problems:
        yield Finding("fitted models", Health.OK, "lengths and hashes match their manifests")


def _user_folder() -> Iterable[Finding]:
    from predictor.device import user_profiles

    folder = user_profiles()
    place = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        if not place.is_dir():
            raise NotADirectoryError(f"{place} is a file")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding(
            "user folder", Health.BROKEN, f"{folder} cannot be written: {reason}",
            "set LATENCY_PREDICTOR_HOME to a folder that you may write to",
        )  # fmt: skip
        return
    state = "writable" if place == folder else f"does not exist yet, {place} is writable"
    moved = " (LATENCY_PREDICTOR_HOME)" if os.environ.get("LATENCY_PREDICTOR_HOME") else ""
    yield Finding("user folder", Health.OK, f"{Path(folder)}{moved}: {state}")
