"""What the server and its workers say to each other over a socket.

A message is a head (JSON) and a body (bytes), each with its length in front. Nothing is pickled: a
worker has read what strangers sent.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, fields
from typing import Any

_LENGTHS = struct.Struct(">IQ")
LONGEST_HEAD = 1 << 20
LONGEST_BODY = 1 << 32


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, as a worker gets it. ``kind`` is the last part of its path."""

    kind: str
    body: bytes = b""
    content_type: str = ""
    query: str = ""
    settings: str = ""
    """JSON of what is said beside the body, where a request has such."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's answer. ``trace`` is for the log, where something inside went wrong."""

    status: int = 200
    body: bytes = b""
    code: str = ""
    message: str = ""
    retry_after_s: int | None = None
    trace: str = ""
    memory_mb: float = 0.0
    about: str = ""
    """JSON of what the server must know beside the body, where a reply has such."""


_HEADS: dict[type[Ask | Reply], tuple[str, ...]] = {
    kind: tuple(field.name for field in fields(kind) if field.name != "body")
    for kind in (Ask, Reply)
}


class Gone(Exception):
    """The other end is not there any more."""


def packed(message: Ask | Reply) -> bytes:
    """Bytes of a message."""
    head: dict[str, Any] = {}
    for name in _HEADS[type(message)]:  # dataclasses.asdict takes ten times as long
        head[name] = getattr(message, name)
    text = json.dumps(head).encode()
    return _LENGTHS.pack(len(text), len(message.body)) + text + message.body


def _lengths(data: bytes) -> tuple[int, int]:
    head, body = _LENGTHS.unpack(data)
    if head > LONGEST_HEAD or body > LONGEST_BODY:
        raise Gone("no message")
    return head, body


def read_ask(sock: socket.socket) -> Ask:
    """The next request; raises :class:`Gone` where the server has gone."""
    head, body = _lengths(_exactly(sock, _LENGTHS.size))
    return Ask(**json.loads(_exactly(sock, head)), body=_exactly(sock, body))


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        more = sock.recv_into(view[got:])
        if not more:
            raise Gone("the server has gone")
        got += more
    return bytes(data)


async def read_reply(stream: asyncio.StreamReader) -> Reply:
    """The next reply; raises :class:`Gone` where the worker has gone."""
    try:
        head, body = _lengths(await stream.readexactly(_LENGTHS.size))
        text = await stream.readexactly(head)
        return Reply(**json.loads(text), body=await stream.readexactly(body))
    except (asyncio.IncompleteReadError, ConnectionError, TypeError, ValueError) as error:
        raise Gone(f"the worker has gone: {error}") from None
