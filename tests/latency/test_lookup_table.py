"""The measured table: signatures, round trip, pooling, shrinkage, damaged files."""

import dataclasses
import math

import pytest
from kernels_for_tests import kernels

from predictor.errors import ArtifactError
from predictor.latency.table import COLUMNS, MODEL_REPEATS, Entry, LookupTable, signature

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
    assert Entry(2.0, 10_000).combined(1.0) == pytest.approx(2.0, rel=1e-3)
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
