"""Fusion rules: what a runtime merges, folds and copies. They are data, one YAML file a runtime.

A matcher is ``kind`` or ``kind:word``, the word being the operator's ``fn`` or ``type`` attribute.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from predictor.errors import ArtifactError, ConfigError, suggest
from predictor.graph import Op

RULES_FOLDER = Path(__file__).parent / "rules"


@dataclass(frozen=True, slots=True)
class FusionRules:
    """How a runtime turns operators into kernels.

    ``fold_constants`` removes operators that depend on no input; ``drop_dead`` those that nobody
    reads. ``follow`` says per anchor matcher which operators may join the kernel after it, with
    ``limits`` on how often. ``views`` says per view kind whether it is ``free`` or a ``copy``;
    ``concat`` is ``kernel`` (one kernel moves all), ``shared`` (producers write in place, only
    inputs that have other readers are copied) or ``free``. ``attention`` is ``fused`` (chains
    written by hand too), ``named`` (the framework's own operator only) or ``split`` (three
    kernels). ``multi_use`` lets a kernel hand out a tensor and go on. ``zeros`` is what becomes of
    multiplications by zero, see :mod:`predictor.kernels.zeros`. ``layout`` is ``strided`` where
    operators read tensors as their strides say, and copy where they cannot (see
    :mod:`predictor.kernels.layout`), ``strided-cpu`` the same as processors do it,
    ``blocked`` as ONNX Runtime does on them (see :mod:`predictor.kernels.blocked`), or ``free``
    where the runtime chooses the order itself. ``copies`` says whether a copy that strides force
    is a ``kernel`` of its own, or ``inside`` the operator that needs it, as operators are timed.
    """

    name: str
    fold_constants: bool = False
    drop_dead: bool = False
    follow: dict[str, tuple[str, ...]] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    concat: str = "kernel"
    attention: str = "fused"
    multi_use: bool = False
    drop: tuple[str, ...] = ()
    decompose: dict[str, tuple[str, ...]] = field(default_factory=dict)
    zeros: str = "run"
    layout: str = "free"
    copies: str = "kernel"


def words(op: Op) -> tuple[str, str]:
    """The two matchers that an operator answers to."""
    word = op.attrs.get("fn") or op.attrs.get("type") or ""
    return op.kind, f"{op.kind}:{word}"


def available_rules() -> list[str]:
    """Names of the runtimes that have rules."""
    return sorted(path.stem for path in RULES_FOLDER.glob("*.yaml"))


@functools.lru_cache(maxsize=32)
def load_rules(name: str) -> FusionRules:
    """The rules of a runtime, or of one era of it (``tensorrt-8``); see ``kernels/rules/``."""
    import yaml

    path = RULES_FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = available_rules()
        raise ConfigError(
            f"unknown runtime '{name}'.{suggest(name, known)} Known: {', '.join(known)}"
        )
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    parent = data.pop("extends", None)
    data.pop("description", None)
    if parent:
        base = load_rules(parent)
        data = {**{key: getattr(base, key) for key in base.__slots__}, **data}
    for key in ("follow", "decompose"):
        data[key] = {anchor: tuple(after) for anchor, after in (data.get(key) or {}).items()}
    data["drop"] = tuple(data.get("drop") or ())
    unknown = set(data) - set(FusionRules.__slots__)
    if unknown:
        raise ArtifactError(f"{path.name}: unknown key '{sorted(unknown)[0]}'")
    return FusionRules(**{**data, "name": name})
