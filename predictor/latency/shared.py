"""What devices of a kind have in common: fits for a device that has no figures of its own.

``profiles/shared/`` holds bundles that were fitted on several devices at once and belong to none.
A device without a bundle and without a named sibling takes the most special one for the same
runtime and precision: its generation's, else its kind's. Clocks, units, caches and bandwidth stay
its own; the interval is that of devices that were left out of such a fit.
"""

from __future__ import annotations

from pathlib import Path

from predictor.device import shipped_profiles
from predictor.hardware import Device, Target
from predictor.latency.bundle import MANIFEST, Bundle, read_bundle

FOLDER = "shared"


def names_for(device: Device, target: Target) -> tuple[str, ...]:
    """File names without ending, the most special first."""
    kind = "soc" if device.kind == "gpu" and device.shared_memory else device.kind
    base = f"{kind}-{target.runtime}-{target.precision}"
    return f"{base}-{device.generation}", base


def shared_bundle(device: Device, target: Target) -> tuple[Bundle, Path] | None:
    """The fit that the device shares with its kind, and its folder; None where there is none.

    Raises:
        ArtifactError: a file is damaged.
    """
    folder = shipped_profiles() / FOLDER
    if target.layout not in ("nchw", "") and target.runtime != "tflite":
        return None
    if not (folder / MANIFEST).is_file():
        return None
    for name in names_for(device, target):
        if (folder / f"{name}.json").is_file():
            return read_bundle(folder, f"{name}.json"), folder
    return None
