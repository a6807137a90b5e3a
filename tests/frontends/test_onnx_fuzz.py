"""Damaged ONNX files: a graph or a clear error, never a traceback, a crash or a hang."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("onnx", reason="reading .onnx files needs the onnx package")

import onnx
from onnx_seeds import SEEDS

import predictor.frontends.onnx_file as onnx_file
from predictor.errors import ModelError, PredictorError
from predictor.frontends.onnx_model import read_onnx
from predictor.graph import Graph
from predictor.operators import onnx_rules

LIMIT_S = 5.0
NUMBERS = (0, 1, -1, 2, 3, 7, 64, 1 << 20, -(1 << 40), (1 << 63) - 1, -(1 << 63))


def outcome(data: bytes) -> Graph | PredictorError:
    """What reading gives; anything but a graph or a PredictorError is a failure of the test."""
    start = time.process_time()
    try:
        result: Graph | PredictorError = read_onnx(data)
    except PredictorError as error:
        result = error
    assert time.process_time() - start < LIMIT_S
    if isinstance(result, PredictorError):
        assert len(str(result)) > 20
    else:
        assert Graph.from_dict(result.to_dict()) == result
        assert all(op.macs >= 0 and op.read_bytes >= 0 for op in result.ops)
    return result


# -- mutations of the structure -----------------------------------------------------------------


def _any_node(model: Any, rng: random.Random) -> Any:
    return rng.choice(model.graph.node)


def _attribute(model: Any, rng: random.Random) -> None:
    nodes = [n for n in model.graph.node if n.attribute]
    if not nodes:
        return _operator(model, rng)
    node = rng.choice(nodes)
    attribute = rng.choice(node.attribute)
    match rng.randrange(5):
        case 0:
            node.attribute.remove(attribute)
        case 1:
            attribute.type = rng.randrange(0, 14)
        case 2:
            attribute.i = rng.choice(NUMBERS)
        case 3:
            if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NUMBERS)
            else:
                attribute.s = rng.choice([b"", b"SAME_UPPER", b"\xff\xfe", b"x" * 1000])
        case _:
            attribute.ints.extend(rng.choices(NUMBERS, k=rng.choice([1, 3, 2000])))
    return None


def _dims(model: Any, rng: random.Random) -> None:
    graph = model.graph
    if graph.initializer and rng.random() < 0.6:
        tensor = rng.choice(graph.initializer)
        if tensor.dims and rng.random() < 0.8:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
        else:
            tensor.dims.extend(rng.choices(NUMBERS, k=rng.choice([1, 2, 500])))
    else:
        shape = rng.choice(graph.input).type.tensor_type.shape
        if shape.dim and rng.random() < 0.8:
            shape.dim[rng.randrange(len(shape.dim))].dim_value = rng.choice(NUMBERS)
        elif rng.random() < 0.5:
            shape.dim.add().dim_param = "open"
        elif shape.dim:
            del shape.dim[-1]


def _edge(model: Any, rng: random.Random) -> None:
    node = _any_node(model, rng)
    names = [o for n in model.graph.node for o in n.output]
    names += [i.name for i in model.graph.input] + ["", "nowhere"]
    match rng.randrange(4):
        case 0 if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        case 1 if node.input:
            del node.input[rng.randrange(len(node.input)) :]
        case 2:
            node.output[0] = rng.choice(names)
        case _:
            node.input.extend(rng.choices(names, k=rng.choice([1, 4, 300])))


def _operator(model: Any, rng: random.Random) -> None:
    _any_node(model, rng).op_type = rng.choice(
        [*sorted(onnx_rules), "If", "Loop", "Scan", "", "Nope"]
    )


def _dtype(model: Any, rng: random.Random) -> None:
    if model.graph.initializer and rng.random() < 0.6:
        rng.choice(model.graph.initializer).data_type = rng.randrange(0, 30)
    else:
        rng.choice(model.graph.input).type.tensor_type.elem_type = rng.randrange(0, 30)


def _values(model: Any, rng: random.Random) -> None:
    held = [t for t in model.graph.initializer if t.raw_data]
    if not held:
        return _dims(model, rng)
    tensor = rng.choice(held)
    if rng.random() < 0.3:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data))]
    else:
        width = len(tensor.raw_data) // max(1, *(tensor.dims or [1]))
        if width == 8:
            at = 8 * rng.randrange(len(tensor.raw_data) // 8)
            number = rng.choice(NUMBERS).to_bytes(8, "little", signed=True)
            tensor.raw_data = tensor.raw_data[:at] + number + tensor.raw_data[at + 8 :]
        else:
            tensor.raw_data = rng.randbytes(len(tensor.raw_data))
    return None


def _order(model: Any, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    if rng.random() < 0.5:
        rng.shuffle(nodes)
    else:
        nodes.append(rng.choice(nodes))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


STRUCTURE: list[Callable[[Any, random.Random], None]] = [
    _attribute, _dims, _edge, _operator, _dtype, _values, _order,
]  # fmt: skip

# -- mutations of the bytes ---------------------------------------------------------------------


def _bytes(data: bytes, rng: random.Random) -> bytes:
    match rng.randrange(4):
        case 0:
            return data[: rng.randrange(len(data))]
        case 1:
            changed = bytearray(data)
            for _ in range(rng.choice([1, 2, 20])):
                changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(changed)
        case 2:
            at = rng.randrange(len(data))
            return data[:at] + rng.randbytes(rng.choice([1, 8, 200])) + data[at:]
        case _:
            at = rng.randrange(len(data))
            return data[:at] + data[at + rng.randrange(1, 20) :]


def mutant(number: int) -> bytes:
    """The mutant of that number: seeds in turn, structure and bytes in turn."""
    rng = random.Random(number)
    names = sorted(SEEDS)
    model = SEEDS[names[number % len(names)]]()
    if number % 3 == 2:
        return _bytes(model.SerializeToString(), rng)
    for _ in range(rng.choice([1, 1, 2, 4])):
        rng.choice(STRUCTURE)(model, rng)
    return model.SerializeToString()


def run(numbers: range) -> tuple[int, int]:
    graphs = errors = 0
    for number in numbers:
        try:
            result = outcome(mutant(number))
        except Exception as error:
            raise AssertionError(f"mutant {number}: {type(error).__name__}: {error}") from error
        graphs += isinstance(result, Graph)
        errors += isinstance(result, PredictorError)
    return graphs, errors


def test_mutants_give_a_graph_or_a_clear_error() -> None:
    graphs, errors = run(range(60))
    assert graphs >= 5
    assert errors >= 20


def test_cutting_weights_out_survives_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: read_onnx(SEEDS[name]().SerializeToString()) for name in SEEDS}
    monkeypatch.setattr(onnx_file, "WHOLE_BYTES", 0)
    monkeypatch.setattr(onnx_file, "CUT_BYTES", 80)
    for name, graph in whole.items():
        assert read_onnx(SEEDS[name]().SerializeToString()) == graph
    graphs, errors = run(range(2, 600, 3))  # those whose bytes are changed
    assert graphs + errors == 200


@pytest.mark.exhaustive
def test_thousands_of_mutants_give_a_graph_or_a_clear_error() -> None:
    graphs, errors = run(range(60, 5000))
    assert graphs + errors == 4940


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_every_seed_is_a_valid_model_that_reads(name: str) -> None:
    model = SEEDS[name]()
    for info in model.graph.output:
        info.type.Clear()  # what a seed's outputs are is left to inference
    assert isinstance(outcome(model.SerializeToString()), Graph)


# -- mutants that must be refused ---------------------------------------------------------------


def _refused(change: Callable[[Any], None], seed: str = "conv") -> bytes:
    model = SEEDS[seed]()
    change(model)
    return model.SerializeToString()


def _set(target: Any, **values: Any) -> None:
    for key, value in values.items():
        setattr(target, key, value)


REFUSED: dict[str, tuple[bytes, str]] = {
    "no protobuf": (b"<html>404</html>", "not an ONNX file"),
    "empty": (b"", "no graph"),
    "truncated": (SEEDS["conv"]().SerializeToString()[:-9], "cut short|damaged"),
    "undefined tensor": (
        _refused(lambda m: m.graph.node[2].input.__setitem__(0, "x9")),
        "'x9'.*not made",
    ),
    "cycle": (_refused(lambda m: m.graph.node[0].input.__setitem__(0, "t3")), "cyclic"),
    "defined twice": (_refused(lambda m: m.graph.node[1].output.__setitem__(0, "t0")), "twice"),
    "no nodes": (_refused(lambda m: m.graph.ClearField("node")), "no nodes"),
    "channels": (_refused(lambda m: m.graph.initializer[0].dims.__setitem__(1, 5)), "channels"),
    "negative": (
        _refused(lambda m: m.graph.initializer[0].dims.__setitem__(0, -8)),
        "out of range",
    ),
    "huge": (
        _refused(lambda m: m.graph.initializer[0].dims.__setitem__(0, 1 << 60)),
        "out of range",
    ),
    "rank": (
        _refused(lambda m: m.graph.input[0].type.tensor_type.shape.dim.pop()),
        "spatial dimension",
    ),
    "stride": (_refused(lambda m: m.graph.node[0].attribute[1].ints.__setitem__(0, 0)), "t0"),
    "kernel_shape": (
        _refused(lambda m: m.graph.node[0].ClearField("attribute"), "pools"),
        "kernel_shape",
    ),
    "perm": (
        _refused(lambda m: m.graph.node[1].attribute[0].ints.__setitem__(0, 3), "recurrent"),
        "perm",
    ),
    "text input": (
        _refused(lambda m: _set(m.graph.input[0].type.tensor_type, elem_type=8)),
        "text",
    ),
    "reshape": (_refused(lambda m: m.graph.initializer[3].dims.__setitem__(0, 31), "dense"), "not"),
    "equation": (
        _refused(lambda m: _set(m.graph.node[0].attribute[0], s=b"ab,cd->xyz"), "einsums"),
        "t0",
    ),
    "unknown operator": (_refused(lambda m: _set(m.graph.node[3], op_type="Nope")), "Nope"),
    "heads": (
        _refused(lambda m: _set(m.graph.node[0].attribute[0], i=7), "fused_attention"),
        "heads",
    ),
    "hidden": (
        _refused(lambda m: m.graph.initializer[1].dims.__setitem__(2, 13), "recurrent"),
        "hidden",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_must_be_refused_is_refused(name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(ModelError, match=words):
        read_onnx(data)


def test_a_function_that_calls_itself_is_refused() -> None:
    model = SEEDS["functions"]()
    model.functions[0].node[1].CopyFrom(
        onnx.helper.make_node("Block", ["m", "w"], ["o"], domain="local")
    )
    with pytest.raises(ModelError, match="nest deeper"):
        read_onnx(model.SerializeToString())


def test_functions_that_explode_are_refused() -> None:
    model = SEEDS["functions"]()
    del model.functions[:]
    for depth in range(14):  # 10 calls each: 10^14 nodes when inlined
        inner = "Relu" if not depth else f"F{depth - 1}"
        nodes = [
            onnx.helper.make_node(
                inner, [f"a{i}" if i else "a"], [f"a{i + 1}"], domain="local" if depth else ""
            )
            for i in range(10)
        ]
        model.functions.append(
            onnx.helper.make_function(
                "local", f"F{depth}", ["a"], ["a10"], nodes, [onnx.helper.make_opsetid("", 18)]
            )
        )
    del model.graph.node[:]
    model.graph.node.append(onnx.helper.make_node("F13", ["x"], ["t1"], domain="local"))
    start = time.process_time()
    with pytest.raises(ModelError, match="expand to over"):
        read_onnx(model.SerializeToString())
    assert time.process_time() - start < LIMIT_S


def test_a_hundred_thousand_nodes_take_ten_times_as_long_as_ten_thousand() -> None:
    """Seconds then, and no more than linear: a ratio holds on a busy machine, a limit does not."""

    def seconds(count: int) -> tuple[float, int]:
        nodes = [onnx.helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(count)]
        info = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            nodes, "long", [info("t0", 1, [1, 8])], [info(f"t{count}", 1, [1, 8])]
        )
        data = onnx.helper.make_model(graph).SerializeToString()
        start = time.process_time()
        read = read_onnx(data)
        return time.process_time() - start, len(read.ops)

    small, _ = seconds(10_000)
    large, ops = seconds(100_000)
    assert ops == 100_000
    assert large < 30 * small
