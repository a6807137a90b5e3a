"""Every layer type of a layer list and its keys, as data.

The checker, the published JSON schema, the reference in ``docs/layer-list.md`` and the builder
(:mod:`predictor.frontends.layer_makers`) all read this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from predictor.graph import DTYPE_BYTES
from predictor.kinds import LARGEST, Bool, Either, Int, List, Number, Text
from predictor.schema import Key

ACTIVATIONS = (
    "relu", "relu6", "leaky_relu", "prelu", "elu", "celu", "selu", "sigmoid", "silu", "gelu",
    "tanh", "hardtanh", "hardsigmoid", "hardswish", "mish", "softplus", "softsign", "logsigmoid",
    "glu", "threshold", "hardshrink", "softshrink", "rrelu",
)  # fmt: skip
"""The activations that have a cost (a test holds this equal to the operators' own table)."""
UNARY = ("abs", "exp", "log", "sqrt", "rsqrt", "neg", "reciprocal", "square", "sin", "cos", "erf")
BINARY = ("add", "sub", "mul", "div", "pow", "maximum", "minimum")
REDUCTIONS = ("mean", "sum", "amax", "amin", "argmax")
PREVIOUS, BLOCK_INPUT = "previous", "block_input"
"""Words that ``from`` knows besides names: the layer above, and what entered this repetition."""
MAX_TIMES = 1000

_NAME = Text(pattern=r"[A-Za-z0-9_-]+", hint="a name of letters, digits, _ and -")
_REF = Text(hint="the name of an earlier layer or input")
_ANY = LARGEST


@dataclass(frozen=True, slots=True)
class LayerType:
    """What one type of layer takes.

    ``sources`` are the fewest and most tensors in ``from``; ``floats`` says that it computes on
    floats only; ``weights`` that it has parameters, which ``share`` can tie; ``one_of`` names keys
    of which exactly one must be there.
    """

    doc: str
    keys: dict[str, Key]
    sources: tuple[int, int] = (1, 1)
    floats: bool = False
    weights: bool = False
    one_of: tuple[str, ...] = ()

    def all_keys(self) -> dict[str, Key]:
        """Own keys, and those that every layer has."""
        keys = {**self.keys}
        keys["name"] = Key(_NAME, "what later layers and the result call it", aka=("id", "label"))
        keys["from"] = Key(
            Either((_REF, List(_REF, 1, 1000))),
            f"names of the layers or inputs it reads; '{PREVIOUS}' is the one above (the default)",
            aka=("input", "inputs", "source", "bottom", "src"),
        )
        if self.weights:
            keys["share"] = Key(_NAME, "a word of your choice: layers with the same use the same "
                                "weights", aka=("tie", "tied", "weights"))  # fmt: skip
        return keys


def _sizes(dims: int, low: int, doc: str, default: Any = None, **more: Any) -> Key:
    kind = Either((Int(low), List(Int(low), 1, dims)))
    return Key(kind, f"{doc}; one number, or one a side", default, **more)


_BIAS = Key(Bool(), "adds a bias", True, aka=("use_bias",))
_OUT_WORDS = ("filters", "channels", "units", "out_features", "features", "width", "planes")


def _conv(dims: int, transposed: bool) -> LayerType:
    keys = {
        "out": Key(Int(), "output channels; may be left out with groups: depthwise (then as many "
                   "as come in)", aka=("out_channels", *_OUT_WORDS)),
        "kernel": _sizes(dims, 1, "window", required=True, aka=("kernel_size", "size", "k")),
        "stride": _sizes(dims, 1, "step", 1, aka=("strides", "s")),
        "padding": _sizes(dims, 0, "zeros at each side", 0, aka=("pad", "p")),
        "dilation": _sizes(dims, 1, "distance between taps", 1, aka=("dilations", "rate")),
        "groups": Key(Either((Int(), Text(("depthwise",)))), "channel groups; depthwise: one a "
                      "channel", 1, aka=("group", "g")),
        "bias": _BIAS,
    }  # fmt: skip
    if transposed:
        keys["output_padding"] = _sizes(dims, 0, "added to the output size", 0)
    else:
        keys["padding"] = Key(
            Either((Int(0), List(Int(0), 1, dims), Text(("same",)))),
            "zeros at each side; one number, or one a side; same: the output is size / stride", 0,
            aka=("pad", "p"),
        )  # fmt: skip
    name = "Transposed convolution" if transposed else "Convolution"
    shape = ("(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)")[dims - 1]
    return LayerType(f"{name} over {shape}", keys, floats=True, weights=True)


def _rnn(name: str) -> LayerType:
    keys = {
        "hidden": Key(Int(), "size of the state", required=True, aka=("hidden_size", *_OUT_WORDS)),
        "layers": Key(Int(1, 1000), "stacked layers", 1, aka=("num_layers",)),
        "bidirectional": Key(Bool(), "a second direction; doubles the output", False),
        "bias": _BIAS,
        "batch_first": Key(Bool(), "(batch, steps, features); false: (steps, batch, ...)", True),
    }
    return LayerType(f"{name} over (batch, steps, features)", keys, floats=True, weights=True)


def _pool(word: str) -> LayerType:
    keys = {
        "kernel": _sizes(3, 1, "window", required=True, aka=("kernel_size", "size", "k")),
        "stride": _sizes(3, 1, "step; the window unless said otherwise", aka=("strides", "s")),
        "padding": _sizes(3, 0, "border at each side", 0, aka=("pad", "p")),
        "ceil_mode": Key(Bool(), "round the output size up", False),
    }
    return LayerType(f"{word} over windows of (N, C, ...), any number of sides", keys, floats=True)


def _global_pool(word: str) -> LayerType:
    return LayerType(
        f"{word} over all positions",
        {"flatten": Key(Bool(), "(N, C) instead of (N, C, 1, ...)", False)}, floats=True,
    )  # fmt: skip


def _resize() -> LayerType:
    keys = {
        "size": _sizes(3, 1, "the new size"),
        "scale": Key(Number(0, 1024), "how many times larger", aka=("scale_factor", "factor")),
        "mode": Key(Text(("nearest", "linear", "bilinear", "bicubic", "trilinear")),
                    "interpolation", "nearest"),
    }  # fmt: skip
    return LayerType("Interpolation of (N, C, ...)", keys, floats=True, one_of=("size", "scale"))


def _axis(default: int, doc: str = "which axis; -1 is the last") -> Key:
    return Key(Int(-16, 15), doc, default, aka=("dim", "axes", "dims"))


def _matrix_types() -> dict[str, LayerType]:
    types = {f"conv{d}d": _conv(d, False) for d in (1, 2, 3)}
    types |= {f"conv_transpose{d}d": _conv(d, True) for d in (1, 2, 3)}
    types["linear"] = LayerType(
        "Fully connected layer over the last axis",
        {"out": Key(Int(), "output features", required=True, aka=_OUT_WORDS), "bias": _BIAS},
        floats=True, weights=True,
    )  # fmt: skip
    types["matmul"] = LayerType("Product of two tensors, (..., m, k) @ (..., k, n)", {}, (2, 2),
                                floats=True)  # fmt: skip
    types["attention"] = LayerType(
        "Scaled dot-product attention of q, k and v, each (batch, heads, steps, size)",
        {"causal": Key(Bool(), "each step sees only those before it", False)}, (3, 3), floats=True,
    )  # fmt: skip
    types["multi_head_attention"] = LayerType(
        "Attention with its four projections over (batch, steps, features); from: x, or "
        "[query, memory], or [query, key, value]",
        {
            "heads": Key(Int(), "query heads", required=True, aka=("num_heads", "n_heads")),
            "kv_heads": Key(Int(), "key and value heads (grouped queries); as many as heads",
                            aka=("num_kv_heads",)),
            "head_dim": Key(Int(), "size of a head; features / heads"),
            "packed": Key(Bool(), "one product for q, k and v where they read the same", True),
            "causal": Key(Bool(), "each step sees only those before it", False),
            "bias": _BIAS,
        }, (1, 3), floats=True, weights=True,
    )  # fmt: skip
    types |= {"lstm": _rnn("LSTM"), "gru": _rnn("GRU"), "rnn": _rnn("Plain recurrent network")}
    types["embedding"] = LayerType(
        "A row of a table for each whole number of the input",
        {"rows": Key(Int(), "words in the vocabulary", required=True,
                     aka=("vocab", "vocab_size", "num_embeddings", "tokens")),
         "width": Key(Int(), "size of a row", required=True,
                      aka=("dim", "out", "embedding_dim", "size"))}, weights=True,
    )  # fmt: skip
    types["squeeze_excite"] = LayerType(
        "Channel gate: pool, two 1x1 convolutions, product",
        {"width": Key(Int(), "channels between the two; channels / reduction"),
         "reduction": Key(Int(), "how many times narrower", 4, aka=("ratio",)),
         "activation": Key(Text(ACTIVATIONS), "after the first", "relu"),
         "gate": Key(Text(("sigmoid", "hardsigmoid", "tanh")), "after the second", "sigmoid")},
        floats=True, weights=True,
    )  # fmt: skip
    return types


def _norm_types() -> dict[str, LayerType]:
    def norm(doc: str, keys: dict[str, Key] | None = None, weights: bool = True) -> LayerType:
        return LayerType(doc, keys or {}, floats=True, weights=weights)

    return {
        "batch_norm": norm("Batch norm over channels, inference"),
        "layer_norm": norm("Layer norm over the last axes",
                           {"axes": Key(Int(1, 8), "how many of the last axes", 1)}),
        "rms_norm": norm("RMS norm over the last axis"),
        "group_norm": norm("Group norm over (N, C, ...)",
                           {"groups": Key(Int(), "channel groups", required=True)}),
        "instance_norm": norm("Instance norm without parameters", weights=False),
    }  # fmt: skip


def _arithmetic_types() -> dict[str, LayerType]:
    types = {name: LayerType(f"The activation {name}", {}, floats=True) for name in ACTIVATIONS}
    types["glu"] = LayerType("Gated linear unit: one half gates the other",
                             {"axis": _axis(-1)}, floats=True)  # fmt: skip
    types["prelu"] = LayerType(
        "ReLU with a learned slope", {"per_channel": Key(Bool(), "a slope a channel", False)},
        floats=True, weights=True,
    )  # fmt: skip
    types["softmax"] = LayerType("Softmax over one axis", {"axis": _axis(-1)}, floats=True)
    types |= {name: LayerType(f"Element-wise {name}", {}, floats=True) for name in UNARY}
    types |= {
        name: LayerType(f"Element-wise {name} of tensors that broadcast", {}, (2, 1000))
        for name in BINARY
    }
    axes = Key(Either((Int(-16, 15), List(Int(-16, 15), 1, 8))), "axes to reduce", required=True,
               aka=("axis", "dim", "dims"))  # fmt: skip
    keep = Key(Bool(), "keep the reduced axes with size 1", False, aka=("keep_dims", "keep"))
    types |= {
        name: LayerType(f"{name} over axes", {"axes": axes, "keepdim": keep}) for name in REDUCTIONS
    }
    types["scale"] = LayerType("Product with a learned vector over the last axis (layer scale)",
                               {}, floats=True, weights=True)  # fmt: skip
    types["position_embedding"] = LayerType(
        "Adds a learned table over all axes but the batch", {}, floats=True, weights=True
    )
    types["class_token"] = LayerType("Puts a learned token before (batch, steps, features)", {},
                                     floats=True, weights=True)  # fmt: skip
    return types


def _pool_types() -> dict[str, LayerType]:
    size = {"size": _sizes(3, 1, "the new size", required=True, aka=("output_size", "out"))}
    return {
        "max_pool": _pool("Maximum"), "avg_pool": _pool("Mean"),
        "global_max_pool": _global_pool("Maximum"), "global_avg_pool": _global_pool("Mean"),
        "adaptive_max_pool": LayerType("Maximum over even parts", {**size}, floats=True),
        "adaptive_avg_pool": LayerType("Mean over even parts", {**size}, floats=True),
        "resize": _resize(), "upsample": _resize(),
    }  # fmt: skip


def _shape_types() -> dict[str, LayerType]:
    whole = Int(-_ANY)
    factor = Key(Int(1, 1024), "side of the square that channels turn into", required=True,
                 aka=("scale", "upscale_factor"))  # fmt: skip
    return {
        "concat": LayerType("Joins tensors along an axis", {"axis": _axis(1)}, (2, 1000)),
        "flatten": LayerType("Joins axes into one",
                             {"start": _axis(1, "first axis joined"),
                              "end": _axis(-1, "last axis joined")}),
        "reshape": LayerType("Another shape of the same elements", {
            "shape": Key(List(Int(-1), 1, 12), "the new shape; 0 keeps the size at that place, one "
                         "-1 is worked out", required=True, aka=("size", "to"))}),
        "transpose": LayerType("Swaps two axes", {
            "axes": Key(List(Int(-16, 15), 2, 2), "the two axes", required=True,
                        aka=("axis", "dims"))}),
        "permute": LayerType("Axes in another order", {
            "order": Key(List(Int(-16, 15), 1, 12), "the new order of all axes", required=True,
                         aka=("dims", "axes", "perm"))}),
        "split": LayerType(
            "Parts along an axis; later layers call them NAME.0, NAME.1, ...",
            {"parts": Key(Int(1, 4096), "how many equal parts", aka=("chunks", "n")),
             "sizes": Key(List(Int(), 1, 4096), "size of each part"), "axis": _axis(1)},
            one_of=("parts", "sizes")),
        "slice": LayerType("Positions start to stop of an axis", {
            "axis": _axis(1), "start": Key(whole, "first position; negative from the end", 0),
            "stop": Key(whole, "position after the last; the end if left out", aka=("end",)),
            "step": Key(Int(), "every how many", 1)}),
        "select": LayerType("One position of an axis, which goes away", {
            "axis": _axis(1), "index": Key(whole, "which; negative from the end", required=True)}),
        "pad": LayerType("Border of constants around (N, C, ...)", {
            "padding": Key(Either((Int(0), List(Int(0), 2, 6))), "one number for all sides, or "
                           "before and after, last axis first", required=True)}),
        "pixel_shuffle": LayerType("Channels into space", {"factor": factor}),
        "pixel_unshuffle": LayerType("Space into channels", {"factor": factor}),
        "channel_shuffle": LayerType("Interleaves channel groups",
                                     {"groups": Key(Int(), "channel groups", required=True)}),
        "cast": LayerType("Another element type", {
            "dtype": Key(Text(tuple(DTYPE_BYTES)), "the new type", required=True)}),
        "dropout": LayerType("Nothing at inference", {
            "rate": Key(Number(0, 1, closed=True), "ignored", 0, aka=("p", "prob"))}),
        "identity": LayerType("Nothing", {}),
    }  # fmt: skip


@cache
def layer_types() -> dict[str, LayerType]:
    """All types by name. ``repeat`` is not among them: the grammar reads it itself."""
    return {
        **_matrix_types(), **_norm_types(), **_arithmetic_types(), **_pool_types(), **_shape_types()
    }  # fmt: skip
