"""The accuracy page and the README's table say what the aggregates and the shipped cards say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from predictor.device import devices
from predictor.latency.bundle import load_bundle

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = json.loads((ROOT / "docs" / "accuracy.json").read_text(encoding="utf-8"))


def test_pages_are_written_from_the_aggregates():
    done = subprocess.run(
        [sys.executable, "-m", "scripts.write_accuracy", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def protocols(node):
    """Every protocol entry below ``node``."""
    if isinstance(node, dict):
        if "folds" in node:
            yield node
        for value in node.values():
            yield from protocols(value)


def cards(measured=False):
    for device in devices():
        for target in device.targets:
            bundle = load_bundle(device, target)
            if bundle is not None and (target.tier == "measured") == measured:
                yield pytest.param(bundle, id=f"{device.name}-{target.name}")


@pytest.mark.parametrize("entry", list(protocols(DATA)))
def test_no_published_fold_gives_a_single_measured_value_away(entry):
    for name, fold in entry["folds"].items():
        assert fold["n"] >= 3 or "fewer than 3 rows" in name


@pytest.mark.parametrize("bundle", list(cards()))
def test_every_fitted_target_has_a_card_with_baselines_and_sources(bundle):
    entries = bundle.card["protocols"]
    assert entries
    for entry in entries.values():
        assert entry["n"] > 0
        assert {"flops", "roofline"} <= set(entry["baselines"])
        assert entry["sources"]
    assert bundle.siblings_only == (bundle.card["n"] == 0)
    assert bundle.citations


@pytest.mark.parametrize("bundle", list(cards(measured=True)))
def test_measured_targets_beat_every_baseline_beside_their_repeatability(bundle):
    family = bundle.card["protocols"]["family"]
    assert family["n"] >= 80
    assert family["nas"]["n"] >= 30
    assert family["repeatability"]["n"] >= 80
    assert {"flops", "roofline", "class_nnls", "whole_model_lightgbm", "isolated_forests"} <= set(
        family["baselines"])  # fmt: skip
    for name, other in family["baselines"].items():
        for figure in ("median_pct", "mean_pct"):
            assert family[figure] < other[figure], name
        assert family["within_10_pct"] > other["within_10_pct"], name


def test_siblings_are_judged_by_boards_left_out_alone():
    for parameter in cards():
        bundle = parameter.values[0]
        if bundle.siblings_only:
            assert set(bundle.card["protocols"]) == {"board"}


@pytest.mark.parametrize("protocol", ["model", "family"])
def test_the_fit_beats_both_baselines_on_every_jetson_board(protocol):
    for board, entries in DATA["jetson"]["boards"].items():
        entry = entries[protocol]
        assert entry["mean_pct"] < entry["baselines"]["flops"]["mean_pct"], board
        assert entry["mean_pct"] < entry["baselines"]["roofline"]["mean_pct"], board


def test_the_page_of_targets_is_written_from_the_bundles():
    from scripts.write_targets import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page()
