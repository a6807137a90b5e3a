"""Candidates priced by parts take what their whole graphs are predicted to take."""

import random

import numpy as np
import pytest

from predictor.builder import GraphBuilder
from predictor.calibrated import write_target
from predictor.calibration import all_sources, calibrate, read_measurements
from predictor.errors import ConfigError
from predictor.frontends.families.parts import part
from predictor.pipeline import Predictor
from predictor.search import pricing
from predictor.search.pricing import Pricer
from predictor.search.space import SearchSpace
from predictor.search.spaces.fbnet import FBNet
from predictor.search.spaces.nasbench201 import NasBench201
from predictor.search.spaces.ofa import OnceForAll

SPACES = (OnceForAll, FBNet, NasBench201)
TARGETS = (
    ("jetson", {}), ("jetson-nano", {}), ("rtx-3090", {}), ("titan-rtx", {}), ("v100", {}),
    ("epyc-milan", {"runtime": "eager"}), ("epyc-milan", {"runtime": "onnxruntime"}),
    ("raspberry-pi-4", {}), ("i9-10940x", {}), ("h100", {}), ("galaxy-a50", {}),
)  # fmt: skip


def agree(pricer, candidates):
    found = pricer.price(candidates)
    for i, values in enumerate(candidates):
        wanted = pricer.exactly(values)
        assert set(wanted) == set(found)
        for name, value in wanted.items():
            assert found[name][i] == pytest.approx(value, rel=1e-9), (name, pricer.way)


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
@pytest.mark.parametrize(("device", "how"), TARGETS)
def test_every_target_and_space(device, how, space):
    pricer = Pricer(space(), [Predictor(device, **how)])
    chance = random.Random(f"{device}{space.name}")
    agree(pricer, [pricer.space.random(chance) for _ in range(4)])


@pytest.mark.parametrize("batch", [1, 8])
def test_several_devices_at_once(batch):
    pricer = Pricer(OnceForAll(), [Predictor("jetson"), Predictor("rtx-3090"), Predictor("a100")],
                    batch=batch, scope="call")  # fmt: skip
    chance = random.Random(0)
    agree(pricer, [pricer.space.random(chance) for _ in range(3)])
    assert pricer.way == "apart"


def test_a_calibrated_mixture(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(tmp_path))
    chance = random.Random(2)
    keys = [f"ofa:{OnceForAll().key(OnceForAll().random(chance))}" for _ in range(6)]
    jetson = Predictor("jetson-agx-orin")
    rows = [f'"{key}",{1.3 * jetson.estimate(_graph(key)).latency_ms:.6g}' for key in keys]
    (tmp_path / "m.csv").write_text("model,latency_ms\n" + "\n".join(rows) + "\n")
    sources = [s for s in all_sources(print) if s.device.name in
               ("jetson-orin-nano", "jetson-xavier-nx", "jetson-agx-xavier", "rtx-3090")]  # fmt: skip
    found = calibrate(read_measurements(tmp_path / "m.csv"), sources)
    write_target(found, "my-board", None, None, None)
    predictor = Predictor("my-board")
    assert predictor.blend is not None
    pricer = Pricer(OnceForAll(), [predictor])
    agree(pricer, [pricer.space.random(chance) for _ in range(4)])
    assert pricer.way == "apart"


def _graph(key):
    from predictor.frontends.families import family_graph

    return family_graph(key)


class ReluFirst(SearchSpace):
    """Blocks that begin with what the kernel before them takes in, and one without operators."""

    name = "relu-first"
    parameters = {f"b{i}": ("relu-conv", "conv", "nothing") for i in range(5)}  # noqa: RUF012

    def input_shape(self, values):
        return (3, 32, 32)

    def chain(self, values):
        blocks = [(name, part(_block, str(values[name]))) for name in self.parameters]
        return [("stem", part(_block, "conv")), *blocks]


def _block(b, x, name, word):
    if word == "nothing":
        return x
    if word == "relu-conv":
        x = b.activation(x, "relu", name=f"{name}.relu")
    return b.conv(x, 16, 3, padding=1, name=f"{name}.conv")


@pytest.mark.parametrize("device", ["jetson", "rtx-3090", "raspberry-pi-4"])
def test_fusion_across_parts_is_seen_even_where_it_is_rare(device, monkeypatch):
    """The candidates that are tried first need not show what others do."""
    monkeypatch.setattr(pricing, "TRIED", 1)
    pricer = Pricer(ReluFirst(), [Predictor(device)])
    chance = random.Random(1)
    agree(pricer, [pricer.space.random(chance) for _ in range(60)])


class Python(SearchSpace):
    """No chain: the module is traced."""

    name = "mine"
    parameters = {"width": (4, 8)}  # noqa: RUF012

    def input_shape(self, values):
        return (3, 16, 16)

    def module(self, values):
        from torch import nn

        return nn.Sequential(nn.Conv2d(3, values["width"], 3), nn.ReLU())


def test_a_class_with_a_module_alone_is_traced():
    pricer = Pricer(Python(), [Predictor("jetson")])
    found = pricer.price([{"width": 4}, {"width": 8}, {"width": 4}])
    assert pricer.way == "whole"
    assert found["macs"].tolist() == [4 * 27 * 196, 8 * 27 * 196, 4 * 27 * 196]
    assert found["params"].tolist() == [4 * 28, 8 * 28, 4 * 28]


def test_nothing_to_price_and_devices_twice():
    with pytest.raises(ConfigError, match="each named once"):
        Pricer(OnceForAll(), [Predictor("jetson"), Predictor("jetson")])
    with pytest.raises(ConfigError, match="devices"):
        Pricer(OnceForAll(), [])
    pricer = Pricer(OnceForAll(), [Predictor("jetson")])
    assert all(len(column) == 0 for column in pricer.price([]).values())
    assert "latency_ms jetson-orin-nano" in pricer.figures


def test_parts_are_built_once():
    """The second candidate with the same blocks builds nothing."""
    pricer = Pricer(OnceForAll(), [Predictor("jetson")])
    chance = random.Random(0)
    candidates = [pricer.space.random(chance) for _ in range(10)]
    first = pricer.price(candidates)
    before = GraphBuilder.op
    try:
        GraphBuilder.op = None
        again = pricer.price(candidates)
    finally:
        GraphBuilder.op = before
    assert all(np.array_equal(first[name], again[name]) for name in first)
