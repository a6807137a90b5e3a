"""Limits, risks and what is found within them, on a space whose figures are made up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from predictor.errors import BudgetExceeded
from predictor.front import Limit, SearchResult, State, Trial, figure_name
from predictor.search import problem as problems
from predictor.search.problem import Problem
from predictor.search.space import SearchSpace
from predictor.search.study import limits_of

DEVICES = ("a", "b")


NUMBERS = {f"x{i}": tuple(range(8)) for i in range(6)}


class Made(SearchSpace):
    """Numbers; ``size`` of them is no network."""

    name = "made"
    parameters = NUMBERS

    def input_shape(self, values: Any) -> tuple[int, ...]:
        return (3, 8, 8)


class FakePricer:
    """Device ``a`` takes 1 ms more for each step of a parameter, ``b`` twice that; intervals are
    30 and 60 % wide."""

    way, names, batch, scope, targets = "apart", DEVICES, 1, "engine", DEVICES

    def __init__(self, space: SearchSpace, names: Sequence[str] = DEVICES) -> None:
        self.space, self.names, self.priced = space, tuple(names), 0

    def price(self, candidates: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        self.priced += len(candidates)
        total = np.array([sum(v.values()) for v in candidates], np.float64)
        found = {"macs": 1e6 * (1 + total), "flops": 2e6 * (1 + total),
                 "params": np.array([10.0 + v["x0"] for v in candidates]),
                 "model_mb": 1 + 0 * total, "memory_mb": 2 + total}  # fmt: skip
        for name, factor, wide in zip(DEVICES, (1, 2), (1.3, 1.6), strict=True):
            if name in self.names:
                latency = factor * (1 + total)
                found |= {figure_name("latency_ms", name): latency,
                          figure_name("low_ms", name): latency / wide,
                          figure_name("high_ms", name): latency * wide}  # fmt: skip
        return found


def problem(
    *limits: Limit, names: Sequence[str] = ("a",), space: SearchSpace | None = None, **more: Any
) -> Problem:
    space = space or Made()
    return Problem(space, FakePricer(space, names), limits, **more)  # type: ignore[arg-type]


def figures(latency: float, high: float, device: str = "a") -> dict[str, float]:
    return {figure_name("latency_ms", device): latency, figure_name("high_ms", device): high,
            figure_name("low_ms", device): latency**2 / high}  # fmt: skip


def latency(limit: float, device: str = "a", upper: bool = False) -> Limit:
    return Limit("latency_ms", limit, device, upper)


@given(st.floats(0.1, 100), st.floats(1.001, 5), st.floats(0.1, 100))
def test_risk_is_the_share_of_the_lognormal_above_the_limit(value, width, limit):
    risk = problem(latency(limit)).risk(figures(value, value * width))
    sigma = math.log(width) / norm.ppf(0.95)
    assert risk == pytest.approx(norm.sf(math.log(limit / value) / sigma), abs=1e-7)


def test_risks_by_hand():
    assert problem(latency(10.0)).risk(figures(10, 13)) == pytest.approx(0.5)
    assert problem(latency(13.0)).risk(figures(10, 13)) == pytest.approx(0.05, abs=1e-6)
    assert problem(Limit("macs", 1.0)).risk(figures(10, 13)) == 0
    # the upper end was asked for: what is left is not weighed again
    assert problem(latency(13.0, upper=True)).risk(figures(10, 13)) == 0
    # two devices: neither may be over
    both = problem(latency(10.0), latency(5.0, "b"), names=DEVICES)
    assert both.risk({**figures(10, 13), **figures(5, 8, "b")}) == pytest.approx(0.75)
    # without an interval it is known
    assert problem(latency(10.0)).risk(figures(9, 9)) == 0
    assert problem(latency(10.0)).risk(figures(11, 11)) == 1


def test_what_is_left_of_an_advantage():
    known = [{"risk": 0.0}, {"risk": 0.25}, {"risk": 1.0}]
    for caution, wanted in ((0.0, [1, 1, 1]), (1.0, [1, 0.75, 0]), (2.0, [1, 0.5, 0])):
        assert problem(caution=caution).weights(known).tolist() == wanted


def test_violations_by_hand():
    own = {**figures(10, 13), "macs": 3e6}
    limits = (latency(8.0), Limit("macs", 4e6))
    assert problem(*limits).violations(own) == {"latency_ms a": pytest.approx(0.25)}
    assert problem(latency(10.0)).violations(own) == {}
    # margins: none, half the interval (in logarithms), all of it
    for margin, high in ((0.0, 10), (0.5, math.sqrt(130)), (1.0, 13), (2.0, 16.9)):
        over = problem(latency(8.0), margin=margin).excess(latency(8.0), own)
        assert over == pytest.approx(high / 8 - 1)
    upper = latency(8.0, upper=True)
    assert problem(upper, margin=1.0).violations(own) == {"high_ms a": pytest.approx(13 / 8 - 1)}
    assert problem(*limits).miss(own) == pytest.approx(math.log(1.25))


def test_a_latency_budget_holds_on_every_device():
    limits = limits_of({"latency_ms": 9.0, "params": 1e6}, DEVICES)
    assert [(one.name, one.limit) for one in limits] == [
        ("latency_ms a", 9.0), ("latency_ms b", 9.0), ("params", 1e6)]  # fmt: skip
    made = problem(*limits, names=DEVICES)
    for values in made.feasible(Random(0), 50, set()):
        assert sum(values.values()) <= 3  # b is the slower one: 2 x (1 + 3) = 8
    assert [one.name for one in limits_of({"latency_ms": 9.0}, DEVICES, upper=True)] == [
        "high_ms a", "high_ms b"]  # fmt: skip


@settings(max_examples=15)
@given(st.floats(9.0, 43.0), st.floats(0, 2), st.integers(0, 2**32))
def test_feasible_keeps_the_limits_and_what_was_seen_stays_out(limit, margin, seed):
    made = problem(latency(limit), Limit("params", 14.0), margin=margin)
    first = made.feasible(Random(seed), 4, set())
    for values in first:
        assert (1 + sum(values.values())) * 1.3**margin <= limit * (1 + 1e-9)
        assert values["x0"] <= 4
    seen = {made.key(values) for values in first}
    assert len(seen) == len(first)
    again = made.feasible(Random(seed), 4, seen)
    assert not seen & {made.key(values) for values in again}
    assert first == made.feasible(Random(seed), 4, set())


def test_one_of_many_within_the_limits_is_found_by_varying():
    made = problem(latency(1.0))  # only the one of 262,144 whose numbers are all 0
    assert made.feasible(Random(0), 1, set()) == [dict.fromkeys(Made.parameters, 0)]
    made.refuse_unmeetable()


def test_of_a_small_space_all_are_known():
    space = Made().narrowed({"x0": [0, 1, 2], "x1": [0, 1], **{f"x{i}": [0] for i in (2, 3, 4, 5)}})
    made = problem(latency(3.0), space=space)
    wanted = {(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)}
    found = made.feasible(Random(0), 100, set())
    assert {(v["x0"], v["x1"]) for v in found} == wanted
    taken = {made.key(values) for values in found}
    assert made.feasible(Random(0), 1, taken) == []
    assert made.pricer.priced <= 7  # type: ignore[attr-defined]
    counts = [made.feasible(Random(seed), 1, set())[0]["x0"] for seed in range(300)]
    assert 40 < counts.count(2) < 80  # one of five, evenly


def test_spaces_that_are_priced_whole_are_looked_at_less(monkeypatch):
    monkeypatch.setattr(FakePricer, "way", "whole")
    made = problem(latency(20.0), space=Made().narrowed({f"x{i}": [0, 1] for i in range(3)}))
    assert made._every is None
    assert made.draws == problems.SLOW_DRAWS
    assert len(made.feasible(Random(0), 3, set())) == 3


def test_a_figure_is_worked_out_once():
    made = problem(latency(10.0))
    drawn = [Made().random(Random(i)) for i in range(5)]
    first = made.price(drawn)
    assert made.price([*drawn, drawn[0]])[:5] == first
    assert made.pricer.priced == 5  # type: ignore[attr-defined]
    assert all(own["risk"] == pytest.approx(made.risk(own)) for own in first)


def test_the_nearest_misses_by_least():
    made = problem(latency(0.5), Limit("params", 1e9))
    values, own = made.nearest(Random(0))
    assert set(values.values()) == {0}
    assert own["latency_ms a"] == 1


def test_what_cannot_be_met_is_told_axis_by_axis():
    made = problem(latency(0.5), latency(4.0, "b"), Limit("macs", 6e5), Limit("params", 12.0),
                   names=DEVICES, margin=0.5)  # fmt: skip
    with pytest.raises(BudgetExceeded) as caught:
        made.refuse_unmeetable()
    assert caught.value.exit_code == 3
    assert str(caught.value).splitlines() == [
        "no architecture of made was found within the budgets. The nearest, "
        "x0=0,x1=0,x2=0,x3=0,x4=0,x5=0:",
        "  1.00 ms of latency on a 500 us: 128.0 % over with a margin of 0.5",
        "  2.00 ms of latency on b 4.00 ms: keeps it with a margin of 0.5",
        "  1.00 M of MACs 600 k: 66.7 % over",
        "  10.0 of parameters 12.0: keeps it",
        "Raise what is missed, or widen the space.",
    ]
    problem().refuse_unmeetable()  # without a limit there is nothing to miss


def _trial(number: int, accuracy: float, risk: float, **more: Any) -> Trial:
    return Trial(number, str(number), {}, State.COMPLETE, accuracy, {"risk": risk}, **more)


def _result(*trials: Trial, caution: float) -> SearchResult:
    return SearchResult("s", "t", "random", 0, ("a",), (), ("accuracy",), trials, caution=caution)


def test_the_best_is_worth_most_with_its_risk():
    trials = (_trial(0, 90, 0.0), _trial(1, 95, 0.5), _trial(2, 80, 0.0), _trial(3, 70, 0.0),
              _trial(4, 99, 0.0, violations={"macs": 0.1}))  # fmt: skip
    # the median of the four within budget is 85: 85 + 5, 85 + 10 x (1 - caution / 2)
    for caution, number in ((0.0, 1), (0.9, 1), (1.1, 0), (10.0, 0)):
        best = _result(*trials, caution=caution).best
        assert best is not None
        assert best.number == number
    assert _result(trials[4], caution=1.0).best is None


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), min_size=1, max_size=20),
       st.floats(0, 5))  # fmt: skip
def test_no_trial_is_better_and_safer_than_the_best(scores, caution):
    trials = [_trial(i, accuracy, risk) for i, (accuracy, risk) in enumerate(scores)]
    best = _result(*trials, caution=caution).best
    assert best is not None
    middle = float(np.median([accuracy for accuracy, _ in scores]))
    if (best.accuracy or 0) > middle:
        assert not [t for t in trials if (t.accuracy or 0) > (best.accuracy or 0) + 1e-9
                    and t.figures["risk"] < best.figures["risk"] - 1e-9]  # fmt: skip
