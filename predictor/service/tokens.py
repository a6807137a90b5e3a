"""Bearer tokens: from a file or the environment, compared in constant time, each with a rate.

The file is YAML, and is read again when it changes::

    - {name: ci, token: "at least sixteen characters", expires: "2027-01-31", per_minute: 600}
    - {name: dashboard, sha256: 8d969eef...}          # the token itself need not be in the file
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predictor.errors import ConfigError, suggest
from predictor.service import logs

SHORTEST = 16
ENVIRONMENT = "LATENCY_PREDICTOR_TOKEN"
_KEYS = ("name", "token", "sha256", "expires", "per_minute")
_LOOK_S = 1.0
"""Seconds between two looks whether the file has changed."""
BURST_S = 10.0
"""Seconds of its rate that a token may use at once."""


@dataclass(frozen=True, slots=True)
class Token:
    """Who may ask, until when (seconds since 1970; None: always), and how often a minute."""

    name: str
    digest: bytes
    expires: float | None = None
    per_minute: int | None = None


class Tokens:
    """The tokens of a service.

    Raises:
        ConfigError: the file is missing, damaged, or readable by others' mistakes: a token that
            is too short, two of one name.
    """

    def __init__(self, file: Path | None, token: str | None, per_minute: int) -> None:
        self.file, self.per_minute = file, per_minute
        self._fixed: tuple[Token, ...] = ()
        if token is not None:
            self._fixed = (Token("environment", _digest(_long(token, ENVIRONMENT))),)
        self._stamp: tuple[int, int] | None = None
        self._looked = 0.0
        self._listed: tuple[Token, ...] = ()
        if file is not None:
            self._stamp, self._listed = _stamp(file), read_tokens(file)
        self._buckets: dict[str, _Bucket] = {}

    def holder(self, header: str) -> Token | None:
        """Whose token an ``Authorization`` header holds; None for none, a wrong or an old one.

        Every token is compared, whichever fits, so that time tells nothing.
        """
        self._look()
        scheme, _, said = header.partition(" ")
        digest = _digest(said.strip() if scheme.lower() == "bearer" else "")
        found = None
        for token in (*self._fixed, *self._listed):
            if hmac.compare_digest(token.digest, digest):
                found = token
        if found is None or (found.expires is not None and time.time() >= found.expires):
            return None
        return found

    def wait_s(self, token: Token) -> float:
        """Seconds until the token may ask again; 0 where it may now (and has)."""
        rate = token.per_minute or self.per_minute
        bucket = self._buckets.get(token.name)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[token.name] = _Bucket(rate)
        return bucket.take(time.monotonic())

    def _look(self) -> None:
        if self.file is None or time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        try:
            stamp = _stamp(self.file)
            if stamp == self._stamp:
                return
            self._listed, self._stamp = read_tokens(self.file), stamp
            logs.emit("info", "tokens were read again", tokens=len(self._listed))
        except ConfigError as error:  # those that were known stay
            logs.emit("error", "the token file cannot be read; the old tokens stay",
                      error=str(error))  # fmt: skip


class _Bucket:
    """So many a minute, with a burst."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.size = max(1.0, rate * BURST_S / 60)
        self.left, self.at = self.size, time.monotonic()

    def take(self, now: float) -> float:
        self.left = min(self.size, self.left + (now - self.at) * self.rate / 60)
        self.at = now
        if self.left >= 1:
            self.left -= 1
            return 0.0
        return (1 - self.left) * 60 / self.rate


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _long(token: str, where: str) -> str:
    if len(token) < SHORTEST:
        raise ConfigError(f"{where}: a token of {len(token)} characters can be guessed; use "
                          f"{SHORTEST} or more, such as: openssl rand -hex 24")  # fmt: skip
    return token


def _stamp(file: Path) -> tuple[int, int]:
    try:
        about = os.stat(file)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    return about.st_mtime_ns, about.st_size


def read_tokens(file: Path) -> tuple[Token, ...]:
    """The tokens of a file.

    Raises:
        ConfigError: it cannot be read, or an entry is wrong; the message never holds a token.
    """
    import yaml

    try:
        data: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError("no YAML", file=str(file), line=mark.line + 1 if mark else None) from None
    if not isinstance(data, list) or not data:
        raise ConfigError("a list of tokens is wanted, such as: "
                          "- {name: ci, token: ..., expires: 2027-01-31}",
                          file=str(file))  # fmt: skip
    found = tuple(_token(f"{file}: entry {number}", entry) for number, entry in enumerate(data, 1))
    names = [token.name for token in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"{file}: '{min(twice)}' stands twice; give each token its own name")
    return found


def _token(where: str, entry: Any) -> Token:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
        raise ConfigError(f"{where}: wants a name and a token (or its sha256)")
    for key in entry:
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key '{key}'.{suggest(str(key), _KEYS)}")
    if ("token" in entry) == ("sha256" in entry):
        raise ConfigError(f"{where}: give either token or sha256")
    if "sha256" in entry:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", str(entry["sha256"])):
            raise ConfigError(f"{where}: sha256 wants 64 hexadecimal digits")
        digest = bytes.fromhex(entry["sha256"])
    else:
        digest = _digest(_long(str(entry["token"]), where))
    rate = entry.get("per_minute")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int) or rate < 1):
        raise ConfigError(f"{where}: per_minute wants a whole number of 1 or more")
    return Token(entry["name"], digest, _expiry(where, entry.get("expires")), rate)


def _expiry(where: str, said: Any) -> float | None:
    """Seconds since 1970; a day means its first moment, and without a zone UTC is meant."""
    if said is None:
        return None
    moment = said
    if isinstance(said, str):
        try:
            moment = datetime.datetime.fromisoformat(said)
        except ValueError:
            moment = None
    if isinstance(moment, datetime.date) and not isinstance(moment, datetime.datetime):
        moment = datetime.datetime(moment.year, moment.month, moment.day)
    if not isinstance(moment, datetime.datetime):
        raise ConfigError(f"{where}: expires wants a day or a moment: 2027-01-31T12:00:00+00:00")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()
