"""A deterministic estimate for what people see. The figures are made up."""

from __future__ import annotations

from typing import Any

from predictor.builder import GraphBuilder
from predictor.estimate import Bound, Check, Estimate, KernelEstimate, Source, Tier
from predictor.graph import Graph


def kernel(name: str, ms: float, **changes: Any) -> KernelEstimate:
    values: dict[str, Any] = {
        "kind": "conv", "ops": (name, f"{name}.relu"), "interval_ms": (0.9 * ms, 1.12 * ms),
        "source": Source.FITTED, "bound": Bound.COMPUTE, "flops": int(ms * 8e8),
        "elementwise_flops": int(ms * 2e6), "bytes": int(ms * 9e6), "peak_share": 0.42,
    }  # fmt: skip
    return KernelEstimate(name=name, latency_ms=ms, **{**values, **changes})


def estimate(**changes: Any) -> Estimate:
    kernels = (
        kernel("stem.conv", 0.31),
        kernel("stem.pool", 0.08, kind="pool", flops=0, bound=Bound.MEMORY, peak_share=0.71),
        kernel("layers.0.block.depthwise", 0.125, source=Source.LEARNED, bound=Bound.MEMORY),
        kernel("layers.0.block.pointwise", 0.52, source=Source.MEASURED),
        kernel("layers.1.sampler", 0.19, kind="grid_sample", source=Source.ROOFLINE,
               bound=Bound.MEMORY, interval_ms=(0.08, 0.55), peak_share=1.0),
        kernel("head.fc", 0.02, kind="linear", bound=Bound.OVERHEAD, peak_share=0.05),
    )  # fmt: skip
    values: dict[str, Any] = {
        "model": "tiny_net", "device": "board-a", "device_title": "Example Board A 8GB",
        "runtime": "tensorrt", "precision": "fp16", "power_mode": "15W",
        "software": "TensorRT 8.5", "batch": 1, "tier": Tier.CALIBRATED, "latency_ms": 1.345,
        "interval_ms": (1.1, 1.72), "throughput_fps": 743.49, "kernels": kernels,
        "overheads_ms": {"launch_chain": 0.08, "copies": 0.02}, "macs": 498000000,
        "flops": 996000000, "elementwise_flops": 2490000, "params": 4231976, "model_mb": 8.46,
        "memory_access_mb": 20.4, "fused_memory_access_mb": 11.2, "peak_activation_mb": 3.2,
        "memory_needed_mb": 214.5, "device_memory_mb": 7400.0, "fits_memory": True,
        "peak_share": 0.38, "scope": "engine",
        "warnings": ("1 of 6 kernels (grid_sample x1) has no measurement and no model on this "
                     "device; roofline used, interval widened.",),
        "hints": ("layers.1: 65 channels fill 128 lanes; 64 would take half the time.",),
        "notes": ("not included: pre- and post-processing, host copies, first run",),
        "accuracy": {
            "model": {"median_pct": 5.8, "mean_pct": 8.3, "n": 48, "sources": ["a"], "folds": {}},
            "family": {"median_pct": 14.9, "mean_pct": 19.0, "n": 48,
                       "baselines": {"flops": {"median_pct": 71.0, "mean_pct": 160.0}}},
        },
        "roof": {"peak_flops": 2.0e13, "bandwidth": 6.8e10},
    }  # fmt: skip
    return Estimate(**{**values, **changes})


def over_budget() -> Estimate:
    return estimate(
        checks=(Check("latency_ms", 1.345, 1.0, "ms"), Check("params", 4231976, 5e6, "count"))
    )


HOSTILE = "<script>alert('x')</script>\x1b[31m\"&"


def big(n: int = 80) -> Estimate:
    """Many kernels with spread intensities, to look at."""
    import math

    kinds = (("conv", Bound.COMPUTE, Source.FITTED), ("pool", Bound.MEMORY, Source.ROOFLINE),
             ("matmul", Bound.COMPUTE, Source.LEARNED), ("norm", Bound.MEMORY, Source.MEASURED))  # fmt: skip
    kernels = []
    for i in range(n):
        kind, bound, source = kinds[0 if i % 3 else (i // 3) % 4]
        ms = 0.05 + 0.2 * abs(math.sin(i * 1.7)) + (0.4 if i % 17 == 0 else 0)
        intensity = 10 ** (2.6 * abs(math.sin(i * 0.37)) - 0.3)
        reach = 0.15 + 0.7 * abs(math.cos(i))
        speed = min(2.0e13, intensity * 6.8e10) * reach
        flops = int(speed * ms / 1e3)
        kernels.append(kernel(f"stages.{i // 20}.blocks.{i % 20}.{kind}", ms, kind=kind, bound=bound,
                              source=source, flops=flops, elementwise_flops=flops // 100,
                              bytes=int(flops / intensity), peak_share=reach))  # fmt: skip
    total = sum(k.latency_ms for k in kernels)
    return estimate(kernels=tuple(kernels), latency_ms=total, interval_ms=(total * 0.85, total * 1.2),
                    throughput_fps=1e3 / total, model="mid_net", checks=(Check("latency_ms", total, 20, "ms"),))  # fmt: skip


def network(batch: int = 1, size: int = 32) -> Graph:
    b = GraphBuilder("tiny")
    x = b.input((batch, 3, size, size))
    x = b.conv(x, 16, 3, stride=2, padding=1, name="stem.conv")
    x = b.activation(b.batch_norm(x, name="stem.norm"), "relu", name="stem.act")
    y = b.conv(x, 16, 3, padding=1, groups=16, bias=False, name="block.0.dw")
    x = b.add(x, y, name="block.0")
    (x,) = b.op("warp", [x], [x.shape], name="block.1.warp")
    return b.finish(b.linear(b.global_pool(x, flatten=True), 10, name="head"))
