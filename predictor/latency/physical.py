"""The physical kernel model: a roofline with efficiencies that can be fitted.

A kernel of class c takes, in seconds,

    t  = (tc^p + tm^p)^(1/p) + steps x launch_c x reference clock / clock
    tc = 2 MACs / peak / compute_c x (1 + k_half / K) x (1 + n_half / N)
         x (1 + wave x units / blocks) / winograd^(is 3x3 stride 1), but at least K x k_step / clock
    tm = activations / (bandwidth x memory_c x (1 + cache x L2 / (L2 + bytes)))
         + weights / (bandwidth x weights)

CPU libraries differ in a few more ways, each off by default: 2 MACs / peak is multiplied by
1 + off_pack where channels do not fill vectors of four, divided by ``wide_taps`` for depthwise
kernels larger than 3x3; a grouped convolution launches 1 + group x (groups - 1) times; the
arithmetic of element-wise operators counts ``vector`` times.

with M, N, K the implicit matrix product and blocks its 64 x 64 output tiles. The smooth maximum
(p = 3) lets compute and memory time overlap but not perfectly. Every parameter is positive and
fitted as a logarithm, so a fit is a least-squares problem with cheap exact derivatives. A model
takes ``host`` milliseconds a kernel where the host launches one by one, and ``call`` once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictor.kernels.features import CLASSES, MATRIX_CLASSES, Features, Floats
from predictor.kernels.roofline import roofline_ms

POWER = 3.0
"""Exponent of the smooth maximum."""
TILE = 64
"""Side of the output tile that one block computes."""
PACK = 4
"""Channels that CPU libraries keep together in one vector."""
FIXED = 1e-3
"""Spread of a parameter that stays at its neutral value unless a fit brings its own prior."""
REFERENCE_CLOCK_HZ = 1e9
"""Launch overheads are stated for this clock; they shrink with the real one."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the model needs of a device: FLOP/s, bytes/s, bytes, SMs or cores, Hz."""

    peak_flops: float
    vector_flops: float
    bandwidth: float
    l2_bytes: float
    units: float
    clock_hz: float


def _prior() -> dict[str, tuple[float, float]]:
    """Name, median and spread (standard deviation of the logarithm) of every parameter.

    Medians are what well-tuned libraries reach on large layers; the spreads are wide, so data
    decide wherever there are any.
    """
    compute = {"conv": 0.6, "pointwise": 0.5, "depthwise": 0.04, "grouped": 0.15, "linear": 0.6,
               "matmul": 0.4, "attention": 0.4, "rnn": 0.3}  # fmt: skip
    launch = {"copy": 3.0, "gather": 4.0, "other": 10.0, "rnn": 8.0, "attention": 8.0}
    prior: dict[str, tuple[float, float]] = {}
    for name in MATRIX_CLASSES:
        prior[f"compute.{name}"] = (compute[name], 0.7)
    for name in CLASSES:
        prior[f"memory.{name}"] = (0.6, 0.4)
        prior[f"launch_us.{name}"] = (launch.get(name, 5.0), 0.7)
    prior.update({
        "k_half": (50.0, 0.7), "n_half": (16.0, 0.7), "wave": (0.5, 0.7), "winograd": (1.3, 0.3),
        "k_step": (4.0, 0.7), "cache": (0.5, 0.7), "weights": (0.7, 0.3), "call_us": (30.0, 0.7),
        "all.compute": (1.0, 0.25), "all.memory": (1.0, 0.25), "all.launch": (1.0, 0.25),
        "vector": (0.25, FIXED), "off_pack": (1e-6, FIXED), "group": (1e-6, FIXED),
        "wide_taps": (1.0, FIXED),
    })  # fmt: skip
    return prior


PRIOR = _prior()
NAMES = tuple(PRIOR)
INDEX = {name: i for i, name in enumerate(NAMES)}
MEDIAN: Floats = np.log(np.array([median for median, _ in PRIOR.values()]))
SPREAD: Floats = np.array([spread for _, spread in PRIOR.values()])

_C = len(CLASSES)
_COMPUTE = np.array([INDEX.get(f"compute.{c}", -1) for c in CLASSES])
_MEMORY = np.array([INDEX[f"memory.{c}"] for c in CLASSES])
_LAUNCH = np.array([INDEX[f"launch_us.{c}"] for c in CLASSES])


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds a kernel, and the three parts that it is made of."""

    total: Floats
    compute: Floats
    memory: Floats
    launch: Floats


def to_vector(parameters: Mapping[str, float]) -> Floats:
    """Logarithms in the order of :data:`NAMES`; what is absent takes the prior's median."""
    theta = MEDIAN.copy()
    for name, value in parameters.items():
        theta[INDEX[name]] = np.log(value)
    return theta


def to_parameters(theta: Floats) -> dict[str, float]:
    """Inverse of :func:`to_vector`."""
    return {name: float(np.exp(value)) for name, value in zip(NAMES, theta, strict=True)}


def kernel_times(features: Features, hardware: Hardware, theta: Floats) -> Times:
    """Seconds a kernel; ``theta`` are logarithms in the order of :data:`NAMES`."""
    return _Evaluation(features, _columns(hardware, len(features)), theta).times


def gradient(
    features: Features, hardware: Mapping[str, Floats], theta: Floats
) -> tuple[Times, list[tuple[npt.NDArray[np.intp], Floats]]]:
    """Times and their derivatives by the parameters.

    ``hardware`` holds one entry a kernel for each field of :class:`Hardware`. A derivative is a
    pair: the parameter's index for each kernel (-1: none), and d seconds / d log parameter.
    """
    evaluation = _Evaluation(features, hardware, theta)
    return evaluation.times, evaluation.derivatives()


def floor_s(features: Features, hardware: Hardware) -> Floats:
    """The roofline of each kernel on ``hardware``, seconds."""
    return 1e-3 * roofline_ms(
        features, peak_flops=hardware.peak_flops, vector_flops=hardware.vector_flops,
        bandwidth=hardware.bandwidth,
    )  # fmt: skip


def _columns(hardware: Hardware, count: int) -> dict[str, Floats]:
    return {name: np.full(count, getattr(hardware, name)) for name in Hardware.__slots__}


class _Evaluation:
    """One pass; keeps what the derivatives need."""

    def __init__(self, f: Features, hw: Mapping[str, Floats], theta: Floats) -> None:
        self.f = f
        p = np.exp(theta)
        self.p = p
        self.ci = _COMPUTE[f.cls]
        self.has = (self.ci >= 0) & (f.macs > 0)
        self.mi, self.li = _MEMORY[f.cls], _LAUNCH[f.cls]
        get = {name: p[INDEX[name]] for name in
               ("k_half", "n_half", "wave", "winograd", "k_step", "cache", "weights", "vector",
                "off_pack", "group", "wide_taps")}  # fmt: skip
        blocks = f.groups * np.ceil(f.m / TILE) * np.ceil(f.n / TILE)
        self.rk = get["k_half"] / f.k
        self.rn = get["n_half"] / f.n
        self.rw = get["wave"] * hw["units"] / blocks
        # Depthwise kernels have no reduction to speak of: no K, N or tile terms for them.
        dense = self.ci != INDEX["compute.depthwise"]
        self.rk, self.rn = np.where(dense, self.rk, 0.0), np.where(dense, self.rn, 0.0)
        self.rw = np.where(dense, self.rw, 0.0)
        channels = np.where(dense, f.n, f.groups)
        self.ro = np.where(channels % PACK > 0, get["off_pack"], 0.0)
        self.wide = ~dense & (f.taps > 9)
        efficiency = np.where(self.has, p[self.ci], 1.0) * p[INDEX["all.compute"]]
        self.main = np.where(
            self.has,
            2 * f.macs / (hw["peak_flops"] * efficiency)
            * (1 + self.rk) * (1 + self.rn) * (1 + self.rw)
            / np.where(f.winograd > 0, get["winograd"], 1.0) * (1 + self.ro)
            / np.where(self.wide, get["wide_taps"], 1.0),
            0.0,
        )  # fmt: skip
        self.step = np.where(self.has & dense, get["k_step"] * f.k * f.steps / hw["clock_hz"], 0.0)
        self.vector = get["vector"] * f.elementwise_flops / hw["vector_flops"]
        self.tc = self.main + self.step + self.vector
        activations = np.maximum(f.bytes - f.weight_bytes, 0.0)
        self.share = hw["l2_bytes"] / (hw["l2_bytes"] + f.bytes + 1.0)
        self.gain = get["cache"] * self.share
        wide = hw["bandwidth"] * p[INDEX["all.memory"]]
        self.ta = activations / (wide * p[self.mi] * (1 + self.gain))
        self.tw = f.weight_bytes / (wide * get["weights"])
        self.tm = self.ta + self.tw
        self.tl = (
            1e-6 * p[self.li] * p[INDEX["all.launch"]] * REFERENCE_CLOCK_HZ / hw["clock_hz"]
        ) * f.steps
        self.rg = get["group"] * np.where(self.ci == INDEX["compute.grouped"], f.groups - 1, 0.0)
        self.tl = self.tl * (1 + self.rg)
        tiny = 1e-12
        self.smooth = (self.tc**POWER + self.tm**POWER + tiny**POWER) ** (1 / POWER)
        self.times = Times(self.smooth + self.tl, self.tc, self.tm, self.tl)

    def derivatives(self) -> list[tuple[npt.NDArray[np.intp], Floats]]:
        f, n = self.f, len(self.f)
        by_tc = (self.tc / self.smooth) ** (POWER - 1)
        by_tm = (self.tm / self.smooth) ** (POWER - 1)

        def same(name: str) -> npt.NDArray[np.intp]:
            return np.full(n, INDEX[name])

        main = by_tc * self.main
        return [
            (np.where(self.has, self.ci, -1), -main),
            (same("all.compute"), -main),
            (same("k_half"), main * self.rk / (1 + self.rk)),
            (same("n_half"), main * self.rn / (1 + self.rn)),
            (same("wave"), main * self.rw / (1 + self.rw)),
            (same("winograd"), np.where(f.winograd > 0, -main, 0.0)),
            (same("off_pack"), main * self.ro / (1 + self.ro)),
            (same("wide_taps"), np.where(self.wide, -main, 0.0)),
            (same("vector"), by_tc * self.vector),
            (same("group"), self.tl * self.rg / (1 + self.rg)),
            (same("k_step"), by_tc * self.step),
            (self.mi, -by_tm * self.ta),
            (same("cache"), -by_tm * self.ta * self.gain / (1 + self.gain)),
            (same("weights"), -by_tm * self.tw),
            (same("all.memory"), -by_tm * self.tm),
            (self.li, self.tl),
            (same("all.launch"), self.tl),
        ]
