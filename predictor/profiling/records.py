"""A plan and the journal of its measuring as typed measurements: networks, and kernels of our own.

All times are normalised for drift: each is divided by the reference's time around it, and
multiplied by the reference's median over the whole journal.
"""

from __future__ import annotations

import functools
import json
import statistics
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predictor.errors import MeasurementError
from predictor.graph import Graph, Kernel
from predictor.kernels.lowering import prepare
from predictor.profiling import journal


@dataclass(frozen=True, slots=True)
class NetworkTiming:
    """A network's latency, once.

    ``latency_ms`` is the steady state, drift taken out; ``raw_ms`` the plain median of the same
    runs; ``single_ms`` one inference after other work; ``half_width`` the relative 95 % half-width
    of the median; ``turn`` 1, or 2 for the same network later in the run.
    """

    task: str
    label: str
    family: str
    space: str
    turn: int
    program: str
    graph: Graph
    latency_ms: float
    raw_ms: float
    half_width: float
    single_ms: float
    first_run_ms: float
    throughput_fps: float
    settled: bool


@dataclass(frozen=True, slots=True)
class KernelTiming:
    """A kernel's time: ``where`` it was taken is ``place`` (in a running network), ``hot`` (in a
    loop of its own) or ``flushed`` (caches emptied before). ``spread`` is the relative median
    absolute deviation of its ``repeats``."""

    kernel: Kernel
    network: str
    family: str
    space: str
    latency_ms: float
    repeats: int
    spread: float
    where: str


@dataclass(frozen=True, slots=True)
class Measurements:
    """Everything that one journal holds of one target."""

    name: str
    runtime: str
    precision: str
    threads: int
    device: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    reference_ms: float
    networks: tuple[NetworkTiming, ...]
    kernels: tuple[KernelTiming, ...]
    remarks: tuple[str, ...]


def read_measurements(plan: Path, results: Path, *, seconds: float | None = None) -> Measurements:
    """What a journal says, its kernels matched to those of the plan's graphs.

    Args:
        plan, results: the plan file and the journal.
        seconds: take only the tasks that were measured in the first so many seconds.

    Raises:
        MeasurementError: a file is missing or damaged, or the journal is of another plan.
    """
    try:
        rows, remarks = journal.read(str(results))
    except (OSError, journal.JournalError) as error:
        raise MeasurementError(f"{results}: {error}") from error
    runs = [row for row in rows if row.get("row") == "run"]
    done = [row for row in rows if row.get("row") == "task"]
    failed = [f"{row.get('label', row['task'])}: {row['error']}"
              for row in rows if row.get("row") == "failed"]  # fmt: skip
    if not runs or not done:
        raise MeasurementError(f"{results}: nothing is measured in it yet; run profile again")
    if seconds is not None:
        done = _first(done, seconds)
    reader = _Reader(plan, runs[-1])
    references = [value for row in done for pair in row.get("reference_us", ()) for value in pair]
    reader.reference_us = statistics.median(references) if references else 0.0
    for row in done:
        reader.take(row)
    head = runs[-1]
    return Measurements(
        head["plan"], head["runtime"], head["precision"], int(head["threads"]),
        head.get("device", "cpu"), head["machine"], head["versions"], 1e-3 * reader.reference_us,
        tuple(reader.networks), tuple(reader.kernels), (*remarks, *failed, *reader.remarks),
    )  # fmt: skip


def _first(rows: Sequence[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    kept, spent = [], 0.0
    for row in rows:
        spent += row["seconds"]
        if spent > seconds:
            break
        kept.append(row)
    return kept


class _Reader:
    def __init__(self, plan: Path, head: Mapping[str, Any]) -> None:
        try:
            self.archive = zipfile.ZipFile(plan)
            body = json.loads(self.archive.read("plan.json"))
            self.tasks = {task["id"]: task for task in body["tasks"]}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise MeasurementError(f"{plan}: not a plan file: {error}") from error
        self.runtime, self.precision = head["runtime"], head["precision"]
        self.reference_us = 0.0
        self.networks: list[NetworkTiming] = []
        self.kernels: list[KernelTiming] = []
        self.remarks: list[str] = []
        self._graph = functools.lru_cache(maxsize=None)(self._read_graph)

    def _read_graph(self, name: str) -> Graph:
        return Graph.from_dict(json.loads(self.archive.read(name)))

    def take(self, row: Mapping[str, Any]) -> None:
        task = self.tasks.get(row["task"])
        if task is None:
            raise MeasurementError(
                f"the results hold the task {row['task']}, which the plan does not: they belong "
                "to another plan; keep each plan with its results"
            )
        graph = self._graph(task["graph"])
        if "latency_us" in row:
            self._outside(row, task, graph)
            return
        if task["kind"] == "kernel":
            self._isolated(row, task, graph)
            return
        if "steady_ratio" in row:
            self.networks.append(self._network(row, task, graph))
        if row.get("detail_ops"):
            self._in_place(row, task, graph)

    def _network(
        self, row: Mapping[str, Any], task: Mapping[str, Any], graph: Graph
    ) -> NetworkTiming:
        scale = 1e-3 * self.reference_us
        singles = [single / ((a + b) / 2) for single, (a, b) in
                   zip(row["single_us"], row["reference_us"], strict=True)]  # fmt: skip
        raw = statistics.median(value for block in row["steady_us"] for value in block)
        return NetworkTiming(
            row["task"], task["label"], task["family"], task["space"], task["pass"],
            task["program"], graph, row["steady_ratio"] * scale, 1e-3 * raw,
            row["ratio_half_width"] or 1.0, statistics.median(singles) * scale,
            1e-3 * row["first_run_us"], row["throughput_fps"], bool(row["settled"]),
        )  # fmt: skip

    def _outside(self, row: Mapping[str, Any], task: Mapping[str, Any], graph: Graph) -> None:
        """What another process measured by itself: nothing to divide by."""
        latency_ms = 1e-3 * statistics.median(row["latency_us"])
        first = row.get("first_run_us")
        self.networks.append(NetworkTiming(
            row["task"], task["label"], task["family"], task["space"], task["pass"],
            task["program"], graph, latency_ms, latency_ms, row.get("ratio_half_width") or 1.0,
            latency_ms, latency_ms if first is None else 1e-3 * first,
            row.get("throughput_fps", 0.0), bool(row.get("settled")),
        ))  # fmt: skip
        names, runs = row.get("detail_ops") or (), row.get("detail_us") or ()
        if not names or not runs:
            return
        from predictor.profiling.matching import layer_owners

        kernels = prepare(graph, self.precision, self.runtime).kernels
        times: dict[int, float] = {}
        middle = [1e-3 * statistics.median(column) for column in zip(*runs, strict=True)]
        for owner, value in zip(layer_owners(kernels, graph, names), middle, strict=True):
            if owner is not None:
                times[owner] = times.get(owner, 0.0) + value
        repeats = int(row.get("detail_count", 1))
        for index, value in sorted(times.items()):
            if value > 0:
                self.kernels.append(KernelTiming(
                    kernels[index], task["label"], task["family"], task["space"], value, repeats,
                    0.0, "place",
                ))  # fmt: skip

    def _normalised(self, values: Sequence[float], pairs: Sequence[Sequence[float]]) -> list[float]:
        """Milliseconds, each divided by the references around it."""
        return [1e-3 * self.reference_us * value / ((a + b) / 2)
                for value, (a, b) in zip(values, pairs, strict=True)]  # fmt: skip

    def _isolated(self, row: Mapping[str, Any], task: Mapping[str, Any], graph: Graph) -> None:
        kernels = prepare(graph, self.precision, self.runtime).kernels
        if len(kernels) != 1 or not row.get("hot_us"):
            return
        for where in ("hot", "flushed"):
            values = self._normalised(row[f"{where}_us"], row["reference_us"])
            self._add(kernels[0], "", task, values, where)

    def _in_place(self, row: Mapping[str, Any], task: Mapping[str, Any], graph: Graph) -> None:
        kernels = prepare(graph, self.precision, self.runtime).kernels
        owners = self._owners(kernels, graph, row["detail_ops"])
        columns = list(zip(*row["detail_us"], strict=True))
        times: dict[int, list[float]] = {}
        for owner, column in zip(owners, columns, strict=True):
            if owner is None:
                continue
            values = self._normalised(column, row["detail_reference_us"])
            known = times.get(owner)
            times[owner] = [a + b for a, b in zip(known, values, strict=True)] if known else values
        for index, values in sorted(times.items()):
            self._add(kernels[index], task["label"], task, values, "place")

    def _owners(
        self, kernels: Sequence[Kernel], graph: Graph, names: Sequence[str]
    ) -> list[int | None]:
        """For each timed operator, the position of the kernel that it is."""
        if self.runtime in ("eager", "torch_compile"):
            return tape_owners(kernels, graph, names)
        from predictor.profiling.onnx_nodes import kernel_shares

        return list(kernel_shares(kernels, names))

    def _add(
        self, kernel: Kernel, network: str, task: Mapping[str, Any], values: list[float], where: str
    ) -> None:
        middle = statistics.median(values)
        if middle <= 0:
            return
        spread = statistics.median(abs(value - middle) for value in values) / middle
        self.kernels.append(KernelTiming(kernel, network, task["family"], task["space"], middle,
                                         len(values), spread, where))  # fmt: skip


def tape_owners(kernels: Sequence[Kernel], graph: Graph, names: Sequence[str]) -> list[int | None]:
    """For each call of a tape (``POSITION:TARGET``), the position of its kernel; None for views.

    A copy that strides force happens inside the call that needs it: it has no call of its own.
    """
    by_output = {out: index for index, kernel in enumerate(kernels)
                 for op in kernel.ops for out in op.output_ids}  # fmt: skip
    owners: list[int | None] = []
    for name in names:
        position = int(name.partition(":")[0])
        op = graph.ops[position] if position >= 0 else None
        found = [by_output[out] for out in op.output_ids if out in by_output] if op else []
        owners.append(found[0] if found else None)
    return owners
