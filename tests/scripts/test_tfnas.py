"""Blocks of TF-NAS: built as eager mode runs them, and the folds that they are judged by."""

from __future__ import annotations

from pathlib import Path

import pytest

from predictor.kernels.fusion import fuse
from scripts.figures import Graphs
from scripts.tfnas_targets import FILE, RULES, TFNAS, block

RECORD = {
    "device": "NVIDIA TITAN RTX", "runtime": "PyTorch 1.1", "precision": "fp32", "batch_size": "32",
    "op": "mbconv_block", "in_h": "14", "in_w": "14", "in_channels": "80", "mid_channels": "240",
    "se_channels": "20", "out_channels": "80", "kernel": "5", "stride": "1", "activation": "swish",
    "latency_ms": "1.0", "macs_per_image": "0", "implied_gflops": "0",
}  # fmt: skip


def _macs(wide: int, out: int, pixels: int, taps: int, gate: int) -> int:
    return pixels * (80 * wide + wide * taps + wide * out) + 2 * wide * gate


def test_block_counts_what_its_shape_says() -> None:
    graph = block(RECORD)
    assert graph.macs == 32 * _macs(240, 80, 196, 25, 20)
    plain = block({**RECORD, "se_channels": "0", "out_channels": "112", "activation": "relu"})
    assert plain.macs == 32 * _macs(240, 112, 196, 25, 0)
    # Convolution, norm and activation three, three and two times; swish is two operators.
    assert len(fuse(plain, RULES)) == 8
    assert len(fuse(graph, RULES)) == 8 + 2 + (1 + 1 + 2 + 1 + 1 + 1) + 1


def test_folds_are_stages_kernels_and_widths(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.parent.mkdir()
    rows = [RECORD, {**RECORD, "kernel": "3", "mid_channels": "640"}]
    rows.append({**RECORD, "device": "Intel Xeon Gold 6130 (1 thread)", "batch_size": "1"})
    lines = [",".join(RECORD), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    titan, xeon = (collection.load(tmp_path, Graphs(tmp_path))[0] for collection in TFNAS)
    assert (len(titan), len(xeon)) == (2, 1)
    assert xeon[0].fit.hardware.units == pytest.approx(1)
    keys = TFNAS[0].keys
    assert [keys["kernel"](f) for f in titan] == ["kernel 5", "kernel 3"]
    assert [keys["width"](f) for f in titan] == ["widened up to 4 times", "widened up to 8 times"]
    assert {f.family for f in titan} == {"14 pixels"}
