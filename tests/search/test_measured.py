"""What was measured of the winners: figures, limits, the table, the notes."""

import csv
import math
from random import Random

import pytest

from predictor.errors import ConfigError, MeasurementError
from predictor.front import State
from predictor.pipeline import Predictor
from predictor.search import measured
from predictor.search.candidate import Signal
from predictor.search.pricing import Pricer
from predictor.search.problem import Problem
from predictor.search.spaces.nasbench201 import NasBench201
from predictor.search.study import Search, limits_of


class Macs(Signal):
    name = "macs"

    def score(self, candidate):
        return float(candidate.graph.macs)


@pytest.fixture
def search():
    space = NasBench201()
    pricer = Pricer(space, [Predictor("a100")])
    middle = sorted(pricer.price([space.random(Random(i)) for i in range(30)])["latency_ms a100"])[
        15
    ]
    problem = Problem(space, pricer, limits_of({"latency_ms": float(middle)}, pricer.names))
    return Search(problem, Macs(), trials=8, sampler="random")


def fake(factor, asked):
    def measure(predictor, names, batch, host, folder, say):
        asked.extend(names)
        return {key: factor * (1 + 0.01 * i) for i, key in enumerate(names.values())}

    return measure


def test_measurements_join_the_figures_and_are_held_against_the_limit(
    search, tmp_path, monkeypatch
):
    result, asked = search.run(), []
    limit = search.problem.limits[0].limit
    monkeypatch.setattr(measured, "_measure", fake(limit * 1.005, asked))
    found, notes = measured.measure_winners(search, result, 3, None, tmp_path / "out", print)
    assert len(asked) == 3
    assert all(name.startswith("nasbench201:|") for name in asked)
    own = [t for t in found.trials if "measured_ms a100" in t.figures]
    assert len(own) == 3
    best = max(t.accuracy for t in result.trials if t.feasible and t.accuracy is not None)
    assert max(t.accuracy for t in own) == best
    over = {t.key: next(iter(t.violations.values()), 0.0) for t in own}
    assert sorted(over.values()) == pytest.approx([0.005, 1.005 * 1.01 - 1, 1.005 * 1.02 - 1])
    assert found.best.key not in over  # the others were predicted to keep it
    with (tmp_path / "out" / "measured.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == set(asked)
    assert all(math.isfinite(float(row["latency_ms"])) for row in rows)
    assert "3 of them are over budget as measured" in notes
    assert any("predict-latency calibrate --measurements" in note for note in notes)


def test_two_devices_a_space_without_names_and_nothing_measured(search, monkeypatch):
    result = search.run()
    monkeypatch.setattr(measured, "_measure", lambda *a: {})
    with pytest.raises(MeasurementError, match="none of the winners"):
        measured.measure_winners(search, result, 2, None, None, print)
    space = search.problem.space
    two = Pricer(space, [Predictor("a100"), Predictor("v100")])
    search.problem.pricer = two
    with pytest.raises(ConfigError, match="one --device"):
        measured.measure_winners(search, result, 2, None, None, print)
    assert all(t.state is State.COMPLETE for t in result.trials if t.accuracy is not None)
