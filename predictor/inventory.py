"""Devices as plain values, each target with its accuracy card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from predictor.hardware import Device, Target

SCHEMA_VERSION = 1
"""Raised when a key of :func:`devices_dict` changes its meaning or goes away."""


def accuracy_card(device: Device, target: Target) -> Mapping[str, Any] | None:
    """The accuracy on what was never fitted; None for a target that nothing was fitted for."""
    if target.bundle is None:
        return None
    from predictor.latency.bundle import load_card

    card: Mapping[str, Any] | None = load_card(device, target)
    return card


def device_dict(device: Device) -> dict[str, Any]:
    """The device's facts, each target with its accuracy card under ``accuracy``."""
    data = device.to_dict()
    data.pop("folder", None)
    for plain, target in zip(data["targets"], device.targets, strict=True):
        card = accuracy_card(device, target)
        plain["accuracy"] = dict(card) if card is not None else None
    return data


def devices_dict(devices: Sequence[Device]) -> dict[str, Any]:
    """What ``predict-latency devices --json`` prints."""
    return {"schema_version": SCHEMA_VERSION, "devices": [device_dict(d) for d in devices]}
