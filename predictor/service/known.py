"""Predictions without the framework, which would be half of what the server costs.

Requests that depend on nothing but what was sent and the profiles are read here, answered from the
cache where the same was asked before, else by a worker. The routes of :mod:`app` do the same for
whoever serves the application alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictor.service.cache import Cache
from predictor.service.gate import App, Send
from predictor.service.intake import Receive, Scope
from predictor.service.problems import Refusal
from predictor.service.wire import Ask, Reply

if TYPE_CHECKING:
    from predictor.service.state import State

KINDS = {"/v1/predict": "predict", "/v1/count": "count", "/v1/compare": "compare"}


class Known:
    """Answers POST requests for :data:`KINDS`, and passes all others on."""

    def __init__(self, app: App, state: State) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on.

        Raises:
            Refusal: what the gate is to answer with.
        """
        kind = KINDS.get(scope["path"]) if scope["type"] == "http" else None
        if kind is None or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            return  # the client went away
        reply = await answered(self.state, kind, scope, body)
        if reply.status != 200:
            raise refused(reply)
        headers = [(b"content-type", b"application/json"),
                   (b"content-length", str(len(reply.body)).encode())]  # fmt: skip
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


async def answered(state: State, kind: str, scope: Scope, body: bytes) -> Reply:
    """The answer to a request, from the cache if the same was asked before."""
    content_type = scope["state"]["headers"].get(b"content-type", b"")
    query = scope["query_string"]
    key = Cache.key(kind.encode(), query, content_type, body)
    found = state.cache.get(key)
    if found is not None:
        scope["state"]["cached"] = True
        state.metrics.cached.inc()
        return Reply(body=found)
    home = state.pool.home
    reply = await state.pool.ask(Ask(kind, body, content_type.decode("latin-1"),
                                     query.decode("latin-1")))  # fmt: skip
    if reply.status == 200 and state.pool.home == home:
        state.cache.put(key, reply.body)
    return reply


def refused(reply: Reply) -> Refusal:
    """A worker's error as one to raise; its trace goes to the log with the request's id."""
    refusal = Refusal(reply.code, reply.message, retry_after_s=reply.retry_after_s)
    refusal.trace = reply.trace
    return refusal


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
