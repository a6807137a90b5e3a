"""``predict-latency calibrate``: a table in, a device of one's own out, mistakes by their place."""

import json

import pytest

from predictor.cli import run
from predictor.device import load_device
from predictor.frontends.families import family_graph
from predictor.pipeline import Predictor

CELLS = (
    "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|none~2|",
    "|skip_connect~0|+|none~0|none~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|",
    "|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|",
    "|avg_pool_3x3~0|+|none~0|none~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(tmp_path / "home"))
    return tmp_path


def said(device, cell, runtime=None):
    return Predictor(device, runtime=runtime, precision="fp32" if runtime else None).estimate(
        family_graph(f"nasbench201:{cell}")
    )


def table(folder, rows, header="model,latency_ms"):
    path = folder / "mine.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def twice_a_titan(folder, count=5):
    rows = [f"nasbench201:{c},{2 * said('titan-xp', c, 'eager').latency_ms}" for c in CELLS[:count]]
    return table(folder, rows)


def test_a_scaled_base_is_found_by_name(home, capsys):
    path = twice_a_titan(home)
    base = ["--base", "titan-xp", "--runtime", "eager", "--precision", "fp32"]
    code = run(["calibrate", "-m", path, "--name", "my-board", *base, "--json", "--suggest", "0"])
    assert code == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["n"], answer["target"]) == (5, "eager-fp32")
    assert answer["mean_pct"] < 2
    again = said("my-board", CELLS[0])
    assert again.latency_ms == pytest.approx(2 * said("titan-xp", CELLS[0], "eager").latency_ms, rel=0.03)  # fmt: skip
    assert again.tier == "calibrated"
    assert sum(k.latency_ms for k in again.kernels) == pytest.approx(again.latency_ms, rel=1e-3)
    assert load_device("my-board").target().bundle == "eager-fp32.json"


def test_without_a_base_all_targets_are_sources(home, capsys):
    path = twice_a_titan(home)
    assert run(["calibrate", "-m", path, "--name", "my-board", "--suggest", "0"]) == 0
    out = capsys.readouterr().out
    assert "5 measurements" in out
    assert "predict-latency MODEL --device my-board" in out
    expected = 2 * said("titan-xp", CELLS[0], "eager").latency_ms
    assert said("my-board", CELLS[0]).latency_ms == pytest.approx(expected, rel=0.15)


def test_bad_rows_are_named_and_good_ones_count(home, capsys):
    rows = [f"nasbench201:{c},{10 + i}" for i, c in enumerate(CELLS[:3])]
    bad = ["nasbench201:|what|,3", f"nasbench201:{CELLS[3]},nan", f"nasbench201:{CELLS[3]},-1",
           f"nasbench201:{CELLS[3]},0", f"nasbench201:{CELLS[0]},12", ",5"]  # fmt: skip
    path = table(home, [*rows, *bad])
    code = run(["calibrate", "-m", path, "--name", "b", "--base", "titan-xp", "--suggest", "0"])
    err = capsys.readouterr().err
    assert code == 0
    for line in (5, 6, 7, 8, 10):
        assert f"{path}:{line}: " in err
    assert "stands in line 2 too" in err


def test_two_rows_are_too_few(home, capsys):
    path = table(home, [f"nasbench201:{c},10" for c in CELLS[:2]])
    assert run(["calibrate", "-m", path, "--name", "b", "--base", "titan-xp"]) == 2
    assert "2 rows count, and a calibration needs 3 or more" in capsys.readouterr().err


def test_wrong_columns_and_taken_names(home, capsys):
    path = table(home, ["a,1"], header="model,latency")
    assert run(["calibrate", "-m", path, "--name", "b"]) == 2
    assert "no column 'latency_ms'" in capsys.readouterr().err
    path = twice_a_titan(home, 3)
    base = ["--base", "titan-xp", "--suggest", "0"]
    assert run(["calibrate", "-m", path, "--name", "titan-xp", *base]) == 2
    assert "choose another" in capsys.readouterr().err
    assert run(["calibrate", "-m", path, "--name", "mine", *base]) == 0
    assert run(["calibrate", "-m", path, "--name", "mine", *base]) == 2
    assert "--force" in capsys.readouterr().err
    assert run(["calibrate", "-m", path, "--name", "mine", *base, "--force"]) == 0


def test_rows_without_a_latency_are_what_to_measure_next(home, capsys):
    rows = [f"nasbench201:{c},{10 + i}" for i, c in enumerate(CELLS[:3])]
    path = table(home, [*rows, *(f"nasbench201:{c}," for c in CELLS[3:])])
    arguments = ["--name", "b", "--base", "titan-xp", "--suggest", "2", "--json"]
    assert run(["calibrate", "-m", path, *arguments]) == 0
    following = json.loads(capsys.readouterr().out)["measure_next"]
    assert {row["model"] for row in following} == {f"nasbench201:{c}" for c in CELLS[3:]}
    assert all(row["uncertainty_pct"] >= 0 for row in following)
