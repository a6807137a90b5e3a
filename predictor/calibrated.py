"""A calibrated target as files in the user's folder: name, facts, bundle and its sources."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError
from predictor.hardware import Device, Target, spelled

if TYPE_CHECKING:
    from predictor.calibration import Calibration
    from predictor.latency.source import Source


def free_name(name: str, *, force: bool) -> str:
    """``name`` as a device may be called.

    Raises:
        ConfigError: it is no such name, or taken.
    """
    from predictor.device import devices, user_profiles

    wanted = spelled(name)
    for device in devices():
        own = device.folder is not None and Path(device.folder).parent == user_profiles().resolve()
        if wanted in (device.name, *map(spelled, device.aliases)) and not (own and force):
            remedy = "choose another, or replace it with --force" if own else "choose another"
            raise ConfigError(f"--name {name}: a device of that name exists; {remedy}")
    return wanted


def write_target(calibration: Calibration, name: str, facts: Device | None,
                 runtime: str | None, precision: str | None) -> Device:  # fmt: skip
    """Write the new device into the user's folder, whole or not at all; returns it as it loads.

    Raises:
        ConfigError: the name is no device name, or the folder cannot be written.
    """
    from predictor.device import load_device, user_profiles

    main = calibration.sources[calibration.main]
    target = Target(
        runtime or main.target.runtime, precision or main.target.precision, main.target.layout,
        main.target.software, tier="calibrated", default=True,
    )  # fmt: skip
    target = replace(target, bundle=f"{target.name}.json")
    device = _device(main, name, facts, target)
    folder = user_profiles() / name
    part = folder.with_name(f".{name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        _write_files(calibration, device, target, part)
        if folder.exists():
            shutil.rmtree(folder)
        part.replace(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return load_device(name)


def _device(main: Source, name: str, facts: Device | None, target: Target) -> Device:
    notes = () if facts else (f"The facts are those of {main.device.name}, not of this device.",)
    whole = facts or main.device
    data = replace(whole, name=name, title=name, aliases=(), targets=(target,),
                   notes=(*whole.notes, *notes)).to_dict()  # fmt: skip
    return Device.from_dict(data)


def _write_files(calibration: Calibration, device: Device, target: Target, folder: Path) -> None:
    from predictor.latency.bundle import write_bundle
    from predictor.latency.transfer import bundle_of, described

    chosen = calibration.chosen
    files = [calibration.sources[index].copy_into(folder, f"source-{at + 1}")
             for at, index in enumerate(chosen.kept)]  # fmt: skip
    blend = described(chosen, calibration.sources, files)
    bundle = bundle_of(calibration.sources, calibration.main, chosen, target.name, blend,
                       calibration.log_error_90,
                       min(row.graph.batch for row in calibration.measurements.rows))  # fmt: skip
    assert target.bundle is not None
    write_bundle(folder, target.bundle, bundle)
    (folder / "device.yaml").write_text(device_yaml(device), encoding="utf-8")


def device_yaml(device: Device, command: str = "calibrate") -> str:
    """The device as a file, every value in the form that YAML shares with JSON; it says which
    ``command`` wrote it."""
    import json

    data = device.to_dict()
    for key in ("folder", "power_mode"):
        data.pop(key, None)
    for target in data["targets"]:
        target.pop("name")
    lines = [f"# Written by 'predict-latency {command}'. "
             "The keys are explained in docs/devices.md."]  # fmt: skip
    for key, value in data.items():
        if value is None or value in ("", [], {}):
            continue
        lines.append(f"{key}: {json.dumps(_stated(value), ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _stated(value: Any) -> Any:
    """Without what is not said: None and empty texts inside lists and mappings."""
    if isinstance(value, dict):
        return {k: _stated(v) for k, v in value.items() if v is not None and v != ""}
    return [_stated(v) for v in value] if isinstance(value, list | tuple) else value
