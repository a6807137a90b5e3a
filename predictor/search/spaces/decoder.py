"""Decoder language models: layers, hidden size, heads, groups, feed-forward, vocabulary, length.

One pass over all tokens of a sequence, without a cache: the networks of ``decoder:KEY``
(:mod:`predictor.frontends.families.decoder`), bias-free, with RMS norms, rotary positions and a
gated feed-forward, as a chain of embedding, layers and head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from predictor.builder import GraphBuilder
from predictor.builder import Value as Tensor
from predictor.front import Value, Values
from predictor.frontends.families.parts import Part, part
from predictor.graph import Graph
from predictor.language import Decoder
from predictor.search.space import SearchSpace
from predictor.search.spaces.vit import dividing

PARAMETERS: dict[str, tuple[Value, ...]] = {
    "layers": (2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32),
    "hidden": (256, 384, 512, 640, 768, 1024, 1280, 1536, 2048, 3072, 4096),
    "heads": (4, 6, 8, 10, 12, 16, 24, 32), "kv_heads": (1, 2, 4, 6, 8, 12, 16, 32),
    "ffn_ratio": (2.0, 2.5, 3.0, 3.5, 4.0), "vocab": (32000, 50304, 128256),
    "sequence": (128, 256, 512, 1024, 2048),
}  # fmt: skip


class DecoderOnly(SearchSpace):
    """``kv_heads`` heads of keys and values serve ``heads`` queries, ``ffn_ratio`` times
    ``hidden`` is the feed-forward's inside, ``sequence`` the tokens that are read.

    Heads that do not divide the hidden size into even parts, and groups that do not divide the
    heads, stand for the nearest number that does.
    """

    name = source = "decoder"
    parameters = PARAMETERS

    def input_shape(self, values: Values) -> tuple[int, ...]:
        """Token numbers of one sequence."""
        return (int(values["sequence"]),)

    def input_dtype(self) -> str:
        """Whole numbers."""
        return "int64"

    def canonical(self, values: Values) -> dict[str, Value]:
        """Heads divide the hidden size, groups divide the heads."""
        found, known = super().canonical(values), self.parameters
        heads = dividing(int(found["hidden"]), found["heads"], known["heads"], even=True)
        found["heads"] = heads
        found["kv_heads"] = dividing(heads, found["kv_heads"], known["kv_heads"])
        return found

    def narrowed(self, choices: Mapping[str, Sequence[Value]]) -> SearchSpace:
        """As in :class:`SearchSpace`; every hidden size needs heads, and they need groups."""
        other = super().narrowed(choices)
        for hidden in other.parameters["hidden"]:
            for heads in other.parameters["heads"]:
                found = dividing(int(hidden), heads, other.parameters["heads"], even=True)
                dividing(found, 1, other.parameters["kv_heads"])
        return other

    def decoder(self, values: Values) -> Decoder:
        """The same as numbers of :mod:`predictor.frontends.families.decoder`."""
        own = self.canonical(values)
        hidden = int(own["hidden"])
        return Decoder(
            layers=int(own["layers"]), hidden=hidden, heads=int(own["heads"]),
            kv_heads=int(own["kv_heads"]), ffn=int(hidden * float(own["ffn_ratio"])),
            vocab=int(own["vocab"]),
        )  # fmt: skip

    def chain(self, values: Values) -> Sequence[tuple[str, Part]]:
        """Embedding, layers, head."""
        d = self.decoder(values)
        layer = part(_layer, d.heads, d.groups, d.ffn)
        return [("embedding", part(_embedding, d.vocab, d.hidden)),
                *((f"layers.{index}", layer) for index in range(d.layers)),
                ("head", part(_head, d.vocab))]  # fmt: skip

    def graph(self, values: Values, batch: int = 1) -> Graph:
        """As ``decoder:KEY`` with this sequence, under that name."""
        graph = super().graph(values, batch).renamed(self.config(values)["model"])
        return replace(graph, input_names=("input_ids",))

    def config(self, values: Values) -> dict[str, Any]:
        """``decoder:KEY`` and ``sequence``: what is read follows from the two."""
        d = self.decoder(values)
        words = {"layers": d.layers, "hidden": d.hidden, "heads": d.heads, "kv_heads": d.groups,
                 "ffn": d.ffn, "vocab": d.vocab}  # fmt: skip
        key = ",".join(f"{word}={size}" for word, size in words.items())
        return {"model": f"{self.source}:{key}", "sequence": int(values["sequence"])}


def _embedding(b: GraphBuilder, ids: Tensor, name: str, vocab: int, hidden: int) -> Tensor:
    return b.embedding(ids, vocab, hidden, name=name)


def _layer(b: GraphBuilder, x: Tensor, name: str, heads: int, groups: int, inside: int) -> Tensor:
    hidden = x.shape[-1]
    y = _attention(b, b.rms_norm(x, name=f"{name}.norm_1"), f"{name}.attention", heads, groups)
    x = b.add(x, b.linear(y, hidden, bias=False, name=f"{name}.attention.out"),
              name=f"{name}.add_1")  # fmt: skip
    y = b.rms_norm(x, name=f"{name}.norm_2")
    wide = b.linear(y, inside, bias=False, name=f"{name}.ffn.in")
    wide = b.activation(wide, "silu", name=f"{name}.ffn.silu")
    gate = b.linear(y, inside, bias=False, name=f"{name}.ffn.gate")
    wide = b.mul(wide, gate, name=f"{name}.ffn.mul")
    y = b.linear(wide, hidden, bias=False, name=f"{name}.ffn.out")
    return b.add(x, y, name=f"{name}.add_2")


def _attention(b: GraphBuilder, x: Tensor, name: str, heads: int, groups: int) -> Tensor:
    size, split = x.shape[-1] // heads, []
    for word, count in (("q", heads), ("k", groups), ("v", groups)):
        label = f"{name}.{word}"
        y = b.linear(x, count * size, bias=False, name=label)
        y = b.reshape(y, (*x.shape[:2], count, size), name=label)
        y = b.transpose(y, (0, 2, 1, 3), name=label)
        split.append(y if word == "v" else _turned(b, y, f"{label}.rotary"))
    y = b.attention(split[0], split[1], split[2], causal=x.shape[1] > 1, name=name)
    return b.reshape(b.transpose(y, (0, 2, 1, 3), name=name), x.shape, name=name)


def _turned(b: GraphBuilder, x: Tensor, name: str) -> Tensor:
    """Rotary positions: x cos + rotated(x) sin, the tables being small and made once."""
    y = b.op("elementwise", [x], [x.shape], name=name, attrs={"fn": "mul"})[0]
    return b.op("elementwise", [y, x], [x.shape], name=name, attrs={"fn": "addcmul"})[0]


def _head(b: GraphBuilder, x: Tensor, name: str, vocab: int) -> Tensor:
    return b.linear(b.rms_norm(x, name="norm"), vocab, bias=False, name=name)
