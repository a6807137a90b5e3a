"""ONNX Runtime on the board: weights it makes itself, runs, and its profile node by node."""

import json
import os

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from predictor.profiling.runtimes import ProgramError, RuntimeUnavailable, find  # noqa: E402
from predictor.profiling.runtimes import onnxruntime as board  # noqa: E402

MATRIX = 4 * 64 * 32


def settings(folder, **changes):
    return {"precision": "fp32", "threads": 1, "device": "cpu", "folder": str(folder),
            "weights_bytes": MATRIX, **changes}  # fmt: skip


def program(kind=onnx.TensorProto.FLOAT):
    """y = relu(x W), W outside."""
    weights = onnx.numpy_helper.from_array(np.zeros((64, 32), "float32"), "w")
    onnx.external_data_helper.set_external_data(weights, "weights.bin", 0, MATRIX)
    weights.ClearField("raw_data")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["h"], "h"),
         onnx.helper.make_node("Relu", ["h"], ["y"], "y")], "net",
        [onnx.helper.make_tensor_value_info("x", kind, [1, 5, 64])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 5, 32])], [weights],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)],
                                  ir_version=7).SerializeToString()  # fmt: skip


@pytest.fixture
def runtime(tmp_path):
    return find("onnxruntime")(settings(tmp_path))


def test_weights_are_written_once_and_are_sane(tmp_path):
    path = tmp_path / "weights.bin"
    board.write_weights(str(path), 4 * (board.BLOCK + 1000), "float32")
    numbers = np.fromfile(path, "float32")
    assert len(numbers) == board.BLOCK + 1000
    assert np.abs(numbers).max() <= 0.05
    assert abs(numbers.mean()) < 1e-3
    assert (numbers < 0).any()
    before = path.stat().st_mtime_ns
    board.write_weights(str(path), 4 * (board.BLOCK + 1000), "float32")
    assert path.stat().st_mtime_ns == before
    board.write_weights(str(path), 100, "float16")
    assert path.stat().st_size == 100


def test_no_room_for_weights_is_an_error_that_leaves_nothing(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(board.os, "replace", full)
    with pytest.raises(RuntimeUnavailable, match="No space left"):
        board.write_weights(str(tmp_path / "weights.bin"), 100, "float32")
    assert os.listdir(tmp_path) == []


def test_a_profile_has_a_row_a_run_and_sane_times(runtime, tmp_path):
    loaded = runtime.load("net.onnx", program())
    loaded.run()
    loaded.renew()
    for _ in range(5):
        loaded.detail_run()
    names, rows = loaded.details()
    fields = [json.loads(name) for name in names]
    assert [(f["op"], f["name"]) for f in fields] == [("MatMul", "h"), ("Relu", "y")]
    assert fields[0]["inputs"][0] == "float:1x5x64"  # weights that were packed are not listed
    assert fields[0]["outputs"] == ["float:1x5x32"]
    assert len(rows) == 5
    assert all(len(row) == 2 for row in rows)
    assert all(0 <= seconds < 0.1 for row in rows for seconds in row)
    loaded.close()
    assert sorted(os.listdir(tmp_path)) == ["weights.bin"]


def test_an_unread_profile_is_removed_too(runtime, tmp_path):
    loaded = runtime.load("net.onnx", program())
    loaded.detail_run()
    loaded.close()
    assert sorted(os.listdir(tmp_path)) == ["weights.bin"]


def node(ts, dur, name, op="Conv"):
    return {"cat": "Node", "name": name + "_kernel_time", "ts": ts, "dur": dur,
            "args": {"op_name": op, "input_type_shape": [{"float": [1, 3]}, {"float": []}],
                     "output_type_shape": [{"float": [1, 2]}]}}  # fmt: skip


def run(ts, dur):
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur}


def test_rows_are_aligned_by_node_in_microseconds():
    events = [
        node(10, 3, "a"), node(14, 5, "loop"), node(20, 6, "loop"), run(9, 20),
        {"cat": "Node", "name": "a_fence_before", "ts": 100, "dur": 90, "args": {}},
        node(101, 4, "a"), node(106, 1, "rare"), node(108, 7, "loop"), run(99, 30),
        node(200, 9, "outside"),
    ]  # fmt: skip
    names, rows = board.aligned(board.profiled_runs(events))
    assert [json.loads(name)["name"] for name in names] == ["a", "loop", "rare"]
    assert rows == [pytest.approx([3e-6, 11e-6, 0]), pytest.approx([4e-6, 7e-6, 1e-6])]
    assert json.loads(names[0])["inputs"] == ["float:1x3", "float:"]


def test_old_profiles_without_shapes_are_read():
    event = {"name": "conv1_kernel_time", "args": {"op_name": "Conv", "input_type_shape": ""}}
    assert json.loads(board.node_text(event)) == {
        "op": "Conv", "name": "conv1", "inputs": [], "outputs": []}  # fmt: skip


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"nonsense", "broken.onnx"), (program(onnx.TensorProto.STRING), "broken.onnx")],
)
def test_what_cannot_be_loaded_is_said(runtime, tmp_path, data, words):
    with pytest.raises(ProgramError, match=words):
        runtime.load("broken.onnx", data)
    assert sorted(os.listdir(tmp_path)) == ["weights.bin"]


@pytest.mark.parametrize(
    ("changes", "words"), [({"precision": "int8"}, "fp32"), ({"device": "cuda"}, "CUDA")]
)
def test_what_it_lacks_is_said(tmp_path, changes, words):
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this one has CUDA")
    with pytest.raises(RuntimeUnavailable, match=words):
        find("onnxruntime")(settings(tmp_path, **changes))


def test_single_node_models_are_valid_onnx():
    data = board.one_node("MatMul", [[200, 300], [300, 7]], [200, 7])
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    a, b = np.ones((200, 300), "float32"), np.ones((300, 7), "float32")
    (y,) = session.run(None, {"x0": a, "x1": b})
    assert (y == 300).all()


def test_a_chain_of_nodes_runs_them_all():
    data = board.one_node("Neg", [[3]], [3], 5)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x0": np.ones(3, "float32")})
    assert (y == -1).all()  # five of them


def test_what_profiling_adds_is_taken_off(runtime):
    runtime.learn_overhead()
    assert 0 <= runtime.overhead_s < 1e-3
    runtime.overhead_s = 3600.0
    loaded = runtime.load("net.onnx", program())
    loaded.detail_run()
    assert loaded.details()[1] == [[0.0, 0.0]]
    loaded.close()


def test_peak_and_versions(runtime):
    peak = runtime.peak()
    assert peak["matmul_gflops"] > 0.1
    assert peak["copy_gbs"] > 0.1
    assert runtime.versions()["onnxruntime"] == ort.__version__
    runtime.evict()
