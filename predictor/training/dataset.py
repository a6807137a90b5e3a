"""Measurements as arrays: kernels with what they took, networks with what all of it took.

Equal kernels are numbered alike (:attr:`Rows.signature`), so that a fit can pool them; a pool never
reaches beyond the rows that a fit is given, hence never into a family that is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from predictor.errors import MeasurementError
from predictor.kernels.details import Details, details_of
from predictor.kernels.features import CLASS_INDEX, Features, Floats, Ints, featurize
from predictor.latency.kernelwise import columns, parts
from predictor.latency.physical import Hardware, floor_s
from predictor.latency.table import signature

if TYPE_CHECKING:
    from predictor.graph import Kernel
    from predictor.profiling.records import KernelTiming, Measurements, NetworkTiming

Flags = npt.NDArray[np.bool_]

PLACES = ("place", "flushed", "hot")
"""Where a kernel was timed: inside its network; alone with cold caches; alone, again and again."""
PLACE_WEIGHTS = {"place": 1.0, "flushed": 0.3, "hot": 0.1}
"""What a row counts by where it was taken. Fixed beforehand: hot loops understate what memory
limits by a factor of two, so only those that compute limits count at all."""
MEMORY_BOUND = frozenset(
    CLASS_INDEX[name]
    for name in ("norm", "pool", "elementwise", "softmax", "reduce", "copy", "gather", "resize",
                 "other")
)  # fmt: skip
USUAL_SPREAD = 0.03
"""Relative error that no number of repeats removes: caches and neighbours differ by run."""
LEAST_KERNELS, LEAST_NETWORKS = 50, 6
SCORED = ("zoo", "nas")
"""Spaces whose networks are scored; perturbed ones only train."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Timed kernels, one entry each. ``matrix`` has the columns of the learned model, ``parts``
    the parts of its roofline, ``raw`` :data:`RAW`.

    ``share`` is the
    kernel's part of its network, 0 for isolated ones; ``family`` and ``network`` are numbers into
    the dataset's names, -1 for isolated kernels; ``place`` into :data:`PLACES`.
    """

    cls: Ints
    matrix: Floats
    raw: Floats
    parts: Floats
    roofline_s: Floats
    seconds: Floats
    weight: Floats
    share: Floats
    signature: Ints
    family: Ints
    network: Ints
    place: Ints

    def __len__(self) -> int:
        return len(self.cls)

    def take(self, which: Flags) -> Rows:
        """The rows where ``which`` is True."""
        return Rows(*(getattr(self, f.name)[which] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Networks:
    """Whole networks, one entry each, and their kernels laid end to end.

    ``turns_ms`` has one column a turn, NaN where a network was not timed again; ``label_ms`` is
    the geometric mean of its turns. ``owner`` says whose each kernel is, ``launches`` how many
    operators a network launches.
    """

    names: tuple[str, ...]
    family: Ints
    space: tuple[str, ...]
    turns_ms: Floats
    label_ms: Floats
    launches: Floats
    owner: Ints
    cls: Ints
    matrix: Floats
    raw: Floats
    parts: Floats
    roofline_s: Floats
    features: Features

    def __len__(self) -> int:
        return len(self.names)

    def sums(self, values: Floats) -> Floats:
        """The sum over each network's kernels of ``values`` (one a kernel)."""
        total: Floats = np.bincount(self.owner, values, minlength=len(self.names))
        return total

    @property
    def scored(self) -> Flags:
        """Networks that count when accuracy is measured."""
        return np.isin(self.space, SCORED)


@dataclass(frozen=True, slots=True)
class Dataset:
    """All that was measured on one target."""

    rows: Rows
    networks: Networks
    families: tuple[str, ...]
    hardware: Hardware
    threads: int

    def inside(self, families: Ints) -> tuple[Flags, Flags]:
        """Rows and networks of ``families``; isolated kernels belong to none."""
        return np.isin(self.rows.family, families), np.isin(self.networks.family, families)


def hardware_of_run(measured: Measurements) -> Hardware:
    """The machine as its own two measurements show it.

    Raises:
        MeasurementError: the run holds neither a matrix product nor a copy.
    """
    machine = measured.machine
    try:
        product, copied = float(machine["matmul_gflops"]), float(machine["copy_gbs"])
        if not (0 < product < math.inf and 0 < copied < math.inf):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise MeasurementError(
            f"{measured.name} {measured.runtime}: the run says no matmul_gflops and copy_gbs above "
            "0; measure again with this version"
        ) from None
    units, clock_mhz = unit_count(measured), clock_of(machine)
    return Hardware(1e9 * product, 1e9 * product, 1e9 * copied, cache_bytes(machine),
                    float(units), 1e6 * clock_mhz)  # fmt: skip


def unit_count(measured: Measurements) -> int:
    """Cores in use, or streaming multiprocessors."""
    units = measured.machine.get("multiprocessors")
    return int(units) if isinstance(units, (int, float)) and units >= 1 else measured.threads


def clock_of(machine: object) -> float:
    """MHz; 1000 where the machine does not tell (nothing learned depends on it)."""
    value = machine.get("clock_mhz") if hasattr(machine, "get") else None
    return float(value) if isinstance(value, (int, float)) and value > 0 else 1000.0


def cache_bytes(machine: object) -> float:
    """The second-level cache; 1 MB where the machine does not tell."""
    value = machine.get("l2_kb") if hasattr(machine, "get") else None
    return 1e3 * float(value) if isinstance(value, (int, float)) and value > 0 else 1e6


RAW = (
    "images", "channels", "height", "width", "n", "m", "k", "groups", "taps_high", "taps_wide",
    "stride", "macs", "weight_bytes", "read_bytes", "write_bytes", "function",
)  # fmt: skip
"""Dimensions as they are, for the baseline of isolated kernels."""


def dataset_of(measured: Measurements, hardware: Hardware | None = None) -> Dataset:
    """The measurements as arrays; ``hardware`` replaces what the run says of its machine.

    Raises:
        MeasurementError: too little was measured to learn from.
    """
    hardware = hardware or hardware_of_run(measured)
    timed = [k for k in measured.kernels if k.latency_ms > 0]
    labels = {k.family for k in timed if k.family} | {n.family for n in measured.networks}
    families = tuple(sorted(labels))
    networks = _networks(measured, families, hardware)
    if len(timed) < LEAST_KERNELS or len(networks) < LEAST_NETWORKS:
        raise MeasurementError(
            f"{measured.name} {measured.runtime} {measured.precision}: {len(timed)} timed kernels "
            f"and {len(networks)} networks; at least {LEAST_KERNELS} and {LEAST_NETWORKS} are "
            f"needed. Measure more: predict-latency profile --name {measured.name} --time 10min"
        )
    rows = _rows(_placed(timed, measured), families, networks.names, hardware, measured.threads)
    return Dataset(rows, networks, families, hardware, measured.threads)


TIMED_RULES = {("eager", "cpu"): "eager-cpu", ("eager", "cuda"): "eager-timed"}
"""Fusion rules of operators as they are timed, where they differ from the runtime's."""


def rules_of(measured: Measurements) -> str:
    """The fusion rules that kernels of a measured target are made with."""
    return TIMED_RULES.get((measured.runtime, measured.device), measured.runtime)


def _placed(timed: Sequence[KernelTiming], measured: Measurements) -> list[KernelTiming]:
    """The timings with kernels as :func:`rules_of` makes them, found by what they write."""
    from predictor.kernels.lowering import prepare

    rules = rules_of(measured)
    if rules == measured.runtime:
        return list(timed)
    made: dict[tuple[str, int], Kernel] = {}
    for label, graph in {n.label: n.graph for n in measured.networks}.items():
        for kernel in prepare(graph, measured.precision, rules).kernels:
            made.update({(label, out): kernel for op in kernel.ops for out in op.output_ids})
    return [
        replace(k, kernel=made.get((k.network, k.kernel.ops[-1].output_ids[0]), k.kernel))
        if k.network else k
        for k in timed
    ]  # fmt: skip


def kernel_columns(
    kernels: Sequence[Kernel], hardware: Hardware, threads: int
) -> tuple[Features, Details, Floats]:
    """Features, details and the learned model's matrix of ``kernels``."""
    features, details = featurize(kernels), details_of(kernels)
    return features, details, columns(features, details, hardware, threads)


def raw_dimensions(features: Features, details: Details) -> Floats:
    """The matrix (kernels x :data:`RAW`)."""
    return np.column_stack([
        getattr(details if hasattr(details, name) else features, name) for name in RAW
    ])  # fmt: skip


def roofline_s(features: Features, hardware: Hardware) -> Floats:
    """Seconds at the least, as the learned model takes them."""
    result: Floats = np.maximum(floor_s(features, hardware), 1e-9)
    return result


def _rows(
    timed: Sequence[KernelTiming], families: tuple[str, ...], names: tuple[str, ...],
    hardware: Hardware, threads: int,
) -> Rows:  # fmt: skip
    features, details, matrix = kernel_columns([k.kernel for k in timed], hardware, threads)
    number = {name: i for i, name in enumerate(families)}
    network = {name: i for i, name in enumerate(names)}
    seen: dict[tuple[str, float], int] = {}
    signatures = [
        seen.setdefault((signature(k.kernel), in_place), len(seen))
        for k, in_place in zip(timed, details.in_place, strict=True)
    ]
    place = np.array([PLACES.index(k.where) for k in timed], dtype=np.int64)
    seconds = 1e-3 * np.array([k.latency_ms for k in timed])
    owner = np.array([network.get(k.network, -1) for k in timed], dtype=np.int64)
    return Rows(
        features.cls, matrix, raw_dimensions(features, details), parts(features, hardware),
        roofline_s(features, hardware), seconds, _weights(timed, place, features.cls), _shares(owner, seconds, place, len(names)),
        np.array(signatures, dtype=np.int64),
        np.array([number.get(k.family, -1) for k in timed], dtype=np.int64), owner, place,
    )  # fmt: skip


def _weights(timed: Sequence[KernelTiming], place: Ints, cls: Ints) -> Floats:
    """By place, and less where few repeats disagree: the variance of a row's mean says how much."""
    base = np.array([PLACE_WEIGHTS[name] for name in PLACES])[place]
    hot = place == PLACES.index("hot")
    base = np.where(hot & np.isin(cls, list(MEMORY_BOUND)), 0.0, base)
    repeats = np.array([max(1, k.repeats) for k in timed], dtype=float)
    spread = np.array([k.spread if math.isfinite(k.spread) else 1.0 for k in timed])
    variance = (1.4826 * spread) ** 2 / repeats
    result: Floats = base * USUAL_SPREAD**2 / (USUAL_SPREAD**2 + variance)
    return result


def _shares(owner: Ints, seconds: Floats, place: Ints, count: int) -> Floats:
    """Each kernel's part of what its network's timed kernels take."""
    mine = (owner >= 0) & (place == 0)
    total = np.bincount(owner[mine], seconds[mine], minlength=max(1, count))
    share = np.zeros(len(seconds))
    share[mine] = seconds[mine] / total[owner[mine]]
    return share


def _networks(
    measured: Measurements, families: tuple[str, ...], hardware: Hardware
) -> Networks:  # fmt: skip
    from predictor.kernels.lowering import prepare

    turns: dict[str, dict[int, NetworkTiming]] = {}
    for timing in measured.networks:
        if timing.latency_ms > 0:
            turns.setdefault(timing.label, {}).setdefault(timing.turn, timing)
    number = {name: i for i, name in enumerate(families)}
    last = max((turn for by_turn in turns.values() for turn in by_turn), default=1)
    made, owner, table = [], [], np.full((len(turns), max(2, last)), np.nan)
    for i, by_turn in enumerate(turns.values()):
        first = next(iter(by_turn.values()))
        ready = prepare(first.graph, measured.precision, rules_of(measured))
        made.append(kernel_columns(ready.kernels, hardware, measured.threads))
        owner.append(np.full(len(ready.kernels), i, dtype=np.int64))
        for turn, timing in by_turn.items():
            table[i, turn - 1] = timing.latency_ms
    firsts = [next(iter(by_turn.values())) for by_turn in turns.values()]
    if not made:
        raise MeasurementError(f"{measured.name} {measured.runtime}: no network was timed")
    features = Features.join([part[0] for part in made])
    return Networks(
        tuple(turns), np.array([number[t.family] for t in firsts], dtype=np.int64),
        tuple(t.space for t in firsts), table, np.exp(np.nanmean(np.log(table), axis=1)),
        np.array([part[0].launches.sum() for part in made]),
        np.concatenate(owner), features.cls, np.concatenate([part[2] for part in made]),
        np.concatenate([raw_dimensions(part[0], part[1]) for part in made]),
        parts(features, hardware), roofline_s(features, hardware), features,
    )  # fmt: skip
