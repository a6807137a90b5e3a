"""Read a ``torch.nn.Module``: run its forward on tensors without storage and note every operator.

The model stays as it was: parameters are never allocated, written or moved; training flags and
attributes that a forward sets are put back. Three ways are tried, cheapest first: meta tensors,
fake tensors (for forwards that read values of their constants), and a real forward of a copy with
zero weights (for shapes that depend on data, as in detectors).
"""

from __future__ import annotations

import contextlib
import copy
import logging
import random
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from predictor.errors import ModelError
from predictor.frontends.torch_inputs import split_inputs
from predictor.graph import Graph, Weight
from predictor.pause import collector_paused

if TYPE_CHECKING:
    import torch

    from predictor.frontends.torch_recorder import Recorder

SMALL = 4096
"""Attributes of at most this many elements are computed with, so that their contents are held."""

REAL_FORWARD_BYTES = 4 << 30
"""Models with more bytes of weights are not run for real, as a forward would have to hold them."""

_LOCK = threading.RLock()
"""Tracing patches ``Module.__call__``; one trace at a time."""


def trace(
    module: torch.nn.Module, inputs: Any, *, name: str | None = None, training: bool = False
) -> Graph:
    """The graph of ``module`` for ``inputs``, with exact costs and no weights allocated.

    Args:
        module: any module, on any device; modules on the meta device are welcome.
        inputs: one shape (a tuple of ints), tensors, or a tuple/dict of either (a dict gives
            keyword arguments); ``{"shape": [1, 128], "dtype": "int64"}`` for tokens.
        name: the graph's name; the class name by default.
        training: trace as in training mode (dropout, batch statistics) instead of inference.

    Raises:
        ModelError: the forward fails for these inputs; the message ends with torch's own words.
    """
    label = name or type(module).__name__
    return _traced(module, inputs, label, training).graph(label)


def trace_taped(
    module: torch.nn.Module, inputs: Any, *, name: str | None = None
) -> tuple[Graph, dict[str, Any]]:
    """The graph of ``module``, and a tape that plays the same forward with torch alone.

    Arguments and errors are those of :func:`trace`; the tape is plain JSON, see
    :mod:`predictor.frontends.torch_tape`. Each call names its operator by its position.
    """
    label = name or type(module).__name__
    recorder = _traced(module, inputs, label, training=False, taped=True)
    assert recorder.tape is not None
    return recorder.graph(label), recorder.tape.to_dict(recorder.results)


def _traced(
    module: torch.nn.Module, inputs: Any, label: str, training: bool, taped: bool = False
) -> Recorder:
    import torch

    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            f"trace needs a torch.nn.Module, got {type(module).__name__}; "
            "for files and names use predictor.load_graph"
        )
    module = getattr(module, "_orig_mod", module)  # what torch.compile wrapped
    _refuse_lazy(module)
    with _LOCK, collector_paused():
        attempts: list[str] = []
        for attempt in (_on_meta, _on_fake, _for_real):
            try:
                # Each attempt starts anew: a cache may hold stand-ins that the next cannot use.
                with _untouched(module, training) as changed:
                    recorder = attempt(module, inputs, taped)
                    if recorder is not None and changed():  # a cache was filled: look again
                        recorder = attempt(module, inputs, taped)
            except ModelError:
                raise
            except Exception as error:  # the user's forward may raise anything
                attempts.append(f"{type(error).__name__}: {str(error).strip() or 'no message'}")
                if len(attempts) == 2 and attempts[0] == attempts[1]:
                    break  # no matter of missing values: a real forward would end there as well
                continue
            if recorder is not None:
                return recorder
    # The first words are torch's about the shapes; later attempts only rule out other causes.
    if attempts[0].startswith("NotImplementedError"):
        attempts.reverse()  # the stand-ins could not say; what a real forward says is the cause
    raise ModelError(
        f"{label}: the forward pass fails for the given inputs: {_shorten(attempts[0])}"
        + ("" if len(attempts) < 2 else f" (on a second try: {_shorten(attempts[-1])})")
    )


def _default_dtype(module: torch.nn.Module) -> torch.dtype:
    import torch

    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.float32


def _on_meta(module: torch.nn.Module, inputs: Any, taped: bool) -> Recorder | None:
    import torch

    def twin(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(
            tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta"
        )

    return _run(_recorder(weights_of(module), twin, "meta", taped), module, inputs, "meta")


def _on_fake(module: torch.nn.Module, inputs: Any, taped: bool) -> Recorder | None:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    cpu = torch.device("cpu")

    def twin(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta:
            return mode.fake_tensor_converter.from_meta_and_device(mode, tensor, cpu)
        return mode.from_tensor(tensor)

    log = logging.getLogger("torch._subclasses.fake_tensor")
    level, log.level = log.level, logging.CRITICAL  # torch logs what we report in our own words
    with contextlib.ExitStack() as stack:
        stack.callback(log.setLevel, level)
        stack.enter_context(mode)
        return _run(_recorder(weights_of(module), twin, None, taped), module, inputs, "cpu")


def _for_real(module: torch.nn.Module, inputs: Any, taped: bool) -> Recorder | None:
    import torch

    size = sum(t.numel() * t.element_size() for t in module.parameters())
    if size > REAL_FORWARD_BYTES:
        return None
    weights = weights_of(module)
    if any(t.is_meta for t in (*module.parameters(), *module.buffers())):
        module = copy.deepcopy(module).to_empty(device="cpu")
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                tensor.zero_()
        ids = [id(t) for t in _state(module).values()]
        weights = dict(zip(ids, weights.values(), strict=True))
    written = _Contents((*module.parameters(), *module.buffers()))
    try:
        fresh = _recorder(weights, lambda tensor: tensor, None, taped)
        recorder = _run(fresh, module, inputs, "cpu")
    finally:
        written.put_back()
    recorder.notes.append(
        "shapes depend on data here: counted from a real forward pass over zeros, so what "
        "follows a detection or a selection is not representative"
    )
    return recorder


def _recorder(
    weights: dict[int, Weight], twin: Callable[[torch.Tensor], torch.Tensor],
    device: str | None, taped: bool,
) -> Recorder:  # fmt: skip
    from predictor.frontends.torch_recorder import Recorder
    from predictor.frontends.torch_tape import Tape

    return Recorder(weights, twin, device, Tape(weights) if taped else None)


def _run(recorder: Recorder, module: torch.nn.Module, inputs: Any, device: str) -> Recorder:
    args, kwargs, names = split_inputs(inputs, _default_dtype(module), device)
    if recorder.device is None and device == "cpu":
        args, kwargs = _zeroed(args), {k: _zeroed([v])[0] for k, v in kwargs.items()}
    recorder.add_inputs([*args, *kwargs.values()], names)
    recorder.add_outputs(recorder.run(module, args, kwargs))
    return recorder


def _zeroed(values: list[Any]) -> list[Any]:
    import torch

    for value in values:
        if isinstance(value, torch.Tensor):
            value.zero_()
        elif isinstance(value, list):
            _zeroed(value)
    return values


def _state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, shared ones once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def weights_of(module: torch.nn.Module) -> dict[int, Weight]:
    """Every parameter and buffer, keyed by the tensor's identity; tied ones once."""
    import torch

    from predictor.frontends.torch_tensors import spec_of

    found: dict[int, Weight] = {}
    for name, tensor in _state(module).items():
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        found[id(tensor)] = Weight(
            name, spec_of(tensor), "parameter" if is_parameter else "buffer",
            bool(is_parameter and tensor.requires_grad),
        )  # fmt: skip
    return found


def _refuse_lazy(module: torch.nn.Module) -> None:
    from torch.nn.parameter import is_lazy

    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise ModelError(
                f"{type(module).__name__}: {name} has no shape yet (a lazy module); "
                "run one real forward pass first, then trace"
            )


@contextlib.contextmanager
def _untouched(module: torch.nn.Module, training: bool) -> Iterator[Any]:
    """Set the mode for the trace and put every attribute back afterwards, whatever happens.

    Yields a function that tells whether a forward has changed any attribute since the last call.
    """
    import torch

    modules = list(module.modules())
    before = [(m, dict(m.__dict__)) for m in modules]
    inner = [(v, v.copy()) for _, attributes in before for v in attributes.values()
             if type(v) in _CONTAINERS]  # fmt: skip
    # Plain tensors are no part of the state, but a forward may count in them.
    written = _Contents(t for t in _plain_tensors(before) if not t.is_meta and t.numel() <= SMALL)
    seen = [_fingerprint(modules)]

    def changed() -> bool:
        now = _fingerprint(modules)
        different = now != seen[0]
        seen[0] = now
        return different

    random_state, torch_state = random.getstate(), torch.get_rng_state()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for m in modules:
        m.training = training
    try:
        with torch.no_grad():
            yield changed
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        random.setstate(random_state)
        torch.set_rng_state(torch_state)
        written.put_back()
        for m, attributes in before:
            m.__dict__.clear()
            m.__dict__.update(attributes)
        for value, held in inner:
            if not value and not held:
                continue
            value.clear()
            value.extend(held) if isinstance(value, list) else value.update(held)


_CONTAINERS = (dict, list, set, OrderedDict, defaultdict)


def _plain_tensors(before: list[tuple[Any, dict[str, Any]]]) -> list[torch.Tensor]:
    """Tensors that modules hold as attributes, in lists or in dicts, other than their state."""
    import torch

    found: list[torch.Tensor] = []
    for _, attributes in before:
        for name, value in attributes.items():
            if type(value) is torch.Tensor:
                found.append(value)
            elif type(value) in (dict, list) and value and name != "_buffers":
                items = value.values() if isinstance(value, dict) else value
                found.extend(item for item in items if type(item) is torch.Tensor)
    return found


class _Contents:
    """Copies of tensors' contents, to be put back where a forward has written to them."""

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        once = {id(t): t for t in tensors}.values()
        self._held = [(t, t._version, t.detach().clone()) for t in once if not t.is_inference()]

    def put_back(self) -> None:
        """Undo writes."""
        import torch

        with torch.no_grad():
            for tensor, version, contents in self._held:
                if tensor._version != version:
                    tensor.copy_(contents)


def _fingerprint(modules: list[torch.nn.Module]) -> list[int]:
    """Sizes of the attributes that forwards use as caches."""
    return [
        len(m.__dict__)
        + len(m._buffers)
        + sum(len(v) for v in m.__dict__.values() if type(v) in (dict, list))
        for m in modules
    ]


def _shorten(text: str, limit: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def rebatched(inputs: Any, batch: int) -> Any:
    """``inputs`` with the first dimension of every shape set to ``batch``."""
    if isinstance(inputs, Mapping):
        if "shape" in inputs:
            return {**inputs, "shape": (batch, *inputs["shape"][1:])}
        return {key: rebatched(value, batch) for key, value in inputs.items()}
    if isinstance(inputs, (tuple, list)) and all(isinstance(n, int) for n in inputs):
        return (batch, *inputs[1:])
    if isinstance(inputs, (tuple, list)):
        return tuple(rebatched(value, batch) for value in inputs)
    if hasattr(inputs, "shape"):
        from predictor.frontends.torch_tensors import spec_of

        spec = spec_of(inputs)
        return {"shape": (batch, *spec.shape[1:]), "dtype": spec.dtype}
    return inputs
