"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
KINDS = frozenset({
    "predict", "count", "compare", "batch", "devices", "models", "spaces", "searches", "health",
    "ready", "metrics", "openapi.json",
})  # fmt: skip
"""Second parts of paths that have figures of their own; a client's words never become labels."""


class Metrics:
    """Counters of one service, in a registry of its own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "predictor"}
        self.requests = Counter("requests", "Answered requests.", ["kind", "status"], **own)
        self.seconds = Histogram("request_seconds", "Time to the end of an answer.", ["kind"],
                                 buckets=BUCKETS, **own)  # fmt: skip
        self.cached = Counter("cached_answers", "Answers that were known already.", **own)
        self.reloads = Counter("profile_reloads", "Profiles read anew.", ["outcome"], **own)
        self._gauge = Gauge
        self._own = own
        self._kept: dict[Any, Any] = {}

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when it is read."""
        self._gauge(name, about, **self._own).set_function(value)

    def request(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        """Count one request."""
        parts = scope["path"].split("/", 3)
        kind = parts[2] if len(parts) > 2 and parts[1] == "v1" and parts[2] in KINDS else "other"
        if kind == "other" and parts[1:2] in (["page"], [""]):
            kind = "page"
        found = self._kept.get((kind, status))
        if found is None:  # looking labels up costs more than counting
            found = self._kept[kind, status] = (
                self.requests.labels(kind, str(status)), self.seconds.labels(kind))  # fmt: skip
        found[0].inc()
        found[1].observe(seconds)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
