"""TensorRT through its own ``trtexec``: it builds the engine, runs it, and writes what it measured.

A program is an ONNX file that reads its weights from ``weights.bin`` beside it, which this side
makes. The engine runs in another process, so it cannot stand between two runs of a reference: only
:meth:`Engine.alone` measures. The latency is that of the device (``computeMs``), copies to and from
the host are kept apart. Layers are timed in a run of their own, since timing them costs time.

Written from NVIDIA's documentation and the sources of ``trtexec``; not tried on a board.
"""

import array
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
from typing import Any, Dict, List, Optional, Set, Tuple

from predictor.profiling.protocol import half_width, median
from predictor.profiling.runtimes import (
    Program,
    ProgramError,
    Runtime,
    RuntimeUnavailable,
    write_repeated,
)

PLACES = ("/usr/src/tensorrt/bin/trtexec", "/usr/local/tensorrt/bin/trtexec",
          "/opt/tensorrt/bin/trtexec")  # fmt: skip
"""Where NVIDIA's packages put it, beside PATH."""
PRECISIONS = {"fp32": ["--noTF32"], "tf32": [], "fp16": ["--fp16"], "bf16": ["--bf16"],
              "int8": ["--int8", "--fp16"], "fp8": ["--fp8", "--fp16"]}  # fmt: skip
"""Options that let the builder use a precision; it may keep layers wider where that is faster."""
WANTED = ("--useSpinWait", "--noDataTransfers")
"""Used where this version knows them."""
SEPARATE = "--separateProfileRun"
"""Layers are timed with this only: the latency would hold the cost of timing them otherwise."""
WARM_UP_MS = 500
BUILD_S = 3600.0
"""An engine that is not built after so many seconds never will be (small boards take minutes)."""
MOST_KEPT = 1000
"""Latencies of one network that go into the journal, evenly over the run."""
SETTLED = 0.02
WEIGHTS_FILE = "weights.bin"
WEIGHTS_SCALE = 0.05
BLOCK = 65537
"""Numbers that the file of weights repeats; a prime, so that no two tensors are alike."""
_OPTION = re.compile(r"--[A-Za-z0-9]+")
_BANNER = re.compile(r"\[TensorRT v([0-9.]+)\]")
_VERSION = re.compile(r"TensorRT version: ([0-9.]+)")
_DEVICE = re.compile(r"Selected Device: (.+)")
_THROUGHPUT = re.compile(r"Throughput: ([0-9.eE+-]+) qps")


def find_trtexec():
    # type: () -> str
    """Path of ``trtexec``.

    Raises:
        RuntimeUnavailable: it is nowhere; the text says what to install.
    """
    found = shutil.which("trtexec")
    for path in (found,) + PLACES:
        if path and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise RuntimeUnavailable(
        "trtexec is neither on PATH nor at %s. On a Jetson: sudo apt install tensorrt; elsewhere "
        "it is in NVIDIA's TensorRT package or container; then: export PATH=$PATH:FOLDER"
        % PLACES[0]
    )


def version_of(text):
    # type: (str) -> Optional[str]
    """The version in trtexec's output: ``v8502`` in the banner is 8.5.2, ``v100300`` is 10.3.0."""
    told = _VERSION.search(text)
    if told:
        return told.group(1).strip(".")
    banner = _BANNER.search(text)
    if banner is None:
        return None
    word = banner.group(1).strip(".")
    if "." in word or len(word) < 4:
        return word
    step = 100 if len(word) >= 6 else 10  # 10 * 10000 + 3 * 100 + 0; 8 * 1000 + 5 * 100 + 2
    number = int(word)
    if step == 100:
        return "%d.%d.%d" % (number // 10000, number // 100 % 100, number % 100)
    return "%d.%d.%d" % (number // 1000, number // 100 % 10, number % 100)


def write_weights(path, size):
    # type: (str, int) -> None
    """Make the file of weights, ``size`` bytes of 32-bit floats around 0, unless it is there.

    Raises:
        RuntimeUnavailable: there is no room for it.
    """

    def block():
        # type: () -> bytes
        chance = random.Random(0)
        numbers = (chance.uniform(-WEIGHTS_SCALE, WEIGHTS_SCALE) for _ in range(BLOCK))
        return array.array("f", numbers).tobytes() * (1 + (1 << 22) // (4 * BLOCK))

    write_repeated(path, size, block)


# --- what trtexec writes -------------------------------------------------------------------------


def read_json(path):
    # type: (str) -> Any
    """What ``trtexec`` exported to ``path``.

    Raises:
        ProgramError: it is missing, cut, or no list.
    """
    name = os.path.basename(path)
    try:
        with open(path, "rb") as source:
            text = source.read().decode("utf-8", "replace")
        found = json.JSONDecoder(strict=False).decode(text)
    except (OSError, ValueError) as error:
        raise ProgramError("trtexec did not write %s (%s)" % (name, error))
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ProgramError("%s is not what trtexec exports: a list of mappings" % name)
    return found


def milliseconds(entry, key, name):
    # type: (Dict[str, Any], str, str) -> float
    """A time of an exported entry, above or equal to 0.

    Raises:
        ProgramError: it is missing or no time.
    """
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ProgramError("%s: an entry without %s: %s" % (name, key, str(entry)[:120]))
    if not 0 <= value < math.inf:
        raise ProgramError("%s: %s is %r" % (name, key, value))
    return float(value)


def latencies(document):
    # type: (List[Dict[str, Any]]) -> List[float]
    """Milliseconds on the device of every inference after the warm-up, in order.

    Old versions export the warm-up too.

    Raises:
        ProgramError: there is none, or an entry that is no time.
    """
    name, found = "--exportTimes", []  # type: str, List[float]
    for entry in document:
        value = milliseconds(entry, "computeMs", name)
        if value <= 0:
            raise ProgramError("%s: computeMs is 0" % name)
        start = entry.get("startComputeMs")
        if not isinstance(start, (int, float)) or start >= WARM_UP_MS:
            found.append(value)
    if not found:
        raise ProgramError("%s: no inference after the warm-up of %d ms" % (name, WARM_UP_MS))
    return found


def layers(document):
    # type: (List[Dict[str, Any]]) -> Tuple[int, List[str], List[float]]
    """Inferences profiled, names of the layers, and milliseconds a layer and inference.

    Raises:
        ProgramError: it is no layer profile.
    """
    name = "--exportProfile"
    count = document[0].get("count") if document else None
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ProgramError("%s: the first entry must hold the number of inferences" % name)
    names, times = [], []  # type: List[str], List[float]
    for entry in document[1:]:
        if not isinstance(entry.get("name"), str):
            raise ProgramError("%s: a layer without a name: %s" % (name, str(entry)[:120]))
        key = "medianMs" if entry.get("medianMs") is not None else "averageMs"
        names.append(entry["name"])
        times.append(milliseconds(entry, key, name))
    return count, names, times


def thinned(values):
    # type: (List[float]) -> List[float]
    """At most :data:`MOST_KEPT` of the values, evenly spaced."""
    if len(values) <= MOST_KEPT:
        return list(values)
    return [values[index * len(values) // MOST_KEPT] for index in range(MOST_KEPT)]


# --- running it ----------------------------------------------------------------------------------


def _die_with_parent():
    # type: () -> None
    """In the child: end when this process does (Linux)."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    except (ImportError, OSError, AttributeError):  # another system: it ends by itself
        pass


def call(command, seconds):
    # type: (List[str], float) -> Tuple[int, str]
    """Exit code and output of a command, which gets no input and is ended after ``seconds``.

    Raises:
        ProgramError: it cannot be started, or took too long.
    """
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )  # fmt: skip
    except OSError as error:
        raise ProgramError("%s cannot be started: %s" % (command[0], error))
    try:
        output = child.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise ProgramError("trtexec took longer than %d s and was ended" % seconds)
    except BaseException:
        child.kill()
        child.communicate()
        raise
    return child.returncode, output.decode("utf-8", "replace")


def why_failed(text):
    # type: (str) -> str
    """The first errors in trtexec's output, without their times; else its last line."""
    errors = [line.split("[E]", 1)[1].replace("[TRT]", "").strip() for line in text.splitlines()
              if "[E]" in line]  # fmt: skip
    lines = errors or [line.strip() for line in text.splitlines() if line.strip()][-1:]
    return "; ".join(lines[:3])[:600] or "no output"


class Engine(Program):
    """A model that trtexec builds and runs."""

    outside = True
    ran = "engine"

    def __init__(self, runtime, path):
        # type: (TensorRT, str) -> None
        self.runtime, self.path = runtime, path

    def _out(self, word):
        # type: (str) -> str
        return "%s.%s.json" % (self.path, word)

    def command(self, seconds):
        # type: (float) -> List[str]
        """The call that builds the engine and measures it for about ``seconds``."""
        runtime = self.runtime
        command = [
            runtime.trtexec, "--onnx=" + self.path, "--exportTimes=" + self._out("times"),
            "--warmUp=%d" % WARM_UP_MS, "--duration=%d" % max(1, math.ceil(seconds)),
            "--iterations=20", "--avgRuns=20",
        ]  # fmt: skip
        if SEPARATE in runtime.options:
            command += [SEPARATE, "--exportProfile=" + self._out("profile")]
        command += PRECISIONS[runtime.settings["precision"]]
        command += [option for option in WANTED if option in runtime.options]
        if "--timingCacheFile" in runtime.options:
            command.append("--timingCacheFile=" + os.path.join(runtime.folder, "timing.cache"))
        return command

    def alone(self, seconds):
        # type: (float) -> Dict[str, Any]
        """Build, measure and profile; the fields of the journal's row, times in microseconds.

        Raises:
            ProgramError: TensorRT cannot build or run it, or wrote something else than times.
        """
        code, text = call(self.command(seconds), BUILD_S + 20 * seconds)
        self.runtime.learn(text)
        if code != 0 or "&&&& FAILED" in text:
            raise ProgramError("trtexec failed (exit code %d): %s" % (code, why_failed(text)))
        times = latencies(read_json(self._out("times")))
        width = half_width(times)
        rate = _THROUGHPUT.search(text)
        row = {
            "ran": self.ran, "latency_us": [round(1e3 * value, 3) for value in thinned(times)],
            "latency_count": len(times), "median_us": round(1e3 * median(times), 3),
            "ratio_half_width": width if math.isfinite(width) else None,
            "settled": width <= SETTLED,
            "throughput_fps": float(rate.group(1)) if rate else None,
        }  # type: Dict[str, Any]  # fmt: skip
        if SEPARATE in self.runtime.options:
            count, names, per_layer = layers(read_json(self._out("profile")))
            row.update(detail_ops=names, detail_count=count,
                       detail_us=[[round(1e3 * value, 3) for value in per_layer]])  # fmt: skip
        return row

    def close(self):
        # type: () -> None
        for path in (self.path, self._out("times"), self._out("profile")):
            if os.path.exists(path):
                os.remove(path)


class TensorRT(Runtime):
    """TensorRT by ``trtexec``, one engine a network."""

    name = "tensorrt"

    def __init__(self, settings):
        # type: (Dict[str, Any]) -> None
        Runtime.__init__(self, settings)
        self.trtexec = find_trtexec()
        if settings["precision"] not in PRECISIONS:
            raise RuntimeUnavailable("tensorrt measures %s, not %s" % (
                ", ".join(PRECISIONS), settings["precision"]))  # fmt: skip
        try:
            self.help = call([self.trtexec, "--help"], 120)[1]
        except ProgramError as error:
            raise RuntimeUnavailable(str(error))
        self.options = set(_OPTION.findall(self.help))  # type: Set[str]
        missing = [option for option in self.needed() if option not in self.options]
        if missing:
            raise RuntimeUnavailable(
                "%s does not know %s%s; install another version of TensorRT, or measure another "
                "precision" % (self.trtexec, ", ".join(missing), self._first_words())
            )
        self.said = {}  # type: Dict[str, str]
        self.learn(self.help)
        self.folder = settings["folder"]
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise RuntimeUnavailable("%s: cannot be made (%s)" % (self.folder, error))
        write_weights(os.path.join(self.folder, WEIGHTS_FILE), int(settings["weights_bytes"]))
        self.loaded = 0

    def needed(self):
        # type: () -> List[str]
        """Options that measuring rests on."""
        return ["--onnx", "--exportTimes"] + [
            option for option in PRECISIONS[self.settings["precision"]] if option != "--noTF32"
        ]

    def _first_words(self):
        # type: () -> str
        """What it said instead of its help, such as a library that is missing."""
        words = self.help.strip().splitlines()[:1]
        return "" if self.options else " (it says: %s)" % (words[0][:200] if words else "nothing")

    def learn(self, text):
        # type: (str) -> None
        """Keep the version and device that trtexec's output tells."""
        version, device = version_of(text), _DEVICE.search(text)
        if version:
            self.said["tensorrt"] = version
        if device:
            self.said["gpu"] = device.group(1).strip()

    def versions(self):
        # type: () -> Dict[str, str]
        return dict({"tensorrt": "unknown"}, **self.said)

    def load(self, name, data):
        # type: (str, bytes) -> Program
        self.loaded += 1
        path = os.path.join(self.folder, "program-%d-%d.onnx" % (os.getpid(), self.loaded))
        try:
            with open(path, "wb") as target:
                target.write(data)
        except OSError as error:
            raise ProgramError("%s cannot be written (%s); make room" % (path, error))
        return Engine(self, path)


RUNTIME = TensorRT
