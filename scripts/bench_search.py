"""How many once-for-all candidates a second are priced, and whether as a traced one is predicted.

    OMP_NUM_THREADS=1 python -m scripts.bench_search [--runs 5] [--targets jetson ...]

Each run is a process of its own, so nothing is known at its start. CPU seconds of one thread;
medians of the runs. Drawing the candidates is not counted. Writes ``docs/search-speed.json`` and
the page ``docs/search-speed.md``.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import predictor
from predictor.files import write_whole
from predictor.front import Values
from predictor.pipeline import Predictor, find_predictor
from predictor.search.pricing import Pricer
from predictor.search.spaces.ofa import OnceForAll

TARGETS: dict[str, dict[str, str]] = {
    "jetson": {}, "raspberry-pi-5": {}, "rtx-3090": {}, "epyc-milan": {"runtime": "eager"},
}  # fmt: skip
COLD, WARM, COMPARED, RUNS, SEED, SHOWN = 1000, 10_000, 20, 5, 0, 3
WANTED_COLD, WANTED_WARM, WANTED_EQUAL = 1000, 10_000, 1e-6


class Timed(Pricer):
    """A pricer that tells how long it looked for its way."""

    choosing = 0.0

    def _choose_way(self) -> None:
        began = time.process_time()
        super()._choose_way()
        self.choosing = time.process_time() - began


def drawn(space: OnceForAll, seed: int) -> list[Values]:
    """Distinct candidates: those of the cold run, then the others."""
    chance, found = Random(seed), dict[str, Values]()
    while len(found) < COLD + WARM:
        values = space.random(chance)
        found[space.key(values)] = values
    return list(found.values())


def seconds(call: Callable[[], object], profile: cProfile.Profile | None = None) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    if profile is None:
        call()
    else:
        profile.runcall(call)
    return time.process_time() - began


def one_run(name: str, seed: int, profiled: bool) -> dict[str, Any]:
    """Everything about one target from a fresh start; profiled runs are not timed."""
    space = OnceForAll()
    candidates = drawn(OnceForAll(), seed)
    forget()
    cold, warm = candidates[:COLD], candidates[COLD:]
    target = find_predictor(name, **TARGETS[name])
    pricer = Timed(space, [target])
    profiles = [cProfile.Profile() if profiled else None for _ in range(2)]
    all_cold = seconds(lambda: pricer.price(cold), profiles[0])
    others = seconds(lambda: pricer.price(warm))
    again = seconds(lambda: pricer.price(warm), profiles[1])
    parts = sum(len(space.chain(values) or ()) for values in warm) / len(warm)
    return {
        "cold": COLD / all_cold, "cold_after_choosing": COLD / (all_cold - pricer.choosing),
        "choosing_s": pricer.choosing, "others": WARM / others, "again": WARM / again,
        "way": pricer.way, "target": pricer.targets[0], "joins": joins(pricer),
        "parts": parts, "rows": len(pricer._before), "lookup_ns": 1e9 * lookup_s(pricer),
        "top": [top(profile) for profile in profiles if profile is not None],
    }  # fmt: skip


def joins(pricer: Pricer) -> bool:
    """Whether the kernels of the parts are joined for each candidate."""
    return any(ledger.joins for ledger in pricer._ledgers)


def forget() -> None:
    """Drawing distinct candidates made their parts; nothing of that is kept."""
    from predictor.frontends.families import ofa, parts

    for cached in (ofa._stage, ofa._stage_parts, ofa._ends, parts.part):
        cached.cache_clear()


def lookup_s(pricer: Pricer) -> float:
    """Seconds of one look-up of a part that is known, its key made as the pricer makes it."""
    known = pricer._known
    keys = list(known)[:1000]
    best = min(timeit.repeat(
        lambda: [known.get((state, before, part)) for state, before, part in keys],
        number=20, repeat=5, timer=time.process_time,
    ))  # fmt: skip
    return best / 20 / len(keys)


def top(profile: cProfile.Profile) -> list[tuple[str, float]]:
    """What took most time itself, as shares of all."""
    stats = pstats.Stats(profile)
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])  # type: ignore[attr-defined]
    whole = sum(row[2] for _, row in rows)
    return [(_place(*where), row[2] / whole) for where, row in rows[:SHOWN]]


def _place(file: str, line: int, function: str) -> str:
    path = Path(file)
    root = Path(predictor.__file__).parent.parent
    return f"{path.relative_to(root)}: {function}" if path.is_relative_to(root) else function


def differences(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The largest relative difference from the traced module, by target."""
    space, chance = OnceForAll(), Random(SEED)
    some = [space.random(chance) for _ in range(COMPARED)]
    graphs = [predictor.trace(space.module(values), (1, *space.input_shape(values)))
              for values in some]  # fmt: skip
    found = {}
    for name in names:
        target = find_predictor(name, **TARGETS[name])
        priced = Pricer(space, [target]).price(some)[f"latency_ms {target.device.name}"]
        ratios = [abs(ours / traced(target, name, graph) - 1)
                  for ours, graph in zip(priced, graphs, strict=True)]  # fmt: skip
        found[name] = {"largest": float(max(ratios)), "median": float(statistics.median(ratios)),
                       "table": target.coster.table is not None}  # fmt: skip
    return found


def traced(target: Predictor, name: str, graph: Any) -> float:
    """What ``predict`` says."""
    return predictor.predict(graph, device=name, **TARGETS[name]).latency_ms


def run(names: Sequence[str], runs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Every target in fresh processes, once more profiled, and the differences."""
    rows = []
    different = differences(names)
    for name in names:
        made = [_fresh(name, number, profiled=False) for number in range(runs)]
        middle = {key: statistics.median(one[key] for one in made)
                  for key in ("cold", "cold_after_choosing", "choosing_s", "others", "again",
                              "lookup_ns", "parts", "rows")}  # fmt: skip
        spread = {key: [min(one[key] for one in made), max(one[key] for one in made)]
                  for key in ("cold", "cold_after_choosing", "others", "again")}  # fmt: skip
        top_cold, top_warm = _fresh(name, 0, profiled=True)["top"]
        rows.append({**{key: made[0][key] for key in ("target", "way", "joins")}, **middle,
                     "device": name, "spread": spread, "difference": different[name],
                     "top_cold": top_cold, "top_warm": top_warm})  # fmt: skip
        say(f"{name}: cold {middle['cold']:.0f}, warm {middle['again']:.0f} a second")
    return {"cold": COLD, "warm": WARM, "compared": COMPARED, "runs": runs,
            "load": os.getloadavg(), "cores": os.cpu_count(),
            "python": platform.python_version(), "targets": rows}  # fmt: skip


def _fresh(name: str, seed: int, *, profiled: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "scripts.bench_search", "--one", name, "--seed", str(seed)]
    command += ["--profiled"] if profiled else []
    found: dict[str, Any] = json.loads(subprocess.run(
        command, check=True, capture_output=True, text=True,
    ).stdout)  # fmt: skip
    return found


def page(found: Mapping[str, Any]) -> str:
    """The published page."""
    rows = found["targets"]
    fails = [f"{row['device']} ({what} {row[key]:,.0f})" for what, key, wanted in (
        ("cold", "cold", WANTED_COLD), ("warm", "again", WANTED_WARM)) for row in rows
        if row[key] < wanted]  # fmt: skip
    unequal = [row["device"] for row in rows if row["difference"]["largest"] > WANTED_EQUAL]
    lines = [
        "# How fast candidates are priced", "",
        "`OMP_NUM_THREADS=1 python -m scripts.bench_search` makes this page.", "",
        f"Once-for-all candidates a second on one core, by CPU seconds: medians of {found['runs']} "
        "runs, lowest and highest behind them, each a process of its own. *Cold* is a new pricer "
        f"and {found['cold']:,} distinct candidates, with and without finding out how the space "
        f"can be priced on the target; *others* are {found['warm']:,} distinct ones after that, "
        "some of whose parts are new; *warm* are the same once more, when all their parts are "
        "known (a candidate's figures are never kept, only its parts'). Drawing candidates is not "
        f"counted. The machine was shared and under load ({found['load'][0]:.1f} processes on "
        f"{found['cores']} cores), so single figures scatter by tens of percent; Python "
        f"{found['python']}.", "",
        "| target | cold | cold, way known | others | warm | largest difference from traced |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        cells = " | ".join(
            f"{row[key]:,.0f} ({row['spread'][key][0]:,.0f} – {row['spread'][key][1]:,.0f})"
            for key in ("cold", "cold_after_choosing", "others", "again"))  # fmt: skip
        lines.append(f"| {row['target']} | {cells} | {row['difference']['largest']:.1e} |")
    lines += [
        "", f"Wanted: {WANTED_COLD:,} cold, {WANTED_WARM:,} warm, differences of at most "
        f"{WANTED_EQUAL:.0e}. Missed by: {', '.join(fails) or 'none'}; unequal: "
        f"{', '.join(unequal) or 'none'}.", "",
        f"The difference is the largest of {found['compared']} random candidates between the "
        "pricer's latency and `predict` of the traced module. On measured eager targets the "
        "trees see which activations work in place: modules say so, built graphs do not.", "",
        "## Where the time goes", "",
        "The three functions with most time of their own, by cProfile (which makes many small "
        "calls look dearer than they are).", "",
        "| target | cold | warm |", "|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        shown = (", ".join(f"{place} {share:.0%}" for place, share in row[key])
                 for key in ("top_cold", "top_warm"))  # fmt: skip
        lines.append(f"| {row['target']} | {' | '.join(shown)} |")
    return "\n".join([*lines, "", *_limits(rows), ""])


def _limits(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    first = rows[0]
    ns = statistics.median(row["lookup_ns"] for row in rows)
    most = 1e9 / (first["parts"] * ns)
    joining = [row["target"] for row in rows if row["joins"]]
    found = [
        f"A candidate has {first['parts']:.1f} parts, each one look-up of {ns:.0f} ns in a "
        f"dictionary: {most:,.0f} candidates a second if nothing else were done, of which "
        f"{first['target']} reaches {first['again'] / most:.0%}. The rest is making the chain of "
        "parts from the parameters, adding up rows, and what a target does with the sums. Cold, "
        f"the time is that of building, fusing and costing {first['rows']:,.0f} parts, about one "
        f"a candidate: {1e3 * first['cold'] ** -1 * 1000 / first['rows']:.2f} ms each.",
    ]  # fmt: skip
    if joining:
        found += ["", f"On {', '.join(joining)} the kernels of every candidate are joined and "
                  "priced each, as their trees see what stands before a kernel; there the limit is "
                  "trees, not look-ups."]  # fmt: skip
    return found


def main() -> None:
    """Run and write; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--targets", nargs="*", choices=tuple(TARGETS), default=list(TARGETS))
    parser.add_argument("--one", choices=tuple(TARGETS), help="one run of one target, as JSON")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--profiled", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("docs/search-speed.json"))
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_run(options.one, options.seed, options.profiled)))
        return
    found = run(options.targets, options.runs, lambda text: print(text, flush=True))
    write_whole(options.output, (json.dumps(found, indent=1) + "\n").encode())
    write_whole(options.output.with_suffix(".md"), page(found).encode())


if __name__ == "__main__":
    main()
