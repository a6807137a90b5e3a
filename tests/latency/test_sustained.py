"""Clocks under a power limit, and the fits that devices of a kind share."""

import dataclasses

import pytest

from predictor.device import devices, load_device
from predictor.latency.costing import Coster, hardware_of
from predictor.latency.shared import names_for, shared_bundle
from predictor.latency.sustained import EXPONENT, sustained, sustained_share


def test_reference_cards_hold_their_clock():
    assert sustained_share(load_device("rtx-3090")) == 1.0
    assert sustained_share(load_device("rtx-4090")) == pytest.approx(1.0, abs=0.01)


def test_share_by_hand():
    card = dataclasses.replace(load_device("rtx-4090"), power_limit_w=225.0)
    left = 225 - 0.05 * 1008 - 0.4 * 128
    assert sustained_share(card) == pytest.approx((left / (1.08 * 128 * 2.52)) ** (1 / EXPONENT))


def test_less_power_never_means_a_higher_clock():
    card = load_device("rtx-4090")
    shares = [sustained_share(dataclasses.replace(card, power_limit_w=w))
              for w in (60.0, 150.0, 300.0, 450.0, 600.0)]  # fmt: skip
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_boards_that_share_memory_and_processors_are_left_alone():
    for device in devices():
        if device.kind != "gpu" or device.shared_memory:
            assert sustained_share(device) == 1.0, device.name


def test_peaks_go_with_the_clock_and_bytes_pass_through_the_units():
    card = load_device("t4")
    plain = hardware_of(card, "fp16")
    held = sustained(plain, card)
    assert held.peak_flops / plain.peak_flops == pytest.approx(held.clock_hz / plain.clock_hz)
    assert held.clock_hz < plain.clock_hz
    delivered = 1 / (1 / 320 + 0.07 / (40 * held.clock_hz / 1e9))
    assert held.bandwidth == pytest.approx(delivered * 1e9)


def test_a_card_without_figures_takes_what_its_kind_shares():
    card = load_device("h100")
    target = card.target("eager", "amp")
    assert names_for(card, target) == ("gpu-eager-amp-hopper", "gpu-eager-amp")
    found = shared_bundle(card, target)
    assert found is not None
    bundle = Coster(card, target).bundle
    assert bundle == found[0]
    assert bundle.siblings_only


def test_another_runtime_is_never_answered_with_it():
    card = load_device("h100")
    assert shared_bundle(card, card.target("onnxruntime", "fp32")) is None


def test_a_device_file_without_a_base_brings_its_shared_fit_and_others_on_its_hardware():
    from predictor.calibration import all_sources

    card = load_device("h100")
    found = all_sources(pytest.fail, card, "eager", "amp")
    mine = [source for source in found if source.device.name == "h100"]
    assert mine[0].coster.bundle == shared_bundle(card, card.target("eager", "amp"))[0]
    assert len(mine) > 1
    peaks = {source.coster.hardware.units for source in mine}
    assert peaks == {float(card.units)}
    assert len(all_sources(pytest.fail)) == len(found) - len(mine)
