"""An Android device that ``adb`` reaches. It has not been tried on a real phone: the tests stand a
program of the name ``adb`` in its place.

Android has no Python of its own; one must be installed there in a place that ``adb shell`` may run
(``--python``).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from predictor.errors import ConfigError, MeasurementError
from predictor.profiling.hosts.base import RUN_AGAIN, last_words
from predictor.profiling.hosts.remote import RemoteHost

PREFIX = "adb://"
FORM = "adb://SERIAL[/folder]"
FOLDER = "/data/local/tmp/latency-predictor"
"""A folder that ``adb shell`` may write and run programs in."""
_PLACE = re.compile(r"(?P<serial>[\w.:-]*)(?P<folder>/.*)?", re.ASCII)
_SAID = re.compile(r"adb: |error: (device|closed|no devices|more than one|protocol)|"
                   r"- waiting for device", re.IGNORECASE)  # fmt: skip


class AdbHost(RemoteHost):
    """A device behind ``adb``.

    Args:
        place: ``adb://SERIAL[/folder]``; without a serial the only device.
        python: the interpreter there.

    Raises:
        ConfigError: the place is not of that form.
    """

    def __init__(self, place: str, python: str | None = None) -> None:
        found = _PLACE.fullmatch(place.removeprefix(PREFIX))
        if not found or found["serial"].startswith("-") or "\0" in place:
            raise ConfigError(f"--host {place}: use {FORM}")
        super().__init__(unquote(found["folder"] or "").rstrip("/") or FOLDER, python)
        self.serial: str = found["serial"]

    def describe(self) -> str:
        """``adb://`` and the serial."""
        return PREFIX + self.serial

    def _adb(self, *words: str) -> list[str]:
        return ["adb", *(("-s", self.serial) if self.serial else ()), *words]

    def command(self, script: str) -> list[str]:
        """As :meth:`RemoteHost.command` says; what ``adb shell`` runs is Android's ``sh``."""
        return self._adb("shell", script)

    def send(self, data: bytes, name: str) -> None:
        """As :meth:`RemoteHost.send` says, by ``adb push``."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            part = f"{self.folder}/{name}.part"
            code, _, words = self.call(self._adb("push", str(path), part))
        self.expect(code, words, f"{name} could not be written to {self.folder} there")
        size = f"test $(wc -c < {name}.part) -eq {len(data)}"
        code, _, words = self.ask(f"cd {self.quoted} && {size} && mv {name}.part {name}")
        self.expect(code, words, f"{name} did not arrive whole")

    def transport(self, code: int, words: Sequence[str]) -> MeasurementError | None:
        """As :meth:`RemoteHost.transport` says; adb has no exit code of its own, but words."""
        if not any(_SAID.match(word) for word in words[-3:]):
            return None
        return MeasurementError(
            f"{self.describe()}: no connection ({last_words(words)}): see adb devices; the device "
            f"must be listed, and allow this computer. {RUN_AGAIN}"
        )
