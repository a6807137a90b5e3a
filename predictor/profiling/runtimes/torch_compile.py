"""PyTorch compiled: ``torch.compile`` in its default mode, of the module or of its tape.

The first run compiles, so it takes seconds to minutes; it is stored apart. Shapes are fixed. What
the compiler makes has no operators of the network any more: only whole networks are timed. Needs
PyTorch 2 and, on a CPU, a C++ compiler; on a GPU Triton.
"""

import importlib
import os
import shutil
import subprocess
from typing import Any, Dict, List, Optional, Tuple

from predictor.profiling.runtimes import ProgramError, RuntimeUnavailable
from predictor.profiling.runtimes.eager import Eager, ModuleProgram, TapeProgram, decoded, operator

COMPILERS = ("g++", "clang++")
"""What PyTorch's Inductor calls, unless the variable CXX names another."""
CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""Variable of the folder of compiled code; with one of its own, every first run is a first run."""
ENTRIES = 1 << 20
"""Networks of one class share their code; PyTorch would stop compiling it anew after eight."""


def find_compiler():
    # type: () -> Optional[str]
    """The C++ compiler that Inductor will use, None where there is none."""
    named = os.environ.get("CXX")
    for name in (named,) if named else COMPILERS:
        found = shutil.which(name)
        if found:
            return found
    return None


def first_line(command):
    # type: (List[str]) -> str
    """The first line that a command prints, empty where it cannot be run."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=30)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").partition("\n")[0].strip()


def graph_of(torch, tape, stores, floats, device):
    # type: (Any, Dict[str, Any], Dict[int, Any], Any, Any) -> Any
    """A tape as a module that ``torch.compile`` takes: its calls as a ``torch.fx`` graph.

    ``stores`` are the tensors by their numbers. Returns what the network returns, or what the last
    call returns where nothing outlives the calls.
    """
    root, graph = torch.nn.Module(), torch.fx.Graph()
    env = {}  # type: Dict[int, Any]
    for item in tape["inputs"]:
        env[item["id"]] = graph.placeholder("x%d" % item["id"])
    for item in tape["stores"]:
        name = "w%d" % item["id"]
        root.register_buffer(name, stores[item["id"]])
        env[item["id"]] = graph.get_attr(name)

    def given(value):
        # type: (Any) -> Any
        if isinstance(value, list):
            return [given(item) for item in value]
        if isinstance(value, dict) and "t" in value:
            return env[value["t"]]
        return decoded(value, torch, [], floats, device)

    live = {}  # type: Dict[int, None]
    for _, target, args, kwargs, outs, drop in tape["calls"]:
        func = operator(torch, target)
        named = {name: given(value) for name, value in kwargs.items()}
        node = graph.call_function(func, tuple(given(value) for value in args), named)
        for index, slot in enumerate(outs):
            env[slot] = _part(graph, func, node, index, len(outs))
            live[slot] = None
        for slot in drop:
            live.pop(slot, None)
    ends = list(live) or list(tape["calls"][-1][4])
    graph.output(tuple(env[slot] for slot in ends))
    return torch.fx.GraphModule(root, graph)


def _part(graph, func, node, index, count):
    # type: (Any, Any, Any, int, int) -> Any
    """The ``index``-th tensor of what a call returns."""
    import operator as python_operator

    returns = func._schema.returns
    if len(returns) == 1 and str(returns[0].type) == "Tensor":
        return node
    if len(returns) > 1 and any(str(item.type) != "Tensor" for item in returns[:count]):
        raise ProgramError("%s returns lists among tensors; it cannot be compiled" % func)
    return graph.call_function(python_operator.getitem, (node, index))


class CompiledTape(TapeProgram):
    """A tape, compiled."""

    ran = "compiled tape"

    def __init__(self, torch, tape, floats, device):
        # type: (Any, Dict[str, Any], Any, Any) -> None
        TapeProgram.__init__(self, torch, tape, floats, device)
        made = graph_of(torch, tape, self.stores, floats, device)
        self.compiled = torch.compile(made, fullgraph=True, dynamic=False)
        self.fed = [self.stores[key] for key in self.inputs]

    def run(self):
        # type: () -> None
        self.compiled(*self.fed)
        self._wait()

    def detail_run(self):
        # type: () -> None
        """Nothing: what runs are fused kernels, not operators of the network."""

    def details(self):
        # type: () -> Tuple[List[str], List[List[float]]]
        return [], []

    def close(self):
        # type: () -> None
        self.compiled, self.fed = None, []
        TapeProgram.close(self)


class CompiledModule(ModuleProgram):
    """The framework's own module, compiled."""

    ran = "compiled module"

    def __init__(self, torch, tape, floats, device, model):
        # type: (Any, Dict[str, Any], Any, Any, Dict[str, Any]) -> None
        ModuleProgram.__init__(self, torch, tape, floats, device, model)
        self.stores = {}  # the module has weights of its own
        self.module = torch.compile(self.module, dynamic=False)

    def renew(self):
        # type: () -> None
        """Nothing: isolated kernels are tapes."""

    def detail_run(self):
        # type: () -> None
        """Nothing: what runs are fused kernels, not operators of the network."""

    def details(self):
        # type: () -> Tuple[List[str], List[List[float]]]
        return [], []


class TorchCompile(Eager):
    """``torch.compile``, default mode, inference."""

    name = "torch_compile"
    of_tape = CompiledTape
    of_module = CompiledModule

    def __init__(self, settings):
        # type: (Dict[str, Any]) -> None
        Eager.__init__(self, settings)
        torch = self.torch
        if not hasattr(torch, "compile"):
            raise RuntimeUnavailable("PyTorch %s has no torch.compile; install PyTorch 2 or newer"
                                     % torch.__version__)  # fmt: skip
        self.compiler = find_compiler()
        if self.compiler is None:
            named = os.environ.get("CXX")
            raise RuntimeUnavailable(
                "torch.compile needs a C++ compiler, and %s; install one (Debian, Ubuntu: apt "
                "install g++) or name yours in the variable CXX"
                % ("CXX names '%s', which is not there" % named if named else
                   "there is neither g++ nor clang++ here")
            )  # fmt: skip
        if self.device.type == "cuda":
            self._need_triton()
        os.environ[CACHE] = os.path.join(settings["folder"], "inductor")
        import torch._dynamo as dynamo

        for name in ("recompile_limit", "accumulated_recompile_limit", "cache_size_limit",
                     "accumulated_cache_size_limit"):  # by version  # fmt: skip
            if hasattr(dynamo.config, name):
                setattr(dynamo.config, name, ENTRIES)

    def _need_triton(self):
        # type: () -> None
        try:
            importlib.import_module("triton")
        except ImportError as error:
            raise RuntimeUnavailable(
                "torch.compile needs Triton on a GPU (%s): pip install triton" % error
            )

    def versions(self):
        # type: () -> Dict[str, str]
        found = Eager.versions(self)
        assert self.compiler is not None
        found["compiler"] = first_line([self.compiler, "--version"]) or self.compiler
        if self.device.type == "cuda":
            triton = importlib.import_module("triton")

            found["triton"] = str(triton.__version__)
        return found


RUNTIME = TorchCompile
