"""What ``trtexec`` exports: ``--exportTimes``, ``--exportProfile`` and ``--exportLayerInfo``.

Keys differ by version: transfers are ``inMs``/``outMs`` or ``h2dMs``/``d2hMs``, medians come with
TensorRT 8.5, ``endToEndMs`` went with it, and warm-up runs stood in the times before. All are
milliseconds. The latency is ``computeMs``: the engine alone, without copies to and from the host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from predictor.profiling.importers import (
    SLIP,
    Layer,
    LayerInfo,
    Reading,
    fail,
    json_of,
    latency_of,
    milliseconds,
)

AGAIN = "run trtexec again and let it end"
WARM_UP_MS = 200.0
"""trtexec's own default; inferences that start before it are warm-up."""
REFORMAT = "a change of layout: no operator of the network"
MERGED = "several branches run as one"
REGION = "a part of the network compiled as one"
_UNNAMED = re.compile(r"\(Unnamed Layer\* \d+\) \[[\w ]+\]\Z")
_MYELIN = re.compile(r"(^__my[el]|_myl\d+_\d+\Z)")
_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]\x1e]+)\]")


def is_ours(document: Any) -> bool:
    """True for JSON values that look like one of trtexec's three exports."""
    if isinstance(document, dict):
        return "Layers" in document
    if not isinstance(document, list) or not document or not isinstance(document[0], dict):
        return False
    return "count" in document[0] or any(
        isinstance(item, dict) and item.keys() & {"averageMs", "timeMs", "computeMs", "latencyMs"}
        for item in document[:3]
    )


def read(data: bytes, file: str) -> Reading:
    """One of the three exports, told apart by what stands in it.

    Raises:
        ConfigError: it is none of them, cut, or holds times that cannot be.
    """
    return from_document(json_of(data, file, AGAIN), file)


def from_document(document: Any, file: str) -> Reading:
    """As :func:`read`, from JSON values."""
    if isinstance(document, dict) and "Layers" in document:
        return _layer_info(document, file)
    if not isinstance(document, list):
        fail(file, "not what trtexec exports: a list is expected. Give the file of --exportTimes, "
             "--exportProfile or --exportLayerInfo")  # fmt: skip
    if not document:
        fail(file, f"an empty list: nothing was measured; {AGAIN}")
    if any(not isinstance(item, dict) for item in document):
        fail(file, "not what trtexec exports: a list of mappings is expected")
    if "count" in document[0] or any("averageMs" in i or "percentage" in i for i in document[:2]):
        return _profile(document, file)
    return _times(document, file)


# --- --exportTimes -------------------------------------------------------------------------------


def _times(document: list[dict[str, Any]], file: str) -> Reading:
    values, starts = [], []
    for number, entry in enumerate(document, start=1):
        values.append(_compute(entry, f"inference {number}", file))
        starts.append(entry.get("startComputeMs"))
    warm = [value for value, start in zip(values, starts, strict=True)
            if not isinstance(start, int | float) or start >= WARM_UP_MS]  # fmt: skip
    remarks = []
    if len(warm) < len(values) and 2 * len(warm) >= len(values):
        remarks.append(f"{len(values) - len(warm)} of {len(values)} inferences started in the "
                       f"first {WARM_UP_MS:g} ms and count as warm-up")  # fmt: skip
        values = warm
    return Reading(file, "trtexec", runtime="tensorrt", latency=latency_of(values),
                   remarks=tuple(remarks))  # fmt: skip


def _compute(entry: Mapping[str, Any], what: str, file: str) -> float:
    """Milliseconds on the device of one inference, checked against what else is told of it."""
    start, end = entry.get("startComputeMs"), entry.get("endComputeMs")
    told = entry.get("computeMs")
    if told is None:
        fail(file, f"{what} has no computeMs (its keys: {', '.join(sorted(entry))[:120]}): not a "
             "file of --exportTimes of a version that is known")  # fmt: skip
    compute = milliseconds(told, "ms", f"computeMs of {what}", file)
    if entry.get("latencyMs") is not None:
        whole = milliseconds(entry["latencyMs"], "ms", f"latencyMs of {what}", file)
        if compute > 1.05 * whole + 1e-3 or whole > 1000 * compute + 1000:
            fail(file, f"{what}: computeMs {compute:g} and latencyMs {whole:g} are in different "
                 "units, or one of them is wrong")  # fmt: skip
    if start is not None and end is not None:
        begin = milliseconds(start, "ms", f"startComputeMs of {what}", file, zero=True)
        stop = milliseconds(end, "ms", f"endComputeMs of {what}", file, zero=True)
        resolution = 4e-5 * stop  # six digits are written
        if abs(stop - begin - compute) > 0.5 * compute + resolution:
            fail(file, f"{what}: computeMs is {compute:g}, but it ran from {begin:g} to {stop:g} "
                 "ms: different units, or the file was altered")  # fmt: skip
    return compute


# --- --exportProfile -----------------------------------------------------------------------------


def _profile(document: list[dict[str, Any]], file: str) -> Reading:
    count = document[0].get("count")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count < 1 << 40:
        fail(file, f"the first entry must hold the number of inferences, {{'count': N}}, not "
             f"{str(document[0])[:60]}: not a file of --exportProfile")  # fmt: skip
    layers = [_layer(entry, count, number, file)
              for number, entry in enumerate(document[1:], start=1)]  # fmt: skip
    total = sum(layer.latency_ms for layer in layers)
    if not total > 0:
        fail(file, f"no layer took any time: nothing was measured; {AGAIN}")
    _check_shares(document[1:], count, file)
    return Reading(file, "trtexec", runtime="tensorrt", layers=tuple(layers))


def _layer(entry: Mapping[str, Any], count: int, number: int, file: str) -> Layer:
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        fail(file, f"layer {number} has no name: not a file of --exportProfile, or damaged")
    shown = name if len(name) <= 80 else name[:77] + "..."
    what = f"layer {number} '{shown}'"
    if entry.get("averageMs") is None and entry.get("timeMs") is None:
        fail(file, f"{what} has neither averageMs nor timeMs; {AGAIN}")
    for key in ("timeMs", "averageMs"):
        if entry.get(key) is not None:
            milliseconds(entry[key], "ms", f"{key} of {what}", file, zero=True)
    average = _average(entry, count)
    if entry.get("timeMs") is not None:
        total = entry["timeMs"] / count
        _same_unit(average, total, f"{what}: averageMs", f"timeMs / {count}", file)
    middle = average
    if entry.get("medianMs") is not None:
        middle = milliseconds(entry["medianMs"], "ms", f"medianMs of {what}", file, zero=True)
        _same_unit(middle, average, f"{what}: medianMs", "averageMs", file)
    parts, why = parts_of(name)
    return Layer(name, "", middle, count, parts=parts, why=why)


def _average(entry: Mapping[str, Any], count: int) -> float:
    """Milliseconds an inference, of a checked entry."""
    told = entry.get("averageMs")
    return float(entry["timeMs"]) / count if told is None else float(told)


def _same_unit(a: float, b: float, first: str, second: str, file: str) -> None:
    small, large = sorted((a, b))
    if large > 1e-4 and large > SLIP * small:
        fail(file, f"{first} is {a:g} and {second} is {b:g}: different units, or the file was "
             "altered")  # fmt: skip


def _check_shares(entries: list[dict[str, Any]], count: int, file: str) -> None:
    """The percentages must be those of the times, and add up to the whole."""
    told = [entry.get("percentage") for entry in entries]
    if any(value is None for value in told):
        return
    shares = [milliseconds(value, "ms", f"percentage of layer {number}", file, zero=True)
              for number, value in enumerate(told, start=1)]  # fmt: skip
    if abs(sum(shares) - 100) > 1:
        fail(file, f"the percentages of the layers add up to {sum(shares):.1f}: layers are missing "
             f"or were altered; {AGAIN}")  # fmt: skip
    times = [_average(entry, count) for entry in entries]
    total = sum(times)
    for entry, share, time in zip(entries, shares, times, strict=True):
        own = 100 * time / total if total else 0.0
        if max(own, share) >= 1 and max(own, share) > 2 * min(own, share):
            fail(file, f"layer '{entry['name'][:80]}' took {own:.2g} % of the time, the file says "
                 f"{share:.2g} %: different units, or the file was altered")  # fmt: skip


def parts_of(name: str) -> tuple[tuple[str, ...], str]:
    """Names of the operators in a layer, and why it can be no single kernel (or empty)."""
    lower = name.lower()
    if lower.startswith("reformatting copynode") or "reformatter" in lower:
        return (), REFORMAT
    if lower.startswith(("[hosttodevice", "[devicetohost")):
        return (), REFORMAT
    if "ForeignNode[" in name or _MYELIN.search(name):
        return (), REGION
    if " || " in name:
        return (), MERGED
    parts = []
    for part in _unwrapped(name):
        if part and not _UNNAMED.match(part):
            parts.append(part)
    return tuple(parts), ""


def _unwrapped(name: str) -> list[str]:
    """Parts joined by `` + `` and those inside ``PWN(...)``, point-wise chains."""
    flat = re.sub(r"\bPWN\(", "(", name)
    if flat != name:
        flat = re.sub(r"[()]", " ", flat).replace(",", " + ")
    return [part.strip() for part in flat.split(" + ")]


# --- --exportLayerInfo ---------------------------------------------------------------------------


def _layer_info(document: Mapping[str, Any], file: str) -> Reading:
    layers = document["Layers"]
    if not isinstance(layers, list) or not layers:
        fail(file, f"'Layers' is empty: not a file of --exportLayerInfo; {AGAIN}")
    info = {}
    for number, layer in enumerate(layers, start=1):
        if isinstance(layer, str):
            continue  # only names: --profilingVerbosity=detailed was not given
        if not isinstance(layer, dict) or not isinstance(layer.get("Name"), str):
            fail(file, f"layer {number} of 'Layers' has no 'Name': not a file of --exportLayerInfo")
        info[layer["Name"]] = LayerInfo(
            tuple(dict.fromkeys(_ONNX_LAYER.findall(str(layer.get("Metadata", ""))))),
            _outputs(layer.get("Outputs"), number, file),
        )
    remarks = () if info else (f"{file}: only names of layers; export it with "
                               "--profilingVerbosity=detailed for shapes",)  # fmt: skip
    return Reading(file, "trtexec", runtime="tensorrt", info=info, remarks=remarks)


def _outputs(value: Any, number: int, file: str) -> tuple[tuple[int, ...], ...]:
    if value is None:
        return ()
    shapes = []
    for item in value if isinstance(value, list) else [None]:
        sizes = item.get("Dimensions") if isinstance(item, dict) else None
        if not isinstance(sizes, list) or any(type(size) is not int for size in sizes):
            fail(file, f"'Outputs' of layer {number} have no 'Dimensions': not a file of "
                 "--exportLayerInfo, or damaged")  # fmt: skip
        shapes.append(tuple(sizes))
    return tuple(shapes)
