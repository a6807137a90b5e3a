import re

import pytest

from predictor.profiling import watch
from predictor.profiling.runtimes import RuntimeUnavailable


def test_it_says_what_it_watches_and_reads_it():
    found = watch.Watch([])
    state = found.state()
    assert set(found.names) == set(state) - {"unix_s"}
    assert "load" in found.names


def test_a_promise_that_cannot_be_kept_is_refused(monkeypatch):
    monkeypatch.setitem(watch.SOURCES, "clock", lambda: None)
    with pytest.raises(RuntimeUnavailable, match=r"asked to watch clock, which .* it shows .*load"):
        watch.Watch(["clock"])


def test_an_unknown_promise_is_answered_with_the_list():
    with pytest.raises(RuntimeUnavailable, match="cannot watch 'moon'; there are clock, gpu"):
        watch.Watch(["moon"])


@pytest.mark.parametrize(("before", "after", "why"), [
    ({"throttle": {"cpu_count": 3}}, {"throttle": {"cpu_count": 3}}, None),
    ({"throttle": {"cpu_count": 3}}, {"throttle": {"cpu_count": 4}}, "processor was throttled"),
    ({}, {"throttle": {"board_now": 4}}, "processor was throttled"),
    ({}, {"gpu": {"clocks_throttle_reasons.active": 1.0}}, None),
    ({}, {"gpu": {"clocks_throttle_reasons.active": float(0x8)}}, r"reasons 0x8"),
    ({}, {}, None),
])  # fmt: skip
def test_throttled_measurements_do_not_count(before, after, why):
    found = watch.Watch.disturbed(before, after)
    assert (found is None) == (why is None)
    assert why is None or re.search(why, found)


def test_nvidia_smi_is_read_with_its_units(monkeypatch):
    said = "1410, 43, 61.20, 0x0000000000000004"
    monkeypatch.setattr(
        watch, "_command", lambda *words: said if words[0] == "nvidia-smi" else None
    )
    assert watch.gpu() == {"clocks.sm": 1410.0, "temperature.gpu": 43.0, "power.draw": 61.2,
                           "clocks_throttle_reasons.active": 4.0}  # fmt: skip


def test_a_raspberry_pi_tells_by_its_tool(monkeypatch):
    monkeypatch.setattr(watch, "_command", lambda *w: "throttled=0x50005" if w[0] == "vcgencmd"
                        else None)  # fmt: skip
    assert watch.throttles()["board_now"] == 5


def test_a_jetson_tells_its_power_mode(monkeypatch):
    monkeypatch.setattr(watch, "_command", lambda *w: "NV Power Mode: 15W\n2" if w[0] == "nvpmodel"
                        else None)  # fmt: skip
    assert watch.power_mode() == "15W"


def test_facts_of_this_machine():
    facts = watch.machine()
    assert facts["cores"] >= 1
    assert facts["memory_gb"] > 0.1
    assert facts["python"].count(".") == 2
