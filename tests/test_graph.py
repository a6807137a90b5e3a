"""The nouns: sizes, totals, liveness, JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.graph import (
    DTYPE_BYTES,
    PRECISIONS,
    Graph,
    Kernel,
    Op,
    TensorSpec,
    Weight,
    live_bytes,
)
from predictor.operators import cast, make_op

KB = TensorSpec((256,))  # 1,024 bytes


def op(kind, inputs, outputs, spec=KB, **attrs):
    return make_op(
        f"{kind}{outputs}",
        kind,
        kind,
        (spec,) * len(inputs),
        (spec,) * len(outputs),
        (),
        tuple(inputs),
        tuple(outputs),
        (),
        attrs,
    )


def graph(*ops, inputs=(0,), outputs=()):
    return Graph("g", ops, (), inputs, tuple(f"x{i}" for i in inputs), (KB,) * len(inputs), outputs)


@pytest.mark.parametrize(
    ("shape", "dtype", "count", "size"),
    [((2, 3), "float32", 6, 24), ((), "int64", 1, 8), ((0, 5), "float32", 0, 0),
     ((3,), "int4", 3, 2), ((5,), "bool", 5, 5), ((7,), "bfloat16", 7, 14)],
)  # fmt: skip
def test_sizes(shape, dtype, count, size):
    spec = TensorSpec(shape, dtype)
    assert (spec.numel, spec.nbytes) == (count, size)


def test_casting_leaves_integers():
    assert TensorSpec((2,)).cast("float16") == TensorSpec((2,), "float16")
    assert TensorSpec((2,), "int64").cast("float16").dtype == "int64"
    assert TensorSpec((2,), "bool").cast("float16").dtype == "bool"
    assert set(PRECISIONS.values()) <= set(DTYPE_BYTES)


def test_totals_and_tied_weights():
    weights = (
        Weight("a", TensorSpec((10, 10))),
        Weight("b", TensorSpec((10,)), trainable=False),
        Weight("mean", TensorSpec((10,)), "buffer", False),
        Weight("pi", TensorSpec((3,)), "constant", False),
    )
    linear = make_op(
        "l",
        "linear",
        "linear",
        (TensorSpec((2, 10)),),
        (TensorSpec((2, 10)),),
        (weights[0].spec,),
        (0,),
        (1,),
        (0,),
        {"k": 10},
        100,
    )
    again = make_op(
        "m",
        "linear",
        "linear",
        (TensorSpec((2, 10)),),
        (TensorSpec((2, 10)),),
        (weights[0].spec,),
        (1,),
        (2,),
        (0,),
        {"k": 10},
        100,
    )
    g = Graph("g", (linear, again), weights, (0,), ("x",), (TensorSpec((2, 10)),), (2,))
    assert (g.macs, g.flops) == (400, 800)
    assert g.params == 110
    assert g.trainable_params == 100
    assert g.model_bytes == 4 * 120
    assert g.model_bytes_at("fp16") == 2 * 120
    assert g.batch == 2
    assert Graph.from_dict(json.loads(json.dumps(g.to_dict()))) == g


def test_liveness_of_a_chain():
    g = graph(
        op("activation", [0], [1], fn="relu"),
        op("activation", [1], [2], fn="relu"),
        op("activation", [2], [3], fn="relu"),
        outputs=(3,),
    )
    assert list(live_bytes(g)) == [2048, 2048, 2048]


def test_liveness_of_a_shortcut():
    g = graph(
        op("activation", [0], [1], fn="relu"),
        op("activation", [1], [2], fn="relu"),
        op("elementwise", [2, 0], [3], fn="add"),
        outputs=(3,),
    )
    assert list(live_bytes(g)) == [2048, 3072, 3072]


def test_views_and_in_place_operators_take_no_memory():
    g = graph(
        op("reshape", [0], [1]),
        op("activation", [1], [2], fn="relu", inplace=True),
        op("transpose", [2], [3]),
        outputs=(3,),
    )
    assert list(live_bytes(g)) == [1024, 1024, 1024]


def test_a_view_keeps_its_source_alive():
    g = graph(
        op("reshape", [0], [1]),
        op("activation", [0], [2], fn="relu"),
        op("elementwise", [1, 2], [3], fn="add"),
        outputs=(3,),
    )
    assert list(live_bytes(g)) == [1024, 2048, 3072]


def test_writing_into_a_part_takes_no_memory():
    part = TensorSpec((128,))
    fill = make_op("z", "fill", "zeros", (), (KB,), (), (), (1,))
    view = make_op("s", "slice", "slice", (KB,), (part,), (), (1,), (2,))
    copy = make_op(
        "c", "copy", "copy_", (part,), (part,), (), (0,), (3,), (), {"inplace": True, "into": 2}
    )
    back = make_op("b", "reshape", "view", (KB, part), (KB,), (), (1, 3), (4,))
    g = Graph("g", (fill, view, copy, back), (), (0,), ("x",), (part,), (4,))
    assert list(live_bytes(g)) == [1536, 1536, 1536, 1024]


def test_dead_results_are_freed_at_once():
    g = graph(
        op("activation", [0], [1], fn="relu"), op("activation", [0], [2], fn="relu"), outputs=(2,)
    )
    assert list(live_bytes(g)) == [2048, 2048]


def test_nothing_at_all():
    empty = Graph("empty", ())
    assert (empty.macs, empty.params, empty.peak_activation_bytes, empty.batch) == (0, 0, 0, 1)
    assert Graph.from_dict(empty.to_dict()) == empty


def test_unknown_operators_are_named_once_in_order():
    g = graph(op("unknown:b", [0], [1]), op("unknown:a", [1], [2]), op("unknown:b", [2], [3]))
    assert g.unknown == ("unknown:b", "unknown:a")
    assert not g.ops[0].known
    assert g.ops[0].memory_access_bytes == 2048


SPECS = st.builds(
    TensorSpec,
    st.lists(st.integers(0, 9), max_size=4).map(tuple),
    st.sampled_from(sorted(DTYPE_BYTES)),
)
ATTRS = st.dictionaries(
    st.sampled_from(["fn", "a", "b"]),
    st.one_of(
        st.integers(), st.text(max_size=3), st.booleans(), st.tuples(st.integers(), st.integers())
    ),
)


@given(st.lists(SPECS, max_size=3), st.lists(SPECS, min_size=1, max_size=2), ATTRS)
def test_operators_and_kernels_survive_json(inputs, outputs, attrs):
    one = make_op(
        "n",
        "unknown:x",
        "t",
        tuple(inputs),
        tuple(outputs),
        (),
        tuple(range(len(inputs))),
        tuple(range(9, 9 + len(outputs))),
        (),
        attrs,
    )
    assert Op.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    kernel = Kernel("k", (one,), 0, 5, 6, 2)
    assert Kernel.from_dict(json.loads(json.dumps(kernel.to_dict()))) == kernel


def test_casting_an_operator_keeps_its_arithmetic():
    one = op("activation", [0], [1], fn="gelu")
    (half,) = cast([one], "float16")
    assert half.elementwise_flops == one.elementwise_flops
    assert half.memory_access_bytes * 2 == one.memory_access_bytes
    assert cast([half], "float16") == [half]
