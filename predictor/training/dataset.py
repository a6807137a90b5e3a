"""Measurements as arrays: kernels with what they took, networks with what all of it took.

Equal kernels are numbered alike (:attr:`Rows.signature`), so that a fit can pool them; a pool never
reaches beyond the rows that a fit is given, hence never into a family that is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from predictor.errors import MeasurementError
from predictor.kernels.details import Details, details_of
from predictor.kernels.features import Features, Floats, Ints, featurize
from predictor.latency.kernelwise import columns, launched
from predictor.latency.physical import Hardware, floor_s
from predictor.latency.rates import parts, variants
from predictor.latency.table import signature

if TYPE_CHECKING:
    from predictor.graph import Kernel
    from predictor.profiling.records import KernelTiming, Measurements, NetworkTiming

Flags = npt.NDArray[np.bool_]

PLACES = ("place", "flushed", "hot")
"""Where a kernel was timed: inside its network; alone with cold caches; alone, again and again."""
PLACE_WEIGHTS = {"place": 1.0, "flushed": 0.3, "hot": 0.3}
"""What a row counts by where it was taken. Alone, a kernel has other surroundings than in networks:
hot loops understate what memory limits by a factor of two. But surroundings are columns, so these
are points that kernels in networks lie between."""
USUAL_SPREAD = 0.03
"""Relative error that no number of repeats removes: caches and neighbours differ by run."""
FLUSHED_BYTES = 1.6e7
"""What went through the caches before a kernel that was timed with cold ones: two times 8 MB."""
LEAST_KERNELS, LEAST_NETWORKS = 50, 6
PERTURBED = "perturbed"
PERTURBED_WEIGHT = 0.3
"""What a row of a medley of perturbed layers counts: its inputs and weights are colder than in a
network, and it runs without modules around it."""
SCORED = ("zoo", "nas")
"""Spaces whose networks are scored; perturbed ones only train."""


RAW = (
    "images", "channels", "height", "width", "n", "m", "k", "groups", "taps_high", "taps_wide",
    "stride", "macs", "weight_bytes", "read_bytes", "write_bytes", "function",
)  # fmt: skip
"""Dimensions as they are, for the baseline of isolated kernels."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Kernels as numbers, one entry each: what models and baselines see of them.

    ``matrix`` has the columns of the learned model, ``variant`` and ``parts`` are those of its
    roofline, ``raw`` is :data:`RAW`; ``surroundings`` is what went through the caches before, by
    half powers of ten.
    """

    features: Features
    details: Details
    cls: Ints
    variant: Ints
    matrix: Floats
    raw: Floats
    parts: Floats
    roofline_s: Floats
    surroundings: Ints

    def __len__(self) -> int:
        return len(self.cls)

    @staticmethod
    def of(features: Features, details: Details, hardware: Hardware, threads: int) -> Columns:
        """All columns of kernels."""
        raw = np.column_stack([
            getattr(details if hasattr(details, name) else features, name) for name in RAW
        ])  # fmt: skip
        before = np.round(2 * np.log10(details.before + details.weights_before + 1e4))
        return Columns(
            features, details, features.cls, variants(features, details, threads),
            columns(features, details, hardware, threads), raw, parts(features, details, hardware),
            np.maximum(floor_s(features, hardware), 1e-9), before.astype(np.int64),
        )  # fmt: skip

    def take(self, index: npt.NDArray[np.intp]) -> Columns:
        """The kernels at ``index``."""
        arrays = (getattr(self, f.name)[index] for f in fields(self)[2:])
        return Columns(self.features.take(index), self.details.take(index), *arrays)


@dataclass(frozen=True, slots=True)
class Rows:
    """Timed kernels, one entry each.

    ``share`` is the kernel's part of its network, 0 for isolated ones; ``family`` and ``network``
    are numbers into the dataset's names, -1 for isolated kernels; ``place`` into :data:`PLACES`.
    """

    kernels: Columns
    seconds: Floats
    weight: Floats
    share: Floats
    signature: Ints
    family: Ints
    network: Ints
    place: Ints

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, which: Flags) -> Rows:
        """The rows where ``which`` is True."""
        arrays = (getattr(self, f.name)[which] for f in fields(self)[1:])
        return Rows(self.kernels.take(np.flatnonzero(which)), *arrays)


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
    kernels: Columns

    def __len__(self) -> int:
        return len(self.names)

    def sums(self, values: Floats) -> Floats:
        """The sum over each network's kernels of ``values`` (one a kernel)."""
        total = np.bincount(self.owner, values, minlength=len(self.names))
        return total.astype(np.float64)

    @property
    def scored(self) -> Flags:
        """Networks that count when accuracy is measured."""
        return np.isin(np.array(self.space), SCORED)


@dataclass(frozen=True, slots=True)
class Dataset:
    """All that was measured on one target."""

    rows: Rows
    networks: Networks
    families: tuple[str, ...]
    hardware: Hardware
    threads: int
    overlaps: bool = False
    """The host's work runs beside the kernels: on a GPU."""
    distinct: tuple[Kernel, ...] = ()
    """A kernel for each number in ``rows.signature``."""

    def inside(self, families: Ints) -> tuple[Flags, Flags]:
        """Rows and networks of ``families``, for leaving them out.

        Perturbed layers are drawn from all networks, and some come out unperturbed: rows of a
        kernel that only ``families`` hold go with them.
        """
        rows, networks = self.rows, np.isin(self.networks.family, families)
        own = np.isin(rows.family, families)
        drawn = np.isin(rows.family, self.perturbed)
        theirs = rows.signature[own & ~drawn]
        others = rows.signature[~own & ~drawn]
        only_theirs = np.isin(rows.signature, theirs) & ~np.isin(rows.signature, others)
        return own | (drawn & only_theirs), networks

    @property
    def perturbed(self) -> Ints:
        """Numbers of families that are layers drawn from other networks."""
        nets = self.networks
        return np.unique(nets.family[np.array(nets.space) == PERTURBED])


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


def dataset_of(measured: Measurements, hardware: Hardware | None = None) -> Dataset:
    """The measurements as arrays; ``hardware`` replaces what the run says of its machine.

    Raises:
        MeasurementError: too little was measured to learn from.
    """
    hardware = hardware or hardware_of_run(measured)
    timed = [k for k in measured.kernels if k.latency_ms > 0]
    labels = {k.family for k in timed if k.family} | {n.family for n in measured.networks}
    families = tuple(sorted(labels))
    networks, written = _networks(measured, families, hardware)
    if len(timed) < LEAST_KERNELS or len(networks) < LEAST_NETWORKS:
        raise MeasurementError(
            f"{measured.name} {measured.runtime} {measured.precision}: {len(timed)} timed kernels "
            f"and {len(networks)} networks; at least {LEAST_KERNELS} and {LEAST_NETWORKS} are "
            f"needed. Measure more: predict-latency profile --name {measured.name} --time 10min"
        )
    rows, distinct = _rows(timed, families, networks, written, hardware, measured.threads)
    return Dataset(rows, networks, families, hardware, measured.threads,
                   measured.device == "cuda", distinct)  # fmt: skip


TIMED_RULES = {("eager", "cpu"): "eager-cpu", ("eager", "cuda"): "eager-timed"}
"""Fusion rules of operators as they are timed, where they differ from the runtime's."""


def rules_of(measured: Measurements) -> str:
    """The fusion rules that kernels of a measured target are made with."""
    return TIMED_RULES.get((measured.runtime, measured.device), measured.runtime)


Written = Mapping[tuple[str, int], tuple[int, "Kernel"]]
"""By a network's name and a tensor's number: the kernel that writes it, and its position among all
networks' kernels."""


def _rows(
    timed: Sequence[KernelTiming], families: tuple[str, ...], networks: Networks, written: Written,
    hardware: Hardware, threads: int,
) -> tuple[Rows, tuple[Kernel, ...]]:  # fmt: skip
    """Rows of ``timed``: in place, kernels are those of the networks, surroundings and all."""
    found = [written.get((k.network, k.kernel.ops[-1].output_ids[0])) if k.where == "place"
             else None for k in timed]  # fmt: skip
    alone = [i for i, at in enumerate(found) if at is None]
    singles = _isolated([timed[i] for i in alone], hardware, threads)
    kernels = _joined(networks.kernels, singles).take(_positions(found, alone, networks))
    number = {name: i for i, name in enumerate(families)}
    network = {name: i for i, name in enumerate(networks.names)}
    made = [at[1] if at else k.kernel for at, k in zip(found, timed, strict=True)]
    written_over = kernels.details.in_place.tolist()
    keys = zip(map(signature, made), written_over, strict=True)
    seen: dict[tuple[str, float], int] = {}
    signatures = [seen.setdefault(key, len(seen)) for key in keys]
    distinct = dict(zip(reversed(signatures), reversed(made), strict=True))
    place = np.array([PLACES.index(k.where) for k in timed], dtype=np.int64)
    seconds = 1e-3 * np.array([k.latency_ms for k in timed])
    owner = np.array([network.get(k.network, -1) for k in timed], dtype=np.int64)
    seconds *= np.where(owner >= 0, _from_first_turn(networks)[owner], 1.0)
    rows = Rows(
        kernels, seconds, _weights(timed, place),
        _shares(owner, seconds, place, len(networks)), np.array(signatures, dtype=np.int64),
        np.array([number.get(k.family, -1) for k in timed], dtype=np.int64), owner, place,
    )  # fmt: skip
    return rows, tuple(distinct[i] for i in range(len(seen)))


def _isolated(timed: Sequence[KernelTiming], hardware: Hardware, threads: int) -> Columns:
    """Kernels that ran alone: nothing went before the hot ones, all caches before the others."""
    parts_of = [details_of([k.kernel]) for k in timed]
    features = featurize([k.kernel for k in timed])
    details = Details.join(parts_of) if parts_of else details_of([])
    cold = np.array([k.where == "flushed" for k in timed], dtype=bool)
    details = replace(details, before=np.where(cold, FLUSHED_BYTES, details.before),
                      weights_before=np.where(cold, FLUSHED_BYTES, 0.0))  # fmt: skip
    return Columns.of(features, details, hardware, threads)


def _joined(a: Columns, b: Columns) -> Columns:
    arrays = (np.concatenate([getattr(a, f.name), getattr(b, f.name)]) for f in fields(a)[2:])
    return Columns(Features.join([a.features, b.features]), Details.join([a.details, b.details]),
                   *arrays)  # fmt: skip


def _positions(
    found: Sequence[tuple[int, Kernel] | None], alone: Sequence[int], networks: Networks
) -> npt.NDArray[np.intp]:
    """Where each row stands among the networks' kernels, with the isolated ones after them."""
    at = np.array([place[0] if place else -1 for place in found], dtype=np.intp)
    at[list(alone)] = len(networks.kernels) + np.arange(len(alone))
    return at


def _from_first_turn(networks: Networks) -> Floats:
    """What brings a network's kernels from its first turn to the mean of its turns.

    Kernels are timed in place in the first turn, and share its drift: their sum follows the first
    turn's latency closely, the second's no better than the two turns follow each other.
    """
    factor: Floats = networks.label_ms / networks.turns_ms[:, 0]
    return np.where(np.isfinite(factor), factor, 1.0)


def _weights(timed: Sequence[KernelTiming], place: Ints) -> Floats:
    """By place, and less where few repeats disagree: the variance of a row's mean says how much."""
    base = np.array([PLACE_WEIGHTS[name] for name in PLACES])[place]
    drawn = np.array([k.space == PERTURBED for k in timed], dtype=bool)
    base = np.where(drawn, PERTURBED_WEIGHT * base, base)
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
) -> tuple[Networks, Written]:  # fmt: skip
    from predictor.kernels.lowering import prepare

    turns: dict[str, dict[int, NetworkTiming]] = {}
    for timing in measured.networks:
        if timing.latency_ms > 0:
            turns.setdefault(timing.label, {}).setdefault(timing.turn, timing)
    if not turns:
        raise MeasurementError(f"{measured.name} {measured.runtime}: no network was timed")
    number = {name: i for i, name in enumerate(families)}
    last = max(turn for by_turn in turns.values() for turn in by_turn)
    table = np.full((len(turns), max(2, last)), np.nan)
    made, launches, owner, written, count = [], [], [], {}, 0
    for i, (label, by_turn) in enumerate(turns.items()):
        first = next(iter(by_turn.values()))
        ready = prepare(first.graph, measured.precision, rules_of(measured))
        made.append((ready.features, details_of(ready.kernels)))
        launches.append(launched(measured.runtime, ready.graph, ready.kernels))
        owner.append(np.full(len(ready.kernels), i, dtype=np.int64))
        for at, kernel in enumerate(ready.kernels, start=count):
            written.update({(label, out): (at, kernel)
                            for op in kernel.ops for out in op.output_ids})  # fmt: skip
        count += len(ready.kernels)
        for turn, timing in by_turn.items():
            table[i, turn - 1] = timing.latency_ms
    firsts = [next(iter(by_turn.values())) for by_turn in turns.values()]
    kernels = Columns.of(
        Features.join([features for features, _ in made]),
        Details.join([details for _, details in made]), hardware, measured.threads,
    )  # fmt: skip
    networks = Networks(
        tuple(turns), np.array([number[t.family] for t in firsts], dtype=np.int64),
        tuple(t.space for t in firsts), table, np.exp(np.nanmean(np.log(table), axis=1)),
        np.array(launches, dtype=float), np.concatenate(owner), kernels,
    )  # fmt: skip
    return networks, written
