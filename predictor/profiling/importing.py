"""``profile import``: measurements that other tools took, into the user's own data.

A file is understood as a whole or refused as a whole, and nothing is written before every file is
understood. ``docs/importing.md`` says what each format gives.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError
from predictor.latency.table import USUAL_SPREAD, signature
from predictor.profiling.import_networks import (
    Network,
    Target,
    model_of,
    networks_of,
    target_of,
)
from predictor.profiling.imported import append, device_name, measurements_folder
from predictor.profiling.importers import (
    SLIP,
    Layer,
    Reading,
    fail,
    json_of,
    ort_profile,
    plain_csv,
    text_of,
    tflite,
    trtexec,
)
from predictor.profiling.matching import Match, match_names
from predictor.targets import USUAL_LAYOUT

if TYPE_CHECKING:
    from predictor.graph import Graph, Kernel

READERS: dict[str, Callable[[bytes, str], Reading]] = {
    "trtexec": trtexec.read, "onnxruntime": ort_profile.read, "tflite": tflite.read,
    "csv": plain_csv.read,
}  # fmt: skip
FORMATS = ("auto", *READERS)
LARGEST_FILE = 128 << 20
"""Bytes; a profile of more than this holds more repeats than anyone needs."""
WHOLE = {"trtexec": "the file of --exportTimes", "tflite": "the log of benchmark_model"}
"""Where a format has the latency of the whole network, if not in the file of its layers."""
KINDS = "trtexec's JSON, an onnxruntime profile, the output of benchmark_model, or a CSV table"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import found and wrote.

    ``matches`` says for every layer which kernel it is, or why none; ``folders`` are those that
    were written to, ``new_networks``/``new_kernels`` the rows that were not there before.
    """

    name: str
    networks: tuple[Network, ...]
    matches: tuple[Match, ...]
    folders: tuple[Path, ...]
    new_networks: int
    new_kernels: int
    remarks: tuple[str, ...]

    @property
    def layers_ms(self) -> float:
        """Milliseconds of all layers in one inference."""
        return sum(match.layer.latency_ms for match in self.matches)

    @property
    def mapped_ms(self) -> float:
        """Milliseconds of the layers that are kernels of ours."""
        return sum(match.layer.latency_ms for match in self.matches if match.kernel is not None)


def import_files(
    files: Sequence[str | os.PathLike[str]], target: Target, form: str = "auto"
) -> Imported:
    """Read the files, and append what they hold to the user's measurements of ``target.name``.

    Args:
        files: all about one network (then ``target.model`` names it), or tables of networks.
        target: what was measured.
        form: one of :data:`FORMATS`.

    Raises:
        ConfigError: a file is wrong, with its place; something is missing on the command line; or
            the user's folder cannot be written. Then nothing was written.
    """
    device_name(target.name)
    readings = [read_file(file, form) for file in files]
    remarks = _twice(readings)
    readings = list({reading.sha256: reading for reading in readings}.values())
    remarks += [text for reading in readings for text in reading.remarks]
    _check_sum(readings)
    networks = networks_of(readings, target, remarks)
    single = [reading for reading in readings if not reading.rows]
    matches: list[tuple[Reading, Match]] = []
    place = ("", "")
    if single:
        place = target_of(single, target)
        matches = _matches(single, target, *place, remarks)
    return _kept(target, networks, matches, place, remarks)


# --- reading -------------------------------------------------------------------------------------


def read_file(file: str | os.PathLike[str], form: str = "auto") -> Reading:
    """One file, understood, with the hash of its bytes.

    Raises:
        ConfigError: it cannot be read, or is none of the formats, or damaged.
    """
    name = os.fspath(file)
    try:
        with open(name, "rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        fail(name, f"cannot be read: {reason}")
    if len(data) > LARGEST_FILE:
        fail(name, f"larger than {LARGEST_FILE >> 20} MiB; profile fewer inferences, some hundred "
             "are plenty")  # fmt: skip
    reading = _auto(data, name) if form == "auto" else READERS[form](data, name)
    return replace(reading, sha256=hashlib.sha256(data).hexdigest())


def _auto(data: bytes, file: str) -> Reading:
    """The reader is chosen by what the file holds."""
    if not data.strip():
        fail(file, f"the file is empty; give {KINDS}")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        document = json_of(data, file, "let the program that writes it end")
        if ort_profile.is_ours(document):
            return ort_profile.from_document(document, file)
        if trtexec.is_ours(document):
            return trtexec.from_document(document, file)
        fail(file, f"JSON, but of no known kind; give {KINDS}")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        fail(file, "this is UTF-16; save it as UTF-8")
    text = text_of(data, file)
    if tflite.is_ours(text):
        return tflite.read(data, file)
    if "&&&& RUNNING TensorRT" in text or "=== Performance summary ===" in text:
        fail(file, "this is the log of trtexec: run it with --exportTimes=times.json (and "
             "--exportProfile=layers.json), and give those files")  # fmt: skip
    if plain_csv.is_ours(text):
        return plain_csv.read(data, file)
    raise ConfigError(f"none of the known formats; give {KINDS}. A table begins with: "
                      "model,latency_ms", file=file)  # fmt: skip


def _twice(readings: Sequence[Reading]) -> list[str]:
    first: dict[str, str] = {}
    remarks = []
    for reading in readings:
        known = first.setdefault(reading.sha256, reading.file)
        if known is not reading.file:
            remarks.append(f"{reading.file}: the same bytes as {known}; they count once")
    return remarks


def _check_sum(readings: Sequence[Reading]) -> None:
    """The layers of TensorRT follow one another: together they take about as long as the whole."""
    whole = [reading.latency for reading in readings if reading.latency is not None]
    for reading in readings:
        if reading.runtime != "tensorrt" or not reading.layers or len(whole) != 1:
            continue
        total = sum(layer.latency_ms for layer in reading.layers)
        small, large = sorted((total, whole[0].latency_ms))
        if large > SLIP * small:
            fail(reading.file, f"the layers take {total:g} ms together, the whole network "
                 f"{whole[0].latency_ms:g} ms: different units, or of different "
                 "networks")  # fmt: skip


# --- kernels -------------------------------------------------------------------------------------


def _matches(
    readings: Sequence[Reading], target: Target, runtime: str, precision: str,
    remarks: list[str],
) -> list[tuple[Reading, Match]]:  # fmt: skip
    """Every layer with the kernel that it is, where that is certain."""
    info = {name: told for reading in readings for name, told in reading.info.items()}
    timed = [reading for reading in readings if reading.layers]
    if info and not timed:
        fail(readings[0].file, "it tells of layers, not of their times: give the file of "
             "--exportProfile with it")  # fmt: skip
    if not timed:
        return []
    if not any(reading.latency for reading in readings):
        remarks.append(f"{timed[0].file}: no latency of the whole network is in it (there is "
                       f"time between layers); import {WHOLE.get(timed[0].format, 'it')} "
                       "too")  # fmt: skip
    model = model_of(target, timed[0])
    graph, kernels = _kernels(model, target, runtime, precision)
    found = []
    for reading in timed:
        matches = match_layers(reading.layers, graph, kernels, runtime, info)
        found += [(reading, match) for match in matches]
    return found


def match_layers(
    layers: Sequence[Layer], graph: Graph, kernels: Sequence[Kernel], runtime: str,
    info: Mapping[str, Any] | None = None,
) -> list[Match]:  # fmt: skip
    """A match for every layer: by its name, or by the shapes that ONNX Runtime tells."""
    if runtime == "onnxruntime":
        from predictor.profiling.matching_nodes import match_nodes

        return match_nodes(layers, kernels)
    return match_names(layers, graph, kernels, info)


def _kernels(
    model: str, target: Target, runtime: str, precision: str
) -> tuple[Graph, Sequence[Kernel]]:
    from predictor.frontends.load import load_graph
    from predictor.kernels.lowering import prepare

    graph = load_graph(model, batch=target.batch, resolution=target.resolution)
    layout = USUAL_LAYOUT.get(runtime, "nchw")
    return graph, prepare(graph, precision, runtime, layout).kernels


# --- keeping -------------------------------------------------------------------------------------


def _kept(
    target: Target, networks: Sequence[Network], matches: Sequence[tuple[Reading, Match]],
    place: tuple[str, str], remarks: list[str],
) -> Imported:  # fmt: skip
    """Append everything, each target to its folder."""
    kernels = _kernel_rows(matches, target)
    targets = dict.fromkeys([(network.runtime, network.precision) for network in networks])
    if kernels:
        targets[place] = None
    folders, new_networks, new_kernels = [], 0, 0
    for runtime, precision in targets:
        folder = measurements_folder(target.name, runtime, precision)
        rows = [network.cells for network in networks
                if (network.runtime, network.precision) == (runtime, precision)]  # fmt: skip
        own = kernels if (runtime, precision) == place else []
        counts = append(folder, rows, own)
        folders.append(folder)
        new_networks += counts[0]
        new_kernels += counts[1]
    if new_networks < len(networks) or new_kernels < len(kernels):
        remarks.append(
            f"{len(networks) - new_networks} of {len(networks)} networks and "
            f"{len(kernels) - new_kernels} of {len(kernels)} kernels are of files that were "
            "imported before: they stand as they were"
        )
    return Imported(device_name(target.name), tuple(networks), tuple(m for _, m in matches),
                    tuple(folders), new_networks, new_kernels, tuple(remarks))  # fmt: skip


def _kernel_rows(matches: Sequence[tuple[Reading, Match]], target: Target) -> list[dict[str, str]]:
    """A row a kernel: what its layers took together."""
    groups: dict[tuple[str, int], list[tuple[Reading, Match]]] = {}
    for reading, match in matches:
        if match.kernel is not None:
            groups.setdefault((reading.sha256, id(match.kernel)), []).append((reading, match))
    return [_kernel_cells(group[0][0], [match for _, match in group], target)
            for group in groups.values()]  # fmt: skip


def _kernel_cells(reading: Reading, matches: Sequence[Match], target: Target) -> dict[str, str]:
    kernel, layers = matches[0].kernel, [match.layer for match in matches]
    assert kernel is not None
    spreads = [USUAL_SPREAD if layer.spread is None else layer.spread for layer in layers]
    return {
        "signature": signature(kernel), "spread": f"{max(spreads):.6g}",
        "latency_ms": f"{sum(layer.latency_ms for layer in layers):.9g}",
        "repeats": str(min(layer.repeats for layer in layers)), "kernel": kernel.kind,
        "layer": " + ".join(layer.name for layer in layers), "model": model_of(target, reading),
        "source": Path(reading.file).name, "sha256": reading.sha256,
    }  # fmt: skip
