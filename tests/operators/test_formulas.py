"""Every count against a formula written by hand, or against what the libraries publish."""

import math

import pytest

torch = pytest.importorskip("torch", reason="tracing needs torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import predictor  # noqa: E402
from predictor.graph import TensorSpec  # noqa: E402
from predictor.operators import KINDS, make_op  # noqa: E402


class Call(nn.Module):
    """A module whose forward is the given function."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *args):
        return self.function(self, *args)


def traced(function, *shapes, **modules):
    with torch.device("meta"):
        module = Call(function, **{k: v() for k, v in modules.items()})
    return predictor.trace(module, tuple(shapes) if len(shapes) > 1 else shapes[0])


def single(function, *shapes, **modules):
    ops = [op for op in traced(function, *shapes, **modules).ops if not op.is_view]
    assert len(ops) == 1, [(op.kind, op.target) for op in ops]
    return ops[0]


# -- convolutions ---------------------------------------------------------------------------------


def test_the_convolution_that_articles_get_wrong():
    op = single(
        lambda m, x: m.conv(x),
        (1, 3, 224, 224),
        conv=lambda: nn.Conv2d(3, 64, 3, padding=1, bias=False),
    )
    assert op.macs == 64 * 224 * 224 * 3 * 9 == 86_704_128
    assert op.flops == 173_408_256
    assert op.elementwise_flops == 0
    assert op.params == 3 * 64 * 9
    assert op.read_bytes == 4 * (3 * 224 * 224 + 3 * 64 * 9)
    assert op.write_bytes == 4 * 64 * 224 * 224
    assert op.parallelism == 64 * 224 * 224


@pytest.mark.parametrize(
    ("make", "shape", "macs", "out"),
    [
        (lambda: nn.Conv1d(8, 16, 5, padding=2), (2, 8, 50), 2 * 16 * 50 * 8 * 5, (2, 16, 50)),
        (lambda: nn.Conv3d(3, 8, 3, stride=2), (1, 3, 9, 9, 9), 8 * 64 * 3 * 27, (1, 8, 4, 4, 4)),
        (lambda: nn.Conv2d(8, 16, 3, groups=4), (1, 8, 10, 10), 16 * 64 * 2 * 9, (1, 16, 8, 8)),
        (lambda: nn.Conv2d(8, 8, 3, groups=8), (1, 8, 10, 10), 8 * 64 * 9, (1, 8, 8, 8)),
        (lambda: nn.Conv2d(8, 16, 3, groups=8), (1, 8, 10, 10), 16 * 64 * 9, (1, 16, 8, 8)),
        (lambda: nn.Conv2d(4, 4, 3, dilation=2), (1, 4, 9, 9), 4 * 25 * 4 * 9, (1, 4, 5, 5)),
        (lambda: nn.Conv2d(4, 4, (1, 7), padding="same"), (1, 4, 9, 9), 4 * 81 * 4 * 7,
         (1, 4, 9, 9)),
        (lambda: nn.Conv2d(4, 6, 1), (4, 9, 9), 6 * 81 * 4, (6, 9, 9)),
        # Transposed: every input element meets every kernel position.
        (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), (1, 4, 5, 5), 4 * 25 * 6 * 9,
         (1, 6, 11, 11)),
        (lambda: nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1, groups=2, output_padding=1),
         (1, 4, 5, 5), 4 * 25 * 3 * 16, (1, 6, 11, 11)),
        (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, dilation=2), (1, 4, 5), 4 * 5 * 6 * 3,
         (1, 6, 13)),
        (lambda: nn.ConvTranspose3d(2, 3, 2, stride=2), (1, 2, 3, 3, 3), 2 * 27 * 3 * 8,
         (1, 3, 6, 6, 6)),
    ],
)  # fmt: skip
def test_convolutions(make, shape, macs, out):
    graph = traced(lambda m, x: m.conv(x), shape, conv=make)
    (op,) = [op for op in graph.ops if op.kind == "conv"]
    with torch.device("meta"):
        assert tuple(make()(torch.empty(shape)).shape) == out  # the hand-made size is torch's
    assert op.outputs[0].shape in (out, (1, *out))  # torch adds the batch itself
    assert graph.macs == macs
    assert graph.elementwise_flops == math.prod(out)  # the bias


# -- products -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (lambda m, a, b: a @ b, ((4, 5), (5, 6)), 4 * 5 * 6),
        (lambda m, a, b: a @ b, ((7, 4, 5), (7, 5, 6)), 7 * 4 * 5 * 6),
        (lambda m, a, b: a @ b, ((2, 7, 4, 5), (5, 6)), 2 * 7 * 4 * 5 * 6),
        (lambda m, a, b: a @ b, ((2, 1, 4, 5), (1, 3, 5, 6)), 2 * 3 * 4 * 5 * 6),
        (lambda m, a, b: a @ b, ((4, 5), (5,)), 20),
        (lambda m, a, b: torch.dot(a, b), ((9,), (9,)), 9),
        (
            lambda m, a, b: torch.einsum("bhid,bhjd->bhij", a, b),
            ((2, 3, 4, 5), (2, 3, 6, 5)),
            2 * 3 * 4 * 6 * 5,
        ),
        (
            lambda m, a, b: torch.einsum("nchw,oc->nohw", a, b),
            ((2, 3, 4, 5), (7, 3)),
            2 * 7 * 4 * 5 * 3,
        ),
        (
            lambda m, c, a, b: torch.baddbmm(c, a, b),
            ((3, 4, 6), (3, 4, 5), (3, 5, 6)),
            3 * 4 * 5 * 6,
        ),
        (lambda m, c, a, b: torch.addbmm(c, a, b), ((4, 6), (3, 4, 5), (3, 5, 6)), 3 * 4 * 5 * 6),
        (lambda m, c, a, b: torch.addmm(c, a, b), ((4, 6), (4, 5), (5, 6)), 4 * 5 * 6),
        (lambda m, c, a, b: torch.addmv(c, a, b), ((4,), (4, 5), (5,)), 20),
        (lambda m, x: m.f(x), ((2, 3, 8),), 2 * 3 * 8 * 16),
        (lambda m, x: m.f(x), ((8,),), 8 * 16),
        (lambda m, x: torch.mm(m.f.weight, x), ((8, 5),), 16 * 8 * 5),
        (lambda m, x: F.linear(x, m.f.weight[:4]), ((3, 8),), 3 * 8 * 4),
    ],
)
def test_products(function, shapes, macs):
    modules = {"f": lambda: nn.Linear(8, 16)} if len(shapes) == 1 else {}
    graph = traced(function, *shapes, **modules)
    assert graph.macs == macs
    assert not graph.unknown


def test_linear_costs():
    op = single(lambda m, x: m.f(x), (2, 3, 8), f=lambda: nn.Linear(8, 16))
    assert (op.kind, op.params) == ("linear", 8 * 16 + 16)
    assert op.elementwise_flops == 2 * 3 * 16
    assert op.read_bytes == 4 * (48 + 128 + 16)
    assert op.write_bytes == 4 * 96


def test_bilinear():
    graph = traced(lambda m, x, y: m.f(x, y), (5, 3), (5, 4), f=lambda: nn.Bilinear(3, 4, 7))
    assert graph.macs == 5 * 7 * (3 * 4 + 4)


# -- attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "k", "v", "options"),
    [
        ((2, 3, 7, 8), (2, 3, 7, 8), (2, 3, 7, 8), {}),
        ((2, 3, 7, 8), (2, 3, 9, 8), (2, 3, 9, 5), {}),
        ((2, 3, 7, 8), (2, 3, 7, 8), (2, 3, 7, 8), {"is_causal": True}),
        ((2, 6, 7, 8), (2, 2, 7, 8), (2, 2, 7, 8), {"enable_gqa": True}),
        ((7, 8), (7, 8), (7, 8), {}),
    ],
)
def test_attention(q, k, v, options):
    op = single(lambda m, *t: F.scaled_dot_product_attention(*t, **options), q, k, v)
    scores = math.prod(q[:-1]) * k[-2]
    assert op.macs == scores * (q[-1] + v[-1])
    assert op.elementwise_flops == 6 * scores
    assert op.outputs[0].shape == (*q[:-1], v[-1])
    assert op.read_bytes == 4 * (math.prod(q) + math.prod(k) + math.prod(v))


def test_attention_mask_is_read_at_its_own_size():
    op = single(
        lambda m, q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
        (2, 3, 7, 8),
        (2, 3, 7, 8),
        (2, 3, 7, 8),
        (2, 1, 1, 7),
    )
    assert op.read_bytes == 4 * (3 * 2 * 3 * 7 * 8 + 2 * 7)
    assert op.macs == 2 * 3 * 7 * 7 * 16


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multi_head_attention(need_weights, batch_first):
    width, length, batch = 64, 10, 2
    graph = traced(
        lambda m, x: m.a(x, x, x, need_weights=need_weights)[0],
        (batch, length, width) if batch_first else (length, batch, width),
        a=lambda: nn.MultiheadAttention(width, 4, batch_first=batch_first),
    )
    projections = 4 * batch * length * width * width
    attention = 2 * batch * length * length * width
    assert graph.macs == projections + attention
    assert graph.params == 4 * width * width + 4 * width


def test_cross_attention_of_other_widths():
    graph = traced(
        lambda m, q, kv: m.a(q, kv, kv)[0],
        (1, 5, 32),
        (1, 9, 24),
        a=lambda: nn.MultiheadAttention(32, 4, kdim=24, vdim=24, batch_first=True),
    )
    assert graph.macs == 5 * 32 * 32 * 2 + 2 * 9 * 24 * 32 + 2 * 5 * 9 * 32


@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_encoder(norm_first):
    d, ff, s, b, layers = 32, 48, 7, 2, 3
    with torch.device("meta"):
        layer = nn.TransformerEncoderLayer(d, 4, ff, batch_first=True, norm_first=norm_first)
        model = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()
    graph = predictor.trace(model, (b, s, d))
    assert graph.macs == layers * b * (s * (4 * d * d + 2 * d * ff) + 2 * s * s * d)
    assert not any("transformer_encoder" in op.target for op in graph.ops)
    assert torch.backends.mha.get_fastpath_enabled()


# -- recurrent ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent(kind, both, layers):
    i, h, s, b = 12, 20, 7, 3
    gates, way = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 2 if both else 1
    graph = traced(
        lambda m, x: m.r(x)[0],
        (b, s, i),
        r=lambda: getattr(nn, kind)(i, h, layers, bidirectional=both, batch_first=True),
    )
    macs = way * gates * h * (i + h)
    macs += (layers - 1) * way * gates * h * (way * h + h)
    assert graph.macs == b * s * macs
    with torch.device("meta"):
        module = getattr(nn, kind)(i, h, layers, bidirectional=both)
    assert graph.params == sum(p.numel() for p in module.parameters())


def test_lstm_with_projection():
    i, h, p, s, b = 12, 20, 5, 7, 3
    graph = traced(lambda m, x: m.r(x)[0], (s, b, i), r=lambda: nn.LSTM(i, h, 2, proj_size=p))
    first, second = 4 * h * (i + p) + h * p, 4 * h * (p + p) + h * p
    assert graph.macs == b * s * (first + second)


def test_cells_count_as_products():
    graph = traced(lambda m, x: m.c(x)[0], (3, 8), c=lambda: nn.LSTMCell(8, 16))
    assert graph.macs == 3 * 4 * 16 * (8 + 16)


# -- everything that moves bytes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "shape", "flops", "read", "write"),
    [
        (lambda m, x: F.relu(x), (2, 3, 4), 24, 24, 24),
        (lambda m, x: F.gelu(x), (2, 3, 4), 8 * 24, 24, 24),
        (lambda m, x: F.silu(x), (2, 3, 4), 5 * 24, 24, 24),
        (lambda m, x: torch.sigmoid(x), (2, 3, 4), 4 * 24, 24, 24),
        (lambda m, x: F.hardswish(x), (2, 3, 4), 4 * 24, 24, 24),
        (lambda m, x: F.softmax(x, -1), (2, 3, 4), 5 * 24, 24, 24),
        (lambda m, x: x + 1, (2, 3, 4), 24, 24, 24),
        (lambda m, x: x.mean(-1), (2, 3, 4), 24, 24, 6),
        (lambda m, x: x.max(), (2, 3, 4), 24, 24, 1),
        (lambda m, x: F.max_pool2d(x, 2), (1, 3, 8, 8), 48 * 4, 192, 48),
        (lambda m, x: F.avg_pool2d(x, 3, 2, 1), (1, 3, 8, 8), 48 * 9, 192, 48),
        (lambda m, x: F.adaptive_avg_pool2d(x, 1), (1, 3, 8, 8), None, 192, 3),
        (lambda m, x: F.interpolate(x, scale_factor=2), (1, 3, 4, 4), 0, 48, 192),
        (
            lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear"),
            (1, 3, 4, 4),
            8 * 192,
            48,
            192,
        ),
        (lambda m, x: torch.cat([x, x], 1), (1, 3, 4, 4), 0, 96, 96),
        (lambda m, x: F.pad(x, (1, 1, 1, 1)), (1, 3, 4, 4), 0, 48, 108),
        (lambda m, x: x.transpose(1, 2).contiguous(), (2, 3, 4), 0, 24, 24),
        (lambda m, x: F.pixel_shuffle(x, 2), (1, 4, 3, 3), 0, 36, 36),
    ],
)
def test_memory_bound(function, shape, flops, read, write):
    op = single(function, shape)
    assert op.macs == 0
    if flops is not None:
        assert op.elementwise_flops == flops
    assert (op.read_bytes, op.write_bytes) == (4 * read, 4 * write)


@pytest.mark.parametrize(
    ("make", "shape", "flops", "weights"),
    [
        (lambda: nn.BatchNorm2d(3), (1, 3, 4, 4), 2, 4 * 3),
        (lambda: nn.LayerNorm(8), (2, 5, 8), 8, 2 * 8),
        (lambda: nn.GroupNorm(2, 4), (1, 4, 3, 3), 8, 2 * 4),
        (lambda: nn.RMSNorm(8), (2, 5, 8), 4, 8),
    ],
)
def test_norms(make, shape, flops, weights):
    graph = traced(lambda m, x: m.n(x), shape, n=make)
    op = next(op for op in graph.ops if op.kind == "norm")
    count = math.prod(shape)
    assert op.elementwise_flops == flops * count
    assert op.macs == 0
    assert op.read_bytes == 4 * (count + weights)
    assert op.outputs[0].shape == shape


def test_broadcast_addition_reads_the_small_operand_once():
    op = single(lambda m, a, b: a + b, (2, 3, 8, 8), (3, 1, 1))
    assert op.read_bytes == 4 * (384 + 3)
    assert op.elementwise_flops == 384


def test_embedding_reads_rows_not_the_table():
    with torch.device("meta"):
        model = nn.Embedding(50_000, 64)
    graph = predictor.trace(model, {"input": {"shape": [2, 9], "dtype": "int64"}})
    (op,) = graph.ops
    assert op.macs == op.elementwise_flops == 0
    assert op.read_bytes == 8 * 18 + 4 * 18 * 64
    assert op.write_bytes == 4 * 18 * 64
    assert graph.params == 50_000 * 64


def test_views_move_nothing():
    graph = traced(lambda m, x: x.reshape(2, 12).t()[1:].unsqueeze(0).expand(3, 11, 2), (2, 3, 4))
    assert graph.memory_access_bytes == 0
    assert graph.activation_bytes == 0
    assert graph.elementwise_flops == 0


def test_every_kind_costs_what_its_tensors_hold_at_least():
    x = TensorSpec((2, 8, 8, 8))
    for kind in ("activation", "elementwise", "softmax", "reduce", "concat", "copy"):
        assert kind in KINDS
        attrs = {"fn": "relu"}
        op = make_op("x", kind, kind, (x,), (x,), attrs=attrs)
        assert (op.read_bytes, op.write_bytes) == (x.nbytes, x.nbytes)


# -- whole networks -------------------------------------------------------------------------------


def test_a_module_called_twice_and_a_tied_weight():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.Embedding(100, 16)
            self.f = nn.Linear(16, 16)
            self.head = nn.Linear(16, 100, bias=False)
            self.head.weight = self.e.weight

        def forward(self, ids):
            return self.head(self.f(self.f(self.e(ids))))

    with torch.device("meta"):
        net = Net()
    graph = predictor.trace(net, {"ids": {"shape": [1, 5], "dtype": "int64"}})
    assert graph.macs == 5 * (2 * 16 * 16 + 16 * 100)
    assert graph.params == 100 * 16 + 16 * 16 + 16
    assert [op.name for op in graph.ops if op.macs] == ["f", "f", "head"]


def library(name):
    """An optional package; torchvision's operator names are defined first where they must be."""
    from predictor.errors import MissingExtra
    from predictor.frontends.zoo_build import import_torchvision

    try:
        import_torchvision("torchvision:resnet18")
    except MissingExtra as error:
        pytest.skip(str(error))
    return pytest.importorskip(name, reason=f"models of {name} need it")


def test_gpt2_by_hand():
    transformers = library("transformers")
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    graph = predictor.trace(model, {"input_ids": {"shape": [1, 128], "dtype": "int64"}})
    d, s, layers, vocabulary = 768, 128, 12, 50257
    block = s * (3 * d * d + d * d + 2 * 4 * d * d) + 2 * s * s * d
    assert graph.macs == layers * block + s * d * vocabulary
    assert graph.params == 124_439_808
    assert not graph.unknown


def test_llama_shape_with_grouped_queries_by_hand():
    transformers = library("transformers")
    d, ff, heads, kv, layers, vocabulary, s = 256, 512, 8, 2, 2, 1000, 64
    config = transformers.LlamaConfig(
        hidden_size=d,
        intermediate_size=ff,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        num_hidden_layers=layers,
        vocab_size=vocabulary,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config).eval()
    graph = predictor.trace(model, {"input_ids": {"shape": [1, s], "dtype": "int64"}})
    narrow = d // heads * kv
    block = s * (2 * d * d + 2 * d * narrow + 3 * d * ff) + 2 * s * s * d
    extra = graph.macs - (layers * block + s * d * vocabulary)
    # Rotary positions are a product of inverse frequencies (32 / 2) and positions.
    rope = d // heads // 2 * s
    assert extra in (0, rope)
    assert not graph.unknown


PUBLISHED = ["alexnet", "resnet50", "mobilenet_v2", "densenet121", "vit_b_16", "swin_t",
             "efficientnet_b0", "r3d_18", "lraspp_mobilenet_v3_large"]  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchvision_as_published(name):
    from predictor.frontends.zoo import build_named

    models = library("torchvision.models")
    built = build_named(f"torchvision:{name}")
    meta = models.get_model_weights(name).DEFAULT.meta
    graph = predictor.trace(built.module, built.inputs)
    assert graph.params == meta["num_params"]
    assert abs(graph.macs / 1e9 - meta["_ops"]) <= 0.0005 + 0.01 * meta["_ops"]
    assert not graph.unknown
