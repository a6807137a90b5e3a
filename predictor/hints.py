"""What the physics of an estimate would gain from, in words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from predictor.operators import gemm_of

if TYPE_CHECKING:
    from predictor.estimate import Estimate, KernelEstimate
    from predictor.graph import Kernel
    from predictor.pipeline import Predictor

TILE_WIDTH = 8
"""Channels that half-precision tensor cores take at once: NVIDIA, "Deep Learning Performance
Guide", tensor core requirements."""
TENSOR_CORE_PRECISIONS = ("fp16", "bf16", "amp", "amp_bf16")


def hints_of(
    predictor: Predictor, kernels: tuple[KernelEstimate, ...], overheads: dict[str, float],
    latency_ms: float,
) -> tuple[str, ...]:  # fmt: skip
    """What the physics would gain from; at most a few, largest first."""
    hints = []
    launch = overheads.get("launch_chain", 0.0)
    if launch > 0.3 * latency_ms:
        hints.append(
            f"{launch / latency_ms:.0%} of the time is the host launching operators: a larger "
            "batch, or a runtime that fuses (torch_compile, tensorrt), would hide it"
        )
    small = sum(k.latency_ms for k in kernels if k.bound == "overhead")
    if small > 0.5 * latency_ms:
        hints.append(
            f"{small / latency_ms:.0%} of the time is in kernels too small to fill the device: "
            "fewer, wider layers cost less than many narrow ones"
        )
    memory = sum(k.latency_ms for k in kernels if k.bound == "memory")
    if memory > 0.6 * latency_ms and predictor.target.precision == "fp32":
        hints.append(
            f"{memory / latency_ms:.0%} of the time waits for memory: fp16 would halve the bytes"
        )
    return tuple(hints)


def tile_hints(predictor: Predictor, kernels: list[Kernel], estimate: Estimate) -> tuple[str, ...]:
    """Widths that tensor cores pad: they work on multiples of 8 half-precision channels."""
    if not predictor.device.tensor_cores or estimate.precision not in TENSOR_CORE_PRECISIONS:
        return ()
    wasted: Counter[int] = Counter()
    time_ms: dict[int, float] = {}
    for kernel, cost in zip(kernels, estimate.kernels, strict=True):
        op = kernel.ops[kernel.anchor]
        gemm = gemm_of(op)
        if gemm is None or gemm.batch > 1 or gemm.n % TILE_WIDTH == 0 or gemm.n < TILE_WIDTH:
            continue
        wasted[gemm.n] += 1
        time_ms[gemm.n] = time_ms.get(gemm.n, 0.0) + cost.latency_ms
    hints = []
    for width, spent in sorted(time_ms.items(), key=lambda item: -item[1])[:3]:
        if spent > 0.03 * estimate.latency_ms:
            padded = -(-width // TILE_WIDTH) * TILE_WIDTH
            hints.append(
                f"{wasted[width]} kernels of width {width} ({spent / estimate.latency_ms:.0%} of "
                f"the time) are padded to {padded} by the tensor cores: {padded} costs the same"
            )
    return tuple(hints)
