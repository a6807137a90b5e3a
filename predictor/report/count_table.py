"""What a network costs, layer by layer, as data and as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from predictor.graph import Graph, Op
from predictor.kernels.fusion import fuse
from predictor.kernels.rules import available_rules
from predictor.report.layout import Column, Style, table, wrapped
from predictor.report.units import Size, count, nbytes, percent, printable
from predictor.report.units import shape as shape_text

SCHEMA_VERSION = 1
"""Raised when a key of :meth:`Count.to_dict` changes its meaning or goes away."""

SIZED_PRECISIONS = ("fp32", "fp16", "int8")
"""Precisions that a model's size is given in."""


@dataclass(frozen=True, slots=True)
class CountRow:
    """A layer, or a module with all that is inside it.

    ``name`` is the module path, ``kind`` the operator kind that does most of the work, ``ops`` how
    many operators are in it, ``output_shape`` what its last operator gives, ``share`` its part of
    the whole network's MACs (of element-wise FLOPs where there are no MACs). ``parallelism`` is
    that of its widest operator. ``known`` is False where an operator in it has no formula.
    """

    name: str
    kind: str
    ops: int
    output_shape: tuple[int, ...]
    params: int
    macs: int
    flops: int
    elementwise_flops: int
    read_bytes: int
    write_bytes: int
    parallelism: int
    share: float
    known: bool = True

    @property
    def memory_access_bytes(self) -> int:
        """Bytes read and written, operator by operator."""
        return self.read_bytes + self.write_bytes


@dataclass(frozen=True, slots=True)
class Count:
    """Exact costs of one forward pass. FLOPs are 2 x MACs; element-wise arithmetic stands apart.

    ``model_mb`` is the size of parameters and buffers in MB (1,000,000 bytes) by precision,
    ``fused_memory_access_bytes`` the memory access cost as each runtime fuses,
    ``unknown`` the operators without a formula with how often each occurs: they are in the memory
    access cost only. Unpacks as ``macs, params = count``, as thop's and ptflops' results do.
    """

    model: str
    batch: int
    input_shapes: dict[str, tuple[int, ...]]
    macs: int
    flops: int
    elementwise_flops: int
    params: int
    trainable_params: int
    model_mb: dict[str, float]
    memory_access_bytes: int
    fused_memory_access_bytes: dict[str, int]
    read_bytes: int
    write_bytes: int
    activation_bytes: int
    peak_activation_bytes: int
    unknown: dict[str, int] = field(default_factory=dict)
    rows: tuple[CountRow, ...] = ()
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[int]:
        return iter((self.macs, self.params))

    def __str__(self) -> str:
        return render(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values under the same names."""
        data = asdict(self)
        data["input_shapes"] = {name: list(sizes) for name, sizes in self.input_shapes.items()}
        data["notes"] = list(self.notes)
        data["rows"] = [{**row, "output_shape": list(row["output_shape"])} for row in data["rows"]]
        return {"schema_version": SCHEMA_VERSION, **data}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Count:
        """Inverse of :meth:`to_dict`."""
        values = {key: value for key, value in data.items() if key != "schema_version"}
        values["input_shapes"] = {k: tuple(v) for k, v in values["input_shapes"].items()}
        values["notes"] = tuple(values["notes"])
        values["rows"] = tuple(
            CountRow(**{**row, "output_shape": tuple(row["output_shape"])})
            for row in values["rows"]
        )
        return cls(**values)


def count_graph(graph: Graph, *, by: str = "layer", depth: int | None = None) -> Count:
    """Add up a graph.

    Args:
        graph: what to count.
        by: ``layer`` gives one row for each module path that runs operators itself; ``module``
            one for every module, containing all that is inside it (rows overlap).
        depth: cut module paths to this many parts (1 is the model's direct children).
    """
    unknown: dict[str, int] = {}
    for op in graph.ops:
        if not op.known:
            unknown[op.target] = unknown.get(op.target, 0) + 1
    names = graph.input_names or tuple(f"input_{i}" for i in range(len(graph.input_specs)))
    return Count(
        model=graph.name,
        batch=graph.batch,
        input_shapes={n: s.shape for n, s in zip(names, graph.input_specs, strict=True)},
        macs=graph.macs,
        flops=graph.flops,
        elementwise_flops=graph.elementwise_flops,
        params=graph.params,
        trainable_params=graph.trainable_params,
        model_mb={name: graph.model_bytes_at(name) / 1e6 for name in SIZED_PRECISIONS},
        memory_access_bytes=graph.memory_access_bytes,
        fused_memory_access_bytes={
            name: sum(kernel.bytes for kernel in fuse(graph, name)) for name in available_rules()
        },
        read_bytes=sum(op.read_bytes for op in graph.ops),
        write_bytes=sum(op.write_bytes for op in graph.ops),
        activation_bytes=graph.activation_bytes,
        peak_activation_bytes=graph.peak_activation_bytes,
        unknown=unknown,
        rows=_rows(graph, by, depth),
        notes=graph.notes,
    )


def _rows(graph: Graph, by: str, depth: int | None) -> tuple[CountRow, ...]:
    groups: dict[str, list[tuple[Op, int]]] = {}
    seen: set[int] = set()
    for op in graph.ops:
        params = _new_params(graph, op, seen)
        for path in _paths(op.name, by, depth):
            groups.setdefault(path, []).append((op, params))
    whole = graph.macs or graph.elementwise_flops
    return tuple(_row(name, pairs, whole, bool(graph.macs)) for name, pairs in groups.items())


def _paths(name: str, by: str, depth: int | None) -> list[str]:
    parts = name.split(".")
    deepest = len(parts) if depth is None else min(depth, len(parts))
    if by == "layer":
        return [".".join(parts[:deepest])]
    return [".".join(parts[: i + 1]) for i in range(deepest)]


def _new_params(graph: Graph, op: Op, seen: set[int]) -> int:
    """Parameters that ``op`` is the first to use, so that rows add up to the network's."""
    if not op.weight_ids:
        return op.params
    new = [i for i in dict.fromkeys(op.weight_ids) if i not in seen]
    seen.update(new)
    weights = (graph.weights[i] for i in new if i < len(graph.weights))
    return sum(weight.spec.numel for weight in weights if weight.role == "parameter")


def _row(name: str, pairs: Sequence[tuple[Op, int]], whole: int, of_macs: bool) -> CountRow:
    ops = [op for op, _ in pairs]
    main = max(ops, key=lambda op: (op.macs, op.elementwise_flops, op.memory_access_bytes))
    macs = sum(op.macs for op in ops)
    elementwise = sum(op.elementwise_flops for op in ops)
    part = macs if of_macs else elementwise
    last = ops[-1].outputs
    return CountRow(
        name=name,
        kind=main.kind,
        ops=len(ops),
        output_shape=last[0].shape if last else (),
        params=sum(params for _, params in pairs),
        macs=macs,
        flops=2 * macs,
        elementwise_flops=elementwise,
        read_bytes=sum(op.read_bytes for op in ops),
        write_bytes=sum(op.write_bytes for op in ops),
        parallelism=max(op.parallelism for op in ops),
        share=part / whole if whole else 0.0,
        known=all(op.known for op in ops),
    )


_COLUMNS = (
    Column("layer", right=False, shrinks=True),
    Column("kind", right=False, shrinks=True),
    Column("output", right=False),
    Column("params"),
    Column("MACs"),
    Column("elemwise"),
    Column("read"),
    Column("write"),
    Column("parallel"),
    Column("share"),
)


def render(counted: Count, *, style: Style | None = None) -> str:
    """Layer table, totals and the operators without a formula."""
    style = style or Style()
    shapes = ", ".join(f"{k} {shape_text(v)}" for k, v in counted.input_shapes.items())
    title = f"{counted.model} ({shapes})" if shapes else counted.model
    lines = [style.paint(style.plain(printable(title)), "bold"), ""]
    if counted.rows:
        total = ["total", "", "", count(counted.params), count(counted.macs),
                 count(counted.elementwise_flops), nbytes(counted.read_bytes),
                 nbytes(counted.write_bytes), "", ""]  # fmt: skip
        rows = [_cells(row) for row in counted.rows]
        lines += [*table(_COLUMNS, rows, style, indent=0, total=total), ""]
    lines += _totals(counted, style)
    for note in counted.notes:
        lines += wrapped(f"note: {note}", style, indent=0)
    return "\n".join(lines)


def unknown_text(counted: Count) -> str | None:
    """The operators without a formula, by name; None where every one has a formula."""
    if not counted.unknown:
        return None
    n = sum(counted.unknown.values())
    names = ", ".join(f"{name} x{times}" for name, times in counted.unknown.items())
    verb = "operator has" if n == 1 else "operators have"
    return f"{n} {verb} no formula ({names}): only bytes are counted, the sums are too low."


def size_text(size: Size | None) -> str:
    """``224x224`` (height x width), or ``as given`` where the model's own stands."""
    if size is None:
        return "as given"
    return shape_text((size, size) if isinstance(size, int) else size)


def render_sweep(counts: Sequence[tuple[Count, Size | None]], *, style: Style | None = None) -> str:
    """One row for each (count, resolution) of a sweep over batches and resolutions."""
    style = style or Style()
    columns = (
        Column("batch"), Column("resolution"), Column("MACs"), Column("FLOPs"),
        Column("elem. FLOPs"), Column("params"), Column("memory access"),
        Column("activations"), Column("peak"),
    )  # fmt: skip
    rows = [
        [
            str(c.batch), size_text(size), count(c.macs), count(c.flops),
            count(c.elementwise_flops), count(c.params), nbytes(c.memory_access_bytes),
            nbytes(c.activation_bytes), nbytes(c.peak_activation_bytes),
        ]
        for c, size in counts
    ]  # fmt: skip
    title = style.paint(style.plain(printable(counts[0][0].model)), "bold") if counts else ""
    return "\n".join([title, "", *table(columns, rows, style, indent=0)])


def _cells(row: CountRow) -> list[str]:
    kind = row.kind if row.known else f"{row.kind} (?)"
    return [
        row.name, kind if row.ops == 1 else f"{kind} +{row.ops - 1}",
        shape_text(row.output_shape), count(row.params), count(row.macs),
        count(row.elementwise_flops), nbytes(row.read_bytes), nbytes(row.write_bytes),
        count(row.parallelism), percent(row.share),
    ]  # fmt: skip


def _totals(counted: Count, style: Style) -> list[str]:
    sizes = ", ".join(f"{nbytes(mb * 1e6)} {name}" for name, mb in counted.model_mb.items())
    fused = ", ".join(f"{k} {nbytes(v)}" for k, v in counted.fused_memory_access_bytes.items())
    rows = [
        ("parameters", f"{counted.params:,} ({counted.trainable_params:,} trainable)"),
        ("model size", sizes),
        ("MACs", f"{counted.macs:,} ({count(counted.macs)})"),
        ("FLOPs", f"{counted.flops:,} ({count(counted.flops)}; 2 x MACs)"),
        ("element-wise", f"{counted.elementwise_flops:,} FLOPs on top"),
        ("memory access", f"{nbytes(counted.memory_access_bytes)} ("
         f"{nbytes(counted.read_bytes)} read, {nbytes(counted.write_bytes)} written; unfused)"),
        ("  as fused by", fused),
        ("activations", f"{nbytes(counted.activation_bytes)} "
         f"({nbytes(counted.peak_activation_bytes)} at the peak)"),
    ]  # fmt: skip
    lines = []
    for label, text in rows:
        first, *rest = wrapped(text, style, indent=15, hang=0)
        lines += [style.paint(label.ljust(15), "dim") + first[15:], *rest]
    missing = unknown_text(counted)
    if missing:
        lines += wrapped(f"unknown: {missing}", style, indent=0)
    return lines
