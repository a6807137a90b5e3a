"""A known target as something that other targets can be predicted from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from predictor.graph import Kernel
from predictor.kernels.features import CLASSES, Features, Floats
from predictor.latency.physical import floor_s, to_parameters
from predictor.latency.tiles import shapes_of

if TYPE_CHECKING:
    from predictor.hardware import Device, Target
    from predictor.latency.costing import Coster

BOUNDS = ("compute", "memory", "launch", "operators")
PARTS = (*CLASSES, *BOUNDS)
"""What a source's latency is split into, milliseconds each: by class of kernel, and by what binds.
``operators`` is the host's chain in eager mode, at :data:`OPERATOR_MS` an operator."""
OPERATOR_MS = 0.01
OWN = 1 + len(PARTS)
"""Columns of a source before those of whole-model experts."""


@dataclass(frozen=True, slots=True)
class Source:
    """A known target: its name, and everything that was fitted for it."""

    name: str
    coster: Coster
    device: Device
    target: Target
    home: str
    """Where its files lie."""

    @classmethod
    def of(cls, device: Device, target: Target) -> Source:
        """Load what was fitted for a target.

        Raises:
            ArtifactError: a file of it is damaged.
        """
        from predictor.latency.costing import Coster

        coster = Coster(device, target)
        return cls(f"{device.name} {target.name}", coster, device, target, str(coster.home))

    @property
    def is_mixture(self) -> bool:
        """It was calibrated from other sources."""
        return self.coster.bundle is not None and self.coster.bundle.blend is not None

    @property
    def has_own_figures(self) -> bool:
        """It was fitted on figures of the device itself."""
        bundle = self.coster.bundle
        return bundle is not None and not bundle.siblings_only and bundle.blend is None

    def on(self, device: Device) -> Source:
        """The same efficiencies on the hardware of another device."""
        return replace(self, coster=self.coster.at(device), device=device)

    def copy_into(self, folder: Path, stem: str) -> str:
        """Copy its files to ``folder`` under names that begin with ``stem``; the bundle's name."""
        from predictor.latency.bundle import Bundle, read_checked, write_bundle, write_checked

        bundle = self.coster.bundle or Bundle(self.target.name, self.rules, {}, {}, (), "datasheet")
        parameters = to_parameters(self.coster.theta)
        renamed: dict[str, Any] = {"parameters": parameters, "card": {}, "table": None}
        for key in ("learned", "totals", "kernelwise"):
            name = getattr(bundle, key)
            if name is not None:
                renamed[key] = f"{stem}.{name}"
                write_checked(folder, renamed[key], read_checked(Path(self.home), name))
        write_bundle(folder, f"{stem}.json", replace(bundle, **renamed))
        return f"{stem}.json"

    @property
    def rules(self) -> str:
        """The fusion rules that it was fitted with."""
        bundle = self.coster.bundle
        return bundle.rules if bundle else self.target.runtime

    def terms(self, kernels: Sequence[Kernel], features: Features) -> tuple[float, Floats]:
        """Milliseconds of a network, and of its :data:`PARTS`."""
        columns, seconds = self.columns(kernels, features)
        total, parts = self.of_sums(columns.sum(axis=0)[None], np.array([seconds.max()]))
        return float(total[0]), parts[0]

    def columns(self, kernels: Sequence[Kernel], features: Features) -> tuple[Floats, Floats]:
        """What :meth:`of_sums` takes: columns that add up over kernels (kernels x :attr:`width`),
        and seconds of which the largest counts."""
        coster = self.coster
        times = coster.times(kernels, features)
        ms = times.total * 1e3
        if coster.forest is not None:
            board = coster.forest.board(self.device.power_limit_w, self.device.generation)
            seconds, _ = coster.forest.seconds(features, coster.hardware, times,
                                               shapes_of(kernels), board)  # fmt: skip
            ms = seconds * 1e3
        rows = np.zeros((len(ms), OWN))
        rows[:, 0] = ms
        rows[np.arange(len(ms)), 1 + features.cls] = ms
        at = 1 + len(CLASSES)
        rows[:, at : at + 3] = 1e3 * np.column_stack([times.compute, times.memory, times.launch])
        rows[:, -1] = OPERATOR_MS * features.launches
        if coster.totals is not None:
            floor = floor_s(features, coster.hardware)
            own = coster.totals.columns(features, coster.hardware, times, floor)
            rows = np.hstack([rows, own])
        return rows, times.total

    @property
    def width(self) -> int:
        """How many columns add up."""
        return OWN + (self.coster.totals.width if self.coster.totals is not None else 0)

    def of_sums(self, sums: Floats, largest_s: Floats) -> tuple[Floats, Floats]:
        """Milliseconds of networks (rows) and of their :data:`PARTS`, from sums of
        :meth:`columns`."""
        coster, parts = self.coster, sums[:, 1:OWN].copy()
        ms = sums[:, 0]
        if coster.totals is not None:
            whole = coster.totals.answers(sums[:, OWN:], largest_s, coster.hardware)
            scale = 1e3 * whole.total_s / ms
            ms = ms * scale
            parts[:, : len(CLASSES)] *= scale[:, None]
        if coster.kernelwise is not None:
            return ms + coster.beside_kernels_ms(ms, parts[:, -1] / OPERATOR_MS), parts
        call_us = coster.bundle.parameters.get("call_us", 0.0) if coster.bundle else 0.0
        return ms + 1e-3 * call_us, parts
