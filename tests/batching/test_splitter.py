"""A table cut into chunks anywhere has the rows that it has whole."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from predictor import tables
from predictor.batching import Answer, Chunk, Job, Splitter, answer_chunk, cut_up, fail_chunk, jobs
from predictor.errors import ConfigError
from predictor.tables import LONGEST_CELL, LONGEST_LINE, Row, Table, row_of

HEADER = b"model,note\n"
WORDS = [b'"', b'""', b",", b"\n", b"\r\n", b"\r", b"a", b'"a,b"', b'"a\nb"', b"\xff", b"\xc3\xa9",
         b"\0", b" ", b'x"y', b'","', b'"\n', b',"']  # fmt: skip
BODIES = st.lists(st.sampled_from(WORDS), max_size=40).map(b"".join) | st.binary(max_size=80)


def old_rows(body: bytes) -> Iterator[tuple[tuple[str, ...], int, bool]]:
    """Cells, line and fault as Python's reader sees them, going on behind every mistake."""
    number = 1

    def lines() -> Iterator[str]:
        nonlocal number
        for line in io.BytesIO(body):
            number += 1
            yield line.decode("utf-8", "surrogateescape")

    reader = csv.reader(lines(), strict=True)
    while True:
        line = number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield ("", ""), line, True
            continue
        if cells:
            yield (*cells[:2], *[""] * (2 - len(cells))), line, len(cells) > 2


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def chunks_of(parts: Iterable[bytes], rows: int = 3) -> list[Chunk]:
    splitter = Splitter("t", rows=rows)
    found = [chunk for part in parts for chunk in splitter.feed(part)]
    return found + splitter.finish()


def rows_of(chunks: Iterable[Chunk]) -> list[Row]:
    return [row for chunk in chunks for piece in cut_up(chunk)
            if (row := row_of(piece, 2)) is not None]  # fmt: skip


def plain(rows: Iterable[Row]) -> list[tuple[tuple[str, ...], int, int, str]]:
    return [(row.cells, row.line, row.end, row.fault) for row in rows]


@settings(max_examples=400)
@given(BODIES, st.lists(st.integers(0, 200), max_size=8), st.integers(1, 5))
@example(b'a`",b,"c\n"d\n', [3], 1)
@example(b'x,",",y\nz\n', [], 1)
@example(b'a\r"b,"x\ny"\n', [], 2)
@example(b'"ab"c,d\n"e\n', [1], 1)
def test_cuts_make_no_difference(body: bytes, cuts: list[int], rows: int) -> None:
    data = HEADER + body
    whole = list(Table(io.BytesIO(data), "t").rows())
    chunks = chunks_of(pieces(data, cuts), rows)
    assert plain(rows_of(chunks)) == plain(whole)
    assert all(chunk.rows <= rows for chunk in chunks)
    assert b"".join(chunk.data for chunk in chunks) == body
    assert [(row.cells, row.line, bool(row.fault)) for row in whole] == list(old_rows(body))


@pytest.mark.parametrize("word", [b"x", b'"', b'"\n', b"x,\n", b'"x\n', b'a"b,', b"\r", b"\n"])
def test_what_never_ends_is_cut(word: bytes) -> None:
    body = word * (5 * LONGEST_LINE // 4 // len(word)) + b"\nlast,\n" + b'z,"'
    splitter, chunks, most = Splitter("t"), list[Chunk](), 0
    data = HEADER + body
    for start in range(0, len(data), 50_000):
        chunks += splitter.feed(data[start : start + 50_000])
        most = max(most, len(splitter._records._bytes))
    chunks += splitter.finish()
    assert most < 2 * LONGEST_LINE
    assert max(len(chunk.data) for chunk in chunks) <= 2 * LONGEST_LINE
    rows = rows_of(chunks[-2:])
    assert rows[-1].fault
    assert rows[-2].cells[0] == "last" or word.startswith(b'"')
    assert chunks[-1].end == len(data)
    assert chunks[-1].line + chunks[-1].data.count(b"\n") == data.count(b"\n") + 1
    # The same in one piece, and in pieces of another size.
    for size in (len(data), 70_001):
        other = chunks_of([data[at : at + size] for at in range(0, len(data), size)], 4096)
        assert sum(chunk.rows for chunk in other) == sum(chunk.rows for chunk in chunks)
        assert plain(rows_of(other[-1:]))[-1] == plain(rows)[-1]


def test_a_forgotten_quote_costs_the_rows_behind_it_alone() -> None:
    lines = [b"m%d,x\n" % n for n in range(40_000)]
    lines[7] = b'"m7,x\n'
    rows = rows_of(chunks_of([HEADER, *lines]))
    faults = [row for row in rows if row.fault]
    assert [row.line for row in faults] == [9]
    lost = 40_000 - len(rows)
    assert lost * 8 < LONGEST_CELL + 1000
    assert rows[-1].cells == ("m39999", "x")
    assert rows[-1].line == 40_001


def test_feeding_byte_by_byte_takes_no_more_than_its_time() -> None:
    """A long quoted cell is not looked through again for every byte: a bound on looks, no clock."""
    body = b'"' + b"x\n" * 30_000 + b'",y\n'
    looked = 0
    plain_look = tables._open_after

    def counted(line: bytes, inside: bool) -> int:
        nonlocal looked
        looked += len(line)
        return plain_look(line, inside)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_open_after", counted)
        found = rows_of(chunks_of(bytes([byte]) for byte in HEADER + body))
    assert len(found) == 1
    assert not found[0].fault
    assert looked < 3 * len(body)


def test_the_header_is_read_from_pieces() -> None:
    splitter = Splitter("t")
    assert splitter.feed(b"\xef\xbb\xbfmo") == []
    assert splitter.columns is None
    (chunk,) = splitter.feed(b'del,"no\nte"\nx,1\nz')
    assert splitter.columns == ("model", "no\nte")
    assert (chunk.data, chunk.line, chunk.rows) == (b"x,1\n", 3, 1)
    (last,) = splitter.finish()
    assert (last.data, last.line, last.end) == (b"z", 4, 22)
    with pytest.raises(ConfigError, match="first line must hold"):
        Splitter("t").finish()
    with pytest.raises(ConfigError, match="UTF-16"):
        Splitter("t").feed("model\n".encode("utf-16"))


def test_bytes_of_a_chunk_are_bounded() -> None:
    body = b"x" * 1000 + b",y\n"
    chunks = chunks_of([HEADER + body * 2000], 4096)
    assert max(len(chunk.data) for chunk in chunks) <= jobs.MOST_BYTES + len(body)
    assert sum(chunk.rows for chunk in chunks) == 2000


def test_what_is_left_of_a_chunk_goes_on_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = Random(1)
    body = b"".join(chance.choice([b'a,"x\ny"\n', b"\n", b"b\n", b'"c"d\n', b"e,f,g\n"])
                    for _ in range(60)) + b'h,"i'  # fmt: skip
    body += b"\n"
    monkeypatch.setattr(jobs, "answer", lambda task: (Answer("d", 1.0, 1.0, 1.0),))
    monkeypatch.setattr(
        jobs, "answers", lambda tasks: ((Answer("d", error=f"at {t.line}"),) for t in tasks)
    )
    chunk = Chunk(body, 2, len(HEADER + body), 61, cut=True)
    job = Job("t", ("model", "note"), ("d",))
    whole = answer_chunk(job, chunk)
    assert whole.rest is None
    assert whole.rows == chunk.rows
    parts, left = [], chunk
    while left is not None:
        parts.append(answer_chunk(job, left, patience_s=-1.0))
        left = parts[-1].rest
    assert len(parts) > 30
    assert b"".join(part.data for part in parts) == whole.data
    assert parts[-1].end == whole.end == len(HEADER + body)
    assert sum(part.lines for part in parts) == whole.lines == whole.failed
    assert parts[0].first_error == whole.first_error
    assert fail_chunk(job, chunk, "no", 5).lines == whole.lines
