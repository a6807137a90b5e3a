"""The labelled inputs that accuracy signals run a candidate on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from predictor.errors import ConfigError, MissingExtra, suggest
from predictor.search.candidate import SignalError

if TYPE_CHECKING:
    from torch import Tensor

    from predictor.search.candidate import Candidate

Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any]]
Data = str | Path | Arrays | Callable[[], Arrays] | None
"""``digits`` (also None), ``noise``, an ``.npz`` file with arrays x and y, the pair of them, or a
function that returns it."""
BUILT_IN = ("digits", "noise")
NOISE_IMAGES, NOISE_CLASSES = 512, 10
INSTALL = "scikit-learn brings the digits: pip install 'latency-predictor[train]'"


@dataclass(frozen=True, slots=True)
class Images:
    """Inputs with their labels.

    ``inputs`` are (n, channels, height, width), each channel of mean 0 and deviation 1, or (n, ...)
    of another form; None stands for Gaussian noise of whatever shape is asked for. ``labels`` are n
    integers from 0. ``name`` says what they are, for reports.
    """

    inputs: npt.NDArray[np.float32] | None
    labels: npt.NDArray[np.int64]
    name: str

    def __len__(self) -> int:
        return len(self.labels)


def images_of(data: Data) -> Images:
    """Read inputs and labels, normalised.

    Args:
        data: see :data:`Data`. Of an image array the last three axes are channels, height, width;
            (n, height, width) is read as one channel.

    Raises:
        ConfigError: no such file or name, or arrays that do not fit each other.
        MissingExtra: the digits were asked for and scikit-learn is not installed.
    """
    if data is None or data == "digits":
        return digits()
    if data == "noise":
        labels = np.arange(NOISE_IMAGES, dtype=np.int64) % NOISE_CLASSES
        return Images(None, labels, "Gaussian noise")
    if isinstance(data, (str, Path)):
        return _checked(_read(Path(data)), str(data))
    name = getattr(data, "__name__", "the arrays given as data")
    return _checked(data() if callable(data) else data, name)


def digits() -> Images:
    """The 1,797 digits of 8 x 8 pixels that come with scikit-learn (UCI "optdigits" test set)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtra(INSTALL) from None
    pixels, labels = load_digits(return_X_y=True)
    return _checked((pixels.reshape(-1, 1, 8, 8), labels), "digits")


def _read(path: Path) -> Arrays:
    if not path.is_file():
        known = [*BUILT_IN, *(str(p) for p in path.parent.glob("*.npz"))]
        raise ConfigError(
            f"data: there is no file {path}.{suggest(str(path), known)} Give an .npz file with "
            f"arrays x and y, or one of: {', '.join(BUILT_IN)}"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["x"], arrays["y"]
    except KeyError as error:
        raise ConfigError(
            f"there is no array {error.args[0]}; save it with numpy.savez(file, x=..., y=...)",
            file=str(path),
        ) from None
    except (ValueError, OSError, EOFError) as error:
        raise ConfigError(f"no readable .npz file: {error}", file=str(path)) from None


def _checked(arrays: Any, name: str) -> Images:
    if not isinstance(arrays, tuple) or len(arrays) != 2:
        raise ConfigError(f"{name}: a pair (x, y) of arrays is needed, not {type(arrays).__name__}")
    x, y = np.asarray(arrays[0]), np.asarray(arrays[1]).reshape(-1)
    if len(x) != len(y) or len(x) < 2 or x.ndim < 2:
        raise ConfigError(
            f"{name}: x of shape {x.shape} and y of shape {y.shape}: x is (n, channels, height, "
            "width) and y holds n class numbers, n of 2 or more"
        )
    if not np.issubdtype(y.dtype, np.number) or (y != np.floor(y)).any() or y.min() < 0:
        raise ConfigError(f"{name}: y must hold class numbers 0, 1, 2, ...")
    if not np.issubdtype(x.dtype, np.number) or not np.isfinite(x).all():
        raise ConfigError(f"{name}: x must hold finite numbers, not {x.dtype} with NaN or text")
    if x.ndim == 3:
        x = x[:, None]
    inputs = x.astype(np.float32)
    axes = (0, 2, 3) if inputs.ndim == 4 else (0,)
    mean, spread = inputs.mean(axes, keepdims=True), inputs.std(axes, keepdims=True)
    normal = (inputs - mean) / np.where(spread > 0, spread, 1)
    return Images(normal.astype(np.float32), y.astype(np.int64), name)


def input_shape(candidate: Candidate) -> tuple[int, ...]:
    """Shape of a candidate's only input without its batch axis.

    Raises:
        SignalError: there are several inputs, or it takes integers such as tokens.
    """
    specs = candidate.graph.input_specs
    if len(specs) != 1 or not specs[0].is_float:
        found = ", ".join(f"{spec.dtype} {spec.shape}" for spec in specs)
        raise SignalError(
            f"{candidate.key}: this signal needs one input of floats; there are {found}. Score it "
            "with a function of your own: train.py:evaluate"
        )
    return specs[0].shape[1:]


def shaped(images: Images, rows: Any, shape: tuple[int, ...], seed: int) -> Tensor:
    """Some inputs in the shape that a network takes.

    Images are resized (bilinear) and their channels repeated or cut; inputs of any other form must
    have the shape already, or noise stands in for them.

    Args:
        images: where from.
        rows: their indices.
        shape: of one input, without the batch axis.
        seed: of the noise.
    """
    import torch

    if images.inputs is not None and images.inputs.shape[1:] == shape:
        return torch.from_numpy(images.inputs[rows])
    if images.inputs is None or images.inputs.ndim != 4 or len(shape) != 3:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn((len(rows), *shape), generator=generator)
    x = torch.from_numpy(images.inputs[rows])
    x = torch.nn.functional.interpolate(x, shape[1:], mode="bilinear", align_corners=False)
    channels = x.shape[1]
    return x.repeat(1, -(-shape[0] // channels), 1, 1)[:, : shape[0]].contiguous()


def batches(
    images: Images, shape: tuple[int, ...], size: int, count: int, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """``count`` disjoint batches of ``size`` inputs (fewer where data ends) with their labels."""
    import torch

    order = np.random.default_rng(seed).permutation(len(images))
    size = min(size, len(order) // count)
    found = []
    for index in range(count):
        rows = order[index * size : (index + 1) * size]
        labels = torch.from_numpy(images.labels[rows])
        found.append((shaped(images, rows, shape, seed + index), labels))
    return found
