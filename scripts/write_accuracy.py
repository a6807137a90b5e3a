"""Write ``docs/accuracy.md`` and the README's accuracy table from ``docs/accuracy.json``.

python -m scripts.write_accuracy [--check]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.accuracy_tables import fold_table, pair, table

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- accuracy:begin -->", "<!-- accuracy:end -->"
PROTOCOLS = ("model", "family", "board", "source")
TITLES = {
    "jetson": "TensorRT fp16, batch 1, engine alone (Jetson boards, two desktop cards)",
    "raspberry-pi": "TFLite on Raspberry Pi boards, one thread",
    "timm-rtx-3090 eager-amp": "RTX 3090, PyTorch 2.4.0 eager, amp, large batches",
    "timm-rtx-4090 eager-amp": "RTX 4090, PyTorch 2.9.1 eager, amp, large batches",
    "timm-rtx-4090 torch_compile-amp": "RTX 4090, PyTorch 2.9.1 torch.compile, amp, large batches",
    "timm-rtx-pro-6000-max-q eager-amp": "RTX PRO 6000 Max-Q, PyTorch 2.9.1 eager, amp",
    "timm-rtx-pro-6000-max-q torch_compile-amp": "RTX PRO 6000 Max-Q, PyTorch 2.9.1 torch.compile",
    "raspberry-pi-5 tflite-fp32": "Raspberry Pi 5, TFLite fp32, one thread: cells of NAS-Bench-201",
    "timm-i9-10940x torch_compile-fp32": "Core i9-10940X, PyTorch 2.4.0 torch.compile, fp32",
}
INTRO = """# Accuracy

Everything here is the error on figures that were never fitted. A protocol leaves out every row of a
group at once (all input sizes of a network, all networks of a family, all figures of a board, all
figures of a source), refits every constant on the rest, and compares. The error is |predicted /
measured - 1|; no row is trimmed. `n` counts the rows that were predicted. Baselines are on the
same folds: FLOPs times a constant, and the plain roofline times a constant, the constant being the
median of the board's other rows (of all boards, where the board is left out).

Public figures are not exact either: two sources for one Jetson board differ by 10 to 25 %, for
the power mode, the clocks, the version of TensorRT and the way of timing differ. That is the noise
floor of *sources left out*.

`python -m scripts.fit_profiles --public-data DIR` and, for the timm tables, `python -m
scripts.timm_fit` make all figures and profiles anew; `python -m scripts.write_accuracy` writes this
page. Other pages: [all targets](targets.md),
[operators and language models](accuracy-operators.md),
[unseen GPUs](accuracy-unseen-gpus.md), [a few measurements](accuracy-few-shot.md),
[ncnn](accuracy-ncnn.md), [Snapdragon](accuracy-snapdragon.md), [TF-NAS](accuracy-blocks.md).
"""
NOTES = """## What to know

- *Families left out* on the trtutils rows leaves the other YOLO versions in. With every YOLO left
  out at once, and so hardly anything but image classifiers to fit on, the same boards are predicted
  with a mean error of about 21 %, nearly all of it one bias: detectors come out too fast.
- *Boards left out*: where a generation has one board only (the Nano among the boards before Volta),
  its depthwise and pointwise efficiencies cannot be known from others. A second board of a
  generation is predicted from its siblings within 5 to 11 %.
- *Sources left out*: several boards have only one source. Leaving it out then also leaves out the
  board and most detectors, or all classifiers.
- The trtutils rows named "AGX Orin 32GB" are read as the developer kit of 2022 (32 GB, 16 SMs at
  1.3 GHz): as the 32GB module (14 SMs at 930 MHz) they would reach a larger share of the peak than
  any other Orin, as the developer kit the same share.
- On the timm tables a *model* fold holds a fifth of the networks, a *family* fold a tenth of the
  families; the interval there goes by the distance to the nearest fitted network, and covers 90 %
  of the rows of left-out families with widths from the other folds. Figures of two versions of
  PyTorch on one machine differ by 7.7 % in the mean on the Core i9 (n = 1312) and 3.7 % on the RTX
  4090 (n = 1338) after one factor: that is the floor there.
- The 90 % interval of another target is the 90 % quantile of its left-out errors (families or
  sources, whichever is wider; boards, for a board without figures), widened by kernels without any
  figure.
"""


def main() -> None:
    """Write both, or with ``--check`` say whether they are current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    data = json.loads((ROOT / "docs" / "accuracy.json").read_text(encoding="utf-8"))
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    wanted = {
        readme: f"{head}{BEGIN}\n{readme_table(data)}\n{END}{tail}",
        ROOT / "docs" / "accuracy.md": page(data),
    }
    for path, content in wanted.items():
        if check and path.read_text(encoding="utf-8") != content:
            raise SystemExit(f"{path.name} is not current: run python -m scripts.write_accuracy")
        if not check:
            path.write_text(content, encoding="utf-8")


def page(data: Mapping[str, Any]) -> str:
    """The whole of ``docs/accuracy.md``."""
    parts = [INTRO]
    for name, collection in data.items():
        parts.append(f"## {TITLES.get(name, name)}\n")
        parts.append("Median / mean error in percent, and n.\n")
        parts.append(_board_table(collection) + "\n")
        for protocol in PROTOCOLS:
            whole = collection["all"].get(protocol)
            if whole and len(whole["folds"]) > 1:
                parts.append(f"### By {protocol} that was left out\n\n{fold_table(whole)}\n")
    return "\n".join([*parts, NOTES])


def readme_table(data: Mapping[str, Any]) -> str:
    """One line a target: mean errors by protocol, and what FLOPs alone would give."""
    rows = []
    for name, collection in data.items():
        label = name.partition(" ")[2] or {"jetson": "tensorrt-fp16"}.get(name, "tflite")
        for board, protocols in collection["boards"].items():
            family = protocols.get("family")
            if family is None:
                continue
            cells = [pair(protocols.get(p)) for p in PROTOCOLS]
            flops = family["baselines"]["flops"]["mean_pct"]
            rows.append((board, label, str(family["n"]), *cells, f"{flops:.0f}"))
    header = ("target", "runtime", "n", "models", "families", "boards", "sources", "FLOPs only")
    caption = (
        "Median / mean error in percent on what was left out; the last column is the mean error of "
        "FLOPs times a\nconstant on the same left-out families. "
        "[Folds, sources and baselines](docs/accuracy.md).\n\n"
    )
    return caption + table(header, rows)


def _board_table(collection: Mapping[str, Any]) -> str:
    rows = []
    entries = dict(collection["boards"])
    if len(entries) > 1:
        entries["**all**"] = collection["all"]
    for board, protocols in entries.items():
        some = protocols.get("family") or next(iter(protocols.values()))
        rows.append((
            board, str(some["n"]), *(pair(protocols.get(p)) for p in PROTOCOLS),
            pair(some["baselines"]["flops"]), pair(some["baselines"]["roofline"]),
            ", ".join(some["sources"]),
        ))  # fmt: skip
    header = ("target", "n", "models out", "families out", "boards out", "sources out",
              "FLOPs (families)", "roofline (families)", "sources")  # fmt: skip
    return table(header, rows)


if __name__ == "__main__":
    main()
