"""One door: paths, names, configurations, batch and resolution."""

import io
import sys

import pytest

import predictor
from predictor.errors import ConfigError, MissingExtra, ModelError
from predictor.frontends.load import resized

LAYERS = """\
model:
  name: tiny
  layers:
    - {type: conv2d, out: 8, kernel: 3, stride: 2, padding: same, bias: false}
    - relu
    - global_avg_pool
    - flatten
    - {type: linear, out: 10, bias: false}
inputs: [1, 3, 32, 32]
"""


@pytest.fixture
def layer_list(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(LAYERS)
    return path


def test_a_layer_list_at_other_sizes(layer_list):
    one = predictor.load_graph(layer_list)
    assert one.macs == 8 * 16 * 16 * 27 + 80
    four = predictor.load_graph(str(layer_list), batch=4)
    assert four.macs == 4 * one.macs
    assert four.params == one.params
    big = predictor.load_graph(layer_list, resolution=64)
    assert big.macs == 8 * 32 * 32 * 27 + 80
    wide = predictor.load_graph(layer_list, resolution=(32, 64))
    assert wide.input_specs[0].shape == (1, 3, 32, 64)


def test_standard_input(layer_list, monkeypatch):
    class Stdin:
        buffer = io.BytesIO(LAYERS.encode())

        def read(self):
            return LAYERS

    monkeypatch.setattr(sys, "stdin", Stdin())
    assert predictor.load_graph("-").macs == predictor.load_graph(layer_list).macs


def test_a_python_file_beside_the_config(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="the model is a torch module")
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\ndef build(width=4):\n    return nn.Linear(8, width)\n"
    )
    config = tmp_path / "c.yaml"
    config.write_text("model: {source: 'python:nets.py:build', args: {width: 6}}\ninputs: [2, 8]\n")
    monkeypatch.chdir(tmp_path.parent)
    assert predictor.load_graph(config).macs == 2 * 8 * 6
    assert predictor.load_graph(config, batch=3).macs == 3 * 8 * 6


def test_names():
    pytest.importorskip("torch", reason="torchvision models are torch modules")
    try:
        graph = predictor.load_graph("torchvision:resnet18", batch=2, resolution=64)
    except MissingExtra as error:
        pytest.skip(str(error))
    assert graph.input_specs[0].shape == (2, 3, 64, 64)
    assert graph.params == 11_689_512
    assert graph.name == "torchvision:resnet18"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-such-model", "known here"), ("torchvison:resnet18", "torchvision"),
        ("missing.onnx", "no such file"), ("missing.pt2", "no such file"), ("", "known here"),
        ("missing.yaml", "missing.yaml"), ("resnet50", "known here"),
    ],
)  # fmt: skip
def test_what_does_not_exist(name, words):
    with pytest.raises(ConfigError, match=words):
        predictor.load_graph(name)


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"x")
    with pytest.raises(ModelError, match="not read"):
        predictor.load_graph(path)
    (tmp_path / "d.onnx").mkdir()
    with pytest.raises(ModelError, match="folder"):
        predictor.load_graph(tmp_path / "d.onnx")


def test_near_names_are_suggested(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"Did you mean 'model\.onnx'"):
        predictor.load_graph(tmp_path / "modle.onnx")


@pytest.mark.parametrize(
    "options", [{"batch": 0}, {"batch": -1}, {"resolution": 0}, {"resolution": (32, -1)}]
)
def test_impossible_settings(layer_list, options):
    with pytest.raises(ConfigError, match="1"):
        predictor.load_graph(layer_list, **options)


def test_resizing_inputs():
    assert resized((1, 3, 224, 224), (64, 32)) == (1, 3, 64, 32)
    assert resized((1, 3, 16, 112, 112), (64, 64)) == (1, 3, 16, 64, 64)
    assert resized({"x": (1, 3, 8, 8), "n": (1, 5)}, (4, 4)) == {"x": (1, 3, 4, 4), "n": (1, 5)}
    assert resized({"shape": (1, 3, 8, 8), "dtype": "float16"}, (4, 4)) == {
        "shape": (1, 3, 4, 4),
        "dtype": "float16",
    }
    assert resized({"shape": (1, 9), "dtype": "int64"}, (4, 4))["shape"] == (1, 9)
    assert resized(((1, 3, 8, 8), (1, 3, 8, 8)), (4, 4)) == ((1, 3, 4, 4), (1, 3, 4, 4))
