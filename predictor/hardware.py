"""Hardware and runtime facts of a device, read from ``device.yaml``; no code knows a device's name.

A device's figures are those of its default power mode; :meth:`Device.at_power` gives it at another.
``docs/devices.md`` explains the keys of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from predictor import strict
from predictor.errors import ConfigError, suggest
from predictor.graph import PRECISIONS
from predictor.targets import (
    LAYOUTS,
    RUNTIMES,
    TIERS,
    USUAL_LAYOUT,
    Target,
    fact,
    known_word,
    of_software,
    targets_from,
)

__all__ = [
    "LAYOUTS", "RUNTIMES", "TIERS", "WIDER", "Device", "Host", "Measured", "PowerMode", "Sibling",
    "Target", "device_from", "spelled",
]  # fmt: skip

WIDER: dict[str, tuple[str, ...]] = {
    "amp": ("fp16", "fp32"), "amp_bf16": ("bf16", "fp32"), "tf32": ("fp32",), "fp16": ("fp32",),
    "bf16": ("fp32",), "fp8": ("fp16", "fp32"), "int8": ("fp16", "fp32"),
    "int4": ("int8", "fp16", "fp32"),
}  # fmt: skip
"""Where arithmetic happens if the hardware has no unit for a precision: the first that it has."""

MOST_OF_PEAK = 1.05
"""A measured figure may be this much above the datasheet's: boards boost a little."""
_SAFE_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")
_UNIT_NAMES = {"gpu": "SM", "cpu": "core", "npu": "unit"}


@dataclass(frozen=True, slots=True)
class PowerMode:
    """One setting of the board's power tool. None is unknown, or the same as the device.

    ``units`` are the SMs or cores that are online, ``limit_w`` the power budget in watts (None:
    unconstrained), ``cpu_clock_mhz`` the host CPU's largest clock.
    """

    name: str = fact("text")
    clock_mhz: float | None = fact("number", None)
    units: int | None = fact("count", None)
    bandwidth_gbs: float | None = fact("number", None)
    limit_w: float | None = fact("number", None)
    cpu_clock_mhz: float | None = fact("number", None)
    default: bool = fact("flag", False)


@dataclass(frozen=True, slots=True)
class Host:
    """The CPU that feeds the device; ``eager_us_per_op`` is what an eager operator costs it, us."""

    cpu: str = fact("text", "")
    clock_mhz: float | None = fact("number", None)
    eager_us_per_op: float | None = fact("number", None)


@dataclass(frozen=True, slots=True)
class Measured:
    """Two quick measurements of the device at its default power mode; empty and None are unknown.

    ``matmul_tflops`` are TFLOP/s of a large matrix product by precision (an operation is half a
    MAC), ``copy_gbs`` the bytes that a large copy reads and writes, GB/s.
    """

    matmul_tflops: Mapping[str, float] = field(default_factory=dict)
    copy_gbs: float | None = fact("number", None)


@dataclass(frozen=True, slots=True)
class Sibling:
    """The measured device whose fitted targets stand in for those of this one."""

    device: str = fact("text")


@dataclass(frozen=True, slots=True)
class Device:
    """Hardware facts of one device at one power mode, and the targets that run on it.

    ``peak_tflops`` are dense TFLOP/s (TOP/s for integers) by precision, ``units`` SMs or cores,
    ``sources`` the document that each fact is taken from, ``folder`` where its bundles lie.
    """

    name: str = fact("text")
    kind: str = fact("text", choices=("gpu", "cpu", "npu"))
    generation: str = fact("text")
    memory_gb: float = fact("number")
    bandwidth_gbs: float = fact("number")
    units: int = fact("count")
    clock_mhz: float = fact("number")
    peak_tflops: Mapping[str, float] = fact("")
    targets: tuple[Target, ...] = fact("")
    title: str = fact("text", "")
    aliases: tuple[str, ...] = fact("texts", ())
    shared_memory: bool = fact("flag", False)
    l2_mb: float | None = fact("number", None)
    l1_kb_per_unit: float | None = fact("number", None)
    unit_name: str = fact("text", "")
    tensor_cores: bool = fact("flag", False)
    power_limit_w: float | None = fact("number", None)
    host: Host = field(default_factory=Host)
    measured: Measured | None = None
    sibling: Sibling | None = None
    power_modes: tuple[PowerMode, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = fact("texts", ())
    power_mode: str = field(default="", metadata={"closed": True})
    folder: str | None = field(default=None, metadata={"closed": True})

    @property
    def bandwidth(self) -> float:
        """Peak memory bandwidth, bytes per second."""
        return self.bandwidth_gbs * 1e9

    def peak_flops(self, precision: str) -> float:
        """Dense peak, FLOP/s. A precision without a unit of its own runs as :data:`WIDER` says.

        Raises:
            ConfigError: no such precision.
        """
        return self.peak_tflops[self.unit_of(precision)] * 1e12

    def unit_of(self, precision: str) -> str:
        """The precision that ``precision`` runs in here: itself, or the first wider one.

        Raises:
            ConfigError: no such precision.
        """
        known_word("precision", precision, PRECISIONS)
        names = (precision, *WIDER.get(precision, ()))
        return next((name for name in names if name in self.peak_tflops), "fp32")

    def target(
        self, runtime: str | None = None, precision: str | None = None, layout: str | None = None,
        software: str | None = None,
    ) -> Target:  # fmt: skip
        """The listed target that was asked for, or a datasheet target without a bundle.

        What is not asked is the default target's; a runtime alone means its first listed target.
        ``software`` is a release, or a name or version that stands in a target's software: a target
        must be listed for it.

        Raises:
            ConfigError: no such runtime or precision, a runtime for another kind of device, or no
                target with that software.
        """
        usual = next(target for target in self.targets if target.default)
        if runtime is not None and self.kind not in known_word("runtime", runtime, RUNTIMES):
            able = [name for name, kinds in RUNTIMES.items() if self.kind in kinds]
            raise ConfigError(f"{runtime} does not run on {self.name}, a {self.kind}."
                              f" Choose one of: {', '.join(able)}")  # fmt: skip
        if precision is not None:
            known_word("precision", precision, PRECISIONS)
        if layout is not None:
            known_word("layout", layout, dict.fromkeys(LAYOUTS))
        asked_runtime, runtime = runtime, runtime or usual.runtime
        listed = [
            target for target in sorted(self.targets, key=lambda target: not target.default)
            if target.runtime == runtime or (software is not None and asked_runtime is None)
            if precision in (None, target.precision) and layout in (None, target.layout)
        ]  # fmt: skip
        if software is not None:
            return of_software(listed, software, self.name)
        if listed:
            return listed[0]
        return Target(runtime, precision or usual.precision,
                      layout or USUAL_LAYOUT.get(runtime, "nchw"))  # fmt: skip

    def at_power(self, mode: str | None) -> Device:
        """This device at another power mode; None leaves it where it stands.

        Peaks scale with units x clock, bandwidth is the mode's, the host's time per operator scales
        with 1 / CPU clock.

        Raises:
            ConfigError: no such mode.
        """
        if mode is None:
            return self
        chosen = self._mode(mode)
        clock, units = chosen.clock_mhz or self.clock_mhz, chosen.units or self.units
        scale = clock * units / (self.clock_mhz * self.units)
        return replace(
            self, power_mode=chosen.name, clock_mhz=clock, units=units,
            bandwidth_gbs=chosen.bandwidth_gbs or self.bandwidth_gbs,
            power_limit_w=chosen.limit_w,
            peak_tflops={name: peak * scale for name, peak in self.peak_tflops.items()},
            host=_at_clock(self.host, chosen.cpu_clock_mhz),
            measured=_scaled(self.measured, scale,
                             (chosen.bandwidth_gbs or self.bandwidth_gbs) / self.bandwidth_gbs),
        )  # fmt: skip

    def _mode(self, asked: str) -> PowerMode:
        """By name, else the first whose name goes on after it: 15W finds 15W_6CORE."""
        names = {spelled(mode.name): mode for mode in self.power_modes}
        word = spelled(asked).removeprefix("mode-")
        for name, mode in names.items():
            if word == name.removeprefix("mode-"):
                return mode
        for name, mode in names.items():
            if name.removeprefix("mode-").startswith(word + "-"):
                return mode
        listed = [mode.name for mode in self.power_modes]
        known = f" Known: {', '.join(listed)}" if listed else " It has none in its profile."
        raise ConfigError(f"unknown power mode '{asked}' of {self.name}."
                          f"{suggest(asked.upper(), listed)}{known}")  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values under the same names; each target also with its ``name``."""
        data = asdict(self)
        for plain, target in zip(data["targets"], self.targets, strict=True):
            plain["name"] = target.name
        for key in ("targets", "power_modes", "aliases", "notes"):
            data[key] = list(data[key])
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Device:
        """Inverse of :meth:`to_dict`, checked like a file.

        Raises:
            ConfigError: a key or value is wrong.
        """
        values = strict.mapping(_without_derived(data), (), strict.no_place)
        targets, host = values.get("targets"), values.get("host", {})
        if isinstance(targets, list | tuple):
            values["targets"] = [_without_derived(target, "name") for target in targets]
        values["host"] = _without_derived(host)
        standing = {
            "power_mode": values.pop("power_mode", ""),
            "folder": values.pop("folder", None),
        }
        return replace(device_from(values, strict.no_place, at_default=False), **standing)


def _without_derived(part: Any, *names: str) -> Any:
    """A copy without computed keys and empty texts; what is no mapping passes as it is."""
    if not isinstance(part, Mapping):
        return part
    return {key: value for key, value in part.items() if key not in names and value != ""}


def _at_clock(host: Host, clock_mhz: float | None) -> Host:
    if clock_mhz is None:
        return host
    cost = host.eager_us_per_op
    if cost is not None and host.clock_mhz is not None:
        cost *= host.clock_mhz / clock_mhz
    return replace(host, clock_mhz=clock_mhz, eager_us_per_op=cost)


def _scaled(measured: Measured | None, compute: float, memory: float) -> Measured | None:
    """What would be measured at another power mode."""
    if measured is None:
        return None
    products = {name: value * compute for name, value in measured.matmul_tflops.items()}
    return Measured(products, measured.copy_gbs and measured.copy_gbs * memory)


def spelled(name: str) -> str:
    """A name as it is compared: lower case, with hyphens."""
    return name.strip().lower().replace("_", "-").replace(" ", "-")


# --- from a file's values to a device ------------------------------------------------------------


def device_from(data: Any, fail: strict.Fail, *, at_default: bool = True) -> Device:
    """The device that checked plain values describe, standing at its default power mode.

    ``fail`` is called for the first mistake; ``at_default=False`` leaves the power modes alone.
    """
    values = strict.part(Device, data, (), fail)
    if not set(values["name"]) <= _SAFE_NAME or not values["name"][0].isalnum():
        fail(("name",), "use lower-case letters, digits, '.' and '-' only, a letter or digit first")
    values["host"] = Host(**strict.part(Host, values.get("host", {}), ("host",), fail))
    values["peak_tflops"] = _peaks(values["peak_tflops"], ("peak_tflops",), fail)
    if "fp32" not in values["peak_tflops"]:
        fail(("peak_tflops",), "fp32 is missing; every other precision falls back to it")
    if "measured" in values:
        values["measured"] = _measured(values["measured"], fail)
    if "sibling" in values:
        values["sibling"] = Sibling(**strict.part(Sibling, values["sibling"], ("sibling",), fail))
    values["targets"] = targets_from(values["targets"], values["kind"], fail)
    modes = strict.parts(PowerMode, values.get("power_modes", []), ("power_modes",), fail)
    values["power_modes"] = tuple(PowerMode(**mode) for mode in modes)
    values["sources"] = strict.mapping(values.get("sources", {}), ("sources",), fail)
    facts = [fact.name for fact in fields(Device)]
    for name, value in values["sources"].items():
        strict.choice("fact", name, facts, ("sources", name), fail)
        strict.checked("text", value, ("sources", name), fail)
    values.setdefault("title", values["name"])
    values.setdefault("unit_name", _UNIT_NAMES[values["kind"]])
    device = Device(**values)
    _check_measured(device, fail)
    return _at_default_mode(device, fail) if at_default and modes else device


def _peaks(data: Any, place: strict.Place, fail: strict.Fail) -> dict[str, float]:
    peaks = strict.mapping(data, place, fail)
    for name, value in peaks.items():
        strict.choice("precision", name, tuple(PRECISIONS), (*place, name), fail)
        strict.checked("number", value, (*place, name), fail)
    return peaks


def _measured(data: Any, fail: strict.Fail) -> Measured:
    values = strict.part(Measured, data, ("measured",), fail)
    if not values:
        fail(("measured",), "give matmul_tflops, copy_gbs or both, or remove the key")
    place = ("measured", "matmul_tflops")
    return Measured(_peaks(values.get("matmul_tflops", {}), place, fail), values.get("copy_gbs"))


def _check_measured(device: Device, fail: strict.Fail) -> None:
    """Nothing runs above its peak: such a figure is in another unit, or is no steady state."""
    if device.measured is None:
        return
    for name, value in device.measured.matmul_tflops.items():
        peak = device.peak_flops(name) / 1e12
        if value > MOST_OF_PEAK * peak:
            fail(("measured", "matmul_tflops", name),
                 f"{value:g} TFLOP/s is above the peak of {peak:g}: count 2 x m x n x k operations"
                 " and wait for the device before the clock stops; if it boosts above clock_mhz,"
                 " raise clock_mhz and peak_tflops to what it runs at")  # fmt: skip
    copied = device.measured.copy_gbs
    if copied is not None and copied > MOST_OF_PEAK * device.bandwidth_gbs:
        fail(("measured", "copy_gbs"),
             f"{copied:g} GB/s is above bandwidth_gbs, {device.bandwidth_gbs:g}: copy far more than"
             " the caches hold (1 GB), count bytes read and written, and wait for the device"
             " before the clock stops")  # fmt: skip


def _at_default_mode(device: Device, fail: strict.Fail) -> Device:
    """The device standing at its default mode, and every mode with its figures in full."""
    modes = device.power_modes
    if len({spelled(mode.name) for mode in modes}) < len(modes):
        fail(("power_modes",), "two power modes have the same name")
    if sum(mode.default for mode in modes) != 1:
        fail(("power_modes",), "mark exactly one power mode with 'default: true'")
    index = next(i for i, mode in enumerate(modes) if mode.default)
    for key in ("clock_mhz", "units", "bandwidth_gbs"):
        value = getattr(modes[index], key)
        if value is not None and value != getattr(device, key):
            fail(("power_modes", index, key), f"{value:g} here and {getattr(device, key):g} above;"
                 " the device's figures are those of its default mode")  # fmt: skip
    # In full, so that a move from any mode to any other gives the same device.
    full = tuple(
        replace(mode, clock_mhz=mode.clock_mhz or device.clock_mhz,
                units=mode.units or device.units,
                bandwidth_gbs=mode.bandwidth_gbs or device.bandwidth_gbs,
                cpu_clock_mhz=mode.cpu_clock_mhz or device.host.clock_mhz)
        for mode in modes
    )  # fmt: skip
    return replace(device, power_modes=full, power_mode=full[index].name)
