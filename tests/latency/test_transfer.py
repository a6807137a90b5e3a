"""Mixtures of sources: they recover what made the data, and never leave their base far behind."""

import json
from dataclasses import replace

import numpy as np
import pytest

from predictor.device import load_device
from predictor.errors import ArtifactError
from predictor.frontends.families import family_graph
from predictor.latency.bundle import Bundle, write_bundle
from predictor.latency.intervals import few_rows_quantile
from predictor.latency.mixture import Fitted, most_uncertain
from predictor.latency.source import PARTS, Source
from predictor.latency.transfer import (
    Blend,
    Reader,
    bundle_of,
    choose,
    described,
    fit_kind,
    kinds,
)


def world(rows=40, sources=8, seed=0):
    """Parts, sources that weigh them differently, and a new device that does so too."""
    rng = np.random.default_rng(seed)
    work = rng.lognormal(0, 0.7, (rows, len(PARTS)))
    rates = rng.lognormal(0, 0.5, (sources, len(PARTS)))
    parts = work[:, None, :] * rates[None]
    truth = work @ rng.lognormal(0, 0.5, len(PARTS))
    return parts.sum(2), parts, truth * np.exp(0.02 * rng.standard_normal(rows))


def test_one_measured_factor_is_found_exactly():
    totals, parts, _ = world(sources=1)
    chosen = choose(totals[:4], parts[:4], 3.0 * totals[:4, 0], ["eager"])
    assert chosen.kind == "scale"
    assert chosen.predict(totals, parts) == pytest.approx(3.0 * totals[:, 0], rel=0.01)


def test_a_mixture_beats_one_factor_where_rows_carry_it():
    errors = {"scale": [], "sources": []}
    for seed in range(5):
        totals, parts, measured = world(seed=seed)
        for kind, found in errors.items():
            fitted = fit_kind(kind, totals[:20], parts[:20], measured[:20], ["eager"] * 8)
            said = fitted.predict(totals[20:], parts[20:])
            found.append(np.sqrt(np.mean(np.log(said / measured[20:]) ** 2)))
    assert np.mean(errors["sources"]) < 0.9 * np.mean(errors["scale"])


def test_noise_alone_leaves_the_base_nearly_as_it_is():
    rng = np.random.default_rng(1)
    totals, parts, _ = world(sources=1)
    for rows in (3, 6, 12):
        noisy = totals[:rows, 0] * np.exp(0.2 * rng.standard_normal(rows))
        said = choose(totals[:rows], parts[:rows], noisy, ["eager"]).predict(totals, parts)
        assert np.abs(np.log(said / totals[:, 0])).mean() < 0.25


def test_few_rows_choose_little():
    assert kinds(1, 3) == ["scale"]
    assert kinds(9, 3) == ["scale"]
    assert kinds(9, 4) == ["scale", "sources"]
    assert kinds(1, 8) == ["scale", "bounds", "parts"]


def test_far_away_a_mixture_stays_within_its_base():
    totals, parts, measured = world()
    mixture = fit_kind("sources", totals[:10], parts[:10], measured[:10], ["eager"] * 8).mixture
    said = mixture.predict(np.ones((1, 6)), np.full((1, len(PARTS)), -1e6))
    base = float(mixture.base.sum())
    assert base / 4.001 < said[0] < base * 4.001


def test_what_is_unlike_the_measured_models_is_measured_next():
    totals, parts, measured = world()
    chosen = fit_kind("parts", totals[:8, :1], parts[:8, :1], measured[:8], ["eager"])
    here = chosen.inputs(totals[:8, :1], parts[:8, :1])
    other = parts[:3, :1].copy()
    other[2] = 0.0
    other[2, 0, 3] = totals[2, 0]  # all of it in one class
    there = chosen.inputs(totals[:3, :1], other)
    picked = most_uncertain(here, there, measured[:8], 3)
    assert picked[0][0] == 2
    assert len({index for index, _ in picked}) == 3
    assert Fitted(*here, measured[:8]).variance(*there).min() >= 0


def test_few_errors_make_a_wider_interval():
    assert few_rows_quantile([0.1, -0.1, 0.1]) > 0.3
    assert few_rows_quantile([0.1] * 20) == 0.1


@pytest.fixture
def written(tmp_path):
    """A blend of two shipped targets on disk, and what it was made of."""
    names = ("titan-xp", "gtx-1080-ti")
    sources = []
    for name in names:
        device = load_device(name)
        sources.append(Source.of(device, device.target("eager", "fp32")))
    keys = ["|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|none~2|",
            "|skip_connect~0|+|none~0|none~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|",
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|",
            "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"]  # fmt: skip
    graphs = [family_graph(f"nasbench201:{key}") for key in keys]
    totals, parts = Reader(graphs).terms(sources)
    chosen = fit_kind("sources", totals, parts, 1.5 * totals.mean(1), [s.rules for s in sources])
    chosen = replace(chosen, left_out_log_errors=np.zeros(4))
    files = [sources[index].copy_into(tmp_path, f"source-{at}")
             for at, index in enumerate(chosen.kept)]  # fmt: skip
    blend = json.loads(json.dumps(described(chosen, sources, files)))
    bundle = bundle_of(sources, 0, chosen, "eager-fp32", blend, 0.1, 1)
    write_bundle(tmp_path, "eager-fp32.json", bundle)
    return tmp_path, bundle, graphs, chosen.predict(totals, parts)


def test_a_blend_comes_back_from_disk(written):
    folder, bundle, graphs, said = written
    blend = Blend.load(bundle, folder)
    assert [blend.total_ms(graph) for graph in graphs] == pytest.approx(list(said), rel=1e-9)


@pytest.mark.parametrize("damage", ["weight", "part", "sources", "base"])
def test_a_damaged_blend_is_refused(written, damage):
    folder, bundle, _, _ = written
    data = json.loads(json.dumps(bundle.blend))
    if damage == "weight":
        data["sources"][0]["weight"] = "1"
    elif damage == "part":
        data["directions"] = [{"source": 0, "part": "no such part", "weight": 1.0}]
    elif damage == "base":
        for entry in data["sources"]:
            entry["base"] = 0.0
    else:
        del data["sources"]
    broken = Bundle(bundle.target, bundle.rules, {}, {}, (), "", blend=data)
    with pytest.raises(ArtifactError, match="calibrate"):
        Blend.load(broken, folder)
