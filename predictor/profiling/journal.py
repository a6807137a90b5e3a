"""The results file: append-only, a checksum a line, on the disk before the next one begins.

    <crc32 of the JSON, 8 hex digits> <compact JSON>\\n

A line that was torn by a kill, a power cut or a full disk is set aside beside the file, a damaged
one further up is told and left where it is; whole lines are never touched. The line itself is the
row's identity. Runs on the board: Python 3.6, standard library.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import time
import zlib
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

try:
    import fcntl
except ImportError:  # no such thing on Windows: two runs on one file are the user's care there
    fcntl = None  # type: ignore[assignment]

WAIT_S = 30.0
"""How long another run may hold the file: one that lost its user needs a moment to notice."""
BUSY = (errno.EACCES, errno.EAGAIN)
BEGINS = re.compile(rb"\0*|[0-9a-f]{0,8}|[0-9a-f]{8} \{?|[0-9a-f]{8} \{.*", re.DOTALL)
"""What a results file may begin with: a row, some of one, or the zeros that a power cut leaves."""


class JournalError(Exception):
    """The results file cannot be used or written. What it held before, it still holds."""


def format_line(row):
    # type: (Dict[str, Any]) -> bytes
    """The line of a row, with its checksum and newline; JournalError for what JSON cannot hold."""
    try:
        body = json.dumps(row, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError) as error:
        raise JournalError("a row cannot be stored (%s): %.200r" % (error, row)) from error
    return b"%08x %s\n" % (zlib.crc32(body) & 0xFFFFFFFF, body)


def parse_line(line):
    # type: (bytes) -> Optional[Dict[str, Any]]
    """The row of a line, with or without its newline; None where the line is damaged."""
    body = line[9:].rstrip(b"\n")
    if line[:9] != b"%08x " % (zlib.crc32(body) & 0xFFFFFFFF):
        return None
    try:
        row = json.loads(body.decode("utf-8"))
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def row_id(line):
    # type: (bytes) -> str
    """The identity of a row: SHA-256 of its line without the newline, as hex digits."""
    return hashlib.sha256(line.rstrip(b"\n")).hexdigest()


def read(path):
    # type: (str) -> Tuple[List[Dict[str, Any]], List[str]]
    """The whole rows of a file that may be in use, and remarks on its damaged lines.

    Raises:
        OSError: the file cannot be read.
        JournalError: it is no results file.
    """
    with open(path, "rb") as handle:
        parts = _Parts(path, handle.read())
    torn = ["%s: the last line is torn, left out" % path] if parts.torn else []
    return [row for _, row in parts.good], parts.remarks + torn


class _Parts(object):
    """The bytes of a results file, sorted: ``good`` lines with their rows, a ``torn`` end."""

    def __init__(self, path, data):
        # type: (str, bytes) -> None
        if not BEGINS.fullmatch(data[:64]):
            raise JournalError("%s: not a results file; nothing in it was changed" % path)
        self.good = []  # type: List[Tuple[bytes, Dict[str, Any]]]
        self.remarks = []  # type: List[str]
        self.lacks_newline = False
        self.end = 0  # where the torn part begins
        damaged = []  # type: List[int]
        place = 0
        for number, line in enumerate(data.split(b"\n"), 1):
            place = min(len(data), place + len(line) + 1)
            row = parse_line(line)
            if row is not None:
                self.good.append((line, row))
                self.remarks += [_damage(path, n) for n in damaged]
                damaged, self.end = [], place
            elif line or place < len(data):
                damaged.append(number)
        self.torn = data[self.end :]
        if self.end == len(data) and data and not data.endswith(b"\n"):
            self.lacks_newline = True  # whole all the same: the checksum says so


def _damage(path, number):
    # type: (str, int) -> str
    return "%s:%d: damaged line, left as it is; its row does not count" % (path, number)


class Journal(object):
    """A results file, held for writing; a context manager.

    Args:
        path: the file; made if there is none.
        wait: seconds to wait while another run holds it.

    Attributes:
        rows: the whole rows, those that are appended too.
        ids: their identities.
        remarks: what was found damaged, for the user.

    Raises:
        JournalError: another run holds the file, it cannot be opened, or it is no results file.
    """

    def __init__(self, path, wait=WAIT_S):
        # type: (str, float) -> None
        self.path = str(path)
        self.rows = []  # type: List[Dict[str, Any]]
        self.ids = set()  # type: Set[str]
        self.remarks = []  # type: List[str]
        self._end = self._echoed = 0
        self._named = False  # whether the file beside it names this process
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        with self._told("cannot be opened"):
            fresh = not os.path.exists(self.path)
            self._file = os.open(self.path, flags, 0o644)
        try:
            self._lock(wait)
            with self._told("cannot be read or mended"):
                if fresh:
                    _sync_folder(self.path)
                self._load()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        # type: () -> Journal
        return self

    def __exit__(self, *_):
        # type: (Any) -> None
        self.close()

    def close(self):
        # type: () -> None
        """Let the file go; more than once is allowed."""
        if self._file >= 0:
            if self._named:
                with contextlib.suppress(OSError):
                    os.remove(self._owner)
            os.close(self._file)
            self._file = -1

    def append(self, row):
        # type: (Dict[str, Any]) -> bytes
        """Write a row; when this returns it is on the disk. Returns its line."""
        line = format_line(row)
        self.append_line(line)
        return line

    def append_line(self, line):
        # type: (bytes) -> None
        """Write a line that another journal made, byte for byte.

        Raises:
            JournalError: the line is damaged, or it cannot be written in full; then the file ends
                with its last whole row, as before.
        """
        row = parse_line(line)
        if row is None:
            raise JournalError("%s: a damaged line was to be appended" % self.path)
        line = line.rstrip(b"\n") + b"\n"
        with self._told("a row cannot be written"):
            if os.fstat(self._file).st_size != self._end:
                raise JournalError(
                    "%s: another program changed it during the run; stop that and run again"
                    % self.path
                )
            try:
                written = os.write(self._file, line)
                while written < len(line):  # the rest fails, and says why
                    written += os.write(self._file, line[written:])
                os.fsync(self._file)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._end)
                    os.fsync(self._file)
                raise
        self._end += len(line)
        self.rows.append(row)
        self.ids.add(row_id(line))

    def echo(self, stream):
        # type: (Any) -> None
        """Print the whole lines that were not printed yet, to a text or a binary stream."""
        out = getattr(stream, "buffer", stream)
        while self._echoed < self._end:
            piece = self._bytes(self._echoed, min(self._end, self._echoed + (1 << 20)))
            while b"\n" not in piece:
                piece += self._bytes(self._echoed + len(piece), self._end)
            piece = piece[: piece.rindex(b"\n") + 1]
            for line in piece.splitlines(True):
                if parse_line(line) is not None:
                    out.write(line)
            self._echoed += len(piece)
        out.flush()

    @contextlib.contextmanager
    def _told(self, what):
        # type: (str) -> Iterator[None]
        try:
            yield
        except OSError as error:
            why = "%s: %s (%s)" % (self.path, what, error.strerror or error)
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", -1), errno.EFBIG):
                why += "; make room and run again"
            raise JournalError(why + ". What was measured before is kept.") from error

    @property
    def _owner(self):
        # type: () -> str
        """A file that names the process which holds the lock; of no meaning without the lock."""
        return self.path + ".pid"

    def _lock(self, wait):
        # type: (float) -> None
        if fcntl is None:
            return
        until = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in BUSY:
                    self.remarks.append("%s: no locks on this file system (%s); let no two runs "
                                        "use it at once" % (self.path, error.strerror))  # fmt: skip
                    return
            if time.monotonic() >= until:
                raise JournalError("%s: another run holds it%s; wait for its end or stop it"
                                   % (self.path, self._holder()))  # fmt: skip
            time.sleep(0.1)
        with contextlib.suppress(OSError), open(self._owner, "w") as handle:
            self._named = True
            handle.write("%d\n" % os.getpid())

    def _holder(self):
        # type: () -> str
        try:
            with open(self._owner) as handle:
                return " (process %d)" % int(handle.read())
        except (OSError, ValueError):
            return ""

    def _bytes(self, start, stop):
        # type: (int, int) -> bytes
        os.lseek(self._file, start, os.SEEK_SET)  # writing appends all the same
        pieces = []
        while start < stop:
            piece = os.read(self._file, stop - start)
            if not piece:
                raise OSError(errno.EIO, "it became shorter while it was read")
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)

    def _load(self):
        # type: () -> None
        size = os.fstat(self._file).st_size
        parts = _Parts(self.path, self._bytes(0, size))
        if parts.torn:
            aside = self.path + ".torn"
            with open(aside, "ab") as handle:
                handle.write(parts.torn.rstrip(b"\n") + b"\n")
                handle.flush()
                os.fsync(handle.fileno())
            os.ftruncate(self._file, parts.end)
            os.fsync(self._file)
            size = parts.end
            self.remarks.append("%s: the last line was torn; moved to %s, its row is measured again"
                                % (self.path, aside))  # fmt: skip
        if parts.lacks_newline:
            os.write(self._file, b"\n")
            os.fsync(self._file)
            size += 1
        self._end = size
        self.remarks += parts.remarks
        self.rows = [row for _, row in parts.good]
        self.ids = {row_id(line) for line, _ in parts.good}


def _sync_folder(path):
    # type: (str) -> None
    """Make the file's name as durable as its contents; where folders cannot be synced, no more."""
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
