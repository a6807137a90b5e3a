"""CPU seconds of this package beside every other counter, in one run on one thread.

    python scripts/bench_counters.py --device jetson --write

Each model is built once, with ordinary weights, before anything is timed; each tool then runs on
it ``--repeats`` times after one warm-up and the median of the process time is kept. Ours traces
the module and predicts its latency on a device; the others count. A tool that is not installed, or
that fails on a model, shows a dash. Two packages are both imported as ``thop``: give the folder of
the second with ``--ultralytics-thop FOLDER`` (``pip install --no-deps --target FOLDER
ultralytics-thop``). Ours is timed first and last on each model, to show what the machine's other
load did.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
FIXED = ("torchvision:resnet50", "torchvision:vit_b_16", "torchvision:swin_t",
         "torchvision:densenet121")  # fmt: skip
LARGEST = 100_000_000
"""Random models have at most this many parameters, so that a real forward pass is affordable."""

Tool = Callable[[Any, tuple[int, ...]], Any]


def ours(device: str) -> Tool:
    import predictor

    def run(module: Any, shape: tuple[int, ...]) -> Any:
        return predictor.predict(predictor.trace(module, shape), device=device)

    return run


def ours_trace(module: Any, shape: tuple[int, ...]) -> Any:
    import predictor

    return predictor.trace(module, shape)


def thop(module: Any, shape: tuple[int, ...]) -> Any:
    torch = importlib.import_module("torch")
    counter = importlib.import_module("thop")
    return counter.profile(module, inputs=(torch.zeros(shape),), verbose=False)


def ptflops(backend: str) -> Tool:
    def run(module: Any, shape: tuple[int, ...]) -> Any:
        counter = importlib.import_module("ptflops")
        result = counter.get_model_complexity_info(
            module, tuple(shape[1:]), as_strings=False, print_per_layer_stat=False,
            verbose=False, backend=backend,
        )  # fmt: skip
        if result[0] is None:
            raise RuntimeError("no count")
        return result

    return run


def fvcore(module: Any, shape: tuple[int, ...]) -> Any:
    torch = importlib.import_module("torch")
    counter = importlib.import_module("fvcore.nn").FlopCountAnalysis(module, torch.zeros(shape))
    counter.unsupported_ops_warnings(False)
    counter.uncalled_modules_warnings(False)
    return counter.total()


def torchinfo(module: Any, shape: tuple[int, ...]) -> Any:
    return importlib.import_module("torchinfo").summary(module, input_size=shape, verbose=0)


def calflops(module: Any, shape: tuple[int, ...]) -> Any:
    return importlib.import_module("calflops").calculate_flops(
        model=module, input_shape=shape, print_results=False, print_detailed=False,
        output_as_string=False,
    )  # fmt: skip


def flop_counter(module: Any, shape: tuple[int, ...]) -> Any:
    torch = importlib.import_module("torch")
    counter = importlib.import_module("torch.utils.flop_counter").FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(torch.zeros(shape))
    return counter.get_total_flops()


TOOLS: dict[str, Tool] = {
    "thop": thop, "ultralytics-thop": thop, "ptflops (pytorch)": ptflops("pytorch"),
    "ptflops (aten)": ptflops("aten"), "fvcore": fvcore, "torchinfo": torchinfo,
    "calflops": calflops, "torch FlopCounterMode": flop_counter,
}  # fmt: skip


def timed(tool: Tool, module: Any, shape: tuple[int, ...], repeats: int) -> float | None:
    """Median process time in seconds after one warm-up; None where the tool fails."""
    seconds = []
    for _ in range(repeats + 1):
        began = time.process_time()
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tool(module, shape)
        except Exception as error:  # whatever another package raises is its result
            print(f"    fails: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
            return None
        seconds.append(time.process_time() - began)
    return statistics.median(seconds[1:])


def models(count: int, seed: int) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Name, module with weights, input shape."""
    from predictor.frontends.zoo import build_named

    build_named("timm:resnet18")
    names = sorted(importlib.import_module("timm").list_models())
    random.Random(seed).shuffle(names)
    chosen: list[tuple[str, Any, tuple[int, ...]]] = []
    for name in (*FIXED, *(f"timm:{name}" for name in names)):
        meta = build_named(name)
        if sum(p.numel() for p in meta.module.parameters()) > LARGEST:
            continue
        chosen.append((name, None, tuple(meta.inputs)))
        if len(chosen) == len(FIXED) + count:
            break
    return chosen


def run(options: argparse.Namespace) -> dict[str, dict[str, float | None]]:
    """Seconds by model and tool, every tool on a fresh copy (some leave hooks and buffers)."""
    from predictor.frontends.zoo import build_named

    table: dict[str, dict[str, float | None]] = {}
    chosen = [m for m in models(options.models, options.seed) if options.match in m[0]]
    for name, _, shape in chosen:
        row: dict[str, float | None] = {}
        tools: dict[str, Tool] = {"trace + predict": ours(options.device), "trace": ours_trace}
        tools |= {k: v for k, v in TOOLS.items() if k in options.tools}
        tools["trace + predict, again"] = ours(options.device)
        for label, tool in tools.items():
            module = build_named(name, on_meta=False).module
            row[label] = timed(tool, module, shape, options.repeats)
        table[name] = row
        print(name, {k: v and round(v, 3) for k, v in row.items()}, flush=True)
    return table


def merged(options: argparse.Namespace) -> dict[str, dict[str, float | None]]:
    """The run, with the second ``thop`` timed by a process of its own."""
    table = run(options)
    if not options.ultralytics_thop:
        return table
    command = [sys.executable, __file__, "--only-thop", options.ultralytics_thop,
               "--models", str(options.models), "--seed", str(options.seed),
               "--repeats", str(options.repeats), "--match", options.match]  # fmt: skip
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in out.splitlines():
        name, tab, seconds = line.partition("\t")
        if tab and name in table:
            table[name]["ultralytics-thop"] = None if seconds == "-" else float(seconds)
    return table


def report(table: dict[str, dict[str, float | None]], options: argparse.Namespace) -> str:
    """Markdown: medians, ratios to ours, wins, and every figure."""
    mine = {name: max(row["trace + predict"] or 0, row["trace + predict, again"] or 0)
            for name, row in table.items()}  # fmt: skip
    lines = [f"{len(table)} models, CPU seconds, one thread, warm, median of {options.repeats}; "
             f"device of the prediction: {options.device}.", "",
             "| | median s | ours is faster on | median ratio to ours | failed on |",
             "|---|---|---|---|---|"]  # fmt: skip
    for tool in ("trace + predict", "trace + predict, again", "trace", *options.tools):
        known = {n: s for n, row in table.items() if (s := row.get(tool)) is not None}
        if not known:
            continue
        wins = sum(seconds > mine[name] for name, seconds in known.items())
        ratio = statistics.median(seconds / mine[name] for name, seconds in known.items())
        foreign = tool in TOOLS
        lines.append(
            f"| {tool} | {statistics.median(known.values()):.3f} | "
            f"{f'{wins} of {len(known)}' if foreign else ''} | "
            f"{f'{ratio:.1f}' if foreign else ''} | {len(table) - len(known)} |"
        )
    smallest = sum(
        all(s is None or s > (row["trace + predict"] or 0) for t, s in row.items() if t in TOOLS)
        for row in table.values()
    )
    lines += ["", f"By the first of our two timings, which the rows show, ours is the fastest "
              f"on {smallest} of {len(table)} models."]  # fmt: skip
    labels = ["trace + predict", *options.tools]
    lines += ["", f"| model | {' | '.join(labels)} |", "|---" * (len(labels) + 1) + "|"]
    for name, row in table.items():
        cells = ["-" if row.get(t) is None else f"{row[t]:.3f}" for t in labels]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


HEAD = """# How fast counting and predicting is

All in one run; only the second `thop` needs a process of its own. The other tools run the network
on real tensors or trace it, and count MACs; ours also records bytes, parameters, liveness and
parallelism of every operator, fuses the graph and predicts a latency for each kernel. "Ours is
faster" compares with the slower of our two timings on a model, first and last in its row. Rebuild
with `python scripts/bench_counters.py --write`.

"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="jetson")
    parser.add_argument("--models", type=int, default=20, help="random timm models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--match", default="")
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--ultralytics-thop", metavar="FOLDER")
    parser.add_argument("--only-thop", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    if options.only_thop:
        sys.path.insert(0, options.only_thop)
        from predictor.frontends.zoo import build_named

        for name, _, shape in models(options.models, options.seed):
            if options.match in name:
                module = build_named(name, on_meta=False).module
                seconds = timed(thop, module, shape, options.repeats)
                print(f"{name}\t{'-' if seconds is None else seconds}", flush=True)
        return 0
    if options.ultralytics_thop is None:
        options.tools = [tool for tool in options.tools if tool != "ultralytics-thop"]
    else:
        first = [tool for tool in options.tools if tool != "ultralytics-thop"]
        options.tools = first
    table = merged(options)
    if options.ultralytics_thop:
        options.tools = ["ultralytics-thop", *options.tools]
    text = report(table, options)
    print(text)
    if options.write:
        PAGE.write_text(HEAD + text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
