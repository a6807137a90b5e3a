"""A space of tiny networks that the tests of accuracy signals stand on."""

from predictor.search.candidate import Candidate
from predictor.search.space import SearchSpace

PARAMETERS = {"width": (4, 8, 12, 16), "depth": (1, 2), "act": ("relu", "gelu", "dead")}


class Tiny(SearchSpace):
    """Convolutions of a width and an activation, or a network that ignores its input."""

    name = "tiny"
    parameters = PARAMETERS

    def input_shape(self, values):
        return (3, 8, 8)

    def module(self, values):
        from torch import nn

        acts = {"relu": nn.ReLU, "gelu": nn.GELU, "dead": Dead}
        layers, before = [], 3
        for _ in range(values["depth"]):
            layers += [nn.Conv2d(before, values["width"], 3, padding=1),
                       nn.BatchNorm2d(values["width"]), acts[values["act"]]()]  # fmt: skip
            before = values["width"]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                             nn.Linear(4 * before, 10))  # fmt: skip


def Dead():  # made when torch is there
    from torch import nn

    class Zero(nn.Module):
        def forward(self, x):
            return nn.functional.relu(x * 0)

    return Zero()


class Fixed:
    """A space of one network."""

    name, parameters = "fixed", {}

    def __init__(self, make, shape):
        self.make, self.shape = make, shape

    def key(self, values):
        return "fixed"

    def module(self, values):
        return self.make()

    def graph(self, values):
        from predictor.frontends.torch_module import trace

        return trace(self.make(), (1, *self.shape))


def tiny(prune=None, **values):
    given = {"width": 4, "depth": 1, "act": "relu", **values}
    return Candidate(Tiny(), given) if prune is None else Candidate(Tiny(), given, prune)
