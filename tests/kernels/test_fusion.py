"""Fusion: hand-checked graphs for each runtime, and laws over random graphs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.builder import GraphBuilder
from predictor.errors import ConfigError
from predictor.graph import Graph, Kernel
from predictor.kernels.fusion import cast_graph, fuse
from predictor.kernels.rules import available_rules, load_rules


def kinds(kernels):
    return [[op.attrs.get("fn") or op.kind for op in kernel.ops] for kernel in kernels]


def conv_block(fn="relu"):
    b = GraphBuilder("block")
    x = b.input((1, 16, 8, 8))
    y = b.activation(b.batch_norm(b.conv(x, 16, 3, padding=1, bias=False)), fn)
    return b.finish(y)


def residual():
    b = GraphBuilder("residual")
    x = b.input((1, 16, 8, 8))
    y = b.batch_norm(b.conv(x, 16, 3, padding=1, bias=False))
    return b.finish(b.activation(b.add(y, x), "relu"))


CONV = ["conv", "norm", "relu"]


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        ("eager", [["conv"], ["norm"], ["relu"]]),
        ("tensorrt", [CONV]),
        ("tensorrt-7", [CONV]),
        ("onnxruntime", [CONV]),
        ("tflite", [CONV]),
        ("ncnn", [CONV]),
        ("torch_compile", [["conv", "norm"], ["relu"]]),
    ],
)
def test_conv_norm_relu(runtime, expected):
    assert kinds(fuse(conv_block(), runtime)) == expected


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        ("eager", [["conv"], ["norm"], ["add"], ["relu"]]),
        ("tensorrt", [["conv", "norm", "add", "relu"]]),
        ("onnxruntime", [["conv", "norm", "add", "relu"]]),
        ("tflite", [["conv", "norm"], ["add", "relu"]]),
    ],
)
def test_residual_addition(runtime, expected):
    assert kinds(fuse(residual(), runtime)) == expected


def test_bytes_of_a_fused_residual_by_hand():
    (kernel,) = fuse(residual(), "tensorrt")
    feature = 4 * 16 * 64
    weights = 4 * (16 * 16 * 9 + 4 * 16)
    # x goes in once: as the convolution's input, and again as the shortcut from the same memory.
    assert kernel.read_bytes == feature + weights
    assert kernel.write_bytes == feature
    assert kernel.weight_bytes == weights
    assert kernel.kind == "conv"


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [("tensorrt", [["conv", "norm", "silu"]]), ("tensorrt-7", [["conv", "norm"], ["silu"]])],
)
def test_silu_belongs_to_an_era(runtime, expected):
    assert kinds(fuse(conv_block("silu"), runtime)) == expected


def test_squeeze_and_excite():
    b = GraphBuilder("se")
    x = b.input((1, 16, 8, 8))
    y = b.activation(b.conv(x, 16, 3, padding=1), "relu")
    s = b.activation(b.conv(b.global_pool(y), 4, 1), "relu")
    s = b.activation(b.conv(s, 16, 1), "sigmoid")
    graph = b.finish(b.mul(y, s))
    # y has two readers, so nothing but its own activation may join it.
    assert kinds(fuse(graph, "tensorrt")) == [
        ["conv", "relu"],
        ["pool"],
        ["conv", "relu"],
        ["conv", "sigmoid"],
        ["mul"],
    ]


def c2f():
    """A split whose halves are read again by the concatenation, as in YOLOv8."""
    b = GraphBuilder("c2f")
    x = b.input((1, 8, 8, 8))
    first, second = b.split(b.activation(b.conv(x, 16, 1), "silu"), [8, 8])
    y = b.activation(b.conv(second, 8, 3, padding=1), "silu")
    z = b.activation(b.conv(y, 8, 3, padding=1), "silu")
    return b.finish(b.conv(b.concat([first, second, y, z]), 8, 1))


def test_concat_copies_only_what_others_read():
    kernels = fuse(c2f(), "tensorrt")
    copies = [k for k in kernels if k.kind == "copy"]
    slices = [k for k in kernels if k.kind == "slice"]
    # second and y have another reader; first and z are written in place.
    assert len(copies) == 2
    assert all(k.bytes == 2 * 4 * 8 * 64 for k in copies)
    assert len(slices) == 1
    assert kinds(kernels)[-1] == ["conv"]
    plain = fuse(c2f(), "onnxruntime")
    assert [k.kind for k in plain].count("concat") == 1


def attention(explicit, late_values=False):
    b = GraphBuilder("attention")
    x = b.input((1, 16, 32))
    q = b.linear(x, 32, name="q")
    k = b.transpose(b.linear(x, 32, name="k"), (0, 2, 1))
    if not late_values:
        v = b.linear(x, 32, name="v")
    if explicit:
        s = b.softmax(b.elementwise("mul", b.matmul(q, k)))
        if late_values:
            v = b.linear(x, 32, name="v")
        y = b.matmul(s, v)
    else:
        y = b.attention(q, b.transpose(k, (0, 2, 1)), v)
    return b.finish(b.linear(y, 32, name="out"))


def test_an_explicit_attention_becomes_one_kernel_where_the_runtime_does():
    kernels = fuse(attention(True), "tensorrt")
    assert ["matmul", "mul", "softmax", "matmul"] in kinds(kernels)
    kernels = fuse(attention(True), "tensorrt-7")
    assert ["matmul", "mul", "softmax", "matmul"] not in kinds(kernels)
    fused = next(k for k in fuse(attention(True), "tensorrt") if "softmax" in kinds([k])[0])
    assert fused.write_bytes == 4 * 16 * 32  # scores stay inside


def test_attention_whose_values_come_late_runs_after_them():
    kernels = fuse(attention(True, late_values=True), "tensorrt")
    order = [kernel.name for kernel in kernels]
    position = next(i for i, k in enumerate(kernels) if "softmax" in kinds([k])[0])
    assert order.index("v") < position < order.index("out")
    assert_in_order(attention(True, late_values=True), kernels)


def test_fused_attention_is_split_for_old_runtimes():
    graph = attention(False)
    assert ["attention"] in kinds(fuse(graph, "tensorrt"))
    parts = fuse(graph, "tensorrt-7")
    assert [k.kind for k in parts].count("matmul") == 2
    assert [k.kind for k in parts].count("softmax") == 1
    assert sum(k.macs for k in parts) == graph.macs


def test_dead_branches_and_constants():
    b = GraphBuilder("dead")
    x = b.input((1, 4, 8, 8))
    b.conv(x, 8, 3, name="dead")
    (table,) = b.op("fill", [], [(1, 4, 8, 8)], dtype="float32", attrs={"fn": "arange"})
    table = b.activation(table, "sigmoid")
    graph = b.finish(b.conv(b.add(x, table), 4, 1, name="live"))
    assert "dead" in [k.name for k in fuse(graph, "eager")]
    names = [k.name for k in fuse(graph, "tensorrt")]
    assert names == ["elementwise_3", "live"]


def test_views_between_members_do_not_hide_a_tensor():
    b = GraphBuilder("views")
    x = b.input((1, 16, 64))
    y = b.activation(b.reshape(b.activation(x, "relu"), (1, 1024)), "tanh")
    (kernel,) = fuse(b.finish(y), "torch_compile")
    assert (kernel.read_bytes, kernel.write_bytes) == (4096, 4096)


def test_a_tensor_that_only_members_read_is_not_written():
    b = GraphBuilder("swish")
    x = b.activation(b.input((1, 1024)), "relu")
    graph = b.finish(b.mul(x, b.activation(x, "sigmoid")))
    (kernel,) = fuse(graph, "torch_compile")
    assert (kernel.read_bytes, kernel.write_bytes) == (4096, 4096)


def test_a_tensor_that_is_an_output_too_is_written():
    b = GraphBuilder("two")
    x = b.activation(b.input((1, 1024)), "relu")
    y = b.activation(x, "tanh")
    (kernel,) = fuse(b.finish(x, y), "torch_compile")
    assert kernel.write_bytes == 8192


def test_precision_changes_bytes_and_nothing_else():
    graph = c2f()
    half = cast_graph(graph, "float16")
    assert half.macs == graph.macs
    assert half.memory_access_bytes * 2 == graph.memory_access_bytes
    assert half.model_bytes * 2 == graph.model_bytes
    assert cast_graph(half, "float16") is half


def test_unknown_runtime():
    with pytest.raises(ConfigError, match="Did you mean 'tensorrt'"):
        fuse(c2f(), "tensort")


def test_every_rule_file_loads():
    assert {"eager", "tensorrt", "onnxruntime", "tflite", "torch_compile"} <= set(available_rules())
    for name in available_rules():
        assert load_rules(name).name == name


def test_kernels_survive_json():
    for kernel in fuse(c2f(), "tensorrt"):
        assert Kernel.from_dict(kernel.to_dict()) == kernel


# -- laws over random graphs --------------------------------------------------------------------------


@st.composite
def graphs(draw) -> Graph:
    """Random networks over (1, 8, 6, 6), every operator reading any earlier tensor."""
    b = GraphBuilder("random")
    values = [b.input((1, 8, 6, 6))]
    for _ in range(draw(st.integers(1, 14))):
        x = values[draw(st.integers(0, len(values) - 1))]
        y = values[draw(st.integers(0, len(values) - 1))]
        choice = draw(
            st.sampled_from(
                [
                    "conv",
                    "depthwise",
                    "norm",
                    "relu",
                    "silu",
                    "add",
                    "mul",
                    "concat",
                    "split",
                    "reshape",
                    "attention",
                    "pool",
                    "softmax",
                    "transpose",
                    "constant",
                ]
            )
        )
        if choice == "conv":
            values.append(b.conv(x, 8, 3, padding=1))
        elif choice == "depthwise":
            values.append(b.conv(x, 8, 3, padding=1, groups=8))
        elif choice == "norm":
            values.append(b.batch_norm(x))
        elif choice in ("relu", "silu"):
            values.append(b.activation(x, choice))
        elif choice in ("add", "mul"):
            values.append(b.elementwise(choice, x, y))
        elif choice == "concat":
            values.append(b.conv(b.concat([x, y, x]), 8, 1))
        elif choice == "split":
            one, two = b.split(x, [4, 4])
            values.append(b.concat([two, one]))
        elif choice == "reshape":
            values.append(b.reshape(b.activation(b.reshape(x, (1, 8, 36)), "tanh"), x.shape))
        elif choice == "attention":
            score = b.softmax(b.matmul(x, b.transpose(y, (0, 1, 3, 2))))
            values.append(b.matmul(score, values[draw(st.integers(0, len(values) - 1))]))
        elif choice == "transpose":
            values.append(b.transpose(b.activation(b.transpose(x, (0, 1, 3, 2))), (0, 1, 3, 2)))
        elif choice == "pool":
            values.append(b.pool(x, "max", 3, stride=1, padding=1))
        elif choice == "softmax":
            values.append(b.softmax(x))
        else:
            (table,) = b.op("fill", [], [(1, 8, 6, 6)], dtype="float32", attrs={"fn": "zeros"})
            values.append(b.add(x, table))
    outs = {draw(st.integers(0, len(values) - 1)) for _ in range(2)} | {len(values) - 1}
    return b.finish(*(values[i] for i in sorted(outs)))


def assert_in_order(graph, kernels):
    """No kernel reads a tensor that a later one makes."""
    maker = {t: i for i, k in enumerate(kernels) for op in k.ops for t in op.output_ids}
    sources = {t: op.input_ids for op in graph.ops for t in op.output_ids}

    def made_at(tensor):
        if tensor in maker:
            return maker[tensor]
        return max((made_at(t) for t in sources.get(tensor, ())), default=-1)

    for index, kernel in enumerate(kernels):
        for op in kernel.ops:
            for tensor in op.input_ids:
                assert made_at(tensor) <= index


@settings(max_examples=60)
@given(graphs(), st.sampled_from(available_rules()))
def test_laws(graph, runtime):
    rules = load_rules(runtime)
    kernels = fuse(graph, rules)
    live = set(graph.input_ids)
    for op in graph.ops:
        if set(op.input_ids) & live:
            live.update(op.output_ids)
    wanted = set(graph.output_ids)
    for op in reversed(graph.ops):
        if wanted & set(op.output_ids):
            wanted.update(op.input_ids)
    placed = [id(op) for kernel in kernels for op in kernel.ops]
    assert len(placed) == len(set(placed))
    held = set(placed)
    free = {kind for kind, mode in rules.views.items() if mode == "free"} | set(rules.drop)
    expected_macs = 0
    for op in graph.ops:
        dropped = (rules.fold_constants and not set(op.input_ids) & live) or (
            rules.drop_dead and not set(op.output_ids) & wanted
        )
        if dropped:
            assert id(op) not in held
            continue
        expected_macs += op.macs
        split = op.kind == "attention" and rules.attention == "split"
        in_place = op.kind == "concat" and rules.concat != "kernel"
        if op.kind not in free and not split and not in_place:
            assert id(op) in held, op
    assert sum(kernel.macs for kernel in kernels) == expected_macs
    for kernel in kernels:
        views = sum(2 * s.nbytes for op in kernel.ops if op.is_view for s in op.outputs)
        assert kernel.bytes <= sum(op.memory_access_bytes for op in kernel.ops) + views
        assert 0 <= kernel.weight_bytes <= kernel.read_bytes
        assert 0 <= kernel.anchor < len(kernel.ops)
    assert_in_order(graph, kernels)
