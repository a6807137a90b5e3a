"""ONNX files: from bytes to a model without its weights, and small constants to numbers.

Only shapes and small constants matter here, so the weights' bytes are cut out of the protobuf
before it is parsed: a file of several gigabytes costs what its graph costs.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from predictor.builder import MAX_ELEMENTS
from predictor.errors import MissingExtra, ModelError
from predictor.graph import TensorSpec

Array = npt.NDArray[Any]

MAX_VALUES = 4096
"""Constants of more elements than this are weights: their values are never read."""
CUT_BYTES = 1 << 16
"""Data of more bytes than this is cut out; above ``MAX_VALUES`` elements of any type."""
WHOLE_BYTES = 4 << 20
"""Files of at most this size are parsed as they are."""
MAX_RANK = 64
MAX_PROTOBUF = (1 << 31) - 1
"""Protobuf's own limit; what is left of a file without its weights must stay below."""

ELEMENT_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64",
    15: "complex128", 16: "bfloat16", 17: "float8", 18: "float8", 19: "float8", 20: "float8",
    21: "uint4", 22: "int4", 23: "int4", 24: "float8",
}  # fmt: skip
"""TensorProto.DataType; four-bit floats (23) stand as int4, which has their size."""

_NUMPY = {
    name: np.dtype(name) for name in ELEMENT_TYPES.values()
    if name[:6] not in ("float8", "comple", "bfloat") and name not in ("int4", "uint4")
}  # fmt: skip
_INT_FIELDS = {"int64": "int64_data", "uint64": "uint64_data", "uint32": "uint64_data",
               "float32": "float_data", "float64": "double_data"}  # fmt: skip


def load_model(source: str | os.PathLike[str] | bytes) -> tuple[Any, str, Path | None]:
    """The ModelProto without weights, a word for the place, and the folder of external data.

    Raises:
        MissingExtra: onnx is not installed.
        ModelError: the file is missing, empty, or no ONNX protobuf.
    """
    if isinstance(source, bytes):
        return _parse(memoryview(source), "<bytes>"), "<bytes>", None
    path = Path(source)
    place = str(path)
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ModelError("is a folder; name the .onnx file in it", file=place)
        if not size:
            raise ModelError("the file is empty; export the model again", file=place)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            view = memoryview(data)
            try:
                return _parse(view, place), place, path.parent
            finally:
                view.release()
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read: {error}", file=place) from error


def _parse(view: memoryview, place: str) -> Any:
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from onnx import ModelProto
    except ImportError as error:
        raise MissingExtra(
            "reading .onnx files needs the onnx package: pip install 'latency-predictor[onnx]'",
            file=place,
        ) from error
    model = ModelProto()
    try:
        whole = len(view) <= WHOLE_BYTES
        data = bytes(view) if whole else b"".join(_without_weights(view, _MODEL))
        if len(data) > MAX_PROTOBUF:
            raise ModelError("is over 2 GB without its weights; split the model", file=place)
        model.ParseFromString(data)
    except (DecodeError, _Malformed, RuntimeError) as error:
        raise ModelError(
            f"is not an ONNX file, or is cut short or damaged ({error}); export it again, or "
            "fetch it again and compare its checksum",
            file=place,
        ) from error
    if not model.HasField("graph"):
        raise ModelError("holds no graph; is it an ONNX model?", file=place)
    return model


# -- cutting the weights out of the protobuf ------------------------------------------------------


class _Malformed(Exception):
    """The bytes are no protobuf."""


_Plan = dict[int, Any]
_TENSOR: _Plan = dict.fromkeys((4, 5, 6, 7, 9, 10, 11))  # *_data and raw_data: dropped
_ATTRIBUTE: _Plan = {5: _TENSOR, 10: _TENSOR}
_NODE: _Plan = {5: _ATTRIBUTE}
_GRAPH: _Plan = {1: _NODE, 5: _TENSOR}
_MODEL: _Plan = {7: _GRAPH}
"""Field number -> what is inside it (None: data to drop), after onnx.proto."""
_MAX_FIELDS = 2_000_000


def _without_weights(view: memoryview, plan: _Plan) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    kept = 0
    for field, tag_at, start, end in _fields(view):
        if field not in plan or end - start <= CUT_BYTES:
            continue
        parts.append(view[kept:tag_at])
        kept = end
        inner = plan[field]
        if inner is not None:
            content = b"".join(_without_weights(view[start:end], inner))
            parts += [_varint((field << 3) | 2), _varint(len(content)), content]
    parts.append(view[kept:])
    return parts


def _fields(view: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """(field number, offset of the tag, start and end of the content) of each wire field."""
    at, size, count = 0, len(view), 0
    while at < size:
        tag_at = at
        tag, at = _read_varint(view, at)
        wire = tag & 7
        if wire == 2:
            length, at = _read_varint(view, at)
        elif wire == 0:
            start = at
            _, at = _read_varint(view, at)
            length, at = at - start, start
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _Malformed(f"wire type {wire} at byte {tag_at}")
        if at + length > size:
            raise _Malformed(f"{at + length - size} bytes are missing at the end")
        yield tag >> 3, tag_at, at, at + length
        at += length
        count += 1
        if count > _MAX_FIELDS:
            raise _Malformed(f"a message of over {_MAX_FIELDS} fields")


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise _Malformed(f"a number breaks off at byte {at}")
        byte = view[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


# -- tensors --------------------------------------------------------------------------------------


_SPECS: dict[tuple[tuple[int, ...], str], TensorSpec] = {}


def checked_spec(shape: tuple[int, ...], dtype: str, label: str) -> TensorSpec:
    """A TensorSpec, or ModelError where a size is negative or the tensor is absurdly large."""
    spec = _SPECS.get((shape, dtype))
    if spec is not None:
        return spec
    spec = TensorSpec(shape, dtype)
    if len(shape) > MAX_RANK or any(n < 0 for n in shape) or spec.numel > MAX_ELEMENTS:
        shown = f"{list(shape[:8])}{' ...' if len(shape) > 8 else ''}"
        raise ModelError(
            f"{label}: a tensor of shape {shown} is out of range (sizes 0 or more, at most "
            f"2^40 elements and {MAX_RANK} dimensions)"
        )
    if len(_SPECS) < 10_000:
        _SPECS[shape, dtype] = spec
    return spec


def element_type(number: int, label: str) -> str:
    """The name of a TensorProto.DataType, or ModelError."""
    if number not in ELEMENT_TYPES:
        what = "text" if number == 8 else f"of element type {number}"
        raise ModelError(
            f"{label}: a tensor that is {what} has no place in a latency estimate; cut the pre- "
            "and post-processing off the model"
        )
    return ELEMENT_TYPES[number]


def tensor_spec(tensor: Any, label: str) -> TensorSpec:
    """Shape and element type of a TensorProto."""
    return checked_spec(tuple(tensor.dims), element_type(tensor.data_type, label), label)


def tensor_value(tensor: Any, spec: TensorSpec, folder: Path | None) -> Array | None:
    """The numbers of a small TensorProto; None where it is large, absent or of another type."""
    if spec.numel > MAX_VALUES or spec.dtype not in _NUMPY:
        return None
    kind = _NUMPY[spec.dtype]
    raw = tensor.raw_data
    if tensor.data_location == 1:
        raw = _external(tensor, spec.numel * kind.itemsize, folder)
        if raw is None:
            return None
    if raw:
        if len(raw) != spec.numel * kind.itemsize:
            return None
        values: Array = np.frombuffer(raw, kind.newbyteorder("<")).astype(kind)
    else:
        listed = getattr(tensor, _INT_FIELDS.get(spec.dtype, "int32_data"))
        if len(listed) != spec.numel:
            return None
        if spec.dtype == "float16":  # stored as the bits of each half, one an int32
            values = np.array(listed, np.int64).astype(np.uint16).view(np.float16)
        else:
            values = np.array(listed).astype(kind)
    return values.reshape(spec.shape)


def _external(tensor: Any, size: int, folder: Path | None) -> bytes | None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    where = PurePosixPath(entries.get("location", ""))
    if folder is None or not where.name or where.is_absolute() or ".." in where.parts:
        return None
    try:
        with (folder / where).open("rb") as file:
            file.seek(int(entries.get("offset", 0)))
            return file.read(size)
    except (OSError, ValueError):
        return None  # absent data files are normal: only shapes are needed


def attributes_of(node: Any, outer: dict[str, Any] | None = None) -> dict[str, Any]:
    """A NodeProto's attributes as plain values; tensors and graphs stay protobuf messages.

    ``outer`` holds the attributes of the function call around the node: references resolve to it.
    """
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            if outer and attribute.ref_attr_name in outer:
                found[attribute.name] = outer[attribute.ref_attr_name]
            continue
        kind = attribute.type
        if kind == 2:
            found[attribute.name] = attribute.i
        elif kind == 7:
            found[attribute.name] = tuple(attribute.ints)
        elif kind == 3:
            found[attribute.name] = attribute.s.decode("utf-8", "replace")
        elif kind == 1:
            found[attribute.name] = attribute.f
        elif kind == 6:
            found[attribute.name] = tuple(attribute.floats)
        elif kind == 4:
            found[attribute.name] = attribute.t
        elif kind == 5:
            found[attribute.name] = attribute.g
        elif kind == 8:
            found[attribute.name] = tuple(s.decode("utf-8", "replace") for s in attribute.strings)
        elif kind == 11:
            found[attribute.name] = attribute.sparse_tensor
    return found
