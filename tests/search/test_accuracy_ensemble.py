"""The ensemble: a score of one candidate, that others do not change."""

import math
from random import Random

import pytest
from accuracy_nets import Tiny, tiny

from predictor.errors import ConfigError
from predictor.search.accuracy.ensemble import (
    FURTHEST,
    Ensemble,
    combined,
    log_rank,
    normal_score,
    reference_sample,
)
from predictor.search.candidate import Candidate, Signal, SignalError

WIDTHS = (4, 8, 12, 16)


class Width(Signal):
    name = "width"

    def __init__(self):
        self.asked, self.closed = [], False

    def score(self, candidate):
        self.asked.append(candidate.key)
        if candidate.values["width"] == 12 and candidate.values["depth"] == 2:
            raise SignalError("twelve by two")
        return float(candidate.values["width"])

    def close(self):
        self.closed = True


class Depth(Signal):
    name = "depth"

    def score(self, candidate):
        return float(candidate.values["depth"])


def test_a_normal_score_by_hand():
    # 4 values at quantiles 1/8, 3/8, 5/8, 7/8
    sample = [3.0, 1.0, 2.0, 4.0]
    assert normal_score(1.0, sample) == pytest.approx(-1.15035, abs=1e-5)
    assert normal_score(2.0, sample) == pytest.approx(-0.31864, abs=1e-5)
    assert normal_score(2.5, sample) == pytest.approx(0, abs=1e-12)
    # beyond the ends: 1.349 standard deviations a distance between the quartiles (1.75, 3.25)
    assert normal_score(5.0, sample) == pytest.approx(1.15035 + 1.349 / 1.5, abs=1e-5)
    assert normal_score(1e9, sample) == FURTHEST == -normal_score(-1e9, sample)
    assert log_rank(2.5, sample) == pytest.approx(math.log(0.5))


def test_equal_values_of_the_sample_stand_at_their_mean():
    assert normal_score(1.0, [1.0, 1.0]) == pytest.approx(0)
    assert normal_score(2.0, [1.0, 1.0]) == FURTHEST
    assert normal_score(0.0, [0.0, 0.0, 0.0, 5.0]) < 0


def test_scores_rise_with_every_member():
    sample = {"a": [1.0, 2.0, 3.0], "b": [10.0, 20.0, 30.0]}
    values = [combined({"a": a, "b": 20.0}, sample) for a in (-5, 0.5, 1, 1.7, 2, 2.9, 3.5, 4)]
    assert values == sorted(set(values))
    assert combined({"a": 2, "b": 20}, sample) == pytest.approx(2 * math.log(0.5))


def test_a_score_depends_on_the_candidate_alone():
    space = Tiny()
    candidates = [Candidate(space, {"width": w, "depth": 1, "act": "relu"}) for w in WIDTHS]
    one, two = (Ensemble(members=[Width(), Depth()], reference=16) for _ in range(2))
    forwards = [one.score(c) for c in candidates]
    backwards = [two.score(c) for c in reversed(candidates)]
    assert forwards == backwards[::-1] == sorted(forwards)
    other = Ensemble(members=[Width(), Depth()], reference=16, seed=1)
    assert [other.score(c) for c in candidates] != forwards


def test_the_reference_is_drawn_once_and_what_was_seen_is_kept():
    width = Width()
    ensemble, space = Ensemble(members=[width], reference=8), Tiny()
    candidate = Candidate(space, {"width": 4, "depth": 1, "act": "relu"})
    first, asked = ensemble.score(candidate), len(width.asked)
    assert ensemble.score(candidate) == first
    assert len(width.asked) == asked <= 9
    ensemble.close()
    assert width.closed


def test_candidates_of_the_reference_that_fail_are_left_out():
    space = Tiny()
    assert any(c.values["width"] == 12 and c.values["depth"] == 2
               for c in reference_sample(space, 0, 32))  # fmt: skip
    assert Ensemble(members=[Width()]).score(tiny()) < 0
    narrow = Candidate(space.narrowed({"width": [12], "depth": [2]}),
                       {"width": 12, "depth": 2, "act": "relu"})  # fmt: skip
    with pytest.raises(SignalError, match="no random candidate could be scored: twelve by two"):
        Ensemble(members=[Width()]).score(narrow)


def test_what_an_ensemble_needs():
    with pytest.raises(ConfigError, match="2 at least"):
        Ensemble(members=[Width()], reference=1)
    with pytest.raises(ConfigError, match="each its own"):
        Ensemble(members=[Width(), Width()])


def test_the_shipped_members_rank_a_dead_network_last():
    pytest.importorskip("torch", reason="the networks are torch modules")
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    ensemble, space = Ensemble(reference=6), Tiny()
    scores = {act: ensemble.score(Candidate(space, {"width": 8, "depth": 2, "act": act}))
              for act in ("relu", "dead")}  # fmt: skip
    assert scores["dead"] < scores["relu"] < 0
    again = Ensemble(reference=6)
    again.score(Candidate(space, space.random(Random(5))))
    assert again.score(tiny(width=8, depth=2)) == scores["relu"]
