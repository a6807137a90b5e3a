"""Rows of ncnn's table: which cores they used, what is left out, and the groups that they share."""

import csv
import gzip

import numpy as np
import pytest

from predictor.device import load_device
from predictor.latency.costing import hardware_of
from predictor.latency.physical import INDEX, MEDIAN
from scripts import ncnn_figures, ncnn_targets

FIELDS = (
    "device", "accelerator", "model", "input_size", "num_threads", "powersave", "run_id",
    "latency_ms", "unstable",
)  # fmt: skip
BOARD = "Rockchip RK3588 (any)"


def row(model="resnet18", *, threads=4, powersave=2, run="1", ms=20.0, **other):
    values = {
        "device": BOARD, "accelerator": "cpu", "model": model, "input_size": 224,
        "num_threads": threads, "powersave": powersave, "run_id": run, "latency_ms": ms,
        "unstable": 0,
    }  # fmt: skip
    return {**values, **other}


@pytest.fixture
def table(tmp_path):
    def write(*rows):
        (tmp_path / "ncnn").mkdir(exist_ok=True)
        path = tmp_path / "ncnn" / "ncnn_models.csv.gz"
        with gzip.open(path, "wt", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
        return ncnn_figures.runs(tmp_path)

    return write


def test_what_is_left_out_is_counted_with_its_reason(table):
    kept, left = table(
        row(), row(unstable=1), row(threads=8, powersave=0), row(powersave=1),
        row("mobilenet_yolov3"), row("resnet18_int8", accelerator="gpu_vulkan"),
        row(device="Sunway SW831"),
    )  # fmt: skip
    assert [r.model for r in kept] == ["resnet18"]
    assert sum(left.values()) == 6
    assert left["ncnn: small cores took part"] == 2


def test_precision_is_that_of_the_hardware_and_int8_stands_apart(table):
    kept, _ = table(row(), row("resnet18_int8"), row(device="Raspberry Pi 3 Model B+ (any)"))
    assert [r.precision for r in kept] == ["fp16", "int8", "fp32"]


def test_versions_are_told_by_the_networks_of_a_run(table):
    kept, _ = table(row(), row("FastestDet", input_size=352), row(run="2"),
                    row("nanodet_m", input_size=320, run="2"), row(run="3"))  # fmt: skip
    assert [r.era for r in kept] == ["c", "c", "b", "b", "a"]


def test_cores_share_the_memory(table):
    one, four = table(row(threads=1), row())[0]
    device = load_device("rk3588")
    whole = hardware_of(device, "fp16")
    assert ncnn_figures.hardware_for(four, device) == whole
    single = ncnn_figures.hardware_for(one, device)
    assert single.peak_flops == whole.peak_flops / 4
    assert single.bandwidth == whole.bandwidth


def test_levels_and_weights(table):
    rows, _ = table(row(), row(run="2", ms=22.0), row(threads=1, ms=70.0))
    found = ncnn_figures.figures(rows, ncnn_figures.Kernels())
    assert found[0].fit.levels == found[1].fit.levels != found[2].fit.levels
    assert found[0].fit.levels[:2] == ("gen:armv8.2", "gen:many")
    assert found[2].fit.levels[1] == "gen:one"
    assert found[0].fit.weight == pytest.approx(np.sqrt(0.5))
    assert ncnn_targets.device_of(found[0]) == ncnn_targets.device_of(found[2]) == "rk3588"
    assert ncnn_targets.board_group(found[0]) == ncnn_targets.board_group(found[2])


def test_targets_take_the_levels_of_their_rows(table):
    """What ships takes the deviations that the figures of its setting got."""
    rows, _ = table(row(), row("FastestDet", input_size=352))
    levels = ncnn_figures.figures(rows, ncnn_figures.Kernels())[0].fit.levels
    ship = next(s for s in ncnn_targets.NCNN[0].ships if s.device == "rk3588")
    assert ship.levels == levels
    assert ship.target == "ncnn-fp16"
    assert "4 threads" in ship.software


def test_the_prior_holds_where_there_is_little(table):
    rows, _ = table(row())
    fit = ncnn_targets.cpu_fit([f.fit for f in ncnn_figures.figures(rows, ncnn_figures.Kernels())])
    assert np.exp(fit.common[INDEX["group"]]) == pytest.approx(0.3, rel=0.2)
    neutral = ncnn_targets.gpu_fit(
        [f.fit for f in ncnn_figures.figures(rows, ncnn_figures.Kernels())]
    )
    assert neutral.common[INDEX["group"]] == pytest.approx(MEDIAN[INDEX["group"]], abs=0.01)


def test_every_target_has_a_line_in_its_profile():
    for collection in ncnn_targets.NCNN:
        for ship in collection.ships:
            names = [target.name for target in load_device(ship.device).targets]
            assert ship.target in names, ship.device
