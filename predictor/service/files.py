"""Bodies that are the same for everybody: files of the page, and long lists.

They are compressed once, for clients that accept it, and sent as they are to all others.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request, Response

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}  # fmt: skip
LEAST = 1_000
"""Bytes of a body that are worth to be compressed."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page, as it was when the server started."""

    body: bytes
    kind: str
    tag: str


def page_files() -> Mapping[str, File]:
    """Files of the page by name."""
    found = {}
    for path in sorted(PAGE.iterdir()):
        if path.suffix in TYPES:
            body = path.read_bytes()
            tag = f'W/"{hashlib.sha256(body).hexdigest()[:20]}"'
            found[path.name] = File(body, TYPES[path.suffix], tag)
    return found


def send_file(request: Request, file: File) -> Response:
    """The file, or 304 where the client has the same."""
    headers = {"Cache-Control": "no-cache", "ETag": file.tag, "Vary": "Accept-Encoding"}
    said = request.headers.get("if-none-match", "")
    if said.strip() == "*" or _bare(file.tag) in map(_bare, said.split(",")):
        return Response(b"", 304, headers)
    return send(request, file.body, file.kind, headers)


def send(
    request: Request, body: bytes, kind: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A body that is the same for everybody."""
    own = {**(headers or {}), "Vary": "Accept-Encoding"}
    if len(body) >= LEAST and _accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(_packed(body), 200, {**own, "Content-Encoding": "gzip"}, kind)
    return Response(body, 200, own, kind)


def _bare(tag: str) -> str:
    return tag.strip().removeprefix("W/")


def _accepts_gzip(said: str) -> bool:
    for one in said.lower().split(","):
        name, _, weight = one.replace(" ", "").partition(";q=")
        if name == "gzip":
            return not weight or weight.strip("0.") != ""
    return False


@functools.lru_cache(maxsize=64)
def _packed(body: bytes) -> bytes:
    return gzip.compress(body, 6, mtime=0)
