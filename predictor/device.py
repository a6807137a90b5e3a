"""Finding and reading devices: shipped ones, the user's own, and any ``device.yaml``.

The nouns are in :mod:`predictor.hardware` and can be imported from here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from predictor import strict
from predictor.errors import ArtifactError, ConfigError, UnknownDevice, suggest
from predictor.hardware import (
    RUNTIMES,
    Device,
    Host,
    PowerMode,
    Target,
    device_from,
    spelled,
)

__all__ = [
    "RUNTIMES", "Device", "Host", "PowerMode", "Target", "device_folders", "devices", "load_device",
    "profiles_folders", "shipped_profiles", "user_profiles",
]  # fmt: skip

_LARGEST_FILE = 1 << 20
_ALIASES = re.compile(r"^aliases:[ \t]*(\[[^\]]*\]|(?:\n[ \t]*-[^\n]*)+)", re.MULTILINE)


def shipped_profiles() -> Path:
    """The profiles of this installation: inside the wheel, or ``profiles/`` of a checkout.

    ``$LATENCY_PREDICTOR_SHIPPED`` is another folder to take instead.
    """
    elsewhere = os.environ.get("LATENCY_PREDICTOR_SHIPPED")
    if elsewhere:
        return Path(elsewhere)
    here = Path(__file__).resolve().parent
    packed = here / "_profiles"
    return packed if packed.is_dir() else here.parent / "profiles"


def user_profiles() -> Path:
    """Where a user's devices, measurements and calibrations live.

    ``$LATENCY_PREDICTOR_HOME/profiles``, else ``$XDG_DATA_HOME/latency-predictor/profiles``, else
    ``~/.local/share/latency-predictor/profiles``. It need not exist.
    """
    home = os.environ.get("LATENCY_PREDICTOR_HOME")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home or Path(data) / "latency-predictor").expanduser() / "profiles"


def profiles_folders(user_folder: str | Path | None = None) -> tuple[Path, ...]:
    """Folders that hold ``<device>/device.yaml``, the user's first: it wins over a shipped one."""
    return (Path(user_folder) if user_folder else user_profiles(), shipped_profiles())


def load_device(
    name_or_path: str | Path, *, user_folder: str | Path | None = None, paths: bool = True
) -> Device:
    """The device of that name, alias or ``device.yaml`` path, at its default power mode.

    Args:
        name_or_path: a folder's name, an alias, or a path to a YAML file or its folder.
        user_folder: the user's profiles folder, instead of :func:`user_profiles`.
        paths: False refuses paths (for names that come from the network).

    Raises:
        UnknownDevice: no profile of that name.
        ConfigError: the file has a wrong key or value; the message begins with file:line:column.
        ArtifactError: the same in a shipped profile, which means that it is damaged.
    """
    text = str(name_or_path)
    looks_like_path = isinstance(name_or_path, Path) or "/" in text or os.sep in text
    if looks_like_path or text.lower().endswith((".yaml", ".yml")):
        if not paths:
            raise UnknownDevice(f"unknown device {_shown(text)}: a path is not accepted here.")
        return _load_path(Path(text))
    found = _folder_of(text, user_folder)
    return _read(found / "device.yaml", found.name)


def devices(*, user_folder: str | Path | None = None) -> list[Device]:
    """All devices, the user's and the shipped, sorted by name. Raises as :func:`load_device`."""
    folders = device_folders(user_folder)
    return [_read(folders[name] / "device.yaml", name) for name in sorted(folders)]


def device_folders(user_folder: str | Path | None = None) -> dict[str, Path]:
    """Device folders by name, the user's before the shipped."""
    found: dict[str, Path] = {}
    for root in profiles_folders(user_folder):
        if root.is_dir():
            for folder in sorted(root.iterdir()):
                if (folder / "device.yaml").is_file():
                    found.setdefault(folder.name, folder)
    return found


def _folder_of(text: str, user_folder: str | Path | None) -> Path:
    """The folder of the device of that name or alias."""
    folders = device_folders(user_folder)
    name = spelled(text)
    found = folders.get(name) or _by_alias(name, folders)
    if found is None:
        known = [*folders, *(alias for folder in folders.values() for alias in _aliases(folder))]
        raise UnknownDevice(f"unknown device {_shown(text)}.{suggest(name, known)}"
                            " See: predict-latency devices")  # fmt: skip
    return found


def _by_alias(name: str, folders: Mapping[str, Path]) -> Path | None:
    return next((folder for folder in folders.values() if name in _aliases(folder, name)), None)


def _aliases(folder: Path, wanted: str = "") -> list[str]:
    """Aliases by a scan of the text: reading every YAML would cost more than a prediction.

    Empty where ``wanted`` stands nowhere in the file.
    """
    try:
        text = (folder / "device.yaml").read_bytes()[:_LARGEST_FILE].decode("utf-8", "replace")
    except OSError:
        return []  # this file is reported when it is asked for by its name
    if wanted not in spelled(text):
        return []
    match = _ALIASES.search(text)
    plain = re.sub(r"#[^\n]*", "", match[1]) if match else ""
    return [spelled(word) for word in re.findall(r"\w[\w.-]*", plain)]


def _load_path(path: Path) -> Device:
    try:
        path = path / "device.yaml" if path.is_dir() else path
        exists = path.is_file()
    except (OSError, ValueError):  # too long a name, or a NUL in it
        exists = False
    if not exists:
        raise UnknownDevice(f"unknown device {_shown(str(path))}: there is no such file."
                            " A name works too; see: predict-latency devices")  # fmt: skip
    return _read(path)


def _read(path: Path, name: str | None = None) -> Device:
    try:
        return _parse(path, name)
    except ConfigError as error:
        if shipped_profiles() not in path.resolve().parents:
            raise
        raise ArtifactError(f"{error}. This file came with the package and is damaged; reinstall,"
                            " or run: predict-latency doctor") from None  # fmt: skip


def _parse(path: Path, name: str | None, *, as_sibling: bool = False) -> Device:
    """``name``: what the device must be called, because it was found in the folder of that name.

    ``as_sibling`` leaves the device's own sibling alone, so that circles end.
    """
    from predictor import yamlmarks  # PyYAML costs more than the rest of this module

    file = str(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigError("larger than 1 MiB; this is no device file", file=file)
        node = yamlmarks.read(path.read_text(encoding="utf-8"), file)
    except UnicodeDecodeError as error:
        raise ConfigError(f"no UTF-8 text at byte {error.start}", file=file) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=file) from None
    marks: dict[strict.Place, tuple[int, int]] = {}

    def fail(place: strict.Place, message: str) -> NoReturn:
        at = next(
            (marks[place[:n]] for n in range(len(place), -1, -1) if place[:n] in marks), (1, 1)
        )
        message = f"{strict.dotted(place)}: {message}" if place else message
        raise ConfigError(message, file=file, line=at[0], column=at[1])

    device = device_from(_plain(node, (), marks, fail), fail)
    if device.sibling is not None and not as_sibling:
        _check_sibling(device, fail)
    if name is not None and device.name != name:
        fail(("name",), f"'{device.name}' lies in the folder '{name}'; give both the same name")
    return replace(device, folder=str(path.resolve().parent))


def _check_sibling(device: Device, fail: strict.Fail) -> None:
    """A sibling is a known device of the same kind with fitted targets of its own."""
    place = ("sibling", "device")
    asked = device.sibling.device if device.sibling else ""
    if spelled(asked) in (device.name, *map(spelled, device.aliases)):
        fail(place, "a device is no sibling of its own; name a measured one")
    try:
        folder = _folder_of(asked, None)
    except UnknownDevice as error:
        fail(place, str(error))
    sibling = _parse(folder / "device.yaml", folder.name, as_sibling=True)
    if sibling.kind != device.kind:
        fail(place, f"{sibling.name} is a {sibling.kind}, and this is a {device.kind}; name a "
             "sibling of the same kind")  # fmt: skip
    if not any(target.bundle for target in sibling.targets):
        if sibling.sibling is not None:
            fail(place, f"{sibling.name} stands on a sibling itself; name that one, "
                 f"'{sibling.sibling.device}'")  # fmt: skip
        fail(place, f"nothing was fitted for {sibling.name}; name a device whose tier is not "
             "datasheet. See: predict-latency devices")  # fmt: skip


def _plain(
    node: Any, place: strict.Place, marks: dict[strict.Place, Any], fail: strict.Fail
) -> Any:
    """Python values of a marked YAML node; ``marks`` receives where each place stands."""
    from predictor import yamlmarks

    marks.setdefault(place, (node.line, node.column))
    if isinstance(node, yamlmarks.Scalar):
        return node.value
    if isinstance(node, yamlmarks.Sequence):
        return [_plain(v, (*place, i), marks, fail) for i, v in enumerate(node.items)]
    values: dict[str, Any] = {}
    for entry in node.entries:
        inner = (*place, entry.key)
        if entry.key in values:
            marks[inner] = (entry.line, entry.column)
            fail(inner, "this key stands twice; remove one")
        values[entry.key] = _plain(entry.node, inner, marks, fail)
        marks[inner] = (entry.line, entry.column)
    return values


def _shown(text: str) -> str:
    text = text if text.isprintable() else ascii(text)[1:-1]
    return f"'{text}'" if len(text) <= 80 else f"'{text[:77]}...'"
