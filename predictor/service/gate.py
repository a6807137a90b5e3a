"""What every request passes: id, host, origin, token, rate, size; headers, log, metrics.

It is plain ASGI, around the application: what it refuses costs neither a body nor a worker.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable

from predictor.service import logs
from predictor.service.intake import Body, Intake, Message, Receive, Scope
from predictor.service.metrics import Metrics
from predictor.service.problems import INTERNAL, UNREAD, Refusal, error_body
from predictor.service.settings import Settings
from predictor.service.tokens import Token, Tokens

Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/v1/health", "/v1/ready", "/v1/openapi.json", "/openapi.json"})
"""What needs no token, beside the page."""
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
HEADER_BYTES, HEADER_COUNT = 65_536, 100
_ID = re.compile(rb"[A-Za-z0-9_.\-]{1,64}")


class Gate:
    """The application behind its guards."""

    def __init__(
        self, app: App, settings: Settings, tokens: Tokens | None, metrics: Metrics
    ) -> None:
        self.app, self.settings, self.tokens, self.metrics = app, settings, tokens, metrics
        self.names = _names(settings)
        self.intake = Intake(settings.limits)

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
        body: Body | None = None
        try:
            state["token"] = self._admit(scope, headers)
            body = self.intake.body(scope, headers, receive)
            await self.app(scope, body, answer)
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
            if body is not None:
                body.close()
            self._record(scope, answer, time.perf_counter() - started)

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Token | None:
        """The token of a request that may go on."""
        long = len(scope["headers"]) > HEADER_COUNT
        if long or sum(map(len, headers.values())) > HEADER_BYTES:
            raise Refusal("headers_too_large", f"more than {HEADER_COUNT} headers, or than "
                          f"{HEADER_BYTES // 1024} KiB of them")  # fmt: skip
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
        headers = error_headers(body)
        if refusal.retry_after_s is not None:
            headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
        if refusal.code in UNREAD:
            headers.append((b"connection", b"close"))
        if refusal.code == "unauthorized":
            headers.append((b"www-authenticate", b"Bearer"))
        await self({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def error_headers(body: bytes) -> list[tuple[bytes, bytes]]:
    """What stands before the body of every error."""
    return [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]


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
