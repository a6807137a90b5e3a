"""Write ``docs/accuracy-snapdragon.md`` and ``docs/accuracy-blocks.md`` from their aggregates.

python -m scripts.write_accuracy_aihub [--public-data DIR] [--check]

``--public-data`` renews how far the runtimes of one device are apart; the rest is what
``python -m scripts.fit_profiles`` left for the collections of Qualcomm AI Hub and TF-NAS.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scripts.accuracy_tables import fold_table, pair, table, target_table
from scripts.aihub_rows import FILE, SAME_ROWS

DOCS = Path(__file__).resolve().parent.parent / "docs"
SNAPDRAGON, BLOCKS = DOCS / "accuracy-snapdragon.md", DOCS / "accuracy-blocks.md"
APART = "between runtimes"
SECTIONS = {"snapdragon fp16": "Float networks, fp16", "snapdragon int8": "8-bit networks, int8"}
PROTOCOLS = {"model": "networks out", "family": "families out", "board": "devices out"}
TITLES = {
    "tf-nas-titan-rtx eager-fp32-1.1": "Titan RTX, batch 32",
    "tf-nas-xeon-gold-6130 eager-fp32": "Xeon Gold 6130, one thread, batch 1",
}
BLOCK_PROTOCOLS = {"model": "a tenth of the blocks", "family": "a map size",
                   "kernel": "a kernel size", "width": "a range of widths"}  # fmt: skip
INTRO = """# Accuracy of the Snapdragon targets

Figures are those of Qualcomm AI Hub's published performance tables: networks that ran on the
Hexagon NPU alone, batch 1. What the page [Accuracy](accuracy.md) says holds here too: every error
is on figures that were never fitted, everything is refitted inside each fold, no row is trimmed.
*Networks out* leaves out a tenth of the networks on all devices and runtimes at once, *families
out* every network of a family on all of them, *devices out* all rows of a device. Baselines are
FLOPs and the plain roofline times a constant of the target's other rows (of all targets, for
devices left out), on the same folds. One physical model is fitted for each precision, all devices
and runtimes together; how firmly its prior holds is chosen inside every fold, on networks left out
of that fold's rows.
"""
NOTES = """## What to know

- Devices are described by published TOPS, and Qualcomm publishes neither the NPU's clock nor its
  rate in fp16, nor what power mode the hosted boards run in. Some boards reach four fifths of the
  peak that is assumed, others a fifth: *devices out* is therefore not useful as an absolute figure,
  one measured network sets the scale. A device that has figures of its own does not suffer from it.
- Sixty of the published networks could be rebuilt, and most families have one or two: a
  left-out family has little beside it that is alike. That is the gap between *networks out* and
  *families out*.
- Compilers treat some operators quite differently by runtime and precision (softmax over long
  sequences, 3D convolutions behind TFLite, dilated convolutions): those are the largest errors.
- SA7255P ADP and QCS8275 (Proxy) hold the same values, which count once. Rows with any layer on the
  CPU or GPU, mixtures of widths (w8a16 and others), and networks whose structure or input size no
  permissive definition gives are left out; the fit's output counts them by reason.
- Image sizes are those that AI Hub compiles for. Model cards name another one for EfficientNet-B4
  and V2-S, FCN, U-Net and MobileViT. Parameters of all networks agree with the cards to 1 %, save
  those that `scripts/networks/aihub_catalogue.py` gives a reason for.
- DLC and context binary are forms of one compiler's output; no rebuilt network was published in
  both, so that they could not be told apart.
"""
BLOCK_INTRO = """# Accuracy on TF-NAS's blocks

Inverted residual blocks (a 1x1 convolution, a depthwise one, squeeze-and-excitation where there is
any, a 1x1 convolution), timed one by one under eager PyTorch 1.1 in fp32: published by Hu et al.,
ECCV 2020. A block is a small graph of kernels, fitted as one figure. Median / mean error in percent
on blocks that were never fitted; a tenth of the blocks, all blocks of one map size, of one kernel
size, or of one range of widths (up to 2, 4, 6 times the input's, and more) are left out at once.
Widths between multiples of 8 are not measured and not used; no row is trimmed.
"""


def main() -> None:
    """Write the pages, or with ``--check`` say whether they are current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--public-data", type=Path)
    arguments = parser.parse_args()
    data = json.loads(SNAPDRAGON.with_suffix(".json").read_text(encoding="utf-8"))
    if arguments.public_data:
        data[APART] = between_runtimes(arguments.public_data)
        text = json.dumps(data, indent=1, sort_keys=True) + "\n"
        SNAPDRAGON.with_suffix(".json").write_text(text, encoding="utf-8")
    blocks = json.loads(BLOCKS.with_suffix(".json").read_text(encoding="utf-8"))
    for path, content in ((SNAPDRAGON, page(data)), (BLOCKS, block_page(blocks))):
        if arguments.check and path.read_text(encoding="utf-8") != content:
            raise SystemExit(f"{path.name} is not current: run "
                             "python -m scripts.write_accuracy_aihub")  # fmt: skip
        if not arguments.check:
            path.write_text(content, encoding="utf-8")


def between_runtimes(public_data: Path) -> dict[str, dict[str, float]]:
    """How far two runtimes are apart on one network of one device, percent, by precision."""
    series: dict[tuple[str, ...], dict[str, float]] = {}
    with (public_data / FILE).open(newline="", encoding="utf-8") as handle:
        for r in csv.DictReader(handle):
            if r["compute_unit"] == "NPU" and r["device"] not in SAME_ROWS:
                key = (r["precision"], r["device"], r["model"], r["component"])
                series.setdefault(key, {})[r["runtime"]] = float(r["latency_ms"])
    result = {}
    for precision in ("float", "w8a8"):
        for other in ("tflite", "onnx", "qnn_context_binary"):
            logs = [abs(np.log(s[other] / s["qnn_dlc"])) for (p, *_), s in series.items()
                    if p == precision and other in s and "qnn_dlc" in s]  # fmt: skip
            if len(logs) >= 5:
                percent = 100 * np.expm1(logs)
                result[f"{precision}: {other} and qnn_dlc"] = {
                    "n": len(logs), "median_pct": round(float(np.median(percent)), 1),
                    "mean_pct": round(float(np.mean(percent)), 1),
                }  # fmt: skip
    return result


def page(data: Mapping[str, Any]) -> str:
    """The whole of ``docs/accuracy-snapdragon.md``."""
    parts = [INTRO]
    for name, title in SECTIONS.items():
        parts.append(f"## {title}\n\n### All targets together\n")
        parts.append(_whole(data[name]["all"], PROTOCOLS) + "\n")
        parts.append("### Families left out\n\nMedian / mean error in percent, all targets.\n")
        parts.append(fold_table(data[name]["all"]["family"]) + "\n")
        parts.append("### By target\n\nMedian / mean error in percent; rank is Spearman's "
                     "correlation, families left out.\n")  # fmt: skip
        parts.append(target_table("target", data[name]["boards"], PROTOCOLS) + "\n")
    parts.append("## Two runtimes, one network, one device\n\nLarger over smaller, less one, in "
                 "percent: how far one set of figures can stand for another.\n")  # fmt: skip
    rows = [(what, str(v["n"]), pair(v)) for what, v in sorted(data.get(APART, {}).items())]
    parts.append(table(("pair", "n", "median / mean"), rows) + "\n")
    return "\n".join([*parts, NOTES])


def block_page(data: Mapping[str, Any]) -> str:
    """The whole of ``docs/accuracy-blocks.md``."""
    parts = [BLOCK_INTRO]
    for name, title in TITLES.items():
        whole = data[name]["all"]
        parts.append(f"## {title}\n\n{_whole(whole, BLOCK_PROTOCOLS)}\n")
        for protocol in ("family", "kernel", "width"):
            parts.append(fold_table(whole[protocol]) + "\n")
    return "\n".join(parts)


def _whole(protocols: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    rows = []
    for name, title in titles.items():
        entry = protocols[name]
        rows.append((
            title, str(entry["n"]), pair(entry), f"{entry['within_20_pct']:.0f}",
            f"{entry['bias_pct']:+.0f}", f"{entry['spearman']:.3f}",
            pair(entry["baselines"]["flops"]), pair(entry["baselines"]["roofline"]),
        ))  # fmt: skip
    header = ("left out", "n", "median / mean", "within 20 %", "bias", "rank",
              "FLOPs x constant", "roofline x constant")  # fmt: skip
    return table(header, rows)


if __name__ == "__main__":
    main()
