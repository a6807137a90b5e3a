"""A board that the system's ``ssh`` reaches.

Keys, known hosts and everything else are what the user's own ``ssh`` configuration says. Nothing is
asked (BatchMode): a board that wants a password or has an unknown key is an error that says so.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from urllib.parse import unquote

from predictor.errors import ConfigError, MeasurementError
from predictor.profiling.hosts.base import RUN_AGAIN, last_words
from predictor.profiling.hosts.remote import RemoteHost

PREFIX = "ssh://"
FORM = "ssh://[user@]host[:port][/folder]"
FOLDER = ".cache/latency-predictor"
"""The folder there if none is named, from the home folder."""
LOST = 255
"""What ssh returns when it is ssh that failed."""
OPTIONS = (
    "-o", "BatchMode=yes", "-o", "ConnectTimeout=20",
    "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3",
)  # fmt: skip
"""A board that is silent for half a minute is gone. The user's own options stand before these, and
ssh keeps the first value of each."""
_PLACE = re.compile(
    r"(?:(?P<user>\w[\w.-]*)@)?(?P<host>\w[\w.-]*|\[[0-9a-fA-F:]+(?:%\w+)?\])"
    r"(?::(?P<port>\d{1,5}))?(?P<folder>/.*)?",
    re.ASCII,
)
REMEDIES = (
    ("IDENTIFICATION HAS CHANGED", "its host key is not the one that is known. If the board was "
     "set up anew: ssh-keygen -R {name}, then connect once by hand"),
    ("Host key verification failed", "its host key is not known. Connect once by hand and compare "
     "the key: {by_hand}"),
    ("Permission denied", "no key of yours is accepted. Set one up: ssh-copy-id {by_hand_args}"),
    ("Could not resolve", "check the name"),
    ("refused", "is its SSH server running, and the port right?"),
    ("timed out", "is it on, and reachable from here?"),
    ("No route", "is it on, and reachable from here?"),
)  # fmt: skip
"""What to do, by ssh's own words; the first that is found counts."""


class SshHost(RemoteHost):
    """A board behind ``ssh``.

    Args:
        place: ``ssh://[user@]host[:port][/folder]``; a folder that begins with ``/~/`` starts at
            the home folder.
        python: the interpreter there.
        options: more options for ``ssh``, each such as ``-i key``.

    Raises:
        ConfigError: the place or an option is not of that form.
    """

    def __init__(self, place: str, python: str | None = None, options: Sequence[str] = ()) -> None:
        found = _PLACE.fullmatch(place.removeprefix(PREFIX))
        if not found or "\0" in place or int(found["port"] or 22) > 65535:
            raise ConfigError(f"--host {place}: use {FORM}")
        folder = unquote(found["folder"] or "").rstrip("/")
        if folder.startswith("/~"):
            folder = "./" + folder[2:].lstrip("/")
        super().__init__(folder or FOLDER, python)
        self.host, self.user, self.port = found["host"].strip("[]"), found["user"], found["port"]
        self.options = [word for option in options for word in _words(option)]

    def describe(self) -> str:
        """``ssh://`` and where."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{PREFIX}{self.user}@{host}" if self.user else f"{PREFIX}{host}") + (
            f":{self.port}" if self.port else ""
        )

    def _target(self) -> list[str]:
        target = f"{self.user}@{self.host}" if self.user else self.host
        return [*(("-p", self.port) if self.port else ()), "--", target]

    def command(self, script: str) -> list[str]:
        """As :meth:`RemoteHost.command` says; ssh joins words by spaces, so it is given one."""
        return ["ssh", *self.options, *OPTIONS, "-T", *self._target(),
                shlex.join(["/bin/sh", "-c", script])]  # fmt: skip

    def send(self, data: bytes, name: str) -> None:
        """As :meth:`RemoteHost.send` says. ``cat`` needs no server for file transfer there, and
        the size tells whether the connection held until the end."""
        part = f"{name}.part"
        code, _, words = self.ask(
            f"cd {self.quoted} && cat > {part} && "
            f"test $(wc -c < {part}) -eq {len(data)} && mv {part} {name}", data
        )  # fmt: skip
        self.expect(code, words, f"{name} could not be written to {self.folder} there")

    def transport(self, code: int, words: Sequence[str]) -> MeasurementError | None:
        """As :meth:`RemoteHost.transport` says."""
        if code != LOST:
            return None
        said, place = last_words(words) or "the connection ended", self.describe()
        where = [*(("-p", self.port) if self.port else ()), self._target()[-1]]
        known = f"[{self.host}]:{self.port}" if self.port else self.host
        for sign, remedy in REMEDIES:
            if any(sign.lower() in word.lower() for word in words):
                told = remedy.format(name=shlex.quote(known), by_hand=shlex.join(["ssh", *where]),
                                     by_hand_args=shlex.join(where))  # fmt: skip
                return MeasurementError(f"{place}: no connection ({said}): {told}. {RUN_AGAIN}")
        return MeasurementError(f"{place}: the connection was lost ({said}). {RUN_AGAIN}")


def _words(option: str) -> list[str]:
    try:
        words = shlex.split(option)
    except ValueError as error:
        raise ConfigError(f"--ssh-option '{option}': {error}") from error
    if not words or not words[0].startswith("-") or words[0] == "--":
        raise ConfigError(f"--ssh-option '{option}': write an option of ssh, such as '-i key'")
    return words
