"""Cost kernels on a target: measured if the table has them, learned, fitted, roofline otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from predictor.estimate import Bound, KernelEstimate, Source
from predictor.graph import Kernel
from predictor.hardware import Device, Target
from predictor.kernels.details import details_of
from predictor.kernels.features import CLASSES, Features, Floats, featurize
from predictor.latency.boosted import Forest
from predictor.latency.bundle import Bundle, load_bundle, read_checked
from predictor.latency.intervals import (
    DATASHEET_LOG_ERROR,
    UNCOVERED_LOG_ERROR,
    base_log_error,
    interval,
    widened,
)
from predictor.latency.kernelwise import Kernelwise, network_ms
from predictor.latency.physical import (
    MEDIAN,
    Hardware,
    Times,
    floor_s,
    kernel_times,
    to_vector,
)
from predictor.latency.shared import shared_bundle
from predictor.latency.siblings import anchored, sibling_bundle
from predictor.latency.sustained import sustained
from predictor.latency.table import LookupTable
from predictor.latency.tiles import shapes_of
from predictor.latency.totals import Answer, Totals

DEFAULT_L2_MB = {"gpu": 2.0, "cpu": 1.0, "npu": 2.0}
KERNEL_LOG_ERROR = 0.5
"""Half-width for a single fitted kernel where no layer table says better."""


def hardware_of(device: Device, precision: str) -> Hardware:
    """What the physical model needs of a device in a precision."""
    return Hardware(
        peak_flops=device.peak_flops(precision),
        vector_flops=device.peak_flops("fp32"),
        bandwidth=device.bandwidth,
        l2_bytes=(device.l2_mb or DEFAULT_L2_MB[device.kind]) * 1e6,
        units=float(device.units),
        clock_hz=device.clock_mhz * 1e6,
    )


CALL_MS = 0.5
"""What a call through a Python wrapper adds to the engine alone, milliseconds. An assumption: the
trtutils benchmark shows 0.4 to 1.9 ms between engine and end to end on five boards at 160 pixels,
pre- and post-processing included."""
HOST_POWER = 4.0
"""Exponent of the smooth maximum of host chain and device chain; they overlap almost fully."""
EAGER_HOST_US = {"eager": 8.0, "torch_compile": 5.0}
"""What launching an operator costs a desktop host, microseconds; a profile's own figure wins."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Kernels with their latencies, and what the report wants to know of them."""

    kernels: tuple[KernelEstimate, ...]
    roofline_ms: float
    uncovered: tuple[str, ...]
    """Kind of each kernel that nothing but the roofline covers."""
    uncovered_share: float
    first_wait_ms: float | None = None
    """What a call waits before its first kernel starts, where the target's figures say so."""
    whole: Answer | None = None
    """What the whole-model experts said, where the target has them."""


@dataclass(frozen=True, slots=True)
class Each:
    """Kernels one by one: the parts of their times (s), milliseconds, and where those come from."""

    times: Times
    latency_ms: Floats
    sources: list[Source]


class Coster:
    """Everything that was fitted or measured for one target, loaded once."""

    def __init__(self, device: Device, target: Target) -> None:
        self.device, self.target = device, target
        self.bundle: Bundle | None = load_bundle(device, target)
        own = self.bundle is not None
        home = Path(device.folder or "")
        if self.bundle is None:
            found = sibling_bundle(device, target) or shared_bundle(device, target)
            if found is not None:
                self.bundle, home = found
        self.home = home
        """Where the files that the bundle names lie."""
        self.hardware = self._hardware(device)
        self.theta: Floats = to_vector(self.bundle.parameters) if self.bundle else MEDIAN
        self.covered = frozenset(self.bundle.classes if self.bundle else ())
        self.anchors: tuple[str, ...] = ()
        """What of the device's own two measurements the parameters stand on."""
        if not own:
            self.theta, self.anchors = anchored(self.theta, device, target.precision, self.covered)
        self.table: LookupTable | None = None
        self.forest: Forest | None = None
        if self.bundle and self.bundle.table:
            text = read_checked(home, self.bundle.table).decode()
            self.table = LookupTable.from_csv(text, self.bundle.table)
        if self.bundle and self.bundle.learned:
            data = read_checked(home, self.bundle.learned)
            self.forest = Forest.from_bytes(data, self.bundle.learned)
        self.totals: Totals | None = None
        if self.bundle and self.bundle.totals:
            data = read_checked(home, self.bundle.totals)
            self.totals = Totals.from_bytes(data, self.bundle.totals)
        self.kernelwise: Kernelwise | None = None
        if self.bundle and self.bundle.kernelwise:
            data = read_checked(home, self.bundle.kernelwise)
            self.kernelwise = Kernelwise.from_bytes(data, self.bundle.kernelwise)

    def at(self, device: Device) -> Coster:
        """The same fit on the device at another power mode."""
        other = object.__new__(Coster)
        other.__dict__.update(self.__dict__)
        other.device = device
        other.hardware = self._hardware(device)
        if device != self.device:
            other.table = None  # measured at the default mode only
            if self.kernelwise is not None and device.name == self.device.name:
                other.kernelwise = self.kernelwise.at(self.hardware, other.hardware)
        return other

    def _hardware(self, device: Device) -> Hardware:
        """Peaks at the clock that holds, where the fit took that or there is none."""
        hardware = hardware_of(device, self.target.precision)
        measured = device.measured is not None and device.measured.matmul_tflops
        if (self.bundle is None or self.bundle.sustained) and not measured:
            return sustained(hardware, device)
        return hardware

    def cost(
        self, kernels: Sequence[Kernel], total_ms: float | None = None,
        features: Features | None = None,
    ) -> Costs:  # fmt: skip
        """Every kernel with its latency in milliseconds, interval, source and bound.

        ``total_ms`` is what all of them take, where a calibration says so: each has its share.
        """
        features = featurize(kernels) if features is None else features
        each = self.each(kernels, features)
        times, latency, sources = each.times, each.latency_ms, each.sources
        first_wait_ms = self.first_wait_ms(features) if kernels else None
        whole = self.whole(features, times) if self.totals is not None and kernels else None
        if whole is not None:
            total_ms = 1e3 * whole.total_s if total_ms is None else total_ms
            sources = [Source.LEARNED if s is Source.FITTED else s for s in sources]
        if total_ms is not None and latency.sum() > 0:
            latency = latency * (total_ms / latency.sum())
        floor = 1e3 * floor_s(features, hardware_of(self.device, self.target.precision))
        rows = tuple(
            self._estimate(kernel, i, features, times, latency, sources, floor)
            for i, kernel in enumerate(kernels)
        )
        bare = [i for i, source in enumerate(sources) if source is Source.ROOFLINE]
        total = float(latency.sum())
        share = float(latency[bare].sum()) / total if bare and total else 0.0
        names = tuple(kernels[i].ops[kernels[i].anchor].kind for i in bare)
        return Costs(rows, float(floor.sum()), names, share, first_wait_ms, whole)

    def each(self, kernels: Sequence[Kernel], features: Features) -> Each:
        """What every kernel takes by itself, before a network as a whole has a say."""
        times = self.times(kernels, features)
        latency = times.total * 1e3
        known = [CLASSES[c] in self.covered and kernel_known(kernel)
                 for c, kernel in zip(features.cls, kernels, strict=True)]  # fmt: skip
        fitted = Source.FITTED if self.kernelwise is None else Source.LEARNED
        sources = [fitted if ok else Source.ROOFLINE for ok in known]
        if self.forest is not None:
            seconds, answered = self.forest.seconds(
                features, self.hardware, times, shapes_of(kernels),
                self.forest.board(self.device.power_limit_w, self.device.generation),
            )  # fmt: skip
            learned = answered & np.array(known, dtype=bool)
            latency = np.where(learned, seconds * 1e3, latency)
            sources = [Source.LEARNED if ok else s for ok, s in zip(learned, sources, strict=True)]
        if self.table is not None:
            for i, entry in enumerate(self.table.find(kernels)):
                if entry is not None:
                    latency[i], sources[i] = entry.combined(float(latency[i])), Source.MEASURED
        if self.kernelwise is not None:
            latency = latency * min(1.0, self.scale)
        return Each(times, latency, sources)

    def first_wait_ms(self, features: Features) -> float | None:
        """What a call waits before the first of these kernels, where the figures say so."""
        return None if self.forest is None else self.forest.wait_ms(int(features.cls[0]))

    @property
    def scale(self) -> float:
        """What a whole network takes over the sum of its kernels."""
        return self.bundle.scale if self.bundle else 1.0

    def log_error(self, uncovered_share: float, batch: int, whole: Answer | None = None) -> float:
        """Half-width of a network's 90 % interval, in logarithms; see :meth:`log_errors`."""
        said = None if whole is None else np.array([whole.log_error])
        return float(self.log_errors(np.array([uncovered_share]), batch, said)[0])

    def log_errors(self, uncovered_share: Floats, batch: int, whole: Floats | None) -> Floats:
        """Half-widths of networks' 90 % intervals, in logarithms.

        Args:
            uncovered_share: what part of each latency nothing but the roofline covers.
            batch: images at once.
            whole: what the target's whole-model experts said, where it has them.
        """
        bundle = self.bundle
        if bundle is None:
            return np.full(len(uncovered_share), DATASHEET_LOG_ERROR[self.device.kind])
        base = base_log_error(bundle.log_error_90, siblings_only=bundle.siblings_only)
        bases = np.full(len(uncovered_share), base)
        if whole is not None and not bundle.siblings_only:
            bases = np.maximum(whole, bundle.log_error_90.get("source", 0.0))
        extrapolated = batch < bundle.smallest_batch
        shares = np.ones(len(bases)) if extrapolated else uncovered_share
        return np.array([widened(base, share) for base, share in zip(bases.tolist(),
                         shares.tolist(), strict=True)])  # fmt: skip

    def overheads_ms(
        self, device_ms: Floats, launches: Floats, operators: Floats, scope: str,
        first_wait_ms: float | None = None,
    ) -> dict[str, Floats]:  # fmt: skip
        """Parts that no kernel carries, one entry a network.

        Host and device chains overlap: only the excess counts. Where it is known how long a call
        waits for its first kernel, that is the call's constant, and the chain begins with the
        second launch. Networks of a measured target were timed in place and called from Python, so
        a call through it has nothing to add there.

        Args:
            device_ms: what all kernels take.
            launches: operators that eager mode launches.
            operators: what the host handles one by one, as
                :func:`predictor.latency.kernelwise.launched` counts.
            scope: ``engine`` or ``call``.
            first_wait_ms: what the first kernel waits, where that is known.
        """
        if self.kernelwise is not None:
            return {"between_kernels": self.beside_kernels_ms(device_ms, operators)}
        bundle, device, runtime = self.bundle, self.device, self.target.runtime
        parts: dict[str, Floats] = {}
        if device.kind == "gpu" and runtime in EAGER_HOST_US:
            host_us = (bundle.host_us if bundle else None) or device.host.eager_us_per_op
            chain = launches - (first_wait_ms is not None)
            host_ms = 1e-3 * chain * (host_us or EAGER_HOST_US[runtime])
            both = (host_ms**HOST_POWER + device_ms**HOST_POWER) ** (1 / HOST_POWER)
            parts["launch_chain"] = both - device_ms
        if bundle is not None:
            constant_ms = 1e-3 * bundle.parameters.get("call_us", 0.0)
            wait_ms = constant_ms if first_wait_ms is None else first_wait_ms
            parts["call_constant"] = device_ms * 0 + wait_ms
        if scope == "call":
            call_ms = (bundle.call_ms if bundle else None) or CALL_MS
            parts["python_call"] = device_ms * 0 + call_ms
        return parts

    def beside_kernels_ms(self, kernels_ms: Floats, operators: Floats) -> Floats:
        """What networks of a measured target take beside their kernels, milliseconds.

        Args:
            kernels_ms: what they take, as they are costed.
            operators: how many the host handles, see :func:`predictor.latency.kernelwise.launched`.
        """
        host_us = (self.bundle.host_us if self.bundle else None) or 0.0
        total = network_ms(kernels_ms, operators, max(1.0, self.scale), host_us,
                           overlaps=self.device.kind == "gpu")  # fmt: skip
        beside: Floats = np.maximum(0.0, total - kernels_ms)
        return beside

    def times(self, kernels: Sequence[Kernel], features: Features) -> Times:
        """Seconds a kernel and its parts, by the trees of the target or the physical model."""
        if self.kernelwise is not None:
            return self.kernelwise.times(features, details_of(kernels))
        return kernel_times(features, self.hardware, self.theta)

    def whole(self, features: Features, times: Times) -> Answer:
        """What the whole-model experts say of a network; ``self.totals`` must be there."""
        assert self.totals is not None
        floor = floor_s(features, self.hardware)
        return self.totals.answer(features, self.hardware, times, floor)

    def _estimate(
        self, kernel: Kernel, i: int, features: Features, times: Times, latency: Floats,
        sources: Sequence[Source], floor: Floats,
    ) -> KernelEstimate:  # fmt: skip
        value = float(latency[i])
        log_error = self._kernel_error(sources[i], int(features.cls[i]))
        compute, memory, launch = times.compute[i], times.memory[i], times.launch[i]
        if launch > max(compute, memory):
            bound = Bound.OVERHEAD
        else:
            bound = Bound.COMPUTE if compute > memory else Bound.MEMORY
        return KernelEstimate(
            kernel.name, kernel.kind, tuple(op.target for op in kernel.ops), value,
            interval(value, log_error), sources[i], bound, kernel.flops, kernel.elementwise_flops,
            kernel.bytes, min(1.0, float(floor[i]) / value) if value else 0.0,
        )  # fmt: skip

    def _kernel_error(self, source: Source, cls: int) -> float:
        if self.bundle is None:
            return DATASHEET_LOG_ERROR[self.device.kind]
        if source is Source.ROOFLINE:
            return UNCOVERED_LOG_ERROR
        if self.kernelwise is not None and np.isfinite(self.kernelwise.spread[cls]):
            return float(self.kernelwise.spread[cls])
        return self.bundle.log_error_90.get("kernel", KERNEL_LOG_ERROR)


def kernel_known(kernel: Kernel) -> bool:
    """False where an operator in the kernel has no formula."""
    return all(op.known for op in kernel.ops)


def renamed(kernels: Sequence[KernelEstimate]) -> tuple[KernelEstimate, ...]:
    """Kernels of one name told apart by a number, so that every row can be referred to."""
    seen: dict[str, int] = {}
    rows = []
    for kernel in kernels:
        count = seen[kernel.name] = seen.get(kernel.name, 0) + 1
        rows.append(kernel if count == 1 else replace(kernel, name=f"{kernel.name}#{count}"))
    return tuple(rows)
