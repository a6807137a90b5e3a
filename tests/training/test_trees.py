"""Trees: equal kernels pooled, the same from the same data, stored without LightGBM, better than
a roofline; and what networks take beside their kernels."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import HOST_US, SCALE, measurements

from predictor.errors import MissingExtra
from predictor.kernels.features import CLASSES
from predictor.latency.kernelwise import Kernelwise
from predictor.training.dataset import PERTURBED, dataset_of
from predictor.training.fit import Inner, fit, overhead, tune, without_probe
from predictor.training.trees import LEAST_OWN, Settings, grow, network_ms, pooled, stored

FEW = Settings(rounds=40)


def everything(data):
    return np.ones(len(data.rows), bool), np.ones(len(data.networks), bool)


@pytest.fixture(scope="module")
def grown(data):
    return grow(pooled(data.rows), FEW)


def test_equal_kernels_in_like_surroundings_are_one_row(data):
    pool = pooled(data.rows)
    assert len(pool.cls) < 0.8 * len(data.rows)
    one = data.rows.take(data.rows.signature == data.rows.signature[0])
    alike = one.take((one.place == 0) & (one.kernels.surroundings == one.kernels.surroundings[0]))
    single = pooled(alike)
    assert len(single.cls) == 1
    mean = np.average(np.log(alike.seconds), weights=alike.weight)
    assert single.log_seconds[0] == pytest.approx(mean)


def test_rows_that_count_nothing_are_left_out(data):
    rows = replace(data.rows, weight=np.where(data.rows.place == 0, data.rows.weight, 0.0))
    assert len(pooled(rows).cls) == len(pooled(data.rows.take(data.rows.place == 0)).cls)


def test_the_same_data_give_the_same_bytes(data, grown):
    again = grow(pooled(data.rows), FEW)
    assert stored(grown, data).to_bytes() == stored(again, data).to_bytes()
    fitted = [fit(data, *everything(data), trials=0) for _ in range(2)]
    assert fitted[0].scale == fitted[1].scale
    assert stored(fitted[0], data).to_bytes() == stored(fitted[1], data).to_bytes()


def test_hyper_parameters_are_the_same_every_time(data):
    pytest.importorskip("optuna", reason="hyper-parameters are chosen by Optuna")
    inner = Inner.of(data, *everything(data))
    quick = replace(inner, pools=inner.pools[:1], held=inner.held[:1])
    found = [tune(quick, trials=2) for _ in range(2)]
    assert found[0] == found[1]
    assert tune(quick, trials=0) == Settings()


def test_without_optuna_the_error_says_what_to_install(data, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"pip install 'latency-predictor\[train\]'"):
        tune(Inner.of(data, *everything(data)), trials=1)


def test_what_is_stored_predicts_as_lightgbm_does(data, grown):
    model = Kernelwise.from_bytes(stored(grown, data).to_bytes())
    kernels = data.networks.kernels
    said = model.times(kernels.features, kernels.details).total
    np.testing.assert_allclose(said, grown.seconds(kernels), rtol=1e-9)


def test_known_kernels_are_predicted_and_a_roofline_does_not(data, grown):
    place = data.rows.place == 0
    kernels, seconds = data.rows.kernels.take(np.flatnonzero(place)), data.rows.seconds[place]
    error = np.abs(np.log(grown.seconds(kernels) / seconds))
    assert np.median(error) < 0.05
    assert np.median(np.abs(np.log(kernels.roofline_s / seconds))) > 0.5


def test_a_class_of_few_kernels_has_one_factor(data):
    linear = CLASSES.index("linear")
    keep = data.rows.kernels.cls != linear
    keep[np.flatnonzero(~keep)[:3]] = True
    few = grow(pooled(data.rows.take(keep)), FEW)
    assert linear in few.constants
    assert linear not in few.boosters
    assert (np.bincount(pooled(data.rows.take(keep)).cls)[linear]) < LEAST_OWN


def test_factor_and_cost_of_an_operator_are_found_again(data):
    found = overhead(data, *everything(data))
    assert found.scale == pytest.approx(SCALE, rel=0.03)
    assert found.host_us == pytest.approx(HOST_US, rel=0.1)
    assert found.probe_us == 0


def test_what_timing_a_kernel_added_is_found_and_taken_off():
    """A profiler that slows every kernel by 2 us, a runtime without a host between them."""
    measured = measurements(noise=0.0)
    slow = replace(
        measured,
        networks=tuple(replace(n, latency_ms=1e-3 * sum(
            1e3 * k.latency_ms for k in measured.kernels
            if k.network == n.label and k.where == "place")) for n in measured.networks),
        kernels=tuple(replace(k, latency_ms=k.latency_ms + 2e-3) if k.where == "place" else k
                      for k in measured.kernels),
    )  # fmt: skip
    data = dataset_of(slow)
    found = overhead(data, *everything(data))
    assert found.probe_us == pytest.approx(2.0, abs=0.3)
    assert found.host_us < 0.5
    assert found.scale == pytest.approx(1.0, abs=0.02)
    less = without_probe(data, 2.0).rows
    place = data.rows.place == 0
    np.testing.assert_allclose(less.seconds[place], data.rows.seconds[place] - 2e-6, rtol=1e-6)
    np.testing.assert_array_equal(less.seconds[~place], data.rows.seconds[~place])
    assert (without_probe(data, 1e6).rows.seconds > 0).all()


def test_the_host_beside_a_gpu_is_the_longer_of_two_chains(data):
    model = replace(grow(pooled(data.rows), Settings(rounds=5)), scale=1.0, host_us=1e4)
    everyone = np.ones(len(data.networks), bool)
    overlapping = replace(data, overlaps=True)
    host = 1e-3 * 1e4 * data.networks.launches
    np.testing.assert_allclose(network_ms(model, overlapping, everyone), host, rtol=1e-3)
    assert (network_ms(model, data, everyone) > host).all()


def test_layers_drawn_from_a_family_are_left_out_with_it(measured):
    """A medley draws layers from all networks; one that only the left-out family has goes too."""
    wide = next(k for k in measured.kernels if k.family == "wide" and k.kernel.kind == "conv")
    unique = replace(wide, family="medley", space=PERTURBED, network="medley")
    shared = next(k for k in measured.kernels if k.kernel.kind == "linear" and k.where == "place")
    medley = replace(measured.networks[0], label="medley", family="medley", space=PERTURBED)
    more = (unique, replace(shared, family="medley", space=PERTURBED, network="medley"))
    data = dataset_of(replace(measured, networks=(*measured.networks, medley),
                              kernels=(*measured.kernels, *more)))  # fmt: skip
    rows = data.rows
    only = np.array([data.families.index("wide")])
    same = rows.signature == rows.signature[-2]
    families = {data.families[f] for f in rows.family[same]} - {"medley"}
    out, _ = data.inside(only)
    assert bool(out[-2]) == (families == {"wide"})
    holders = {data.families[f] for f in rows.family[rows.signature == rows.signature[-1]]}
    assert bool(out[-1]) == (holders - {"medley"} == {"wide"})
    assert not data.inside(np.array([data.families.index("pooled")]))[0][-2]
