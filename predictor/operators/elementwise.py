"""Activations, element-wise arithmetic, softmax, reductions, scans.

Element-wise operations an element: 1 for a comparison, sum, product or clamp; for functions built
of several, the number of basic operations in their definition (sigmoid 4: negate, exp, add,
divide; silu 5; gelu 8; hard-swish 4; softmax 5: max, subtract, exp, sum, divide).
"""

from __future__ import annotations

from predictor.operators.base import (
    AtenCall,
    AtenRule,
    Attrs,
    Cost,
    Draft,
    Family,
    Kind,
    OnnxNode,
    OnnxRule,
    per_input,
)

ACTIVATION_FLOPS = {
    "relu": 1, "relu6": 2, "leaky_relu": 2, "prelu": 2, "elu": 4, "celu": 5, "selu": 5,
    "sigmoid": 4, "silu": 5, "gelu": 8, "tanh": 5, "hardtanh": 2, "hardsigmoid": 3, "hardswish": 4,
    "mish": 9, "softplus": 3, "softsign": 3, "logsigmoid": 5, "glu": 5, "threshold": 1,
    "hardshrink": 2, "softshrink": 2, "rrelu": 2,
}  # fmt: skip

UNARY = (
    "abs neg sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh "
    "asinh acosh atanh erf erfc erfinv floor ceil round trunc frac sign sgn reciprocal square "
    "logical_not bitwise_not isnan isinf isfinite signbit logit sinc nan_to_num "
    "positive relu_backward special_expit digamma lgamma"
).split()
BINARY = (
    "add sub rsub mul div true_divide floor_divide remainder fmod pow maximum minimum max min "
    "fmax fmin atan2 eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or "
    "bitwise_xor bitwise_left_shift bitwise_right_shift __and__ __or__ __xor__ __lshift__ "
    "__rshift__ float_power xlogy hypot lerp where clamp clamp_min clamp_max masked_fill addcmul "
    "addcdiv dropout native_dropout bernoulli copysign heaviside polar complex isin "
    "special_xlog1py nextafter gcd lcm"
).split()
REDUCTIONS = (
    "sum mean prod amax amin var std var_mean std_mean norm linalg_vector_norm all any argmax "
    "argmin logsumexp median nansum nanmean aminmax count_nonzero max.dim min.dim "
    "max.default min.default mode dist _cdist_forward cdist"
).split()


def activation_cost(op: Draft) -> Cost:
    """``attrs["fn"]`` is a key of :data:`ACTIVATION_FLOPS`."""
    return Cost(0, ACTIVATION_FLOPS[op.attrs["fn"]] * op.outputs[0].numel)


def elementwise_cost(op: Draft) -> Cost:
    """One operation an output element (fused multiply-adds such as lerp: one a term)."""
    return Cost(0, op.outputs[0].numel if op.outputs else 0)


def _hardtanh(call: AtenCall) -> tuple[str, Attrs]:
    bounds = (call.get(1, "min_val", -1), call.get(2, "max_val", 1))
    return "activation", {"fn": "relu6" if bounds == (0, 6) else "hardtanh"}


def _table() -> dict[str, AtenRule]:
    rules: dict[str, AtenRule] = {}
    for name in UNARY + BINARY:
        rules[f"aten.{name}"] = ("elementwise", {"fn": name})
    for name in ACTIVATION_FLOPS:
        rules[f"aten.{name}"] = ("activation", {"fn": name})
    for name in REDUCTIONS:
        rules[f"aten.{name}"] = ("reduce", {"fn": name.split(".")[0]})
    rules["aten.prelu"] = rules["aten._prelu_kernel"] = ("activation", {"fn": "prelu"})
    rules["aten.hardtanh"] = _hardtanh
    rules["aten.rrelu_with_noise"] = ("activation", {"fn": "rrelu"})
    rules["aten.log_sigmoid_forward"] = ("activation", {"fn": "logsigmoid"})
    for name in ("_softmax", "softmax", "_safe_softmax", "_masked_softmax"):
        rules[f"aten.{name}"] = ("softmax", {})
    for name in ("_log_softmax", "log_softmax"):
        rules[f"aten.{name}"] = ("softmax", {"log": True})
    for name in ("cumsum", "cumprod", "logcumsumexp", "cummax", "_cummax_helper"):
        rules[f"aten.{name}"] = ("scan", {"fn": name})
    return rules


def _onnx_clip(node: OnnxNode) -> tuple[str, Attrs]:
    low = node.constants.get(1, (node.attributes.get("min"),))
    high = node.constants.get(2, (node.attributes.get("max"),))
    if tuple(low) == (0.0,) and tuple(high) == (6.0,):
        return "activation", {"fn": "relu6"}
    return "elementwise", {"fn": "clamp"}


def _onnx_table() -> dict[str, OnnxRule]:
    activations = {
        "Relu": "relu", "LeakyRelu": "leaky_relu", "PRelu": "prelu", "Elu": "elu", "Celu": "celu",
        "Selu": "selu", "Sigmoid": "sigmoid", "Gelu": "gelu", "FastGelu": "gelu", "Tanh": "tanh",
        "HardSigmoid": "hardsigmoid", "HardSwish": "hardswish", "Mish": "mish", "Swish": "silu",
        "Softplus": "softplus", "Softsign": "softsign", "ThresholdedRelu": "threshold",
        "Shrink": "softshrink", "QuickGelu": "silu", "BiasGelu": "gelu",
    }  # fmt: skip
    elementwise = (
        "Add Sub Mul Div Pow Mod Max Min Mean Sum Abs Neg Sqrt Reciprocal Exp Log Sin Cos Tan Asin "
        "Acos Atan Sinh Cosh Asinh Acosh Atanh Erf Floor Ceil Round Sign Not And Or Xor BitwiseAnd "
        "BitwiseOr BitwiseXor BitwiseNot BitShift Equal Greater GreaterOrEqual Less LessOrEqual "
        "Where Clip IsNaN IsInf Dropout QuantizeLinear DequantizeLinear DynamicQuantizeLinear "
        "BiasAdd Bernoulli Affine Scale RotaryEmbedding"
    ).split()
    rules: dict[str, OnnxRule] = {k: ("activation", {"fn": v}) for k, v in activations.items()}
    rules.update({name: ("elementwise", {"fn": name.lower()}) for name in elementwise})
    for name in ("Sum Max Min Prod L1 L2 LogSum LogSumExp SumSquare").split():
        rules[f"Reduce{name}"] = ("reduce", {"fn": name.lower()})
    rules["ArgMax"] = rules["ArgMin"] = ("reduce", {"fn": "argmax"})
    rules["Softmax"], rules["LogSoftmax"] = ("softmax", {}), ("softmax", {"log": True})
    rules["Hardmax"] = ("softmax", {})
    rules["Clip"] = _onnx_clip
    rules["CumSum"] = ("scan", {"fn": "cumsum"})
    return rules


FAMILY = Family(
    kinds=(
        Kind("activation", activation_cost),
        Kind("elementwise", elementwise_cost),
        Kind("softmax", per_input(5)),
        Kind("reduce", per_input(1)),
        Kind("scan", per_input(1)),
    ),
    aten=_table(),
    onnx=_onnx_table(),
)
