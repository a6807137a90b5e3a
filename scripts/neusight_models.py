"""The language models of NeuSight's table as graphs, operator by operator.

They are the PyTorch models of Hugging Face as of 2023 (transformers 4.3x) run eagerly: attention in
plain operators, GELU's tanh form in eight of them, and a copy wherever a product's operand is no
view of memory as it lies (heads split from a batch of more than one). Sizes are those of the
table's own configurations: published ones, but for ``gpt3_xl``, which has 24 heads of 128 and
therefore a width of 3072 (2.9 G parameters, not 1.3 G), as its times beside ``gpt3_27`` show too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from predictor.builder import GraphBuilder, Value
from predictor.graph import Graph


@dataclass(frozen=True, slots=True)
class Decoder:
    """Sizes of a stack of attention and feed-forward layers."""

    layers: int
    width: int
    heads: int
    inner: int
    rows: int
    positions: int


GPT2_LARGE = Decoder(36, 1280, 20, 5120, 50257, 1024)
GPT3_XL = Decoder(24, 3072, 24, 12288, 50257, 2048)
GPT3_27 = Decoder(32, 2560, 32, 10240, 50257, 2048)
OPT_13 = Decoder(24, 2048, 32, 8192, 50272, 2050)
BERT_LARGE = Decoder(24, 1024, 16, 4096, 30522, 512)

SWITCH = Decoder(24, 1024, 32, 16384, 32128, 0)
SWITCH_HEAD = 128
SWITCH_EXPERTS, SWITCH_CAPACITY, SWITCH_EVERY = 4, 64, 2
SWITCH_BUCKETS = 32


def language_model(name: str, batch: int, length: int) -> Graph:
    """The graph of one of the table's models at ``batch`` sequences of ``length`` tokens.

    Raises:
        KeyError: no model of that name.
    """
    return MODELS[name](batch, length)


class _Parts:
    """A graph under construction, with the pieces that the models share."""

    def __init__(self, name: str, batch: int, length: int) -> None:
        self.b = GraphBuilder(name)
        self.batch, self.length = batch, length

    def copied(self, x: Value) -> Value:
        """A copy in memory."""
        return self.b.op("copy", [x], [x.shape], attrs={"fn": "contiguous"})[0]

    def tokens(self, ids: Value, size: Decoder) -> Value:
        """The table of tokens, which the head shares."""
        return self.b.op("gather", [ids], [(*ids.shape, size.width)], dtype="float32",
                         attrs={"fn": "embedding"}, share="tokens",
                         weights=[("weight", (size.rows, size.width), "parameter")])[0]  # fmt: skip

    def unary(self, fn: str, x: Value) -> Value:
        return self.b.elementwise(fn, x)

    def heads(self, x: Value, heads: int, *, swap: bool = False) -> Value:
        """(batch, length, width) as (batch, heads, length, width of a head)."""
        size, length = x.shape[-1] // heads, x.shape[1]
        x = self.b.reshape(x, (self.batch, length, heads, size))
        return self.b.transpose(x, (0, 2, 3, 1) if swap else (0, 2, 1, 3))

    def operand(self, x: Value) -> Value:
        """A product's operand: torch.matmul copies one whose batch is no single stride."""
        return self.copied(x) if self.batch > 1 else x

    def merged(self, x: Value) -> Value:
        """(batch, heads, length, size) back to (batch, length, width), copied into place."""
        batch, heads, length, size = x.shape
        x = self.copied(self.b.transpose(x, (0, 2, 1, 3)))
        return self.b.reshape(x, (batch, length, heads * size))

    def gelu_tanh(self, x: Value) -> Value:
        """0.5 x (1 + tanh(c (x + 0.044715 x^3))), each operation a kernel."""
        cube = self.unary("mul", self.unary("pow", x))
        inner = self.b.activation(self.unary("mul", self.b.add(x, cube)), "tanh")
        return self.b.mul(self.unary("mul", x), self.unary("add", inner))


def _gpt(name: str, size: Decoder) -> Callable[[int, int], Graph]:
    def build(batch: int, length: int) -> Graph:
        p = _Parts(name, batch, length)
        b = p.b
        ids = b.input((batch, length), name="input_ids", dtype="int64")
        mask = b.input((1, 1, length, length), name="causal_mask", dtype="bool")
        places = b.input((1, length), name="position_ids", dtype="int64")
        x = b.add(p.tokens(ids, size),
                  b.embedding(places, size.positions, size.width))  # fmt: skip
        for _ in range(size.layers):
            y = b.linear(b.layer_norm(x), 3 * size.width)
            q, k, v = b.split(y, [size.width] * 3, axis=2)
            scores = b.matmul(p.operand(p.heads(q, size.heads)),
                              p.operand(p.heads(k, size.heads, swap=True)))  # fmt: skip
            scores = b.elementwise("where", p.unary("div", scores), mask)
            mixed = b.matmul(b.softmax(scores), p.operand(p.heads(v, size.heads)))
            x = b.add(b.linear(p.merged(mixed), size.width), x)
            y = p.gelu_tanh(b.linear(b.layer_norm(x), size.inner))
            x = b.add(x, b.linear(y, size.width))
        return b.finish(b.linear(b.layer_norm(x), size.rows, bias=False, share="tokens"))

    return build


def _opt(batch: int, length: int) -> Graph:
    size = OPT_13
    p = _Parts("opt_13", batch, length)
    b = p.b
    ids = b.input((batch, length), name="input_ids", dtype="int64")
    mask = b.input((batch, 1, length, length), name="attention_mask")
    places = b.input((batch, length), name="position_ids", dtype="int64")
    x = b.add(p.tokens(ids, size),
              b.embedding(places, size.positions, size.width))  # fmt: skip
    for _ in range(size.layers):
        y = b.layer_norm(x)
        q = p.unary("mul", b.linear(y, size.width))
        k, v = (p.copied(p.heads(b.linear(y, size.width), size.heads)) for _ in range(2))
        scores = b.matmul(p.copied(p.heads(q, size.heads)), b.transpose(k, (0, 1, 3, 2)))
        scores = p.unary("max", b.add(scores, mask))
        mixed = p.merged(b.matmul(b.softmax(scores), v))
        x = b.add(x, b.linear(mixed, size.width))
        y = b.activation(b.linear(b.layer_norm(x), size.inner), "relu")
        x = b.add(x, b.linear(y, size.width))
    return b.finish(b.linear(b.layer_norm(x), size.rows, bias=False, share="tokens"))


def _bert(batch: int, length: int) -> Graph:
    size = BERT_LARGE
    p = _Parts("bert_large", batch, length)
    b = p.b
    ids = b.input((batch, length), name="input_ids", dtype="int64")
    kinds = b.input((batch, length), name="token_type_ids", dtype="int64")
    places = b.input((1, length), name="position_ids", dtype="int64")
    mask = b.input((batch, 1, 1, length), name="attention_mask")
    x = b.add(p.tokens(ids, size), b.embedding(kinds, 2, size.width))
    x = b.layer_norm(b.add(x, b.embedding(places, size.positions, size.width)))
    for _ in range(size.layers):
        q, k, v = (b.linear(x, size.width) for _ in range(3))
        scores = b.matmul(p.operand(p.heads(q, size.heads)),
                          p.operand(p.heads(k, size.heads, swap=True)))  # fmt: skip
        scores = b.add(p.unary("div", scores), mask)
        mixed = b.matmul(b.softmax(scores), p.operand(p.heads(v, size.heads)))
        x = b.layer_norm(b.add(b.linear(p.merged(mixed), size.width), x))
        y = b.activation(b.linear(x, size.inner), "gelu")
        x = b.layer_norm(b.add(b.linear(y, size.width), x))
    y = b.layer_norm(b.activation(b.linear(x, size.width), "gelu"))
    return b.finish(b.linear(y, size.rows))


class _Switch(_Parts):
    """Encoder and decoder; every second feed-forward layer has experts.

    A router sends each token to one of four experts, which take 64 tokens a sequence each; tokens
    beyond that pass by. With random weights all four are taken to be full.
    """

    def norm(self, x: Value) -> Value:
        """T5's norm, in five operators."""
        b, shape = self.b, (*x.shape[:-1], 1)
        mean = b.op("reduce", [self.unary("pow", x)], [shape], attrs={"fn": "mean"})[0]
        scaled = b.mul(x, self.unary("rsqrt", self.unary("add", mean)))
        weight = self.b.input((SWITCH.width,), name=f"norm_{id(scaled)}")
        return b.mul(scaled, weight)

    def bias(self, length: int) -> Value:
        """Relative positions of all pairs as one bias a head; made once a stack."""
        b, pairs = self.b, (length, length)
        steps = b.input(pairs, name=f"distances_{length}", dtype="int64")
        for fn in ("neg", "lt", "add", "abs", "lt", "log", "div", "mul", "add", "min", "where"):
            steps = self.unary(fn, steps)
        table = b.embedding(steps, SWITCH_BUCKETS, SWITCH.heads)
        return b.reshape(b.transpose(table, (2, 0, 1)), (1, SWITCH.heads, *pairs))

    def attention(self, x: Value, source: Value, bias: Value) -> Value:
        """No scale; the bias is added in place of a mask."""
        b, inner = self.b, SWITCH.heads * SWITCH_HEAD
        y = self.norm(x)
        keys = y if source is x else source
        q = self.operand(self.heads(b.linear(y, inner, bias=False), SWITCH.heads))
        k = self.heads(b.linear(keys, inner, bias=False), SWITCH.heads, swap=True)
        v = self.heads(b.linear(keys, inner, bias=False), SWITCH.heads)
        scores = b.add(b.matmul(q, self.operand(k)), bias)
        mixed = self.merged(b.matmul(b.softmax(scores), self.operand(v)))
        return b.add(x, b.linear(mixed, x.shape[-1], bias=False))

    def expert(self, x: Value) -> Value:
        y = self.b.activation(self.b.linear(x, SWITCH.inner, bias=False), "relu")
        return self.b.linear(y, SWITCH.width, bias=False)

    def feed_forward(self, x: Value, sparse: bool) -> Value:
        b, y = self.b, self.norm(x)
        if not sparse:
            return b.add(x, self.expert(y))
        chosen = b.softmax(b.linear(y, SWITCH_EXPERTS, bias=False))
        order = b.op("scan", [self.unary("eq", chosen)], [chosen.shape], attrs={"fn": "cumsum"})[0]
        keep = b.mul(chosen, self.unary("le", order))
        out = self.copied(y)
        tokens = min(SWITCH_CAPACITY, self.length) * self.batch
        for _ in range(SWITCH_EXPERTS):
            part = b.op("gather", [y, keep], [(tokens, SWITCH.width)], attrs={"fn": "index"})[0]
            part = self.expert(part)
            out = b.op("scatter", [out, part], [out.shape], attrs={"fn": "index_put"})[0]
        most = b.op("reduce", [keep], [(*keep.shape[:-1], 1)], attrs={"fn": "max"})[0]
        return b.add(x, b.mul(out, most))

    def stack(self, ids: Value, encoded: Value | None) -> Value:
        x = self.b.embedding(ids, SWITCH.rows, SWITCH.width)
        bias = self.bias(self.length)
        for layer in range(SWITCH.layers):
            x = self.attention(x, x, bias)
            if encoded is not None:
                x = self.attention(x, encoded, bias)
            x = self.feed_forward(x, sparse=layer % SWITCH_EVERY == 1)
        return self.norm(x)


def _switch(batch: int, length: int) -> Graph:
    p = _Switch("switchxl4", batch, length)
    ids, outs = (p.b.input((batch, length), name=name, dtype="int64")
                 for name in ("input_ids", "decoder_input_ids"))  # fmt: skip
    x = p.stack(outs, p.stack(ids, None))
    x = p.unary("mul", x)
    return p.b.finish(p.b.linear(x, SWITCH.rows, bias=False))


MODELS: dict[str, Callable[[int, int], Graph]] = {
    "bert_large": _bert, "gpt2_large": _gpt("gpt2_large", GPT2_LARGE),
    "gpt3_xl": _gpt("gpt3_xl", GPT3_XL), "gpt3_27": _gpt("gpt3_27", GPT3_27), "opt_13": _opt,
    "switchxl4": _switch,
}  # fmt: skip
