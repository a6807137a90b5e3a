"""docs/accuracy-operators.md from the errors of left-out devices: aggregates alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from predictor.kernels.features import Floats
from scripts.figures import summary

if TYPE_CHECKING:
    from scripts.neusight_fit import Outcome

INTRO = """# Accuracy of operators and language models on a GPU that was never measured

PyTorch 2.1.0 eager, CUDA 12.1, fp32 with TF32 off: the tables of NeuSight (Lee et al., ASPLOS 2025,
MIT). A device is left out whole, and everything is refitted on the older ones (P4, P100, V100, T4,
less the device itself): waits, offsets, tiles, trees. Nothing of the left-out device is used but
its profile. Every row of it is scored, none trimmed. Errors are |predicted / measured - 1| in
percent. `python -m scripts.neusight_fit --public-data DIR` makes this page and the profiles.

The roofline beside it is max(FLOPs / peak, bytes / bandwidth) times the training devices' median of
measured over roofline by operator class (of networks: by network).
"""
METHOD = """## How a kernel is predicted

A call of one operator takes wait + physics x exp(offset + trees). The *wait* is the host's, by
operator class; a new device takes the one with the least mean percentage error over the others. The
*physics* cuts the kernel into tiles and waves (`predictor/latency/tiles.py`). The *offset* is a
device's own log factor by class; a new device takes those of the others, each weighted by the ratio
of power limits, as clocks under load follow them. The *trees* (LightGBM, fitted through the sum, on
4,000 rows a device and class drawn with a fixed seed) see ratios and a few sizes, and nothing that
names a device. Columns and settings were chosen by leaving out one of the four older devices.

Whole networks are the sum of their kernels, without any term fitted on networks. In a network the
waits hide behind running kernels, so only the first counts.
"""
LLM_NOTES = """The column `num_layer` of the table is the number of transformer layers of the
model; for `switchxl4` (24 encoder and 24 decoder layers) it is empty or 0. `gpt3_xl` has 24 heads
of 128 and so a width of 3072 (2.9 G parameters, head tied), which its times beside `gpt3_27`
confirm; the published GPT-3 XL has 1.3 G, and its width of 2048 is no multiple of 24 heads. The
networks are built operator by operator as Hugging Face's of 2023 ran
(`scripts/neusight_models.py`); parameters and MACs are held to hand formulas by a test.
"""
LIMITS = """## What falls short

- **bmm on the A100** misses 10 %. The A100's library computes batched products in 128 x 128 tiles
  at any shape, none of the four older devices does, and small products pay for it. With the tiles
  of all generations told (found from all rows, the A100's too, so no blind figure) the same trees
  reach the figure in the table's second line. The shipped forest knows them, and takes Ampere's for
  later generations too.
- The errors of the A100s were in view while the method was made, though nothing was fitted on them
  and choices were made on the older devices; a device never looked at may fare worse.
- **conv2d** is bounded by its table: trees that were trained on the device's own rows do little
  better than those of the older devices (the table's last line). Which algorithm the library's
  heuristics take is erratic between neighbouring shapes, alike on all devices; the algorithm's name
  is measured on the row and is not used.
- **P4 and T4** throttle at 75 and 70 W by run time and cooling, which no datasheet says; each has
  one other such card to learn from.
- **V100** is left out with only less efficient cards to learn from, so everything comes out slow.
- The P100's host launched slowest by far, so its small calls come out too fast.
"""


def page(
    outcomes: Sequence[Outcome], told: Outcome, shapes: Mapping[str, Mapping[str, Floats]],
    ceiling: Mapping[str, Mapping[str, Floats]], known: Mapping[str, Floats],
) -> str:  # fmt: skip
    """The whole page."""
    parts = [INTRO, "## Operators\n", "Mean error of ours / of the roofline, and n.\n",
             _operators(outcomes),
             "The A100s again (convolutions on the 80 GB card, the rest on the 40 GB card):\n",
              _variants(outcomes, told, shapes, ceiling),
             "## Language models, inference, one GPU\n", _networks(outcomes, known),
             _models(outcomes), LLM_NOTES, METHOD, LIMITS]  # fmt: skip
    return "\n".join(parts)


def _mean(errors: Floats) -> str:
    return f"{summary(errors)['mean_pct']:.1f}"


def _operators(outcomes: Sequence[Outcome]) -> str:
    kinds = list(dict.fromkeys(k for o in outcomes for k in o.operators))
    lines = ["| operator | " + " | ".join(o.device for o in outcomes) + " |",
             "|---" * (len(outcomes) + 1) + "|"]  # fmt: skip
    for kind in kinds:
        cells = [
            f"{_mean(o.operators[kind])} / {_mean(o.roofline[kind])}, {len(o.operators[kind]):,}"
            if kind in o.operators else "" for o in outcomes
        ]  # fmt: skip
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _variants(
    outcomes: Sequence[Outcome], told: Outcome, shapes: Mapping[str, Mapping[str, Floats]],
    ceiling: Mapping[str, Mapping[str, Floats]],
) -> str:  # fmt: skip
    kinds = ("bmm", "linear", "conv2d", "softmax", "layer_norm")
    newer = [o for o in outcomes if o.device in shapes]

    def line(name: str, sources: Sequence[Mapping[str, Floats]]) -> str:
        found = {k: v for source in sources for k, v in source.items()}
        cells = [f"{_mean(found[k])} ({len(found[k]):,})" if k in found else "" for k in kinds]
        return f"| {name} | " + " | ".join(cells) + " |"

    return "\n".join([
        "| mean error (n) | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|",
        line("device left out", [o.operators for o in newer]),
        line("device left out, tile of batched products told", [told.operators]),
        line("device left out, and these shapes everywhere", list(shapes.values())),
        line("for comparison: trained on four fifths of its own shapes", list(ceiling.values())),
    ]) + "\n"  # fmt: skip


def _networks(outcomes: Sequence[Outcome], known: Mapping[str, Floats]) -> str:
    lines = ["| device | n | left out: mean | median | bias | roofline: mean "
             "| its operators known: mean |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for o in outcomes:
        if len(o.networks):
            s = summary(o.networks)
            lines.append(f"| {o.device} | {s['n']} | {s['mean_pct']} | {s['median_pct']} | "
                         f"{s['bias_pct']:+} | {_mean(o.network_roofline)} | "
                         f"{_mean(known[o.device])} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def _models(outcomes: Sequence[Outcome]) -> str:
    """By model, pooled over left-out devices, as single errors would give measured values away."""
    pooled: dict[str, list[float]] = {}
    for o in outcomes:
        for model, errors in o.by_model.items():
            pooled.setdefault(model, []).extend(errors)
    cells = [f"{m}: {_mean(np.array(e))} ({len(e)})" for m, e in sorted(pooled.items())
             if len(e) >= 3]  # fmt: skip
    return "By model over all left-out devices, mean error (n): " + ", ".join(cells) + ".\n"
