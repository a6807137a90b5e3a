"""NASWOT: how differently an untrained network's activations switch for different inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from predictor.search.accuracy.options import Maker
from predictor.search.accuracy.proxies import Batch, Proxy

if TYPE_CHECKING:
    from torch import Tensor, nn

ACTIVATIONS = frozenset(
    "relu relu6 leaky_relu prelu rrelu threshold elu selu celu gelu silu mish hardswish hardtanh "
    "hardsigmoid sigmoid tanh softplus softsign logsigmoid tanhshrink softshrink hardshrink".split()
)
"""Functions of torch whose input's sign is a bit of the code."""


class Naswot(Proxy):
    """log |det K| with K[i, j] the number of activations that agree in sign for inputs i and j.

    Mellor, Turner, Storkey and Crowley, "Neural Architecture Search without Training", ICML 2021,
    equation 2. Where there is no ReLU, the sign of any activation function's input is taken. K is
    of integers, so its determinant is 1 or more, or it is singular: 0 is the floor.
    """

    name = "naswot"

    def measure(self, module: nn.Module, data: list[Batch]) -> float:
        """One forward pass."""
        import torch

        kernel = hamming_kernel(module, data[0][0])
        if kernel is None:
            return self.floor
        sign, value = torch.linalg.slogdet(kernel)
        return float(value) if sign > 0 else self.floor


def hamming_kernel(module: nn.Module, inputs: Tensor) -> Tensor | None:
    """K of :class:`Naswot` in double precision, None where no activation function was called."""
    import torch
    from torch.overrides import TorchFunctionMode

    size = len(inputs)
    kernels: list[Tensor] = []

    class Watch(TorchFunctionMode):  # sees nn.ReLU(), functional.relu(x) and x.relu() alike
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if getattr(func, "__name__", "").rstrip("_") in ACTIVATIONS:
                value = args[0] if args else (kwargs or {}).get("input")
                if value is not None and len(value) == size:
                    kernels.append(_agreements(value.reshape(size, -1) > 0))
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Watch():
        module(inputs)
    return torch.stack(kernels).sum(0) if kernels else None


def _agreements(codes: Tensor) -> Tensor:
    """In how many bits each two rows agree. Sums of ones stay exact in single precision."""
    yes, no = codes.float(), (~codes).float()
    return (yes @ yes.T + no @ no.T).double()


SIGNALS: dict[str, Maker] = {
    "naswot": lambda rest, options: Naswot(options.data, seed=options.seed)
}
