"""ONNX Runtime: a model file whose weights are numbers that this side makes itself.

A program is an ONNX file that reads its weights from ``weights.bin`` beside it. That file is
written once, as long as the largest network of a plan needs it. Whole runs are timed in a session
without profiling; the times of single nodes come from a second session that profiles itself.

A node is named by JSON text with the fields ``op``, ``name``, ``inputs``, ``outputs`` (each tensor
as ``type:1x3x224x224``): see :func:`node_text`.
"""

import json
import os
import re
import time
from typing import Any, Dict, List, Tuple

from predictor.profiling.runtimes import (
    Program,
    ProgramError,
    Runtime,
    RuntimeUnavailable,
    write_repeated,
)

WEIGHTS_FILE = "weights.bin"
"""Name that the model files know the file of weights by."""
WEIGHTS_SCALE = 0.05
"""Weights are uniform between minus and plus this: activations neither vanish nor overflow."""
BLOCK = 1048573
"""Numbers that the file repeats; a prime, so that no two tensors of a network are alike."""
EVICTED_BYTES = 8 << 20
"""Copied to evict a CPU's caches."""
WARMING_RUNS = 2
"""Runs of a session that profiles before the first that counts."""
CHAIN = 64
"""Nodes in the network that tells what profiling costs."""
TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64",
         "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool",
         "tensor(uint8)": "uint8", "tensor(int8)": "int8"}  # fmt: skip
PRECISIONS = {"cpu": ("fp32",), "cuda": ("fp32", "tf32", "fp16")}


def node_text(event):
    # type: (Dict[str, Any]) -> str
    """What identifies a node of the profile, from its event there."""
    args = event.get("args", {})
    name = re.sub("_kernel_time$", "", event["name"])
    fields = {"op": args.get("op_name", ""), "name": name,
              "inputs": _tensors(args.get("input_type_shape")),
              "outputs": _tensors(args.get("output_type_shape"))}  # fmt: skip
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def _tensors(listed):
    # type: (Any) -> List[str]
    """``[{"float": [1, 3]}]`` as ``["float:1x3"]``; old versions give no shapes, or text."""
    if not isinstance(listed, list):
        return []
    found = []  # type: List[str]
    for item in listed:
        for kind, shape in item.items() if isinstance(item, dict) else ():
            found.append("%s:%s" % (kind, "x".join(str(size) for size in shape)))
    return found


def profiled_runs(events):
    # type: (List[Dict[str, Any]]) -> List[List[Tuple[str, float]]]
    """Nodes and their seconds, a list for each run of the session, in order of execution."""
    runs = []  # type: List[Tuple[float, float]]
    nodes = []  # type: List[Tuple[float, str, float]]
    for event in events:
        if event.get("cat") == "Session" and event.get("name") == "model_run":
            runs.append((event["ts"], event["ts"] + event["dur"]))
        elif event.get("cat") == "Node" and event.get("name", "").endswith("_kernel_time"):
            nodes.append((event["ts"], node_text(event), 1e-6 * event["dur"]))
    nodes.sort(key=lambda node: node[0])
    runs.sort()
    found = [[] for _ in runs]  # type: List[List[Tuple[str, float]]]
    current = 0
    for begin, text, seconds in nodes:
        while current < len(runs) and begin > runs[current][1]:
            current += 1
        if current < len(runs) and begin >= runs[current][0]:
            found[current].append((text, seconds))
    return found


def aligned(runs):
    # type: (List[List[Tuple[str, float]]]) -> Tuple[List[str], List[List[float]]]
    """One list of nodes, and a row of seconds in its order for each run.

    A node that runs more than once in an inference (the body of a loop) has the sum of its times.
    """
    totals = []  # type: List[Dict[str, float]]
    names = {}  # type: Dict[str, int]
    for run in runs:
        total = {}  # type: Dict[str, float]
        for text, seconds in run:
            names.setdefault(text, len(names))
            total[text] = total.get(text, 0.0) + seconds
        totals.append(total)
    order = sorted(names, key=lambda text: names[text])
    return order, [[total.get(text, 0.0) for text in order] for total in totals]


def write_weights(path, size, kind):
    # type: (str, int, str) -> None
    """Make the file of weights, ``size`` bytes of floats of the type ``kind``, unless it is there.

    Raises:
        RuntimeUnavailable: there is no room for it.
    """
    import numpy

    def block():
        # type: () -> bytes
        numbers = numpy.random.RandomState(0).uniform(-WEIGHTS_SCALE, WEIGHTS_SCALE, BLOCK)
        return bytes(numbers.astype(kind).tobytes())

    write_repeated(path, size, block)


def _filled(argument, generator):
    # type: (Any, Any) -> Any
    """Numbers for an input: floats around 0, integers 0."""
    import numpy

    kind = TYPES.get(argument.type)
    shape = [size if isinstance(size, int) else 1 for size in argument.shape]
    if kind is None:
        raise ProgramError("its input '%s' is a %s" % (argument.name, argument.type))
    if kind.startswith("float"):
        return generator.uniform(-0.5, 0.5, shape).astype(kind)
    return numpy.zeros(shape, kind)


class OnnxProgram(Program):
    """A model in a session; the one that profiles is made when it is first wanted."""

    def __init__(self, runtime, path):
        # type: (OnnxRuntime, str) -> None
        import numpy

        self.runtime, self.path = runtime, path
        self.session = runtime.session(path)
        generator = numpy.random.RandomState(1)
        self.feed = {item.name: _filled(item, generator) for item in self.session.get_inputs()}
        self.profiler = None  # type: Any
        self.names = []  # type: List[str]
        self.rows = []  # type: List[List[float]]
        self.binding = self._bound() if runtime.settings["device"] == "cuda" else None

    def _bound(self):
        # type: () -> Any
        """Inputs and outputs that stay on the device, as those of a pipeline there do."""
        binding = self.session.io_binding()
        for name, value in self.feed.items():
            binding.bind_ortvalue_input(
                name, self.runtime.library.OrtValue.ortvalue_from_numpy(value, "cuda", 0)
            )
        for item in self.session.get_outputs():
            binding.bind_output(item.name, "cuda")
        binding.synchronize_inputs()
        return binding

    def run(self):
        # type: () -> None
        if self.binding is None:
            self.session.run(None, self.feed)
        else:
            self.session.run_with_iobinding(self.binding)
            self.binding.synchronize_outputs()

    def renew(self):
        # type: () -> None
        for value in self.feed.values():
            value[...] = value.copy()
        if self.binding is not None:
            self.binding = self._bound()

    def detail_run(self):
        # type: () -> None
        if self.binding is not None:
            return  # the profile holds what launching took, not what the device did
        if self.profiler is None:
            self.runtime.learn_overhead()
            self.profiler = self.runtime.session(self.path, self.path + ".profile")
            for _ in range(WARMING_RUNS):
                self.profiler.run(None, self.feed)
        self.profiler.run(None, self.feed)

    def details(self):
        # type: () -> Tuple[List[str], List[List[float]]]
        if self.profiler is not None:
            profile = self._end_profile()
            with open(profile, "rb") as source:
                events = json.loads(source.read().decode("utf-8", "replace"))
            os.remove(profile)
            self.names, rows = aligned(profiled_runs(events)[WARMING_RUNS:])
            spent = self.runtime.overhead_s
            self.rows = [[max(seconds - spent, 0.0) for seconds in row] for row in rows]
        return self.names, self.rows

    def _end_profile(self):
        # type: () -> str
        profile = self.profiler.end_profiling()  # type: str
        self.profiler = None
        return profile

    def close(self):
        # type: () -> None
        if self.profiler is not None:
            os.remove(self._end_profile())
        self.session = self.binding = None
        self.feed = {}
        if os.path.exists(self.path):
            os.remove(self.path)


class OnnxRuntime(Runtime):
    """ONNX Runtime with all optimisations, one operator at a time."""

    name = "onnxruntime"

    def __init__(self, settings):
        # type: (Dict[str, Any]) -> None
        Runtime.__init__(self, settings)
        try:
            import onnxruntime
        except ImportError as error:
            raise RuntimeUnavailable(
                "ONNX Runtime cannot be imported here (%s): pip install onnxruntime" % error
            )
        self.library = onnxruntime
        device, precision = settings["device"], settings["precision"]
        if precision not in PRECISIONS[device]:
            raise RuntimeUnavailable("onnxruntime measures %s on %s, not %s" % (
                ", ".join(PRECISIONS[device]), device, precision))  # fmt: skip
        found = onnxruntime.get_available_providers()
        if device == "cuda" and "CUDAExecutionProvider" not in found:
            raise RuntimeUnavailable(
                "this ONNX Runtime has no CUDA (it has %s): pip install onnxruntime-gpu, or leave "
                "--cuda out" % ", ".join(found)
            )
        self.folder = settings["folder"]
        os.makedirs(self.folder, exist_ok=True)
        write_weights(os.path.join(self.folder, WEIGHTS_FILE), int(settings["weights_bytes"]),
                      "float16" if precision == "fp16" else "float32")  # fmt: skip
        self.loaded = 0
        self.overhead_s = None  # type: Any
        self._scratch = None  # type: Any

    def versions(self):
        # type: () -> Dict[str, str]
        import numpy

        return {"onnxruntime": str(self.library.__version__), "numpy": str(numpy.__version__)}

    def session(self, path, profile=""):
        # type: (str, str) -> Any
        """A session on the file ``path``; with ``profile``, one that writes a file of that prefix.

        Raises:
            ProgramError: ONNX Runtime does not take the model.
        """
        library = self.library
        options = library.SessionOptions()
        options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = int(self.settings["threads"])
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = profile
        try:
            made = library.InferenceSession(path, options, providers=self._providers())
        except Exception as error:  # its own exceptions share no other base
            raise ProgramError("%s: %s" % (os.path.basename(path), error))
        if self.settings["device"] == "cuda" and "CUDA" not in made.get_providers()[0]:
            raise ProgramError("ONNX Runtime fell back to the CPU: its CUDA libraries do not load")
        return made

    def _providers(self):
        # type: () -> List[Any]
        if self.settings["device"] == "cpu":
            return ["CPUExecutionProvider"]
        version = [int(word) for word in re.findall(r"\d+", self.library.__version__)[:2]]
        if version < [1, 18]:  # knows no such option, and does not use TF32
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]
        options = {"use_tf32": "1" if self.settings["precision"] == "tf32" else "0"}
        return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]

    def load(self, name, data):
        # type: (str, bytes) -> Program
        self.loaded += 1
        path = os.path.join(self.folder, "program-%d-%d.onnx" % (os.getpid(), self.loaded))
        with open(path, "wb") as target:
            target.write(data)
        try:
            return OnnxProgram(self, path)
        except ProgramError as error:
            os.remove(path)
            raise ProgramError("%s: %s" % (name, error))

    def learn_overhead(self):
        # type: () -> None
        """Seconds that profiling adds to a node: small ones in a row, profiled and not."""
        if self.overhead_s is not None:
            return
        self.overhead_s = 0.0
        lasted = []
        for count in (1, CHAIN):
            program = self.load("chain", one_node("Sin", [[8]], [8], count))  # type: Any
            times = []
            for _ in range(40):
                begin = time.perf_counter()
                program.run()
                times.append(time.perf_counter() - begin)
                program.detail_run()
            lasted.append(sorted(times)[len(times) // 4])
            _, rows = program.details()
            program.close()
        sums = sorted(sum(row) for row in rows)
        alone = (lasted[1] - lasted[0]) / (CHAIN - 1)
        self.overhead_s = max(0.0, sums[len(sums) // 4] / CHAIN - alone)

    def evict(self):
        # type: () -> None
        import numpy

        if self._scratch is None:
            self._scratch = [numpy.ones(EVICTED_BYTES // 4, "float32") for _ in range(2)]
        numpy.copyto(self._scratch[0], self._scratch[1])

    def peak(self):
        # type: () -> Dict[str, float]
        size, count = (1024, 16 << 20) if self.settings["device"] == "cpu" else (8192, 64 << 20)
        product = self._timed(one_node("MatMul", [[size, size], [size, size]], [size, size]))
        copied = self._timed(one_node("Relu", [[count]], [count]))
        return {"matmul_gflops": 2e-9 * size**3 / product, "copy_gbs": 8e-9 * count / copied}

    def _timed(self, data):
        # type: (bytes) -> float
        """Seconds of the second best of some runs, into memory that is there already."""
        program = self.load("peak", data)  # type: Any
        device = self.settings["device"]
        binding, values = program.session.io_binding(), self.library.OrtValue
        for name, value in program.feed.items():
            binding.bind_ortvalue_input(name, values.ortvalue_from_numpy(value, device, 0))
        output = program.session.get_outputs()[0]
        memory = values.ortvalue_from_shape_and_type(output.shape, "float32", device, 0)
        binding.bind_ortvalue_output(output.name, memory)
        times = []
        for _ in range(10):
            begin = time.perf_counter()
            program.session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            times.append(time.perf_counter() - begin)
        program.close()
        return sorted(times[2:])[1]


def _varint(number):
    # type: (int) -> bytes
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number, value):
    # type: (int, Any) -> bytes
    """One field of a protocol buffer: a number, text, or a message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode("ascii") if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def one_node(op, inputs, output, count=1):
    # type: (str, List[List[int]], List[int], int) -> bytes
    """An ONNX file of a single operator on float tensors of the given shapes (onnx.proto3).

    With ``count``, of so many in a row, each reading what the one before it makes.
    """

    def value(name, shape):
        # type: (str, List[int]) -> bytes
        sizes = b"".join(_field(1, _field(1, size)) for size in shape)
        return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, sizes)))

    names = ["x%d" % index for index in range(len(inputs))]
    graph, read = _field(2, "peak"), names
    for made in ["h%d" % index for index in range(count - 1)] + ["y"]:
        node = b"".join(_field(1, name) for name in read)
        graph += _field(1, node + _field(2, made) + _field(3, made) + _field(4, op))
        read = [made]
    graph += b"".join(_field(11, value(name, shape)) for name, shape in zip(names, inputs))
    graph += _field(12, value("y", output))
    return _field(1, 7) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


RUNTIME = OnnxRuntime
