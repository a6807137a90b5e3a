"""Models by name: ``torchvision:``, ``timm:``, ``transformers:``, ``python:``, network families.

Weights are never loaded and nothing is downloaded. Models are built on the meta device, with
initialisation switched off, so that a model of billions of parameters costs no memory; where a
constructor needs numbers (torchvision's RegNets compute their widths with tensors) it is built in
the ordinary way, its weights left unset. The names are described in ``docs/model-names.md``.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from predictor.errors import ModelError, suggest
from predictor.frontends.families import FAMILIES, default_resolution, family_module, is_family
from predictor.frontends.zoo_build import (
    Built,
    build_module,
    constructor,
    import_torchvision,
    need,
    offline,
    replaced,
)
from predictor.frontends.zoo_python import build_python
from predictor.frontends.zoo_transformers import build_transformers
from predictor.language import Language

if TYPE_CHECKING:
    from torch import nn

__all__ = ["SOURCES", "Built", "build_named", "is_named"]

VIDEO_FRAMES = 16
"""Frames of a clip; torchvision's published operation counts are for 16."""
FLOW_SIZE = (512, 512)
"""Height and width of optical-flow inputs; torchvision's published operation counts are for it."""

_LOCK = threading.RLock()
"""Building patches torch for a moment; one build at a time."""


def is_named(name: str) -> bool:
    """True where ``name`` starts with a source that :func:`build_named` knows."""
    return ":" in name and (name.partition(":")[0] in SOURCES or is_family(name))


def build_named(
    name: str, *, args: Mapping[str, Any] | None = None, on_meta: bool = True,
    language: Language | None = None,
) -> Built:  # fmt: skip
    """Build the model ``name`` without loading weights.

    Args:
        name: ``torchvision:NAME``, ``timm:NAME``, ``transformers:TYPE_OR_PATH``,
            ``python:FILE:FACTORY``, or the key of a network family.
        args: keyword arguments of the constructor. Without any, torchvision gives the model that
            its published weights belong to.
        on_meta: try the meta device first. False builds with real, initialised weights.
        language: phase, lengths and attention of a ``transformers:`` model.

    Errors: :class:`ModelError` for a name, file or argument that is wrong, with file and line
    where the user's own code fails; :class:`MissingExtra` with the line that installs a package.
    """
    source, colon, rest = name.partition(":")
    if not colon or not (source in SOURCES or is_family(name)):
        known = [*SOURCES, *FAMILIES]
        raise ModelError(
            f"'{name}': no model source of the name '{source}'.{suggest(source, known)} "
            f"Sources: {', '.join(f'{word}:' for word in known)}"
        )
    if not rest:
        raise ModelError(f"'{name}': a name must follow, as in {EXAMPLES.get(source, 'ofa:ks=7')}")
    if is_family(name):
        source = "family"
    settings = dict(args or {})
    for word in ("pretrained", "weights"):
        if source != "python" and settings.get(word):
            raise ModelError(f"{name}: args.{word}: weights are never loaded; leave it out")
    with _LOCK, warnings.catch_warnings():
        if source != "python":
            warnings.simplefilter("ignore")
        if source == "transformers":
            return build_transformers(name, rest, settings, on_meta, language)
        return _BUILDERS[source](name, rest, settings, on_meta)


def _torchvision(name: str, rest: str, args: dict[str, Any], on_meta: bool) -> Built:
    package, notes = import_torchvision(name)
    models = importlib.import_module("torchvision.models")
    key, known = rest.strip().lower(), models.list_models()
    if key not in known:
        raise ModelError(
            f"{name}: torchvision {package.__version__} has no model '{rest}'.{suggest(key, known)}"
        )
    builder = models.get_model_builder(key)
    weights = None
    if len(models.get_model_weights(key)):
        weights = models.get_model_weights(key).DEFAULT
        # Quantised models are read before quantisation, which is a runtime's work.
        weights = weights.meta.get("unquantized", weights)
    if args or weights is None:
        # A backbone's weights are a default of their own in segmentation and detection models.
        has_backbone = "weights_backbone" in inspect.signature(builder).parameters
        args = {"weights": None, **({"weights_backbone": None} if has_backbone else {}), **args}
    else:
        args = {"weights": weights}  # the published form: classes, heads; see _no_weights
    with _no_weights(), offline(), constructor(name):
        module = build_module(lambda: builder(**args), on_meta)
    return Built(module, _torchvision_inputs(module, weights), notes)


@contextlib.contextmanager
def _no_weights() -> Iterator[None]:
    """torchvision builders that are given weights take their settings, and load nothing."""
    api = importlib.import_module("torchvision.models._api")
    module = importlib.import_module("torch.nn").Module
    with (
        replaced(api.WeightsEnum, "get_state_dict", lambda *a, **k: {}),
        replaced(module, "load_state_dict", lambda *a, **k: None),
    ):
        yield


def _torchvision_inputs(module: nn.Module, weights: Any) -> Any:
    """By the kind of the published preprocessing; sizes are those of the published figures."""
    if weights is None:
        return (1, 3, 224, 224)
    transforms = weights.transforms()
    kind = type(transforms).__name__
    if kind == "ObjectDetection":
        resize = getattr(module, "transform", None)
        size = getattr(resize, "fixed_size", None) or (getattr(resize, "min_size", (800,))[-1],) * 2
        return ([(3, *size)],)
    if kind == "OpticalFlow":
        return ((1, 3, *FLOW_SIZE), (1, 3, *FLOW_SIZE))
    sizes = getattr(transforms, "crop_size", None) or transforms.resize_size
    height, width = (*sizes, *sizes)[:2]
    if kind == "VideoClassification":
        return (1, 3, VIDEO_FRAMES, height, width)
    return (1, 3, height, width)


def _timm(name: str, rest: str, args: dict[str, Any], on_meta: bool) -> Built:
    if rest.startswith(("hf_hub:", "hf-hub:", "local-dir:")) or "/" in rest:
        raise ModelError(
            f"{name}: this names files on a model hub, and nothing is downloaded; "
            "use timm's own name, as in timm:resnet50"
        )
    notes: tuple[str, ...] = ()
    if importlib.util.find_spec("torchvision") is not None:  # timm imports it
        _, notes = import_torchvision(name)
    timm = need("timm", "timm", name)
    if not timm.is_model(rest):
        known = timm.list_models()
        near = suggest(rest.partition(".")[0], known)
        raise ModelError(f"{name}: timm {timm.__version__} has no model '{rest}'.{near}")
    base, dot, tag = rest.partition(".")
    if dot:
        tags = [word.partition(".")[2] for word in timm.list_pretrained(f"{base}.*")]
        if tag not in tags:
            raise ModelError(f"{name}: '{base}' has no tag '{tag}'.{suggest(tag, tags)}")
    with offline(), constructor(name):
        module = build_module(lambda: timm.create_model(rest, pretrained=False, **args), on_meta)
    channels, height, width = getattr(module, "pretrained_cfg", {}).get("input_size", (3, 224, 224))
    size = args.get("img_size") or (height, width)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return Built(module, (1, args.get("in_chans", channels), height, width), notes)


def _family(name: str, rest: str, args: dict[str, Any], on_meta: bool) -> Built:
    if args:
        raise ModelError(f"{name}: the key says everything; it takes no args")
    size = default_resolution(name)
    need("torch", "torch", name)
    return Built(build_module(lambda: family_module(name), on_meta), (1, 3, size, size), ())


EXAMPLES = {
    "torchvision": "torchvision:resnet50", "timm": "timm:resnet50",
    "transformers": "transformers:bert", "python": "python:nets.py:build",
}  # fmt: skip
SOURCES = tuple(EXAMPLES)
"""Prefixes besides those of the network families."""
_BUILDERS: dict[str, Callable[[str, str, dict[str, Any], bool], Built]] = {
    "torchvision": _torchvision, "timm": _timm, "python": build_python, "family": _family,
}  # fmt: skip
