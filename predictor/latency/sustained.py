"""Clocks that a power limit allows: why a 70 W card does not reach the peak of its datasheet.

A card whose limit is small for its size lowers its clock under load. Dynamic power goes with
clock x voltage^2, and voltage rises with the clock, so over the usual range power goes with
clock^:data:`EXPONENT` (Chandrakasan, Sheng, Brodersen, "Low-power CMOS digital design", 1992, with
voltage about proportional to what is above threshold). A generation's need is that of its card with
the most watts a unit, which is taken to hold its boost clock:

    need = watts a unit and GHz x units x clock x (clock / reference)^(EXPONENT - 1)
    sustained clock = clock x min(1, (limit x (1 - OTHER) / need)^(1 / EXPONENT))
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from predictor.hardware import Device
from predictor.latency.physical import Hardware

EXPONENT = 2.2
OTHER = 0.18
"""Share of the limit that goes to memory, leakage and fans: about 60 to 80 W of 350 to 450 W."""


@dataclass(frozen=True, slots=True)
class Need:
    """Watts a unit draws a GHz at the reference clock, GHz."""

    watts: float
    reference_ghz: float


NEEDS = {
    "pascal": Need(4.6, 1.58), "volta": Need(2.0, 1.53), "turing": Need(1.9, 1.64),
    "ampere": Need(2.06, 1.70), "ada": Need(1.15, 2.52), "hopper": Need(2.2, 1.83),
    "blackwell": Need(1.15, 2.41),
}  # fmt: skip
"""By generation, from limit, units and boost clock on NVIDIA's pages for GTX 1080 Ti, V100 SXM2,
RTX 2080 Ti, RTX 3090, RTX 4090, H100 SXM5 and RTX 5090."""


def sustained_share(device: Device) -> float:
    """The share of its boost clock that a card of its own memory holds under load; 1 elsewhere.

    Boards that share memory with their host state clocks by power mode, which hold.
    """
    need = NEEDS.get(device.generation)
    if need is None or device.kind != "gpu" or device.shared_memory or not device.power_limit_w:
        return 1.0
    ghz = device.clock_mhz / 1e3
    asked = need.watts * device.units * ghz * (ghz / need.reference_ghz) ** (EXPONENT - 1)
    given = device.power_limit_w * (1 - OTHER)
    return float(min(1.0, (given / asked) ** (1 / EXPONENT)))


def sustained(hardware: Hardware, device: Device) -> Hardware:
    """``hardware`` at the clock that the power limit allows; memory keeps its own."""
    share = sustained_share(device)
    if share >= 1.0:
        return hardware
    return replace(
        hardware, peak_flops=hardware.peak_flops * share,
        vector_flops=hardware.vector_flops * share, clock_hz=hardware.clock_hz * share,
    )  # fmt: skip
