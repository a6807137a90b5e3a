"""How a service runs: what ``predict-latency serve`` was told, and the limits of a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from predictor.cores import usable

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, one client and one search may take."""

    body_bytes: int = 64 * MB
    """Largest body; a streamed table may be ``table_bytes`` long."""
    table_bytes: int = 1_000 * MB
    tables: int = 8
    """Tables that are answered at the same time."""
    held_bytes: int = 512 * MB
    """All bodies at once, tables aside (those lie in files)."""
    kernels: int = 50_000
    """Operators of one graph."""
    rows: int = 1_000
    """Rows of one JSON batch."""
    combinations: int = 64
    """Estimates of one comparison."""
    seconds: float = 30.0
    """Of one prediction; the worker that takes longer is killed."""
    upload_seconds: float = 60.0
    """Until a body must have arrived."""
    waiting: int = 256
    """Requests that may wait for a worker."""
    worker_mb: int = 4_000
    """Memory of one worker."""
    per_minute: int = 600
    """Requests of a token that has no limit of its own."""
    searches: int = 2
    """Searches at once; more wait."""
    searches_waiting: int = 16
    trials: int = 2_000
    search_seconds: float = 900.0
    cache_bytes: int = 128 * MB
    """Answers that are kept."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a service runs.

    ``tokens`` is a file of bearer tokens, ``token`` one from the environment; without either the
    service answers anybody, which is refused on anything but loopback. ``names`` are hosts that
    requests may name in their Host header, beside the one that is listened on.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = field(default_factory=usable)
    tokens: Path | None = None
    token: str | None = None
    names: tuple[str, ...] = ()
    grace_s: float = 30.0
    watch_s: float = 5.0
    """Seconds between two looks at the profiles."""
    preload: bool = True
    """Load PyTorch and the model libraries once, before workers are forked."""
    look_through: bool = True
    """Load every target in the background after the start, and know the lists of names."""
    limits: Limits = field(default_factory=Limits)

    @property
    def loopback(self) -> bool:
        """Only this machine can reach the service."""
        return is_loopback(self.host)

    @property
    def guarded(self) -> bool:
        """A token is needed."""
        return self.tokens is not None or self.token is not None


def is_loopback(host: str) -> bool:
    """127.0.0.0/8, ::1 or localhost."""
    import ipaddress

    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
