"""What the machine does while something is timed: clocks, temperature, throttling, load, steal.

Every source is read from where the system shows it; :func:`Watch.names` says which are there. A
run that was asked to watch something that is not shown fails instead of measuring blindly. Runs on
the board: Python 3.6, standard library.
"""

import glob
import os
import platform
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional

from predictor.profiling.runtimes import RuntimeUnavailable

GPU_FIELDS = ("clocks.sm", "temperature.gpu", "power.draw", "clocks_throttle_reasons.active")
NVIDIA_IDLE_REASONS = 0x1
"""Bit of nvidia-smi's throttle reasons that only says that nothing runs (NVML documentation)."""
PI_THROTTLED_NOW = 0x7
"""Bits of ``vcgencmd get_throttled``: under-voltage, capped clock, throttled (Pi docs)."""


def _text(path):
    # type: (str) -> Optional[str]
    try:
        with open(path) as handle:
            return handle.read().strip()
    except OSError:
        return None


def _command(*words):
    # type: (str) -> Optional[str]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def clocks_mhz():
    # type: () -> Optional[List[float]]
    """Current clock of each core as the frequency driver says; None where there is no driver."""
    paths = sorted(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
    values = [_text(path) for path in paths]
    found = [float(value) / 1e3 for value in values if value and value.isdigit()]
    return found or None


def temperatures_c():
    # type: () -> Optional[List[float]]
    """Temperatures of the thermal zones, degrees Celsius."""
    values = [_text(path) for path in sorted(glob.glob("/sys/class/thermal/thermal_zone*/temp"))]
    found = [float(v) / 1e3 for v in values if v and v.lstrip("-").isdigit()]
    return found or None


def throttles():
    # type: () -> Optional[Dict[str, int]]
    """Counters and flags of throttling, by source; None where the machine shows none."""
    found = {}  # type: Dict[str, int]
    pattern = "/sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"
    counts = [_text(path) for path in glob.glob(pattern)]
    if counts:
        found["cpu_count"] = sum(int(value) for value in counts if value and value.isdigit())
    board = _command("vcgencmd", "get_throttled")
    if board and "=" in board:
        found["board_now"] = int(board.split("=")[1], 16) & PI_THROTTLED_NOW
    return found or None


def stolen_ticks():
    # type: () -> Optional[int]
    """Clock ticks that a hypervisor gave to others; None where /proc/stat does not tell."""
    line = (_text("/proc/stat") or "").split("\n")[0].split()
    return int(line[8]) if len(line) > 8 and line[0] == "cpu" else None


def load():
    # type: () -> Optional[float]
    """The one-minute load average."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def gpu():
    # type: () -> Optional[Dict[str, float]]
    """Clock (MHz), temperature (C), power (W) and throttle reasons of the first NVIDIA GPU."""
    query = "--query-gpu=" + ",".join(GPU_FIELDS)
    said = _command("nvidia-smi", query, "--format=csv,noheader,nounits", "-i", "0")
    if not said:
        return None
    found = {}  # type: Dict[str, float]
    for name, value in zip(GPU_FIELDS, said.split(",")):
        try:
            number = float(int(value, 16)) if "0x" in value else float(value)
        except ValueError:
            continue  # "[N/A]" on boards that do not tell
        found[name] = number
    return found or None


def power_mode():
    # type: () -> Optional[str]
    """The power mode: Jetson's nvpmodel, else the frequency governor."""
    said = _command("nvpmodel", "-q")
    if said:
        return said.split("\n")[0].split(":")[-1].strip()
    return _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


SOURCES = {
    "clock": clocks_mhz, "temperature": temperatures_c, "throttle": throttles,
    "steal": stolen_ticks, "load": load, "gpu": gpu, "power_mode": power_mode,
}  # type: Dict[str, Callable[[], Any]]  # fmt: skip


class Watch(object):
    """Reads every source that the machine shows.

    Args:
        promised: names of :data:`SOURCES` that must be there.

    Raises:
        RuntimeUnavailable: one of them is not shown here, or is unknown.
    """

    def __init__(self, promised):
        # type: (List[str]) -> None
        unknown = sorted(set(promised) - set(SOURCES))
        if unknown:
            raise RuntimeUnavailable(
                "cannot watch '%s'; there are %s" % (unknown[0], ", ".join(sorted(SOURCES)))
            )
        first = {name: read() for name, read in SOURCES.items()}
        self.names = sorted(name for name, value in first.items() if value is not None)
        missing = [name for name in promised if name not in self.names]
        if missing:
            raise RuntimeUnavailable(
                "asked to watch %s, which this machine does not show; it shows %s"
                % (", ".join(missing), ", ".join(self.names) or "nothing")
            )

    def state(self):
        # type: () -> Dict[str, Any]
        """What all sources say now, and when."""
        found = {name: SOURCES[name]() for name in self.names}  # type: Dict[str, Any]
        found["unix_s"] = round(time.time(), 3)
        return found

    @staticmethod
    def disturbed(before, after):
        # type: (Dict[str, Any], Dict[str, Any]) -> Optional[str]
        """Why what was timed between two states cannot count; None where it can."""
        first, last = before.get("throttle") or {}, after.get("throttle") or {}
        if last.get("cpu_count", 0) > first.get("cpu_count", 0) or last.get("board_now"):
            return "the processor was throttled"
        reasons = int((after.get("gpu") or {}).get("clocks_throttle_reasons.active", 0))
        if reasons & ~NVIDIA_IDLE_REASONS:
            return "the GPU held its clock back (reasons 0x%x)" % reasons
        return None


def machine():
    # type: () -> Dict[str, Any]
    """Facts of the machine as its system tells them; unknown ones are left out."""
    found = {
        "system": platform.platform(), "architecture": platform.machine(),
        "python": platform.python_version(), "cores": os.cpu_count() or 1,
        "model": _cpu_model(), "memory_gb": _memory_gb(), "clock_mhz": _largest_clock_mhz(),
    }  # type: Dict[str, Any]  # fmt: skip
    found.update(_caches())
    return {name: value for name, value in found.items() if value}


def _cpu_model():
    # type: () -> Optional[str]
    for line in (_text("/proc/cpuinfo") or "").split("\n"):
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return (_text("/proc/device-tree/model") or "").rstrip("\0") or platform.processor() or None


def _memory_gb():
    # type: () -> Optional[float]
    for line in (_text("/proc/meminfo") or "").split("\n"):
        if line.startswith("MemTotal:"):
            return round(float(line.split()[1]) * 1024 / 1e9, 2)
    return None


def _largest_clock_mhz():
    # type: () -> Optional[float]
    said = _text("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    if said and said.isdigit():
        return float(said) / 1e3
    for line in (_text("/proc/cpuinfo") or "").split("\n"):
        if line.startswith("cpu MHz"):
            return float(line.split(":")[1])
    return None


def _caches():
    # type: () -> Dict[str, float]
    """Sizes of the first core's data caches, kilobytes, by level."""
    found = {}  # type: Dict[str, float]
    for folder in sorted(glob.glob("/sys/devices/system/cpu/cpu0/cache/index*")):
        if _text(folder + "/type") == "Instruction":
            continue
        size, level = _text(folder + "/size") or "", _text(folder + "/level")
        if size[-1:] in ("K", "M") and size[:-1].isdigit() and level:
            factor = 1024 if size[-1] == "M" else 1
            found["l%s_kb" % level] = float(size[:-1]) * factor
    return found
