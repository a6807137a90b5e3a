"""Where measurements are kept by name, and the two tables that imports append to.

``measurements/<name>/<runtime>-<precision>/`` in the user's folder holds ``networks.csv`` (whole
networks, in the columns that every table here has) and ``table.csv`` (kernels, for
:class:`predictor.latency.table.LookupTable`). A row says which file it came from by the SHA-256 of
its bytes, so that a file counts once however often it is imported.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from predictor.device import user_profiles
from predictor.errors import ConfigError
from predictor.files import write_whole
from predictor.graph import PRECISIONS
from predictor.hardware import spelled
from predictor.latency.table import COLUMNS
from predictor.tables import csv_line
from predictor.targets import RUNTIMES, known_word

NETWORKS, TABLE = "networks.csv", "table.csv"
NETWORK_COLUMNS = (
    "model", "batch", "precision", "resolution", "device", "latency_ms", "median_ms", "p10_ms",
    "p90_ms", "n", "first_run_ms", "format", "source", "sha256",
)  # fmt: skip
TABLE_COLUMNS = (*COLUMNS, "kernel", "layer", "model", "source", "sha256")
_IDENTITY = ("model", "batch", "resolution")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,80}\Z")

Rows = Sequence[Mapping[str, str]]


def measurements_folder(name: str, runtime: str, precision: str) -> Path:
    """Where the measurements of a target lie; it need not exist.

    Raises:
        ConfigError: no such runtime or precision, or a name that no folder can have.
    """
    known_word("runtime", runtime, RUNTIMES)
    known_word("precision", precision, PRECISIONS)
    return device_folder(name) / f"{runtime}-{precision}"


def device_folder(name: str) -> Path:
    """Where the measurements of all targets of a device lie; it need not exist. Raises as above."""
    return user_profiles().parent / "measurements" / device_name(name)


def device_name(name: str) -> str:
    """``name`` as it is spelled in folders.

    Raises:
        ConfigError: it holds characters that a device's name cannot.
    """
    word = spelled(name)
    if not _NAME.match(word):
        raise ConfigError(f"--name '{name[:80]}': use letters, digits, dots and hyphens, such as "
                          "my-board")  # fmt: skip
    return word


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else appends to the folder meanwhile; it is made if need be.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = open(folder / ".lock", "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}") from error
    with stream:
        try:
            import fcntl
        except ImportError:  # a system without such locks
            yield
            return
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def rows_of(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of one of the two tables; none where there is no file.

    Raises:
        ConfigError: it is damaged or another table, with the line.
    """
    return _read(path, columns)[2]


def _read(path: Path, columns: Sequence[str]) -> tuple[bytes, list[str], list[dict[str, str]]]:
    """The file's bytes, its header, its rows."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b"", list(columns), []
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", file=str(path)) from error
    remedy = "mend it, or move it away, and import again"
    try:
        lines = list(csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"no table: {error}; {remedy}", file=str(path)) from None
    header = lines[0] if lines else []
    missing = [column for column in columns if column not in header]
    if missing:
        raise ConfigError(f"the column '{missing[0]}' is missing; {remedy}", file=str(path), line=1)
    rows = [dict(zip(header, cells, strict=False)) for cells in lines[1:] if cells]
    short = [at for at, cells in enumerate(lines, start=1) if cells and len(cells) != len(header)]
    if short or not data.endswith(b"\n"):
        raise ConfigError(f"this row is not whole; {remedy}", file=str(path),
                          line=short[0] if short else len(lines))  # fmt: skip
    return data, header, rows


def append(folder: Path, networks: Rows, kernels: Rows) -> tuple[int, int]:
    """Append what is not there yet; returns how many rows of each were new.

    Rows of one file are known by its hash: they are all there, or none is. The kernels go first,
    so that a run that was cut short between the two is completed by the next.

    Raises:
        ConfigError: a table is damaged or cannot be written, or a file was imported before as
            another network; all stays as it was.
    """
    with locked(folder):
        parts = [(folder / TABLE, TABLE_COLUMNS, kernels),
                 (folder / NETWORKS, NETWORK_COLUMNS, networks)]  # fmt: skip
        texts = [_with(path, columns, rows) for path, columns, rows in parts]
        for (path, _, _), (text, count) in zip(parts, texts, strict=True):
            if count:
                _write(path, text)
        return texts[1][1], texts[0][1]


def _with(path: Path, columns: Sequence[str], rows: Rows) -> tuple[bytes, int]:
    data, header, old = _read(path, columns)
    known = {row["sha256"] for row in old}
    _same_network(path, old, [row for row in rows if row["sha256"] in known])
    new = [row for row in rows if row["sha256"] not in known]
    lines = [csv_line(header)] if not data else []
    lines += [csv_line([row.get(column, "") for column in header]) for row in new]
    return data + "".join(lines).encode("utf-8"), len(new)


def _same_network(path: Path, old: Rows, again: Rows) -> None:
    """A file that was imported as one network cannot be another's now."""
    for row in again:
        cells = [row.get(column, "") for column in _IDENTITY]
        first = [r for r in old if r["sha256"] == row["sha256"]]
        if all([r.get(column, "") for column in _IDENTITY] != cells for r in first):
            said = ", ".join(value for c in _IDENTITY if (value := first[0].get(c, "")))
            raise ConfigError(f"{row['source']} was imported before, as {said}. If that was wrong, "
                              f"delete the rows with {row['sha256'][:12]}... in the column sha256, "
                              "and import it again", file=str(path))  # fmt: skip


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and on the disk before this returns."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}. It is as it was; "
                          "make room, and import again") from error  # fmt: skip
