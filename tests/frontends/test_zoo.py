"""Named models: every source, missing packages, wrong names, and user files that fail."""

from __future__ import annotations

import json
import sys

import pytest

from predictor.errors import MissingExtra, ModelError
from predictor.frontends import zoo, zoo_build
from predictor.frontends.zoo import build_named, is_named

torch = pytest.importorskip("torch", reason="builds torch modules")

from predictor.frontends.torch_module import trace  # noqa: E402


def params_of(module) -> int:
    return sum(p.numel() for p in module.parameters())


def on_meta(module) -> bool:
    return all(p.is_meta for p in module.parameters())


@pytest.fixture
def no_downloads(monkeypatch):
    """Any attempt to open a connection fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


# -- torchvision --------------------------------------------------------------------------------


class TestTorchvision:
    @pytest.fixture(autouse=True)
    def package(self, no_downloads):
        try:
            zoo_build.import_torchvision()
        except MissingExtra as error:
            pytest.skip(f"torchvision: {error}")

    @pytest.mark.parametrize(
        ("name", "inputs"),
        [
            ("resnet18", (1, 3, 224, 224)),
            ("inception_v3", (1, 3, 299, 299)),
            ("googlenet", (1, 3, 224, 224)),
            ("regnet_y_400mf", (1, 3, 224, 224)),
            ("efficientnet_b1", (1, 3, 240, 240)),
            ("lraspp_mobilenet_v3_large", (1, 3, 520, 520)),
            ("deeplabv3_mobilenet_v3_large", (1, 3, 520, 520)),
            ("r3d_18", (1, 3, 16, 112, 112)),
            ("raft_small", ((1, 3, 512, 512), (1, 3, 512, 512))),
        ],
    )
    def test_the_published_form_at_the_published_size(self, name, inputs):
        """Parameters and operations equal the figures that torchvision publishes."""
        from torchvision.models import get_model_weights

        built = build_named(f"torchvision:{name}")
        meta = get_model_weights(name).DEFAULT.meta
        assert built.inputs == inputs
        assert params_of(built.module) == meta["num_params"]
        assert not built.module.training
        macs = trace(built.module, built.inputs).macs
        assert macs / 1e9 == pytest.approx(meta["_ops"], rel=0.01)

    def test_no_weights_in_memory(self):
        assert on_meta(build_named("torchvision:vgg16").module)
        real = build_named("torchvision:squeezenet1_1", on_meta=False)
        assert not on_meta(real.module)

    def test_a_constructor_that_needs_numbers_is_built_without_meta(self):
        assert not on_meta(build_named("torchvision:regnet_x_400mf").module)

    def test_quantised_models_are_read_before_quantisation(self):
        built = build_named("torchvision:quantized_resnet18")
        assert params_of(built.module) == params_of(build_named("torchvision:resnet18").module)

    def test_detectors_take_a_list_of_images(self):
        assert build_named("torchvision:ssd300_vgg16").inputs == ([(3, 300, 300)],)
        assert build_named("torchvision:fasterrcnn_resnet50_fpn").inputs == ([(3, 800, 800)],)

    def test_args_reach_the_constructor_and_bring_no_backbone_weights(self):
        small = build_named("torchvision:mobilenet_v2", args={"num_classes": 10})
        assert small.module.classifier[1].out_features == 10
        net = build_named("torchvision:fcn_resnet50", args={"num_classes": 5})
        assert net.module.classifier[-1].out_channels == 5
        assert net.module.aux_classifier is None

    def test_the_patches_are_gone_afterwards(self):
        before = (torch.nn.Module.load_state_dict, torch.nn.init.kaiming_normal_)
        build_named("torchvision:resnet18")
        with pytest.raises(ModelError):
            build_named("torchvision:resnet18", args={"nonsense": 1})
        assert (torch.nn.Module.load_state_dict, torch.nn.init.kaiming_normal_) == before
        assert torch.get_default_device().type == "cpu"

    @pytest.mark.parametrize(
        ("name", "args", "words"),
        [
            ("torchvision:resnet_50", None, "Did you mean 'resnet50'?"),
            ("torchvision:", None, "a name must follow"),
            ("torchvision:resnet18", {"nonsense": 1}, "nonsense"),
            ("torchvision:resnet18", {"weights": "DEFAULT"}, "never loaded"),
            ("torchvision:resnet18", {"pretrained": True}, "never loaded"),
        ],
    )
    def test_wrong_names_and_args(self, name, args, words):
        with pytest.raises(ModelError) as error:
            build_named(name, args=args)
        assert words in str(error.value)


def test_torchvision_beside_a_torch_without_its_operators(monkeypatch):
    """The first import fails half-way; the second one finds the operators defined."""
    calls = []

    def import_module(name):
        calls.append(name)
        if name != "torchvision":
            return torch
        if calls.count("torchvision") == 1:
            sys.modules["torchvision.half"] = sys
            raise RuntimeError("operator torchvision::nms does not exist")
        assert "torchvision.half" not in sys.modules
        return "package"

    for key in [k for k in sys.modules if k.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, key)
    monkeypatch.setattr(zoo_build.importlib, "import_module", import_module)
    monkeypatch.setattr(zoo_build, "_LIBRARIES", [])
    package, notes = zoo_build.import_torchvision()
    assert package == "package"
    assert "do not match" in notes[0]
    assert hasattr(torch.ops.torchvision, "nms")


# -- timm ---------------------------------------------------------------------------------------


class TestTimm:
    @pytest.fixture(autouse=True)
    def package(self, no_downloads):
        try:
            zoo_build.import_torchvision()
        except MissingExtra as error:
            pytest.skip(f"timm needs torchvision: {error}")
        pytest.importorskip("timm", reason="the models are timm's")

    @pytest.mark.parametrize(
        ("name", "args", "inputs"),
        [
            ("resnet10t", None, (1, 3, 176, 176)),
            ("vit_tiny_patch16_224", None, (1, 3, 224, 224)),
            ("vit_tiny_patch16_224", {"img_size": 96, "in_chans": 1}, (1, 1, 96, 96)),
            ("efficientnet_b0", {"num_classes": 7}, (1, 3, 224, 224)),
        ],
    )
    def test_names_and_args(self, name, args, inputs):
        built = build_named(f"timm:{name}", args=args)
        assert built.inputs == inputs
        assert on_meta(built.module)
        graph = trace(built.module, built.inputs)
        assert graph.params == params_of(built.module)
        assert graph.ops[-1].outputs[0].shape[-1] == (args or {}).get("num_classes", 1000)

    def test_a_tag_decides_the_classes(self):
        built = build_named("timm:vit_tiny_patch16_224.augreg_in21k")
        assert built.module.head.out_features == 21843

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("timm:resnet_50", "Did you mean 'resnet"),
            ("timm:resnet50.a1_in2k", "Did you mean 'a1_in1k'?"),
            ("timm:hf_hub:timm/resnet50", "nothing is downloaded"),
            ("timm:org/resnet50", "nothing is downloaded"),
        ],
    )
    def test_wrong_names(self, name, words):
        with pytest.raises(ModelError) as error:
            build_named(name)
        assert words in str(error.value)


# -- transformers -------------------------------------------------------------------------------

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


class TestTransformers:
    @pytest.fixture(autouse=True)
    def package(self, no_downloads):
        pytest.importorskip("transformers", reason="the models are transformers'")

    @pytest.mark.parametrize(
        ("kind", "args", "inputs"),
        [
            ("bert", SMALL, {"input_ids": [1, 128]}),
            ("bert", {**SMALL, "max_position_embeddings": 64}, {"input_ids": [1, 64]}),
            ("vit", {**SMALL, "image_size": 64}, {"pixel_values": [1, 3, 64, 64]}),
            ("wav2vec2", {**SMALL, "num_conv_pos_embedding_groups": 2}, {"input_values": [1, 16000]}),
            (
                "t5",
                {"d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2, "d_kv": 16},
                {"input_ids": [1, 128], "decoder_input_ids": [1, 128]},
            ),
            (
                "whisper",
                {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64,
                 "decoder_ffn_dim": 64, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
                {"input_features": [1, 80, 3000], "decoder_input_ids": [1, 128]},
            ),
            (
                "clip",
                {"text_config": SMALL, "vision_config": {**SMALL, "image_size": 64}},
                {"input_ids": [1, 77], "pixel_values": [1, 3, 64, 64]},
            ),
        ],
    )  # fmt: skip
    def test_default_inputs_fit(self, kind, args, inputs):
        built = build_named(f"transformers:{kind}", args=args)
        assert {key: spec["shape"] for key, spec in built.inputs.items()} == inputs
        assert trace(built.module, built.inputs).macs > 0

    def test_a_type_is_its_default_configuration_and_costs_no_memory(self):
        built = build_named("transformers:gpt2")
        assert params_of(built.module) == 124_439_808
        assert on_meta(built.module)

    def test_a_local_configuration(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **SMALL}))
        same = [
            build_named(f"transformers:{path}") for path in (tmp_path, tmp_path / "config.json")
        ]
        expected = params_of(build_named("transformers:bert", args=SMALL).module)
        assert [params_of(built.module) for built in same] == [expected] * 2

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("{", ":1:2: not JSON"),
            ("[1]", "no model_type"),
            ('{"model_type": "brt"}', "Did you mean 'bert'?"),
            ("[" * 20_000, "not JSON"),
        ],
    )
    def test_damaged_configurations(self, tmp_path, content, words):
        file = tmp_path / "config.json"
        file.write_text(content)
        with pytest.raises(ModelError) as error:
            build_named(f"transformers:{file}")
        assert words in str(error.value)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("transformers:brt", "Did you mean 'bert'?"),
            ("transformers:google-bert/bert-base-uncased", "config.json, saved on this machine"),
            ("transformers:missing.json", "no such file"),
        ],
    )
    def test_wrong_names(self, name, words):
        with pytest.raises(ModelError) as error:
            build_named(name)
        assert words in str(error.value)

    def test_code_that_a_configuration_names_is_not_run(self, tmp_path):
        flag = tmp_path / "ran"
        (tmp_path / "evil.py").write_text(f"open({str(flag)!r}, 'w')")
        settings = {"model_type": "bert", **SMALL, "auto_map": {"AutoModel": "evil.Evil"}}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        build_named(f"transformers:{tmp_path}")
        assert not flag.exists()


# -- the user's own file ------------------------------------------------------------------------

NETS = """
import torch
from torch import nn
from parts import WIDTH          # a neighbour of this file

class Net(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        self.fc = nn.Linear(4, width)

    def forward(self, x):
        return self.fc(x)

class Zoo:
    small = Net(2)
    build = Net

def build(width=8):
    from parts import WIDTH      # also while it is called
    return nn.Sequential(Net(width), nn.ReLU())

def numbers():
    rates = [float(r) for r in torch.linspace(0, 1, 3)]
    return nn.Linear(4, len(rates))

def broken(width=8):
    net = Net(width)
    raise RuntimeError("no luck")

def leave():
    raise SystemExit(3)

def wrong():
    return [1]

NUMBER = 3
"""


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "parts.py").write_text("WIDTH = 5\n")
    file = tmp_path / "nets.py"
    file.write_text(NETS)
    sys.modules.pop("parts", None)
    yield file
    sys.modules.pop("parts", None)


@pytest.mark.parametrize(
    ("factory", "args", "outputs"),
    [
        ("build", {}, 8),
        ("build", {"width": 3}, 3),
        ("Net", {}, 5),
        ("Zoo.small", {}, 2),
        ("Zoo.build", {"width": 6}, 6),
        ("numbers", {}, 3),
    ],
)
def test_python_factories(nets, factory, args, outputs):
    before = list(sys.path)
    built = build_named(f"python:{nets}:{factory}", args=args)
    assert built.inputs is None
    assert trace(built.module, (1, 4)).ops[-1].outputs[0].shape == (1, outputs)
    assert sys.path == before


def test_python_modules_need_no_memory_unless_they_read_numbers(nets):
    assert on_meta(build_named(f"python:{nets}:build").module)
    built = build_named(f"python:{nets}:numbers").module
    assert not on_meta(built)
    assert built.weight.abs().sum() > 0  # initialised as the user's code does


@pytest.mark.parametrize(
    ("factory", "args", "words"),
    [
        ("biuld", {}, "Did you mean 'build'?"),
        ("Zoo.smal", {}, "Did you mean 'small'?"),
        ("Zoo.small", {"width": 3}, "takes no args"),
        ("wrong", {}, "returned list, not a torch.nn.Module"),
        ("NUMBER", {}, "is of type int, not a module"),
        ("broken", {"width": 3}, "nets.py:28: broken(width=3) raised RuntimeError: no luck"),
        ("leave", {}, "nets.py:31: leave() raised SystemExit: 3"),
        ("build", {"wide": 3}, "wide"),
    ],
)
def test_python_factories_that_fail(nets, factory, args, words):
    with pytest.raises(ModelError) as error:
        build_named(f"python:{nets}:{factory}", args=args)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x = 1\ndef build(:\n", "nets.py:2:"),
        (
            "import torch\n\nraise ValueError('bad day')\n",
            "nets.py:3: importing it raised ValueError",
        ),
        ("import sys\nsys.exit()\n", "nets.py:2: importing it raised SystemExit"),
        ("import no_such_package_here\n", "nets.py:1: importing it raised ModuleNotFoundError"),
        ("", "there is no 'build'"),
    ],
)
def test_python_files_that_fail(tmp_path, content, words):
    file = tmp_path / "nets.py"
    file.write_text(content)
    with pytest.raises(ModelError) as error:
        build_named(f"python:{file}:build")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("nets.py", "python:FILE:FACTORY"),
        ("nets.py:", "python:FILE:FACTORY"),
        ("{folder}/net.py:build", "Did you mean 'nets.py'?"),
        ("no/such/folder/net.py:build", "there is no file"),
    ],
)
def test_python_names_that_lead_nowhere(nets, rest, words):
    with pytest.raises(ModelError) as error:
        build_named(f"python:{rest.format(folder=nets.parent)}")
    assert words in str(error.value)


# -- all sources --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [
        ("torchvision", "torchvision:resnet18", "torchvision"),
        ("timm", "timm:resnet18", "timm"),
        ("transformers", "transformers:bert", "transformers"),
        ("torch", "python:nets.py:build", "torch"),
        ("torch", "ofa:ks=3,e=3,d=2", "torch"),
    ],
)
def test_a_missing_package_is_answered_with_the_line_that_installs_it(
    monkeypatch, package, name, extra
):
    if package == "timm":  # it would fail for want of torchvision first
        monkeypatch.setattr(zoo, "import_torchvision", lambda name: (None, ()))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra) as error:
        build_named(name)
    assert f"pip install 'latency-predictor[{extra}]'" in str(error.value)
    assert error.value.exit_code == 2


def test_families_have_names_too():
    built = build_named("ofa:ks=3,e=3,d=2,r=160")
    assert built.inputs == (1, 3, 160, 160)
    assert on_meta(built.module)
    with pytest.raises(ModelError, match="takes no args"):
        build_named("ofa:ks=3,e=3,d=2", args={"width": 2})


def test_is_named():
    assert all(map(is_named, ("torchvision:x", "python:a.py:b", "fbnet:1", "timm:")))
    assert not any(map(is_named, ("model.onnx", "C:\\nets\\model.onnx", "resnet50", "torchvision")))


def test_unknown_sources():
    with pytest.raises(ModelError, match="Did you mean 'torchvision'"):
        build_named("torchvison:resnet18")
    with pytest.raises(ModelError, match="Sources: torchvision:"):
        build_named("resnet18")
