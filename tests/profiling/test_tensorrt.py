"""TensorRT on the board by trtexec: the call, what it writes, and all that can go wrong.

No GPU here: a stand-in has trtexec's options, output and files. Not tried on a real board.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from predictor.profiling.runtimes import ProgramError, RuntimeUnavailable, find
from predictor.profiling.runtimes import tensorrt as board

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def trtexec(tmp_path, monkeypatch):
    """The stand-in on PATH, and the calls of it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "trtexec"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FIXTURES / "trtexec.py"}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_CALLS", str(tmp_path / "calls"))
    monkeypatch.setattr(board, "PLACES", ("/nowhere/trtexec",))
    return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


def settings(folder, **changes):
    return {"precision": "fp16", "threads": 1, "device": "cuda", "folder": str(folder / "scratch"),
            "weights_bytes": 4000, **changes}  # fmt: skip


def made(tmp, /, **changes):
    return find("tensorrt")({**settings(tmp), **changes})


def test_a_network_is_built_measured_and_profiled(tmp_path, trtexec):
    runtime = made(tmp_path)
    assert runtime.versions() == {"tensorrt": "8.5.2"}
    program = runtime.load("net.onnx", b"onnx")
    assert program.outside
    row = program.alone(2.5)
    told = [
        entry["computeMs"] for entry in json.loads((FIXTURES / "trtexec-times.json").read_text())
    ]
    assert row["latency_us"] == [round(1000 * value, 3) for value in told]
    assert row["median_us"] == 417.5  # microseconds; the file has milliseconds
    assert row["latency_count"] == 12
    assert row["throughput_fps"] == 2360.31
    assert row["detail_ops"][1] == "/stem/Conv + /stem_act/Relu"
    assert row["detail_us"][0][1] == 41.679
    assert len(row["detail_us"][0]) == len(row["detail_ops"]) == 12
    assert row["detail_count"] == 2400
    assert sum(row["detail_us"][0]) == pytest.approx(329, abs=1)  # below the latency of 417.5
    assert runtime.versions() == {"tensorrt": "8.5.2", "gpu": "Orin"}
    json.dumps(row, allow_nan=False)
    program.close()
    assert sorted(os.listdir(tmp_path / "scratch")) == ["weights.bin"]
    assert not row.get("remarks")  # a row with remarks would not be kept


def test_the_call(tmp_path, trtexec):
    runtime = made(tmp_path)
    runtime.load("net.onnx", b"onnx").alone(2.5)
    call = trtexec()[-1]
    onnx = next(item for item in call if item.startswith("--onnx="))
    assert os.path.dirname(onnx.partition("=")[2]) == str(tmp_path / "scratch")
    assert {"--fp16", "--useSpinWait", "--noDataTransfers", "--separateProfileRun", "--duration=3",
            "--warmUp=500"} < set(call)  # fmt: skip
    assert any(item.startswith("--timingCacheFile=") for item in call)


@pytest.mark.parametrize(
    ("precision", "has", "has_not"),
    [("fp32", {"--noTF32"}, {"--fp16"}), ("tf32", set(), {"--noTF32", "--fp16"}),
     ("int8", {"--int8", "--fp16"}, {"--noTF32"})],
)  # fmt: skip
def test_precisions(tmp_path, trtexec, precision, has, has_not):
    made(tmp_path, precision=precision).load("net.onnx", b"onnx").alone(1)
    call = set(trtexec()[-1])
    assert has <= call
    assert not has_not & call


def test_options_that_a_version_lacks_are_left_out(tmp_path, trtexec, monkeypatch):
    monkeypatch.setenv("STAND_IN_HIDES", "--separateProfileRun")
    row = made(tmp_path).load("net.onnx", b"onnx").alone(1)
    assert not any("rofile" in item for item in trtexec()[-1])
    assert "detail_ops" not in row  # timing layers would change the latency
    assert row["median_us"] == 417.5


@pytest.mark.parametrize(
    ("changes", "environment", "words"),
    [
        ({"precision": "fp4"}, {}, "not fp4"),
        ({"precision": "bf16"}, {}, "does not know --bf16"),
        ({}, {"STAND_IN_HIDES": "--exportTimes"}, "does not know --exportTimes"),
        ({}, {"STAND_IN": "library"}, "libnvinfer.so.8"),
        ({"folder": "/proc/nothing"}, {}, "cannot be made"),
    ],
)
def test_unavailable(tmp_path, trtexec, monkeypatch, changes, environment, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeUnavailable, match=words):
        made(tmp_path, **changes)


def test_not_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(board, "PLACES", (str(tmp_path / "trtexec"),))
    with pytest.raises(RuntimeUnavailable, match="apt install tensorrt"):
        made(tmp_path)


def test_found_where_nvidia_puts_it(tmp_path, trtexec, monkeypatch):
    place = str(tmp_path / "bin" / "trtexec")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(board, "PLACES", ("/nowhere/trtexec", place))
    assert board.find_trtexec() == place


@pytest.mark.parametrize(
    ("trouble", "words"),
    [("fails", "no memory; Engine could not"), ("crashes", "exit code -11"),
     ("silent", "did not write"), ("cut", "did not write"), ("other", "not what trtexec exports"),
     ("keys", "without computeMs"), ("nan", "did not write"), ("warm", "after the warm-up")],
)  # fmt: skip
def test_what_trtexec_cannot_do_is_an_error_with_its_words(
    tmp_path, trtexec, monkeypatch, trouble, words
):
    runtime = made(tmp_path)
    monkeypatch.setenv("STAND_IN", trouble)
    program = runtime.load("net.onnx", b"onnx")
    with pytest.raises(ProgramError, match=words):
        program.alone(1)
    program.close()
    assert sorted(os.listdir(tmp_path / "scratch")) == ["weights.bin"]


def test_a_build_that_never_ends_is_ended(tmp_path, trtexec, monkeypatch):
    monkeypatch.setattr(board, "BUILD_S", 1.0)
    monkeypatch.setenv("STAND_IN", "slow")
    begin = time.monotonic()
    runtime = made(tmp_path)
    with pytest.raises(ProgramError, match="took longer"):
        runtime.load("net.onnx", b"onnx").alone(0.01)
    assert time.monotonic() - begin < 30


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prctl")
def test_trtexec_ends_with_the_process_that_measures(tmp_path, trtexec, monkeypatch):
    monkeypatch.setenv("STAND_IN", "slow")
    code = (
        "import sys; from predictor.profiling.runtimes import find; "
        f"find('tensorrt')({settings(tmp_path)!r}).load('net.onnx', b'onnx').alone(1)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=FIXTURES.parents[2])
    until = time.monotonic() + 60
    started: list[Path] = []
    while not (started and started[0].read_text()) and time.monotonic() < until:
        time.sleep(0.05)
        started = list((tmp_path / "scratch").glob("*.started"))
    other = int(started[0].read_text())
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    os.kill(other, signal.SIGKILL)
    pytest.fail("trtexec goes on without its parent")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # x", "8.5.2"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v7103] # x", "7.1.3"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b17] # x", "10.3.0"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v101602] [b10]", "10.16.2"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v11.1.0.106] [b48] # x", "11.1.0.106"),
        ("[TensorRT v8601]\n[03/28/2024-07:10:12] [I] TensorRT version: 8.6.3\n", "8.6.3"),
        ("nothing", None),
    ],
)
def test_versions(text, version):
    assert board.version_of(text) == version


def test_warm_up_of_old_versions_is_left_out():
    document = [{"startComputeMs": at, "computeMs": ms}
                for at, ms in ((10.0, 9.0), (499.0, 8.0), (500.0, 2.0), (502.5, 2.5))]  # fmt: skip
    assert board.latencies(document) == [2.0, 2.5]
    assert board.latencies([{"computeMs": 2.0}]) == [2.0]


def test_many_latencies_are_thinned_evenly():
    values = [float(value) for value in range(12345)]
    kept = board.thinned(values)
    assert len(kept) == board.MOST_KEPT
    assert kept[0] == 0
    assert kept[-1] > 12300
    assert board.thinned(values[:1000]) == values[:1000]


def test_weights_are_sane_and_written_once(tmp_path):
    import array

    path = tmp_path / "weights.bin"
    size = 4 * (3 * board.BLOCK + 17)
    board.write_weights(str(path), size)
    numbers = array.array("f", path.read_bytes())
    assert len(numbers) == 3 * board.BLOCK + 17
    assert max(numbers) <= 0.0501
    assert min(numbers) >= -0.0501
    assert abs(sum(numbers) / len(numbers)) < 1e-3
    before = path.stat().st_mtime_ns
    board.write_weights(str(path), size)
    assert path.stat().st_mtime_ns == before


def test_no_room_for_weights(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(board.os, "replace", full)
    with pytest.raises(RuntimeUnavailable, match="No space left"):
        board.write_weights(str(tmp_path / "weights.bin"), 100)
    assert os.listdir(tmp_path) == []


def test_layers_of_a_journal_are_kernels_of_its_graph():
    from predictor.frontends.load import load_graph
    from predictor.kernels.lowering import prepare
    from predictor.profiling.matching import layer_owners

    graph = load_graph(FIXTURES / "small.yaml")
    kernels = prepare(graph, "fp16", "tensorrt").kernels
    _, names, _ = board.layers(json.loads((FIXTURES / "trtexec-profile.json").read_text()))
    owners = layer_owners(kernels, graph, names)
    assert [kernels[at].name if at is not None else None for at in owners[:4]] == [
        None, "stem", "pool", "layer1.0.conv1"]  # fmt: skip
    outputs = [name.replace("/Conv", "/Conv_output_0").replace("/Relu", "/Relu_output_0")
               for name in names]  # fmt: skip
    assert layer_owners(kernels, graph, outputs) == owners
