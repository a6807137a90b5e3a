"""Whole networks of an import: what was measured, on which target, and the row that keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from predictor.errors import ConfigError, ModelError
from predictor.profiling.imported import device_name, measurements_folder
from predictor.profiling.importers import Latency, Reading, TableRow, fail

if TYPE_CHECKING:
    from predictor.frontends.load import Resolution


@dataclass(frozen=True, slots=True)
class Target:
    """What was measured: the device's name, the runtime and precision, and for files about one
    network the model as it was run."""

    name: str
    runtime: str | None = None
    precision: str | None = None
    model: str | None = None
    batch: int | None = None
    resolution: Resolution | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A network's latency as it will be kept; ``cells`` are those of ``networks.csv``."""

    runtime: str
    precision: str
    latency: Latency
    cells: Mapping[str, str]


def networks_of(readings: Sequence[Reading], target: Target, remarks: list[str]) -> list[Network]:
    """One network a file, or the rows of tables; what the user should know goes to ``remarks``.

    Raises:
        ConfigError: the model, runtime or precision is not said, or said twice differently.
    """
    found = []
    for reading in readings:
        if reading.rows:
            found += _of_table(reading, target, remarks)
        elif reading.latency is not None:
            runtime, precision = target_of([reading], target)
            cells = {"model": model_of(target, reading), "batch": _text(target.batch),
                     "resolution": _text(target.resolution)}  # fmt: skip
            found.append(_network(reading, reading.latency, runtime, precision, cells, target))
    return found


def _network(
    reading: Reading, latency: Latency, runtime: str, precision: str, cells: dict[str, str],
    target: Target,
) -> Network:  # fmt: skip
    figures = {
        "latency_ms": latency.latency_ms, "median_ms": latency.median_ms,
        "p10_ms": latency.p10_ms, "p90_ms": latency.p90_ms, "first_run_ms": latency.first_run_ms,
    }  # fmt: skip
    whole = {
        **cells, "precision": precision, "device": device_name(target.name),
        **{name: "" if value is None else f"{value:.9g}" for name, value in figures.items()},
        "n": str(latency.n) if latency.n else "", "format": reading.format,
        "source": Path(reading.file).name, "sha256": reading.sha256,
    }  # fmt: skip
    return Network(runtime, precision, latency, whole)


def _of_table(reading: Reading, target: Target, remarks: list[str]) -> list[Network]:
    if target.model or target.batch or target.resolution:
        fail(reading.file, "a table names its models, batches and resolutions itself: leave out "
             "--model, --batch and --resolution")  # fmt: skip
    if target.runtime is None:
        fail(reading.file, "a table does not say what ran the models: add --runtime, such as "
             "--runtime tensorrt")  # fmt: skip
    found = []
    for row in _rows_of_device(reading, target, remarks):
        precision = row.precision or target.precision
        if precision is None:
            fail(reading.file, "no precision: fill a column 'precision', or add --precision, such "
                 "as --precision fp16", row.line)  # fmt: skip
        if target.precision not in (None, precision):
            fail(reading.file, f"precision {precision}, and --precision {target.precision}: leave "
                 "one of them out", row.line)  # fmt: skip
        try:
            measurements_folder(target.name, target.runtime, precision)
            model = stored_model(row.model, Path(reading.file).parent)
        except ConfigError as error:
            fail(reading.file, str(error), row.line)
        cells = {"model": model, "batch": row.batch, "resolution": row.resolution}
        found.append(_network(reading, row.latency, target.runtime, precision, cells, target))
    return found


def _rows_of_device(reading: Reading, target: Target, remarks: list[str]) -> list[TableRow]:
    """Rows that are of the target's device, where the table has several."""
    named = {row.device: device_name(row.device) for row in reading.rows if row.device}
    words = set(named.values())
    wanted = device_name(target.name)
    if len(words) > 1 and wanted not in words:
        fail(reading.file, f"rows of several devices ({', '.join(sorted(named))[:200]}), none of "
             f"them {wanted}: import the rows of one, with --name as it is called "
             "there")  # fmt: skip
    if len(words) > 1:
        rows = [row for row in reading.rows if named.get(row.device, wanted) == wanted]
        remarks.append(f"{reading.file}: {len(reading.rows) - len(rows)} rows are of other devices "
                       f"than {wanted} and were left out")  # fmt: skip
        return rows
    if words - {wanted}:
        remarks.append(f"{reading.file}: the table calls the device {', '.join(sorted(named))}; "
                       f"it is kept as {wanted}")  # fmt: skip
    return list(reading.rows)


def stored_model(name: str, folder: Path) -> str:
    """A model's name as it can be found from any folder: paths become absolute.

    Raises:
        ConfigError: there is no such file, or no source of models of that name.
    """
    from predictor.frontends.families import is_family
    from predictor.frontends.families.decoder import is_decoder
    from predictor.frontends.load import EXAMPLES, SUFFIXES, beside
    from predictor.frontends.zoo import is_named

    found = beside(name, folder)
    if found.startswith("python:"):
        file, _, factory = found.removeprefix("python:").rpartition(":")
        if not Path(file).is_file():
            raise ModelError(f"{name}: no such file; write python:FILE:FACTORY")
        return f"python:{Path(file).resolve()}:{factory}"
    if found.lower().endswith(SUFFIXES):
        if not Path(found).is_file():
            raise ModelError(f"{name}: no such file")
        return str(Path(found).resolve())
    if not (is_named(found) or is_family(found) or is_decoder(found)):
        raise ModelError(f"'{name[:80]}' is no model that is known here. A model is one of: "
                         f"{EXAMPLES}")  # fmt: skip
    return found


def model_of(target: Target, reading: Reading) -> str:
    """The network that a file is about, as it can be found from any folder.

    Raises:
        ConfigError: it is not said, or there is none of that name.
    """
    if target.model is None:
        fail(reading.file, "it does not say which network it is about: add --model, such as "
             "--model resnet50.onnx or --model timm:resnet50")  # fmt: skip
    return stored_model(target.model, Path())


def _text(size: Resolution | None) -> str:
    if size is None:
        return ""
    return str(size) if isinstance(size, int) else f"{size[0]}x{size[1]}"


def target_of(readings: Sequence[Reading], target: Target) -> tuple[str, str]:
    """Runtime and precision of files about one network.

    Raises:
        ConfigError: they are not said, or differ from what the command line says.
    """
    told = {reading.runtime for reading in readings if reading.runtime}
    if len(told) > 1:
        fail(readings[-1].file, f"files of several runtimes ({', '.join(sorted(told))}): import "
             "them one after the other")  # fmt: skip
    runtime = target.runtime or next(iter(told))
    if told - {runtime}:
        fail(readings[0].file, f"this is a file of {told.pop()}, and --runtime says {runtime}: "
             "leave out --runtime")  # fmt: skip
    known = {reading.precision for reading in readings if reading.precision}
    precision = target.precision or (known.pop() if len(known) == 1 else None)
    if precision is None:
        fail(readings[0].file, "it does not say the precision: add --precision, such as "
             "--precision fp16")  # fmt: skip
    measurements_folder(target.name, runtime, precision)
    return runtime, precision
