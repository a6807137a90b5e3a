"""How fast ``batch`` is with one process and with several, and how much memory it takes.

    OMP_NUM_THREADS=1 python -m scripts.bench_batch [--rows 100000] [--runs 5] [--jobs 1 2]

Tables of random once-for-all keys, each run a command of its own, the counts of processes by turns
so that whatever else the machine does meets all alike. For each run: seconds from start to end,
processor seconds of all its processes, peak memory of the largest one and the machine's load
before. At the end the medians, and the median of what each turn's first count took over the others.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from predictor.search.spaces.ofa import OnceForAll


def write_table(path: Path, rows: int, seed: int) -> None:
    """Random keys of the published space, one a row."""
    space, chance = OnceForAll(), Random(seed)
    with path.open("w", encoding="utf-8") as stream:
        stream.write("model\n")
        for _ in range(rows):
            stream.write(f'"ofa:{space.key(space.random(chance))}"\n')


def timed(table: Path, out: Path, jobs: int, extra: Sequence[str]) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak MB of one command."""
    command = [sys.executable, "-m", "predictor.cli", "batch", str(table), "-o", str(out)]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--jobs", str(jobs), *extra], stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)  # its own processes, which it waited for, count too
    took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", action="append")
    parser.add_argument("--seed", type=int, default=1)
    asked, other = parser.parse_known_args()
    extra = [word for device in asked.device or ["jetson"] for word in ("--device", device)]
    found: dict[int, list[tuple[float, float, float]]] = {jobs: [] for jobs in asked.jobs}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "models.csv"
        write_table(table, asked.rows, asked.seed)
        for run in range(asked.runs):
            for jobs in asked.jobs:
                load = os.getloadavg()[0]
                one = timed(table, Path(folder) / f"out{jobs}.csv", jobs, [*extra, *other])
                found[jobs].append(one)
                print(f"run {run + 1}, {jobs} processes: {one[0]:6.1f} s, {one[1]:6.1f} s of "
                      f"processors, {one[2]:4.0f} MB, load {load:.1f}", flush=True)  # fmt: skip
        outs = {(Path(folder) / f"out{jobs}.csv").read_bytes() for jobs in asked.jobs}
    print(f"{asked.rows:,} rows on {', '.join(asked.device or ['jetson'])}, the outputs are "
          f"{'the same' if len(outs) == 1 else 'NOT the same'}")  # fmt: skip
    first = asked.jobs[0]
    for jobs, runs in found.items():
        took, cpu, memory = (statistics.median(column) for column in zip(*runs, strict=True))
        ratio = statistics.median(one[0] / own[0] for one, own in
                                  zip(found[first], runs, strict=True))  # fmt: skip
        print(f"{jobs} processes: median {took:.1f} s, {asked.rows / took:,.0f} rows a second, "
              f"{cpu:.1f} s of processors, {memory:.0f} MB; {ratio:.2f} x {first}")  # fmt: skip


if __name__ == "__main__":
    main()
