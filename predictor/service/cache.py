"""Answers that are known already: by what was asked, up to so many bytes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

LARGEST_SHARE = 8
"""One answer may take this part of the whole; larger ones are not kept."""


class Cache:
    """The most recently asked answers. Keys are digests of requests."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @staticmethod
    def key(*parts: bytes) -> bytes:
        """The digest of a request."""
        digest = hashlib.blake2b(digest_size=24)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()

    def get(self, key: bytes) -> bytes | None:
        """The answer, if it is known."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: bytes, answer: bytes) -> None:
        """Keep an answer, and let go of those that were not asked for the longest time."""
        if len(answer) > self.most_bytes // LARGEST_SHARE:
            return
        old = self._kept.pop(key, None)
        self.bytes += len(answer) - (len(old) if old is not None else 0)
        self._kept[key] = answer
        while self.bytes > self.most_bytes:
            self.bytes -= len(self._kept.popitem(last=False)[1])

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self.bytes = 0
