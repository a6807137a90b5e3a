"""What every request passes: id, host, origin, token, rate, size; headers, log, metrics.

It is plain ASGI, around the application: what it refuses costs neither a body nor a worker.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from predictor.service import logs
from predictor.service.metrics import Metrics
from predictor.service.problems import INTERNAL, UNREAD, Refusal, error_body
from predictor.service.settings import Settings
from predictor.service.tokens import Token, Tokens

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/v1/health", "/v1/ready", "/v1/openapi.json", "/openapi.json"})
"""What needs no token, beside the page."""
CSV = "text/csv"
STREAMED = frozenset({"/v1/batch"})
"""Whose body is read as it comes, where it is a table."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_ID = re.compile(rb"[A-Za-z0-9_.\-]{1,64}")


class Gate:
    """The application behind its guards."""

    def __init__(
        self, app: App, settings: Settings, tokens: Tokens | None, metrics: Metrics
    ) -> None:
        self.app, self.settings, self.tokens, self.metrics = app, settings, tokens, metrics
        self.names = _names(settings)
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(reversed(scope["headers"]))
        said = headers.get(b"x-request-id", b"")
        request_id = said.decode() if _ID.fullmatch(said) else secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["request_id"], state["headers"] = request_id, headers
        answer = _Answer(send, request_id, scope)
        self.active += 1
        try:
            state["token"] = self._admit(scope, headers)
            await self.app(scope, _limited(scope, headers, receive, self.settings), answer)
        except Refusal as refusal:
            if refusal.trace:
                logs.emit("error", refusal.code, request_id=request_id, trace=refusal.trace)
            await answer.refuse(refusal)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logs.emit("error", "internal error", request_id=request_id, path=scope["path"],
                      trace=_trace(error))  # fmt: skip
            await answer.refuse(Refusal("internal", INTERNAL))
        finally:
            self.active -= 1
            self._record(scope, answer, time.perf_counter() - started)

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Token | None:
        """The token of a request that may go on."""
        if self.names and _host(headers.get(b"host", b"")) not in self.names:
            raise Refusal("forbidden", "this host name is not served here; start the service with "
                          "--name to add it")  # fmt: skip
        origin = headers.get(b"origin")
        if origin and origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower():
            raise Refusal("forbidden", "requests of other sites' pages are not answered")
        path = scope["path"]
        if self.tokens is None or path in OPEN or not path.startswith("/v1/"):
            return None
        token = self.tokens.holder(headers.get(b"authorization", b"").decode("latin-1"))
        if token is None:
            raise Refusal("unauthorized", "a valid token is needed: Authorization: Bearer TOKEN")
        wait = self.tokens.wait_s(token)
        if wait > 0:
            raise Refusal("too_many_requests", "more requests than this token may send; wait "
                          f"{wait:.1f} s", retry_after_s=int(wait) + 1)  # fmt: skip
        return token

    def _record(self, scope: Scope, answer: _Answer, seconds: float) -> None:
        token = scope["state"].get("token")
        self.metrics.request(scope, answer.status, seconds)
        logs.emit(
            "info", "request", request_id=answer.request_id, method=scope["method"],
            path=scope["path"][:200], status=answer.status, ms=round(seconds * 1e3, 3),
            bytes=answer.size, token=token.name if token else None,
            client=(scope.get("client") or ("",))[0], cached=scope["state"].get("cached", False),
            code=answer.code or None,
        )  # fmt: skip


class _Answer:
    """``send`` that adds headers and remembers what was sent."""

    def __init__(self, send: Send, request_id: str, scope: Scope) -> None:
        self.send, self.request_id, self.scope = send, request_id, scope
        self.status = self.size = 0
        self.code = ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = ((b"x-request-id", self.request_id.encode()),)
            message["headers"] = [*message.get("headers", ()), *HEADERS, *own]
        else:
            self.size += len(message.get("body", b""))
        await self.send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error, unless an answer has begun."""
        self.code = refusal.code
        if self.status:
            return
        body = error_body(refusal.code, refusal.message, self.request_id)
        if self.scope["method"] == "HEAD":
            body = b""
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if refusal.retry_after_s is not None:
            headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
        if refusal.code in UNREAD:
            headers.append((b"connection", b"close"))
        if refusal.code == "unauthorized":
            headers.append((b"www-authenticate", b"Bearer"))
        await self({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def _limited(
    scope: Scope, headers: dict[bytes, bytes], receive: Receive, settings: Settings
) -> Receive:
    """``receive`` that ends a body which is too long or too slow."""
    limits = settings.limits
    table = scope["path"] in STREAMED and media_type(headers) == CSV
    most = limits.table_bytes if table else limits.body_bytes
    told = headers.get(b"content-length", b"")
    if told.isdigit() and int(told) > most:
        raise _too_large(most)
    got, until = 0, time.monotonic() + limits.upload_seconds
    whole = False

    async def limited() -> Message:
        nonlocal got, whole
        if table or whole:  # a table may take as long as its answers; then only the end is awaited
            message = await receive()
        else:
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise Refusal("slow_request", "the body did not arrive within "
                              f"{limits.upload_seconds:g} s") from None  # fmt: skip
        if message["type"] == "http.request":
            got += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if got > most:
                raise _too_large(most)
        return message

    return limited


def media_type(headers: dict[bytes, bytes]) -> str:
    """What a body is said to be, without its parameters."""
    said = headers.get(b"content-type", b"").decode("latin-1")
    return said.partition(";")[0].strip().lower()


def _too_large(most: int) -> Refusal:
    return Refusal("body_too_large", f"the body is larger than {most / 1e6:g} MB. An ONNX file "
                   "needs no weights: they may be left out of it as external data")  # fmt: skip


def _names(settings: Settings) -> frozenset[bytes]:
    """Host names that are answered; all, where a token is needed anyway.

    Without tokens a page of another site could reach a loopback service under a name of its own
    that it lets point here.
    """
    if settings.guarded and not settings.names:
        return frozenset()
    own = {"localhost", "127.0.0.1", "[::1]", settings.host.lower(), *settings.names}
    return frozenset(name.encode() for name in own)


def _host(header: bytes) -> bytes:
    name = header.lower()
    if name.startswith(b"["):
        return name.partition(b"]")[0] + b"]"
    return name.partition(b":")[0]


def _trace(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error))
