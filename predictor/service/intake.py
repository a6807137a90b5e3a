"""Bodies as they come in: how long, how slow, and how much of all of them at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from predictor.service.problems import Refusal
from predictor.service.settings import Limits

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

STREAMED = frozenset({"/v1/batch"})
"""Whose body goes to a file as it comes, where it is a table."""
CSV = "text/csv"


class Intake:
    """What all requests under way hold: ``held`` bytes of bodies, and ``tables``."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = self.tables = 0

    def body(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Body:
        """The body of a request, to be closed when the request is answered.

        Raises:
            Refusal: it is too large, or too many tables are under way.
        """
        limits = self.limits
        table = scope["path"] in STREAMED and media_type(headers) == CSV
        most = limits.table_bytes if table else limits.body_bytes
        told = headers.get(b"content-length", b"")
        if told.isdigit() and int(told) > most:
            raise too_large(most)
        if table and self.tables >= limits.tables:
            raise Refusal("busy", f"{limits.tables} tables are under way; this one must wait",
                          retry_after_s=30)  # fmt: skip
        return Body(self, receive, most, table)


class Body:
    """``receive`` of one request, within limits."""

    __slots__ = ("got", "intake", "most", "receive", "table", "until", "whole")

    def __init__(self, intake: Intake, receive: Receive, most: int, table: bool) -> None:
        self.intake, self.receive, self.most, self.table = intake, receive, most, table
        self.got, self.whole = 0, False
        self.until = time.monotonic() + intake.limits.upload_seconds
        intake.tables += table

    async def __call__(self) -> Message:
        """The next message.

        Raises:
            Refusal: the body is too long or too slow, or there are too many.
        """
        if self.table or self.whole:  # of a table's end, or a client that leaves, nobody is in wait
            message = await self.receive()
        else:
            message = await self._in_time()
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.got += size
            self.whole = not message.get("more_body", False)
            if self.got > self.most:
                raise too_large(self.most)
            if not self.table:
                self.intake.held += size
                if self.intake.held > self.intake.limits.held_bytes:
                    raise Refusal("busy", "too much is being sent at once", retry_after_s=5)
        return message

    async def _in_time(self) -> Message:
        try:
            async with asyncio.timeout(max(0.0, self.until - time.monotonic())):
                return await self.receive()
        except TimeoutError:
            raise Refusal("slow_request", "the body did not arrive within "
                          f"{self.intake.limits.upload_seconds:g} s") from None  # fmt: skip

    def close(self) -> None:
        """The request is answered."""
        self.intake.tables -= self.table
        if not self.table:
            self.intake.held -= self.got


def media_type(headers: dict[bytes, bytes]) -> str:
    """What a body is said to be, without its parameters."""
    said = headers.get(b"content-type", b"").decode("latin-1")
    return said.partition(";")[0].strip().lower()


def too_large(most: int) -> Refusal:
    """The answer to a body that is longer than ``most`` bytes."""
    return Refusal("body_too_large", f"the body is larger than {most / 1e6:g} MB. An ONNX file "
                   "needs no weights: they may be left out of it as external data")  # fmt: skip
