"""AI Hub's networks against their model cards, and which rows of its table are used."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from predictor.builder import GraphBuilder
from predictor.device import load_device
from predictor.frontends.torch_module import trace
from predictor.kernels.features import featurize
from predictor.kernels.fusion import fuse
from predictor.latency.costing import hardware_of
from predictor.latency.fitting import FitRow
from predictor.latency.physical import MEDIAN, kernel_times
from scripts.aihub_fit import chosen_fit
from scripts.aihub_rows import DEVICES, FILE, aihub_rows
from scripts.aihub_targets import AIHUB
from scripts.networks.aihub_catalogue import NETWORKS, NOT_REBUILT, SAME, build

PACKAGES = ("torchvision", "timm", "transformers")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in PACKAGES),
    reason="needs " + ", ".join(PACKAGES),
)
SMALL = (
    "resnet18", "mobilenet_v2", "shufflenet_v2", "squeezenet1_1", "deeplabv3_plus_mobilenet",
    "unet_segmentation", "midas", "esrgan", "real_esrgan_general_x4v3", "quicksrnetsmall",
    "quicksrnetmedium", "quicksrnetlarge", "beit", "yolov7", "segformer_base",
)  # fmt: skip
COLUMNS = ("device,runtime,precision,batch_size,model,component,latency_ms,compute_unit,"
           "layers_total,layers_npu,layers_gpu,layers_cpu,qairt")  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_parameters_are_those_of_the_card(name: str) -> None:
    network = NETWORKS[name]
    params = trace(build(name), network.inputs, name=name).params / 1e6
    if network.reason:
        assert abs(params / network.params_m - 1) < 0.08
    else:
        assert params == pytest.approx(network.params_m, rel=0.01)


def test_names_stand_once_and_point_somewhere() -> None:
    assert not set(NETWORKS) & set(NOT_REBUILT)
    assert set(SAME) <= set(NETWORKS)
    assert set(SAME.values()) <= set(NETWORKS)
    ships = [(ship.device, ship.target) for collection in AIHUB for ship in collection.ships]
    assert len(ships) == len(set(ships))
    for device, target in ships:
        assert target in [t.name for t in load_device(device).targets]


def _table(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / FILE
    path.parent.mkdir()
    path.write_text("\n".join([COLUMNS, *rows]) + "\n", encoding="utf-8")
    with path.open(encoding="utf-8") as handle:
        assert all(None not in row for row in csv.DictReader(handle))
    return tmp_path


def test_only_rows_of_the_npu_alone_are_used(tmp_path: Path) -> None:
    folder = _table(
        tmp_path,
        "Samsung Galaxy S25,tflite,float,1,resnet18,ResNet18,1.0,NPU,38,38,,,2.42",
        "Samsung Galaxy S25,qnn_dlc,w8a8,1,resnet18,ResNet18,1.0,NPU,54,54,,,2.42",
        "Samsung Galaxy S25,qnn_dlc,w8a16,1,resnet18,ResNet18,1.0,NPU,54,54,,,2.42",
        "Samsung Galaxy S25,tflite,float,1,resnet18,ResNet18,1.0,CPU,38,,,38,2.42",
        "Samsung Galaxy S25,onnx,float,1,resnet18,ResNet18,1.0,NPU,55,54,,1,2.42",
        "SA7255P ADP,tflite,float,1,resnet18,ResNet18,1.0,NPU,38,38,,,2.42",
        "Samsung Galaxy S25,tflite,float,1,unheard_of,Unheard,1.0,NPU,38,38,,,2.42",
    )
    rows, left = aihub_rows(folder)
    assert [row.target for row in rows] == ["tflite-fp16", "qnn-int8"]
    assert {row.device for row in rows} == {DEVICES["Samsung Galaxy S25"]}
    assert sum(left.values()) == 5
    assert all(count == 1 for count in left.values())


def test_concatenations_cost_nothing_on_the_npu() -> None:
    b = GraphBuilder("two")
    x = b.input((1, 8, 16, 16))
    first = b.conv(x, 8, (3, 3), padding=1)
    second = b.conv(first, 8, (3, 3), padding=1)
    joined = b.op("concat", [first, second], [(1, 16, 16, 16)])[0]
    kernels = fuse(b.finish(b.conv(joined, 8, (1, 1))), "qnn")
    assert [kernel.kind for kernel in kernels] == ["conv"] * 3


def test_pages_are_written_from_the_aggregates() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "scripts.write_accuracy_aihub", "--check"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_odd_figure_hardly_bends_the_chosen_fit() -> None:
    hardware = hardware_of(load_device("qcs8550"), "fp16")
    rows = []
    for i, wide in enumerate((64, 96, 128, 192, 256, 384)):
        b = GraphBuilder("one")
        features = featurize(
            fuse(b.finish(b.conv(b.input((1, wide, 56, 56)), wide, 3, padding=1)), "qnn")
        )
        truth = 1e3 * float(kernel_times(features, hardware, MEDIAN).total.sum())
        odd = 30.0 if i == 2 else 1.0
        rows.append(FitRow(features, hardware, odd * truth, ("gen:npu-qnn-fp16",), whole=False))
    theta = chosen_fit(rows).theta(("gen:npu-qnn-fp16",))
    straight = rows[4]
    said = 1e3 * float(kernel_times(straight.features, hardware, theta).total.sum())
    assert said == pytest.approx(straight.latency_ms, rel=0.15)
