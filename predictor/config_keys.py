"""Tables of keys inside a configuration: the numbers of a decoder, and the budget."""

from __future__ import annotations

from predictor.kinds import Bool, Int, Number, Text
from predictor.language import CHOICES
from predictor.schema import Key, Keys

DECODER = Keys({
    "like": Key(Text(hint="a published decoder such as llama-3-8b"), "whose numbers to begin with"),
    "layers": Key(Int(), "blocks of attention and feed-forward", aka=("depth", "n_layers")),
    "hidden": Key(Int(), "size of a token's vector", aka=("hidden_size", "width", "dim")),
    "heads": Key(Int(), "attention heads", aka=("num_heads", "n_heads")),
    "kv_heads": Key(Int(), "heads of keys and values; as many as heads"),
    "head_dim": Key(Int(), "size of a head; hidden / heads"),
    "ffn": Key(Int(), "inner size of the feed-forward", aka=("intermediate_size", "ff")),
    "vocab": Key(Int(), "tokens in the vocabulary", aka=("vocab_size", "vocabulary")),
    "positions": Key(Int(), "rows of a learned position table, without rotary"),
    "gated": Key(Bool(), "two input layers in the feed-forward, multiplied", True),
    "tied": Key(Bool(), "the output layer shares the embedding's weights", False),
    "rotary": Key(Bool(), "rotary positions", True),
    "norm": Key(Text(CHOICES["norm"]), "the normalisation", "rms"),
    "bias": Key(Text(CHOICES["bias"]), "which linear layers have a bias", "none"),
    "activation": Key(Text(CHOICES["activation"]), "of the feed-forward", "silu"),
}, what="a mapping such as {like: llama-3-8b} or {layers: 12, hidden: 768, ...}")  # fmt: skip

_COUNT = Number(suffix=True)
BUDGET = Keys({
    "latency_ms": Key(Number(), "milliseconds a forward pass", aka=("latency", "ms")),
    "macs": Key(_COUNT, "multiply-accumulates"),
    "flops": Key(_COUNT, "floating-point operations, 2 x MACs"),
    "params": Key(_COUNT, "parameters", aka=("parameters",)),
    "memory_mb": Key(Number(), "megabytes in use while it runs", aka=("memory",)),
    "model_mb": Key(Number(), "megabytes of weights", aka=("size_mb", "model_size")),
}, what="a mapping such as {latency_ms: 20, macs: 600M}")  # fmt: skip
