"""``transformers:TYPE_OR_PATH``: a type's default configuration, or a local ``config.json``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from predictor.errors import ModelError, suggest
from predictor.frontends.zoo_build import (
    Built,
    build_module,
    constructor,
    import_torchvision,
    need,
    offline,
)
from predictor.frontends.zoo_language import cached_pass
from predictor.language import TEXT_LENGTH, Language

AUDIO_SAMPLES = 16_000
"""Samples of a raw audio input: one second at 16 kHz."""
_ATTENTION = {"eager": "eager", "fused": "sdpa"}


def build_transformers(
    name: str, rest: str, args: dict[str, Any], on_meta: bool, language: Language | None = None
) -> Built:
    """The base model of a type or of a ``config.json``, without weights.

    With a phase, the model with its output layer, and a KV cache among the inputs.

    Errors: :class:`ModelError` for an unknown type, a damaged file, a name on a hub, or a phase
    that the model does not have.
    """
    language = language or Language()
    need("torch", "transformers", name)
    notes: tuple[str, ...] = ()
    if importlib.util.find_spec("torchvision") is not None:  # vision models import it
        _, notes = import_torchvision(name)
    package = need("transformers", "transformers", name)
    verbosity = package.logging.get_verbosity()
    package.logging.set_verbosity_error()
    try:
        with offline(), constructor(name):
            config = _transformers_config(name, rest, args)
            make = _maker(name, package, config, language)
            module = build_module(make, on_meta)
        if language.phase is not None:
            module, inputs = cached_pass(name, module, language)
            return Built(module, inputs, notes + language.notes)
    finally:
        package.logging.set_verbosity(verbosity)
    inputs, about = _transformers_inputs(module, config, language)
    return Built(module, inputs, notes + about)


def _maker(name: str, package: Any, config: Any, language: Language) -> Callable[[], Any]:
    """Builds the model: the base, or with a phase the one that scores the next token."""
    auto = package.AutoModel
    if language.phase is not None:
        modeling = importlib.import_module("transformers.models.auto.modeling_auto")
        if config.model_type not in modeling.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise ModelError(
                f"{name}: '{config.model_type}' does not make text token by token, so it has no "
                "prefill and decode; leave out the phase"
            )
        auto = package.AutoModelForCausalLM
    chosen = {"attn_implementation": _ATTENTION[language.attention]} if language.attention else {}
    return lambda: auto.from_config(config, trust_remote_code=False, **chosen)


def _transformers_config(name: str, rest: str, args: dict[str, Any]) -> Any:
    auto = importlib.import_module("transformers.models.auto.configuration_auto")
    path = Path(rest)
    settings: dict[str, Any] = {}
    kind = rest
    if path.exists() or path.suffix == ".json":
        file = path / "config.json" if path.is_dir() else path
        settings = _json(file)
        kind = str(settings.pop("model_type", ""))
    if kind not in auto.CONFIG_MAPPING_NAMES:
        near = suggest(kind, auto.CONFIG_MAPPING_NAMES)
        if "/" in kind and not near:
            raise ModelError(
                f"{name}: '{kind}' is a name on a model hub, and nothing is downloaded. Give a "
                "type, as in transformers:bert, or the model's config.json, saved on this machine: "
                "transformers:path/to/config.json"
            )
        raise ModelError(f"{name}: '{kind}' is no model type that transformers knows.{near}")
    config = auto.CONFIG_MAPPING[kind](**{**settings, **args})
    for part in (config, *(v for v in vars(config).values() if hasattr(v, "model_type"))):
        # A cache of keys and values is for generating; a single forward pass has none.
        for word in ("use_cache", "use_pretrained_backbone"):
            if getattr(part, word, False):
                setattr(part, word, False)
    return config


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError("no such file", file=str(file)) from None
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", file=str(file)) from None
    except json.JSONDecodeError as error:
        raise ModelError(
            f"not JSON: {error.msg}", file=str(file), line=error.lineno, column=error.colno
        ) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"not JSON: {error}", file=str(file)) from None
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise ModelError("no model_type in it: not a transformers configuration", file=str(file))
    return content


def _transformers_inputs(
    module: Any, config: Any, language: Language
) -> tuple[Any, tuple[str, ...]]:
    """Keyword inputs by the module's main input and the sizes in its configuration."""
    parameters = inspect.signature(module.forward).parameters
    main = module.main_input_name
    tokens = _tokens(config, language.sequence)
    if language.sequence is not None and main != "input_ids":
        raise ModelError(f"sequence counts tokens, and this model reads {main}; give inputs")
    notes: tuple[str, ...] = ()
    inputs: dict[str, Any] = {}
    if main == "input_ids":
        inputs["input_ids"] = tokens
        images = "pixel_values" in parameters and getattr(config, "vision_config", None) is not None
        words = ("image_token_id", "image_token_index")
        if images and any(getattr(config, word, None) is not None for word in words):
            notes = ("default inputs are text alone; the image part is not in the figures",)
        elif images:
            inputs["pixel_values"] = _image(config)
    elif main == "pixel_values":
        inputs[main] = _image(config)
    elif main == "input_features":
        inputs[main] = _features(config)
    elif main == "input_values":
        inputs[main] = _audio(config)
    else:
        return None, (f"inputs: nobody says how large '{main}' is; give inputs",)
    required = parameters.get("input_ids")
    if required is not None and required.default is inspect.Parameter.empty:
        inputs.setdefault("input_ids", tokens)
    if "decoder_input_ids" in parameters and getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = tokens
    return inputs, notes


def _first(config: Any, *words: str) -> Any:
    """The first of ``words`` that the configuration or one of its parts sets."""
    for part in (config, *(getattr(config, w, None) for w in ("vision_config", "text_config"))):
        for word in words:
            value = getattr(part, word, None)
            if value is not None:
                return value
    return None


def _tokens(config: Any, sequence: int | None) -> dict[str, Any]:
    if sequence is not None:
        return {"shape": [1, sequence], "dtype": "int64"}
    longest = _first(config, "max_position_embeddings", "n_positions")
    known = isinstance(longest, int) and longest > 0  # -1 stands for no limit
    length = min(TEXT_LENGTH, longest) if known else TEXT_LENGTH
    return {"shape": [1, length], "dtype": "int64"}


def _image(config: Any) -> dict[str, Any]:
    size, channels = _first(config, "image_size"), _first(config, "num_channels")
    if isinstance(size, Mapping):
        size = [size.get("height", 224), size.get("width", 224)]
    height, width = size if isinstance(size, (list, tuple)) else (size or 224,) * 2
    frames = getattr(config, "num_frames", None)
    clip = [frames] if isinstance(frames, int) else []
    return {"shape": [1, *clip, channels or 3, height, width], "dtype": "float32"}


def _features(config: Any) -> dict[str, Any]:
    """Spectrograms: (mel bins, frames) for Whisper's layout, else (frames, bins)."""
    bins, frames = _first(config, "num_mel_bins"), _first(config, "max_source_positions")
    if bins is not None and frames is not None:
        return {"shape": [1, bins, 2 * frames], "dtype": "float32"}  # its stem halves the frames
    width = _first(config, "input_feat_per_channel", "feature_projection_input_dim", "num_mel_bins")
    return {"shape": [1, 500, width or 80], "dtype": "float32"}


def _audio(config: Any) -> dict[str, Any]:
    bins, frames = _first(config, "num_mel_bins"), _first(config, "max_length")
    if bins is not None and frames is not None:
        return {"shape": [1, frames, bins], "dtype": "float32"}
    channels = getattr(config, "audio_channels", None)
    return {"shape": [1, *([channels] if channels else []), AUDIO_SAMPLES], "dtype": "float32"}
