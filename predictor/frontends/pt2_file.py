"""``.pt2`` archives: the JSON graph inside, found without unpickling, and its symbolic sizes.

Layout after ``torch/export/pt2_archive/constants.py`` (torch 2.7 and later: ``models/*.json``) and
the older flat one (``serialized_exported_program.json``); fields after
``torch/_export/serde/schema.py`` (schema version 8).
"""

from __future__ import annotations

import ast
import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from predictor.errors import ModelError

MAX_JSON_BYTES = 512 << 20
"""A graph of more JSON than this is refused before it is unpacked."""

SCALAR_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16",
    29: "float8", 30: "float8", 31: "float8", 32: "float8", 33: "float8", 34: "uint32",
    35: "uint64",
}  # fmt: skip
"""ScalarType of the schema."""

SCHEMA_MAJOR = 8


def load_program(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The serialized ExportedProgram as plain JSON values, and where each weight is stored.

    Names with the same place are one tensor (tied weights).

    Raises:
        ModelError: the file is missing, no archive, damaged, of another kind, or too large.
    """
    place = str(path)
    try:
        if Path(path).is_dir():
            raise ModelError("is a folder; name the .pt2 file in it", file=place)
        with zipfile.ZipFile(path) as archive:
            member = _graph_member(archive, place)
            program = _json(archive, member, place)
            payloads = {
                info.filename: _json(archive, info, place) for info in archive.infolist()
                if info.filename.endswith("_weights_config.json")
            }  # fmt: skip
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError,
            NotImplementedError) as error:  # fmt: skip
        # RuntimeError covers encrypted members and JSON nested without end.
        raise ModelError(
            f"is no readable .pt2 archive ({error}); save it again with torch.export.save",
            file=place,
        ) from error
    _check_program(program, place)
    return program, _places(next(iter(payloads.values()), None))


def _json(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: str) -> Any:
    if member.file_size > MAX_JSON_BYTES:
        raise _too_large(member, place)
    with archive.open(member) as stream:
        data = stream.read(MAX_JSON_BYTES + 1)  # the header's size may lie
    if len(data) > MAX_JSON_BYTES:
        raise _too_large(member, place)
    return json.loads(data)


def _places(payloads: Any) -> dict[str, str]:
    """File, offset and layout of each weight, as text; nothing where the list is damaged."""
    config = payloads.get("config") if isinstance(payloads, dict) else None
    found = {}
    for name, payload in (config if isinstance(config, dict) else {}).items():
        meta = payload.get("tensor_meta") if isinstance(payload, dict) else None
        if isinstance(meta, dict) and payload.get("path_name"):
            layout = [meta.get(key) for key in ("sizes", "strides", "storage_offset", "dtype")]
            found[name] = f"{payload['path_name']} {layout}"
    return found


def _check_program(program: Any, place: str) -> None:
    if not isinstance(program, dict) or not isinstance(program.get("graph_module"), dict):
        raise ModelError("its JSON holds no exported program", file=place)
    version = program.get("schema_version")
    major = version.get("major") if isinstance(version, dict) else None
    if major is not None and major != SCHEMA_MAJOR:
        raise ModelError(
            f"is written in schema version {major}, this reader knows {SCHEMA_MAJOR}; "
            "save it again with torch 2.6 or later",
            file=place,
        )


def _graph_member(archive: zipfile.ZipFile, place: str) -> zipfile.ZipInfo:
    infos = archive.infolist()
    for info in infos:
        parts = info.filename.split("/")
        new = info.filename.endswith(".json") and "models" in parts[:-1]
        if new or parts[-1] == "serialized_exported_program.json":
            return info
    names = [info.filename for info in infos]
    if any("aotinductor" in name for name in names):
        what = "is compiled by AOTInductor and holds no graph"
    elif any(name.endswith("data.pkl") for name in names):
        what = "is a pickle (torch.save or TorchScript), which is never loaded"
    else:
        what = "holds no exported graph"
    raise ModelError(f"{what}; save the model with torch.export.save", file=place)


def _too_large(info: zipfile.ZipInfo, place: str) -> ModelError:
    return ModelError(
        f"{info.filename} unpacks to over {MAX_JSON_BYTES >> 20} MB, which no model's graph needs",
        file=place,
    )


# -- symbolic sizes -------------------------------------------------------------------------------

_SYMBOLIC: dict[str, Any] = {
    "Add": lambda *a: sum(a),
    "Mul": lambda *a: math.prod(a),
    "Pow": lambda a, b: a**b if abs(b) <= 64 else None,
    "FloorDiv": lambda a, b: a // b,
    "CleanDiv": lambda a, b: a // b,
    "PythonMod": lambda a, b: a % b,
    "Mod": lambda a, b: a % b,
    "Max": max,
    "Min": min,
    "Integer": int,
    "Rational": lambda a, b: a / b,
    "floor": math.floor,
    "ceiling": math.ceil,
    "CeilToInt": math.ceil,
    "IntTrueDiv": lambda a, b: a / b,
}


class Sizes:
    """Integers of the schema, symbols replaced: by what the caller asks for, else by the hint.

    ``given`` maps symbol names to sizes; ``dropped`` collects expressions that could not be
    worked out, for which the hint was kept.
    """

    def __init__(self, given: Mapping[str, int]) -> None:
        self.given, self.hints = given, dict[str, int]()
        self.dropped: list[str] = []

    def of(self, size: Mapping[str, Any]) -> int:
        """A SymInt (``{"as_int": 3}`` or ``{"as_expr": {...}}``) as a number."""
        if "as_int" in size:
            return int(size["as_int"])
        expression = size["as_expr"]
        hint = expression.get("hint") or {}
        text = str(expression["expr_str"])
        if self.given:
            try:
                value = self._value(ast.parse(text[:2000], mode="eval").body)
                if value is not None and int(value) == value:
                    return int(value)
            except (SyntaxError, ValueError, TypeError, KeyError, ZeroDivisionError, RecursionError,
                    OverflowError, MemoryError):  # fmt: skip
                pass
            if any(name in text for name in self.given):
                self.dropped.append(text)
        return int(hint["as_int"])

    def symbol(self, size: Mapping[str, Any]) -> str | None:
        """The symbol's name where ``size`` is one symbol; its hint is kept."""
        if "as_expr" not in size:
            return None
        try:
            call = ast.parse(str(size["as_expr"]["expr_str"])[:2000], mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        if not (isinstance(call, ast.Call) and _name(call.func) == "Symbol" and call.args):
            return None
        name = call.args[0]
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return None
        hint = (size["as_expr"].get("hint") or {}).get("as_int")
        if isinstance(hint, int):
            self.hints[name.value] = hint
        return name.value

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._value(node.operand)
        if isinstance(node, ast.Call):
            name = _name(node.func)
            if name == "Symbol":
                symbol = self._value(node.args[0])
                return self.given.get(symbol, self.hints.get(symbol))
            return _SYMBOLIC[name](*(self._value(arg) for arg in node.args))
        raise ValueError("no symbolic size")


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
