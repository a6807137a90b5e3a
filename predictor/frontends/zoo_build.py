"""Build modules without weights: the meta device, no initialisation, no downloads."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from predictor.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

_TORCHVISION_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, "
    "SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor",
    "roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width) -> (Tensor, Tensor)",
    "ps_roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width, int sampling_ratio) -> (Tensor, Tensor)",
    "ps_roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width) -> (Tensor, Tensor)",
    *(
        f"{name}(Tensor x) -> Tensor"
        for name in (
            "qnms", "qroi_align", "_roi_align_backward", "_roi_pool_backward",
            "_ps_roi_align_backward", "_ps_roi_pool_backward", "_deform_conv2d_backward",
        )
    ),
)  # fmt: skip
"""What torchvision's Python files expect its compiled library to have registered."""
_LIBRARIES: list[Any] = []  # torch drops the definitions when their library object dies
_MISMATCH = (
    "torchvision's compiled operators do not match this torch: models are read without them, and "
    "detectors cannot be run"
)


class Built(NamedTuple):
    """A module, the inputs that it usually takes, and what the reader should know.

    ``inputs`` is what :func:`predictor.trace` takes (a shape, or a tuple or dict of shapes), or
    None where nobody but the user can know.
    """

    module: nn.Module
    inputs: Any
    notes: tuple[str, ...]


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """``owner.name`` is ``value`` for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def build_module(
    make: Callable[[], nn.Module], on_meta: bool, *, initialise: bool = False
) -> nn.Module:
    """``make()`` on the meta device, else in the ordinary way; in evaluation mode."""
    torch = need("torch", "torch", "torch")
    if on_meta:
        # Any failure here may be the meta device's; the ordinary attempt tells, and reports.
        with contextlib.suppress(Exception), torch.device("meta"), no_initialisation():
            return make().eval()
    if initialise or not on_meta:
        return make().eval()
    with no_initialisation():
        return make().eval()


@contextlib.contextmanager
def no_initialisation() -> Iterator[None]:
    """``torch.nn.init`` functions return their tensor untouched."""
    from torch.nn import init

    def untouched(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return tensor

    with contextlib.ExitStack() as stack:
        for word in dir(init):
            if word.endswith("_") and not word.startswith("_"):
                stack.enter_context(replaced(init, word, untouched))
        yield


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Model libraries that would fetch a file raise instead."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise ModelError("this model wants to download a file; nothing is downloaded here")

    with contextlib.ExitStack() as stack:
        hub = importlib.import_module("torch.hub")
        stack.enter_context(replaced(hub, "load_state_dict_from_url", refuse))
        if importlib.util.find_spec("huggingface_hub") is not None:
            constants = importlib.import_module("huggingface_hub.constants")
            stack.enter_context(replaced(constants, "HF_HUB_OFFLINE", True))
        yield


def need(package: str, extra: str, name: str) -> Any:
    """The imported package, or the line that installs it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(
            f"{name}: {package} cannot be imported ({error}). "
            f"Run: pip install 'latency-predictor[{extra}]'"
        ) from None


def import_torchvision(name: str = "torchvision") -> tuple[Any, tuple[str, ...]]:
    """torchvision and notes, even beside a torch that its compiled operators were not made for.

    Errors: :class:`MissingExtra` where it is not installed, for the model ``name``.
    """
    torch = need("torch", "torchvision", name)
    try:
        package = need("torchvision", "torchvision", name)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise ModelError(f"{name}: torchvision cannot be imported: {error}") from None
        _forget("torchvision")
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in _TORCHVISION_OPERATORS:
            if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
                library.define(schema)
        _LIBRARIES.append(library)
        package = need("torchvision", "torchvision", name)
    return package, (_MISMATCH,) if _LIBRARIES else ()


def _forget(package: str) -> None:
    """Remove what a failed import left behind."""
    for module in [key for key in sys.modules if key.partition(".")[0] == package]:
        del sys.modules[module]


@contextlib.contextmanager
def constructor(name: str) -> Iterator[None]:
    """What a library's constructor raises, in one line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # constructors raise anything for arguments that do not fit
        text = " ".join(str(error).split())
        raise ModelError(
            f"{name}: the model cannot be built: {type(error).__name__}: {text[:300]}"
        ) from error
