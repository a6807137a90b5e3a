"""What a plan can draw: random sub-networks of the search spaces, and medleys of perturbed layers.

A medley is a small module of unrelated layers, each on an input of its own, so that every layer
finds its input where a producer would have left it. Its layers are those of known networks with
other channels, sizes, kernels, groups and batches, so that what is asked later lies between what
was measured.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from predictor.graph import Graph, Op

if TYPE_CHECKING:
    from torch import Tensor, nn

LAYERS_A_MEDLEY = 10
LARGEST_MACS = 4e8
"""Per layer: a medley should take about as long as a small network."""
LARGEST_ELEMENTS = 4e6
FACTORS = (0.25, 0.5, 0.7, 0.85, 1.0, 1.0, 1.2, 1.5, 2.0)
ODD_CHANCE = 0.15
"""Share of channel counts that are no multiple of anything: remainders of vectors and tiles."""
ACTIVATIONS = ("relu", "hardswish", "silu", "gelu", "sigmoid", "hardsigmoid", "relu6", "none")


def random_key(space: str, chance: random.Random) -> str:
    """A random network of ``ofa``, ``fbnet`` or ``nasbench201``, by its name."""
    if space == "ofa":
        from predictor.frontends.families.ofa import DEPTHS, EXPANSIONS, KERNELS, SubNet

        net = SubNet(
            tuple(chance.choice(KERNELS) for _ in range(20)),
            tuple(chance.choice(EXPANSIONS) for _ in range(20)),
            tuple(chance.choice(DEPTHS) for _ in range(5)),
            chance.choice(range(128, 225, 16)), chance.choice((1.0, 1.0, 1.2)),
        )  # fmt: skip
        return f"ofa:{net.key}"
    if space == "fbnet":
        from predictor.frontends.families.fbnet import BLOCKS, CHOICES, Blocks

        names = list(CHOICES)
        return f"fbnet:{Blocks(tuple(chance.choice(names) for _ in range(BLOCKS))).key}"
    from predictor.frontends.families.nasbench201 import OPERATIONS, Cell

    return f"nasbench201:{Cell(tuple(chance.choice(OPERATIONS) for _ in range(6))).key}"


def medleys(
    graphs: Sequence[Graph], count: int, chance: random.Random, classes: Sequence[str] = ()
) -> list[list[dict[str, Any]]]:
    """``count`` medleys, each a list of layer descriptions drawn from the operators of ``graphs``.

    ``classes`` are kinds of operators to draw more of, where measurements say that they are
    predicted badly; each counts as one more share.
    """
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for graph in graphs:
        for op in graph.ops:
            layer = described(op)
            if layer is not None:
                by_kind.setdefault(layer["layer"], []).append(layer)
    kinds = sorted(by_kind)
    weights = [(3.0 if kind in ("conv", "linear") else 1.0) + 3.0 * classes.count(kind)
               for kind in kinds]  # fmt: skip
    made: list[list[dict[str, Any]]] = []
    while kinds and len(made) < count:
        layers: list[dict[str, Any]] = []
        while len(layers) < LAYERS_A_MEDLEY:
            kind = chance.choices(kinds, weights)[0]
            layer = perturbed(chance.choice(by_kind[kind]), chance)
            if layer is not None:
                layers.append(layer)
        made.append(layers)
    return made


def described(op: Op) -> dict[str, Any] | None:
    """A layer like ``op``, None where medleys have none."""
    if not op.inputs or not op.outputs:
        return None
    shape = list(op.inputs[0].shape)
    if op.kind == "conv" and len(shape) == 4 and not op.attrs.get("transposed"):
        return {"layer": "conv", "shape": shape, "out": op.outputs[0].shape[1],
                "kernel": op.attrs["kernel"][0], "stride": op.attrs["stride"][0],
                "groups": op.attrs["groups"], "act": "relu"}  # fmt: skip
    if op.kind == "linear" and len(shape) > 1:
        return {"layer": "linear", "shape": shape, "out": op.outputs[0].shape[-1], "act": "gelu"}
    if op.kind == "matmul" and len(shape) > 2 and len(op.inputs) > 1:
        return {"layer": "matmul", "shape": shape, "other": list(op.inputs[1].shape)}
    if op.kind == "attention" and len(shape) == 4:
        return {"layer": "attention", "shape": shape}
    if op.kind == "norm" and op.attrs.get("type") in ("layer", "group") and len(shape) > 1:
        return {"layer": f"{op.attrs['type']}_norm", "shape": shape}
    if op.kind == "pool" and len(shape) == 4 and "kernel" in op.attrs:
        kernel = op.attrs["kernel"][0]
        if kernel <= 7:
            return {"layer": "pool", "shape": shape, "kernel": kernel,
                    "stride": op.attrs.get("stride", (1,))[0],
                    "mode": "max" if "max" in op.target else "avg"}  # fmt: skip
    if op.kind == "softmax" and len(shape) > 1:
        return {"layer": "softmax", "shape": shape}
    if op.kind == "reduce" and len(shape) == 4:
        return {"layer": "mean", "shape": shape}
    if op.kind == "concat" and len(shape) == 4:
        return {"layer": "concat", "shape": shape, "other": list(op.inputs[-1].shape)}
    if op.kind in ("elementwise", "activation") and math.prod(shape) > 1000:
        word = "add" if op.kind == "elementwise" else "act"
        return {"layer": word, "shape": shape, "act": "relu"}
    return None


def _scaled(size: int, chance: random.Random) -> int:
    value = max(1, round(size * chance.choice(FACTORS)))
    if chance.random() < ODD_CHANCE:
        return value
    step = 8 if value >= 16 else 1
    return max(1, round(value / step) * step)


def perturbed(layer: dict[str, Any], chance: random.Random) -> dict[str, Any] | None:
    """``layer`` with other sizes; None where that would be too large."""
    made = dict(layer, shape=list(layer["shape"]))
    shape = made["shape"]
    if chance.random() < 0.15:
        shape[0] = shape[0] * chance.choice((2, 4))
    if len(shape) == 4 and made["layer"] not in ("matmul", "attention", "softmax"):
        factor = chance.choice(FACTORS)
        shape[2] = shape[3] = max(3, min(240, round(shape[2] * factor)))
    made["act"] = chance.choice(ACTIVATIONS)
    if made["layer"] == "conv":
        _conv(made, chance)
    elif made["layer"] == "linear":
        shape[-1], made["out"] = _scaled(shape[-1], chance), _scaled(made["out"], chance)
        if len(shape) == 3:
            shape[1] = _scaled(shape[1], chance)
    elif made["layer"] == "matmul":
        rows, inner, columns = (_scaled(n, chance) for n in (*shape[-2:], made["other"][-1]))
        made["shape"] = shape = [*shape[:-2], rows, inner]
        made["other"] = [*shape[:-2], inner, columns]
    elif made["layer"] == "attention":
        shape[2] = _scaled(shape[2], chance)
    elif made["layer"] == "concat":
        made["other"] = [shape[0], _scaled(made["other"][1], chance), *shape[2:]]
    elif made["layer"] == "group_norm":
        shape[1] = max(8, round(shape[1] / 8) * 8)
    elif len(shape) > 1 and made["layer"] != "softmax":
        axis = 1 if len(shape) == 4 else len(shape) - 1
        shape[axis] = _scaled(shape[axis], chance)
    return made if _fits(made) else None


def _conv(made: dict[str, Any], chance: random.Random) -> None:
    shape, groups = made["shape"], made["groups"]
    channels = shape[1]
    if groups == channels and groups > 1:
        shape[1] = made["groups"] = _scaled(channels, chance)
        made["out"] = shape[1] * max(1, made["out"] // channels)
    elif groups == 1:
        shape[1], made["out"] = _scaled(channels, chance), _scaled(made["out"], chance)
    else:
        width = _scaled(max(1, channels // groups), chance)
        shape[1], made["out"] = width * groups, width * groups
    if made["kernel"] > 1 and chance.random() < 0.4:
        made["kernel"] = chance.choice((3, 3, 5, 7))
    if made["kernel"] > 1 and chance.random() < 0.2:
        made["stride"] = 3 - made["stride"] if made["stride"] in (1, 2) else made["stride"]
    made["kernel"] = min(made["kernel"], shape[2] // 2 * 2 + 1)
    made["stride"] = min(made["stride"], made["kernel"]) if made["kernel"] > 1 else made["stride"]


def _fits(layer: dict[str, Any]) -> bool:
    elements = math.prod(layer["shape"])
    if elements > LARGEST_ELEMENTS or min(layer["shape"]) < 1:
        return False
    per_input = {
        "conv": layer.get("out", 0) * layer.get("kernel", 1) ** 2 / layer.get("groups", 1),
        "linear": layer.get("out", 0), "matmul": layer.get("other", [0])[-1],
        "attention": 2 * layer["shape"][-2] if len(layer["shape"]) > 1 else 0,
    }  # fmt: skip
    macs = elements * per_input.get(layer["layer"], 0) / layer.get("stride", 1) ** 2
    return bool(macs <= LARGEST_MACS)


def medley_module(layers: Sequence[dict[str, Any]]) -> tuple[nn.Module, tuple[Any, ...]]:
    """The medley as a module on the meta device, and the shapes of its inputs."""
    import torch
    from torch import nn

    class Medley(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(_layer(layer) for layer in layers)

        def forward(self, *tensors: Tensor) -> list[Tensor]:
            left = list(tensors)
            results = []
            for layer, part in zip(layers, self.parts, strict=True):
                count = _arity(layer)
                results.append(part(*left[:count]))
                left = left[count:]
            return results

    with torch.device("meta"):
        module = Medley().eval()
    shapes: list[tuple[int, ...]] = []
    for layer in layers:
        shapes.append(tuple(layer["shape"]))
        if _arity(layer) > 1:
            shapes.append(tuple(layer.get("other", layer["shape"])))
        if _arity(layer) > 2:
            shapes.append(tuple(layer["shape"]))
    return module, tuple(shapes)


def _arity(layer: dict[str, Any]) -> int:
    return {"matmul": 2, "add": 2, "concat": 2, "attention": 3}.get(layer["layer"], 1)


def _activation(name: str) -> list[nn.Module]:
    from torch import nn

    made: dict[str, Any] = {
        "relu": nn.ReLU, "hardswish": nn.Hardswish, "silu": nn.SiLU, "gelu": nn.GELU,
        "sigmoid": nn.Sigmoid, "hardsigmoid": nn.Hardsigmoid, "relu6": nn.ReLU6,
    }  # fmt: skip
    return [made[name]()] if name in made else []


def _layer(layer: dict[str, Any]) -> nn.Module:
    import torch
    from torch import nn

    word, shape = layer["layer"], layer["shape"]
    if word == "conv":
        conv = nn.Conv2d(shape[1], layer["out"], layer["kernel"], layer["stride"],
                         layer["kernel"] // 2, groups=layer["groups"], bias=False)  # fmt: skip
        return nn.Sequential(conv, nn.BatchNorm2d(layer["out"]), *_activation(layer["act"]))
    if word == "linear":
        return nn.Sequential(nn.Linear(shape[-1], layer["out"]), *_activation(layer["act"]))
    if word == "layer_norm":
        return nn.LayerNorm(shape[-1])
    if word == "group_norm":
        return nn.GroupNorm(8 if shape[1] % 8 == 0 else 1, shape[1])
    if word == "pool":
        kind = nn.MaxPool2d if layer["mode"] == "max" else nn.AvgPool2d
        kernel = min(layer["kernel"], shape[2])
        return kind(kernel, layer["stride"], kernel // 2)
    if word == "act":
        return nn.Sequential(*(_activation(layer["act"]) or [nn.Tanh()]))
    calls: dict[str, Any] = {
        "matmul": torch.matmul, "add": torch.add, "softmax": lambda x: x.softmax(-1),
        "mean": lambda x: x.mean((2, 3)), "concat": lambda x, y: torch.cat([x, y], 1),
        "attention": torch.nn.functional.scaled_dot_product_attention,
    }  # fmt: skip

    class Calls(nn.Module):
        def forward(self, *tensors: Tensor) -> Tensor:
            result: Tensor = calls[word](*tensors)
            return result

    return Calls()
