"""Decoder language models from a few numbers: no code of theirs, no torch.

``decoder:gpt2``, ``decoder:llama-3-8b,layers=16`` or ``decoder:layers=12,hidden=768,heads=12,...``.
Norms are one operator, rotary positions two element-wise ones, grouped heads are read as they are
(copied for eager attention, as PyTorch does): what a serving engine runs. The keys are described in
``docs/language-models.md``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from predictor.builder import GraphBuilder, Value
from predictor.errors import ModelError, suggest
from predictor.graph import Graph
from predictor.language import CACHE, Decoder, Language

PREFIX = "decoder"
SHAPES = Path(__file__).with_name("decoders.yaml")


def is_decoder(name: str) -> bool:
    """True where ``name`` begins with this family's prefix."""
    return name.partition(":")[0] == PREFIX and ":" in name


@functools.lru_cache(maxsize=1)
def shapes() -> dict[str, dict[str, Any]]:
    """The published shapes by name."""
    import yaml

    data: dict[str, dict[str, Any]] = yaml.safe_load(SHAPES.read_text(encoding="utf-8"))
    return data


def decoder_from(settings: Mapping[str, Any]) -> Decoder:
    """A decoder from its keys; ``like`` names a published shape that the others change.

    Errors: :class:`ModelError` for a key or value that is wrong.
    """
    values = dict(settings)
    like = values.pop("like", None)
    if like is not None:
        if like not in shapes():
            raise ModelError(f"no decoder of the name '{like}'.{suggest(str(like), shapes())} "
                             f"Known: {', '.join(shapes())}; or give layers=, hidden=, heads=, "
                             "ffn= and vocab=")  # fmt: skip
        values = {**shapes()[like], **values}
    known = {field.name: field for field in fields(Decoder)}
    for key in values:
        if key not in known:
            raise ModelError(f"unknown key '{key}'.{suggest(key, [*known, 'like'])}")
    missing = [name for name, field in known.items()
               if field.default is MISSING and name not in values]  # fmt: skip
    if missing:
        raise ModelError(f"{', '.join(missing)}: missing; or begin with a known name, such as "
                         "llama-3-8b")  # fmt: skip
    return Decoder(**values)


def parse(key: str) -> Decoder:
    """The decoder of ``decoder:KEY``: a published name, settings, or a name and settings.

    Errors: :class:`ModelError` as in :func:`decoder_from`.
    """
    values: dict[str, Any] = {}
    kinds = {field.name: str(field.type) for field in fields(Decoder)}
    for index, part in enumerate(key.split(",")):
        word, equals, text = (piece.strip() for piece in part.partition("="))
        if index == 0 and not equals:
            values["like"] = word
            continue
        if not equals or word not in kinds:
            raise ModelError(f"'{part.strip()}' is no setting.{suggest(word, kinds)} Settings: "
                             f"{', '.join(f'{name}=' for name in kinds)}")  # fmt: skip
        if word in values:
            raise ModelError(f"{word}= stands twice")
        values[word] = _value(word, text, kinds[word])
    return decoder_from(values)


def _value(word: str, text: str, kind: str) -> Any:
    if kind == "bool":
        if text not in ("yes", "no", "true", "false"):
            raise ModelError(f"{word}={text}: use yes or no")
        return text in ("yes", "true")
    if kind == "str":
        return text
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ModelError(f"{word}={text}: use a whole number")
    return int(text)


def named_graph(name: str, *, batch: int = 1, language: Language | None = None) -> Graph:
    """The graph of ``decoder:KEY``. Errors: :class:`ModelError` that begins with the name."""
    try:
        return graph(parse(name.partition(":")[2]), name=name, batch=batch, language=language)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None


def graph(
    decoder: Decoder, *, name: str = PREFIX, batch: int = 1, language: Language | None = None
) -> Graph:
    """One pass: of a phase with its KV cache, or without a phase of all tokens at once."""
    language = language or Language()
    if decoder.positions is not None and not decoder.rotary:
        total = language.cached_tokens + language.new_tokens
        if total > decoder.positions:
            raise ModelError(f"{total} tokens, and the model has {decoder.positions} positions")
    return _Build(decoder, name, batch, language).graph()


class _Build:
    def __init__(self, decoder: Decoder, name: str, batch: int, language: Language) -> None:
        self.d, self.batch, self.language = decoder, batch, language
        self.b = GraphBuilder(name, source=PREFIX)
        self.ids = self.b.input((batch, language.new_tokens), name="input_ids", dtype="int64")
        self.cache: list[Value] = []
        total = language.cached_tokens + language.new_tokens
        if language.phase is not None:
            for layer in range(decoder.layers):
                for word in ("key", "value"):
                    shape = (batch, decoder.groups, total, decoder.width)
                    self.cache.append(self.b.input(shape, name=f"{CACHE}_{layer}_{word}"))

    def graph(self) -> Graph:
        b, d = self.b, self.d
        share = "words" if d.tied else None
        x = b.op("gather", [self.ids], [(*self.ids.shape, d.hidden)], name="embedding",
                 dtype=b.dtype, attrs={"fn": "embedding"}, share=share,
                 weights=[("weight", (d.vocab, d.hidden), "parameter")])[0]  # fmt: skip
        if d.positions is not None and not d.rotary:
            places = b.embedding(self.ids, d.positions, d.hidden, name="positions")
            x = b.add(x, places, name="add_positions")
        for layer in range(d.layers):
            x = self.layer(x, layer)
        x = self.norm(x, "norm")
        if self.language.phase is not None and x.shape[1] > 1:
            x = b.op("slice", [x], [(x.shape[0], 1, d.hidden)], name="last", attrs={"axis": 1})[0]
        scores = b.linear(x, d.vocab, bias=False, name="head", share=share)
        return b.finish(scores, *self.cache, notes=self.language.notes)

    def norm(self, x: Value, name: str) -> Value:
        return (self.b.rms_norm if self.d.norm == "rms" else self.b.layer_norm)(x, name=name)

    def layer(self, x: Value, index: int) -> Value:
        b, d, name = self.b, self.d, f"layers.{index}"
        every = d.bias == "all"
        y = self.attention(self.norm(x, f"{name}.norm_1"), index, f"{name}.attention")
        x = b.add(x, b.linear(y, d.hidden, bias=every, name=f"{name}.attention.out"),
                  name=f"{name}.add_1")  # fmt: skip
        y = self.norm(x, f"{name}.norm_2")
        wide = b.linear(y, d.ffn, bias=every, name=f"{name}.ffn.in")
        wide = b.activation(wide, d.activation, name=f"{name}.ffn.{d.activation}")
        if d.gated:
            gate = b.linear(y, d.ffn, bias=every, name=f"{name}.ffn.gate")
            wide = b.mul(wide, gate, name=f"{name}.ffn.mul")
        y = b.linear(wide, d.hidden, bias=every, name=f"{name}.ffn.out")
        return b.add(x, y, name=f"{name}.add_2")

    def attention(self, x: Value, index: int, name: str) -> Value:
        b, d = self.b, self.d
        rows = {"q": d.heads, "k": d.groups, "v": d.groups}
        heads = {}
        for word, count in rows.items():
            y = b.linear(x, count * d.width, bias=d.bias != "none", name=f"{name}.{word}")
            y = b.reshape(y, (*x.shape[:2], count, d.width), name=f"{name}.{word}")
            y = b.transpose(y, (0, 2, 1, 3), name=f"{name}.{word}")
            heads[word] = self.turned(y, f"{name}.{word}") if d.rotary and word != "v" else y
        keys, values = heads["k"], heads["v"]
        if self.cache:
            keys = self.written(2 * index, keys, name)
            values = self.written(2 * index + 1, values, name)
        if self.language.attention == "eager" and d.groups < d.heads:
            shape = (self.batch, d.heads, *keys.shape[2:])
            keys, values = (b.op("copy", [v], [shape], name=f"{name}.repeat")[0]
                            for v in (keys, values))  # fmt: skip
        y = b.attention(heads["q"], keys, values, causal=x.shape[1] > 1, name=name)
        y = b.transpose(y, (0, 2, 1, 3), name=name)
        return b.reshape(y, (*x.shape[:2], d.heads * d.width), name=name)

    def turned(self, x: Value, name: str) -> Value:
        """Rotary positions: x cos + rotated(x) sin, the tables being small and made once."""
        y = self.b.op("elementwise", [x], [x.shape], name=f"{name}.rotary", attrs={"fn": "mul"})[0]
        return self.b.op("elementwise", [y, x], [x.shape], name=f"{name}.rotary",
                         attrs={"fn": "addcmul"})[0]  # fmt: skip

    def written(self, slot: int, new: Value, name: str) -> Value:
        """The whole cache, with ``new`` written into its place."""
        b, whole = self.b, self.cache[slot]
        label = f"{name}.cache"
        part = b.op("copy", [new], [new.shape], name=label,
                    attrs={"fn": "copy", "inplace": True, "into": whole.id})[0]  # fmt: skip
        self.cache[slot] = b.op("reshape", [whole, part], [whole.shape], name=label)[0]
        return self.cache[slot]
