"""The results file: nothing is lost, doubled or damaged, whatever happens to it."""

from __future__ import annotations

import errno
import hashlib
import io
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.profiling import journal
from predictor.profiling.journal import Journal, JournalError

ROWS = [
    {"row": "task", "task": f"t{i}", "us": [i / 7] * i, "text": "µ\n\0 \\" * i} for i in range(6)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def filled(path: Path, rows: int = len(ROWS)) -> bytes:
    with Journal(str(path)) as book:
        for row in ROWS[:rows]:
            book.append(row)
    return path.read_bytes()


def test_rows_come_back(path: Path) -> None:
    data = filled(path)
    assert journal.read(str(path)) == (ROWS, [])
    lines = data.splitlines(True)
    assert [journal.parse_line(line) for line in lines] == ROWS
    assert all(line == journal.format_line(row) for line, row in zip(lines, ROWS, strict=True))
    with Journal(str(path)) as book:
        assert book.rows == ROWS
        assert book.remarks == []
        assert book.ids == {hashlib.sha256(line[:-1]).hexdigest() for line in lines}
    assert path.read_bytes() == data
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_format_is_as_documented(path: Path) -> None:
    assert (
        journal.format_line({"row": "task", "task": "a"}) == b'40b845c5 {"row":"task","task":"a"}\n'
    )


@pytest.mark.parametrize(
    "row", [{"us": float("nan")}, {"us": float("inf")}, {"us": {1}}, {2: object()}]
)
def test_what_json_lacks_is_refused_and_changes_nothing(path: Path, row: dict[str, object]) -> None:
    data = filled(path)
    with Journal(str(path)) as book, pytest.raises(JournalError, match="cannot be stored"):
        book.append(row)
    assert path.read_bytes() == data


def test_each_row_is_one_write_and_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, object]] = []
    write, fsync = os.write, os.fsync
    with Journal(str(path)) as book:
        monkeypatch.setattr(
            os, "write", lambda f, data: calls.append(("write", data)) or write(f, data)
        )
        monkeypatch.setattr(os, "fsync", lambda f: calls.append(("fsync", f)) or fsync(f))
        lines = [book.append(row) for row in ROWS]
    assert [name for name, _ in calls] == ["write", "fsync"] * len(ROWS)
    assert [data for name, data in calls if name == "write"] == lines


def test_cut_at_every_byte(path: Path) -> None:
    data, rows = filled(path, 4), ROWS[:4]
    ends = [index for index, byte in enumerate(data) if byte == 10]  # a whole row, newline or not
    torn = path.with_name(path.name + ".torn")
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        torn.unlink(missing_ok=True)
        whole = sum(end <= cut for end in ends)
        assert journal.read(str(path))[0] == rows[:whole]
        with Journal(str(path)) as book:
            assert book.rows == rows[:whole], cut
            for row in rows[whole:]:
                book.append(row)
        assert path.read_bytes() == data, cut
        start = ends[whole - 1] + 1 if whole else 0
        left = data[start:cut]
        assert (torn.read_bytes() if torn.exists() else b"") == (left and left + b"\n"), cut
        assert len(book.remarks) == bool(left), cut


@settings(max_examples=80)
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), data=st.data())
def test_one_byte_changed_anywhere(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("j") / "results.jsonl"
    whole = filled(path)
    place %= len(whole)
    path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
    if path.read_bytes() == whole:
        return
    try:
        with Journal(str(path)) as book:
            got, remarks = list(book.rows), book.remarks
            book.append({"row": "more"})
    except JournalError:  # the first bytes: it is no results file any more
        assert place < 11
        assert path.read_bytes() == whole[:place] + bytes([value]) + whole[place + 1 :]
        return
    hit = {whole[:place].count(b"\n")} | (
        {whole[:place].count(b"\n") + 1} if whole[place] == 10 else set()
    )
    for index, row in enumerate(ROWS):
        assert row in got or index in hit
    assert all(row in ROWS for row in got)
    assert remarks or len(got) == len(ROWS)
    assert journal.read(str(path))[0] == [*got, {"row": "more"}]


def test_a_damaged_line_in_the_middle_stays_and_is_told(path: Path) -> None:
    lines = filled(path).splitlines(True)
    lines[2] = lines[2].replace(b"t2", b"t9")
    path.write_bytes(b"".join(lines))
    told = [f"{path}:3: damaged line, left as it is; its row does not count"]
    assert journal.read(str(path)) == (ROWS[:2] + ROWS[3:], told)
    with Journal(str(path)) as book:
        assert book.remarks == told
        assert book.rows == ROWS[:2] + ROWS[3:]
        book.append(ROWS[2])
    assert path.read_bytes() == b"".join(lines) + journal.format_line(ROWS[2])


@pytest.mark.parametrize(
    "end", [b"\0" * 4096, b"\0" * 10 + b"\n", b"12345678 {}\n", b"\xff" * 7, b"\n\n"]
)
def test_a_bad_end_is_set_aside(path: Path, end: bytes) -> None:
    data = filled(path)
    path.write_bytes(data + end)
    assert journal.read(str(path))[0] == ROWS
    for _ in range(2):  # a second time there is nothing to set aside
        with Journal(str(path)) as book:
            assert book.rows == ROWS
    assert path.read_bytes() == data
    assert path.with_name(path.name + ".torn").read_bytes() == end.rstrip(b"\n") + b"\n"


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_file_of_zeros_is_a_power_cut(path: Path, end: bytes) -> None:
    path.write_bytes(b"\0" * 300 + end)
    with Journal(str(path)) as book:
        assert book.rows == []
        assert len(book.remarks) == 1
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "data", [b"model,latency_ms\n", b'{"row": 1}\n', b"PK\3\4", b"1234567 {\n"]
)
def test_a_file_of_something_else_is_left_alone(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(JournalError, match="not a results file; nothing in it was changed"):
        Journal(str(path))
    with pytest.raises(JournalError, match="not a results file"):
        journal.read(str(path))
    assert path.read_bytes() == data
    assert len(list(path.parent.iterdir())) == 1


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for bad in (tmp_path, tmp_path / "none" / "results.jsonl"):
        with pytest.raises(JournalError, match=f"{bad}: cannot be opened"):
            Journal(str(bad))


# One at a time.


def test_another_run_is_named_and_waited_for(path: Path) -> None:
    with Journal(str(path)) as first:
        first.append(ROWS[0])
        begin = time.monotonic()
        with pytest.raises(JournalError, match=rf"another run holds it \(process {os.getpid()}\)"):
            Journal(str(path), wait=0.3)
        assert time.monotonic() - begin >= 0.3
        threading.Timer(0.3, first.close).start()
        with Journal(str(path), wait=20) as second:
            assert second.rows == ROWS[:1]


def test_a_killed_run_holds_nothing(path: Path) -> None:
    code = (
        "import sys, time; from predictor.profiling.journal import Journal\n"
        "book = Journal(sys.argv[1]); book.append({'row': 'task'}); print('held', flush=True)\n"
        "time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(JournalError, match=rf"process {child.pid}\); wait for its end or stop it"):
        Journal(str(path), wait=0)
    child.kill()
    child.wait()
    child.stdout.close()
    with Journal(str(path), wait=1) as book:
        assert book.rows == [{"row": "task"}]


def test_no_locks_on_the_file_system(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with Journal(str(path)) as book:
        book.append(ROWS[0])
    assert "no locks on this file system (No locks available)" in book.remarks[0]


def test_a_file_that_another_program_changed_is_not_written(path: Path) -> None:
    with Journal(str(path)) as book:
        book.append(ROWS[0])
        os.truncate(path, 5)
        with pytest.raises(JournalError, match="another program changed it"):
            book.append(ROWS[1])
        assert path.stat().st_size == 5


# Full disks.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 kB; where none may be mounted, one whose files may not be larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False
    if os.geteuid() == 0 and sys.platform == "linux":
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:  # Python ignores SIGXFSZ, so a write then fails with EFBIG, or is partial
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, before[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_every_whole_row(small_disk: Path) -> None:
    path = small_disk / "results.jsonl"
    lines: list[bytes] = []
    with Journal(str(path)) as book:

        def fill() -> None:
            for index in range(1000):
                lines.append(book.append({"row": "task", "task": index, "x": "x" * (index % 900)}))

        with pytest.raises(JournalError, match=r"make room and run again\. What was measured"):
            fill()
        assert path.read_bytes() == b"".join(lines)
        assert len(lines) > 50
        with pytest.raises(JournalError, match="make room"):
            book.append({"row": "task", "x": "x" * 9000})
        assert path.read_bytes() == b"".join(lines)
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (1 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        )
        if os.path.ismount(small_disk):
            subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
        lines.append(book.append({"row": "task", "task": "room"}))
    assert path.read_bytes() == b"".join(lines)
    with Journal(str(path)) as book:
        assert len(book.rows) == len(lines)
        assert book.remarks == []


def test_a_torn_end_that_cannot_be_set_aside_stays(path: Path) -> None:
    data = filled(path) + b"0123"
    path.write_bytes(data)
    torn = path.with_name(path.name + ".torn")
    torn.symlink_to("/dev/full")
    with pytest.raises(JournalError, match=r"mended \(No space left on device\); make room"):
        Journal(str(path))
    assert path.read_bytes() == data
    torn.unlink()
    with Journal(str(path)) as book:
        assert book.rows == ROWS


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_row_that_fails_leaves_no_part(
    path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    data = filled(path)
    write = os.write

    def partly(file: int, text: bytes) -> int:
        if len(text) > 10:
            return write(file, text[:10])
        raise OSError(errno.EIO, "Input/output error")

    def fail(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Journal(str(path)) as book:
        with monkeypatch.context() as patch:
            patch.setattr(os, failing, partly if failing == "write" else fail)
            with pytest.raises(JournalError, match=r"cannot be written \(Input/output error\)"):
                book.append({"row": "a"})
            assert path.read_bytes() == data
        book.append({"row": "b"})
    assert journal.read(str(path)) == ([*ROWS, {"row": "b"}], [])


# Lines of others, and printing.


def test_lines_of_another_journal_are_taken_byte_for_byte(path: Path) -> None:
    line = b'%08x {"row": "task", "spaced": 1.50}' % 0
    with Journal(str(path)) as book, pytest.raises(JournalError, match="a damaged line"):
        book.append_line(line)
    import zlib

    body = b'{"row": "task", "spaced": 1.50}'
    line = b"%08x %s" % (zlib.crc32(body), body)
    with Journal(str(path)) as book:
        book.append_line(line)
        book.append_line(line + b"\n")
    assert path.read_bytes() == (line + b"\n") * 2


@pytest.mark.parametrize("text", [False, True])
def test_echo_prints_every_whole_line_once(path: Path, text: bool) -> None:
    lines = filled(path, 5).splitlines(True)
    big = {"row": "task", "x": "x" * 3_000_000}
    path.write_bytes(b"".join([*lines[:3], b"damaged\n", *lines[3:]]))
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw) if text else raw
    with Journal(str(path)) as book:
        book.echo(out)
        assert raw.getvalue() == b"".join(lines)
        book.echo(out)
        lines += [book.append(ROWS[5]), book.append(big)]
        book.echo(out)
        assert raw.getvalue() == b"".join(lines)


def _append(path: str, name: int) -> None:
    for index in range(10):
        with Journal(path, wait=60) as book:
            book.append({"row": "task", "task": f"{name}.{index}"})


def test_many_at_once_take_turns(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_append, args=(str(path), name)) for name in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    rows, remarks = journal.read(str(path))
    assert remarks == []
    assert len({row["task"] for row in rows}) == len(rows) == 30
