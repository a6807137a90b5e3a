"""Hardware and runtime facts of a device, read from ``device.yaml``; no code knows a device's name.

A device's figures are those of its default power mode; :meth:`Device.at_power` gives it at another.
``docs/devices.md`` explains the keys of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

from predictor import strict
from predictor.errors import ConfigError, suggest
from predictor.graph import PRECISIONS

RUNTIMES: dict[str, tuple[str, ...]] = {
    "eager": ("gpu", "cpu"), "torch_compile": ("gpu", "cpu"), "onnxruntime": ("gpu", "cpu", "npu"),
    "tensorrt": ("gpu",), "tflite": ("cpu", "npu"), "ncnn": ("cpu", "gpu"), "qnn": ("npu",),
    "simulated": ("npu",),
}  # fmt: skip
"""Runtimes and the kinds of device that they run on."""

TIERS = ("measured", "calibrated", "datasheet")
LAYOUTS = ("nchw", "nhwc")
WIDER: dict[str, tuple[str, ...]] = {
    "amp": ("fp16", "fp32"), "amp_bf16": ("bf16", "fp32"), "tf32": ("fp32",), "fp16": ("fp32",),
    "bf16": ("fp32",), "fp8": ("fp16", "fp32"), "int8": ("fp16", "fp32"),
    "int4": ("int8", "fp16", "fp32"),
}  # fmt: skip
"""Where arithmetic happens if the hardware has no unit for a precision: the first that it has."""

_USUAL_LAYOUT = {"tflite": "nhwc"}
_SAFE_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")
_UNIT_NAMES = {"gpu": "SM", "cpu": "core", "npu": "unit"}


def _fact(check: str, default: Any = MISSING, **metadata: Any) -> Any:
    """A field with the check that a file's value must pass; without a default it is required."""
    metadata = {"check": check, "required": default is MISSING, **metadata}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class PowerMode:
    """One setting of the board's power tool. None is unknown, or the same as the device.

    ``units`` are the SMs or cores that are online, ``limit_w`` the power budget in watts (None:
    unconstrained), ``cpu_clock_mhz`` the host CPU's largest clock.
    """

    name: str = _fact("text")
    clock_mhz: float | None = _fact("number", None)
    units: int | None = _fact("count", None)
    bandwidth_gbs: float | None = _fact("number", None)
    limit_w: float | None = _fact("number", None)
    cpu_clock_mhz: float | None = _fact("number", None)
    default: bool = _fact("flag", False)


@dataclass(frozen=True, slots=True)
class Target:
    """What runs on the device: a runtime in one precision, layout and software version.

    ``tier`` says what its figures rest on (measured, calibrated, datasheet); ``bundle`` is the file
    in the device's folder that holds the fitted model, None where there is none. ``release`` tells
    apart targets that differ in nothing but the version of their software.
    """

    runtime: str = _fact("text", choices=tuple(RUNTIMES))
    precision: str = _fact("text", choices=tuple(PRECISIONS))
    layout: str = _fact("text", "nchw", choices=LAYOUTS)
    software: str = _fact("text", "")
    batch_note: str = _fact("text", "")
    tier: str = _fact("text", "datasheet", choices=TIERS)
    bundle: str | None = _fact("text", None)
    default: bool = _fact("flag", False)
    release: str = _fact("text", "")

    @property
    def name(self) -> str:
        """``runtime-precision``, then the layout if it is not the usual one, and the release."""
        usual = _USUAL_LAYOUT.get(self.runtime, "nchw")
        layout = (self.layout,) if self.layout != usual else ()
        release = (self.release,) if self.release else ()
        return "-".join((self.runtime, self.precision, *layout, *release))


@dataclass(frozen=True, slots=True)
class Host:
    """The CPU that feeds the device; ``eager_us_per_op`` is what an eager operator costs it, us."""

    cpu: str = _fact("text", "")
    clock_mhz: float | None = _fact("number", None)
    eager_us_per_op: float | None = _fact("number", None)


@dataclass(frozen=True, slots=True)
class Device:
    """Hardware facts of one device at one power mode, and the targets that run on it.

    ``peak_tflops`` are dense TFLOP/s (TOP/s for integers) by precision, ``units`` SMs or cores,
    ``sources`` the document that each fact is taken from, ``folder`` where its bundles lie.
    """

    name: str = _fact("text")
    kind: str = _fact("text", choices=("gpu", "cpu", "npu"))
    generation: str = _fact("text")
    memory_gb: float = _fact("number")
    bandwidth_gbs: float = _fact("number")
    units: int = _fact("count")
    clock_mhz: float = _fact("number")
    peak_tflops: Mapping[str, float] = _fact("")
    targets: tuple[Target, ...] = _fact("")
    title: str = _fact("text", "")
    aliases: tuple[str, ...] = _fact("texts", ())
    shared_memory: bool = _fact("flag", False)
    l2_mb: float | None = _fact("number", None)
    l1_kb_per_unit: float | None = _fact("number", None)
    unit_name: str = _fact("text", "")
    tensor_cores: bool = _fact("flag", False)
    power_limit_w: float | None = _fact("number", None)
    host: Host = field(default_factory=Host)
    power_modes: tuple[PowerMode, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = _fact("texts", ())
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
        if precision not in PRECISIONS:
            raise ConfigError(f"unknown precision '{precision}'.{suggest(precision, PRECISIONS)}"
                              f" Known: {', '.join(PRECISIONS)}")  # fmt: skip
        for name in (precision, *WIDER.get(precision, ())):
            if name in self.peak_tflops:
                return self.peak_tflops[name] * 1e12
        return self.peak_tflops["fp32"] * 1e12

    def target(
        self, runtime: str | None = None, precision: str | None = None, layout: str | None = None
    ) -> Target:
        """The listed target that was asked for, or a datasheet target without a bundle.

        What is not asked is the default target's; a runtime alone means its first listed target.

        Raises:
            ConfigError: no such runtime or precision, or a runtime for another kind of device.
        """
        usual = next(target for target in self.targets if target.default)
        if runtime is not None and self.kind not in _known("runtime", runtime, RUNTIMES):
            able = [name for name, kinds in RUNTIMES.items() if self.kind in kinds]
            raise ConfigError(f"{runtime} does not run on {self.name}, a {self.kind}."
                              f" Choose one of: {', '.join(able)}")  # fmt: skip
        if precision is not None:
            _known("precision", precision, PRECISIONS)
        if layout is not None:
            _known("layout", layout, dict.fromkeys(LAYOUTS))
        runtime = runtime or usual.runtime
        for target in sorted(self.targets, key=lambda target: not target.default):
            same = target.runtime == runtime and precision in (None, target.precision)
            if same and layout in (None, target.layout):
                return target
        return Target(runtime, precision or usual.precision,
                      layout or _USUAL_LAYOUT.get(runtime, "nchw"))  # fmt: skip

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


def _known(what: str, word: str, table: Mapping[str, Any]) -> Any:
    if word not in table:
        raise ConfigError(f"unknown {what} '{word}'.{suggest(word, table)}"
                          f" Known: {', '.join(table)}")  # fmt: skip
    return table[word]


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
    values["peak_tflops"] = _peaks(values["peak_tflops"], fail)
    values["targets"] = _targets(values["targets"], values["kind"], fail)
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
    return _at_default_mode(device, fail) if at_default and modes else device


def _peaks(data: Any, fail: strict.Fail) -> dict[str, float]:
    peaks = strict.mapping(data, ("peak_tflops",), fail)
    for name, value in peaks.items():
        strict.choice("precision", name, tuple(PRECISIONS), ("peak_tflops", name), fail)
        strict.checked("number", value, ("peak_tflops", name), fail)
    if "fp32" not in peaks:
        fail(("peak_tflops",), "fp32 is missing; every other precision falls back to it")
    return peaks


def _targets(data: Any, kind: str, fail: strict.Fail) -> tuple[Target, ...]:
    parts = strict.parts(Target, data, ("targets",), fail)
    if not parts:
        fail(("targets",), "at least one target is needed, such as"
             " {runtime: onnxruntime, precision: fp32, default: true}")  # fmt: skip
    for index, part in enumerate(parts):
        runtime, bundle = part["runtime"], part.get("bundle")
        part.setdefault("layout", _USUAL_LAYOUT.get(runtime, "nchw"))
        if kind not in RUNTIMES[runtime]:
            fail(("targets", index, "runtime"), f"{runtime} does not run on a {kind}")
        if bundle is not None and (bundle.startswith(".") or set(bundle) & set("/\\:\0")):
            fail(("targets", index, "bundle"), "give a file name in the device's folder, no path")
    if len(parts) == 1:
        parts[0]["default"] = True
    targets = tuple(Target(**part) for part in parts)
    names = [target.name for target in targets]
    for index, name in enumerate(names):
        if name in names[:index]:
            fail(("targets", index), f"{name} is listed twice")
    if sum(target.default for target in targets) != 1:
        fail(("targets",), "mark exactly one target with 'default: true'")
    return targets


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
