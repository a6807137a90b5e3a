"""ONNX models as graphs: shapes, counts, kinds and weights, by hand and against onnx itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="reading .onnx files needs the onnx package")

import onnx
from onnx import TensorProto, helper
from onnx_seeds import SEEDS, Net

from predictor.errors import ModelError
from predictor.frontends.onnx_model import read_onnx
from predictor.graph import Graph, Op


def read(name: str, **settings: Any) -> Graph:
    return read_onnx(SEEDS[name]().SerializeToString(), **settings)


def by_name(graph: Graph, name: str) -> Op:
    return next(op for op in graph.ops if op.name == name)


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


# -- shapes against onnx's own inference --------------------------------------------------------

_OPEN = {"dynamic_output", "fused_attention", "norms", "shape_chain"}
"""What onnx's inference leaves open: lengths that depend on data, operators of another domain,
functions with constants, longer chains of sizes."""


@pytest.mark.parametrize("name", sorted(set(SEEDS) - _OPEN))
def test_shapes_are_those_of_onnx_shape_inference(name: str) -> None:
    model = SEEDS[name]()
    for info in model.graph.input:  # the batch that the reader assumes
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    for info in model.graph.output:
        info.type.Clear()
    data = model.SerializeToString()
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True)
    compared = 0
    expected = {}
    for info in [*inferred.graph.value_info, *inferred.graph.output]:
        kind = info.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            expected[info.name] = tuple(d.dim_value for d in kind.shape.dim), kind.elem_type
    types = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10}
    for op in read_onnx(data).ops:
        if op.name in expected:
            assert (op.outputs[0].shape, types[op.outputs[0].dtype]) == expected[op.name], op.name
            compared += 1
    assert compared or name in ("control", "loop", "functions")


# -- by hand ------------------------------------------------------------------------------------


def test_convolutions() -> None:
    graph = read("conv")
    first, wise, point = (op for op in graph.ops if op.kind == "conv")
    assert first.outputs[0].shape == (2, 8, 9, 8)
    assert first.macs == 2 * 8 * 9 * 8 * 3 * 9
    assert first.attrs == {
        "kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 1,
        "transposed": False, "bias": True,
    }  # fmt: skip
    assert (wise.macs, wise.attrs["groups"], wise.attrs["padding"]) == (
        2 * 8 * 9 * 8 * 9,
        8,
        (2, 2),
    )
    assert point.macs == 2 * 4 * 9 * 8 * 8
    assert graph.params == 8 * 3 * 9 + 8 + 2 * 8 + 8 * 9 + 32
    assert sum(w.spec.numel for w in graph.weights if w.role == "buffer") == 16
    assert kinds(graph) == ["conv", "norm", "activation", "conv", "conv"]


def test_transposed_convolution_counts_inputs_not_outputs() -> None:
    first, second, third = read("conv_transpose").ops
    assert first.outputs[0].shape == (1, 4, 14, 18)
    assert first.macs == 7 * 9 * 8 * 4 * 16
    assert second.outputs[0].shape == (1, 6, 30, 38)
    assert second.macs == 14 * 18 * 4 * 3 * 9
    assert third.outputs[0].shape == (1, 2, 60, 76)


def test_products_with_a_stored_matrix_are_linear_and_take_their_bias() -> None:
    graph = read("dense")
    assert kinds(graph) == ["linear", "activation", "linear", "softmax"]
    first, _, second, _ = graph.ops
    assert (first.attrs, first.macs) == ({"k": 20, "bias": True}, 4 * 20 * 30)
    assert (second.attrs, second.macs) == ({"k": 30, "bias": True}, 4 * 30 * 10)
    assert second.params == 310
    assert graph.params == 30 * 20 + 30 + 300 + 10
    assert graph.output_ids == graph.ops[-1].output_ids


def test_a_sum_that_others_read_too_is_no_bias() -> None:
    b = Net(x=[4, 20])
    y = b("MatMul", "x", b.w(20, 10))
    graph = read_onnx(b.model(b("Add", y, b.w(10)), b("Relu", y)).SerializeToString())
    assert kinds(graph) == ["linear", "elementwise", "activation"]


def test_transformer_block() -> None:
    graph = read("transformer", batch=3)
    tokens, width, heads = 12, 32, 4
    linear = 4 * tokens * width * width
    attention = 2 * heads * tokens * tokens * (width // heads)
    assert graph.macs == 3 * (linear + attention)
    assert graph.params == 2 * width + 4 * width * width + width
    assert [k for k in kinds(graph) if k in ("linear", "matmul", "softmax", "norm")] == [
        "norm", "linear", "linear", "linear", "matmul", "softmax", "matmul", "linear",
    ]  # fmt: skip
    assert not graph.unknown
    assert "Shape" not in {op.target for op in graph.ops}
    assert read("transformer").notes == (
        "input 'x': the batch is open in the file; read with batch 1",
    )


def test_fused_attention_of_onnx_runtime() -> None:
    graph = read("fused_attention")
    tokens, width = 10, 24
    assert kinds(graph) == ["linear", "attention", "norm", "linear", "activation", "attention"]
    own = graph.ops[1]
    assert own.inputs[0].shape == (2, 3, 10, 8)
    assert own.macs == 2 * 2 * tokens * tokens * width
    assert graph.ops[0].macs == 2 * tokens * width * 72
    assert graph.ops[5].macs == 2 * 2 * tokens * tokens * 48


def test_attention_of_opset_23_with_grouped_heads() -> None:
    op = read("attention_23").ops[0]
    assert (op.kind, op.attrs, op.macs) == ("attention", {"causal": True}, 8 * 6 * 9 * (16 + 12))
    assert op.outputs[0].shape == (1, 8, 6, 12)


def test_recurrent_layers() -> None:
    lstm, gru, rnn = (op for op in read("recurrent").ops if op.kind == "rnn")
    steps, batch = 7, 2
    assert lstm.macs == 2 * steps * batch * 4 * 12 * (10 + 12)
    assert lstm.attrs == {
        "mode": "lstm", "hidden": 12, "layers": 1, "bidirectional": True, "bias": True,
        "projection": 0, "steps": 7,
    }  # fmt: skip
    assert lstm.params == 2 * 48 * (10 + 12) + 2 * 96
    assert gru.macs == steps * batch * 3 * 6 * (24 + 6)
    assert rnn.macs == steps * batch * 5 * (6 + 5)


def test_embeddings_slices_and_clips() -> None:
    gather, select = read("gathers").ops[:2]
    assert (gather.kind, gather.attrs, gather.params) == ("gather", {"fn": "embedding"}, 1600)
    assert (select.kind, select.weights) == ("slice", ())
    assert read("activations").ops[-1].attrs == {"fn": "relu6"}


def test_quantised_weights_are_stored_and_read_as_integers() -> None:
    graph = read("quantised")
    conv = next(op for op in graph.ops if op.target == "Conv")
    assert [(w.shape, w.dtype) for w in conv.weights] == [((6, 4, 3, 3), "int8")]
    quantised = next(op for op in graph.ops if op.target == "QLinearConv")
    assert (quantised.macs, quantised.params) == (5 * 64 * 4, 20)
    assert graph.params == 6 * 4 * 9 + 20


def test_chains_of_sizes_are_evaluated() -> None:
    reshape, add = read("shape_chain").ops  # h = 10 -> half 5: (-1, 5, 10) of 1 x 5 x 10 x 12
    assert (reshape.kind, reshape.outputs[0].shape) == ("reshape", (12, 5, 10))
    assert (add.kind, [w.shape for w in add.weights]) == ("elementwise", [(12, 5, 10)])
    assert read("shape_chain", batch=4).ops[0].outputs[0].shape == (48, 5, 10)


def test_norms_by_type() -> None:
    ops = read("norms").ops
    assert [op.attrs["type"] for op in ops] == ["group", "instance", "lrn", "instance", "rms"]
    assert ops[0].attrs["groups"] == 2
    assert {op.outputs[0].shape for op in ops} == {(2, 8, 5, 5)}


def test_lengths_that_depend_on_data_take_their_bound_and_say_so() -> None:
    graph = read("dynamic_output")
    boxes, nonzero = graph.ops[:2]
    assert boxes.outputs[0].shape == (3 * 7, 3)
    assert nonzero.outputs[0].shape == (2, 30)
    assert sum("depends on the data" in note for note in graph.notes) == 3


def test_einsum_counts_what_is_summed_over() -> None:
    assert read("einsums").ops[0].macs == 2 * 3 * 4 * 6 * 5


def test_branches_and_loops_are_read_once_and_say_so() -> None:
    graph = read("control")
    assert [op.target for op in graph.ops] == ["ReduceSum", "Equal", "Relu"]
    assert any("then-branch" in note for note in graph.notes)
    graph = read("loop")
    assert [op.target for op in graph.ops] == ["Sigmoid"]
    assert any("counted once" in note for note in graph.notes)


def test_local_functions_are_inlined() -> None:
    graph = read("functions")
    assert [op.kind for op in graph.ops] == ["linear", "activation"] * 2
    assert (graph.macs, graph.params) == (2 * 8 * 8 + 2 * 8 * 3, 64 + 24)


def test_a_weight_that_two_nodes_share_counts_once() -> None:
    b = Net(x=[2, 16])
    w = b.w(16, 16)
    again = b("Transpose", w, perm=[1, 0])
    graph = read_onnx(b.model(b("MatMul", b("MatMul", "x", w), again)).SerializeToString())
    assert graph.params == 256
    assert graph.ops[0].weight_ids == graph.ops[1].weight_ids
    assert kinds(graph) == ["linear", "linear"]


def test_what_has_no_formula_is_named() -> None:
    b = Net(x=[2, 16])
    y = b("FancyOp", "x", b.w(16), domain="my.domain")
    model = b.model(b("Relu", y))
    with pytest.raises(ModelError, match=r"node 't0' \(FancyOp\).*'t0'.*value_info"):
        read_onnx(model.SerializeToString())
    model.graph.value_info.append(helper.make_tensor_value_info("t0", TensorProto.FLOAT, [2, 9]))
    graph = read_onnx(model.SerializeToString())
    assert graph.unknown == ("FancyOp",)
    assert (graph.ops[0].kind, graph.ops[0].known) == ("unknown:FancyOp", False)
    assert graph.ops[0].read_bytes == 4 * (32 + 16)
    assert graph.ops[1].outputs[0].shape == (2, 9)


def test_an_operator_of_another_domain_is_not_mistaken_for_a_standard_one() -> None:
    b = Net(x=[2, 16])
    model = b.model(b("Relu", "x", domain="my.domain"))
    model.graph.value_info.append(helper.make_tensor_value_info("t0", TensorProto.FLOAT, [2, 16]))
    assert read_onnx(model.SerializeToString()).unknown == ("Relu",)


# -- inputs -------------------------------------------------------------------------------------


def _open(*dims: int | str) -> bytes:
    b = Net(x=list(dims))
    return b.model(b("Relu", "x")).SerializeToString()


def test_open_dimensions() -> None:
    assert read_onnx(_open("n", 3, "h", "w"), batch=2, resolution=64).input_specs[0].shape == (
        2,
        3,
        64,
        64,
    )
    assert read_onnx(_open("n", 3, "h", "w"), resolution=(32, 48)).input_specs[0].shape == (
        1,
        3,
        32,
        48,
    )
    assert read_onnx(_open("n", "t"), shapes={"x": [4, 77]}).input_specs[0].shape == (4, 77)
    with pytest.raises(
        ModelError, match=r"input 'x' \[n, t\]: dimension 1 is open \('t'\).*shapes"
    ):
        read_onnx(_open("n", "t"))
    with pytest.raises(ModelError, match="resolution="):
        read_onnx(_open("n", 3, "h", "w"))
    with pytest.raises(ModelError, match="Did you mean 'x'"):
        read_onnx(_open("n", "t"), shapes={"xx": [4, 77]})
    with pytest.raises(ModelError, match="2 dimensions, shapes gives 1"):
        read_onnx(_open("n", "t"), shapes={"x": [4]})


def test_a_fixed_batch_can_be_replaced_and_is_noted() -> None:
    graph = read_onnx(_open(1, 8), batch=4)
    assert graph.batch == 4
    assert graph.notes == ("input 'x': the file fixes batch 1; read with 4",)
    with pytest.raises(ModelError, match="batch must be 1 or more"):
        read_onnx(_open(1, 8), batch=0)


def test_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_onnx(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        read_onnx(tmp_path)
    empty = tmp_path / "empty.onnx"
    empty.touch()
    with pytest.raises(ModelError, match=r"empty\.onnx: the file is empty"):
        read_onnx(empty)


def test_large_weights_are_cut_out_before_parsing(tmp_path: Path) -> None:
    b = Net(x=[1, 512])
    model = b.model(b("MatMul", "x", b.w(512, 4096)))
    model.graph.initializer[0].raw_data = bytes(512 * 4096 * 4)
    path = tmp_path / "weights.onnx"
    onnx.save(model, path)
    graph = read_onnx(path)
    assert (graph.name, graph.macs, graph.params) == ("weights", 512 * 4096, 512 * 4096)
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(ModelError, match="cut short"):
        read_onnx(path)


def test_external_data_need_not_be_there(tmp_path: Path) -> None:
    def model() -> onnx.ModelProto:
        b = Net(x=["n", 64, 8])
        made = b.model(b("MatMul", b("Reshape", "x", b.c(-1, 512)), b.w(512, 256)))
        made.graph.initializer[1].raw_data = bytes(4 * 512 * 256)
        return made

    path = tmp_path / "model.onnx"
    onnx.save(model(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert read_onnx(path, batch=2).macs == 2 * 512 * 256  # the Reshape's sizes are in w.bin
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"'c0'.*not known"):
        read_onnx(path)
    path.unlink()
    onnx.save(model(), path, save_as_external_data=True, location="w.bin", size_threshold=1024)
    (tmp_path / "w.bin").unlink()
    assert read_onnx(path, batch=2).params == 512 * 256


def test_external_data_outside_the_folder_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes((512).to_bytes(8, "little") * 2)
    (tmp_path / "m").mkdir()
    b = Net(x=[1, 512])
    model = b.model(b("Reshape", "x", b.w(1, dtype=TensorProto.INT64)))
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    path = tmp_path / "m" / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="not known"):
        read_onnx(path)


def test_reading_loads_no_torch() -> None:
    code = (
        "import sys, predictor.frontends.onnx_model as m; from pathlib import Path;"
        "m.read_onnx(sys.stdin.buffer.read());"
        "assert not {'torch', 'lightgbm', 'onnxruntime'} & set(sys.modules)"
    )
    data = SEEDS["conv"]().SerializeToString()
    subprocess.run([sys.executable, "-c", code], input=data, check=True, timeout=60)


# -- real exports -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net() -> Any:
    torch = pytest.importorskip("torch", reason="exports are made with torch")
    torch.set_num_threads(1)
    from exported_nets import nets

    return nets()


def _export(module: Any, inputs: Any, path: Path, dynamo: bool) -> Path:
    import torch

    if dynamo:
        pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript")
    with torch.no_grad():
        torch.onnx.export(
            module,
            inputs,
            str(path),
            dynamo=dynamo,
            verbose=False,
            **({} if dynamo else {"opset_version": 17}),
        )
    return path


CASES = [(name, dynamo) for name in ("residual", "block", "lstm", "decoder") for dynamo in (True, False)
         if (name, dynamo) != ("lstm", True)]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "dynamo"), CASES)
def test_exports_count_as_by_hand(net: Any, tmp_path: Path, name: str, dynamo: bool) -> None:
    case = net[name]
    path = _export(case.module, case.inputs, tmp_path / "m.onnx", dynamo)
    graph = read_onnx(path)
    assert graph.macs == case.macs
    assert not graph.unknown
    assert graph.params == case.params - case.folded
    for data in tmp_path.glob("*.data"):
        data.unlink()
    assert read_onnx(path) == graph


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [True, False])
def test_an_export_with_an_open_batch(net: Any, tmp_path: Path, dynamo: bool) -> None:
    import torch

    if dynamo:
        pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript")
        open_batch: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    else:
        open_batch = {"dynamic_axes": {"x": {0: "batch"}}, "opset_version": 17}
    case, path = net["block"], tmp_path / "m.onnx"
    with torch.no_grad():
        torch.onnx.export(
            case.module,
            case.inputs,
            str(path),
            dynamo=dynamo,
            verbose=False,
            input_names=["x"],
            **open_batch,
        )
    one, six = read_onnx(path), read_onnx(path, batch=6)
    assert "the batch is open" in one.notes[0]
    assert (2 * one.macs, six.macs) == (case.macs, 3 * case.macs)
    assert (six.notes, six.params, six.unknown) == ((), case.params, ())
