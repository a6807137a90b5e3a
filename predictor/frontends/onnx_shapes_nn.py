"""Output shapes of the heavy ONNX operators: convolution, pooling, products, attention, RNNs.

Each rule also completes the node's attributes where the definition leaves them to be worked out
(``kernel_shape``, and ``pads`` from ``auto_pad``), so that cost rules find them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from predictor.frontends.onnx_values import Call, Shape, Unfit, Unknown
from predictor.graph import TensorSpec

# -- convolution, pooling ---------------------------------------------------------------------


def _window(call: Call, kernel: Shape, spatial: Shape) -> tuple[Shape, Shape, list[int]]:
    """Strides, dilations and pads (begins, then ends), auto_pad worked out and written back."""
    dims = len(spatial)
    strides = call.ints("strides", (1,) * dims) or ()
    dilations = call.ints("dilations", (1,) * dims) or ()
    pads = list(call.ints("pads", (0,) * (2 * dims)) or ())
    if len(kernel) != dims or len(strides) != dims or len(dilations) != dims:
        raise Unfit(
            f"kernel {list(kernel)}, strides {list(strides)} and dilations {list(dilations)} for "
            f"{dims} spatial dimensions"
        )
    if len(pads) != 2 * dims:
        raise Unfit(f"{len(pads)} pads for {dims} spatial dimensions")
    if min((*strides, *dilations, *kernel), default=1) < 1:
        raise Unfit("kernel, strides and dilations must be 1 or more")
    mode = call.text("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0] * (2 * dims)
        for i, (n, k, s, d) in enumerate(zip(spatial, kernel, strides, dilations, strict=True)):
            if "Transpose" in call.op_type:
                total = max(0, d * (k - 1) + 1 - s)
            else:
                total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
            less, more = total // 2, total - total // 2
            pads[i], pads[i + dims] = (less, more) if mode == "SAME_UPPER" else (more, less)
    elif mode == "VALID":
        pads = [0] * (2 * dims)
    elif mode not in ("NOTSET", ""):
        raise Unfit(f"auto_pad is '{mode}'")
    call.attrs["pads"], call.attrs["kernel_shape"] = tuple(pads), tuple(kernel)
    return strides, dilations, pads


def _slide(
    spatial: Shape, kernel: Shape, strides: Shape, dilations: Shape, pads: Sequence[int],
    ceil: bool = False,
) -> Shape:  # fmt: skip
    dims, sizes = len(spatial), []
    for i, (n, k, s, d) in enumerate(zip(spatial, kernel, strides, dilations, strict=True)):
        span = n + pads[i] + pads[i + dims] - d * (k - 1) - 1
        steps = -(-span // s) if ceil else span // s
        if ceil and steps * s >= n + pads[i]:
            steps -= 1  # the last window must start inside the input or its leading padding
        if span < 0:
            raise Unfit(
                f"kernel {list(kernel)} does not fit into {list(spatial)} with pads {list(pads)}"
            )
        sizes.append(steps + 1)
    return tuple(sizes)


def _channels(x: Shape, w: Shape, groups: int) -> None:
    if groups < 1 or x[1] % groups or w[0] % groups or x[1] // groups != w[1]:
        raise Unfit(
            f"{x[1]} input channels and weights of shape {list(w)} do not fit {groups} group(s)"
        )


def _conv(call: Call) -> list[Shape]:
    slot = 3 if call.op_type == "QLinearConv" else 1
    x, w = call.ranked(0, 3, 5), call.ranked(slot, 3, 5)
    _channels(x, w, call.integer("group", 1))
    if call.op_type == "Conv" and call.has(2) and call.shape(2) != w[:1]:
        raise Unfit(f"the bias has the shape {list(call.shape(2))}, {w[0]} are needed")
    if (call.ints("kernel_shape") or w[2:]) != w[2:]:
        raise Unfit(f"kernel_shape {call.ints('kernel_shape')}, weights of shape {list(w)}")
    strides, dilations, pads = _window(call, w[2:], x[2:])
    return [(x[0], w[0], *_slide(x[2:], w[2:], strides, dilations, pads))]


def _conv_transpose(call: Call) -> list[Shape]:
    x, w = call.ranked(0, 3, 5), call.ranked(1, 3, 5)
    groups = call.integer("group", 1)
    if groups < 1 or x[1] != w[0] or x[1] % groups:
        raise Unfit(f"{x[1]} input channels, weights of shape {list(w)}, {groups} group(s)")
    if call.has(2) and call.shape(2) != (w[1] * groups,):
        raise Unfit(f"the bias has the shape {list(call.shape(2))}, {w[1] * groups} are needed")
    strides, dilations, pads = _window(call, w[2:], x[2:])
    dims = len(x) - 2
    extra = call.ints("output_padding", (0,) * dims) or (0,) * dims
    wanted = call.ints("output_shape")
    if len(extra) != dims or (wanted is not None and len(wanted) < dims):
        raise Unfit("output_padding or output_shape for another number of dimensions")
    if wanted is not None:
        sizes = tuple(wanted[-dims:])
    elif call.text("auto_pad", "NOTSET").startswith("SAME"):
        sizes = tuple(n * s for n, s in zip(x[2:], strides, strict=True))
    else:
        sizes = tuple(
            (n - 1) * strides[i] + extra[i] + dilations[i] * (w[2 + i] - 1) + 1
            - pads[i] - pads[i + dims]
            for i, n in enumerate(x[2:])
        )  # fmt: skip
    if min(sizes) < 1:
        raise Unfit(f"an output of size {list(sizes)}")
    return [(x[0], w[1] * groups, *sizes)]


def _deform_conv(call: Call) -> list[Shape]:
    x, w = call.ranked(0, 4, 4), call.ranked(1, 4, 4)
    _channels(x, w, call.integer("group", 1))
    strides, dilations, pads = _window(call, w[2:], x[2:])
    return [(x[0], w[0], *_slide(x[2:], w[2:], strides, dilations, pads))]


def _pool(call: Call) -> list[Shape | TensorSpec]:
    x = call.ranked(0, 3, 5)
    kernel = call.ints("kernel_shape")
    if kernel is None:
        raise Unfit("attribute 'kernel_shape' is missing")
    strides, dilations, pads = _window(call, kernel, x[2:])
    ceil = bool(call.integer("ceil_mode", 0))
    shape = (*x[:2], *_slide(x[2:], kernel, strides, dilations, pads, ceil))
    return [shape, TensorSpec(shape, "int64")]


def _global_pool(call: Call) -> list[Shape]:
    x = call.ranked(0, 3)
    return [(*x[:2], *(1 for _ in x[2:]))]


def _max_unpool(call: Call) -> list[Shape]:
    x, kernel = call.ranked(0, 3), call.ints("kernel_shape") or ()
    if call.has(2):
        return [tuple(call.numbers(2))]
    strides, _, pads = _window(call, kernel, x[2:])
    dims = len(x) - 2
    return [(*x[:2], *((n - 1) * strides[i] + kernel[i] - pads[i] - pads[i + dims]
                       for i, n in enumerate(x[2:])))]  # fmt: skip


PAST_SLOTS = {"Attention": 4, "GroupQueryAttention": 3, "MultiHeadAttention": 6}
"""Where the past keys come in; past values follow them."""

# -- products, attention ----------------------------------------------------------------------


def _matmul(call: Call) -> list[Shape]:
    a, b = call.ranked(0, 1), call.ranked(3 if call.op_type == "QLinearMatMul" else 1, 1)
    if call.op_type == "FusedMatMul":
        a = (*a[:-2], a[-1], a[-2]) if call.integer("transA", 0) and len(a) > 1 else a
        b = (*b[:-2], b[-1], b[-2]) if call.integer("transB", 0) and len(b) > 1 else b
    left = (1, *a) if len(a) == 1 else a
    right = (*b, 1) if len(b) == 1 else b
    if left[-1] != right[-2]:
        raise Unfit(f"{list(a)} @ {list(b)}: {left[-1]} is not {right[-2]}")
    lead = _lead(left[:-2], right[:-2])
    return [(*lead, *(left[-2:-1] if len(a) > 1 else ()), *(right[-1:] if len(b) > 1 else ()))]


def _lead(a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    sizes = []
    for m, n in pairs:
        if m != n and 1 not in (m, n):
            raise Unfit(f"leading sizes {list(a)} and {list(b)} do not broadcast")
        sizes.append(n if m == 1 else m)
    return tuple(sizes)


def _gemm(call: Call) -> list[Shape]:
    a, b = call.ranked(0, 2, 2), call.ranked(1, 2, 2)
    m, k = a[::-1] if call.integer("transA", 0) else a
    k2, n = b[::-1] if call.integer("transB", 0) else b
    if k != k2:
        raise Unfit(f"{[m, k]} @ {[k2, n]}: {k} is not {k2}")
    if call.has(2) and call.opset >= 7 and _lead(call.shape(2), (m, n)) != (m, n):
        raise Unfit(f"the bias {list(call.shape(2))} does not broadcast to {[m, n]}")
    return [(m, n)]


def _einsum(call: Call) -> list[Shape]:
    equation = call.text("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(call.inputs) or not equation:
        raise Unfit(f"equation '{equation[:60]}' for {len(call.inputs)} inputs")
    if "..." in equation:
        raise Unknown("an einsum with an ellipsis")
    sizes: dict[str, int] = {}
    for slot, term in enumerate(terms):
        shape = call.shape(slot)
        if len(term) != len(shape):
            raise Unfit(f"'{term[:60]}' does not name the {len(shape)} dimensions of input {slot}")
        for letter, n in zip(term, shape, strict=True):
            if sizes.setdefault(letter, n) not in (n, 1) and n != 1:
                raise Unfit(f"index '{letter}' is {sizes[letter]} and {n}")
            sizes[letter] = max(sizes[letter], n)
    if not arrow:
        right = "".join(sorted(x for x in sizes if left.count(x) == 1))
    if any(letter not in sizes for letter in right):
        raise Unfit(f"equation '{equation[:60]}' makes an index of nothing")
    return [tuple(sizes[letter] for letter in right)]


def attention_shapes(call: Call) -> tuple[Shape, Shape, Shape, Shape | None]:
    """q, k and v as (batch, heads, length, width), and v's head-wise past shape or None.

    Covers ONNX Attention (3d or 4d inputs) and com.microsoft MultiHeadAttention (separate 3d
    inputs, or keys and values in heads) and GroupQueryAttention.
    """
    q = call.ranked(0, 3, 4)
    q_heads = call.integer("q_num_heads", call.attrs.get("num_heads", 1))
    kv_heads = call.integer("kv_num_heads", q_heads)
    if q_heads < 1 or kv_heads < 1:
        raise Unfit(f"{q_heads} and {kv_heads} heads")
    if not (call.has(1) and call.has(2)):
        raise Unknown("attention over packed queries, keys and values")

    def heads(shape: Shape, count: int) -> Shape:
        if len(shape) == 4:
            return shape
        if len(shape) != 3 or shape[2] % count:
            raise Unfit(f"shape {list(shape)} for {count} heads")
        return (shape[0], count, shape[1], shape[2] // count)

    k, v = heads(call.shape(1), kv_heads), heads(call.shape(2), kv_heads)
    past_slot = PAST_SLOTS[call.op_type]
    past = call.ranked(past_slot, 4, 4) if call.has(past_slot) else None
    if past is not None:
        k = (*k[:2], k[2] + past[2], k[3])
        v = (*v[:2], v[2] + past[2], v[3])
    q = heads(q, q_heads)
    if q[3] != k[3] or k[2] != v[2] or q[1] % k[1]:
        raise Unfit(f"q {list(q)}, k {list(k)} and v {list(v)} do not fit")
    return q, k, v, past


def _attention(call: Call) -> list[Shape]:
    if call.op_type == "Attention" and "num_heads" in call.attrs:
        x, w = call.ranked(0, 3, 3), call.ranked(1, 2, 2)
        if x[-1] != w[0] or w[1] % 3:
            raise Unfit(f"{list(x)} and packed weights {list(w)}")
        sizes = call.ints("qkv_hidden_sizes")
        return [(*x[:2], sizes[2] if sizes and len(sizes) == 3 else w[1] // 3)]
    q, k, v, _ = attention_shapes(call)
    out: Shape = (*q[:3], v[3])
    if len(call.shape()) == 3:
        out = (q[0], q[2], q[1] * v[3])
    return [out, k, v, (q[0], q[1], q[2], k[2])]


# -- recurrent, resampling, signal ------------------------------------------------------------


def _rnn(call: Call) -> list[Shape]:
    x, w, r = call.ranked(0, 3, 3), call.ranked(1, 3, 3), call.ranked(2, 3, 3)
    hidden = call.integer("hidden_size", r[2])
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[call.op_type]
    directions = 2 if call.text("direction", "forward") == "bidirectional" else 1
    if w != (directions, gates * hidden, x[2]) or r != (directions, gates * hidden, hidden):
        raise Unfit(
            f"weights {list(w)} and {list(r)} for {gates} gates, {hidden} hidden units, "
            f"{x[2]} features and {directions} direction(s)"
        )
    call.attrs["hidden_size"] = hidden
    if call.integer("layout", 0):
        batch, steps = x[:2]
        state = (batch, directions, hidden)
        return [(batch, steps, directions, hidden), state, state]
    steps, batch = x[:2]
    state = (directions, batch, hidden)
    return [(steps, directions, batch, hidden), state, state]


def _resize(call: Call) -> list[Shape]:
    x = call.ranked(0, 1)
    old = call.op_type == "Upsample" or call.opset < 11
    sizes = call.numbers(3) if not old and call.has(3) and call.shape(3) != (0,) else None
    axes = call.ints("axes", range(len(x))) or ()
    if sizes is None:
        if old and "scales" in call.attrs:
            scales = [float(s) for s in call.attrs["scales"]]
        else:
            scales = [float(s) for s in call.value(1 if old else 2).reshape(-1)]
        if len(scales) != len(axes) or not all(0 < s < 1e6 for s in scales):
            raise Unfit(f"scales {scales[:8]} for {len(axes)} axes")
        sizes = [math.floor(x[a] * s) for a, s in zip(axes, scales, strict=True)]
    if len(sizes) != len(axes):
        raise Unfit(f"sizes {sizes[:8]} for {len(axes)} axes")
    out = list(x)
    for axis, n in zip(axes, sizes, strict=True):
        out[axis] = n
    return [tuple(out)]


def _grid_sample(call: Call) -> list[Shape]:
    x, grid = call.ranked(0, 4, 5), call.ranked(1, 4, 5)
    return [(*x[:2], *grid[1:-1])]


def _affine_grid(call: Call) -> list[Shape]:
    sizes = call.numbers(1)
    return [(sizes[0], *sizes[2:], len(sizes) - 2)]


def _roi(call: Call) -> list[Shape]:
    x, rois = call.ranked(0, 4, 4), call.ranked(1, 2, 2)
    if call.op_type == "MaxRoiPool":
        height, width = call.ints("pooled_shape") or (1, 1)
    else:
        height, width = call.integer("output_height", 1), call.integer("output_width", 1)
    return [(rois[0], x[1], height, width)]


def _dft(call: Call) -> list[Shape]:
    x = list(call.ranked(0, 2))
    axis = call.numbers(2)[0] if call.has(2) else call.integer("axis", 1 if call.opset < 20 else -2)
    length = call.numbers(1)[0] if call.has(1) else x[axis]
    x[axis] = length // 2 + 1 if call.integer("onesided", 0) else length
    return [(*x[:-1], 2)]


def _stft(call: Call) -> list[Shape]:
    x, step = call.ranked(0, 2, 3), call.numbers(1)[0]
    frame = call.numbers(3)[0] if call.has(3) else call.shape(2)[0]
    if step < 1 or not 1 <= frame <= x[1]:
        raise Unfit(f"frames of {frame} every {step} of {x[1]}")
    bins = frame // 2 + 1 if call.integer("onesided", 1) else frame
    return [(x[0], (x[1] - frame) // step + 1, bins, 2)]


def _col2im(call: Call) -> list[Shape]:
    x, image, block = call.ranked(0, 3, 3), call.numbers(1), call.numbers(2)
    return [(x[0], x[1] // max(1, math.prod(block)), *image)]


NN_RULES: dict[str, Callable[[Call], Sequence[Shape | TensorSpec]]] = {
    "Conv": _conv, "ConvInteger": _conv, "QLinearConv": _conv, "FusedConv": _conv,
    "ConvTranspose": _conv_transpose, "DeformConv": _deform_conv,
    "MaxPool": _pool, "AveragePool": _pool, "LpPool": _pool, "MaxUnpool": _max_unpool,
    "GlobalAveragePool": _global_pool, "GlobalMaxPool": _global_pool,
    "GlobalLpPool": _global_pool, "MatMul": _matmul, "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul, "FusedMatMul": _matmul, "Gemm": _gemm, "FusedGemm": _gemm,
    "Einsum": _einsum, "Attention": _attention, "MultiHeadAttention": _attention,
    "GroupQueryAttention": _attention, "LSTM": _rnn, "GRU": _rnn, "RNN": _rnn,
    "Resize": _resize, "Upsample": _resize, "GridSample": _grid_sample,
    "AffineGrid": _affine_grid, "RoiAlign": _roi, "MaxRoiPool": _roi, "DFT": _dft,
    "STFT": _stft, "Col2Im": _col2im,
}  # fmt: skip
