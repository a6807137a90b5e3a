"""Small valid ONNX models, one or more for each operator family, built without any weights' data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper


class Net:
    """Builds a model call by call; every node is named after its first output."""

    def __init__(self, opset: int = 18, **inputs: Sequence[int | str]) -> None:
        self.opset, self.nodes, self.weights, self.functions = opset, [], [], []
        self.domains = {"": opset}
        self.inputs = [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name.startswith("ids") else TensorProto.FLOAT, shape
            )
            for name, shape in inputs.items()
        ]

    def w(self, *shape: int, dtype: int = TensorProto.FLOAT) -> str:
        """A weight of that shape whose data is absent."""
        name = f"w{len(self.weights)}"
        tensor = TensorProto(name=name, data_type=dtype, dims=shape)
        self.weights.append(tensor)
        return name

    def c(self, *values: float, dtype: str = "int64", scalar: bool = False) -> str:
        """A constant vector, or number."""
        name = f"c{len(self.weights)}"
        array = np.array(values[0] if scalar else values, dtype)
        self.weights.append(onnx.numpy_helper.from_array(array, name))
        return name

    def __call__(
        self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attrs: Any
    ) -> Any:
        names = [f"t{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        if domain:
            self.domains[domain] = 1
        self.nodes.append(
            helper.make_node(op, list(inputs), names, name=names[0], domain=domain, **attrs)
        )
        return names[0] if outputs == 1 else names

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The finished model."""
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "seed", self.inputs, infos, self.weights)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(d, v) for d, v in self.domains.items()],
            functions=self.functions,
            ir_version=9,
        )


def conv() -> onnx.ModelProto:
    b = Net(x=[2, 3, 17, 16])
    y = b("Conv", "x", b.w(8, 3, 3, 3), b.w(8), strides=[2, 2], pads=[1, 1, 1, 1])
    y = b("Relu", b("BatchNormalization", y, b.w(8), b.w(8), b.w(8), b.w(8)))
    y = b("Conv", y, b.w(8, 1, 3, 3), group=8, auto_pad="SAME_UPPER", dilations=[2, 2])
    return b.model(b("Conv", y, b.w(4, 8, 1, 1)))


def conv_1d_3d() -> onnx.ModelProto:
    b = Net(x=[1, 4, 30], z=[1, 2, 6, 7, 8])
    y = b("Conv", "x", b.w(6, 2, 5), group=2, strides=[3], pads=[0, 2])
    z = b("Conv", "z", b.w(3, 2, 3, 3, 3), auto_pad="VALID", kernel_shape=[3, 3, 3])
    return b.model(y, z)


def conv_transpose() -> onnx.ModelProto:
    b = Net(x=[1, 8, 7, 9])
    y = b("ConvTranspose", "x", b.w(8, 4, 4, 4), b.w(4), strides=[2, 2], pads=[1, 1, 1, 1])
    y = b("ConvTranspose", y, b.w(4, 3, 3, 3), strides=[2, 2], output_padding=[1, 1], group=2)
    return b.model(b("ConvTranspose", y, b.w(6, 2, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]))


def pools() -> onnx.ModelProto:
    b = Net(x=[2, 6, 15, 17])
    y = b("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    y = b("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER")
    y = b("LpPool", y, kernel_shape=[2, 2])
    return b.model(b("GlobalAveragePool", y), b("GlobalMaxPool", y))


def squeeze_excite() -> onnx.ModelProto:
    b = Net(x=[1, 16, 8, 8])
    s = b("ReduceMean", "x", b.c(2, 3), keepdims=1)
    s = b("Relu", b("Conv", s, b.w(4, 16, 1, 1), b.w(4)))
    s = b("HardSigmoid", b("Conv", s, b.w(16, 4, 1, 1), b.w(16)))
    y = b("Mul", "x", s)
    return b.model(b("HardSwish", b("Add", y, "x")))


def dense() -> onnx.ModelProto:
    b = Net(x=[4, 20])
    y = b("Gemm", "x", b.w(30, 20), b.w(30), transB=1)
    y = b("Tanh", b("Dropout", y))
    y = b("Add", b("MatMul", y, b.w(30, 10)), b.w(10))
    return b.model(b("Softmax", y, axis=-1))


def transformer() -> onnx.ModelProto:
    b = Net(x=["batch", 12, 32])
    h = b("LayerNormalization", "x", b.w(32), b.w(32), axis=-1)
    size = b("Shape", h)
    lead = b("Gather", size, b.c(0, scalar=True))
    lead = b("Unsqueeze", lead, b.c(0))
    shape = b("Concat", lead, b.c(12), b.c(4), b.c(8), axis=0)
    q, k, v = (
        b("Transpose", b("Reshape", b("MatMul", h, b.w(32, 32)), shape), perm=[0, 2, 1, 3])
        for _ in range(3)
    )
    scores = b("MatMul", q, b("Transpose", k, perm=[0, 1, 3, 2]))
    scores = b("Mul", scores, b.c(0.35, dtype="float32", scalar=True))
    y = b("MatMul", b("Softmax", scores, axis=-1), v)
    y = b("Reshape", b("Transpose", y, perm=[0, 2, 1, 3]), b.c(0, 0, -1))
    y = b("Add", b("Add", b("MatMul", y, b.w(32, 32)), b.w(32)), "x")
    return b.model(b("Erf", y))


def fused_attention() -> onnx.ModelProto:
    b = Net(x=[2, 10, 24])
    y = b("Attention", "x", b.w(24, 72), b.w(72), domain="com.microsoft", num_heads=3)
    y = b("SkipLayerNormalization", y, "x", b.w(24), b.w(24), domain="com.microsoft")
    y = b(
        "FastGelu",
        b("FusedMatMul", y, b.w(48, 24), domain="com.microsoft", transB=1),
        domain="com.microsoft",
    )
    return b.model(b("MultiHeadAttention", y, y, y, domain="com.microsoft", num_heads=4))


def attention_23() -> onnx.ModelProto:
    b = Net(opset=23, q=[1, 8, 6, 16], k=[1, 2, 9, 16], v=[1, 2, 9, 12])
    y = b("Attention", "q", "k", "v", is_causal=1)
    return b.model(b("RMSNormalization", y, b.w(12)))


def recurrent() -> onnx.ModelProto:
    b = Net(x=[7, 2, 10])
    y = b(
        "LSTM",
        "x",
        b.w(2, 48, 10),
        b.w(2, 48, 12),
        b.w(2, 96),
        outputs=3,
        hidden_size=12,
        direction="bidirectional",
    )[0]
    y = b("Reshape", b("Transpose", y, perm=[0, 2, 1, 3]), b.c(0, 0, -1))
    y = b("Squeeze", b("GRU", y, b.w(1, 18, 24), b.w(1, 18, 6), hidden_size=6), b.c(1))
    return b.model(b("RNN", y, b.w(1, 5, 6), b.w(1, 5, 5), b.w(1, 10), hidden_size=5))


def norms() -> onnx.ModelProto:
    b = Net(opset=21, x=[2, 8, 5, 5])
    y = b("GroupNormalization", "x", b.w(8), b.w(8), num_groups=2)
    y = b("InstanceNormalization", y, b.w(8), b.w(8))
    y = b("LRN", y, size=5)
    y = b("LpNormalization", b("MeanVarianceNormalization", y), axis=1)
    return b.model(y)


def activations() -> onnx.ModelProto:
    b = Net(opset=20, x=[3, 40])
    y = "x"
    for op in [
        "Sigmoid",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "Softplus",
        "Softsign",
        "ThresholdedRelu",
        "Mish",
        "Gelu",
        "Hardmax",
        "LogSoftmax",
    ]:
        y = b(op, y)
    y = b("PRelu", y, b.w(40))
    return b.model(
        b("Clip", y, b.c(0.0, dtype="float32", scalar=True), b.c(6.0, dtype="float32", scalar=True))
    )


def arithmetic() -> onnx.ModelProto:
    b = Net(x=[2, 1, 6], z=[5, 1])
    y = b("Add", b("Sub", "x", "z"), b("Mul", "x", "z"))
    y = b("Div", b("Pow", y, b.c(2.0, dtype="float32", scalar=True)), b("Exp", y))
    y = b("Max", b("Min", y, "z"), b("Sqrt", b("Abs", y)))
    mask = b("Greater", y, "z")
    y = b("Where", b("Not", mask), y, b("Neg", y))
    return b.model(b("Cast", b("Floor", y), to=TensorProto.FLOAT16))


def reductions() -> onnx.ModelProto:
    b = Net(x=[4, 5, 6])
    y = b("ReduceSum", "x", b.c(-1), keepdims=0)
    z = b("ReduceMax", "x", b.c(0, 1), keepdims=1)
    a = b("ArgMax", "x", axis=1, keepdims=0)
    top = b("TopK", "x", b.c(3), outputs=2, axis=-1)
    return b.model(b("CumSum", y, b.c(0, scalar=True)), z, a, top[0], b("ReduceL2", "x"))


def movement() -> onnx.ModelProto:
    b = Net(x=[2, 12, 8])
    y = b("Slice", "x", b.c(1), b.c(9), b.c(1), b.c(3))
    first, second = b("Split", "x", b.c(4, 8), outputs=2, axis=1)
    y = b("Concat", y, first, second, axis=1)
    y = b("Pad", y, b.c(0, 1, 2, 0, 1, 2))
    y = b("Tile", b("Unsqueeze", b("Flatten", y, axis=2), b.c(0)), b.c(2, 1, 1))
    y = b("Expand", y, b.c(2, 2, 1, 1))
    return b.model(b("Trilu", b("Identity", y)))


def gathers() -> onnx.ModelProto:
    b = Net(ids=[2, 9])
    y = b("Gather", b.w(100, 16), "ids", axis=0)
    z = b("Gather", y, b.c(0, scalar=True), axis=1)
    n = b("GatherND", y, b.w(4, 2, dtype=TensorProto.INT64))
    o = b("OneHot", "ids", b.c(10, scalar=True), b.c(0.0, 1.0, dtype="float32"))
    s = b("ScatterND", y, b.w(3, 1, dtype=TensorProto.INT64), b.w(3, 9, 16))
    return b.model(
        z, n, o, s, b("GatherElements", y, b.w(2, 9, 4, dtype=TensorProto.INT64), axis=2)
    )


def resizing() -> onnx.ModelProto:
    b = Net(x=[1, 8, 6, 7])
    y = b("Resize", "x", "", b.c(1, 1, 2, 2, dtype="float32"), mode="linear")
    y = b("Resize", y, "", "", b.c(1, 8, 5, 5), mode="nearest")
    y = b("DepthToSpace", y, blocksize=2)
    y = b("SpaceToDepth", b("Resize", y, "", "", b.c(1, 2, 12, 12), mode="cubic"), blocksize=3)
    return b.model(y)


def sampling() -> onnx.ModelProto:
    b = Net(x=[2, 3, 9, 9], grid=[2, 4, 5, 2], rois=[6, 4])
    y = b("GridSample", "x", "grid")
    r = b("RoiAlign", "x", "rois", b.w(6, dtype=TensorProto.INT64), output_height=3, output_width=2)
    return b.model(y, r)


def einsums() -> onnx.ModelProto:
    b = Net(x=[2, 3, 4, 5], z=[2, 3, 6, 5])
    y = b("Einsum", "x", "z", equation="bhid,bhjd->bhij")
    return b.model(b("Einsum", y, equation="bhij->bhji"))


def quantised() -> onnx.ModelProto:
    b = Net(x=[1, 4, 8, 8])
    scale, zero = b.c(0.1, dtype="float32", scalar=True), b.c(0, dtype="int8", scalar=True)
    q = b("QuantizeLinear", "x", scale, zero)
    y = b("DequantizeLinear", q, scale, zero)
    w = b("DequantizeLinear", b.w(6, 4, 3, 3, dtype=TensorProto.INT8), scale, zero)
    y = b("Conv", y, w)
    q = b(
        "QLinearConv",
        q,
        scale,
        zero,
        b.w(5, 4, 1, 1, dtype=TensorProto.INT8),
        scale,
        zero,
        scale,
        zero,
    )
    return b.model(y, b("DequantizeLinear", q, scale, zero))


def dynamic_output() -> onnx.ModelProto:
    b = Net(boxes=[1, 20, 4], scores=[1, 3, 20], x=[5, 6])
    y = b("NonMaxSuppression", "boxes", "scores", b.c(7, scalar=True))
    return b.model(y, b("NonZero", "x"), b("Cast", b("Transpose", b("NonZero", "x")), to=1))


def control() -> onnx.ModelProto:
    b = Net(x=[3, 4])
    flag = b("Equal", b("ReduceSum", "x"), b.c(0.0, dtype="float32", scalar=True))
    out = helper.make_tensor_value_info("r", TensorProto.FLOAT, [3, 4])
    branches = [
        helper.make_graph([helper.make_node(op, ["x"], ["r"], name=op)], op, [], [out])
        for op in ("Relu", "Tanh")
    ]
    return b.model(b("If", flag, then_branch=branches[0], else_branch=branches[1]))


def loop() -> onnx.ModelProto:
    b = Net(x=[3, 4])
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go2"]),
         helper.make_node("Sigmoid", ["s"], ["s2"], name="body")], "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []),
         info("s", TensorProto.FLOAT, [3, 4])],
        [info("go2", TensorProto.BOOL, []), info("s2", TensorProto.FLOAT, [3, 4])],
    )  # fmt: skip
    return b.model(b("Loop", b.c(5, scalar=True), "", "x", body=body))


def functions() -> onnx.ModelProto:
    b = Net(x=[2, 8])
    b.functions.append(helper.make_function(
        "local", "Block", ["a", "w"], ["o"],
        [helper.make_node("MatMul", ["a", "w"], ["m"], name="inner"),
         helper.make_node("Relu", ["m"], ["o"], name="act")],
        [helper.make_opsetid("", 18)],
    ))  # fmt: skip
    y = b("Block", "x", b.w(8, 8), domain="local")
    return b.model(b("Block", y, b.w(8, 3), domain="local"))


def shape_chain() -> onnx.ModelProto:
    b = Net(x=["n", 5, 10, 12])
    size = b("Shape", "x")
    h = b("Slice", size, b.c(2), b.c(3), b.c(0))
    half = b("Cast", b("Floor", b("Div", b("Cast", h, to=1), b.c(2.0, dtype="float32"))), to=7)
    shape = b("Concat", b.c(-1), half, b("Mul", half, b.c(2)), axis=0)
    y = b("Reshape", "x", b("Where", b("Equal", shape, b.c(0)), b.c(1), shape))
    zeros = b(
        "ConstantOfShape", b("Shape", y), value=onnx.numpy_helper.from_array(np.zeros(1, "float32"))
    )
    return b.model(
        b("Add", y, zeros), b("Range", b.c(0, scalar=True), b("Squeeze", h), b.c(2, scalar=True))
    )


def signal() -> onnx.ModelProto:
    b = Net(opset=17, x=[2, 64, 1], y=[2, 64, 1])
    s = b("STFT", "x", b.c(16, scalar=True), "", b.c(32, scalar=True), onesided=1)
    return b.model(s, b("DFT", "y", axis=1, onesided=1))


SEEDS: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        conv,
        conv_1d_3d,
        conv_transpose,
        pools,
        squeeze_excite,
        dense,
        transformer,
        fused_attention,
        attention_23,
        recurrent,
        norms,
        activations,
        arithmetic,
        reductions,
        movement,
        gathers,
        resizing,
        sampling,
        einsums,
        quantised,
        dynamic_output,
        control,
        loop,
        functions,
        shape_chain,
        signal,
    )
}
