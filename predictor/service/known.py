"""Answers that are known already, before the framework sees the request."""

from __future__ import annotations

from predictor.service.cache import Cache
from predictor.service.gate import App, Receive, Scope, Send
from predictor.service.metrics import Metrics

PATHS = frozenset({"/v1/predict", "/v1/count", "/v1/compare"})
"""Requests whose answer depends on nothing but what was sent and the profiles."""


class Known:
    """Reads the body of such a request and answers it, if the same was asked before.

    What is new goes on, with ``body`` and ``key`` in the scope's state; the route keeps its answer.
    """

    def __init__(self, app: App, cache: Cache, metrics: Metrics) -> None:
        self.app, self.cache, self.metrics = app, cache, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http" or scope["path"] not in PATHS or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            return  # the client went away
        state = scope["state"]
        content_type = state["headers"].get(b"content-type", b"")
        key = Cache.key(scope["path"].encode(), scope["query_string"], content_type, body)
        found = self.cache.get(key)
        if found is None:
            state["body"], state["key"] = body, key
            await self.app(scope, receive, send)
            return
        state["cached"] = True
        self.metrics.cached.inc()
        headers = [(b"content-type", b"application/json"),
                   (b"content-length", str(len(found)).encode())]  # fmt: skip
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": found})


async def _body(receive: Receive) -> bytes | None:
    message = await receive()
    if message["type"] != "http.request":
        return None
    if not message.get("more_body", False):
        whole: bytes = message.get("body", b"")
        return whole
    parts = [message.get("body", b"")]
    while message.get("more_body", False):
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
    return b"".join(parts)
