"""Devices that were never profiled: a sibling's fitted target, and two quick measurements.

A sibling's efficiencies and launch overheads are taken as they are; clocks, units, caches and
bandwidth are the device's own, so its figures follow their ratios. A measured matrix product and a
measured copy then set the level: all compute efficiencies move by the factor that makes a large
product take what it took, all memory efficiencies by that of a large copy.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from predictor.hardware import Device, Target
from predictor.kernels.features import Floats
from predictor.latency.bundle import Bundle, load_bundle
from predictor.latency.intervals import DATASHEET_LOG_ERROR, SIBLING_PROTOCOLS
from predictor.latency.physical import INDEX


def sibling_bundle(device: Device, target: Target) -> tuple[Bundle, Path] | None:
    """What was fitted for the same target of the device's sibling, and its folder; else None.

    Raises:
        UnknownDevice: the sibling has gone.
        ArtifactError: its files are damaged.
    """
    if device.sibling is None:
        return None
    from predictor.device import load_device

    sibling = load_device(device.sibling.device, paths=False)
    theirs = _same_target(sibling, target)
    bundle = load_bundle(sibling, theirs) if theirs else None
    if bundle is None or theirs is None or bundle.kernelwise is not None:
        return None  # what was learned of one device's kernels holds for that device
    far = f", though of another generation ({sibling.generation})"
    lent = replace(
        bundle,
        log_error_90=_left_out_boards(bundle, device.kind),
        basis=f"efficiencies of its sibling {sibling.name} ({bundle.basis})"
        f"{far if sibling.generation != device.generation else ''}; clocks, units and bandwidth "
        "its own",
        siblings_only=True, host_us=device.host.eager_us_per_op or bundle.host_us,
        card={key: value for key, value in bundle.card.items() if key != "n"} | {"n": 0},
        # These hold what was measured on the sibling itself, or learned of its kernels alone.
        learned=None, table=None, blend=None,
    )  # fmt: skip
    return lent, Path(sibling.folder or "")


def _same_target(sibling: Device, target: Target) -> Target | None:
    fitted = [
        theirs for theirs in sorted(sibling.targets, key=lambda one: not one.default)
        if theirs.bundle is not None and theirs.runtime == target.runtime
        and theirs.precision == target.precision and theirs.layout == target.layout
    ]  # fmt: skip
    return next((one for one in fitted if one.release == target.release), (*fitted, None)[0])


def _left_out_boards(bundle: Bundle, kind: str) -> dict[str, float]:
    """Errors on boards that were left out; where none was ever, a datasheet's or its own."""
    errors = dict(bundle.log_error_90)
    if not any(protocol in errors for protocol in SIBLING_PROTOCOLS):
        errors[SIBLING_PROTOCOLS[0]] = max(DATASHEET_LOG_ERROR[kind], *errors.values())
    return errors


def anchored(
    theta: Floats, device: Device, precision: str, classes: Collection[str]
) -> tuple[Floats, tuple[str, ...]]:
    """``theta`` moved to the device's measured product and copy, and what was used, in words.

    ``classes`` are those that a sibling's figures contain, empty where there is none. A sibling
    without matrix products (or copies) says nothing of how its others compare to them, so its level
    stays.
    """
    measured = device.measured
    if measured is None:
        return theta, ()
    products = [name for name in ("linear", "matmul") if not classes or name in classes]
    copies = [name for name in ("copy", "elementwise") if not classes or name in classes]
    theta, words = np.array(theta), []
    unit = device.unit_of(precision)
    product = measured.matmul_tflops.get(precision, measured.matmul_tflops.get(unit))
    if product is not None and products:
        share = product * 1e12 / device.peak_flops(precision)
        theta[INDEX["all.compute"]] = np.log(share) - theta[INDEX[f"compute.{products[0]}"]]
        words.append(f"a matrix product at {product:g} TFLOP/s")
    if measured.copy_gbs is not None and copies:
        share = measured.copy_gbs / device.bandwidth_gbs
        theta[INDEX["all.memory"]] = np.log(share) - theta[INDEX[f"memory.{copies[0]}"]]
        words.append(f"a copy at {measured.copy_gbs:g} GB/s")
    return theta, tuple(words)
