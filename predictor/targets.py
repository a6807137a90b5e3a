"""What runs on a device: runtimes, and the targets that a ``device.yaml`` lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
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

USUAL_LAYOUT = {"tflite": "nhwc"}
"""Where it is not nchw."""


def fact(check: str, default: Any = MISSING, **metadata: Any) -> Any:
    """A field with the check that a file's value must pass; without a default it is required."""
    metadata = {"check": check, "required": default is MISSING, **metadata}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Target:
    """What runs on the device: a runtime in one precision, layout and software version.

    ``tier`` says what its figures rest on (measured, calibrated, datasheet); ``bundle`` is the file
    in the device's folder that holds the fitted model, None where there is none. ``release`` tells
    apart targets that differ in nothing but the version of their software.
    """

    runtime: str = fact("text", choices=tuple(RUNTIMES))
    precision: str = fact("text", choices=tuple(PRECISIONS))
    layout: str = fact("text", "nchw", choices=LAYOUTS)
    software: str = fact("text", "")
    batch_note: str = fact("text", "")
    tier: str = fact("text", "datasheet", choices=TIERS)
    bundle: str | None = fact("text", None)
    default: bool = fact("flag", False)
    release: str = fact("text", "")

    @property
    def name(self) -> str:
        """``runtime-precision``, then the layout if it is not the usual one, and the release."""
        usual = USUAL_LAYOUT.get(self.runtime, "nchw")
        layout = (self.layout,) if self.layout != usual else ()
        release = (self.release,) if self.release else ()
        return "-".join((self.runtime, self.precision, *layout, *release))


def of_software(targets: Sequence[Target], software: str, device: str) -> Target:
    """The first target of that release, else of that software; 2.1 is in 2.1.0, not in 12.1."""
    word = software.strip().lower()
    for target in targets:
        if word and word == target.release.lower():
            return target
    pattern = re.compile(rf"(?<![\w.]){re.escape(word)}(?!\w)")
    for target in targets:
        if word and pattern.search(target.software.lower()):
            return target
    said = [f"{t.name} ({t.software or t.release})" for t in targets if t.software or t.release]
    listed = f"Listed are: {', '.join(said)}" if said else "None is listed with its software."
    raise ConfigError(f"no target of {device} with the software '{software}'. {listed}")


def known_word(what: str, word: str, table: Mapping[str, Any]) -> Any:
    """What ``table`` holds for ``word``; raises ConfigError where it holds nothing."""
    if word not in table:
        raise ConfigError(f"unknown {what} '{word}'.{suggest(word, table)}"
                          f" Known: {', '.join(table)}")  # fmt: skip
    return table[word]


def targets_from(data: Any, kind: str, fail: strict.Fail) -> tuple[Target, ...]:
    """Checked targets of a device of that kind; ``fail`` is called for the first mistake."""
    parts = strict.parts(Target, data, ("targets",), fail)
    if not parts:
        fail(("targets",), "at least one target is needed, such as"
             " {runtime: onnxruntime, precision: fp32, default: true}")  # fmt: skip
    for index, part in enumerate(parts):
        runtime, bundle = part["runtime"], part.get("bundle")
        part.setdefault("layout", USUAL_LAYOUT.get(runtime, "nchw"))
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
