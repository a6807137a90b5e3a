"""Results, each number with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

SCHEMA_VERSION = 1
"""Raised when a key of :meth:`Estimate.to_dict` changes its meaning or goes away."""


class Source(StrEnum):
    """Where a kernel's latency comes from, best first."""

    MEASURED = "measured"  # the target's lookup table holds this kernel
    LEARNED = "learned"  # a LightGBM model of this target
    FITTED = "fitted"  # the physical kernel model with efficiencies fitted for this target
    ROOFLINE = "roofline"  # datasheet peak and bandwidth only


class Bound(StrEnum):
    """What limits a kernel."""

    COMPUTE = "compute"
    MEMORY = "memory"
    OVERHEAD = "overhead"


class Tier(StrEnum):
    """How a target was made, best first."""

    MEASURED = "measured"  # profiled on the device
    CALIBRATED = "calibrated"  # fitted on published figures or on a few measurements
    DATASHEET = "datasheet"  # hardware facts only


@dataclass(frozen=True, slots=True)
class KernelEstimate:
    """One kernel's share of the estimate. Latencies are milliseconds.

    ``peak_share`` is the share of the roofline that the kernel reaches (roofline time / latency).
    """

    name: str
    kind: str
    ops: tuple[str, ...]
    latency_ms: float
    interval_ms: tuple[float, float]
    source: Source
    bound: Bound
    flops: int
    elementwise_flops: int
    bytes: int
    peak_share: float


@dataclass(frozen=True, slots=True)
class Check:
    """One budget line: ``value`` against ``limit`` of ``quantity`` in ``unit``."""

    quantity: str
    value: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """True where the value does not exceed the limit."""
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits that a caller sets; None is no limit. See :func:`predictor.pipeline.check_budget`."""

    latency_ms: float | None = None
    macs: float | None = None
    flops: float | None = None
    params: float | None = None
    memory_mb: float | None = None
    model_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A latency with its provenance.

    ``latency_ms`` is one forward pass of the whole batch in steady state; ``interval_ms`` holds it
    with 90 % confidence; ``throughput_fps`` are images (batch items) a second, back to back.
    ``roof`` holds what the target can reach at best in this precision and power mode:
    ``peak_flops`` (FLOP/s) and ``bandwidth`` (bytes/s).
    ``overheads_ms`` are parts that no kernel carries (launch chain, copies, call). ``notes`` state
    what the number covers and what it does not; ``hints`` what the physics would gain from.
    ``language`` is empty but for a phase of a language model: ``phase``, ``new_tokens`` and
    ``cached_tokens`` of each sequence, ``kv_cache_mb`` after the pass, ``tokens_per_second`` of the
    batch, and ``time_to_first_token_ms`` (prefill) or ``time_per_output_token_ms`` (decode).
    """

    model: str
    device: str
    device_title: str
    runtime: str
    precision: str
    power_mode: str
    software: str
    batch: int
    tier: Tier
    latency_ms: float
    interval_ms: tuple[float, float]
    throughput_fps: float
    kernels: tuple[KernelEstimate, ...]
    overheads_ms: Mapping[str, float]
    macs: int
    flops: int
    elementwise_flops: int
    params: int
    model_mb: float
    memory_access_mb: float
    fused_memory_access_mb: float
    peak_activation_mb: float
    memory_needed_mb: float
    device_memory_mb: float | None
    fits_memory: bool | None
    peak_share: float
    scope: str = "engine"
    checks: tuple[Check, ...] = ()
    warnings: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    roof: Mapping[str, float] = field(default_factory=dict)
    language: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> dict[str, float]:
        """Share of the kernels' latency by source; the shares add up to 1."""
        total = sum(kernel.latency_ms for kernel in self.kernels)
        shares = dict.fromkeys((source.value for source in Source), 0.0)
        for kernel in self.kernels:
            shares[kernel.source.value] += kernel.latency_ms / total if total else 0.0
        return shares

    @property
    def within_budget(self) -> bool | None:
        """None where no budget was set."""
        return all(check.met for check in self.checks) if self.checks else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values under the same names."""
        data = {name: getattr(self, name) for name in _FIELDS}
        data["tier"] = self.tier.value
        data["kernels"] = [_kernel_dict(kernel) for kernel in self.kernels]
        data["checks"] = [
            {"quantity": c.quantity, "value": c.value, "limit": c.limit, "unit": c.unit,
             "met": c.met} for c in self.checks
        ]  # fmt: skip
        for key in ("warnings", "hints", "notes", "interval_ms"):
            data[key] = list(data[key])
        for key in ("overheads_ms", "accuracy", "roof", "language"):
            data[key] = deepcopy(dict(data[key]))
        return {
            "schema_version": SCHEMA_VERSION, **data,
            "sources": self.sources, "within_budget": self.within_budget,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimate:
        """Inverse of :meth:`to_dict`."""
        values = {k: v for k, v in data.items()
                  if k not in ("schema_version", "sources", "within_budget")}  # fmt: skip
        values["tier"] = Tier(values["tier"])
        values["interval_ms"] = tuple(values["interval_ms"])
        values["kernels"] = tuple(
            KernelEstimate(**{
                **k, "ops": tuple(k["ops"]), "interval_ms": tuple(k["interval_ms"]),
                "source": Source(k["source"]), "bound": Bound(k["bound"]),
            })
            for k in values["kernels"]
        )  # fmt: skip
        values["checks"] = tuple(
            Check(**{k: v for k, v in check.items() if k != "met"}) for check in values["checks"]
        )
        for key in ("warnings", "hints", "notes"):
            values[key] = tuple(values[key])
        return cls(**values)


def _kernel_dict(kernel: KernelEstimate) -> dict[str, Any]:
    # By hand: dataclasses.asdict copies every text and takes ten times as long.
    return {
        "name": kernel.name, "kind": kernel.kind, "ops": list(kernel.ops),
        "latency_ms": kernel.latency_ms, "interval_ms": list(kernel.interval_ms),
        "source": kernel.source.value, "bound": kernel.bound.value, "flops": kernel.flops,
        "elementwise_flops": kernel.elementwise_flops, "bytes": kernel.bytes,
        "peak_share": kernel.peak_share,
    }  # fmt: skip


_FIELDS = tuple(field.name for field in fields(Estimate))
