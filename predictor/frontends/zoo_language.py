"""Prefill and decode of ``transformers:`` models, with a KV cache of fixed size.

The cache is an input that holds all tokens, old and new; new keys and values are written into their
place and attention reads the whole. Its shapes are learned from a first pass of one token, so that
grouped heads and odd sizes need no knowledge of the model.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from predictor.errors import ModelError
from predictor.language import CACHE, Language

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]


@dataclass(slots=True)
class Seen:
    """Shapes of one token's keys and values, by layer."""

    layers: dict[int, tuple[Shape, Shape]] = field(default_factory=dict)


def cached_pass(name: str, module: nn.Module, language: Language) -> tuple[nn.Module, Any]:
    """The pass of ``module`` in the phase asked for, and its inputs.

    Errors: :class:`ModelError` where the model keeps no cache of keys and values.
    """
    from predictor.frontends.torch_module import trace

    seen = Seen()
    probe = _pass(module, 0, seen)
    token = {"shape": [1, 1], "dtype": "int64"}
    try:
        trace(probe, {"input_ids": token}, name=name)
    except ModelError as error:
        raise ModelError(f"{name}: a pass with a KV cache fails: {error}") from error
    if not seen.layers:
        raise ModelError(
            f"{name}: this model keeps no cache of keys and values, so it has no prefill and "
            "decode; leave out the phase"
        )
    total = language.cached_tokens + language.new_tokens
    inputs: dict[str, Any] = {
        "input_ids": {"shape": [1, language.new_tokens], "dtype": "int64"},
    }
    for layer, shapes in sorted(seen.layers.items()):
        for word, shape in zip(("key", "value"), shapes, strict=True):
            inputs[f"{CACHE}_{layer}_{word}"] = {"shape": [1, shape[1], total, shape[3]]}
    return _pass(module, language.cached_tokens, None), inputs


def _pass(module: nn.Module, context: int, seen: Seen | None) -> nn.Module:
    from torch import nn
    from transformers.cache_utils import DynamicCache

    # Models that cannot leave out the other tokens' scores compute them all, in generating too.
    known = inspect.signature(module.forward).parameters
    last = {"logits_to_keep": 1} if "logits_to_keep" in known else {}

    class Cache(DynamicCache):
        """Writes in place; the sizes are those of the inputs, whatever the model's own cache is."""

        def __init__(self, held: dict[str, Any]) -> None:
            super().__init__()
            self.held = held

        def update(
            self, key_states: Any, value_states: Any, layer_idx: int, *rest: Any, **named: Any
        ) -> tuple[Any, Any]:
            if seen is not None:
                seen.layers[layer_idx] = tuple(key_states.shape), tuple(value_states.shape)
                return key_states, value_states
            new = key_states.shape[2]
            found = []
            for word, states in (("key", key_states), ("value", value_states)):
                cached = self.held[f"{CACHE}_{layer_idx}_{word}"]
                cached[:, :, context : context + new].copy_(states)
                found.append(cached)
            return found[0], found[1]

        def get_seq_length(self, layer_idx: int = 0) -> int:
            return context

        def get_query_offset(self, layer_idx: int = 0) -> int:
            return context

        def get_mask_sizes(self, query_length: Any, layer_idx: int = 0) -> tuple[int, int]:
            # Versions differ in what they pass: the length, or the positions.
            new = query_length if isinstance(query_length, int) else len(query_length)
            return context + new, 0

        def __len__(self) -> int:
            return len(self.held) // 2

    class Pass(nn.Module):
        """Tokens and cached tensors in; the last token's scores and the cache out."""

        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, input_ids: Any, **held: Any) -> Any:
            cache = Cache(held)
            result = self.model(input_ids=input_ids, past_key_values=cache, use_cache=True, **last)
            return (result.logits, *held.values())

    return Pass().eval()
