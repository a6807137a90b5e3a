"""Rebuilt networks against what their authors publish, and the rows that name them."""

import csv
import gzip
import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the networks are torch modules")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from scripts import networks, public_rows  # noqa: E402
from scripts.networks.catalogue import PUBLISHED  # noqa: E402

torch.set_num_threads(1)


def forward(key, image, classes=None):
    """Module, outputs and multiply-accumulates of one forward pass on the meta device."""
    module = networks.build(key, (1, 3, *image), classes)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        outputs = module(torch.empty(1, 3, *image, device="meta"))
    return module, outputs, counter.get_total_flops() // 2


def params(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize("key", PUBLISHED)
def test_parameters_and_operations_as_published(key):
    published = PUBLISHED[key]
    module, _, macs = forward(key, published.image)
    # 1 %, or 4 % where the catalogue states a reason.
    close = 0.04 if published.reason else 0.01
    assert params(module) / 1e6 == pytest.approx(published.params_m, rel=close)
    assert macs * published.per_mac / 1e9 == pytest.approx(published.gflops, rel=close)


@pytest.mark.parametrize(
    ("key", "count"),
    [
        ("yolov7m", 36_905_341), ("yolov7t", 6_219_709), ("yolov8n", 3_151_904),
        ("yolov9s", 7_105_888), ("yolov9m", 19_978_672),
    ],
)  # fmt: skip
def test_parameters_to_the_last_one(key, count):
    """What the authors' own tools print for the fused network (the fixed expectation counts)."""
    module = networks.build(key, (1, 3, 64, 64))
    assert sum(p.numel() for p in module.parameters()) == count


def test_exceptions_to_one_percent_are_few():
    assert {key for key, entry in PUBLISHED.items() if entry.reason} == {"yolov8n", "yoloxn"}


@pytest.mark.parametrize("key", [key for key in PUBLISHED if key.startswith("yolo")])
@pytest.mark.parametrize("size", [160, 320])
def test_detectors_give_one_box_for_every_cell(key, size):
    _, outputs, _ = forward(key, (size, size))
    cells = sum((size // stride) ** 2 for stride in (8, 16, 32))
    if key.startswith("yolov10"):
        assert tuple(outputs.shape) == (1, min(cells, 300), 6)
        return
    cells *= 3 if key.startswith("yolov7") else 1
    assert [tuple(o.shape) for o in outputs] == [(1, cells, 4), (1, cells, 80)]


@pytest.mark.parametrize("key", ["yolov8n", "yolov9t", "yolov7t", "yoloxs"])
def test_operations_grow_with_the_area(key):
    small, large = forward(key, (160, 160))[2], forward(key, (320, 320))[2]
    assert large == 4 * small


def test_raw_yolox_gives_one_map_a_level_with_the_classes_asked_for():
    _, outputs, _ = forward("yoloxs-raw", (640, 640), classes=4)
    assert [tuple(o.shape) for o in outputs] == [(1, 9, s, s) for s in (80, 40, 20)]


def test_pidnet_answers_at_an_eighth():
    for size in (256, 512):
        _, outputs, _ = forward("pidnet-s", (size, size), classes=35)
        assert tuple(outputs.shape) == (1, 35, size // 8, size // 8)


def test_googlenet_by_hand():
    module, outputs, macs = forward("googlenet", (224, 224))
    assert tuple(outputs.shape) == (1, 1000)
    stem = 112 * 112 * 64 * 3 * 49 + 56 * 56 * (64 * 64 + 64 * 192 * 9)
    convs = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convs) == 57  # 3 in the stem, 6 in each of 9 blocks
    assert macs > stem + 1024 * 1000
    assert params(module) == 6_998_552


def test_networks_run_on_numbers():
    """Meta tensors hide index errors; a real forward of the smallest networks does not."""
    for name, shape in (("yolov10n", (1, 3, 96, 96)), ("yolov7t", (1, 3, 64, 64))):
        module = networks.build(name, shape).to_empty(device="cpu")
        for tensor in (*module.parameters(), *module.buffers()):
            torch.nn.init.constant_(tensor, 0.01)
        with torch.no_grad():
            outputs = module(torch.zeros(shape))
        for tensor in outputs if isinstance(outputs, tuple) else (outputs,):
            assert torch.isfinite(tensor).all()


def test_yolov8_boxes_are_decoded_in_pixels():
    """Uniform distributions give sides of (0 + ... + 15) / 16 = 7.5 strides either way."""
    from scripts.networks.blocks import DistributionDecode

    decode = DistributionDecode((32, 32), (16, 32), classes=2, corners=True)
    torch.nn.init.constant_(decode.expect.weight, 0.0)
    with torch.no_grad():
        decode.expect.weight.copy_(torch.arange(16.0).view(1, 16, 1, 1))
        decode.centres.copy_(torch.tensor([[[0.5, 1.5, 0.5, 1.5, 0.5], [0.5, 0.5, 1.5, 1.5, 0.5]]]))
        decode.scale.copy_(torch.tensor([[[16.0, 16.0, 16.0, 16.0, 32.0]]]))
        boxes, scores = decode([torch.zeros(1, 66, 2, 2), torch.zeros(1, 66, 1, 1)])
    assert boxes[0, :, 4].tolist() == pytest.approx([32 * -7.0, 32 * -7.0, 32 * 8.0, 32 * 8.0])
    assert boxes[0, :, 1].tolist() == pytest.approx([16 * -6.0, 16 * -7.0, 16 * 9.0, 16 * 8.0])
    assert scores.unique().tolist() == [0.5]


def test_unknown_key():
    with pytest.raises(KeyError, match="yolov99"):
        networks.build("yolov99", (1, 3, 64, 64))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        with gzip.open(path, "wt", encoding="utf-8") as handle:
            handle.write(text)
    else:
        path.write_text(text, encoding="utf-8")


def test_vector_operators_keep_relu_and_gelu_unary(tmp_path):
    """A trailing u marks a scalar operand, except in the names that end so anyway."""
    folder = tmp_path / "neusight"
    write(
        folder / "gpu_conv2d.csv.gz",
        "device,batch_size,in_channels,out_channels,kernel_h,stride,padding,groups,in_h,in_w,"
        "latency_ms\nTesla T4,2,3,8,3,1,1,1,5,7,1.5\n",
    )
    write(
        folder / "gpu_matmul.csv.gz",
        "op,device,batch,m_rows,k_reduce,n_out,latency_ms\n"
        "linear,Tesla T4,2,3,4,5,1\nbmm,Tesla T4,2,3,4,5,1\n",
    )
    names = ("relu", "gelu", "addu", "add", "ln")
    lines = "".join(f"{name},Tesla T4,6,7,1\n" for name in names)
    write(folder / "gpu_vector_ops.csv.gz", "op,device,rows,cols,latency_ms\n" + lines)
    conv, linear, bmm, *vectors = public_rows.neusight_rows(tmp_path)
    assert (conv.inputs, conv.weights) == (((2, 3, 5, 7),), ((8, 3, 3, 3),))
    assert (linear.inputs, linear.weights) == (((2, 3, 4),), ((5, 4), (5,)))
    assert bmm.inputs == ((2, 3, 4), (2, 4, 5))
    assert [(v.kind, len(v.inputs), v.attrs) for v in vectors] == [
        ("relu", 1, {}), ("gelu", 1, {}), ("add", 1, {"scalar": True}), ("add", 2, {}),
        ("layer_norm", 1, {}),
    ]  # fmt: skip


needs_data = pytest.mark.skipif(
    "PREDICTOR_PUBLIC_DATA" not in os.environ,
    reason="PREDICTOR_PUBLIC_DATA does not name the folder of public measurements",
)


@pytest.fixture
def public_data() -> Path:
    return Path(os.environ["PREDICTOR_PUBLIC_DATA"])


@needs_data
def test_every_jetson_row_names_a_network(public_data):
    rows = public_rows.jetson_rows(public_data)
    known = set(networks.keys())
    assert {row.source for row in rows} == {"trtutils", "netspresso", "hax-conn"}
    assert all(row.model_key in known or row.model_key.startswith("timm:") for row in rows)
    assert all(0 < row.latency_ms < 10_000 for row in rows)
    assert {row.family for row in rows if row.suppression} == {
        "yolov7", "yolov8", "yolov9", "yolox",
    }  # fmt: skip
    row = next(row for row in rows if row.model_key == "yoloxs-raw")
    module, shape = public_rows.build(row.model_key, row)
    with torch.no_grad():
        assert module(torch.empty(shape, device="meta"))[0].shape[1] == 5 + 4


@needs_data
def test_layers_of_one_profile_sum_to_its_total(public_data):
    layers = public_rows.layer_rows(public_data)
    totals = {r.file: r for r in public_rows.jetson_rows(public_data) if r.source == "hax-conn"}
    assert len(totals) == 2
    for name, row in totals.items():
        total = sum(layer.latency_ms for layer in layers if layer.profile == name)
        assert total == pytest.approx(row.latency_ms, rel=1e-4)


@needs_data
def test_layer_rows_hold_their_own_table(public_data):
    path = public_data / "hax-conn" / "xavier_agx_googlenet_trt_layers.csv"
    with path.open(newline="") as handle:
        record = next(r for r in csv.DictReader(handle) if r["layer"].startswith("conv1/7x7"))
    rows = public_rows.layer_rows(public_data)
    row = next(r for r in rows if r.profile == "median" and r.name == record["layer"])
    assert (row.kernel, row.stride, row.padding) == ((7, 7), 2, 3)
    assert (row.in_size, row.out_size, row.fused_activation) == ((224, 224), (112, 112), True)
    assert row.latency_ms == float(record["latency_ms"])


@needs_data
def test_pi_rows_sample_whole_cells(public_data):
    rows = public_rows.pi_rows(public_data, sample=20)
    cells = [row for row in rows if row.source == "hw-nas-bench-360"]
    assert len(cells) == 3 * 20
    assert {row.device for row in rows} >= {"raspberry-pi-4", "raspberry-pi-5"}
    module, shape = public_rows.build(cells[0].model_key, cells[0])
    with torch.no_grad():
        assert module(torch.empty(shape, device="meta")).shape[0] == 1
