"""The contract between what measures and what is measured: one file a runtime.

A :class:`Runtime` loads programs, a :class:`Program` runs one network. A new runtime is one file in
this folder that holds a class ``RUNTIME``; ``tests/profiling/runtime_suite.py`` is the conformance
suite that its test subclasses. Runs on the board: Python 3.6, standard library at import.
"""

import importlib
import os
import re
from typing import Any, Callable, Dict, List, Tuple


class RuntimeUnavailable(Exception):
    """The runtime is not installed here, or cannot do what is asked; the text says the remedy."""


class ProgramError(Exception):
    """A program cannot be loaded or run here; the text says why."""


class Program(object):
    """One network, loaded and ready.

    ``outside`` is True where another process runs it, so that it cannot be interleaved with a
    reference: then only :meth:`alone` is used. ``ran`` says what :meth:`run` executes, such as
    ``module`` (the framework's own module) or ``tape`` (its recorded operators).
    """

    outside = False
    ran = "program"

    def run(self):
        # type: () -> None
        """One inference, finished when this returns."""
        raise NotImplementedError

    def renew(self):
        # type: () -> None
        """Write the inputs anew, as what computes them would."""

    def detail_run(self):
        # type: () -> None
        """One inference with every operator timed."""
        raise NotImplementedError

    def details(self):
        # type: () -> Tuple[List[str], List[List[float]]]
        """Names of the operators, and seconds an operator for each :meth:`detail_run` so far.

        No name at all means that this runtime does not tell. May end the instrumentation.
        """
        return [], []

    def alone(self, seconds):
        # type: (float) -> Dict[str, Any]
        """Measure by the runtime's own tool for about ``seconds``; fields of the journal's row."""
        raise NotImplementedError

    def close(self):
        # type: () -> None
        """Give memory back."""


class Runtime(object):
    """What runs networks.

    Args:
        settings: ``precision``, ``threads``, ``device`` ("cpu" or "cuda"), ``folder`` for scratch
            files, ``weights_bytes`` (size of the largest network's weights).

    Raises:
        RuntimeUnavailable: it is not installed here, or lacks the precision or the device.
    """

    name = ""

    def __init__(self, settings):
        # type: (Dict[str, Any]) -> None
        self.settings = settings

    def versions(self):
        # type: () -> Dict[str, str]
        """Versions of the libraries that decide how fast it is."""
        raise NotImplementedError

    def load(self, name, data):
        # type: (str, bytes) -> Program
        """The program in the file ``name`` of a plan.

        Raises:
            ProgramError: it cannot be loaded here.
        """
        raise NotImplementedError

    def evict(self):
        # type: () -> None
        """Push what earlier runs left out of the caches nearest to the units."""

    def peak(self):
        # type: () -> Dict[str, float]
        """``matmul_gflops`` of a large product and ``copy_gbs`` of a large copy, as this runtime
        does them: what the roofline of the machine stands on. Empty where it cannot say."""
        return {}


def write_repeated(path, size, block):
    # type: (str, int, Callable[[], bytes]) -> None
    """Make a file of ``size`` bytes of weights, ``block()`` again and again, unless it is there.

    Raises:
        RuntimeUnavailable: there is no room for it.
    """
    if os.path.isfile(path) and os.path.getsize(path) == size:
        return
    data, left = block(), size
    try:
        with open(path + ".part", "wb") as target:
            while left > 0:
                target.write(data[:left])
                left -= len(data)
        os.replace(path + ".part", path)
    except OSError as error:
        if os.path.exists(path + ".part"):
            os.remove(path + ".part")
        raise RuntimeUnavailable("%s: %d bytes of weights cannot be written (%s); make room, or "
                                 "name another folder" % (path, size, error))  # fmt: skip


_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}\Z")


def find(name):
    # type: (str) -> type
    """The class of the runtime ``name``.

    Raises:
        RuntimeUnavailable: there is no such file in this folder.
    """
    module = "predictor.profiling.runtimes." + name
    try:
        if not _NAME.match(name):
            raise ImportError(name)
        found = importlib.import_module(module)
    except ImportError as error:
        if getattr(error, "name", None) not in (None, module):
            raise
        raise RuntimeUnavailable("no runtime of the name '%s' can be profiled" % name)
    runtime = getattr(found, "RUNTIME", None)
    if not isinstance(runtime, type) or not issubclass(runtime, Runtime):
        raise RuntimeUnavailable("'%s' is no runtime that can be profiled" % name)
    return runtime
