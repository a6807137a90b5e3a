"""How each operator of a graph is written in PyTorch: a call, and the layer that holds its weights.

A graph knows shapes and costs. What it does not know (which part a slice begins at, say) is
written as PyTorch's own default or as the commonest choice, and said as an assumption.
"""

from __future__ import annotations

from collections.abc import Callable

from predictor.frontends.torch_source_shapes import MOVES, Code, Site, call, size


def code_of(site: Site) -> Code:
    """The operator as PyTorch code.

    Raises:
        ModelError: it has no equivalent, or the graph lacks what is needed to write it.
    """
    writer = WRITERS.get(site.op.kind)
    if writer is None:
        raise site.refuse(
            f"'{site.op.target}' ({site.op.kind}) is no operator of the builder's",
            "replace it by known layers",
        )
    return writer(site)


def _conv(site: Site) -> Code:
    a, old, new = site.op.attrs, site.old, site.new
    kernel, stride, pads, dilation = (a[w] for w in ("kernel", "stride", "padding", "dilation"))
    turned, dims = bool(a.get("transposed")), len(kernel)
    more: dict[str, object] = {}
    if set(stride) != {1}:
        more["stride"] = size(stride)
    x = site.x
    rows = list(zip(old[2:], new[2:], kernel, stride, pads, dilation, strict=True))
    if turned:
        extra = [m - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in rows]
        more |= {"output_padding": size(extra)} if any(extra) else {}
    else:
        # padding: same. The odd zero of an even window goes behind, as PyTorch and TensorFlow do.
        missing = [max(0, (m - 1) * s + d * (k - 1) + 1 - n - 2 * p) for n, m, k, s, p, d in rows]
        if any(missing):
            both = [(p, p + e) for p, e in zip(pads, missing, strict=True)]
            x = call("F.pad", x, tuple(size for pair in reversed(both) for size in pair))
            pads = (0,) * dims
    if any(pads):
        more["padding"] = size(pads)
    if set(dilation) != {1}:
        more["dilation"] = size(dilation)
    if a["groups"] != 1:
        more["groups"] = a["groups"]
    if not a["bias"]:
        more["bias"] = False
    word = f"nn.Conv{'Transpose' if turned else ''}{dims}d"
    return Code(f"{site.layer}({x})", call(word, old[1], new[1], size(kernel), **more))


def _linear(site: Site) -> Code:
    more: dict[str, object] = {} if site.get("bias") else {"bias": False}
    layer = call("nn.Linear", site.old[-1], site.new[-1], **more)
    return Code(f"{site.layer}({site.x})", layer)


def _norm(site: Site) -> Code:
    kind, old = site.get("type"), site.old
    weights = site.op.weights
    rank = max(1, len(old) - 2)
    if kind == "batch":
        layer = f"nn.BatchNorm{rank}d({old[1]})"
    elif kind in ("layer", "rms"):
        shape = weights[0].shape if weights else old[-1:]
        word = "LayerNorm" if kind == "layer" else "RMSNorm"
        layer = f"nn.{word}({shape[0] if len(shape) == 1 else shape})"
    elif kind == "group":
        layer = f"nn.GroupNorm({site.get('groups')}, {old[1]})"
    elif kind == "instance" and not weights:
        return Code(f"F.instance_norm({site.x})")
    else:
        raise site.refuse(f"its norm '{kind}' is not PyTorch's", "use batch, layer, rms or group")
    return Code(f"{site.layer}({site.x})", layer)


_FUNCTIONS = {"sigmoid": "torch.sigmoid", "tanh": "torch.tanh", "threshold": "F.threshold"}


def _activation(site: Site) -> Code:
    fn = site.get("fn")
    if fn == "prelu":
        return Code(f"{site.layer}({site.x})", call("nn.PReLU", site.op.weights[0].numel))
    if fn == "threshold":
        return Code(f"F.threshold({site.x}, 0.0, 0.0)", assumed="its threshold and value are 0")
    if fn == "glu":
        axis = next(i for i, (n, m) in enumerate(zip(site.old, site.new, strict=True)) if n != m)
        return Code(call("F.glu", site.x, dim=axis))
    return Code(f"{_FUNCTIONS.get(fn, f'F.{fn}')}({site.x})")


_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}
_UNARY = ("abs exp log sqrt rsqrt neg reciprocal square sin cos erf tan floor ceil round sign "
          "log1p expm1 sinh cosh asin acos atan").split()  # fmt: skip


def _elementwise(site: Site) -> Code:
    fn, args = site.get("fn"), list(site.args)
    layer = ""
    if site.op.weights:
        shape = site.op.weights[0].shape
        # A learned factor begins as 1; a learned table near 0, as vision transformers have it.
        layer = call("nn.Parameter", f"torch.ones({size(shape)})" if fn == "mul"
                      else f"0.02 * torch.randn({', '.join(map(str, shape))})")  # fmt: skip
        args.append(site.layer)
    if fn in _SIGNS and len(args) > 1:
        return Code(f" {_SIGNS[fn]} ".join(args), layer)
    if fn in ("maximum", "minimum") and len(args) > 1:
        nested = args[0]
        for arg in args[1:]:
            nested = f"torch.{fn}({nested}, {arg})"
        return Code(nested)
    if site.op.name.endswith(".rotary") and fn in ("mul", "addcmul") and len(site.old) > 1:
        return _rotary(site)
    if fn == "mul" and site.get("zero"):
        return Code(f"{site.x} * 0.0")
    if fn in _UNARY and len(args) == 1:
        return Code(f"torch.{fn}({site.x})")
    raise site.refuse(
        f"the graph does not say what '{fn}' combines its {len(args)} tensor(s) with",
        "give every operand a tensor",
    )


ROTARY = """def rotary_tables(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    \"\"\"Cosine and sine of the angles that x (..., steps, size) is turned by.\"\"\"
    half = torch.arange(x.shape[-1] // 2, device=x.device, dtype=x.dtype)
    speed = 10000.0 ** (-2 * half / x.shape[-1])
    angle = torch.arange(x.shape[-2], device=x.device, dtype=x.dtype)[:, None] * speed
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def quarter_turned(x: torch.Tensor) -> torch.Tensor:
    \"\"\"Each pair of channels (i, i + size / 2) turned by 90 degrees.\"\"\"
    one, two = x.chunk(2, dim=-1)
    return torch.cat([-two, one], dim=-1)
"""
"""Functions that the source of a network with rotary positions begins with."""


def _rotary(site: Site) -> Code:
    """A graph holds rotary positions as two operators, without tables (see families/decoder.py)."""
    if site.old[-1] % 2:
        raise site.refuse(f"rotary positions turn pairs, and a head has {site.old[-1]} channels",
                          "use an even size")  # fmt: skip
    if site.get("fn") == "mul" and len(site.args) == 1:
        return Code(f"{site.x} * cos", assumed="its rotary base is 10,000")
    if len(site.args) != 2:
        raise site.refuse("these are no rotary positions", "use those of decoder:KEY")
    return Code(f"torch.addcmul({site.x}, quarter_turned({site.args[1]}), sin)")


def _pool(site: Site) -> Code:
    kind, old, new = site.get("type"), site.old, site.new
    if kind not in ("max", "avg"):
        raise site.refuse(f"pooling of type '{kind}' is not PyTorch's", "use max or avg")
    dims = len(old) - 2
    if site.get("adaptive"):
        return Code(call(f"F.adaptive_{kind}_pool{dims}d", site.x, size(new[2:])))
    kernel, stride, pads = (site.get(w) for w in ("kernel", "stride", "padding"))
    more: dict[str, object] = {"stride": size(stride)}
    if any(pads):
        more["padding"] = size(pads)
    sides = zip(old[2:], new[2:], kernel, stride, pads, strict=True)
    if any((n + 2 * p - k) // s + 1 < m for n, m, k, s, p in sides):
        more["ceil_mode"] = True
    # The published NAS-Bench-201 averages over the positions inside the image alone.
    counted = site.get("count_include_pad", site.source != "nasbench201")
    if kind == "avg" and any(pads) and not counted:
        more["count_include_pad"] = False
    return Code(call(f"F.{kind}_pool{dims}d", site.x, size(kernel), **more))


def _attention(site: Site) -> Code:
    more: dict[str, object] = {}
    if site.get("causal"):
        more["is_causal"] = True
    if len(site.old) == 4 and site.old[1] != site.op.inputs[1].shape[1]:
        more["enable_gqa"] = True
    return Code(call("F.scaled_dot_product_attention", *site.args, **more))


_RNN = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


def _rnn(site: Site) -> Code:
    a, more = site.op.attrs, dict[str, object]()
    if a.get("layers", 1) > 1:
        more["num_layers"] = a["layers"]
    if not a.get("bias", True):
        more["bias"] = False
    if a.get("steps") == site.old[1]:
        more["batch_first"] = True
    if a.get("bidirectional"):
        more["bidirectional"] = True
    layer = call(f"nn.{_RNN[a['mode']]}", site.old[-1], a["hidden"], **more)
    return Code(f"{site.layer}({site.x})[0]", layer)


def _gather(site: Site) -> Code:
    if not site.op.weights:
        raise site.refuse("the graph does not say what it picks", "use an embedding")
    rows, width = site.op.weights[0].shape
    index = site.x
    if site.source == "decoder" and site.op.name == "positions":  # it reads where words stand
        index = f"torch.arange({index}.shape[1], device={index}.device).expand_as({index})"
    return Code(f"{site.layer}({index})", f"nn.Embedding({rows}, {width})")


def _resize(site: Site) -> Code:
    more: dict[str, object] = {"size": _sides(site.new[2:])}
    if site.get("mode") != "nearest":
        more["mode"] = f'"{site.get("mode")}"'
    return Code(call("F.interpolate", site.x, **more))


def _sides(sizes: tuple[int, ...]) -> str:
    return str(sizes[0]) if len(sizes) == 1 else str(sizes)


def _softmax(site: Site) -> Code:
    word = "log_softmax" if site.get("log") else "softmax"
    axis = site.get("axis")
    said = "" if axis is not None or len(site.old) < 2 else "its axis is the last"
    return Code(call(f"F.{word}", site.x, dim=-1 if axis is None else axis), assumed=said)


def _matmul(site: Site) -> Code:
    if len(site.args) != 2 or site.op.weights:
        raise site.refuse("it multiplies no two tensors", "use linear for a product with weights")
    return Code(" @ ".join(site.args))


WRITERS: dict[str, Callable[[Site], Code]] = {
    "conv": _conv, "linear": _linear, "matmul": _matmul, "attention": _attention, "rnn": _rnn,
    "norm": _norm, "activation": _activation, "softmax": _softmax, "elementwise": _elementwise,
    "pool": _pool, "resize": _resize, "gather": _gather, **MOVES,
}  # fmt: skip
"""By kind of operator."""
