"""What a card delivers under load: the clock that its power limit allows, the bytes it moves.

**Clock.** A card whose limit is small for its size lowers its clock. Dynamic power goes with
clock x voltage^2, and voltage rises with the clock, so over the usual range power goes with
clock^:data:`EXPONENT` (Chandrakasan, Sheng, Brodersen, "Low-power CMOS digital design", 1992,
with voltage about proportional to what is above threshold). Memory and leakage take their part
first. What a generation's units need is what is left on its card with the most watts a unit, which
is taken to hold its boost clock:

    left = limit - MEMORY_W x GB/s - UNIT_W x units
    need = watts a unit and GHz x units x clock x (clock / reference)^(EXPONENT - 1)
    sustained clock = clock x min(1, (left / need)^(1 / EXPONENT))

**Bytes.** Outside of large copies a byte also passes through the units, which take their time for
it: a card with many units for its bandwidth reaches more of it,
1 / delivered = 1 / bandwidth + :data:`UNIT_TIME` / (units x GHz). Set on one ratio: the eighth of
networks with the least arithmetic a byte runs 1.30 times as fast on an RTX 4090 as on a 3090 (timm
tables, PyTorch eager), whose bandwidths differ by 8 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from predictor.hardware import Device
from predictor.latency.physical import Hardware

EXPONENT = 2.2
MEMORY_W = 0.05
"""Watts a GB/s of the memory's bandwidth: about 50 W of an RTX 4090's GDDR6X, 16 W of a T4's
GDDR6."""
UNIT_W = 0.4
"""Watts a unit leaks, with its share of caches and fabric; an estimate, as none publishes it. With
it a T4 and an L4 hold about 60 % of their boost clock, as their owners report."""
UNIT_TIME = 0.07
"""Unit-GHz a GB/s."""
_LEAST = 0.05
"""Share of the limit that is left in any case, so that odd figures give a number."""


@dataclass(frozen=True, slots=True)
class Need:
    """Watts a unit draws a GHz at the reference clock, GHz."""

    watts: float
    reference_ghz: float


NEEDS = {
    "pascal": Need(4.86, 1.58), "volta": Need(1.82, 1.53), "turing": Need(1.83, 1.545),
    "ampere": Need(1.94, 1.695), "ada": Need(1.08, 2.52), "hopper": Need(1.98, 1.83),
    "blackwell": Need(1.02, 2.41),
}  # fmt: skip
"""By generation, from limit, bandwidth, units and boost clock on NVIDIA's pages for GTX 1080 Ti,
V100 SXM2, RTX 2080 Ti, RTX 3090, RTX 4090, H100 SXM5 and RTX 5090, by the formula above."""


def own_memory(device: Device) -> bool:
    """A card with memory of its own; boards that share it hold the clocks of their power mode."""
    return device.kind == "gpu" and not device.shared_memory


def sustained_share(device: Device) -> float:
    """The share of its boost clock that a card holds under load; 1 where nothing limits it."""
    need = NEEDS.get(device.generation)
    if need is None or not own_memory(device) or not device.power_limit_w:
        return 1.0
    ghz = device.clock_mhz / 1e3
    asked = need.watts * device.units * ghz * (ghz / need.reference_ghz) ** (EXPONENT - 1)
    limit = device.power_limit_w
    left = max(limit - MEMORY_W * device.bandwidth_gbs - UNIT_W * device.units, _LEAST * limit)
    return float(min(1.0, (left / asked) ** (1 / EXPONENT)))


def sustained(hardware: Hardware, device: Device) -> Hardware:
    """``hardware`` at the clock that the power limit allows, with the bytes that it delivers."""
    if not own_memory(device):
        return hardware
    share = sustained_share(device)
    clock_hz = hardware.clock_hz * share
    slowness = 1e9 / hardware.bandwidth + UNIT_TIME / (hardware.units * clock_hz / 1e9)
    return replace(
        hardware, peak_flops=hardware.peak_flops * share, clock_hz=clock_hz,
        vector_flops=hardware.vector_flops * share, bandwidth=1e9 / slowness,
    )  # fmt: skip
