"""A torch module as an ONNX file of some kilobytes, its weights outside in one file of numbers.

What is timed does not depend on what the weights are, as long as activations neither vanish nor
overflow. So the file that travels to a board holds the network alone; its weights point into a
file ``weights.bin`` that the board fills with numbers itself, uniform in ±0.05. Every tensor has a
place of its own there, as it would in a real file, so caches see the same traffic.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from predictor.errors import MissingExtra, ModelError
from predictor.frontends.torch_inputs import split_inputs
from predictor.frontends.zoo_build import replaced

if TYPE_CHECKING:
    import onnx
    import torch

WEIGHTS_FILE = "weights.bin"
"""Name of the file that holds the weights, beside the model."""
OPSET = 20
"""The latest that torch's TorchScript exporter writes; GELU is one operator from here on."""
ALIGNMENT = 64
"""Bytes; where a tensor may begin in the file of weights (a cache line)."""
SMALLEST_OUTSIDE = 64
"""Bytes; smaller tensors stay in the model, where they take no more than their reference would."""
_POSITIVE = {"Sqrt", "Log", "Reciprocal", "Pow", "Div", "Softplus"}
"""Readers for which a number of either sign could give NaN, or an infinity."""


@dataclass(frozen=True, slots=True)
class ExportedNetwork:
    """A network without its weights.

    ``model_bytes`` is the ONNX file; its large tensors lie in ``weights.bin`` beside it, of which
    it reads ``weights_bytes`` bytes from the start.
    """

    model_bytes: bytes
    weights_bytes: int


def export_onnx(module: torch.nn.Module, inputs: Any, opset: int = OPSET) -> ExportedNetwork:
    """``module`` in evaluation mode at fixed shapes, as ONNX without weights.

    Args:
        module: a module with real weights (not on the meta device). Modules that keep a cache
            between forward passes have it filled by the export.
        inputs: what :func:`predictor.trace` takes: a shape, tensors, or a tuple or dict of either.
        opset: version of the ONNX operators; older runtimes need an older one (TensorRT 8 17,
            ONNX Runtime 1.10 15), in which layer norm or GELU are several operators.

    Raises:
        ModelError: torch cannot export it; the message ends with torch's own words.
        MissingExtra: the package ``onnx`` is not installed.
    """
    model = export_whole(module, inputs, opset)
    places = move_outside(model)
    size = max((offset + len(data) for offset, data in places), default=0)
    return ExportedNetwork(model.SerializeToString(), size)


def export_whole(module: torch.nn.Module, inputs: Any, opset: int = OPSET) -> onnx.ModelProto:
    """``module`` as torch exports it, weights inside, each node named after its first output."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra(
            f"exporting to ONNX needs the package onnx ({error}): "
            "pip install latency-predictor[onnx]"
        ) from error
    import torch

    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise ModelError(
            f"{type(module).__name__}: its weights are on the meta device; build it with real ones"
        )
    floats = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    args, kwargs, names = split_inputs(inputs, floats, "cpu")
    args = [_filled(value) for value in args]
    kwargs = {key: _filled(value) for key, value in kwargs.items()}
    with _evaluating(module), torch.no_grad(), _quiet():
        model = onnx.load_from_string(_exported(module, tuple(args), kwargs, names, opset))
    _inline_identities(model.graph)
    for node in model.graph.node:
        node.name = next((name for name in node.output if name), node.op_type)
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    return model


def _exported(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], names: list[str],
    opset: int,
) -> bytes:  # fmt: skip
    """By TorchScript, which takes a tenth of the time; by torch.export where that fails."""
    import torch

    label, errors = type(module).__name__, []
    settings: dict[str, Any] = {"kwargs": kwargs, "input_names": names, "opset_version": opset}
    for dynamo in (False, True):
        target = io.BytesIO()
        place: Any = target  # annotated as a path only
        try:
            if dynamo:
                program = torch.onnx.export(module, args, dynamo=True, verbose=False, **settings)
                assert program is not None
                program.save(place)
            else:
                torch.onnx.export(module, args, place, dynamo=False, **settings)
            return target.getvalue()
        except Exception as error:  # the module's own code runs here, and may raise anything
            errors.append(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    raise ModelError(f"{label}: torch cannot export it to ONNX: {errors[0]}; then {errors[1]}")


def _filled(value: Any) -> Any:
    """Numbers for a tensor without any: positions and tokens 0, floats around 0."""
    if isinstance(value, list):
        return [_filled(item) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items()}
    if not hasattr(value, "is_floating_point"):
        return value
    return value.uniform_(-0.5, 0.5) if value.is_floating_point() else value.zero_()


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's advice and graphs: what fails is raised."""
    import torch

    native: Any = torch._C
    native._jit_set_onnx_log_enabled(False)
    log = logging.getLogger("torch.onnx")
    level = log.level
    with (
        # The exporter switches it on whenever it runs.
        replaced(native, "_jit_set_onnx_log_enabled", lambda enabled: None),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            log.setLevel(level)


def _inline_identities(graph: onnx.GraphProto) -> None:
    """The exporter stores equal tensors once and copies them; give each its own place again."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    results = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        source = tensors.get(node.input[0]) if node.op_type == "Identity" else None
        if source is None or node.output[0] in results:
            kept.append(node)
            continue
        copy = graph.initializer.add()
        copy.CopyFrom(source)
        copy.name = node.output[0]
        tensors[copy.name] = copy
    del graph.node[:]
    graph.node.extend(kept)
    read = {name for node in graph.node for name in node.input} | results
    used = [tensor for tensor in graph.initializer if tensor.name in read or _has_bodies(graph)]
    del graph.initializer[:]
    graph.initializer.extend(used)


def _has_bodies(graph: onnx.GraphProto) -> bool:
    return any(attribute.HasField("g") for node in graph.node for attribute in node.attribute)


def move_outside(model: onnx.ModelProto) -> list[tuple[int, bytes]]:
    """Point the large float tensors of ``model`` into ``weights.bin``.

    Returns where each begins in that file and the bytes that it had. They do not overlap.
    Integers, tensors that must stay positive (a variance), and small ones stay inside.
    """
    from onnx import TensorProto, external_data_helper

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    inside = _positive(model.graph)
    places: list[tuple[int, bytes]] = []
    end = 0
    for tensor in model.graph.initializer:
        if tensor.data_type not in floats or tensor.name in inside:
            continue
        data = tensor.raw_data
        if len(data) < SMALLEST_OUTSIDE:
            continue
        external_data_helper.set_external_data(tensor, WEIGHTS_FILE, end, len(data))
        tensor.ClearField("raw_data")
        places.append((end, data))
        end += -(-len(data) // ALIGNMENT) * ALIGNMENT
    return places


def _positive(graph: onnx.GraphProto) -> set[str]:
    """Tensors that an arithmetic operator reads as it could only read positive numbers."""
    names = set()
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            names.add(node.input[4])
        elif node.op_type in _POSITIVE:
            names.update(node.input)
    return names
