"""Language models: what a pass is asked to do, and the few numbers that describe a decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from predictor.errors import ConfigError, ModelError, suggest
from predictor.graph import Graph

PHASES = ("prefill", "decode")
ATTENTION = {"eager": "split", "fused": "fused"}
"""Choices of attention, and the word that fusion rules have for each."""
TEXT_LENGTH = 128
"""Tokens of a prompt, or in the cache, where nobody says."""
LONGEST = 1 << 24
"""Tokens; more are a mistake."""
CACHE = "kv_cache"
"""Graph inputs that hold cached keys and values begin with this name."""


@dataclass(frozen=True, slots=True)
class Language:
    """Settings of a language model's pass; None is what nobody said.

    ``phase`` is ``prefill`` (``sequence`` new tokens a sequence) or ``decode`` (one new token);
    ``context`` are the tokens whose keys and values are in the cache already. ``attention`` is
    ``fused`` (one kernel) or ``eager`` (scores, softmax and products as kernels of their own).
    """

    phase: str | None = None
    sequence: int | None = None
    context: int | None = None
    attention: str | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("phase", self.phase, PHASES),
                                   ("attention", self.attention, tuple(ATTENTION))):  # fmt: skip
            if value is not None and value not in known:
                raise ConfigError(f"unknown {name} '{value}'.{suggest(value, known)} "
                                  f"Known: {', '.join(known)}")  # fmt: skip
        for name, count, least in (("sequence", self.sequence, 1), ("context", self.context, 0)):
            if count is not None and not least <= count <= LONGEST:
                raise ConfigError(f"{name} {count}: use a whole number from {least} to {LONGEST}")
        if self.context is not None and self.phase is None:
            raise ConfigError("context counts tokens in a cache, which a pass without a phase does "
                              "not have; add phase: decode or prefill")  # fmt: skip
        if self.phase == "decode" and self.sequence is not None:
            raise ConfigError("decode makes one token, so sequence has no place; the tokens before "
                              "it are context")  # fmt: skip

    def __or__(self, other: Language | None) -> Language:
        """These settings, and where they say nothing those of ``other``.

        A length of ``other`` that the phase given here does not take is left behind.
        """
        if other is None or other == Language():
            return self
        phase = self.phase or other.phase
        sequence = other.sequence if self.sequence is None else self.sequence
        context = other.context if self.context is None else self.context
        if self.phase == "decode" and self.sequence is None:
            sequence = None
        return Language(phase, sequence, context, self.attention or other.attention)

    @property
    def new_tokens(self) -> int:
        """Tokens of each sequence that go through the network."""
        return 1 if self.phase == "decode" else self.sequence or TEXT_LENGTH

    @property
    def cached_tokens(self) -> int:
        """Tokens of each sequence that are in the cache before."""
        usual = TEXT_LENGTH if self.phase == "decode" else 0
        return usual if self.context is None else self.context

    @property
    def notes(self) -> tuple[str, ...]:
        """What a pass of this phase stands for, in words."""
        if self.phase is None:
            return ()
        tokens = "one token" if self.new_tokens == 1 else f"{self.new_tokens:,} tokens"
        what = (
            f"{self.phase}: {tokens} a sequence, {self.cached_tokens:,} in the KV cache before; "
            "keys and values are written in place, the output layer sees the last token alone"
        )
        return (what, "not included: sampling, (de)tokenising, scheduling, moving a cache")

    def figures(self, graph: Graph, latency_ms: float) -> dict[str, Any]:
        """What the latency of a pass (ms) means in tokens; empty without a phase.

        ``kv_cache_mb`` is the cache after the pass, in the graph's element type.
        """
        if self.phase is None:
            return {}
        inputs = zip(graph.input_names, graph.input_specs, strict=True)
        cache = sum(spec.nbytes for name, spec in inputs if name.startswith(CACHE))
        word = "time_per_output_token_ms" if self.phase == "decode" else "time_to_first_token_ms"
        return {
            "phase": self.phase, "new_tokens": self.new_tokens,
            "cached_tokens": self.cached_tokens, "kv_cache_mb": cache / 1e6, word: latency_ms,
            "tokens_per_second": 1e3 * graph.batch * self.new_tokens / latency_ms,
        }  # fmt: skip


CHOICES = {
    "norm": ("rms", "layer"), "bias": ("none", "qkv", "all"),
    "activation": ("silu", "gelu", "relu"),
}  # fmt: skip
LARGEST = 1 << 24
"""No size of a decoder is larger."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder. ``kv_heads`` None: as many as heads; ``head_dim`` None: hidden / heads.

    ``gated`` feed-forwards have two input layers whose outputs are multiplied; ``tied`` output
    layers share the embedding's weights; ``bias`` says which linear layers have one; ``rotary``
    turns queries and keys by their position, else ``positions`` rows of a table are added.
    """

    layers: int
    hidden: int
    heads: int
    ffn: int
    vocab: int
    kv_heads: int | None = None
    head_dim: int | None = None
    positions: int | None = None
    gated: bool = True
    tied: bool = False
    rotary: bool = True
    norm: str = "rms"
    bias: str = "none"
    activation: str = "silu"

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "ffn", "vocab", "kv_heads", "head_dim",
                     "positions"):  # fmt: skip
            size = getattr(self, name)
            if size is not None and not 1 <= size <= LARGEST:
                raise ModelError(f"{name} {size}: use 1 to {LARGEST}")
        for name, known in CHOICES.items():
            word = getattr(self, name)
            if word not in known:
                raise ModelError(f"unknown {name} '{word}'.{suggest(word, known)} "
                                 f"Known: {', '.join(known)}")  # fmt: skip
        if self.head_dim is None and self.hidden % self.heads:
            raise ModelError(f"hidden {self.hidden} is no multiple of heads {self.heads}; change "
                             "one, or give head_dim")  # fmt: skip
        if self.heads % self.groups:
            raise ModelError(f"heads {self.heads} is no multiple of kv_heads {self.groups}")

    @property
    def groups(self) -> int:
        """Heads that keys and values have."""
        return self.kv_heads or self.heads

    @property
    def width(self) -> int:
        """Size of one head."""
        return self.head_dim or self.hidden // self.heads
