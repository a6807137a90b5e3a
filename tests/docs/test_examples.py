"""Every file in ``examples/`` does what it is there for."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest
import yaml

from predictor import cli

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIGS = sorted(p.name for p in EXAMPLES.glob("*.yaml")
                 if p.name != "my-device.yaml" and not p.name.startswith("space-"))  # fmt: skip
NEEDS = {"factory.yaml": "torch", "torchvision.yaml": "torchvision", "onnx.yaml": "onnx"}


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "examples"
    shutil.copytree(EXAMPLES, folder)
    monkeypatch.chdir(folder)
    return folder


def _onnx_file(path: Path) -> None:
    """The file that onnx.yaml expects beside it: one convolution, its weights kept outside."""
    from onnx import TensorProto, helper, save

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 8, 32, 32])
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [8, 3, 3, 3], [0.0] * 216)
    node = helper.make_node("Conv", ["image", "weight"], ["out"], pads=[1, 1, 1, 1])
    save(helper.make_model(helper.make_graph([node], "net", [image], [out], [weight])), path)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_runs(name: str, examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    if name == "onnx.yaml":
        _onnx_file(examples / "model.onnx")
    code = cli.run([name, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    estimate = json.loads(said.out)
    low, high = estimate["interval_ms"]
    assert 0 < low < estimate["latency_ms"] < high
    assert estimate["kernels"]


@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("space-*.yaml")))
def test_a_space_is_loaded_and_a_candidate_priced(name: str, examples: Path) -> None:
    if name == "space-python.yaml":
        pytest.importorskip("torch", reason="its networks are modules")
    from predictor.pipeline import Predictor
    from predictor.search.pricing import Pricer
    from predictor.search.spaces.find import load_space

    space = load_space(name).space
    figures = Pricer(space, [Predictor("jetson")]).price([space.random(Random(0))])
    assert figures["latency_ms jetson-orin-nano"][0] > 0


def test_every_config_names_its_device() -> None:
    for name in CONFIGS:
        assert "device" in yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8")), name


def test_the_device_template_is_a_device(
    examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["config.yaml", "--device", "my-device.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "my-device"


def test_the_workflow_runs_a_command_that_works(
    examples: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["latency"]["steps"]
    command = next(s["run"] for s in steps if "predict-latency" in s.get("run", ""))
    monkeypatch.chdir(examples.parent)
    assert cli.run(command.split()[1:]) == 0, capsys.readouterr().err
    assert (examples.parent / "latency.html").stat().st_size > 1000
