"""The profiles that are served: a copy that changes only when a change has been found sound.

Workers read from a folder of the service's own. When files of a device change, a new folder is
made: what did not change is linked, what did is copied and every target of it loaded by a process
of its own. A device that cannot be loaded stays as it was; the rest moves on. What was there at the
start has nothing older to fall back on: it is served at once and looked through afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from predictor.device import device_folders, shipped_profiles

Stamps = Mapping[str, tuple[tuple[str, int, int], ...]]
"""By device: its files with their times of change and sizes."""
Verify = Callable[[Path, Sequence[str]], Awaitable[Mapping[str, str]]]
"""Loads the named devices from a folder; gives what is wrong with those that are damaged."""
LARGEST_PROFILE = 1 << 30
"""Bytes of one device's files; a larger folder is no profile."""


def stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Files of a folder with time and size; ``folder`` itself is among them."""
    found = [(str(folder), 0, 0)]
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(entry.path)
                        continue
                    about = entry.stat()
                    found.append((entry.path, about.st_mtime_ns, about.st_size))
        except OSError:
            continue  # it went while we looked; the next look tells
    return tuple(sorted(found))


class Profiles:
    """The copy, in ``root``; :attr:`home` is what ``LATENCY_PREDICTOR_HOME`` is to workers.

    ``damaged`` says what is wrong with devices whose files were not taken over.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.number = 0
        self.damaged: dict[str, str] = {}
        self._seen: Stamps = {}
        self._served: set[str] = set()
        self._shared: set[str] = set()

    @property
    def home(self) -> Path:
        """The folder above ``profiles``."""
        return self.root / f"profiles-{self.number}"

    def changed(self) -> list[str]:
        """Devices whose files are others than at the last look that was acted on."""
        now = self._stamps()
        return sorted(name for name in {*now, *self._seen} if now.get(name) != self._seen.get(name))

    def first(self) -> None:
        """Copy what there is.

        Raises:
            OSError: the copy cannot be written.
        """
        self._seen = self._stamps()
        new = self._next()
        for folder in shipped_profiles().iterdir():  # what devices share
            if folder.is_dir() and not (folder / "device.yaml").is_file():
                _copy(folder, new / folder.name)
                self._shared.add(folder.name)
        for name, folder in device_folders().items():
            fault = _copy(folder, new / name)
            if fault:
                self.damaged[name] = fault
                shutil.rmtree(new / name, ignore_errors=True)
            else:
                self._served.add(name)
        self.number += 1

    async def sift(self, verify: Verify) -> Mapping[str, str]:
        """Leave out what cannot be loaded, of what :meth:`first` has copied."""
        damaged = await verify(self.home, sorted(self._served))
        if damaged:
            new = self._next()
            for name in self._shared | self._served - set(damaged):
                _link(self.home / "profiles" / name, new / name)
            self._served -= set(damaged)
            self.damaged |= damaged
            self.number += 1
        return damaged

    def _next(self) -> Path:
        """The empty folder of the next generation; the one before the present goes."""
        new = self.root / f"profiles-{self.number + 1}" / "profiles"
        shutil.rmtree(new.parent, ignore_errors=True)
        new.mkdir(parents=True)
        shutil.rmtree(self.root / f"profiles-{self.number - 1}", ignore_errors=True)
        return new

    async def load(self, verify: Verify) -> Mapping[str, str]:
        """Take over what changed, as far as it is sound; gives what is wrong with the rest.

        Raises:
            OSError: the copy cannot be written.
        """
        now, folders = self._stamps(), device_folders()
        changed = [name for name in now if now[name] != self._seen.get(name)]
        gone = [name for name in self._seen if name not in now]
        old, new = self.home / "profiles", self._next()
        damaged = {}
        for name in self._shared | self._served - {*changed, *gone}:
            _link(old / name, new / name)
        for name in changed:
            fault = _copy(folders[name], new / name)
            if fault:
                damaged[name] = fault
        damaged |= await verify(new.parent, [name for name in changed if name not in damaged])
        for name in damaged:
            shutil.rmtree(new / name, ignore_errors=True)
            if name in self._served:
                _link(old / name, new / name)
        self._seen = now
        self._served = {path.name for path in new.iterdir()} - self._shared
        self.damaged = {k: v for k, v in self.damaged.items() if k not in (*changed, *gone)}
        self.damaged |= damaged
        self.number += 1
        return damaged

    def _stamps(self) -> Stamps:
        return {name: stamp(folder) for name, folder in device_folders().items()}


def _link(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=os.link)


def _copy(source: Path, target: Path) -> str:
    """Copy plain files; what kept it from being done, if anything."""
    try:
        size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
        if size > LARGEST_PROFILE:
            return f"{size:,} bytes are no profile"
        shutil.copytree(source, target, ignore_dangling_symlinks=True)
    except (OSError, shutil.Error) as error:
        return f"cannot be read: {error}"
    return ""


def damaged_of(reply: bytes) -> dict[str, str]:
    """What a worker's answer to ``verify`` says."""
    found: dict[str, str] = json.loads(reply)["damaged"]
    return found
