"""The protocol on programs whose time is known, because the clock is ours."""

import math
import time as real_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.profiling import protocol
from predictor.profiling.runtimes import Program


class Clock:
    """Wall and processor time that only move when a program says so."""

    def __init__(self, monkeypatch):
        self.wall = self.cpu = 100.0
        self.speed = 1.0
        monkeypatch.setattr(protocol.time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(protocol.time, "process_time", lambda: self.cpu)

    def work(self, seconds, taken=0.0):
        self.wall += (seconds + taken) / self.speed
        self.cpu += seconds / self.speed


class Fixed(Program):
    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.runs, self.details_taken = clock, seconds, 0, []

    def run(self):
        self.runs += 1
        self.clock.work(self.seconds)

    def detail_run(self):
        self.clock.work(1.1 * self.seconds)
        self.details_taken.append([0.25 * self.seconds, 0.75 * self.seconds])

    def details(self):
        return ["a", "b"], self.details_taken


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def bench(clock, **limits):
    return protocol.Bench(Fixed(clock, 0.003), limits, True, lambda: None)


def test_a_steady_machine_needs_the_fewest_blocks(clock):
    row = bench(clock).network(Fixed(clock, 0.1), True, lambda: None)
    assert len(row["steady_us"]) == protocol.LIMITS["least_blocks"]
    assert row["settled"]
    assert row["steady_ratio"] == pytest.approx(0.1 / 0.003)
    assert row["steady_us"][0] == [100000.0]
    assert row["reference_us"][0] == [3000.0, 3000.0]
    assert row["throughput_fps"] == pytest.approx(10, rel=1e-3)
    assert row["detail_us"] == [[25000.0, 75000.0]] * len(row["detail_us"])
    assert len(row["detail_us"]) == len(row["detail_reference_us"]) >= 6
    assert row["rejected"] == []


def test_short_networks_run_often_in_a_block(clock):
    row = bench(clock, block_s=0.02).network(Fixed(clock, 0.001), False, lambda: None)
    assert {len(block) for block in row["steady_us"]} == {20}
    assert "detail_us" not in row


def test_drift_is_divided_out(clock):
    """A machine that becomes slower by a third changes the times and not the ratio."""
    machine = bench(clock)
    program = Fixed(clock, 0.1)
    first = machine.network(program, False, lambda: None)
    clock.speed = 0.66
    second = machine.network(program, False, lambda: None)
    assert second["steady_us"][0][0] > 1.5 * first["steady_us"][0][0]
    assert second["steady_ratio"] == pytest.approx(first["steady_ratio"])


def test_a_block_in_which_the_machine_changed_is_rejected_and_taken_again(clock):
    machine, program = bench(clock), Fixed(clock, 0.1)
    original, count = program.run, [0]

    def run():
        count[0] += 1
        if count[0] == 6:
            clock.speed = 0.5  # from here on the reference takes twice as long
        original()

    program.run = run
    row = machine.network(program, False, lambda: None)
    assert len(row["rejected"]) == 1
    assert "the reference moved by 100 %" in row["rejected"][0]["why"]
    assert row["rejected"][0]["steady_us"]
    assert len(row["steady_us"]) >= protocol.LIMITS["least_blocks"]


def test_a_preempted_block_is_rejected(clock):
    machine, program = bench(clock), Fixed(clock, 0.1)
    original, count = program.run, [0]

    def run():
        count[0] += 1
        original()
        if count[0] in (5, 7):
            clock.work(0.0, taken=0.05)

    program.run = run
    row = machine.network(program, False, lambda: None)
    assert [entry["why"] for entry in row["rejected"]] == [
        "other processes took 33 % of the time"] * len(row["rejected"])  # fmt: skip
    assert row["rejected"]
    assert row["steady_ratio"] == pytest.approx(0.1 / 0.003)


def test_noise_asks_for_more_blocks_and_is_told_when_they_do_not_suffice(clock):
    machine, program = bench(clock, most_blocks=12), Fixed(clock, 0.1)
    original, count = program.run, [0]

    def run():
        count[0] += 1
        program.seconds = 0.1 * (1 + 0.2 * (count[0] % 4))
        original()

    program.run = run
    row = machine.network(program, False, lambda: None)
    assert len(row["steady_us"]) == 12
    assert not row["settled"]
    assert row["ratio_half_width"] > 0.02


def test_a_machine_that_never_is_quiet_ends_in_time(clock):
    machine, program = bench(clock, network_s=2.0), Fixed(clock, 0.1)
    original = program.run

    def run():
        original()
        clock.work(0.0, taken=0.1)

    program.run = run
    begin = clock.wall
    row = machine.network(program, False, lambda: None)
    assert "steady_ratio" not in row
    assert not row["settled"]
    assert clock.wall - begin < 10


def test_the_caller_can_end_it_between_blocks(clock):
    calls = []

    def alive():
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        bench(clock).network(Fixed(clock, 0.1), False, alive)


def test_isolated_kernels_are_timed_hot_and_with_empty_caches(clock):
    evicted = []
    machine = protocol.Bench(Fixed(clock, 0.003), {}, True, lambda: evicted.append(clock.wall))
    program = Fixed(clock, 0.0005)
    original = program.run

    def run():
        cold = evicted and evicted[-1] == clock.wall
        original()
        if cold:
            clock.work(0.0005)

    program.run = run
    row = machine.kernel(program, lambda: None)
    assert row["hot_us"] == [500.0] * protocol.LIMITS["kernel_blocks"]
    assert row["flushed_us"] == [1000.0] * protocol.LIMITS["kernel_blocks"]


def test_a_first_run_stands_apart(clock):
    program = Fixed(clock, 0.1)
    original = program.run

    def run():
        original()
        if program.runs == 1:
            clock.work(5.0)

    program.run = run
    row = bench(clock).network(program, False, lambda: None)
    assert row["first_run_us"] == pytest.approx(5.1e6)
    assert row["steady_ratio"] == pytest.approx(0.1 / 0.003)


def test_on_a_gpu_waiting_is_no_preemption(clock):
    machine = protocol.Bench(Fixed(clock, 0.003), {}, False, lambda: None)
    program = Fixed(clock, 0.1)
    program.run = lambda: clock.work(0.0, taken=0.1)
    assert machine.network(program, False, lambda: None)["rejected"] == []


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_the_median_is_the_middle(values):
    import statistics

    assert protocol.median(values) == pytest.approx(statistics.median(values))


@given(st.lists(st.floats(0.1, 10), min_size=6, max_size=40))
def test_the_half_width_is_that_of_order_statistics(values):
    width = protocol.half_width(values)
    assert 0 <= width <= (max(values) - min(values)) / 2 / protocol.median(values) + 1e-9


def test_the_half_width_covers_the_median_of_noise():
    import random

    chance, inside = random.Random(1), 0
    for _ in range(400):
        values = [math.exp(chance.gauss(0, 0.1)) for _ in range(15)]
        ordered = sorted(values)
        n = len(values)
        low = max(0, int((n - 1.96 * math.sqrt(n)) / 2))
        high = min(n - 1, math.ceil((n + 1.96 * math.sqrt(n)) / 2))
        inside += ordered[low] <= 1.0 <= ordered[high]
        assert protocol.half_width(values) == pytest.approx(
            (ordered[high] - ordered[low]) / 2 / protocol.median(values))  # fmt: skip
    assert 0.92 <= inside / 400 <= 1.0


def test_fewer_than_six_say_nothing():
    assert protocol.half_width([1.0] * 5) == math.inf
    assert protocol.finite(math.inf) is None
    assert protocol.micro([[1e-6, 2e-3]]) == [[1.0, 2000.0]]
    assert real_time.perf_counter() > 0
