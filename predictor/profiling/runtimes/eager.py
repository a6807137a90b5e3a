"""PyTorch operator by operator: networks as tapes of aten calls, or as the modules themselves.

A tape needs nothing but torch, so a board without model packages runs the same operators in the
same order. Where the packages are installed the module itself is timed, and the tape says how long
each of its operators took in place.
"""

import importlib.util
import json
import math
import time
from typing import Any, Dict, List, Tuple

from predictor.profiling.runtimes import Program, ProgramError, Runtime, RuntimeUnavailable

DTYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Element type that the floats of a network are stored in."""
EVICTED_BYTES = 8 << 20
"""Copied to evict a CPU's caches; a GPU's second level is at most a few times this."""


def _torch():
    # type: () -> Any
    try:
        import torch
    except ImportError as error:
        raise RuntimeUnavailable("PyTorch cannot be imported here (%s); install it" % error)
    return torch


def decoded(value, torch, tensors, floats, device):
    # type: (Any, Any, List[Tuple[List[Any], int, int]], Any, Any) -> Any
    """An argument as torch takes it; places of tensors are noted in ``tensors``."""
    if isinstance(value, list):
        out = []  # type: List[Any]
        for item in value:
            if isinstance(item, dict) and "t" in item:
                tensors.append((out, len(out), item["t"]))
                out.append(None)
            else:
                out.append(decoded(item, torch, tensors, floats, device))
        return out
    if not isinstance(value, dict):
        return value
    if "dtype" in value:
        found = getattr(torch, value["dtype"])
        return floats if found is torch.float32 else found
    if "device" in value:
        return device
    if "float" in value:
        return float(value["float"])
    if "layout" in value:
        return getattr(torch, value["layout"])
    raise ProgramError("a tape holds an argument of an unknown form: %s" % sorted(value))


def operator(torch, target):
    # type: (Any, str) -> Any
    """The callable of ``aten.name.overload``; older versions only have the name."""
    space, name, overload = target.split(".", 2)
    packet = getattr(getattr(torch.ops, space), name)
    return getattr(packet, overload, packet)


class Call(object):
    """One operator call: what to call, with which arguments, where its results go."""

    __slots__ = ("args", "drop", "func", "names", "op", "outs", "tensors", "values")

    def __init__(self, torch, entry, floats, device):
        # type: (Any, List[Any], Any, Any) -> None
        self.op, target, args, kwargs, self.outs, self.drop = entry
        self.func = operator(torch, target)
        self.tensors = []  # type: List[Tuple[List[Any], int, int]]
        self.args = decoded(args, torch, self.tensors, floats, device)
        self.names = sorted(kwargs)
        ordered = [kwargs[name] for name in self.names]
        self.values = decoded(ordered, torch, self.tensors, floats, device)

    def ready(self, env):
        # type: (List[Any]) -> Dict[str, Any]
        """Put the tensors into the arguments; returns the named ones."""
        for place, index, slot in self.tensors:
            place[index] = env[slot]
        return dict(zip(self.names, self.values)) if self.names else {}

    def keep(self, env, out):
        # type: (List[Any], Any) -> None
        """Put the results where later calls look for them, and let go of what none needs."""
        if len(self.outs) == 1:
            env[self.outs[0]] = out[0] if isinstance(out, (list, tuple)) else out
        elif self.outs:
            for slot, tensor in zip(self.outs, flat(out)):
                env[slot] = tensor
        for place, index, _ in self.tensors:
            place[index] = None  # or the argument lists would keep every tensor alive
        for slot in self.drop:
            env[slot] = None


class TapeProgram(Program):
    """A tape, its weights and its inputs in memory."""

    ran = "tape"

    def __init__(self, torch, tape, floats, device):
        # type: (Any, Dict[str, Any], Any, Any) -> None
        self.torch, self.device = torch, device
        self.stores = {}  # type: Dict[int, Any]
        for store in tape["stores"]:
            self.stores[store["id"]] = self._made(store, floats)
        self.inputs = [item["id"] for item in tape["inputs"]]
        for item in tape["inputs"]:
            self.stores[item["id"]] = self._made(dict(item, role="input"), floats)
        self.calls = [Call(torch, entry, floats, device) for entry in tape["calls"]]
        self.names = ["%d:%s" % (entry[0], entry[1]) for entry in tape["calls"]]
        self.slots = 1 + max([max(c.outs or [0]) for c in self.calls] + list(self.stores))
        self.rows = []  # type: List[List[float]]

    def _made(self, store, floats):
        # type: (Dict[str, Any], Any) -> Any
        """A tensor of sane values: activations must neither vanish nor overflow."""
        torch, shape = self.torch, list(store["shape"])
        kind = getattr(torch, store["dtype"])
        if store.get("values") is not None:
            made = torch.tensor(store["values"], dtype=kind).reshape(shape)
        elif not kind.is_floating_point:
            made = torch.zeros(shape, dtype=kind)
        elif store["role"] == "input":
            made = torch.rand(shape) - 0.5
        elif len(shape) < 2:
            zero = store.get("name", "").endswith(("bias", "running_mean"))
            made = torch.zeros(shape) if zero else torch.ones(shape)
        else:  # He's scale keeps the variance through rectified layers
            made = (torch.rand(shape) - 0.5) * (2 * math.sqrt(6.0 / _fan(shape)))
        if kind.is_floating_point:
            made = made.to(floats if kind is torch.float32 else kind)
        strides = store.get("strides")
        if strides:
            laid = torch.empty_strided(shape, strides, dtype=made.dtype)
            made = laid.copy_(made)
        return made.to(self.device)

    def run(self):
        # type: () -> None
        env = self._start()
        for call in self.calls:
            named = call.ready(env)
            call.keep(env, call.func(*call.args, **named))
        self._wait()

    def _start(self):
        # type: () -> List[Any]
        env = [None] * self.slots  # type: List[Any]
        for key, tensor in self.stores.items():
            env[key] = tensor
        return env

    def _wait(self):
        # type: () -> None
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def renew(self):
        # type: () -> None
        for key in self.inputs:
            tensor = self.stores[key]
            tensor.copy_(tensor.clone())

    def detail_run(self):
        # type: () -> None
        if self.device.type == "cuda":
            self.rows.append(self._detail_by_events())
            return
        env, clock, row = self._start(), time.perf_counter, []
        for call in self.calls:
            named = call.ready(env)
            begin = clock()
            out = call.func(*call.args, **named)
            row.append(clock() - begin)
            call.keep(env, out)
        self.rows.append(row)

    def _detail_by_events(self):
        # type: () -> List[float]
        """Time on the device between events around each call."""
        event = self.torch.cuda.Event
        env = self._start()
        marks = [event(enable_timing=True)]
        marks[0].record()
        for call in self.calls:
            named = call.ready(env)
            out = call.func(*call.args, **named)
            marks.append(event(enable_timing=True))
            marks[-1].record()
            call.keep(env, out)
        self.torch.cuda.synchronize()
        return [1e-3 * a.elapsed_time(b) for a, b in zip(marks, marks[1:])]

    def details(self):
        # type: () -> Tuple[List[str], List[List[float]]]
        return self.names, self.rows

    def close(self):
        # type: () -> None
        self.stores, self.calls, self.rows = {}, [], []


def _fan(shape):
    # type: (List[int]) -> int
    product = 1
    for size in shape[1:]:
        product *= size
    return max(1, product)


def flat(value):
    # type: (Any) -> List[Any]
    """Tensors in nested lists and tuples, in order."""
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in flat(item)]
    return [value] if hasattr(value, "dtype") else []


def modules_here():
    # type: () -> bool
    """Whether networks can be built here; a board's one file has no frontends and runs tapes."""
    return importlib.util.find_spec("predictor.profiling.modules") is not None


class ModuleProgram(TapeProgram):
    """The framework's own module for whole runs, its tape for the operators in place."""

    ran = "module"

    def __init__(self, torch, tape, floats, device, model):
        # type: (Any, Dict[str, Any], Any, Any, Dict[str, Any]) -> None
        TapeProgram.__init__(self, torch, tape, floats, device)
        from predictor.profiling.modules import built

        self.module, self.args, self.kwargs = built(model, floats, device)

    def run(self):
        # type: () -> None
        self.module(*self.args, **self.kwargs)
        self._wait()

    def close(self):
        # type: () -> None
        del self.module, self.args, self.kwargs
        TapeProgram.close(self)


class Eager(Runtime):
    """PyTorch eager, inference mode."""

    name = "eager"
    of_tape = TapeProgram
    of_module = ModuleProgram

    def __init__(self, settings):
        # type: (Dict[str, Any]) -> None
        Runtime.__init__(self, settings)
        torch = self.torch = _torch()
        if settings["precision"] not in DTYPES:
            raise RuntimeUnavailable(
                "eager measures %s, not %s" % (", ".join(sorted(DTYPES)), settings["precision"])
            )
        if settings["device"] == "cuda" and not torch.cuda.is_available():
            raise RuntimeUnavailable("this PyTorch sees no CUDA device; leave --cuda out")
        self.device = torch.device(settings["device"])
        torch.set_num_threads(int(settings["threads"]))
        self.floats = getattr(torch, DTYPES[settings["precision"]])
        torch.backends.cuda.matmul.allow_tf32 = settings["precision"] == "tf32"
        torch.backends.cudnn.allow_tf32 = settings["precision"] == "tf32"
        mode = getattr(torch, "inference_mode", torch.no_grad)
        self._mode = mode()
        self._mode.__enter__()  # for as long as the process measures
        self._scratch = None  # type: Any

    def versions(self):
        # type: () -> Dict[str, str]
        torch = self.torch
        found = {"torch": str(torch.__version__)}
        if self.device.type == "cuda":
            found.update(cuda=str(torch.version.cuda), gpu=torch.cuda.get_device_name(),
                         cudnn=str(torch.backends.cudnn.version()))  # fmt: skip
        return found

    def load(self, name, data):
        # type: (str, bytes) -> Program
        try:
            body = json.loads(data.decode("utf-8"))
            model = body.get("model")
            if model is not None and self.settings.get("modules") and modules_here():
                return self.of_module(self.torch, body, self.floats, self.device, model)
            return self.of_tape(self.torch, body, self.floats, self.device)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ProgramError("%s: %s: %s" % (name, type(error).__name__, error))

    def evict(self):
        # type: () -> None
        torch = self.torch
        if self._scratch is None:
            size = EVICTED_BYTES if self.device.type == "cpu" else 16 * EVICTED_BYTES
            self._scratch = [torch.ones(size // 4, device=self.device) for _ in range(2)]
        self._scratch[0].copy_(self._scratch[1])

    def peak(self):
        # type: () -> Dict[str, float]
        torch, size = self.torch, 1024 if self.device.type == "cpu" else 8192
        a, b = (torch.rand(size, size, device=self.device).to(self.floats) for _ in range(2))
        values = torch.ones((64 << 20) // 4, device=self.device)
        other = torch.empty_like(values)
        product = self._best(lambda: torch.mm(a, b))
        copied = self._best(lambda: other.copy_(values))
        return {"matmul_gflops": 2e-9 * size**3 / product,
                "copy_gbs": 2e-9 * values.numel() * 4 / copied}  # fmt: skip

    def _best(self, work):
        # type: (Any) -> float
        """Seconds of the second best of some runs: a first one warms, one may be lucky."""
        times = []
        for _ in range(12):
            begin = time.perf_counter()
            work()
            if self.device.type == "cuda":
                self.torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        return sorted(times[2:])[1]


RUNTIME = Eager
