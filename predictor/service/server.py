"""Running the service: uvicorn over the application behind its gate, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from predictor.errors import ConfigError
from predictor.service import logs
from predictor.service.app import make_app
from predictor.service.gate import HEADERS, Gate, error_headers
from predictor.service.known import Known
from predictor.service.openapi import document
from predictor.service.problems import error_body
from predictor.service.settings import Settings
from predictor.service.state import State
from predictor.service.tokens import ENVIRONMENT, Tokens

BACKLOG = 1024
SWITCH_S = 0.0005
"""Until a thread that looks at files lets requests go on; Python's 5 ms are seen in the tail."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""One thread a worker: there are as many workers as cores."""


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; requests that were taken are answered first.

    Returns the exit code.

    Raises:
        ConfigError: the tokens are wrong, there are none off loopback, or the port is taken.
    """
    if not settings.guarded and not settings.loopback:
        raise ConfigError(
            f"--host {settings.host}: others can reach it, so tokens are needed: add --tokens FILE "
            f"(or set {ENVIRONMENT}), or listen on 127.0.0.1"
        )
    tokens = None
    if settings.guarded:
        tokens = Tokens(settings.tokens, settings.token, settings.limits.per_minute)
    sock = _listen(settings)
    settings = replace(settings, port=sock.getsockname()[1])
    logs.settle()
    for name in THREADS:
        os.environ.setdefault(name, "1")
    os.environ.pop(ENVIRONMENT, None)  # workers read what strangers send: they need no token
    sys.setswitchinterval(SWITCH_S)
    with tempfile.TemporaryDirectory(prefix="latency-service-") as scratch:
        state = State(settings, Path(scratch), json.dumps(document()).encode())
        config = uvicorn.Config(
            Gate(Known(_app(state), state), settings, tokens, state.metrics),
            lifespan="on", log_config=None,
            access_log=False, server_header=False, http=_Protocol, ws="none",
            proxy_headers=False, timeout_graceful_shutdown=max(1, round(settings.grace_s)),
            timeout_keep_alive=30, backlog=BACKLOG,
        )  # fmt: skip
        server = _Server(config, state)
        server.run(sockets=[sock])
        return 0 if server.started else 1


def _app(state: State) -> Any:
    """The application; its lifespan starts and ends the workers."""
    app = make_app(state)

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError):
            loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(state.look()))
        await state.start()
        host = f"[{state.settings.host}]" if ":" in state.settings.host else state.settings.host
        with contextlib.suppress(OSError):  # stdout may be closed; the log says it, too
            print(f"serving on http://{host}:{state.settings.port}; Ctrl-C ends it", flush=True)
        gc.collect()
        gc.freeze()  # what lives as long as the server need not be looked at again
        try:
            yield
        finally:
            await state.stop()

    app.router.lifespan_context = lifespan
    return app


class _Protocol(HttpToolsProtocol):
    """What is no HTTP gets the same shape of error as all else."""

    def send_400_response(self, msg: str) -> None:
        """Answer in place of uvicorn's line of text, and hang up."""
        request_id = secrets.token_hex(8)
        body = error_body("bad_request", "this is no HTTP request that can be read", request_id)
        headers = (*error_headers(body), *HEADERS, (b"x-request-id", request_id.encode()),
                   (b"connection", b"close"))  # fmt: skip
        lines = [b"%s: %s\r\n" % pair for pair in headers]
        self.transport.write(b"".join([b"HTTP/1.1 400 Bad Request\r\n", *lines, b"\r\n", body]))
        self.transport.close()
        logs.emit("info", "no http", request_id=request_id, client=(self.client or ("",))[0])


class _Server(uvicorn.Server):
    """Tells those who listen to a search that it is over, so that they do not hold up the end."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self.state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: take nothing new, finish what was taken."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # it would end the process by the signal once it is done
        self.state.say_stopping()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host.strip("[]") else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host.strip("[]"), settings.port))
        sock.listen(BACKLOG)  # who comes before the workers are there waits
    except (OSError, OverflowError) as error:
        sock.close()
        reason = error.strerror if isinstance(error, OSError) else "no port"
        raise ConfigError(f"{settings.host}:{settings.port}: cannot be listened on: {reason}. "
                          "Choose another --port") from None  # fmt: skip
    return sock
