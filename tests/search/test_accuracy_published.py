"""The published figures of the zero-cost signals: what they claim, and that they hold no rows."""

import json
from pathlib import Path

import pytest

from predictor.search.accuracy.ensemble import REFERENCE

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOUND = json.loads((DOCS / "zero-cost.json").read_text(encoding="utf-8"))


def test_the_ensemble_ranks_better_than_each_signal():
    spearman = dict(FOUND["spearman"])
    ensemble = spearman.pop("ensemble")
    assert FOUND["cells"] == 1000
    assert ensemble >= 0.8
    assert set(spearman) >= {"naswot", "synflow", "zico", "gradnorm", "params", "flops"}
    assert ensemble > max(spearman.values())
    assert FOUND["interval"]["ensemble"][0] > max(FOUND["interval"][name][1] for name in spearman)


def test_what_was_published_is_what_ships():
    pytest.importorskip("torch", reason="the members run torch modules")
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    from predictor.search.accuracy.ensemble import default_members

    assert FOUND["reference"] == REFERENCE
    assert FOUND["members"] == [member.name for member in default_members(None, 0)]


def test_the_page_is_made_from_the_figures_and_names_no_cell():
    from scripts.zero_cost import page

    text = (DOCS / "zero-cost.md").read_text(encoding="utf-8")
    assert text == page(FOUND)
    assert "~0" not in text + json.dumps(FOUND)
