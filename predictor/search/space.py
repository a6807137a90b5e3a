"""What can be searched: parameters with their values, and the network that each choice makes.

A space is one file in ``predictor/search/spaces`` or a user's own class:

    class MySpace(SearchSpace):
        name = "mine"
        parameters = {"width": (16, 24, 32), "depth": (1, 2, 3)}

        def input_shape(self, values): return (3, 96, 96)

        def module(self, values): return MyNet(values["width"], values["depth"])

A space that also says its :meth:`SearchSpace.chain` is costed without building or tracing the
module, thousands of candidates a second.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from predictor.builder import GraphBuilder
from predictor.errors import ConfigError, suggest
from predictor.front import Value, Values
from predictor.frontends.families.parts import Part, assembled
from predictor.graph import Graph

if TYPE_CHECKING:
    from torch import nn

LARGEST_KEY = 20_000
"""Characters of a key; more is a mistake."""


class SearchSpace(ABC):
    """Parameters, and what network each choice of their values is.

    ``name`` is what results call the space, ``parameters`` the values of each parameter, in an
    order that means something where there is one (numbers ascend). ``source`` is what a
    configuration calls a network of the space (``ofa`` in ``ofa:KEY``), empty where its layers
    have to be written out.
    """

    name: str = ""
    source: str = ""
    parameters: Mapping[str, tuple[Value, ...]] = {}

    @abstractmethod
    def input_shape(self, values: Values) -> tuple[int, ...]:
        """Shape of the one input without its batch, such as (3, 224, 224)."""

    def input_dtype(self) -> str:
        """Element type of the input."""
        return "float32"

    def chain(self, values: Values) -> Sequence[tuple[str, Part]] | None:
        """The network as named parts, each from one tensor to one; None where it has none."""
        return None

    def module(self, values: Values) -> nn.Module:
        """A new module with freshly drawn weights."""
        from predictor.frontends.torch_source import module_of

        return module_of(self.graph(values))

    def graph(self, values: Values, batch: int = 1) -> Graph:
        """The network's operators, without weights."""
        chain = self.chain(values)
        shape = (batch, *self.input_shape(values))
        if chain is not None:
            name = f"{self.source or self.name}:{self.key(values)}"
            return assembled(GraphBuilder(name, source=self.source or "layers"), shape, chain,
                             self.input_dtype())  # fmt: skip
        from predictor.frontends.torch_module import trace

        return trace(self.module(values), shape).renamed(f"{self.name}:{self.key(values)}")

    def canonical(self, values: Values) -> dict[str, Value]:
        """``values`` with every parameter that makes no difference at its first value."""
        return {name: values[name] for name in self.parameters}

    def key(self, values: Values) -> str:
        """An architecture as text; two that are the same network have the same key."""
        own = self.canonical(values)
        return ",".join(f"{name}={_text(own[name])}" for name in self.parameters)

    def values(self, key: str) -> dict[str, Value]:
        """Inverse of :meth:`key`.

        Raises:
            ConfigError: the text is no architecture of this space.
        """
        found: dict[str, Value] = {}
        for item in key[:LARGEST_KEY].split(","):
            name, _, text = (piece.strip() for piece in item.partition("="))
            if name not in self.parameters:
                raise ConfigError(f"{self.name}: '{item}' sets no parameter."
                                  f"{suggest(name, self.parameters)}")  # fmt: skip
            known = {_text(value): value for value in self.parameters[name]}
            if text not in known:
                raise ConfigError(f"{self.name}: {name}={text} is none of {', '.join(known)}")
            found[name] = known[text]
        missing = [name for name in self.parameters if name not in found]
        if missing:
            raise ConfigError(f"{self.name}: '{key[:80]}' does not say {missing[0]}=")
        return self.canonical(found)

    def config(self, values: Values) -> dict[str, Any]:
        """``model`` and ``inputs`` of a configuration that is this architecture.

        Without a ``source`` the layers are written out.

        Raises:
            ModelError: an operator of a module that was traced is no layer of a layer list.
        """
        if not self.source:
            from predictor.search.spaces.written import config_of

            return config_of(self.graph(values))
        shape = [1, *self.input_shape(values)]
        return {"model": f"{self.source}:{self.key(values)}", "inputs": shape}

    def random(self, chance: Random) -> dict[str, Value]:
        """An architecture, every parameter drawn evenly."""
        return self.canonical({name: chance.choice(values)
                               for name, values in self.parameters.items()})  # fmt: skip

    def mutated(self, values: Values, chance: Random, count: int = 1) -> dict[str, Value]:
        """Another architecture that differs in ``count`` parameters (more where those made no
        difference)."""
        free = [name for name, known in self.parameters.items() if len(known) > 1]
        before = self.canonical(values)
        for _ in range(20):
            after = dict(before)
            for name in chance.sample(free, min(count, len(free))):
                others = [value for value in self.parameters[name] if value != after[name]]
                after[name] = chance.choice(others)
            found = self.canonical(after)
            if found != before:
                return found
        return self.random(chance)

    @property
    def size(self) -> int:
        """How many choices there are, those that make no difference counted too."""
        return math.prod(len(values) for values in self.parameters.values())

    def narrowed(self, choices: Mapping[str, Sequence[Value]]) -> SearchSpace:
        """The same space with fewer values of some parameters.

        Raises:
            ConfigError: an unknown parameter, an unknown value or none at all.
        """
        parameters = dict(self.parameters)
        for name, wanted in choices.items():
            if name not in parameters:
                raise ConfigError(f"{self.name} has no parameter '{name}'."
                                  f"{suggest(name, parameters)} Parameters: "
                                  f"{', '.join(parameters)}")  # fmt: skip
            unknown = [value for value in wanted if value not in self.parameters[name]]
            if unknown or not wanted:
                said = f"'{unknown[0]}' is none of its values" if unknown else "no value is left"
                raise ConfigError(f"{self.name}, parameter {name}: {said}; it has "
                                  f"{', '.join(_text(v) for v in parameters[name])}")  # fmt: skip
            parameters[name] = tuple(v for v in parameters[name] if v in wanted)
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.parameters = parameters
        return other


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
