"""The networks of ncnn's benchmark against what is published, and the boards that it names."""

import csv
import gzip
import os
from pathlib import Path

import pytest

from predictor.device import load_device
from predictor.kernels.fusion import fuse
from scripts import ncnn_boards
from scripts.networks.ncnn_catalogue import NETWORKS, NOT_REBUILT, graph

DATA = Path(os.environ.get("PREDICTOR_PUBLIC_DATA", "absent"))


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_operations_as_published(name):
    network = NETWORKS[name]
    built = graph(name, network.side)
    close = 0.13 if network.reason else 0.02
    if network.params_m is not None:
        assert built.params / 1e6 == pytest.approx(network.params_m, rel=close)
    if network.gmacs is not None:
        assert built.macs / 1e9 == pytest.approx(network.gmacs, rel=close)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("blazeface", 86_418), ("squeezenet_ssd", 5_519_040), ("mobilenet_yolo", 11_059_648),
        ("mobilenetv2_yolov3", 3_699_456), ("mobilenet_v3", 5_115_080), ("alexnet", 60_954_656),
    ],
)  # fmt: skip
def test_weights_to_the_last_one(name, weights):
    """Convolutions and inner products without biases, fixed once their layers were checked."""
    built = graph(name, NETWORKS[name].side)
    matrices = [op.weights[0].numel for op in built.ops if op.kind in ("conv", "linear")]
    assert sum(matrices) == weights


def test_swish_is_a_layer_and_relu_is_not():
    kinds = [kernel.kind for kernel in fuse(graph("mobilenet", 224), "ncnn")]
    assert "activation" not in kinds
    kinds = [kernel.kind for kernel in fuse(graph("efficientnet_b0", 224), "ncnn")]
    assert kinds.count("activation") == 49  # one a convolution but for projections, one a gate


def test_boards_have_profiles_and_kinds():
    for board in ncnn_boards.BOARDS:
        assert board.cpu or board.gpu
        for name in filter(None, (board.cpu, board.gpu)):
            assert load_device(name).generation in ncnn_boards.KINDS
    with pytest.raises(KeyError):
        ncnn_boards.board_of("a board that nobody timed")


@pytest.mark.skipif(
    not DATA.is_dir(),
    reason="PREDICTOR_PUBLIC_DATA does not name the folder of public measurements",
)
def test_every_row_of_the_table_is_accounted_for():
    with gzip.open(DATA / "ncnn" / "ncnn_models.csv.gz", "rt", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        ncnn_boards.board_of(row["device"])
        assert row["model"].removesuffix("_int8") in {*NETWORKS, *NOT_REBUILT}
