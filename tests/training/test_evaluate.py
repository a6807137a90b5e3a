"""Left-out families are left out of everything; figures by hand; the model beats the baselines."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import FAMILIES, SPACES, measurements

from predictor.report.table import accuracy_lines, headline_error
from predictor.training.baselines import BASELINES
from predictor.training.card import card_of, card_text
from predictor.training.dataset import dataset_of
from predictor.training.evaluate import (
    agreeing,
    by_group,
    by_size,
    evaluate,
    figures,
    ranks,
    repeatability,
    spearman,
)
from predictor.training.fit import Inner
from predictor.training.trees import Settings


def test_every_network_is_left_out_once_with_all_its_family(found, data):
    assert found.counted.all()
    for family in range(len(data.families)):
        mine = data.networks.family == family
        assert len(set(found.fold[mine].tolist())) == 1
    assert len(set(found.fold.tolist())) == 10
    spaces = [found.fold[data.networks.family == data.families.index(s)][0] for s in SPACES]
    assert len(set(spaces)) == 3


def test_what_is_left_out_is_not_seen(data, found):
    """A family made five times slower must be predicted as before: nothing learned from it.

    A leak anywhere (pooling, trees, factor, a baseline) would change its prediction.
    """
    slow = dataset_of(measurements(factor={"dense": 5.0}))
    changed = evaluate(slow, trials=0)
    mine = data.networks.family == data.families.index("dense")
    shift = np.log(5.0)
    np.testing.assert_allclose(slow.networks.label_ms[mine], 5 * data.networks.label_ms[mine])
    np.testing.assert_allclose(changed.log_error[mine], found.log_error[mine] - shift, atol=1e-9)
    for name in BASELINES:
        np.testing.assert_allclose(changed.baselines[name][mine],
                                   found.baselines[name][mine] - shift, atol=1e-9)  # fmt: skip
    assert np.abs(changed.log_error[~mine] - found.log_error[~mine]).max() > 1e-3  # they saw it


def test_hyper_parameters_are_chosen_without_what_is_left_out(data):
    slow = dataset_of(measurements(factor={"dense": 5.0}))
    scores = []
    for one in (data, slow):
        rows, networks = one.inside(np.array([one.families.index("dense")]))
        scores.append(Inner.of(one, ~rows, ~networks).score(Settings(rounds=20)))
    assert scores[0] == scores[1]
    everything = np.ones(len(slow.rows), bool), np.ones(len(slow.networks), bool)
    assert Inner.of(slow, *everything).score(Settings(rounds=20)) != scores[0]


def test_the_model_beats_every_baseline_on_the_same_folds(found):
    counted = found.counted
    own = figures(found.log_error[counted])
    assert own["mean_pct"] < 8
    assert own["within_10_pct"] >= 75
    assert set(found.baselines) == set(BASELINES)
    for name, errors in found.baselines.items():
        assert np.isfinite(errors[counted]).all(), name
        assert figures(errors[counted])["mean_pct"] > 1.3 * own["mean_pct"], name


def test_baselines_are_what_they_say(data):
    """Each on networks whose times follow it exactly."""
    seen = np.ones(len(data.rows), bool), np.ones(len(data.networks), bool)
    nets = data.networks
    flops = 2 * nets.sums(nets.kernels.features.macs)

    def of(name, label):
        told = replace(data, networks=replace(nets, label_ms=label))
        return BASELINES[name](told, *seen)

    np.testing.assert_allclose(of("flops", 3e-9 * (flops + 1)), 3e-9 * (flops + 1))
    np.testing.assert_allclose(
        of("flops_linear", 2.0 + 3e-9 * flops), 2.0 + 3e-9 * flops, rtol=1e-5
    )
    roofline = nets.sums(nets.kernels.roofline_s)
    np.testing.assert_allclose(of("roofline", 7e3 * roofline), 7e3 * roofline)
    count = nets.sums(np.ones(len(nets.owner)))
    label = 1e-8 * flops + 0.05 * count
    np.testing.assert_allclose(of("class_nnls", label), label, rtol=1e-4)
    hot = data.rows.place == 2
    forests = of("isolated_forests", nets.label_ms)
    assert (forests > 0).all()
    halved = replace(
        data, rows=replace(data.rows, seconds=data.rows.seconds * np.where(hot, 0.5, 1))
    )
    np.testing.assert_allclose(BASELINES["isolated_forests"](halved, *seen), forests / 2, rtol=0.02)


def test_figures_by_hand():
    log_error = np.log([1.04, 0.93, 1.18, 0.75])
    said = figures(log_error)
    assert (said["n"], said["median_pct"], said["mean_pct"]) == (4, 12.5, 13.5)
    assert (said["within_5_pct"], said["within_10_pct"], said["within_20_pct"]) == (25, 50, 75)
    assert said["bias_pct"] == pytest.approx(100 * (np.prod([1.04, 0.93, 1.18, 0.75]) ** 0.25 - 1), abs=0.05)  # fmt: skip
    assert figures(np.zeros(0)) == {"n": 0}
    assert "spearman" not in said
    assert figures(log_error, np.array([4.0, 3, 2, 1]), np.array([1.0, 1, 1, 0])) == {
        **said, "spearman": 1.0, "coverage_90_pct": 75.0,
    }  # fmt: skip


def test_ranks_share_ties_and_spearman_is_scipy_s():
    stats = pytest.importorskip("scipy.stats")
    np.testing.assert_array_equal(ranks(np.array([3.0, 1, 3, 2])), [2.5, 0, 2.5, 1])
    rng = np.random.default_rng(1)
    a = rng.integers(0, 12, 60).astype(float)
    b = a + rng.normal(size=60) * 4
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert spearman(np.ones(5), np.arange(5.0)) == 0.0


def test_repeatability_and_who_agrees():
    repeat = np.log([1.02, 0.9, 1.3, np.nan, 1.05])
    said = repeatability(repeat)
    assert (said["n"], said["within_10_pct"]) == (4, 50)
    assert said["median_pct"] == pytest.approx((5 + 100 * (1 / 0.9 - 1)) / 2, abs=0.05)
    agree = agreeing(repeat, np.array([True, True, True, True, False]))
    assert agree.tolist() == [True, True, False, False, False]
    assert not agreeing(np.full(3, np.nan), np.ones(3, bool)).any()
    assert repeatability(np.full(3, np.nan)) == {"n": 0}


def test_the_interval_of_a_fold_stands_on_the_others(found):
    """Widths come from other folds' errors, so a fold's own outliers cannot cover themselves."""
    assert 0.75 <= np.nanmean(found.covered) <= 1
    from predictor.training.evaluate import _covered

    error = np.concatenate([np.full(20, 0.02), np.full(20, 0.03), [0.5]])
    fold = np.repeat([0, 1, 2], [20, 20, 1])
    assert _covered(error, fold)[-1] == 0
    assert _covered(error, fold)[:20].all()


def test_kernels_are_judged_by_trees_that_saw_no_kernel_of_their_family(found, data):
    place = data.rows.place == 0
    assert np.isfinite(found.kernel_log_error[place]).all()
    assert np.isnan(found.kernel_log_error[~place]).all()
    assert np.median(np.abs(found.kernel_log_error[place])) < 0.15


def test_groups_and_sizes_hold_every_network_once(found, data):
    names = [data.families[f] for f in data.networks.family]
    groups = by_group(found, names)
    assert sum(group["n"] for group in groups.values()) == len(names)
    assert set(groups) == {*FAMILIES, *SPACES}
    few = by_group(found, ["big"] * (len(names) - 2) + ["small", "tiny"])
    assert few["2 families of fewer than 3"]["n"] == 2
    sizes = by_size(found)
    assert list(sizes) == ["small", "medium", "large"]
    assert sum(size["n"] for size in sizes.values()) == len(names)


def test_the_card_has_the_keys_of_every_card_and_reads_well(found, measured):
    from predictor.report.layout import Style

    card = card_of(found, measured)
    family = card["protocols"]["family"]
    assert card["n"] == family["n"] == len(found.data.networks)
    assert family["nas"]["n"] == 12
    assert {"median_pct", "mean_pct", "within_10_pct", "spearman", "coverage_90_pct", "baselines",
            "folds", "repeatability", "agreeing", "sizes"} <= set(family)  # fmt: skip
    assert float((headline_error(card) or "").split()[0]) == pytest.approx(
        family["median_pct"], rel=0.02
    )
    assert accuracy_lines(card)[0].startswith("families left out: error median")
    text = "\n".join(card_text(card, "nonesuch eager-fp32", Style(100, False, False)))
    for word in ("repeats agree", "NAS subnets", "random forests", "Repeatability", "inverted"):
        assert word in text
    import json

    assert json.loads(json.dumps(card)) == card
