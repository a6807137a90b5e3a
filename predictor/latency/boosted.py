"""Gradient-boosted trees, trained by LightGBM, stored as plain arrays, evaluated with numpy.

LightGBM's own text format crashes the process when it is cut short or altered, and importing it
takes seconds; here a forest is one ``.npz`` without pickles, its shape checked before use. The
forest predicts log(measured / physical model) from ratios of a kernel's quantities.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from predictor.errors import ArtifactError
from predictor.kernels.features import CLASSES, Features, Floats
from predictor.latency.physical import Hardware, Times

COLUMNS = (
    "class", "log_intensity", "log_compute_share", "log_k", "log_n", "log_m", "log_waves",
    "log_weight_share", "log_outputs_a_unit", "taps", "stride", "log_launch_share",
    "n_remainder", "k_remainder",
)  # fmt: skip
"""What the forest sees of a kernel, in order; ratios, so that they carry over to other sizes."""

_DAMAGE = (
    ValueError, TypeError, KeyError, OSError, EOFError, OverflowError, MemoryError,
    NotImplementedError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What numpy and zipfile raise for damaged files."""

_ARRAYS = ("feature", "threshold", "left", "right", "value", "roots")


def columns(features: Features, hardware: Hardware, times: Times) -> Floats:
    """The matrix (kernels x :data:`COLUMNS`)."""
    f = features
    tiny = 1e-30
    blocks = f.groups * np.ceil(f.m / 64) * np.ceil(f.n / 64)
    return np.column_stack([
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
    ])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees laid end to end: node i splits on ``feature`` at ``threshold`` (<= goes left).

    ``left`` and ``right`` are node numbers; a leaf has ``feature`` -1 and holds ``value``.
    """

    feature: npt.NDArray[np.int32]
    threshold: Floats
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: Floats
    roots: npt.NDArray[np.int32]

    def predict(self, matrix: Floats) -> Floats:
        """Sum of all trees for each row of ``matrix``; NaN goes left."""
        node = np.tile(self.roots, (len(matrix), 1))
        rows = np.arange(len(matrix))[:, None]
        while True:
            split = self.feature[node]
            inner = split >= 0
            if not inner.any():
                total: Floats = self.value[node].sum(axis=1)
                return total
            right = matrix[rows, np.maximum(split, 0)] > self.threshold[node]
            node = np.where(inner, np.where(right, self.right[node], self.left[node]), node)

    def to_bytes(self) -> bytes:
        """The forest as an ``.npz`` file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: getattr(self, name) for name in _ARRAYS})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, place: str = "forest.npz") -> Forest:
        """Inverse of :meth:`to_bytes`.

        Raises:
            ArtifactError: the file is damaged, or its trees do not end.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                whole = ("feature", "left", "right", "roots")
                types = {n: np.int32 if n in whole else np.float64 for n in _ARRAYS}
                forest = cls(*(arrays[n].astype(types[n], casting="same_kind") for n in _ARRAYS))
        except _DAMAGE as error:
            raise ArtifactError(f"{place}: {error}. The file is damaged; reinstall") from None
        forest._check(place)
        return forest

    def _check(self, place: str) -> None:
        if any(getattr(self, name).ndim != 1 for name in _ARRAYS):
            raise ArtifactError(f"{place}: the arrays have the wrong form; reinstall")
        count = len(self.feature)
        whole = all(len(getattr(self, n)) == count for n in _ARRAYS[1:5])
        whole = whole and len(self.roots) > 0
        inner = np.flatnonzero(self.feature >= 0) if whole else np.zeros(0, int)
        ok = (
            whole
            and count > 0
            and bool((self.feature < len(COLUMNS)).all())
            # Children stand behind their parent, so every walk ends.
            and bool((self.left[inner] > inner).all() and (self.left[inner] < count).all())
            and bool((self.right[inner] > inner).all() and (self.right[inner] < count).all())
            and bool((self.roots >= 0).all() and (self.roots < count).all())
            and bool(np.isfinite(self.value).all() and np.isfinite(self.threshold).all())
        )
        if not ok:
            raise ArtifactError(f"{place}: the trees do not fit together; reinstall")


def from_lightgbm(booster: Any) -> Forest:
    """A forest from a trained LightGBM booster of numeric features."""
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
        np.array(right, np.int32), np.array(value, float), np.array(roots, np.int32),
    )  # fmt: skip


assert len(CLASSES) < 100  # the class is a column of small whole numbers
