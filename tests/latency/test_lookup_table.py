"""The measured table: signatures, round trip, pooling, shrinkage, damaged files."""

import dataclasses
import math
import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels_for_tests import kernels

from predictor.errors import ArtifactError
from predictor.latency.table import (
    COLUMNS,
    MODEL_REPEATS,
    Entry,
    LookupTable,
    _quickly,
    _row_by_row,
    signature,
)

HEAD = ",".join(COLUMNS) + "\n"


def test_signatures_say_what_is_computed_and_nothing_else():
    one, two = kernels(), kernels()
    assert [signature(k) for k in one] == [signature(k) for k in two]
    first = one[0]
    op = first.ops[0]
    renamed = dataclasses.replace(
        op,
        name="other",
        input_ids=(99,),
        output_ids=(100,),
        attrs={**op.attrs, "inplace": True, "into": 5},
    )
    assert signature(dataclasses.replace(first, ops=(renamed, *first.ops[1:]))) == signature(first)
    wider = kernels(width=64)
    assert signature(wider[0]) != signature(first)
    strided = dataclasses.replace(op, attrs={**op.attrs, "stride": (3, 3)})
    assert signature(dataclasses.replace(first, ops=(strided, *first.ops[1:]))) != signature(first)


def test_signatures_survive_json():
    from predictor.graph import Kernel

    for kernel in kernels():
        assert signature(Kernel.from_dict(kernel.to_dict())) == signature(kernel)


def test_round_trip():
    table = LookupTable(
        {signature(k): Entry(0.125 * i + 0.25, i + 1, 0.02) for i, k in enumerate(kernels())}
    )
    again = LookupTable.from_csv(table.to_csv())
    assert dict(again) == dict(table)
    assert again.to_csv() == table.to_csv()
    found = again.find(kernels())
    assert None not in found
    assert again.find(kernels(width=64))[0] is None


def test_rows_of_one_kernel_are_pooled_by_their_repeats():
    table = LookupTable.from_csv(HEAD + "a,1.0,10,0.01\na,2.0,30,0.01\n")
    assert table["a"].latency_ms == pytest.approx(1.75)
    assert table["a"].repeats == 40
    assert table["a"].spread == pytest.approx(0.5 / 1.75)  # they disagree, and it shows


def test_an_entry_is_shrunk_towards_the_model():
    half = Entry(2.0, int(MODEL_REPEATS)).combined(1.0)
    assert half == pytest.approx(math.sqrt(2))
    assert Entry(2.0, 100_000).combined(1.0) == pytest.approx(2.0, rel=1e-3)
    assert 1.0 < Entry(2.0, 1, 0.5).combined(1.0) < 1.01  # one noisy timing moves little
    assert Entry(2.0, 20, 0.01).combined(1.0) > Entry(2.0, 20, 0.1).combined(1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns"), ("a,b\n", "columns"), (HEAD + "a,x,1,0\n", ":2"), (HEAD + "a,1,1\n", ":2"),
        (HEAD + "a,1,1,0\nb,-1,1,0\n", ":3"), (HEAD + "a,nan,1,0\n", "positive"),
        (HEAD + "a,inf,1,0\n", "positive"), (HEAD + "a,1,0,0\n", "positive"),
        (HEAD + "a,1,1,nan\n", "positive"), (HEAD + "a,1,1,inf\n", "positive"),
        (HEAD + "a" * 200_000 + ",1,1,0\n", "not a table"), (HEAD + "a,1.5,1.5,0\n", ":2"),
    ],
)  # fmt: skip
def test_damaged_tables(text, words):
    with pytest.raises(ArtifactError, match=words):
        LookupTable.from_csv(text, "t.csv")


def rows_of(table):
    return {key: (e.latency_ms, e.repeats, e.spread) for key, e in table.items()}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("more", ["", ",conv,1x3x8x8;1x3x8x8,\u00e9"])
def test_the_quick_reader_reads_what_the_careful_one_does(end, last, more):
    random.seed(3)
    keys = [f"{random.getrandbits(96):024x}" for _ in range(200)] * 2
    lines = [f"{key},{random.uniform(1e-6, 9):.9g},{random.randint(1, 99)},{random.random():.4g}{more}"
             for key in keys]  # fmt: skip
    text = end.join([HEAD.strip() + ",kind" * bool(more), *lines]) + end * last
    assert _quickly(text.encode()) is not None
    quick = LookupTable.from_csv(text)
    careful = LookupTable.from_csv(text.replace(keys[0], f'"{keys[0]}"'))
    assert rows_of(quick) == rows_of(careful)
    assert len(quick) == 200
    assert list(quick) == sorted(quick)
    assert quick[keys[5]] == careful[keys[5]]
    assert "0" * 24 not in quick
    with pytest.raises(KeyError):
        quick["f" * 24]


def test_odd_but_sound_files_are_read_by_the_careful_reader():
    quoted = LookupTable.from_csv(
        HEAD.strip() + ',note\na,1.0,4,0.05,"two\nlines, one cell"\nb,2,4,0\n'
    )
    assert quoted["a"].latency_ms == 1.0
    assert quoted["b"].latency_ms == 2.0
    assert len(LookupTable.from_csv(HEAD + "k" * 200 + ",1,1,0\n")) == 1
    assert len(LookupTable.from_csv(HEAD)) == 0
    assert LookupTable.from_csv(HEAD).find(kernels()) == [None] * len(kernels())
    assert len(LookupTable.from_csv(HEAD.strip())) == 0


@given(st.text(alphabet='abc,.\n"019e-x \r', max_size=60))
def test_the_readers_agree_on_whatever_comes(body):
    """The quick reader takes a file only where it says the same as the careful one."""
    data = (HEAD + body).encode()
    quick = _quickly(data)
    if quick is None:
        return
    careful = _row_by_row(data, "t.csv")
    for a, b in zip(quick, careful, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_million_rows(request):
    """Two seconds for a million on an ordinary core; here a fifth of them, and room for slow ones."""
    count = 200_000
    keys = [f"{i * 7919 % count:024x}" for i in range(count)]
    text = HEAD + "\n".join(f"{key},{0.001 * (i % 977 + 1):.6g},{i % 40 + 1},0.02,conv,x,y,z"
                            for i, key in enumerate(keys)) + "\n"  # fmt: skip
    data = text.encode()
    best = math.inf
    for _ in range(3):
        begin = time.process_time()
        table = LookupTable.from_csv(data)
        best = min(best, time.process_time() - begin)
    assert len(table) == count
    assert best < 2.0
    begin = time.process_time()
    for key in keys[:2000]:
        assert table[key].repeats > 0
    assert (time.process_time() - begin) / 2000 < 200e-6


def test_repeats_of_one_run_share_its_drift():
    """A run's eight repeats agree better than two runs do, so they do not replace the model."""
    assert 1.2 < Entry(2.0, 8, 0.005).combined(1.0) < 1.5
    assert Entry(2.0, 8, 0.0).combined(1.0) == pytest.approx(
        Entry(2.0, 8, 0.005).combined(1.0), rel=0.01
    )
    assert Entry(2.0, 160, 0.02).combined(1.0) > 1.85
