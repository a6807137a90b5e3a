"""``batch``: a table in, one prediction a row out."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import predictor
from predictor.batching import answering, families
from predictor.tables import csv_line, free_names, open_table

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, str]]
KEY = "ofa:ks=3,e=3,d=2"
NAS = "nasbench201:|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|none~2|"


def table(path: Path, *rows: tuple[str, ...]) -> Path:
    path.write_text("".join(map(csv_line, rows)), encoding="utf-8")
    return path


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_row_has_its_answer(run: Run, tmp_path: Path) -> None:
    path = table(
        tmp_path / "models.csv",
        ("note", "model", "batch", "resolution", "precision"),
        ('a, "b"', KEY, "", "", ""),
        ("", KEY, "4", "160", ""),
        ("bad", "ofa:bad", "", "", ""),
        ("", KEY, "0", "", ""),
        ("", KEY, "", "2x", ""),
        ("", KEY, "", "", "fp17"),
        ("", "", "", "", ""),
        ("", NAS, "2.0", "", "fp32"),
    )  # fmt: skip
    code, out, err = run("batch", str(path), "--device", "jetson")
    assert code == 0
    rows = read(out)
    assert list(rows[0]) == ["note", "model", "batch", "resolution", "precision", "latency_ms",
                             "low_ms", "high_ms", "error"]  # fmt: skip
    assert [row["note"] for row in rows] == ['a, "b"', "", "bad", "", "", "", "", ""]
    assert [bool(row["error"]) for row in rows] == [0, 0, 1, 1, 1, 1, 1, 0]
    for row, settings in ((rows[0], {}), (rows[1], {"batch": 4, "resolution": 160}),
                          (rows[7], {"batch": 2, "precision": "fp32"})):  # fmt: skip
        expected = predictor.predict(row["model"], device="jetson", **settings)
        low, high = expected.interval_ms
        said = [float(row[key]) for key in ("latency_ms", "low_ms", "high_ms")]
        assert said == pytest.approx([expected.latency_ms, low, high], rel=1e-6)
    for row, word in zip(rows[2:7], ("setting", "batch '0'", "resolution '2x'", "fp17", "empty"),
                         strict=True):  # fmt: skip
        assert word in row["error"]
        assert not row["latency_ms"]
    assert "8 rows in" in err
    assert "5 failed (first: line 4: ofa: character 1" in err


def test_several_devices_share_the_graph(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from predictor.frontends import load

    loaded = []
    plain = load.load_graph

    def counted(*args: object, **settings: object) -> object:
        loaded.append(args)
        return plain(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("predictor.frontends.load.load_graph", counted)
    answering._graph.cache_clear()
    path = table(tmp_path / "m.csv", ("model",), (KEY,), ("ofa:bad",))
    code, out, _ = run("batch", str(path), "-d", "jetson", "-d", "t4", "-d", "raspberry-pi-4")
    assert code == 0
    assert [row["device"] for row in read(out)] == ["jetson", "t4", "raspberry-pi-4"] * 2
    assert [bool(row["latency_ms"]) for row in read(out)] == [True] * 3 + [False] * 3
    assert len(loaded) == 2


def test_a_device_column_wins_and_is_filled(run: Run, tmp_path: Path) -> None:
    path = table(tmp_path / "m.csv", ("device", "model"), ("t4", KEY), ("", KEY), ("jetsen", KEY))
    rows = read(run("batch", str(path), "-d", "jetson", "-d", "a100")[1])
    assert [row["device"] for row in rows] == ["t4", "jetson", "a100", "jetsen"]
    assert "Did you mean 'jetson'?" in rows[3]["error"]
    rows = read(run("batch", str(path))[1])
    assert [row["device"] for row in rows] == ["t4", "", "jetsen"]
    assert "no device" in rows[1]["error"]


def test_config_files_bring_their_settings(run: Run, tmp_path: Path) -> None:
    text = f"model: {KEY}\ndevice: t4\nprecision: fp32\n"
    (tmp_path / "net.yaml").write_text(text)
    path = table(tmp_path / "m.csv", ("model", "precision"), ("net.yaml", ""), ("net.yaml", "fp16"))
    first, second = read(run("batch", str(path))[1])  # a file named in a table lies beside it
    for row, precision in ((first, "fp32"), (second, "fp16")):
        expected = predictor.predict(KEY, device="t4", precision=precision).latency_ms
        assert float(row["latency_ms"]) == pytest.approx(expected, rel=1e-6)


def test_names_that_are_taken_are_kept(run: Run, tmp_path: Path) -> None:
    assert free_names(("error", "x", "input_error"), ("error",)) == (
        "input_input_error", "x", "input_error",
    )  # fmt: skip
    header = ("model", "latency_ms", "runtime")
    path = table(tmp_path / "m.csv", header, (KEY, "7.5", "TensorRT 8.6"))
    _, out, err = run("batch", str(path), "-d", "jetson")
    (row,) = read(out)
    assert row["input_latency_ms"] == "7.5"
    assert row["runtime"] == "TensorRT 8.6"
    assert float(row["latency_ms"]) > 0
    assert "warning: the column 'latency_ms' of the table is 'input_latency_ms'" in err
    assert "'runtime' is carried through, not read: use --runtime" in err


def test_resume_goes_on_and_repairs_the_last_line(run: Run, tmp_path: Path) -> None:
    rows = [(f"{KEY},r={r}", str(r)) for r in (32, 64, 96, 128)]
    path = table(tmp_path / "m.csv", ("model", "note"), *rows)
    out = tmp_path / "out.csv"
    devices = ("-d", "jetson", "-d", "t4")
    assert run("batch", str(path), *devices, "-o", str(out))[0] == 0
    full = out.read_bytes()
    assert full.count(b"\n") == 9
    # Wherever it was cut, the end is the same; nothing that was there is predicted again.
    for cut in (0, 3, full.index(b"\n") + 1, len(full) // 3, len(full) // 2, len(full) - 1):
        out.write_bytes(full[:cut])
        code, _, err = run("batch", str(path), *devices, "-o", str(out), "--resume")
        assert code == 0
        assert out.read_bytes() == full
        kept = max(full[:cut].count(b"\n") - 1, 0)
        assert f"{8 - kept} row" in err
    assert run("batch", str(path), *devices, "-o", str(out), "--resume")[2].startswith("0 rows")
    out.unlink()
    assert run("batch", str(path), *devices, "-o", str(out), "--resume")[0] == 0
    assert out.read_bytes() == full


def test_resume_refuses_what_is_not_its_own(run: Run, tmp_path: Path) -> None:
    path = table(tmp_path / "m.csv", ("model",), (KEY,), (f"{KEY},r=64",))
    out = tmp_path / "out.csv"
    assert run("batch", str(path), "-d", "jetson", "-o", str(out))[0] == 0
    full = out.read_bytes()

    def refused(words: str, *extra: str) -> None:
        before = out.read_bytes()
        code, _, err = run("batch", str(path), "-d", "jetson", "-o", str(out), "--resume", *extra)
        assert code == 2
        assert words in err
        assert out.read_bytes() == before

    refused("its columns are not model, device", "-d", "t4")
    table(path, ("model",), (f"{KEY},r=64",))
    refused("line 2 of the output is not of line 2")
    table(path, ("model",), (KEY,))
    refused("more rows than this table")
    table(path, ("model",), (KEY,), (f"{KEY},r=64",), (f"{KEY},r=96",))
    out.write_bytes(full.replace(b',"', b',x"', 1).replace(b'"ofa', b'x"ofa', 1))
    refused("this row is damaged")
    assert run("batch", str(path), "--resume", "-d", "jetson")[0] == 2
    assert "that is the table itself" in run("batch", str(path), "-d", "t4", "-o", str(path))[2]


def test_exit_code_says_whether_anything_was_predicted(run: Run, tmp_path: Path) -> None:
    path = table(tmp_path / "m.csv", ("model",), ("ofa:bad",), ("nope.onnx",))
    assert run("batch", str(path), "-d", "jetson")[0] == 2
    table(path, ("model", "device"), (KEY, "jetsen"))
    assert run("batch", str(path))[0] == 4
    table(path, ("model",))
    code, out, err = run("batch", str(path), "-d", "jetson")
    assert (code, out) == (0, "model,latency_ms,low_ms,high_ms,error\n")
    assert err.startswith("0 rows")
    # A device or runtime on the command line is wrong for every row: nothing is begun.
    code, out, err = run("batch", str(path), "-d", "jetsen")
    assert (code, out) == (4, "")
    assert run("batch", str(path), "-d", "raspberry-pi-4", "--runtime", "tensorrt")[0] == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the first line must hold the names"),
        (b"name,batch\nx,1\n", "no column 'model' among: name, batch"),
        (b"Model;batch\nx;1\n", "The line has semicolons in it"),
        ("model\nx\n".encode("utf-16"), "UTF-16"),
        (b"models\nx\n", "Did you mean 'models'?"),
    ],
)
def test_tables_that_are_none(run: Run, tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    code, out, err = run("batch", str(path), "-d", "jetson")
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_odd_rows_do_not_end_the_table(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(
        b"\xef\xbb\xbfmodel,note\r\n" + KEY.replace(",", ";").encode() + b",\xe9\r\n\r\n"
        b'"nasbench201:x\n",two lines\r\nx,y,z\r\n"ab"c,d\r\nresnet\r\n-,\r\n"open,x\n'
    )
    code, out, _ = run("batch", str(path), "-d", "jetson")
    rows = read(out)
    assert code == 2
    assert len(rows) == 7
    assert "3 cells, and the header has 2 columns" in rows[2]["error"]
    assert "no valid CSV" in rows[3]["error"]
    assert "is no model that is known here" in rows[4]["error"]
    assert "'-' is no model here" in rows[5]["error"]
    assert "no valid CSV" in rows[6]["error"]


def test_bytes_are_carried_through(run: Run, tmp_path: Path) -> None:
    path, out = tmp_path / "m.csv", tmp_path / "out.csv"
    path.write_bytes(b'model,note\n"' + KEY.encode() + b'",caf\xe9\n')
    for extra in ((), ("--resume",)):
        assert run("batch", str(path), "-d", "jetson", "-o", str(out), *extra)[0] == 0
        assert b"caf\xe9" in out.read_bytes()
        assert out.read_bytes().count(b"\n") == 2


def test_python_files_are_run_only_where_allowed(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="a Python file builds a torch module")
    (tmp_path / "nets.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
        "def build():\n    import torch\n    return torch.nn.Conv2d(3, 8, 3)\n"
    )
    (tmp_path / "net.yaml").write_text(
        "model: {source: 'python:nets.py:build'}\ninputs: [1, 3, 32, 32]\n"
    )
    path = table(tmp_path / "m.csv", ("model",), ("python:nets.py:build",), ("net.yaml",))
    rows = read(run("batch", str(path), "-d", "jetson")[1])
    assert all("--allow-python" in row["error"] for row in rows)
    assert not (tmp_path / "ran").exists()
    rows = read(run("batch", str(path), "-d", "jetson", "--allow-python")[1])
    assert "inputs are needed" in rows[0]["error"]
    assert float(rows[1]["latency_ms"]) > 0


def test_an_internal_error_is_one_rows(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: str, **settings: object) -> object:
        raise RecursionError("too\n deep")

    monkeypatch.setattr("predictor.frontends.load.load_graph", broken)
    families.forget()
    path = table(tmp_path / "m.csv", ("model",), (f"{KEY},r=40",))
    code, out, _ = run("batch", str(path), "-d", "jetson")
    assert code == 1
    assert read(out)[0]["error"] == "internal error: RecursionError: too; deep"


def test_reading_takes_no_more_memory_than_a_row(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "m.csv"
    path.write_text("model,note\n" + f"{KEY},x\n".replace(",e", ";e") * 50_000)
    tracemalloc.start()
    with open_table(path) as source:
        assert sum(1 for _ in source.rows()) == 50_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000
    path.write_bytes(b"x" * 3_000_000)
    with pytest.raises(predictor.PredictorError, match="1 MiB"), open_table(path):
        pass


def test_stdin_progress_interrupt_and_resume_of_the_real_process(tmp_path: Path) -> None:
    """A pipe that stays open keeps it going until it is interrupted."""
    out, pipe = tmp_path / "out.csv", tmp_path / "m.csv"
    rows = "model\n" + "".join(f'"{KEY},r={32 + n}"\n' for n in range(100))
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "predictor.cli", "batch"]
    feed = os.open(pipe, os.O_RDWR)  # to read, too: opening waits for nobody
    os.write(feed, rows.encode())
    with subprocess.Popen([*command, str(pipe), "-d", "jetson", "-o", str(out)], cwd=ROOT,
                          stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        assert process.stderr
        assert process.stderr.readline().startswith(f"predicting {pipe}: ")
        deadline = time.monotonic() + 30
        while out.read_bytes().count(b"\n") < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=30)[1]
    os.close(feed)
    assert process.returncode == 130
    assert "go on with --resume" in err
    kept = out.read_bytes().count(b"\n") - 1
    assert 0 < kept <= 100
    rows += f'"{KEY},r=200"\n'
    few = "".join(line + "\n" for line in rows.splitlines()[: kept + 2])
    done = subprocess.run([*command, "-", "-d", "jetson", "-o", str(out), "--resume"], cwd=ROOT,
                          input=few, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("1 row in")
    assert out.read_bytes().count(b"\n") == kept + 2
    shown = subprocess.run(
        ["bash", "-c", f"{' '.join(command)} - -d jetson | head -n 2; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT, input=few, capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert shown.returncode == 0
    assert "Traceback" not in shown.stderr
