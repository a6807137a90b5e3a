"""Strategies on a space whose figures and accuracies are made up, and their arithmetic by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from test_problem import Made, latency, problem

pytest.importorskip("optuna", "5", reason="searches are Optuna's")

from predictor.errors import ConfigError
from predictor.front import SearchResult
from predictor.search import samplers
from predictor.search.candidate import Candidate, Signal
from predictor.search.measure import Verification
from predictor.search.samplers.learned import expected_improvement
from predictor.search.samplers.standing import best_below, normal_ranks
from predictor.search.study import Search

WORDS = ("evolution", "gp", "learned", "nsga2", "nsga3", "random", "tpe")
LIMIT = 22.0
WEIGHTS = (1.0, -0.5, 2.0, 0.3, 1.5, -1.0)


class Known(Signal):
    """Better with some numbers and worse with others, with a bend."""

    name = "known"

    def score(self, candidate: Candidate) -> float:
        x = [int(candidate.values[name]) for name in Made.parameters]
        return sum(w * v for w, v in zip(WEIGHTS, x, strict=True)) - 0.2 * (x[2] - 4) ** 2


def run(word: str, trials: int, seed: int = 0, aim: str = "best") -> SearchResult:
    return Search(problem(latency(LIMIT)), Known(), trials, aim, word, seed).run()


def test_every_strategy_is_tried_here() -> None:
    assert tuple(samplers.makers()) == WORDS
    with pytest.raises(ConfigError, match="Did you mean 'learned'"):
        samplers.find("learnd", problem(), 0, front=False)


@pytest.mark.parametrize("aim", ["best", "front"])
@pytest.mark.parametrize("word", WORDS)
def test_the_best_keeps_the_limits_and_comes_again(word: str, aim: str) -> None:
    if word == "gp":
        pytest.importorskip("torch", reason="Optuna's GP needs it")
    trials = 4 if word == "gp" else 32  # its own steps, from the 11th on, take seconds each
    first, second = (run(word, trials, aim=aim) for _ in range(2))
    assert [t.key for t in first.trials] == [t.key for t in second.trials]
    assert first.best is not None
    for trial in (first.best, *first.front):
        assert trial.figures["latency_ms a"] <= LIMIT
    scored = [t for t in first.trials if t.accuracy is not None]
    assert len({t.key for t in scored}) == trials
    if word in ("evolution", "learned", "random"):
        assert len(first.trials) == trials  # nothing over budget is even proposed


def test_the_default_is_better_than_drawing() -> None:
    def best(word: str, seed: int) -> float:
        found = run(word, 60, seed).best
        assert found is not None
        return found.accuracy or 0.0

    assert all(best("learned", seed) > best("random", seed) for seed in (0, 1))


def test_ranks_by_hand() -> None:
    third = norm.ppf([1 / 6, 1 / 2, 5 / 6])
    assert normal_ranks(np.array([5.0, -1e9, 7.0])) == pytest.approx(third[[1, 0, 2]])
    tied = normal_ranks(np.array([1.0, 1.0, 2.0, 0.0]))
    assert tied == pytest.approx([0.0, 0.0, norm.ppf(7 / 8), norm.ppf(1 / 8)], abs=1e-12)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_ranks_keep_the_order(values: list[int]) -> None:
    ranks = normal_ranks(np.array(values, np.float64))
    for a, one in zip(values, ranks, strict=True):
        for b, other in zip(values, ranks, strict=True):
            assert (one < other) == (a < b)


def test_the_best_below() -> None:
    costs = np.array([[1.0, 5.0], [2.0, 2.0], [4.0, 1.0]])
    where = np.array([[2.0, 5.0], [0.5, 9.0], [4.0, 1.0], [9.0, 9.0]])
    found = best_below(costs, np.array([3.0, 1.0, 2.0]), where)
    assert found.tolist() == [3.0, -math.inf, 2.0, 3.0]


def test_expected_improvement_by_hand() -> None:
    one = np.array([1.0])
    assert expected_improvement(0 * one, one, 0 * one) == pytest.approx(norm.pdf(0))
    assert expected_improvement(2 * one, 3 * one, one) == pytest.approx(
        norm.cdf(1 / 3) + 3 * norm.pdf(1 / 3)
    )
    known = expected_improvement(np.array([2.0, 0.5]), np.zeros(2), np.ones(2))
    assert known == pytest.approx([1.0, 0.0], abs=1e-9)


def verification(**more: Any) -> Verification:
    """Latencies 1 to 6 ms, the slower the better; the half-width is a factor of 1.5."""
    given: dict[str, Any] = {
        "predicted_ms": np.arange(1.0, 7.0), "half_width": math.log(1.5),
        "accuracy": np.arange(10.0, 70.0, 10.0), "budget_ms": 5.0,
    }  # fmt: skip
    return Verification(**{**given, **more})


def test_within_budget_the_next_is_bolder() -> None:
    one = verification()
    assert one.next() == 3  # 4 ms x sqrt(1.5) = 4.9; 5 ms would be 6.1
    one.tell(3, 4.0)
    assert (one.answer, one.next()) == (3, 4)  # no margin any more: 5 ms keeps 5 ms
    one.tell(4, 5.5)
    assert (one.answer, one.next()) == (3, None)  # nothing else promises more


def test_over_budget_the_next_is_safer() -> None:
    one = verification()
    one.tell(3, 6.0)  # 1.5 times what was predicted
    # 1.5^0.75 x 1.5 = 2.03: 2 ms may be 4.1, 3 ms 6.1
    assert (one.answer, one.next()) == (None, 1)
    one.tell(1, 5.1)  # 2.55 times: nothing fits, so the fastest is tried
    assert (one.answer, one.next()) == (None, 0)
    one.tell(0, 5.2)
    assert one.answer is None


@given(st.lists(st.floats(0.2, 5.0), min_size=6, max_size=6))
def test_nothing_is_measured_twice(factors: list[float]) -> None:
    one = verification(accuracy=np.array([10.0, 20, math.nan, 40, 50, 60]))
    asked: list[int] = []
    while (index := one.next()) is not None:
        assert index not in asked
        assert index != 2  # its accuracy is not known
        asked.append(index)
        one.tell(index, float(one.predicted_ms[index]) * factors[index])
    assert 1 <= len(asked) <= 5
    good = [i for i in asked if one.measured[i] <= 5]
    assert one.answer == (max(good) if good else None)
