"""Measurements of a machine that does not exist: its rules are known, so what is learned can be."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from predictor.builder import GraphBuilder
from predictor.graph import Graph, Kernel
from predictor.kernels.features import class_of
from predictor.kernels.lowering import prepare
from predictor.latency.kernelwise import launched
from predictor.profiling.records import KernelTiming, Measurements, NetworkTiming

PEAK, BANDWIDTH = 80e9, 16e9
HOST_US, SCALE = 12.0, 1.05
LAUNCH_US = {"conv": 90.0, "depthwise": 120.0, "pointwise": 25.0, "linear": 15.0}
EFFICIENCY = {"conv": 0.8, "depthwise": 0.25, "pointwise": 0.7, "linear": 0.6}
MACHINE = {
    "model": "Nonesuch 9000", "matmul_gflops": PEAK / 1e9, "copy_gbs": BANDWIDTH / 1e9,
    "memory_gb": 8.0, "clock_mhz": 2000.0, "l2_kb": 512.0, "cores": 2,
}  # fmt: skip
FAMILIES = ("plain", "bottle", "inverted", "pooled", "wide", "gelu", "dense", "tall")
SPACES = ("ofa", "fbnet", "nasbench201")


def true_us(kernel: Kernel) -> float:
    """What a kernel takes on that machine, microseconds."""
    kind = class_of(kernel)
    work = 1e6 * 2 * kernel.macs / PEAK / EFFICIENCY.get(kind, 1.0)
    op = kernel.ops[kernel.anchor]
    if kind in ("conv", "pointwise") and op.outputs[0].shape[1] % 8:
        work *= 1.4  # vectors are not full
    moved = 1e6 * kernel.bytes / BANDWIDTH
    dear = 3e-3 * kernel.elementwise_flops / 8 if op.attrs.get("fn") == "gelu" else 0.0
    return LAUNCH_US.get(kind, 6.0) + max(work, 0.7 * moved) + 0.4 * moved + dear


def graph_of(family: str, index: int) -> Graph:
    """A network of a family; families differ by their blocks, members by their sizes."""
    chance = random.Random(f"{family}{index}")
    width, size = chance.choice((12, 16, 24, 32, 36)), chance.choice((32, 40, 56))
    b = GraphBuilder(f"{family}-{index}")
    x = b.activation(
        b.batch_norm(b.conv(b.input((1, 3, size, size)), width, 3, stride=2, padding=1))
    )
    act = "gelu" if family == "gelu" else chance.choice(("relu", "relu6", "silu"))
    for step in range(2 + index % 4):
        x = _block(b, x, family, width, act, chance)
        if step % 2:
            width *= 2
            x = b.activation(b.batch_norm(b.conv(x, width, 3, stride=2, padding=1)), act)
    x = b.global_pool(x, flatten=True)
    return b.finish(b.linear(x, chance.choice((10, 100, 1000))))


def _block(b, x, family, width, act, chance):
    if family in ("plain", "wide", "nasbench201"):
        y = b.batch_norm(b.conv(x, width, 3, padding=1))
        return b.add(x, b.activation(y, act)) if family != "wide" else b.activation(y, act)
    if family in ("inverted", "ofa", "fbnet", "tall"):
        kernel = chance.choice((3, 5, 7))
        y = b.activation(b.batch_norm(b.conv(x, 3 * width, 1)), act)
        y = b.batch_norm(b.conv(y, 3 * width, kernel, padding=kernel // 2, groups=3 * width))
        return b.add(x, b.batch_norm(b.conv(b.activation(y, act), width, 1)))
    if family == "pooled":
        return b.activation(
            b.batch_norm(b.conv(b.pool(x, "avg", 3, stride=1, padding=1), width, 1)), act
        )
    y = b.activation(b.batch_norm(b.conv(x, max(4, width // 2), 1)), act)
    y = b.activation(b.batch_norm(b.conv(y, max(4, width // 2), 3, padding=1)), act)
    return b.activation(b.conv(y, width, 1), act)


def measurements(
    members: int = 4, noise: float = 0.02, seed: int = 0, runtime: str = "eager",
    name: str = "nonesuch", factor: dict[str, float] | None = None,
) -> Measurements:  # fmt: skip
    """All families, ``members`` networks each, timed twice; ``factor`` slows families down."""
    chance = random.Random(seed)
    networks, kernels = [], []
    for family in (*FAMILIES, *SPACES):
        slow = (factor or {}).get(family, 1.0)
        space = "nas" if family in SPACES else "zoo"
        for index in range(members):
            graph = graph_of(family, index)
            ready = prepare(graph, "fp32", runtime)
            drift = [math.exp(chance.gauss(0, noise)) for _ in range(2)]
            times = [1e-3 * true_us(kernel) * slow for kernel in ready.kernels]
            host = 1e-3 * HOST_US * launched(runtime, ready.graph, ready.kernels)
            label = f"{family}-{index}"
            for turn in (1, 2):
                total = SCALE * sum(times) + host * slow
                networks.append(
                    _network(label, family, space, turn, graph, total * drift[turn - 1])
                )
            for kernel, ms in zip(ready.kernels, times, strict=True):
                value = ms * drift[0] * math.exp(chance.gauss(0, noise))
                kernels.append(KernelTiming(kernel, label, family, space, value, 8, noise, "place"))
            for kernel, ms in list(zip(ready.kernels, times, strict=True))[::3]:
                for where, part in (("hot", 0.8), ("flushed", 1.1)):
                    kernels.append(
                        KernelTiming(kernel, "", family, space, ms * part, 6, noise, where)
                    )
    return Measurements(name, runtime, "fp32", 1, "cpu", MACHINE, {"torch": "2.13.0"}, 3.0,
                        tuple(networks), tuple(kernels), ())  # fmt: skip


def _network(label, family, space, turn, graph, ms):
    return NetworkTiming(f"{label}.{turn}", label, family, space, turn, f"programs/{label}", graph,
                         ms, ms, 0.02, ms * 1.1, ms * 3, 1e3 / ms, True)  # fmt: skip


def only(measured: Measurements, keep) -> Measurements:
    """The measurements of networks and kernels whose family ``keep`` wants."""
    return replace(
        measured,
        networks=tuple(n for n in measured.networks if keep(n.family)),
        kernels=tuple(k for k in measured.kernels if keep(k.family)),
    )
