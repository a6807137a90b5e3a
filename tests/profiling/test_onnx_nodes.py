"""Nodes of ONNX Runtime profiles are attributed to the kernels that they are."""

import json

import pytest

from predictor.builder import GraphBuilder
from predictor.kernels.lowering import prepare
from predictor.profiling.onnx_nodes import Node, kernel_shares, owners, parse_node


def text(op, name, inputs, outputs):
    return json.dumps({"op": op, "name": name, "inputs": [f"float:{s}" for s in inputs],
                       "outputs": [f"float:{s}" for s in outputs]})  # fmt: skip


def kernels_of(b, *results):
    return prepare(b.finish(*results), "fp32", "onnxruntime").kernels


def test_the_form_of_a_node():
    node = parse_node(text("Conv", "y", ["1x3x8x8", "16x3x3x3", ""], ["1x16x8x8"]))
    assert node == Node("Conv", "y", ((1, 3, 8, 8), (16, 3, 3, 3), ()), ((1, 16, 8, 8),))


def test_blocks_of_channels_are_seen_through():
    b = GraphBuilder("net")
    x = b.input((1, 3, 16, 16))
    y = b.conv(x, 12, 3, padding=1)  # 12 channels lie in two blocks of 8
    z = b.softmax(y)
    kernels = kernels_of(b, z)
    assert [k.ops[0].attrs.get("fn") or k.kind for k in kernels] == ["conv", "reorder", "softmax"]
    names = [
        text("Conv", "a", ["1x3x16x16", "16x3x3x3", "16"], ["1x16x16x16"]),
        text("ReorderOutput", "b", ["1x16x16x16"], ["1x12x16x16"]),
        text("Softmax", "c", ["1x12x16x16"], ["1x12x16x16"]),
    ]
    assert kernel_shares(kernels, names) == [0, 1, 2]


def test_equal_kernels_are_interchangeable_and_each_has_a_node():
    b = GraphBuilder("net")
    x = b.input((1, 16, 8, 8))
    for _ in range(3):
        x = b.conv(x, 16, 3, padding=1)
    kernels = kernels_of(b, b.global_pool(x))
    convolution = text("Conv", "c", ["1x16x8x8", "16x16x3x3", "16"], ["1x16x8x8"])
    reorder = text("ReorderInput", "r", ["1x16x8x8"], ["1x16x8x8"])
    pool = text("GlobalAveragePool", "p", ["1x16x8x8"], ["1x16x1x1"])
    found = kernel_shares(kernels, [reorder, convolution, convolution, convolution, pool])
    assert found == [0, 1, 2, 3, 4]


def test_what_is_no_operator_of_the_model_counts_towards_its_reader():
    b = GraphBuilder("net")
    x = b.input((1, 7, 32))
    kernels = kernels_of(b, b.linear(x, 48))
    names = [
        text("Reshape", "in", ["1x7x32"], ["7x32"]),
        text("Gemm", "gemm", ["7x32", "48"], ["7x48"]),
        text("Reshape", "out", ["7x48"], ["1x7x48"]),
    ]
    found = owners(kernels, [parse_node(name) for name in names])
    assert [owner.kernel for owner in found] == [0, 0, 0]
    assert [owner.how for owner in found] == ["feeds", "is", "feeds"]


def test_a_transposition_of_the_whole_may_run_in_pieces():
    b = GraphBuilder("net")
    x = b.input((3, 4, 16))
    kernels = kernels_of(b, b.softmax(b.transpose(x, (1, 0, 2))))
    piece = text("Transpose", "t", ["1x4x16"], ["4x1x16"])
    soft = text("Softmax", "s", ["4x3x16"], ["4x3x16"])
    assert kernel_shares(kernels, [piece, piece, piece, soft]) == [0, 0, 0, 1]


def test_a_function_that_runs_as_two_nodes_is_one_kernel():
    b = GraphBuilder("net")
    x = b.input((1, 7, 32))
    kernels = kernels_of(b, b.activation(b.linear(x, 32), "hardswish"))
    names = [
        text("Gemm", "gemm", ["7x32", "32"], ["7x32"]),
        text("HardSigmoid", "h", ["1x7x32"], ["1x7x32"]),
        text("Mul", "m", ["1x7x32", "1x7x32"], ["1x7x32"]),
    ]
    found = owners(kernels, [parse_node(name) for name in names])
    assert [(o.kernel, o.how) for o in found] == [(0, "is"), (1, "is"), (1, "part")]


def test_a_node_of_nothing_known_belongs_to_nobody():
    b = GraphBuilder("net")
    kernels = kernels_of(b, b.softmax(b.input((1, 8))))
    assert kernel_shares(kernels, [text("Odd", "o", ["5"], ["7"])]) == [None]


torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from torch import nn  # noqa: E402

VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}


def block(channels, out, kernel=3, act=nn.ReLU, **kwargs):
    return nn.Sequential(nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False, **kwargs),
                         nn.BatchNorm2d(out), act())  # fmt: skip


class Residual(nn.Module):
    """The second addition finds an activation on both sides, so it stays by itself."""

    def __init__(self):
        super().__init__()
        self.stem, self.body = block(3, 16), block(16, 16)
        self.last, self.late = nn.Conv2d(16, 16, 1), block(16, 16, act=nn.LeakyReLU)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(x + self.last(self.body(x)))
        return (x + self.late(x)).mean((2, 3))


class Excited(nn.Module):
    """Squeeze and excite takes the image out of its blocks."""

    def __init__(self):
        super().__init__()
        self.stem = block(3, 24, act=nn.Hardswish)
        self.wise = block(24, 24, groups=24, act=nn.SiLU)
        self.down, self.up, self.out = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1), nn.Conv2d(24, 9, 1)

    def forward(self, x):
        x = self.wise(self.stem(x))
        s = torch.relu(self.down(nn.functional.adaptive_avg_pool2d(x, 1)))
        return self.out(x * torch.sigmoid(self.up(s)))


class Dense(nn.Module):
    """Concatenation, batch norms by themselves, and channels that fit no block."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(32)
        self.grow, self.odd = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(32, 18, 1)
        self.plain = nn.Conv2d(18, 18, 3, groups=18)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.norm(torch.cat([x, self.grow(x)], 1)))
        return torch.relu(self.plain(self.odd(x)))


class Twice(nn.Module):
    """A cell of a search space: the same function on the same tensor, a sum of branches."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.a, self.b, self.bn = (
            nn.Conv2d(16, 16, 3, padding=1),
            nn.Conv2d(16, 16, 1),
            nn.BatchNorm2d(16),
        )

    def forward(self, x):
        x = self.stem(x)
        x = nn.functional.max_pool2d(x, 2)
        a, b = self.a(torch.relu(x)), self.b(torch.relu(x))
        return torch.relu(self.bn(x) + (a + b))


class Attention(nn.Module):
    """A transformer block; the last norm takes the addition before it."""

    def __init__(self):
        super().__init__()
        self.norm, self.last = nn.LayerNorm(32), nn.LayerNorm(32)
        self.qkv, self.proj = nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).reshape(1, 9, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        y = (q * 8**-0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        x = x + self.proj(y.transpose(1, 2).reshape(1, 9, 32))
        return x + self.down(nn.functional.gelu(self.up(self.last(x))))


class Next(nn.Module):
    """Layer norm over channels: reordering that turns the image as well."""

    def __init__(self):
        super().__init__()
        self.stem, self.wise = (
            nn.Conv2d(3, 16, 4, stride=4),
            nn.Conv2d(16, 16, 7, padding=3, groups=16),
        )
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Conv2d(16, 64, 1), nn.Conv2d(64, 16, 1)
        self.gamma = nn.Parameter(torch.ones(16))

    def forward(self, x):
        x = self.stem(x)
        y = self.norm(self.wise(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = self.down(nn.functional.gelu(self.up(y))) * self.gamma.reshape(1, -1, 1, 1)
        return x + y


@pytest.mark.parametrize(
    ("make", "shape"),
    [(Residual, (1, 3, 16, 16)), (Excited, (1, 3, 16, 16)), (Dense, (1, 3, 16, 16)),
     (Twice, (1, 3, 18, 18)), (Attention, (1, 9, 32)), (Next, (2, 3, 32, 32))],
)  # fmt: skip
def test_kernels_are_what_the_installed_onnx_runtime_launches(make, shape, tmp_path):
    from predictor.frontends.onnx_export import export_onnx
    from predictor.frontends.torch_module import trace
    from predictor.profiling.runtimes import find

    torch.manual_seed(0)
    module = make().eval()
    exported = export_onnx(module, shape)
    runtime = find("onnxruntime")({"precision": "fp32", "threads": 1, "device": "cpu",
                                   "folder": str(tmp_path), "weights_bytes": exported.weights_bytes})  # fmt: skip
    program = runtime.load("net", exported.model_bytes)
    program.detail_run()
    names, _ = program.details()
    program.close()
    kernels = prepare(trace(module, shape), "fp32", "onnxruntime").kernels
    nodes = [parse_node(name) for name in names]
    found = owners(kernels, nodes)
    launched = [(node.op, owner.how) for node, owner in zip(nodes, found, strict=True)
                if node.op not in VIEWS]  # fmt: skip
    assert all(how == "is" for _, how in launched), launched
    missing = [k.kind for i, k in enumerate(kernels) if i not in {o.kernel for o in found}]
    assert missing == []
