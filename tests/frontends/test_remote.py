"""What may come from the network as a model's name."""

import pytest

from predictor.errors import ModelError
from predictor.frontends.remote import refuse_local


@pytest.mark.parametrize("name", [
    "ofa:ks=7,e=6,d=4", "decoder:gpt2", "torchvision:resnet50", "timm:resnet50.a1_in1k",
    "transformers:bert", "fbnet:anything", "nasbench201:|x~0|",
])  # fmt: skip
def test_names_of_what_is_installed_are_taken(name):
    refuse_local(name)


@pytest.mark.parametrize("name", [
    "config.yaml", "/etc/passwd", "../model.onnx", "a.pt2", "-", "", "python:nets.py:build",
    "transformers:./config.json", "transformers:some/model", "transformers:config.json",
    "timm:hf_hub:someone/net", "timm:../x", "torchvision:", "torchvision:a b", "file:///etc/passwd",
    "ofa", "os:system", "timm:" + "x" * 3000, "torchvision:resnet50\n",
])  # fmt: skip
def test_everything_else_is_refused(name):
    with pytest.raises(ModelError) as caught:
        refuse_local(name)
    assert len(str(caught.value)) < 400
