"""``profile import``: what each format's files hold, what is refused, what is kept and how often."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from predictor.commands.profile_import import command
from predictor.errors import ConfigError
from predictor.frontends.load import load_graph
from predictor.kernels.lowering import prepare
from predictor.latency.table import LookupTable, signature
from predictor.profiling import importing
from predictor.profiling.import_networks import Target
from predictor.profiling.imported import measurements_folder, rows_of
from predictor.profiling.importers import MS, milliseconds, quantile, spread
from predictor.profiling.importing import import_files, read_file
from predictor.profiling.matching import path_of

FIXTURES = Path(__file__).parent / "fixtures"
SMALL = str(FIXTURES / "small.yaml")
FP16 = Target("my-board", precision="fp16", model=SMALL)
FP32 = Target("my-board", precision="fp32", model=SMALL)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def fixture(name):
    return FIXTURES / name


def changed(folder, name, change):
    """A copy of a JSON fixture, altered."""
    document = json.loads(fixture(name).read_text())
    path = folder / name
    path.write_text(json.dumps(change(document) or document))
    return path


def replaced(folder, name, *pairs):
    """A copy of a text fixture with words replaced; each must stand in it."""
    text = fixture(name).read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / name
    path.write_text(text)
    return path


def nothing_is_written(home):
    return not home.exists() or not [p for p in home.rglob("*") if p.is_file()]


# --- what the files say ----------------------------------------------------------------------------


def test_units_by_name():
    for unit, factor in (("ns", 1e-6), ("us", 1e-3), ("ms", 1.0), ("s", 1e3)):
        assert MS[unit] == factor
        assert milliseconds(250, unit, "x", "file") == pytest.approx(250 * factor, rel=1e-12)


def test_trtexec_times_are_milliseconds_on_the_device():
    found = read_file(fixture("trtexec-times.json"))
    assert (found.format, found.runtime) == ("trtexec", "tensorrt")
    # computeMs of the file, in order; latencyMs (0.4378 and on) holds the copies too
    told = [0.412, 0.419, 0.415, 0.422, 0.418, 0.614, 0.421, 0.417, 0.413, 0.42, 0.416, 0.412]
    assert found.latency.n == 12
    assert found.latency.median_ms == found.latency.latency_ms == pytest.approx(0.4175)
    assert found.latency.p10_ms == pytest.approx(quantile(sorted(told), 0.1))
    assert found.latency.p90_ms == pytest.approx(quantile(sorted(told), 0.9))
    assert found.latency.p90_ms < 0.43
    assert found.layers == ()


def test_times_of_old_versions_hold_the_warm_up():
    found = read_file(fixture("trtexec-times-7.json"))
    assert found.latency.n == 14  # of 24; ten began in the first 200 ms
    assert "10 of 24" in found.remarks[0]
    assert found.latency.latency_ms == pytest.approx(0.4165, abs=1e-4)


def test_trtexec_profile():
    found = read_file(fixture("trtexec-profile.json"))
    assert found.latency is None
    assert len(found.layers) == 12
    stem = found.layers[1]
    assert stem.name == "/stem/Conv + /stem_act/Relu"
    assert stem.parts == ("/stem/Conv", "/stem_act/Relu")
    assert (stem.latency_ms, stem.repeats) == (0.041679, 2400)  # the median; timeMs is the total
    assert sum(layer.latency_ms for layer in found.layers) == pytest.approx(0.329, abs=5e-4)


def test_onnxruntime_profile_is_microseconds_and_the_first_run_stands_apart():
    found = read_file(fixture("onnxruntime.json"))
    assert (found.format, found.runtime, found.precision) == ("onnxruntime",) * 2 + ("fp32",)
    assert found.latency.first_run_ms == pytest.approx(0.721)
    assert found.latency.n == 4  # 377, 382, 372, 390 us
    assert found.latency.latency_ms == pytest.approx(0.3795)
    assert found.latency.p10_ms is None  # four runs have no percentiles
    conv = found.layers[0]
    assert (conv.name, conv.type) == ("/stem_act/Relu_output_0_nchwc", "Conv")
    assert conv.latency_ms == pytest.approx(0.0615)  # 61, 62, 60, 63 us; 122 us in the first run
    assert conv.repeats == 4
    assert conv.spread == pytest.approx(spread([61, 62, 60, 63]))


def test_tflite_log_is_microseconds_and_its_table_milliseconds():
    found = read_file(fixture("tflite.log"))
    assert (found.format, found.runtime) == ("tflite", "tflite")
    assert found.latency.latency_ms == pytest.approx(8.48172)
    assert found.latency.first_run_ms == pytest.approx(21.437)
    assert (found.latency.n, found.latency.median_ms) == (118, None)
    assert len(found.layers) == 14
    assert found.layers[0].type == "CONV_2D"
    assert found.layers[0].latency_ms == pytest.approx(1.204)
    assert found.layers[0].repeats == 118
    assert sum(layer.latency_ms for layer in found.layers) == pytest.approx(8.45, abs=0.01)


def test_tflite_csv_without_the_column_start():
    found = read_file(fixture("tflite-profile.csv"))
    assert found.format == "tflite"
    assert found.latency is None
    assert [layer.latency_ms for layer in found.layers[:2]] == [1.204, 0.311]
    assert {layer.repeats for layer in found.layers} == {118}


def test_tflite_of_a_phone_with_a_delegate():
    """Lines of logcat, a median, names with commas, rows that are called several times."""
    found = read_file(fixture("tflite-delegate.log"))
    assert found.latency.latency_ms == found.latency.median_ms == pytest.approx(1.59)
    assert found.latency.n == 400
    depthwise = found.layers[2]
    assert depthwise.type == "Convolution (NHWC, QC8) DWConv"
    assert depthwise.latency_ms == pytest.approx(13 * 0.051)
    assert "delegate" in depthwise.why


def test_delegates_that_stand_beside_their_operators_count_once(tmp_path):
    """Older versions list a delegate and, after it, what it ran: the same time twice."""
    header = "[node type] [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]"
    lines = [
        "Operator-wise Profiling Info for Regular Benchmark Runs:",
        "============================== Run Order ==============================", header,
        "TfLiteXNNPackDelegate 4.1 4.000 80.000% 80.000% 0.000 1 [Identity]:9",
        "DelegateOpInvoke 3.1 3.000 60.000% 140.000% 0.000 1 Delegate/Conv:0",
        "DelegateOpInvoke 1.1 1.000 20.000% 160.000% 0.000 1 Delegate/Add:1",
        "SOFTMAX 1.1 1.000 20.000% 180.000% 0.000 1 [out]:10", "",
        "Timings (microseconds): count=50 first=5100 curr=5000 min=4900 max=5100 avg=5000 std=9",
    ]  # fmt: skip
    path = tmp_path / "delegate.log"
    path.write_text("\n".join(lines) + "\n")
    found = read_file(path)
    assert [layer.type for layer in found.layers] == ["TfLiteXNNPackDelegate", "SOFTMAX"]
    assert sum(layer.latency_ms for layer in found.layers) == pytest.approx(5.0)


def test_the_log_of_the_first_versions(tmp_path):
    path = tmp_path / "old.log"
    path.write_text(
        "Average inference timings in us: Warmup: 85504, Init: 3400, Inference: 82000.5\n"
    )
    found = read_file(path)
    assert found.latency.latency_ms == pytest.approx(82.0005)


def test_plain_table():
    found = read_file(fixture("plain.csv"))
    assert [row.latency.latency_ms for row in found.rows] == [3.21, 7.94, 2.5]
    assert [row.batch for row in found.rows] == ["1", "1", "4"]
    assert [row.latency.n for row in found.rows] == [100, 100, 0]
    assert found.rows[2].line == 4


def test_operators_inside_loops_count_once(tmp_path):
    def change(events):
        for event in [e for e in events if e["name"].startswith("/stem_act")]:
            loop = dict(event, name="/loop_kernel_time", args={"op_name": "Loop"})
            events.append({**loop, "ts": event["ts"], "dur": event["dur"] + 1})

    before = read_file(fixture("onnxruntime.json"))
    after = read_file(changed(tmp_path, "onnxruntime.json", change))
    names = [layer.name for layer in after.layers]
    assert "/loop" in names
    assert "/stem_act/Relu_output_0_nchwc" not in names
    assert len(names) == len(before.layers)


# --- units that slip -------------------------------------------------------------------------------


def times(key, factor, which=slice(3, 4)):
    def change(document):
        for entry in document[which]:
            entry[key] *= factor

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("trtexec-times.json", times("computeMs", 1000)),
        ("trtexec-times.json", times("computeMs", 1e-3)),
        ("trtexec-times.json", times("latencyMs", 1e-3)),
        ("trtexec-times.json", times("computeMs", 1000, slice(None))),
        ("trtexec-profile.json", times("averageMs", 1000)),
        ("trtexec-profile.json", times("averageMs", 1e-3, slice(1, 12))),
        ("trtexec-profile.json", times("timeMs", 1000)),
        ("trtexec-profile.json", times("medianMs", 1000)),
        ("trtexec-profile.json", times("percentage", 0.01, slice(1, None))),
        ("onnxruntime.json", lambda d: [e.update(dur=1000 * e["dur"])
                                        for e in d if e["cat"] == "Node"] and None),
        ("onnxruntime.json", lambda d: [e.update(dur=max(1, e["dur"] // 1000)) for e in d
                                        if e["name"] == "model_run"] and None),
    ],
)  # fmt: skip
def test_a_unit_that_slips_is_an_error(tmp_path, name, change):
    with pytest.raises(ConfigError, match=r"unit|altered|add up"):
        read_file(changed(tmp_path, name, change))


def test_layers_and_the_whole_in_different_units(tmp_path):
    def change(document):
        for entry in document[1:]:
            for key in ("timeMs", "averageMs", "medianMs"):
                entry[key] *= 1000

    layers = changed(tmp_path, "trtexec-profile.json", change)
    with pytest.raises(ConfigError, match="different units"):
        import_files([fixture("trtexec-times.json"), layers], FP16)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("   1.204", "1204.000"),  # one row in microseconds
        ("Inference (avg): 8481.72", "Inference (avg): 8.48172"),  # the log in milliseconds
        ("timings in us", "timings in ms"),
        ("[avg ms]", "[avg us]"),
    ],
)
def test_units_of_benchmark_model(tmp_path, old, new):
    text = fixture("tflite.log").read_text()
    assert old in text
    path = tmp_path / "tflite.log"
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=r"tflite\.log"):
        read_file(path)


def test_the_whole_table_of_benchmark_model_in_microseconds(tmp_path):
    """Shares still fit; the latency of the log does not."""
    text = fixture("tflite.log").read_text()
    scaled = re.sub(r"(\s)(\d\.\d{3})(\s+\d+\.\d{3}%)",
                    lambda m: f"{m[1]}{1000 * float(m[2]):.3f}{m[3]}", text)  # fmt: skip
    path = tmp_path / "tflite.log"
    path.write_text(scaled)
    with pytest.raises(ConfigError, match="different units"):
        read_file(path)


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("model,latency_us", "timm:resnet18,4810", "latency_us.*milliseconds"),
        ("model,latency_ns", "timm:resnet18,4810000", "latency_ns.*milliseconds"),
        ("model,latency", "timm:resnet18,4.81", "latency_ms"),
        ("model,latency_ms", "timm:resnet18,4.81ms", "no unit"),
        ("model,latency_ms", "timm:resnet18,4810us", "no unit"),
        ("model,latency_ms,median_ms", "timm:resnet18,4.81,4810", "one unit"),
        ("model,latency_ms,p10_ms,p90_ms", "timm:resnet18,4.81,4.9,4.7", "one unit"),
    ],
)
def test_units_of_plain_tables(tmp_path, header, row, words):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n{row}\n")
    with pytest.raises(ConfigError, match=words):
        read_file(path)


# --- what is refused -------------------------------------------------------------------------------

BAD = (-1.0, float("nan"), float("inf"), None, "4.2", True, [4.2], 10**400)


@pytest.mark.parametrize("value", [*BAD, 0, 0.0])
@pytest.mark.parametrize("name", ["trtexec-times.json", "onnxruntime.json"])
def test_times_that_cannot_be(tmp_path, name, value):
    def change(document):
        if name.startswith("trt"):
            document[2]["computeMs"] = value
        else:
            next(e for e in document if e["name"] == "model_run")["dur"] = value

    with pytest.raises(ConfigError, match=name):
        read_file(changed(tmp_path, name, change))


@pytest.mark.parametrize("value", [*BAD])
def test_layer_times_that_cannot_be(tmp_path, value):
    def profile(document):
        document[2]["averageMs"] = document[2]["timeMs"] = value

    def node(document):
        next(e for e in document if e["cat"] == "Node")["dur"] = value

    for name, change in (("trtexec-profile.json", profile), ("onnxruntime.json", node)):
        with pytest.raises(ConfigError, match=name):
            read_file(changed(tmp_path, name, change))


@pytest.mark.parametrize("value", ["-3", "0", "nan", "inf", "1e400", "4,5", "fast", "", "1e-9"])
def test_latencies_of_a_table_that_cannot_be(tmp_path, value):
    path = tmp_path / "t.csv"
    path.write_text(f"model,latency_ms\ntimm:resnet18,4.8\ntimm:resnet34,{value}\n")
    with pytest.raises(ConfigError, match=r"t\.csv:3"):
        read_file(path)


def test_zero_is_a_layer_that_the_clock_cannot_resolve():
    """trtexec prints 0 for layers that do nothing, benchmark_model for those under half a us."""
    found = import_files([fixture("trtexec-profile.json")], FP16)
    match = next(m for m in found.matches if not m.layer.latency_ms)
    assert match.kernel is None
    assert "clock" in match.why


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"), ("  \n", "empty"), ("[]", "known kind|empty"), ("{}", "known kind"),
        ("[1, 2]", "known kind"), ('{"a": 1}', "known kind"), ("[[[[", "cut"), ("hello", "known"),
        ("[" * 100_000, "nested|cut"), ("\x00\x01", "known|UTF-8"), ('[{"count": 3}]', "no layer"),
        ('[{"count": 0}, {"name": "a", "averageMs": 1}]', "count"),
        ('[{"cat": "Node"}]', "model_run"), ('{"Layers": []}', "Layers"),
        ("[" + "1" * 5000 + "]", "digits|known kind"),
        ("=== Performance summary ===\n", "--exportTimes"),
        ("a;b\n1;2\n", "known"), ("model;latency_ms\nx;1\n", "commas"),
        ("model,latency_ms\n", "no row"), ("model,latency_ms\nx,1", "cut"),
        ("model,latency_ms,model\nx,1,y\n", "twice"), ("model,latency_ms\nx\n", "cells"),
        ("model,latency_ms\nx,1,2\n", "3 cells"), ('model,latency_ms\n"x,1\n', "CSV"),
        ("model,latency_ms,batch\nx,1,0\n", "batch"), ("model,latency_ms,batch\nx,1,1.5\n", "batch"),
        ("model,latency_ms,resolution\nx,1,big\n", "resolution"), ("model,latency_ms\n,1\n", "empty"),
    ],
)  # fmt: skip
def test_other_files(tmp_path, text, words):
    path = tmp_path / "some-file"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_file(path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b'[{"count": 3}, {"name": "\xff\xfe"}]')
    with pytest.raises(ConfigError, match="UTF-8"):
        read_file(path)
    path.write_bytes("model,latency_ms\n".encode("utf-16"))
    with pytest.raises(ConfigError, match="UTF-16"):
        read_file(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(tmp_path)


def test_a_huge_file_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "LARGEST_FILE", 1000)
    with pytest.raises(ConfigError, match="larger than"):
        read_file(fixture("onnxruntime.json"))


@pytest.mark.parametrize("name", ["trtexec-times.json", "trtexec-profile.json", "trtexec-layers.json",
                                  "onnxruntime.json", "tflite-profile.csv", "plain.csv"])  # fmt: skip
def test_every_truncation_is_told(tmp_path, name):
    """Cut anywhere, a file is refused: none of these formats is whole before its end."""
    data = fixture(name).read_bytes()
    whole = read_file(fixture(name))
    path = tmp_path / name
    step = max(1, len(data) // 150)
    for cut in range(0, len(data.rstrip()), step):
        path.write_bytes(data[:cut])
        try:
            found = read_file(path)
        except ConfigError:
            continue
        if name == "plain.csv":  # a table that ends between two rows cannot be told
            assert data[:cut].endswith(b"\n")
            assert found.rows == whole.rows[: len(found.rows)]
        else:  # what follows the times and their count is not needed
            assert name == "tflite-profile.csv"
            assert found.layers == whole.layers


def test_missing_layers_are_told(tmp_path):
    with pytest.raises(ConfigError, match="add up"):
        read_file(changed(tmp_path, "trtexec-profile.json", lambda d: d[:6] + d[7:]))
    lines = fixture("tflite.log").read_text().splitlines()
    row = next(i for i, line in enumerate(lines) if "layer1.0/conv1" in line)
    path = tmp_path / "tflite.log"
    path.write_text("\n".join(lines[:row] + lines[row + 1 :]) + "\n")
    with pytest.raises(ConfigError, match="missing"):
        read_file(path)


def test_inferences_that_overlap_were_not_timed_alone(tmp_path):
    def change(events):
        runs = [e for e in events if e["name"] == "model_run"]
        runs[2]["ts"] = runs[1]["ts"] + 100

    with pytest.raises(ConfigError, match="overlap"):
        read_file(changed(tmp_path, "onnxruntime.json", change))


def test_two_runs_in_one_log(tmp_path):
    path = tmp_path / "two.log"
    path.write_text(2 * fixture("tflite.log").read_text())
    with pytest.raises(ConfigError, match="a second run"):
        read_file(path)


def test_one_run_of_onnxruntime_is_not_warm(tmp_path):
    def change(events):
        runs = [e for e in events if e["name"] == "model_run"]
        return [e for e in events if e["ts"] < runs[1]["ts"]]

    with pytest.raises(ConfigError, match="at least twice"):
        read_file(changed(tmp_path, "onnxruntime.json", change))


def test_operators_of_a_gpu_are_started_not_timed(tmp_path):
    def change(events):
        for event in events:
            if event["cat"] == "Node":
                event["args"]["provider"] = "CUDAExecutionProvider"

    found = import_files([changed(tmp_path, "onnxruntime.json", change)], Target("b", model=SMALL))
    assert found.mapped_ms == 0
    assert all("CUDA" in match.why for match in found.matches)


# --- what must be said -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "target", "words"),
    [
        (["trtexec-times.json"], Target("b", precision="fp16"), "--model"),
        (["trtexec-times.json"], Target("b", model=SMALL), "--precision"),
        (["trtexec-times.json"], Target("b", precision="fp17", model=SMALL), "fp17"),
        (["trtexec-times.json"], Target("b", runtime="eager", precision="fp16", model=SMALL), "--runtime"),
        (["trtexec-times.json"], Target("b", precision="fp16", model="nope.onnx"), "nope.onnx"),
        (["trtexec-times.json"], Target("b", precision="fp16", model="resnet"), "no model"),
        (["trtexec-times.json"], Target("../b", precision="fp16", model=SMALL), "--name"),
        (["trtexec-times.json"], Target("", precision="fp16", model=SMALL), "--name"),
        (["trtexec-times.json", "onnxruntime.json"], FP16, "several runtimes"),
        (["trtexec-layers.json"], FP16, "--exportProfile"),
        (["plain.csv"], Target("my-board"), "--runtime"),
        (["plain.csv"], Target("my-board", runtime="tensorrtt"), "tensorrtt"),
        (["plain.csv"], Target("my-board", runtime="tensorrt", precision="int8"), "leave one"),
        (["plain.csv"], Target("my-board", runtime="tensorrt", model=SMALL), "leave out"),
    ],
)  # fmt: skip
def test_what_is_missing_or_said_twice(home, files, target, words):
    with pytest.raises(ConfigError, match=words):
        import_files([fixture(name) for name in files], target)
    assert nothing_is_written(home)


def test_nothing_is_written_unless_every_file_is_understood(home, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text("[")
    with pytest.raises(ConfigError):
        import_files([fixture("trtexec-times.json"), fixture("trtexec-profile.json"), bad], FP16)
    table = tmp_path / "t.csv"
    table.write_text("model,latency_ms,precision\nofa:ks=3,4.8,fp16\nresnt,4.9,fp16\n")
    with pytest.raises(ConfigError, match=r"t\.csv:3"):
        import_files([table], Target("b", runtime="tensorrt"))
    assert nothing_is_written(home)


# --- kernels ---------------------------------------------------------------------------------------


def kernels(precision="fp16", runtime="tensorrt", layout="nchw"):
    return {k.name: k for k in prepare(load_graph(SMALL), precision, runtime, layout).kernels}


def test_layers_of_tensorrt_are_kernels_by_their_names():
    found = import_files([fixture("trtexec-profile.json")], FP16)
    by_layer = {match.layer.name: match for match in found.matches}
    mapped = {name: match.kernel.name for name, match in by_layer.items() if match.kernel}
    add = (
        "/layer1/layer1.{0}/conv2/Conv + /layer1/layer1.{0}/add/Add + /layer1/layer1.{0}/act2/Relu"
    )
    assert mapped == {
        "/stem/Conv + /stem_act/Relu": "stem", "/pool/MaxPool": "pool",
        "/layer1/layer1.0/conv1/Conv + /layer1/layer1.0/act1/Relu": "layer1.0.conv1",
        add.format(0): "layer1.0.conv2", add.format(1): "layer1.1.conv2",
        "/layer1/layer1.1/conv1/Conv + /layer1/layer1.1/act1/Relu": "layer1.1.conv1",
        "/squeeze/GlobalAveragePool": "squeeze", "/head/Gemm": "head",
    }  # fmt: skip
    assert "several branches" in by_layer["/left/Conv || /right/Conv"].why
    assert "layout" in next(m.why for n, m in by_layer.items() if n.startswith("Reformatting"))
    assert "one kernel" in by_layer["PWN(/joined/Add)"].why  # ours joins it to a convolution
    assert found.mapped_ms / found.layers_ms == pytest.approx(0.793, abs=1e-3)


def test_the_table_is_a_lookup_table():
    import_files([fixture("trtexec-profile.json")], FP16)
    folder = measurements_folder("my-board", "tensorrt", "fp16")
    table = LookupTable.from_csv((folder / "table.csv").read_text())
    own = kernels()
    entry = table[signature(own["stem"])]
    assert (entry.latency_ms, entry.repeats, entry.spread) == (0.041679, 2400, 0.05)
    # both blocks hold the same kernels, so their times are pooled
    pair = [0.0437 * 0.99, 0.0441 * 0.99]
    assert table[signature(own["layer1.0.conv2"])].latency_ms == pytest.approx(sum(pair) / 2)
    assert len(table) == 6
    with open(folder / "table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["layer"] == "/stem/Conv + /stem_act/Relu"
    assert (rows[0]["kernel"], rows[0]["model"]) == ("conv", SMALL)


def test_another_precision_has_other_kernels():
    import_files([fixture("trtexec-profile.json")], FP32)
    folder = measurements_folder("my-board", "tensorrt", "fp32")
    table = LookupTable.from_csv((folder / "table.csv").read_text())
    assert signature(kernels("fp32")["stem"]) in table
    assert signature(kernels("fp16")["stem"]) not in table


def test_layer_info_names_the_operators_and_checks_the_shapes(tmp_path):
    def renamed(document):
        names = {"Layers": "Name", None: "name"}
        key = names["Layers"] if isinstance(document, dict) else names[None]
        for entry in document["Layers"] if isinstance(document, dict) else document[1:]:
            if entry[key] == "/pool/MaxPool":
                entry[key] = "__myl_Max_myl0_3"

    layers = changed(tmp_path, "trtexec-profile.json", renamed)
    alone = import_files([layers], Target("one", precision="fp16", model=SMALL))
    info = changed(tmp_path, "trtexec-layers.json", renamed)
    both = import_files([layers, info], Target("two", precision="fp16", model=SMALL))
    count = [sum(m.kernel is not None for m in found.matches) for found in (alone, both)]
    assert count == [7, 8]
    larger = Target("three", precision="fp16", model=SMALL, resolution=128)
    found = import_files([layers, info], larger)
    why = {m.layer.name: m.why for m in found.matches}
    assert "another shape" in why["/stem/Conv + /stem_act/Relu"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/stem/Conv", "one kernel"),  # its activation runs elsewhere: another kernel than ours
        ("/stem/Conv + /stem_act/Relu + /pool/MaxPool", "one kernel"),
        ("/stem/Conv + /stem_act/Sigmoid", "name"),
        ("/stem/Gemm + /stem_act/Relu", "name"),
        ("/other/Conv", "name"),
        ("{ForeignNode[/stem/Conv.../head/Gemm]}", "compiled"),
        ("__mye165_0_myl9_0", "compiled"),
        ("stem", "one kernel"),
        ("", ""),
    ],
)
def test_what_is_not_certain_is_not_mapped(tmp_path, name, why):
    def change(document):
        document[2]["name"] = name

    path = changed(tmp_path, "trtexec-profile.json", change)
    if not name:
        with pytest.raises(ConfigError, match="no name"):
            read_file(path)
        return
    match = import_files([path], FP16).matches[1]
    assert match.kernel is None
    assert why in match.why


def test_two_layers_cannot_be_one_kernel(tmp_path):
    def change(document):
        document[4]["name"] = document[2]["name"]

    found = import_files([changed(tmp_path, "trtexec-profile.json", change)], FP16)
    assert "another layer" in found.matches[1].why
    assert "another layer" in found.matches[3].why


@pytest.mark.parametrize("name", ["tflite.log", "tflite-profile.csv"])
def test_layers_of_tflite(name):
    """Names in front of which the network's own stands; the fused operators are joined by ';'."""
    found = import_files([fixture(name)], FP32)
    mapped = [m.kernel.name for m in found.matches if m.kernel]
    assert mapped == ["stem", "pool", "layer1.0.conv1", "layer1.0.conv2", "layer1.0.add",
                      "layer1.1.conv1", "layer1.1.conv2", "layer1.1.add", "left", "right",
                      "squeeze"]  # fmt: skip
    table = LookupTable.from_csv(
        (measurements_folder("my-board", "tflite", "fp32") / "table.csv").read_text()
    )
    stem = kernels("fp32", "tflite", "nhwc")["stem"]
    assert table[signature(stem)].latency_ms == pytest.approx(1.204)


def test_nodes_of_onnxruntime_are_kernels_by_their_shapes():
    """The fixture's nodes are those of a CPU: an addition and an activation in the convolution."""
    found = import_files([fixture("onnxruntime.json")], Target("my-board", model=SMALL))
    mapped = {m.layer.name: m.kernel.name for m in found.matches if m.kernel}
    end = "_output_0_nchwc"
    convolutions = {
        f"/stem_act/Relu{end}": "stem",
        f"/layer1/layer1.0/act1/Relu{end}": "layer1.0.conv1",
        f"/layer1/layer1.0/add/Add{end}": "layer1.0.conv2",
        f"/layer1/layer1.1/act1/Relu{end}": "layer1.1.conv1",
        f"/layer1/layer1.1/add/Add{end}": "layer1.1.conv2",
        f"/pool/MaxPool{end}": "pool", "/head/Gemm": "head",
    }  # fmt: skip
    assert convolutions.items() <= mapped.items()
    # one of the two branches takes the addition, the other runs before it
    added = next(m.kernel for m in found.matches if m.layer.name == f"/joined/Add{end}")
    assert [op.name for op in added.ops][1:] == ["joined"]
    assert {mapped[f"/right/Conv{end}"], added.name} == {"left", "right"}
    assert found.mapped_ms > 0.95 * found.layers_ms
    folder = measurements_folder("my-board", "onnxruntime", "fp32")
    table = LookupTable.from_csv((folder / "table.csv").read_text())
    own = kernels("fp32", "onnxruntime")
    assert table[signature(own["stem"])].latency_ms == pytest.approx(0.0615)
    assert table[signature(own["stem"])].repeats == 4


@pytest.mark.parametrize("size", [{"batch": 2}, {"resolution": 96}])
def test_nodes_of_another_size_are_no_kernels(size):
    target = Target("my-board", model=SMALL, **size)
    found = import_files([fixture("onnxruntime.json")], target)
    assert not [m for m in found.matches if m.kernel and m.layer.type == "Conv"]
    assert any("same?" in m.why for m in found.matches)


def test_nodes_without_shapes_are_not_mapped(tmp_path):
    def change(events):
        for event in events:
            event["args"].pop("input_type_shape", None)

    path = changed(tmp_path, "onnxruntime.json", change)
    found = import_files([path], Target("my-board", precision="fp32", model=SMALL))
    assert found.mapped_ms == 0
    assert {m.why for m in found.matches} == {"the profile does not tell its shapes"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_real_profile_of_onnxruntime(tmp_path):
    """Exported, run and profiled here: most of the time is kernels of the module."""
    torch = pytest.importorskip("torch")
    ort = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from predictor.frontends.onnx_export import export_whole

    (tmp_path / "net.py").write_text(NET)
    space = {}
    exec(NET, space)
    path = tmp_path / "net.onnx"
    onnx.save(export_whole(space["build"]().eval(), (1, 3, 96, 96)), str(path))
    options = ort.SessionOptions()
    options.enable_profiling, options.intra_op_num_threads = True, 1
    options.profile_file_prefix = str(tmp_path / "profile")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for _ in range(8):
        session.run(None, {session.get_inputs()[0].name: torch.zeros(1, 3, 96, 96).numpy()})
    profile = session.end_profiling()
    config = tmp_path / "net.yaml"
    config.write_text('model: "python:net.py:build"\ninputs: [1, 3, 96, 96]\n')
    for index, model in enumerate((str(path), str(config))):
        found = import_files([profile], Target(f"b{index}", model=model))
        assert found.networks[0].precision == "fp32"
        assert found.networks[0].latency.n == 7
        assert found.networks[0].latency.first_run_ms > 0
        assert found.mapped_ms > 0.6 * found.layers_ms, [
            (m.layer.name, m.why) for m in found.matches
        ]
        assert found.layers_ms < 3 * found.networks[0].latency.latency_ms
        for match in found.matches:
            if match.kernel is not None and match.kernel.kind == "conv":
                shapes = [
                    next(iter(item.values())) for item in match.layer.node["input_type_shape"]
                ]
                assert math.prod(shapes[1]) >= match.kernel.ops[0].weights[0].numel


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("/layer1/layer1.0/conv1/Conv", ("layer1.0.conv1", "Conv")),
        ("/features/features.0/features.0.0/Conv_3", ("features.0.0", "Conv")),
        ("/blocks.0/attn/MatMul_1", ("blocks.0.attn", "MatMul")),
        ("/Add", ("", "Add")), ("Conv_12", ("", "Conv")),
    ],
)  # fmt: skip
def test_paths_of_exported_names(part, expected):
    assert path_of(part) == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_names_that_torch_exports(tmp_path):
    """A real export: names of its ONNX nodes against the module's graph and the file's own."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")

    source = tmp_path / "net.py"
    source.write_text(NET)
    space = {}
    exec(compile(NET, str(source), "exec"), space)
    module = space["build"]().eval()
    path = tmp_path / "net.onnx"
    torch.onnx.export(module, torch.randn(1, 3, 32, 32), str(path), dynamo=False)
    import onnx

    model = onnx.load(str(path))
    made = {out: node.name for node in model.graph.node for out in node.output}
    layers, seen = [], set()
    for node in model.graph.node:  # what TensorRT fuses: a convolution, an addition, activations
        if node.name in seen or node.op_type == "Identity":
            continue
        parts, out = [node.name], node.output[0]
        while node.op_type in ("Conv", "Gemm"):
            after = [n for n in model.graph.node if out in n.input]
            if len(after) != 1 or after[0].op_type not in ("Relu", "Add"):
                break
            others = [made.get(i) for i in after[0].input if i != out and i in made]
            if any(name not in seen for name in others):
                break
            parts.append(after[0].name)
            out = after[0].output[0]
        seen.update(parts)
        layers.append(" + ".join(parts))
    entries = [{"name": name, "timeMs": 10.0, "averageMs": 0.1, "medianMs": 0.1,
                "percentage": 100 / len(layers)} for name in layers]  # fmt: skip
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps([{"count": 100}, *entries]))
    config = tmp_path / "net.yaml"
    config.write_text('model: "python:net.py:build"\ninputs: [1, 3, 32, 32]\n')
    for index, model_name in enumerate((str(path), str(config))):
        target = Target(f"b{index}", precision="fp16", model=model_name)
        found = import_files([profile], target)
        left = {m.layer.name for m in found.matches if m.kernel is None}
        assert left <= {"/Flatten"}, model_name
        assert len(found.matches) >= 7


NET = """
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return self.act(self.conv2(self.act(self.bn1(self.conv1(x)))) + x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.Sequential(Block(8), nn.Sequential(Block(8)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.pool(self.layers(self.stem(x))).flatten(1))


def build():
    return Net()
"""


# --- what is kept ----------------------------------------------------------------------------------


def test_networks_are_kept_in_the_columns_of_every_table():
    import_files([fixture("trtexec-times.json")], FP16)
    folder = measurements_folder("my-board", "tensorrt", "fp16")
    assert folder.parts[-3:] == ("measurements", "my-board", "tensorrt-fp16")
    with open(folder / "networks.csv", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["model"] == SMALL
    assert (row["precision"], row["device"], row["n"]) == ("fp16", "my-board", "12")
    assert float(row["latency_ms"]) == float(row["median_ms"]) == pytest.approx(0.4175)
    assert float(row["p10_ms"]) < float(row["median_ms"]) < float(row["p90_ms"])
    assert row["source"] == "trtexec-times.json"


def test_a_file_counts_once_however_often_it_is_imported(tmp_path):
    files = [fixture("trtexec-times.json"), fixture("trtexec-profile.json")]
    first = import_files(files, FP16)
    folder = measurements_folder("my-board", "tensorrt", "fp16")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    copy = tmp_path / "another-name.json"
    shutil.copy(files[0], copy)
    second = import_files([*files, copy], FP16)
    assert (first.new_networks, first.new_kernels) == (1, 8)
    assert (second.new_networks, second.new_kernels) == (0, 0)
    assert any("imported before" in text for text in second.remarks)
    assert any("same bytes" in text for text in second.remarks)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_cannot_be_imported_as_another_network(tmp_path):
    import_files([fixture("trtexec-times.json"), fixture("trtexec-profile.json")], FP16)
    folder = measurements_folder("my-board", "tensorrt", "fp16")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.copy(SMALL, tmp_path / "other.yaml")
    for other in (Target("my-board", precision="fp16", model=str(tmp_path / "other.yaml")),
                  Target("my-board", precision="fp16", model=SMALL, batch=2)):  # fmt: skip
        with pytest.raises(ConfigError, match=r"imported before, as .*small"):
            import_files([fixture("trtexec-times.json")], other)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_another_file_is_appended():
    import_files([fixture("trtexec-times.json")], FP16)
    found = import_files([fixture("trtexec-times-7.json")], FP16)
    assert found.new_networks == 1
    folder = measurements_folder("my-board", "tensorrt", "fp16")
    assert len((folder / "networks.csv").read_text().splitlines()) == 3


def test_the_kernels_of_an_import_that_was_cut_short_come_with_the_next():
    files = [fixture("trtexec-times.json"), fixture("trtexec-profile.json")]
    import_files(files, FP16)
    folder = measurements_folder("my-board", "tensorrt", "fp16")
    whole = (folder / "networks.csv").read_bytes()
    (folder / "networks.csv").unlink()
    found = import_files(files, FP16)
    assert (found.new_networks, found.new_kernels) == (1, 0)
    assert (folder / "networks.csv").read_bytes() == whole


def test_columns_that_the_user_added_stay():
    import_files([fixture("trtexec-times.json")], FP16)
    path = measurements_folder("my-board", "tensorrt", "fp16") / "networks.csv"
    lines = path.read_text().splitlines()
    path.write_text(f"note,{lines[0]}\nfirst try,{lines[1]}\n")
    import_files([fixture("trtexec-times-7.json")], FP16)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["note"] for row in rows] == ["first try", ""]
    assert rows[1]["source"] == "trtexec-times-7.json"


@pytest.mark.parametrize("damage", [
    lambda text: text[:-5], lambda text: text.replace("latency_ms", "latency"), lambda text: "\x00",
    lambda text: text + "a,b\n",
])  # fmt: skip
def test_a_damaged_table_is_not_written_over(damage):
    import_files([fixture("trtexec-times.json")], FP16)
    path = measurements_folder("my-board", "tensorrt", "fp16") / "networks.csv"
    path.write_text(damage(path.read_text()))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"networks\.csv"):
        import_files([fixture("trtexec-times-7.json")], FP16)
    assert path.read_bytes() == before


def test_rows_of_a_table_go_to_their_targets(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("model,latency_ms,precision,resolution,extra\n"
                    "timm:resnet18,4.8,fp16,224,x\ntimm:resnet18,9.1,fp32,256x320,y\n")  # fmt: skip
    found = import_files([path], Target("b", runtime="tensorrt"))
    assert [folder.name for folder in found.folders] == ["tensorrt-fp16", "tensorrt-fp32"]
    with open(found.folders[1] / "networks.csv", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["latency_ms"], row["resolution"], row["batch"]) == ("9.1", "256x320", "")


def test_rows_of_several_devices(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("model,latency_ms,precision,device\ntimm:resnet18,4.8,fp16,board-a\n"
                    "timm:resnet18,9.1,fp16,Board_B\n")  # fmt: skip
    with pytest.raises(ConfigError, match="several devices"):
        import_files([path], Target("mine", runtime="tensorrt"))
    found = import_files([path], Target("board-b", runtime="tensorrt"))
    assert [network.latency.latency_ms for network in found.networks] == [9.1]
    assert "other devices" in found.remarks[0]
    path.write_text("model,latency_ms,precision,device\ntimm:resnet18,4.8,fp16,board-a\n")
    found = import_files([path], Target("mine", runtime="tensorrt"))
    assert "kept as mine" in found.remarks[0]


def test_models_of_a_table_are_found_beside_it_and_kept_as_whole_paths(tmp_path, monkeypatch):
    shutil.copy(SMALL, tmp_path / "net.yaml")
    path = tmp_path / "t.csv"
    path.write_text("model,latency_ms,precision\nnet.yaml,4.8,fp16\n")
    monkeypatch.chdir("/")
    found = import_files([path], Target("b", runtime="tensorrt"))
    assert found.networks[0].cells["model"] == str(tmp_path / "net.yaml")


def test_calibrate_takes_what_was_imported(tmp_path):
    from predictor.cli import run

    path = tmp_path / "mine.csv"
    path.write_text(
        "model,latency_ms,precision\n"
        '"ofa:ks=3,e=3,d=2",3.2,fp16\n"ofa:ks=7,e=6,d=4",8.1,fp16\n"ofa:ks=5,e=4,d=3",5.1,fp16\n'
    )
    import_files([path], Target("my-board", runtime="tensorrt"))
    kept = measurements_folder("my-board", "tensorrt", "fp16") / "networks.csv"
    code = run(["calibrate", "--measurements", str(kept), "--name", "my-board", "--base", "jetson"])
    assert code == 0
    assert len(rows_of(kept, ["model"])) == 3


# --- the command -----------------------------------------------------------------------------------


def call(*args):
    result = CliRunner().invoke(command, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_the_command_says_what_it_found(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    out = call(fixture("trtexec-times.json"), fixture("trtexec-profile.json"), "--name", "My Board",
               "--precision", "fp16", "--model", SMALL).output  # fmt: skip
    assert "my-board: 1 network, 1 new" in out
    assert "8 of 12 layers are kernels of the model, 79.3 % of 0.329 ms" in out
    assert re.search(r"/left/Conv \|\| /right/Conv", out)
    assert "predict-latency calibrate --measurements" in out


def test_the_command_in_json():
    result = call(fixture("onnxruntime.json"), "--name", "b", "--model", SMALL, "--json")
    data = json.loads(result.stdout)
    assert data["networks"][0]["latency_ms"] == pytest.approx(0.3795)
    assert data["networks"][0]["first_run_ms"] == pytest.approx(0.721)
    assert sum(layer["share"] for layer in data["layers"]) == pytest.approx(1)
    assert "profiled" in result.stderr


def test_a_format_that_is_said_is_not_guessed():
    with pytest.raises(ConfigError, match=r"trtexec-times\.json"):
        import_files([fixture("trtexec-times.json")], FP16, "onnxruntime")
    for form, name in (("trtexec", "trtexec-profile.json"), ("onnxruntime", "onnxruntime.json"),
                       ("tflite", "tflite.log"), ("csv", "plain.csv")):  # fmt: skip
        assert read_file(fixture(name), form).format == form
