"""Networks as programs that a board can run: tapes for PyTorch, ONNX files for the others."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from predictor.errors import MeasurementError, ModelError
from predictor.graph import Graph, Op

if TYPE_CHECKING:
    from torch import nn

TAPED = ("eager", "torch_compile")
ONNX = ("onnxruntime", "tensorrt")
"""Runtimes by what they read."""
LEAST_BYTES = 4096
"""Isolated kernels that move less are all call and no work; in place they are measured anyway."""


@dataclass(frozen=True, slots=True)
class Program:
    """A network as a runtime's program, with the graph that its kernels come from."""

    label: str
    family: str
    space: str
    data: bytes
    suffix: str
    graph: Graph
    weights_bytes: int = 0
    tape: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    """The tape with what its calls make, which isolated kernels are cut from; programs leave that
    out."""

    @property
    def stem(self) -> str:
        """A short name that depends on the contents only."""
        return hashlib.blake2b(self.data + self.label.encode(), digest_size=8).hexdigest()


def program_of(
    runtime: str, label: str, family: str, space: str,
    made: tuple[nn.Module, Any] | None = None,
) -> Program:  # fmt: skip
    """The network of that name (or ``made``: a module and its input shapes) for a runtime.

    Raises:
        ModelError: it cannot be built or traced.
        MeasurementError: it cannot be written in the runtime's form, or no runtime is so called.
    """
    from predictor.frontends.torch_module import trace, trace_taped
    from predictor.profiling.modules import build

    module, inputs = made if made is not None else build(label)
    if runtime in TAPED:
        graph, tape = trace_taped(module, inputs, name=label)
        body = {key: value for key, value in tape.items() if key != "made"}
        if made is None:
            body["model"] = {"name": label}
        data = json.dumps(body, separators=(",", ":")).encode()
        return Program(label, family, space, data, ".json", graph, tape=tape)
    if runtime not in ONNX:
        raise MeasurementError(f"no network can be written for '{runtime}'; use {_known()}")
    from predictor.frontends.onnx_export import export_onnx

    exported = export_onnx(filled(module), inputs)
    graph = trace(module, inputs, name=label)
    return Program(label, family, space, exported.model_bytes, ".onnx", graph,
                   exported.weights_bytes)  # fmt: skip


def filled(module: nn.Module) -> nn.Module:
    """``module`` with weights in memory where it was built without any."""
    import torch

    if not any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        return module
    module = module.to_empty(device="cpu")
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.dim() > 1:
                tensor.uniform_(-0.1, 0.1)
            else:
                tensor.fill_(0 if name.endswith(("bias", "mean", "tracked")) else 1)
    return module


def _known() -> str:
    return ", ".join((*TAPED, *ONNX))


def reference_program(runtime: str) -> Program:
    """The fixed network that tells how fast the machine is at the moment: a few milliseconds.

    Dense, depthwise and pointwise convolutions, a normalisation and a product with a large
    matrix: work and traffic both, so that a machine that is slow at either is seen.
    """
    return program_of(runtime, "reference", "reference", "reference", made=_reference())


def _reference() -> tuple[nn.Module, Any]:
    from torch import nn

    layers = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.ReLU(),
        nn.Conv2d(32, 64, 1), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(64 * 49, 1000),
    )  # fmt: skip
    return layers.eval(), (1, 3, 112, 112)


def medley_programs(
    runtime: str, layers: Sequence[list[dict[str, Any]]], stem: str, say: Callable[[str], None]
) -> list[Program]:  # fmt: skip
    """Medleys as programs, called ``stem-0`` and on; ``say`` is told of those left out, and why."""
    from predictor.profiling.sampling import medley_module

    made = []
    for index, medley in enumerate(layers):
        label = f"{stem}-{index}"
        try:
            made.append(program_of(runtime, label, "medley", "perturbed",
                                   made=medley_module(medley)))  # fmt: skip
        except (ModelError, MeasurementError) as error:
            say(f"left out: {label}: {error}")
    return made


def singles(
    runtime: str, programs: Sequence[Program], count: int, chance: random.Random
) -> list[Program]:
    """Up to ``count`` isolated kernels that the networks hold, as many of each kind as can be."""
    found: dict[str, dict[str, tuple[Program, int]]] = {}
    for program in programs:
        for index, op in enumerate(program.graph.ops):
            if op.is_view or not op.known or op.memory_access_bytes < LEAST_BYTES:
                continue
            found.setdefault(op.kind, {}).setdefault(_alike(op), (program, index))
    pools = {kind: list(entries.values()) for kind, entries in sorted(found.items())}
    for entries in pools.values():
        chance.shuffle(entries)
    made: list[Program] = []
    while len(made) < count and any(pools.values()):
        for kind in list(pools):
            if pools[kind] and len(made) < count:
                program, index = pools[kind].pop()
                alone = _single(runtime, program, index)
                if alone is not None:
                    made.append(alone)
    return made


def _alike(op: Op) -> str:
    shapes = [[s.shape, s.dtype] for s in (*op.inputs, *op.weights, *op.outputs)]
    return json.dumps([op.target, shapes, sorted(op.attrs.items(), key=str)], default=str)


def _single(runtime: str, program: Program, index: int) -> Program | None:
    op = program.graph.ops[index]
    graph = Graph(op.kind, (op,), program.graph.weights, op.input_ids, tuple("x" * len(op.inputs)),
                  op.inputs[: len(op.input_ids)], op.output_ids, "torch")  # fmt: skip
    if program.tape is not None:
        from predictor.frontends.torch_tape import single

        calls = [i for i, entry in enumerate(program.tape["calls"]) if entry[0] == index]
        alone = single(program.tape, calls[0]) if len(calls) == 1 else None
        if alone is None:
            return None
        data = json.dumps(alone, separators=(",", ":")).encode()
        return replace(program, label=op.kind, space="isolated", data=data, graph=graph,
                       tape=None)  # fmt: skip
    from predictor.profiling.sampling import described, medley_module

    layer = described(op)
    if layer is None:
        return None
    try:
        return program_of(runtime, op.kind, program.family, "isolated",
                          made=medley_module([{**layer, "act": "none"}]))  # fmt: skip
    except MeasurementError:
        return None
