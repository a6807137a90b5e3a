"""Model bundles: what was fitted for one target, as JSON beside the device's facts.

``profiles/<device>/manifest.json`` holds length and sha256 of every bundle; a file that differs is
refused. Nothing is unpickled or evaluated: a bundle is numbers and words, checked one by one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from predictor.errors import ArtifactError
from predictor.files import write_whole
from predictor.hardware import Device, Target

FORMAT = 1
"""Version of the bundle format; another one is refused."""
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was fitted for a target.

    ``parameters`` are those of :mod:`predictor.latency.physical`; ``rules`` the fusion rules that
    they were fitted with; ``log_error_90`` the 90 % quantile of ``|log(predicted / measured)|``
    by protocol (``family``, ``model``, ``board``, ``kernel``), each on rows that were never fitted;
    ``classes`` the kernel classes that the figures contain, the others stand on the prior;
    ``card`` the accuracy card; ``basis`` says in words what it was fitted on. ``call_ms`` is what
    a call through Python adds, None where unknown; ``host_us`` a launch in eager mode;
    ``smallest_batch`` is where the figures begin: launches hardly count in large batches, so
    smaller ones are extrapolated. ``learned`` and ``totals`` name files with forests over kernels
    and over whole models, ``table`` one with measured kernels, all in the device's folder;
    ``blend`` describes the other targets that a calibrated one is mixed from; ``sustained`` says
    that clocks under the power limit were taken in the fit, not the boost clock. ``kernelwise``
    names the trees of a target that was measured kernel by kernel: there, a whole network takes
    ``scale`` times the sum of its kernels and ``host_us`` for each operator.
    """

    target: str
    rules: str
    parameters: Mapping[str, float]
    log_error_90: Mapping[str, float]
    classes: tuple[str, ...]
    basis: str
    citations: tuple[str, ...] = ()
    siblings_only: bool = False
    call_ms: float | None = None
    host_us: float | None = None
    software: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)
    learned: str | None = None
    table: str | None = None
    smallest_batch: int = 1
    totals: str | None = None
    blend: Mapping[str, Any] | None = None
    sustained: bool = False
    kernelwise: str | None = None
    scale: float = 1.0


def load_bundle(device: Device, target: Target) -> Bundle | None:
    """The bundle of ``target``, or None where nothing was fitted for it.

    Raises:
        ArtifactError: the file is missing, damaged or of another version.
    """
    if target.bundle is None:
        return None
    return read_bundle(_folder(device), target.bundle)


def read_bundle(folder: Path, name: str) -> Bundle:
    """The bundle in the file ``name`` of a folder with a manifest. Raises as above."""
    data = _json(read_checked(folder, name), name)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        version = data.get("format") if isinstance(data, dict) else None
        raise ArtifactError(
            f"{name}: format {version}, this version reads {FORMAT}; reinstall, or fit it anew"
        )
    return _checked({k: v for k, v in data.items() if k != "format"}, name)


def load_card(device: Device, target: Target) -> dict[str, Any] | None:
    """The accuracy card of ``target``, or None where nothing was fitted. Raises as above."""
    bundle = load_bundle(device, target)
    return dict(bundle.card) if bundle else None


def write_bundle(folder: Path, name: str, bundle: Bundle) -> Path:
    """Write a bundle and its manifest entry, each in one step; returns the bundle's path."""
    path = folder / name
    body = {"format": FORMAT, **asdict(bundle)}
    write_checked(folder, name, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())
    return path


def write_checked(folder: Path, name: str, data: bytes) -> None:
    """Write a file and put its length and hash into the folder's manifest."""
    write_whole(folder / name, data)
    manifest = _manifest(folder) if (folder / MANIFEST).is_file() else {}
    manifest[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    write_whole(folder / MANIFEST, text.encode())


def read_checked(folder: Path, name: str) -> bytes:
    """The bytes of a file that the manifest vouches for.

    Raises:
        ArtifactError: it is missing, or differs from the manifest in length or content.
    """
    path = folder / name
    entry = _manifest(folder).get(name)
    if not isinstance(entry, dict):
        raise ArtifactError(
            f"{_short(path)}: the manifest does not list this file; reinstall, or run: "
            "predict-latency doctor"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{_short(path)}: {error.strerror}; reinstall, or run: predict-latency doctor"
        ) from None
    if len(data) != entry.get("bytes"):
        said = entry.get("bytes")
        said = f"{said:,}" if isinstance(said, int) else repr(said)[:40]
        raise ArtifactError(
            f"{_short(path)}: {len(data):,} bytes, the manifest says {said}. "
            "The file is damaged; reinstall, or run: predict-latency doctor"
        )
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        raise ArtifactError(
            f"{_short(path)}: the content differs from the manifest's sha256. "
            "The file is damaged; reinstall, or run: predict-latency doctor"
        )
    return data


def verify_all() -> list[str]:
    """What is wrong with the files of all devices, a line each; empty if nothing is."""
    from predictor.device import devices, shipped_profiles

    problems = []
    for device in devices():
        for target in device.targets:
            try:
                load_bundle(device, target)
            except ArtifactError as error:
                problems.append(f"{device.name} {target.name}: {error}")
    shared = shipped_profiles() / "shared"
    for path in sorted(shared.glob("*.json")):
        try:
            if path.name != MANIFEST:
                read_bundle(shared, path.name)
        except ArtifactError as error:
            problems.append(f"shared {path.stem}: {error}")
    return problems


def _folder(device: Device) -> Path:
    if device.folder is None:
        raise ArtifactError(f"{device.name}: this device has no folder, so no bundle can be read")
    return Path(device.folder)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        data = _json(path.read_bytes(), _short(path))
    except OSError as error:
        raise ArtifactError(
            f"{_short(path)}: {error.strerror}; reinstall, or run: predict-latency doctor"
        ) from None
    if not isinstance(data, dict):
        raise ArtifactError(f"{_short(path)}: not a manifest; reinstall")
    return data


def _json(data: bytes, place: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{place}: no valid JSON ({error}). The file is damaged; reinstall, or run: "
            "predict-latency doctor"
        ) from None


def _checked(data: Mapping[str, Any], place: str) -> Bundle:
    from predictor.kernels.features import CLASSES
    from predictor.latency.physical import INDEX

    def wrong(what: str) -> ArtifactError:
        return ArtifactError(f"{place}: {what}. The file is damaged; reinstall")

    unknown = set(data) - set(Bundle.__slots__)
    missing = {"target", "rules", "parameters", "log_error_90", "classes", "basis"} - set(data)
    if unknown or missing:
        raise wrong(f"keys do not fit: {sorted(unknown | missing)}")
    for key in ("parameters", "log_error_90"):
        values = data[key]
        if not isinstance(values, dict) or not all(map(_positive, values.values())):
            raise wrong(f"{key} must be positive numbers by name")
    for key in ("target", "rules", "basis", "software"):
        if not isinstance(data.get(key, ""), str):
            raise wrong(f"{key} must be text")
    for key in ("learned", "table", "totals", "kernelwise"):
        if not isinstance(data.get(key), (str, type(None))):
            raise wrong(f"{key} must be a file name")
    for key in ("call_ms", "host_us"):
        if data.get(key) is not None and not _positive(data[key]):
            raise wrong(f"{key} must be a positive number")
    if not _positive(data.get("scale", 1.0)):
        raise wrong("scale must be a positive number")
    for key in ("citations", "classes"):
        value = data.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise wrong(f"{key} must be a list of texts")
    if not isinstance(data.get("blend") or {}, dict):
        raise wrong("blend must be a mapping")
    flags = [data.get(key, False) for key in ("siblings_only", "sustained")]
    if not isinstance(data.get("card") or {}, dict) or not all(isinstance(f, bool) for f in flags):
        raise wrong("card must be a mapping, siblings_only and sustained true or false")
    if set(data["parameters"]) - set(INDEX):
        raise wrong(f"unknown parameter {sorted(set(data['parameters']) - set(INDEX))[0]}")
    if set(data["classes"]) - set(CLASSES):
        raise wrong("classes are not those of this version")
    values = {**data, "classes": tuple(data["classes"]), "card": data.get("card") or {}}
    values["citations"] = tuple(data.get("citations") or ())
    return Bundle(**values)


def _positive(value: Any) -> bool:
    """A number that logarithms and sums of it can stand: no truth value, 1e-9 to 1e9."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 1e-9 <= value <= 1e9


def _short(path: Path) -> str:
    return str(Path(*path.parts[-3:]))
