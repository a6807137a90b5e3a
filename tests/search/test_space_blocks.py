"""Block spaces in YAML: parameters, expressions, what is chosen, and parts."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from block_texts import BASE
from hypothesis import given
from hypothesis import strategies as st

from predictor.builder import GraphBuilder
from predictor.errors import ConfigError
from predictor.frontends.families.parts import assembled
from predictor.frontends.layer_list import build_layers
from predictor.graph import Graph
from predictor.search.spaces.blocks import BlockSpace
from predictor.search.spaces.expressions import parse
from predictor.search.spaces.find import parse_space

EXAMPLE = Path(__file__).parents[2] / "examples" / "space-blocks.yaml"


def space_of(text: str) -> BlockSpace:
    space = parse_space(text, "s.yaml").space
    assert isinstance(space, BlockSpace)
    return space


def rows(graph: Graph) -> list[Any]:
    return [(op.kind, op.macs, op.read_bytes, op.write_bytes, op.params, op.inputs, op.outputs,
             dict(op.attrs)) for op in graph.ops]  # fmt: skip


def first(space: BlockSpace, **others: Any) -> dict[str, Any]:
    values = {name: known[0] for name, known in space.parameters.items()}
    return {**values, **{name.replace("__", "."): value for name, value in others.items()}}


# -- parameters and networks ----------------------------------------------------------------------


def test_parameters() -> None:
    space = space_of(BASE)
    assert space.name == "s"
    assert dict(space.parameters) == {
        "side": (32, 48), "width": (8, 16), "s.depth": (1, 2), "s.1.kernel": (1, 3),
        "s.2.kernel": (1, 3), "head": ("none", "wide"),
    }  # fmt: skip
    assert space.size == 64
    assert space.input_shape(first(space, side=48)) == (3, 48, 48)


def test_a_network_by_hand() -> None:
    space = space_of(BASE)
    values = first(space, width=16, s__depth=2, s__2__kernel=3, head="wide")
    wanted = build_layers(
        [{"type": "conv2d", "out": 16, "kernel": 3, "padding": 1, "name": "stem"},
         {"type": "conv2d", "out": 16, "kernel": 1, "padding": "same", "name": "one"},
         {"type": "conv2d", "out": 16, "kernel": 3, "padding": "same"},
         {"type": "add", "from": ["previous", "one"]},
         {"type": "conv2d", "out": 32, "kernel": 1}, "global_avg_pool"], [(1, 3, 32, 32)],
    )  # fmt: skip
    assert rows(space.graph(values)) == rows(wanted)
    config = space.config(values)
    assert rows(build_layers(config["model"]["layers"], config["inputs"])) == rows(wanted)


def test_what_a_network_lacks_makes_no_difference() -> None:
    space = space_of(BASE)
    shallow = first(space, s__2__kernel=3)
    assert space.canonical(shallow)["s.2.kernel"] == 1
    assert space.key(shallow) == space.key(first(space))
    deep = first(space, s__depth=2, s__2__kernel=3)
    assert space.canonical(deep)["s.2.kernel"] == 3


def test_parts_are_the_whole() -> None:
    """A chain of parts, and the layers of the file built in one go, are the same operators."""
    space = space_of(EXAMPLE.read_text())
    for seed in range(20):
        values = space.random(Random(seed))
        chain = space.chain(values)
        assert chain is not None
        for batch in (1, 4):
            graph, whole = space.graph(values, batch), space._whole(values, batch)
            assert rows(graph) == rows(whole)
            assert graph.name == whole.name
            assert len({op.name for op in graph.ops}) == len(graph.ops)
            assert [w.spec for w in graph.weights] == [w.spec for w in whole.weights]


def test_parts_take_the_builder_s_element_type() -> None:
    space = space_of(BASE)
    chain = space.chain(first(space))
    assert chain is not None
    half = assembled(GraphBuilder("half", dtype="float16"), (1, 3, 32, 32), chain)
    specs = [spec for op in half.ops for spec in (*op.inputs, *op.outputs, *op.weights)]
    assert Counter(spec.dtype for spec in specs) == {"float16": len(specs)}


def test_equal_repetitions_are_one_part() -> None:
    space = space_of(BASE.replace("depth: [1, 2]", "depth: [3]"))
    chain = dict(space.chain(first(space, s__1__kernel=3)) or ())
    assert list(chain) == ["", "s.1", "s.2", "s.3", "after_s"]
    assert chain["s.2"] is chain["s.3"]
    assert chain["s.1"] is not chain["s.2"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "type: conv2d, out: $width, kernel: 3",
            "type: conv2d, name: stem, out: $width, kernel: 3",
        ),
        ("  - global_avg_pool", "  - global_avg_pool\noutputs: [head]"),
        ("kernel: $kernel, padding", "share: all, kernel: $kernel, padding"),
        ("  - global_avg_pool", "  - {type: global_avg_pool, from: s}"),
        ("  - global_avg_pool", "  - {type: mean, axes: 1, from: block_input}"),
        (
            "  - type: choose",
            "  - relu\n  - type: choose\n    from: s",
        ),
    ],
)
def test_what_reaches_further_back_is_built_whole(old: str, new: str) -> None:
    text = BASE.replace(old, new)
    if "stem" in new:
        text = text.replace(
            "  - global_avg_pool", "  - relu\n  - {type: concat, from: [previous, stem]}"
        )
    if "share" in new:
        text = text.replace("parameters: {kernel: [1, 3]}", "parameters: {kernel: [3]}")
    space = space_of(text)
    for seed in range(5):
        values = space.random(Random(seed))
        assert space.chain(values) is None
        config = space.config(values)
        again = build_layers(config["model"]["layers"], config["inputs"],
                             outputs=config["model"].get("outputs", ()))  # fmt: skip
        assert rows(again) == rows(space.graph(values))
        assert again.output_ids == space.graph(values).output_ids


def test_choices_nest_and_types_are_choices() -> None:
    space = space_of("""\
name: nested
inputs: {words: {shape: [1, $length], dtype: int64}}
parameters: {length: [8, 16], wide: [32], act: [relu, gelu], bias: [true, false]}
layers:
  - {type: embedding, rows: 100, width: $wide}
  - type: stage
    name: s
    depth: [0, 2]
    layers:
      - type: choose
        name: mix
        of:
          attention: [{type: multi_head_attention, heads: 4}]
          mlp:
            - {type: linear, out: ($wide + 8) * 2 // 3 - 1, bias: $bias}
            - $act
            - type: choose
              name: more
              of: {none: [], norm: [layer_norm]}
            - {type: linear, out: $wide}
      - {type: add, from: [previous, block_input]}
      - {type: repeat, times: {first: 1, rest: 2}, layers: [{type: $act}, layer_norm]}
  - {type: select, index: 0}
""")
    assert list(space.parameters) == ["length", "wide", "act", "bias", "s.depth", "s.1.mix",
                                      "s.1.mix.mlp.more", "s.2.mix", "s.2.mix.mlp.more"]  # fmt: skip
    assert space.input_dtype() == "int64"
    values = first(space, s__depth=2, s__1__mix="mlp", act="gelu", bias=False)
    graph = space.graph(values)
    kinds = Counter(op.kind if op.kind != "activation" else op.attrs["fn"] for op in graph.ops)
    assert (kinds["gelu"], kinds["attention"], kinds["norm"]) == (4, 1, 3)
    assert graph.ops[1].outputs[0].shape == (1, 8, (32 + 8) * 2 // 3 - 1)
    assert len(graph.ops[1].weights) == 1
    assert space.config(values)["inputs"] == {"words": {"shape": [1, 8], "dtype": "int64"}}
    empty = first(space, s__1__mix="mlp", act="gelu", bias=False)
    assert space.canonical(empty) == first(space)
    assert [op.kind for op in space.graph(empty).ops] == ["gather", "slice"]
    for seed in range(20):
        values = space.random(Random(seed))
        assert space.values(space.key(values)) == values
        assert rows(space.graph(values)) == rows(space._whole(values))


def test_narrowing_keeps_the_space_working() -> None:
    space = space_of(BASE)
    narrow = space.narrowed({"s.1.kernel": [3], "head": ["wide"], "s.depth": [1]})
    assert narrow.size == 2 * 2 * 2
    values = narrow.random(Random(0))
    assert values["s.1.kernel"] == 3
    assert rows(narrow.graph(values)) == rows(space.graph(values))


# -- expressions ----------------------------------------------------------------------------------

operands = st.one_of(st.integers(0, 999).map(str), st.sampled_from(["$a", "$b", "$long_name"]))
texts = st.recursive(
    operands,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", "-", " * ", "*", "//"]), inner).map("".join),
        inner.map(lambda text: f"({text})"),
    ),
    max_leaves=8,
)


@given(texts, st.integers(1, 99), st.integers(1, 99))
def test_arithmetic_is_python_s(text: str, a: int, b: int) -> None:
    values = {"a": a, "b": b, "long_name": 7}
    if len(text) > 200:
        return
    try:
        wanted = eval(text.replace("$", ""), {}, values)
    except ZeroDivisionError:
        with pytest.raises(ConfigError, match="divides by 0"):
            parse(text).value(values.__getitem__)
        return
    except SyntaxError:  # 007 is no number in Python
        wanted = None
    if wanted is None or abs(wanted) > 1 << 50:
        return
    assert parse(text).value(values.__getitem__) == wanted


@given(st.text(st.sampled_from("$ab12+-*/(). {}"), max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert all(f"${name}" in text for name in parse(text).names)


def test_a_lone_name_is_any_value() -> None:
    for value in (1.5, "relu", True, 3):
        assert parse(" $a ").value({"a": value}.__getitem__) == value
    with pytest.raises(ConfigError, match="computes with 'True'"):
        parse("$a + 1").value({"a": True}.__getitem__)
    with pytest.raises(ConfigError, match=r"beyond 2\^53"):
        parse("$a * $a").value({"a": 1 << 40}.__getitem__)
