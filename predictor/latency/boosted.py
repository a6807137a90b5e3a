"""Gradient-boosted trees, trained by LightGBM, stored as plain arrays, evaluated with numpy.

LightGBM's own text format crashes the process when it is cut short or altered, and importing it
takes seconds; here a forest is one ``.npz`` without pickles, its shape checked before use. The
forest predicts log(measured / physics) from ratios of a kernel's quantities. The physics is the
fitted kernel model, or the tiling of :mod:`predictor.latency.tiles`; the file says which, and the
names of the columns that it was trained on.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from predictor.errors import ArtifactError
from predictor.kernels.features import CLASS_INDEX, CLASSES, Features, Floats
from predictor.kernels.memo import Memory
from predictor.latency.bitforest import BitForest, compiled
from predictor.latency.physical import Hardware, Times
from predictor.latency.tiles import USUAL_WATTS, Board, Shapes, Tiling

RATIOS = (
    "class", "log_intensity", "log_compute_share", "log_k", "log_n", "log_m", "log_waves",
    "log_weight_share", "log_outputs_a_unit", "taps", "stride", "log_launch_share",
    "n_remainder", "k_remainder",
)  # fmt: skip
"""Columns of the roofline and the fitted model; forests that name no columns have these."""

COLUMNS = (
    *RATIOS,
    "log_groups", "pad_128", "pad_64", "pad_32", "pad_128_64", "log_blocks_64", "log_blocks_128",
    "log_tile_excess", "log_ideal_share", "log_tile_share", "log_l2", "log_a_l2", "log_b_l2",
    "log_watts", "log_seconds", "log_own_blocks", "own_quantum", "own_pad_m", "own_pad_n",
    "log_own_share", "side", "images", "log_row", "log_rows_a_unit", "flops_an_output",
    "log_channels", "log_conv_share", "conv_i128_64", "conv_i128", "conv_i64", "conv_i32",
    "conv_w2", "conv_w4", "conv_w4_gemm", "conv_w4_moves", "conv_fft", "log_blocks_w2",
    "log_blocks_w4", "log_blocks_i",
)  # fmt: skip
"""All columns that a forest can see of a kernel; new ones are appended."""

MOVERS = ("elementwise", "copy")
"""Kernels that only move bytes; whatever moves as much takes as long."""
NO_CLASS = -1
_MATMUL, _CONV, _NORM = (CLASS_INDEX[name] for name in ("matmul", "conv", "norm"))
_PLAIN, _MOVER = CLASS_INDEX["elementwise"], [CLASS_INDEX[name] for name in MOVERS]

DAMAGE = (
    ValueError, TypeError, KeyError, OSError, EOFError, OverflowError, MemoryError,
    NotImplementedError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What numpy and zipfile raise for damaged files."""

_TREES = ("feature", "threshold", "left", "right", "value", "roots")
_WHOLE = ("feature", "left", "right", "roots", "root_class")
_SIDES = ("root_class", "offset", "wait_us", "kin_watts", "kin_offset", "tiles")
_LONGEST_NAME = 64


def columns(
    features: Features, hardware: Hardware, times: Times,
    shapes: Shapes | None = None, board: Board | None = None,
) -> Floats:  # fmt: skip
    """The matrix (kernels x :data:`COLUMNS`)."""
    tiling = Tiling(features, hardware, shapes or Shapes.none(len(features)), board or Board())
    return _matrix(COLUMNS, tiling, times, _seconds(tiling, features))


def _seconds(tiling: Tiling, f: Features) -> Floats:
    return tiling.seconds((f.cls == _MATMUL).astype(float), f.winograd)


def _matrix(names: tuple[str, ...], tiling: Tiling, times: Times, seconds: Floats) -> Floats:
    known = {**_ratios(tiling.f, tiling.hw, times), **tiling.columns(seconds)}
    return np.column_stack([known[name] for name in names])


def _ratios(f: Features, hardware: Hardware, times: Times) -> dict[str, Floats]:
    tiny = 1e-30
    blocks = f.groups * np.ceil(f.m / 64) * np.ceil(f.n / 64)
    found = (
        f.cls.astype(float),
        np.log10((2 * f.macs + 1) / (f.bytes + 1)),
        np.log10((times.compute + tiny) / (times.memory + tiny)).clip(-6, 6),
        np.log10(f.k), np.log10(f.n), np.log10(f.m),
        np.log10(blocks / hardware.units),
        np.log10((f.weight_bytes + 1) / (f.bytes + 1)),
        np.log10((f.outputs + 1) / hardware.units),
        f.taps, f.stride,
        np.log10(times.launch / times.total),
        f.n % 8, f.k % 8,
    )  # fmt: skip
    return dict(zip(RATIOS, found, strict=True))


def class_to_ask(features: Features, shapes: Shapes) -> npt.NDArray[np.int64]:
    """The class whose trees answer for each kernel; :data:`NO_CLASS` where none was trained so.

    Convolutions that were measured are stride-1 3x3; of norms, layer norms. Copies and norms with
    fixed statistics move bytes as element-wise kernels do.
    """
    asked = features.cls.astype(np.int64)
    asked = np.where((asked == _CONV) & (features.winograd == 0), NO_CLASS, asked)
    moves = np.isin(asked, _MOVER) | ((asked == _NORM) & (shapes.plain == 0))
    return np.where(moves, _PLAIN, asked)


def _floats() -> Floats:
    return np.zeros(0)


MANY_ROWS = 64
"""Rows from which masks of leaves are faster than walking the trees."""
_FAST: Memory[BitForest | None] = Memory()


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees laid end to end: node i splits on ``feature`` at ``threshold`` (<= goes left).

    ``left`` and ``right`` are node numbers; a leaf has ``feature`` -1 and holds ``value``.
    ``columns`` names what ``feature`` counts. ``root_class`` says which class of kernels each
    tree answers for; without it, every tree answers for all, and the physics is the fitted
    model. ``offset`` is the device's own log factor by class, NaN where it was not measured: then
    ``kin_offset`` (one row of all classes a trained device) counts, each device as near as its
    power limit ``kin_watts`` is. ``wait_us`` is what a call timed alone waits for its first launch
    by class (NaN: unknown). ``generations`` with ``tiles`` (m, n, one row a generation) are the
    tiles of batched products; one that is not listed takes the last.
    """

    feature: npt.NDArray[np.int32]
    threshold: Floats
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: Floats
    roots: npt.NDArray[np.int32]
    columns: tuple[str, ...] = RATIOS
    root_class: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    offset: Floats = field(default_factory=_floats)
    wait_us: Floats = field(default_factory=_floats)
    kin_watts: Floats = field(default_factory=_floats)
    kin_offset: Floats = field(default_factory=_floats)
    generations: tuple[str, ...] = ()
    tiles: Floats = field(default_factory=_floats)

    @property
    def by_class(self) -> bool:
        """Whether trees are kept by class, over the tiling."""
        return len(self.root_class) > 0

    def board(self, watts: float | None, generation: str) -> Board:
        """What the tiling needs of a device; a generation not listed takes the newest tile."""
        if not self.generations:
            return Board(watts or USUAL_WATTS)
        known = generation in self.generations
        at = self.generations.index(generation) if known else len(self.generations) - 1
        tile_m, tile_n = self.tiles.reshape(-1, 2)[at]
        return Board(watts or USUAL_WATTS, float(tile_m), float(tile_n))

    def offsets(self, watts: float) -> Floats:
        """Log factor by class of a device with that power limit: its own, else its kin's.

        Clocks under load follow the power limit, so kin count by the ratio of limits.
        """
        if not len(self.kin_watts):
            return np.nan_to_num(self.offset)
        kin = self.kin_offset.reshape(len(self.kin_watts), -1)
        near = np.minimum(self.kin_watts, watts) / np.maximum(self.kin_watts, watts)
        weight = np.where(np.isnan(kin), 0.0, near[:, None])
        mean = (weight * np.nan_to_num(kin)).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-9)
        found: Floats = np.where(np.isnan(self.offset), mean, self.offset)
        return found

    def wait_ms(self, cls: int) -> float | None:
        """What a call timed alone waits before a first kernel of that class, milliseconds."""
        wait = self.wait_us[cls] if cls < len(self.wait_us) else np.nan
        return None if np.isnan(wait) else 1e-3 * float(wait)

    def seconds(
        self, features: Features, hardware: Hardware, times: Times, shapes: Shapes, board: Board
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Seconds a kernel, and which of them the trees answered for."""
        if not self.by_class:
            tiling = Tiling(features, hardware, shapes, board)
            matrix = _matrix(self.columns, tiling, times, _seconds(tiling, features))
            return times.total * np.exp(self.predict(matrix)), np.ones(len(features), bool)
        asked = class_to_ask(features, shapes)
        answered = np.isin(asked, self.root_class)
        result = times.total.copy()
        rows = np.flatnonzero(answered)
        if not len(rows):
            return result, answered
        first, back = _distinct(features, shapes, rows)
        some = features.take(rows[first])
        part = Shapes(*(getattr(shapes, n)[rows[first]] for n in Shapes.__slots__))
        kinds = asked[rows[first]]
        tiling = Tiling(some, hardware, part, board)
        base = _seconds(tiling, some)
        used = Times(*(getattr(times, n)[rows[first]] for n in Times.__slots__))
        matrix = _matrix(self.columns, tiling, used, base)
        log_factor = self.offsets(board.watts)[kinds]
        for kind in np.unique(kinds):
            mine = np.flatnonzero(kinds == kind)
            log_factor[mine] += self.walk(matrix[mine], self.roots[self.root_class == kind])
        result[rows] = (base * np.exp(log_factor))[back]
        return result, answered

    def predict(self, matrix: Floats) -> Floats:
        """Sum of all trees for each row of ``matrix``; NaN goes left."""
        if len(matrix) < MANY_ROWS:
            return self.walk(matrix, self.roots)
        fast = _FAST.get(self, None, lambda: compiled(
            self.feature, self.threshold, self.left, self.right, self.value, self.roots
        ))  # fmt: skip
        return self.walk(matrix, self.roots) if fast is None else fast.predict(matrix)

    def walk(self, matrix: Floats, roots: npt.NDArray[np.int32]) -> Floats:
        """Sum of the trees at ``roots`` for each row of ``matrix``; NaN goes left.

        All trees at once, a step deeper each time; pairs that reached a leaf drop out.
        """
        node = np.tile(roots, len(matrix))
        row = np.repeat(np.arange(len(matrix)) * matrix.shape[1], len(roots))
        flat = np.ascontiguousarray(matrix).ravel()
        going = np.flatnonzero(self.feature[node] >= 0)
        while len(going):
            at = node[going]
            right = flat[row[going] + self.feature[at]] > self.threshold[at]
            at = np.where(right, self.right[at], self.left[at])
            node[going] = at
            going = going[self.feature[at] >= 0]
        total: Floats = self.value[node].reshape(len(matrix), len(roots)).sum(axis=1)
        return total

    def to_bytes(self) -> bytes:
        """The forest as an ``.npz`` file."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {n: np.asarray(getattr(self, n)) for n in Forest.__slots__}
        for name in ("columns", "generations"):
            arrays[name] = np.array(getattr(self, name), dtype="U")
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(
        cls, data: bytes, place: str = "forest.npz", known: Collection[str] = COLUMNS
    ) -> Forest:
        """Inverse of :meth:`to_bytes`; ``known`` are the columns that there are.

        Raises:
            ArtifactError: the file is damaged, or its trees do not end.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                parts: dict[str, Any] = {}
                for name in Forest.__slots__:
                    if name not in arrays and name not in _TREES:
                        continue  # stored before forests had it
                    if name in ("columns", "generations"):
                        parts[name] = _words(arrays[name])
                        continue
                    kind = np.int32 if name in _WHOLE else np.float64
                    parts[name] = arrays[name].astype(kind, casting="same_kind")
                forest = cls(**parts)
        except DAMAGE as error:
            raise ArtifactError(f"{place}: {error}. The file is damaged; reinstall") from None
        forest._check(place, known)
        return forest

    def _check(self, place: str, known: Collection[str]) -> None:
        arrays = [getattr(self, n) for n in (*_TREES, *_SIDES)]
        if any(array.ndim != 1 for array in arrays):
            raise ArtifactError(f"{place}: the arrays have the wrong form; reinstall")
        if not set(self.columns) <= set(known) or not self.columns:
            raise ArtifactError(f"{place}: its columns are not those of this version; reinstall")
        count = len(self.feature)
        whole = all(len(getattr(self, n)) == count for n in _TREES[1:5])
        whole = whole and len(self.roots) > 0 and self._sides_fit()
        inner = np.flatnonzero(self.feature >= 0) if whole else np.zeros(0, int)
        ok = (
            whole
            and count > 0
            and bool((self.feature < len(self.columns)).all())
            # Children stand behind their parent, so every walk ends.
            and bool((self.left[inner] > inner).all() and (self.left[inner] < count).all())
            and bool((self.right[inner] > inner).all() and (self.right[inner] < count).all())
            and bool((self.roots >= 0).all() and (self.roots < count).all())
            and bool(np.isfinite(self.value).all() and np.isfinite(self.threshold).all())
        )
        if not ok:
            raise ArtifactError(f"{place}: the trees do not fit together; reinstall")

    def _sides_fit(self) -> bool:
        """What stands beside the trees: one class a tree, one figure a class, sensible tiles."""
        if not self.by_class:
            return not len(self.offset) and not len(self.wait_us) and not self.generations
        wait, tiles, offsets = self.wait_us, self.tiles, (*self.offset, *self.kin_offset)
        return (
            len(self.root_class) == len(self.roots)
            and bool(((self.root_class >= 0) & (self.root_class < len(CLASSES))).all())
            and len(self.offset) == len(wait) == len(CLASSES)
            and all(np.isnan(value) or abs(value) < 10 for value in offsets)
            and len(self.kin_offset) == len(self.kin_watts) * len(CLASSES)
            and bool(((self.kin_watts > 0) & (self.kin_watts < 1e5)).all())
            and bool((np.isnan(wait) | ((wait >= 0) & (wait < 1e6))).all())
            and tiles.size == 2 * len(self.generations)
            and bool(((tiles >= 1) & (tiles <= 4096)).all())
        )


def _words(array: npt.NDArray[Any]) -> tuple[str, ...]:
    if array.dtype.kind != "U" or array.ndim != 1 or array.dtype.itemsize > 4 * _LONGEST_NAME:
        raise ValueError("names are not text")
    return tuple(str(word) for word in array)


def _distinct(
    f: Features, shapes: Shapes, rows: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Positions in ``rows`` of kernels that differ, and for each row which of them it is."""
    table = np.column_stack([
        f.cls, f.macs, f.elementwise_flops, f.read_bytes, f.write_bytes, f.weight_bytes, f.m, f.n,
        f.k, f.groups, f.outputs, f.taps, shapes.side, shapes.images, shapes.row,
    ])[rows]  # fmt: skip
    seen: dict[bytes, int] = {}
    back = np.array([seen.setdefault(line.tobytes(), len(seen)) for line in table], dtype=np.intp)
    return np.unique(back, return_index=True)[1], back


def from_lightgbm(booster: Any, names: tuple[str, ...] = RATIOS) -> Forest:
    """A forest from a trained LightGBM booster of numeric features, the columns ``names``."""
    nodes: list[tuple[int, float, int, int, float]] = []
    roots = []

    def add(tree: dict[str, Any]) -> int:
        index = len(nodes)
        if "leaf_value" in tree:
            nodes.append((-1, 0.0, index, index, float(tree["leaf_value"])))
            return index
        if tree["decision_type"] != "<=":
            raise ArtifactError("only numeric splits can be stored")
        nodes.append((0, 0.0, 0, 0, 0.0))
        left, right = add(tree["left_child"]), add(tree["right_child"])
        nodes[index] = (int(tree["split_feature"]), float(tree["threshold"]), left, right, 0.0)
        return index

    for info in booster.dump_model()["tree_info"]:
        roots.append(add(info["tree_structure"]))
    feature, threshold, left, right, value = zip(*nodes, strict=True)
    return Forest(
        np.array(feature, np.int32), np.array(threshold, float), np.array(left, np.int32),
        np.array(right, np.int32), np.array(value, float), np.array(roots, np.int32), names,
    )  # fmt: skip


assert len(CLASSES) < 100  # the class is a column of small whole numbers
