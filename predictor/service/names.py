"""What can be asked for by name: models, search spaces, accuracy signals, samplers."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

SCHEMA_VERSION = 1
"""Raised when a key of the answers changes its meaning or goes away."""

EXAMPLES = (
    ("torchvision:resnet50", "ResNet-50"),
    ("torchvision:mobilenet_v3_large", "MobileNetV3-Large"),
    ("timm:vit_small_patch16_224", "ViT-S/16"),
    ("decoder:gpt2", "GPT-2"),
    ("ofa:ks=7,e=6,d=4", "Once-for-all, the largest"),
    ("ofa:ks=3,e=3,d=2", "Once-for-all, the smallest"),
    ("nasbench201:|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|"
     "nor_conv_3x3~1|nor_conv_3x3~2|", "A cell of NAS-Bench-201"),
)  # fmt: skip
"""Names to begin with, with what they are."""


def models_dict() -> dict[str, Any]:
    """Examples, and names by source; a source that is not installed is left out."""
    sources = [{"prefix": prefix, "names": names} for prefix, names in _names().items()]
    there = {source["prefix"] for source in sources}
    examples = [{"name": name, "title": title} for name, title in EXAMPLES
                if name.partition(":")[0] in there]  # fmt: skip
    return {"schema_version": SCHEMA_VERSION, "examples": examples, "sources": sources}


def _names() -> dict[str, list[str]]:
    from predictor.frontends.families import FAMILIES
    from predictor.frontends.families.decoder import shapes

    found: dict[str, list[str]] = {prefix: [] for prefix in FAMILIES}
    found["decoder"] = sorted(shapes())
    if importlib.util.find_spec("torch") is None:
        return found
    if importlib.util.find_spec("torchvision") is not None:
        from predictor.frontends.zoo_build import import_torchvision

        import_torchvision()
        import torchvision.models

        found["torchvision"] = list(torchvision.models.list_models())
    if importlib.util.find_spec("timm") is not None:
        import timm

        found["timm"] = list(timm.list_models())
    if importlib.util.find_spec("transformers") is not None:
        mapping = importlib.import_module("transformers.models.auto.configuration_auto")

        found["transformers"] = sorted(mapping.CONFIG_MAPPING_NAMES)
    return found


def signals() -> list[str]:
    """Accuracy signals that read no file and run no code of the client."""
    from predictor.search.accuracy import makers

    return sorted(name for name in makers() if ":" not in name)


def spaces_dict() -> dict[str, Any]:
    """Spaces by name with what they are, signals, samplers."""
    from predictor.search import samplers
    from predictor.search.spaces.find import SPACES, load_space

    spaces = []
    for name in SPACES:
        space = load_space(name).space
        about = (sys.modules[type(space).__module__].__doc__ or name).strip()
        about = about.splitlines()[0].partition(":")[0]
        spaces.append({"name": name, "title": about, "parameters": len(space.parameters)})
    return {"schema_version": SCHEMA_VERSION, "spaces": spaces, "signals": signals(),
            "samplers": sorted(samplers.makers())}  # fmt: skip
