"""How a number is taken: warm-up, interleaving with a reference, a stop rule, what is rejected.

Machines drift: the same network timed twice, minutes apart, differs by 10 to 20 % on a shared one.
So every block of runs stands between two runs of one fixed reference network, and what counts is
the ratio. Blocks that were preempted, throttled or in which the reference itself moved are kept
with the reason, do not count, and are taken again. Runs on the board: Python 3.6.
"""

import math
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from predictor.profiling.runtimes import Program

LIMITS = {
    "least_blocks": 6, "most_blocks": 16, "half_width": 0.02, "network_s": 12.0,
    "block_s": 0.02, "details": 8, "kernel_s": 0.05, "kernel_blocks": 6,
    "moved": 0.25, "preempted": 0.05, "warm_runs": 8, "reference_runs": 3,
}  # fmt: skip
"""Settings of a plan, by name: fewest and most blocks of a network; the relative 95 % half-width of
the median at which it is settled; seconds a network may take; seconds of a block's runs; runs with
operators timed; seconds and blocks of an isolated kernel; how far the two references of a block may
lie apart; the share of a block's time that others may take from it; most warm-up runs; runs of the
reference whose median counts as one."""


class Timer(object):
    """Times calls, and tells whether the process was kept from running meanwhile.

    ``threads`` of the process compute at once; on a GPU (``on_cpu`` False) the processor waits,
    so only the wall clock is read.
    """

    def __init__(self, on_cpu):
        # type: (bool) -> None
        self.on_cpu = on_cpu

    def time(self, work):
        # type: (Callable[[], Any]) -> Tuple[float, float]
        """Seconds that ``work`` took, and the share in which this process did not run."""
        cpu, begin = time.process_time(), time.perf_counter()
        work()
        wall = time.perf_counter() - begin
        if not self.on_cpu:
            return wall, 0.0
        ran = time.process_time() - cpu
        return wall, max(0.0, 1.0 - ran / wall) if wall > 1e-3 else 0.0


def median(values):
    # type: (List[float]) -> float
    """The middle value, or the mean of the two middle ones."""
    ordered = sorted(values)
    half, odd = divmod(len(ordered), 2)
    return ordered[half] if odd else (ordered[half - 1] + ordered[half]) / 2


def half_width(values):
    # type: (List[float]) -> float
    """Relative half-width of the 95 % interval of the median, by its order statistics.

    The interval between the ranks (n -/+ 1.96 sqrt(n)) / 2 covers the median in 95 % of samples
    whatever the distribution (binomial, normal approximation); infinite below six values.
    """
    n = len(values)
    if n < 6:
        return math.inf
    ordered = sorted(values)
    low = max(0, math.floor((n - 1.96 * math.sqrt(n)) / 2))
    high = min(n - 1, math.ceil((n + 1.96 * math.sqrt(n)) / 2))
    return (ordered[high] - ordered[low]) / 2 / median(ordered)


class Bench(object):
    """A reference program and the rules of a plan.

    Args:
        reference: the program whose time tells how fast the machine is at the moment.
        limits: settings, see :data:`LIMITS`; those that are missing take the defaults.
        on_cpu: the networks run on the processor.
        evict: empties the caches, for isolated kernels.
    """

    def __init__(self, reference, limits, on_cpu, evict):
        # type: (Program, Dict[str, Any], bool, Callable[[], None]) -> None
        self.limits = dict(LIMITS)
        self.limits.update({k: v for k, v in limits.items() if k in LIMITS})
        self.reference, self.evict = reference, evict
        self.timer = Timer(on_cpu)
        for _ in range(20):
            reference.run()

    def reference_now(self):
        # type: () -> Tuple[float, float]
        """Seconds of the reference now, and the largest share that was taken from it."""
        runs = int(self.limits["reference_runs"])
        times = [self.timer.time(self.reference.run) for _ in range(runs)]
        return median([seconds for seconds, _ in times]), min(share for _, share in times)

    def _warm(self, program):
        # type: (Program) -> Tuple[float, float]
        """Run until two runs agree to 5 %, at least twice; seconds of the first and the last."""
        first = last = self.timer.time(program.run)[0]
        for count in range(1, int(self.limits["warm_runs"])):
            now = self.timer.time(program.run)[0]
            steady = abs(now - last) <= 0.05 * last
            last = now
            if steady and count >= 2:
                break
        return first, last

    def why_not(self, references, shares):
        # type: (List[float], List[float]) -> Optional[str]
        """Why a block cannot count; None where it can."""
        if max(references) > (1 + self.limits["moved"]) * min(references):
            return "the reference moved by %.0f %%" % (
                100 * (max(references) / min(references) - 1)
            )
        if max(shares) > self.limits["preempted"]:
            return "other processes took %.0f %% of the time" % (100 * max(shares))
        return None

    def network(self, program, detail, alive):
        # type: (Program, bool, Callable[[], None]) -> Dict[str, Any]
        """Measure a whole network, its operators in place too where ``detail`` is asked.

        ``alive`` is called between blocks; it may end the process. Returns the fields of the
        journal's row, times in microseconds.
        """
        begin = time.perf_counter()
        first, usual = self._warm(program)
        count = max(1, min(200, math.ceil(self.limits["block_s"] / usual)))
        blocks = Blocks(self, program, count)
        if detail:
            program.detail_run()  # the first one warms what it alone touches
        before = self.reference_now()
        while not blocks.enough(detail, time.perf_counter() - begin):
            alive()
            before = blocks.take(before)
            if detail and len(blocks.kept) < self.limits["details"]:
                before = blocks.take_detail(before)
        row = blocks.row()
        row.update(first_run_us=micro(first), ran=program.ran)
        if blocks.ratios:
            row["throughput_fps"] = self._throughput(program, usual)
        if detail:
            names, rows = program.details()
            kept = [rows[i] for i in blocks.kept] if names else []
            row.update(detail_ops=names, detail_us=micro(kept),
                       detail_reference_us=micro(blocks.detail_references))  # fmt: skip
        return row

    def _throughput(self, program, usual):
        # type: (Program, float) -> float
        """Inferences a second, one after the other without anything between."""
        count = max(3, min(500, math.ceil(5 * self.limits["block_s"] / usual)))

        def many():
            # type: () -> None
            for _ in range(count):
                program.run()

        return round(count / self.timer.time(many)[0], 4)

    def kernel(self, program, alive):
        # type: (Program, Callable[[], None]) -> Dict[str, Any]
        """Measure an isolated kernel: in a loop over the same data, and with evicted caches."""
        limits = self.limits
        alive()
        first, usual = self._warm(program)
        blocks = int(limits["kernel_blocks"])
        count = max(1, min(1000, int(limits["kernel_s"] / 2 / blocks / max(usual, 1e-7))))
        hot, flushed, references = [], [], []  # type: List[float], List[float], List[Any]
        rejected = []  # type: List[Dict[str, Any]]

        def loop():
            # type: () -> None
            for _ in range(count):
                program.run()

        ref1, s3 = self.reference_now()
        for attempt in range(3 * blocks):
            ref0, s0 = ref1, s3
            seconds, s1 = self.timer.time(loop)
            self.evict()
            program.renew()
            cold, s2 = self.timer.time(program.run)
            ref1, s3 = self.reference_now()
            why = self.why_not([ref0, ref1], [s0, s1, s2, s3])
            if why is None:
                hot.append(seconds / count)
                flushed.append(cold)
                references.append([ref0, ref1])
            else:
                rejected.append({"block": attempt, "why": why})
            if len(hot) >= blocks:
                break
        return {
            "first_run_us": micro(first), "hot_us": micro(hot), "flushed_us": micro(flushed),
            "reference_us": micro(references), "rejected": rejected, "ran": program.ran,
            "settled": len(hot) >= blocks,
        }  # fmt: skip


class Blocks(object):
    """The blocks of one network as they are taken: what counts, what was rejected and why."""

    def __init__(self, bench, program, count):
        # type: (Bench, Program, int) -> None
        self.bench, self.program, self.count = bench, program, count
        self.ratios, self.singles = [], []  # type: List[float], List[float]
        self.steadies, self.references = [], []  # type: List[Any], List[Any]
        self.rejected = []  # type: List[Dict[str, Any]]
        self.kept, self.detail_references = [], []  # type: List[int], List[Any]
        self.detail_runs = 0

    def take(self, before):
        # type: (Tuple[float, float]) -> Tuple[float, float]
        """One inference after other work, then some in a row, between two references."""
        timer = self.bench.timer
        single, share = timer.time(self.program.run)
        steady, shares = [], [before[1], share]
        for _ in range(self.count):
            seconds, share = timer.time(self.program.run)
            steady.append(seconds)
            shares.append(share)
        after = self.bench.reference_now()
        pair = [before[0], after[0]]
        why = self.bench.why_not(pair, shares + [after[1]])
        if why is None:
            self.ratios.append(2 * sum(steady) / len(steady) / sum(pair))
            self.singles.append(single)
            self.steadies.append(steady)
            self.references.append(pair)
        else:
            block = len(self.ratios) + len(self.rejected)
            self.rejected.append({"block": block, "why": why, "steady_us": micro(steady),
                                  "reference_us": micro(pair)})  # fmt: skip
        return after

    def take_detail(self, before):
        # type: (Tuple[float, float]) -> Tuple[float, float]
        """One inference with its operators timed, behind the reference that was just run."""
        share = self.bench.timer.time(self.program.detail_run)[1]
        self.detail_runs += 1
        after = self.bench.reference_now()
        pair = [before[0], after[0]]
        if self.bench.why_not(pair, [before[1], share, after[1]]) is None:
            self.kept.append(self.detail_runs)
            self.detail_references.append(pair)
        return after

    def enough(self, detail, spent):
        # type: (bool, float) -> bool
        """The stop rule: settled, or as many blocks or seconds as there may be."""
        limits, n = self.bench.limits, len(self.ratios)
        if n >= limits["most_blocks"] or spent > 3 * limits["network_s"]:
            return True
        wanted = min(limits["details"], limits["least_blocks"])
        if n < limits["least_blocks"] or (detail and len(self.kept) < wanted):
            return False
        return self.settled() or spent > limits["network_s"]

    def settled(self):
        # type: () -> bool
        """Whether the median is known as well as the plan wants it."""
        limits = self.bench.limits
        enough = len(self.ratios) >= limits["least_blocks"]
        return enough and half_width(self.ratios) <= limits["half_width"]

    def row(self):
        # type: () -> Dict[str, Any]
        """The fields of the journal's row."""
        row = {
            "single_us": micro(self.singles), "steady_us": micro(self.steadies),
            "reference_us": micro(self.references), "rejected": self.rejected,
            "settled": self.settled(),
        }  # type: Dict[str, Any]  # fmt: skip
        if self.ratios:
            row.update(steady_ratio=median(self.ratios),
                       ratio_half_width=finite(half_width(self.ratios)))  # fmt: skip
        return row


def micro(seconds):
    # type: (Any) -> Any
    """Seconds, or nested lists of them, as microseconds rounded to a nanosecond."""
    if isinstance(seconds, list):
        return [micro(value) for value in seconds]
    return round(1e6 * seconds, 3)


def finite(value):
    # type: (float) -> Optional[float]
    """None in place of an infinity, which JSON does not know."""
    return value if math.isfinite(value) else None
