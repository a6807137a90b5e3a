"""Profiles of ONNX Runtime: the Chrome trace that ``SessionOptions.enable_profiling`` writes.

A list of events; ``ts`` and ``dur`` are microseconds. ``model_run`` events (category Session) are
whole inferences, the first of them not warm; ``NAME_kernel_time`` events (category Node) are
operators, with ``op_name``, ``provider`` and the shapes of inputs and outputs in ``args``.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from predictor.profiling.importers import (
    Layer,
    Reading,
    fail,
    json_of,
    latency_of,
    median,
    milliseconds,
    spread,
)

AGAIN = "end the profile with session.end_profiling(), and give the file that it names"
SUFFIX = "_kernel_time"
NOT_CPU = "ran on {}, where the profile tells when it was started, not how long it took"
SHAPES = ("input_type_shape", "output_type_shape")
PARENTS = frozenset({"If", "Loop", "Scan"})
"""Their own time holds that of the operators inside them."""
CLOCKS_US = 50.0
"""How far an operator may end after its inference: times are whole microseconds, and read apart."""


def is_ours(document: Any) -> bool:
    """True for JSON values that look like a Chrome trace."""
    if isinstance(document, dict):
        return "traceEvents" in document
    return (
        isinstance(document, list) and bool(document) and isinstance(document[0], dict)
        and bool(document[0].keys() & {"cat", "ph"})
    )  # fmt: skip


def read(data: bytes, file: str) -> Reading:
    """The profile of one session.

    Raises:
        ConfigError: cut, another trace, fewer than two runs, or times that cannot be.
    """
    return from_document(json_of(data, file, AGAIN), file)


@dataclass(slots=True)
class _Event:
    """One event: microseconds when it began and ended, how long in milliseconds."""

    begin_us: float
    end_us: float
    ms: float
    name: str
    thread: str
    args: Mapping[str, Any] = field(default_factory=dict)


def from_document(document: Any, file: str) -> Reading:
    """As :func:`read`, from JSON values."""
    if isinstance(document, dict):
        document = document.get("traceEvents")
    if not isinstance(document, list) or not document:
        fail(file, f"no list of events: this is no profile of ONNX Runtime; {AGAIN}")
    runs, nodes = [], []
    for number, event in enumerate(document, start=1):
        if not isinstance(event, dict):
            fail(file, f"event {number} is no mapping: this is no profile of ONNX Runtime")
        category, name = event.get("cat"), event.get("name")
        if category == "Session" and name == "model_run":
            runs.append(_event(event, number, file, zero=False))
        elif category == "Node" and isinstance(name, str) and name.endswith(SUFFIX):
            nodes.append(_event(event, number, file, zero=True))
    if not runs:
        fail(file, "no 'model_run' in it: no inference was profiled, or this is another program's "
             f"trace; run the session at least twice, then {AGAIN}")  # fmt: skip
    if len(runs) < 2:
        fail(file, "one inference only, and the first is not warm: run the session at least twice, "
             f"better 20 times, then {AGAIN}")  # fmt: skip
    return _reading(sorted(runs, key=lambda run: run.begin_us), nodes, file)


def _event(event: Mapping[str, Any], number: int, file: str, *, zero: bool) -> _Event:
    shown = str(event.get("name"))[:80]
    what = f"event {number} '{shown}'"
    ms = milliseconds(event.get("dur"), "us", f"'dur' of {what}", file, zero=zero)
    begin = 1e3 * milliseconds(event.get("ts"), "us", f"'ts' of {what}", file, zero=True)
    args = event.get("args")
    if args is not None and not isinstance(args, dict):
        fail(file, f"'args' of {what} is no mapping: this is no profile of ONNX Runtime")
    return _Event(begin, begin + 1e3 * ms, ms, str(event.get("name")), str(event.get("tid")),
                  _known(args or {}))  # fmt: skip


def _known(args: Mapping[str, Any]) -> dict[str, Any]:
    """What is read of an event, in the form that it must have (old versions write other shapes)."""
    words = {key: str(args.get(key, "")) for key in ("op_name", "provider", "node_index")}
    shapes = {key: args[key] for key in SHAPES if _are_shapes(args.get(key))}
    return {**words, **shapes}


def _are_shapes(value: Any) -> bool:
    """Whether it is a list such as ``[{"float": [1, 3, 224, 224]}]``."""
    return isinstance(value, list) and all(
        isinstance(item, dict)
        and all(isinstance(shape, list) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
                for shape in item.values())
        for item in value
    )  # fmt: skip


def _reading(runs: list[_Event], nodes: list[_Event], file: str) -> Reading:
    warm = runs[1:]
    remarks = []
    for one, other in itertools.pairwise(runs):
        if other.begin_us < one.end_us - CLOCKS_US:
            fail(file, "inferences overlap: several ran at once, so none was timed alone; profile "
                 "a session that is used by one thread")  # fmt: skip
    if nodes:
        remarks.append("the latency was taken while operators were profiled, which costs time: "
                       "about 12 % on a CPU")  # fmt: skip
    layers = _layers(warm, runs[0], _without_children(nodes), file)
    return Reading(
        file, "onnxruntime", runtime="onnxruntime", precision=_precision(nodes),
        latency=latency_of([run.ms for run in warm], runs[0].ms), layers=layers,
        remarks=tuple(remarks),
    )  # fmt: skip


def _without_children(nodes: list[_Event]) -> list[_Event]:
    """Operators that ran inside another's own time (loops, branches) are part of it."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for node in nodes:
        if _is_parent(node):
            spans.setdefault(node.thread, []).append((node.begin_us, node.end_us))
    if not spans:
        return nodes
    begins: dict[str, list[float]] = {}
    reach: dict[str, list[float]] = {}  # the latest end of those that began so far
    for thread, values in spans.items():
        values.sort()
        begins[thread] = [begin for begin, _ in values]
        reach[thread] = list(itertools.accumulate((end for _, end in values), max))

    def inside(node: _Event) -> bool:
        if node.thread not in begins:
            return False
        cut = bisect.bisect_left if _is_parent(node) else bisect.bisect_right
        at = cut(begins[node.thread], node.begin_us) - 1
        return at >= 0 and node.end_us <= reach[node.thread][at]

    return [node for node in nodes if not inside(node)]


def _is_parent(node: _Event) -> bool:
    return node.args["op_name"] in PARENTS


def _layers(warm: list[_Event], first: _Event, nodes: list[_Event], file: str) -> tuple[Layer, ...]:
    """One layer a node: the median over the warm runs."""
    runs = [first, *warm]
    starts = [run.begin_us for run in runs]
    found: dict[tuple[str, str], list[list[float]]] = {}
    examples: dict[tuple[str, str], _Event] = {}
    for node in nodes:
        at = bisect.bisect_right(starts, node.begin_us) - 1
        if at < 0 or node.end_us > runs[at].end_us + CLOCKS_US:
            fail(file, f"'{node.name[:80]}' began {node.begin_us:.0f} us after the start and took "
                 f"{1e3 * node.ms:g} us, outside of the inferences: different units, or the file "
                 "was altered")  # fmt: skip
        if at == 0:
            continue  # not warm
        key = (node.name, node.args["node_index"])
        found.setdefault(key, [[] for _ in warm])[at - 1].append(node.ms)
        examples.setdefault(key, node)
    return tuple(_layer(examples[key], [sum(row) for row in rows if row])
                 for key, rows in found.items())  # fmt: skip


def _layer(example: _Event, values: list[float]) -> Layer:
    args = example.args
    name = example.name.removesuffix(SUFFIX)
    provider = args["provider"]
    why = ""
    if provider and provider != "CPUExecutionProvider":
        why = NOT_CPU.format(provider.removesuffix("ExecutionProvider"))
    return Layer(name, args["op_name"], median(values), len(values),
                 spread(values), (name,), why, args)  # fmt: skip


_TYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def _precision(nodes: list[_Event]) -> str | None:
    """The precision of convolutions and products, where it is one and known."""
    found = set()
    for node in nodes:
        kind = node.args["op_name"]
        if kind.startswith(("QLinear", "DynamicQuantize")) or "Integer" in kind:
            found.add("int8")
        elif kind.removeprefix("Fused") in ("Conv", "Gemm", "MatMul"):
            shapes = node.args.get("input_type_shape") or [{}]
            found.add(_TYPES.get(next(iter(shapes[0]), ""), ""))
    return found.pop() or None if len(found) == 1 else None
