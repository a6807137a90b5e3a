"""Vision transformers: depth, width, heads, MLP ratio, patch and resolution.

Source: Dosovitskiy et al., "An Image Is Worth 16x16 Words", ICLR 2021: patches by one convolution,
a class token and learned positions, pre-norm layers of attention (queries, keys and values by one
product) and a GELU MLP, a norm and a linear layer over the class token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from predictor.builder import GraphBuilder
from predictor.builder import Value as Tensor
from predictor.errors import ConfigError
from predictor.front import Value, Values
from predictor.frontends.families.parts import Part, part
from predictor.search.space import SearchSpace

CLASSES = 1000
PARAMETERS: dict[str, tuple[Value, ...]] = {
    "resolution": (160, 192, 224, 256, 288), "patch": (8, 16, 32),
    "depth": tuple(range(2, 25, 2)),
    "width": (128, 192, 256, 320, 384, 448, 512, 576, 640, 768, 1024),
    "heads": (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16), "mlp_ratio": (2.0, 2.5, 3.0, 3.5, 4.0),
}  # fmt: skip


class VisionTransformer(SearchSpace):
    """``patch`` and ``resolution`` are pixels a side, ``mlp_ratio`` times ``width`` is the MLP's
    inside. Heads that do not divide the width stand for the nearest number that does.

    ViT-B/16 is ``resolution=224,patch=16,depth=12,width=768,heads=12,mlp_ratio=4``.
    """

    name = "vit"
    parameters = PARAMETERS

    def input_shape(self, values: Values) -> tuple[int, ...]:
        """RGB images of the resolution."""
        side = int(values["resolution"])
        return (3, side, side)

    def canonical(self, values: Values) -> dict[str, Value]:
        """Heads divide the width."""
        found = super().canonical(values)
        found["heads"] = dividing(int(found["width"]), found["heads"], self.parameters["heads"])
        return found

    def narrowed(self, choices: Mapping[str, Sequence[Value]]) -> SearchSpace:
        """As in :class:`SearchSpace`; some number of heads must divide every width."""
        other = super().narrowed(choices)
        for width in other.parameters["width"]:
            dividing(int(width), 1, other.parameters["heads"])
        return other

    def chain(self, values: Values) -> Sequence[tuple[str, Part]]:
        """Patches, layers, head."""
        own = self.canonical(values)
        width, heads = int(own["width"]), int(own["heads"])
        layer = part(_layer, heads, int(width * float(own["mlp_ratio"])))
        return [("patches", part(_patches, width, int(own["patch"]))),
                *((f"layers.{index}", layer) for index in range(int(own["depth"]))),
                ("", part(_head))]  # fmt: skip


def dividing(whole: int, wanted: Value, known: Sequence[Value], even: bool = False) -> int:
    """The value of ``known`` nearest to ``wanted`` that divides ``whole``, the smaller of two;
    into an ``even`` number if asked for.

    Raises:
        ConfigError: none does.
    """
    step = 2 if even else 1
    fits = [int(n) for n in known if whole % (int(n) * step) == 0]
    if not fits:
        raise ConfigError(f"{whole} channels cannot be split into {_either(known)} heads; allow "
                          "another number of heads or another width")  # fmt: skip
    return min(fits, key=lambda n: (abs(n - int(wanted)), n))


def _either(known: Sequence[Value]) -> str:
    return " or ".join(str(value) for value in known)


def _patches(b: GraphBuilder, x: Tensor, name: str, width: int, patch: int) -> Tensor:
    x = b.conv(x, width, patch, stride=patch, name=name)
    x = b.reshape(x, (*x.shape[:2], x.shape[2] * x.shape[3]), name=f"{name}.flatten")
    x = b.transpose(x, (0, 2, 1), name=f"{name}.rows")
    batch, steps, _ = x.shape
    x = b.op("concat", [x], [(batch, steps + 1, width)], name="class_token", attrs={"axis": 1},
             weights=[("weight", (1, 1, width), "parameter")])[0]  # fmt: skip
    return b.op("elementwise", [x], [x.shape], name="positions", attrs={"fn": "add"},
                weights=[("weight", (1, steps + 1, width), "parameter")])[0]  # fmt: skip


def _layer(b: GraphBuilder, x: Tensor, name: str, heads: int, inside: int) -> Tensor:
    y = _attention(b, b.layer_norm(x, name=f"{name}.norm_1"), f"{name}.attention", heads)
    x = b.add(x, y, name=f"{name}.add_1")
    y = b.linear(b.layer_norm(x, name=f"{name}.norm_2"), inside, name=f"{name}.mlp.in")
    y = b.activation(y, "gelu", name=f"{name}.mlp.gelu")
    y = b.linear(y, x.shape[-1], name=f"{name}.mlp.out")
    return b.add(x, y, name=f"{name}.add_2")


def _attention(b: GraphBuilder, x: Tensor, name: str, heads: int) -> Tensor:
    batch, steps, width = x.shape
    qkv = b.linear(x, 3 * width, name=f"{name}.qkv")
    split = []
    for word, y in zip("qkv", b.split(qkv, [width] * 3, 2, name=f"{name}.split"), strict=True):
        y = b.reshape(y, (batch, steps, heads, width // heads), name=f"{name}.{word}_heads")
        split.append(b.transpose(y, (0, 2, 1, 3), name=f"{name}.{word}_first"))
    y = b.attention(split[0], split[1], split[2], name=name)
    y = b.transpose(y, (0, 2, 1, 3), name=f"{name}.heads_last")
    y = b.op("copy", [y], [y.shape], name=f"{name}.copy", attrs={"fn": "clone"})[0]
    return b.linear(b.reshape(y, x.shape, name=f"{name}.join"), width, name=f"{name}.out")


def _head(b: GraphBuilder, x: Tensor, _: str) -> Tensor:
    x = b.layer_norm(x, name="norm")
    x = b.op("slice", [x], [(x.shape[0], x.shape[2])], name="first", attrs={"axis": 1})[0]
    return b.linear(x, CLASSES, name="head")
