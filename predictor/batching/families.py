"""Keys of network families, priced by their parts rather than built: thousands a second.

A :class:`~predictor.search.pricing.Pricer` is tried out on its target before it is used and keeps
what the parts cost, so it takes enough rows of one family on one target to be worth it. Whatever
is not plain (a wrong key, ``strict``, settings of language models, an unknown device) is left to
be predicted like any other model, with its error.
"""

from __future__ import annotations

import functools
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from predictor.batching.tasks import TARGET_SETTINGS, Answer, Task

if TYPE_CHECKING:
    from predictor.search.pricing import Pricer

WORTH = 12
"""Rows of one family, target, batch and scope before they are priced by parts: the trying out
takes as long as a dozen rows do."""
MOST_GROUPS = 32
"""Pricers that are kept."""
MOST_PARTS = 1 << 15
"""Parts that a pricer may know; one that knows more begins anew."""
TRIAL, NEW_PARTS = 200, 6.0
"""A pricer that after TRIAL candidates still met NEW_PARTS new parts a candidate saves nothing."""

LONGEST_KEY = 2048
"""Characters; a longer name may be refused for its length."""
SCOPES = ("engine", "call")
_SOURCES = ("ofa", "nasbench201", "fbnet")
_NAME = "it"
_FIGURES = tuple(f"{name} {_NAME}" for name in ("latency_ms", "low_ms", "high_ms"))
_PLAIN = {"batch", "resolution", "scope", "strict", *TARGET_SETTINGS}
_Group = tuple[str, str, int, str, tuple[str | None, ...], bool]
"""Family, device, batch, scope, the target's settings; whether the device may be a path."""

_lock = threading.Lock()
"""Pricers are not made for several threads; a scheduler's worker may have some."""


@dataclass(slots=True)
class _Known:
    """What is known of a group: how many rows came, and its pricer."""

    seen: int = 0
    pricer: Pricer | None = None
    useless: bool = False


_groups: OrderedDict[_Group, _Known] = OrderedDict()


def priced(tasks: Sequence[Task]) -> list[list[Answer | None] | None]:
    """For each task the answers that its devices have by parts; None where all are missing."""
    found: list[list[Answer | None] | None] = [None] * len(tasks)
    waiting: dict[_Group, list[tuple[int, int]]] = {}
    for i, task in enumerate(tasks):
        source = task.model.partition(":")[0] if ":" in task.model else ""
        settings = task.settings
        if source not in _SOURCES or task.fault or not _PLAIN.issuperset(settings):
            continue
        if len(task.model) > LONGEST_KEY:
            continue
        batch, scope = settings.get("batch", 1), settings.get("scope") or "engine"
        batch = 1 if batch is None else batch
        if settings.get("strict") or batch < 1 or scope not in SCOPES:
            continue
        target = tuple([settings.get(name) for name in TARGET_SETTINGS])
        for j, device in enumerate(task.devices):
            if device is not None:
                group = (source, device, batch, scope, target, task.paths)
                waiting.setdefault(group, []).append((i, j))
    if waiting:
        with _lock:
            for group, places in waiting.items():
                _price(group, places, tasks, found)
    return found


def forget() -> None:
    """Drop every pricer."""
    with _lock:
        _groups.clear()


def _price(
    group: _Group, places: Sequence[tuple[int, int]], tasks: Sequence[Task],
    found: list[list[Answer | None] | None],
) -> None:  # fmt: skip
    known = _groups.setdefault(group, _Known())
    _groups.move_to_end(group)
    while len(_groups) > MOST_GROUPS:
        _groups.popitem(last=False)
    known.seen += len(places)
    if known.useless or known.seen < WORTH:
        return
    from predictor.batching.family_space import values_of

    source, device = group[:2]
    given = [(i, j, values_of(source, tasks[i].model, tasks[i].settings.get("resolution")))
             for i, j in places]  # fmt: skip
    plain = [(i, j, values) for i, j, values in given if values is not None]
    if not plain:
        return
    try:
        if known.pricer is None:
            known.pricer = _pricer(group)
        pricer = known.pricer
        figures = pricer.price([values for _, _, values in plain])
    except Exception:  # whatever it is, each row will say it of itself
        known.pricer, known.useless = None, True
        return
    columns = [figures[name].tolist() for name in _FIGURES]
    for (i, j, _), numbers in zip(plain, zip(*columns, strict=True), strict=True):
        if all(map(math.isfinite, numbers)):
            row = found[i]
            if row is None:
                row = found[i] = [None] * len(tasks[i].devices)
            row[j] = Answer(device, *numbers)
    if pricer.way == "whole" or (
        known.seen > TRIAL and pricer.parts > max(NEW_PARTS * known.seen, 2000)
    ):
        known.pricer, known.useless = None, True
    elif pricer.parts > MOST_PARTS:
        known.pricer = None


def _pricer(group: _Group) -> Pricer:
    from predictor.batching.family_space import FamilySpace
    from predictor.pipeline import find_predictor
    from predictor.search.pricing import Pricer

    source, device, batch, scope, target, paths = group
    if not paths:
        known_device(device)
    settings = {name: value for name, value in zip(TARGET_SETTINGS, target, strict=True)
                if value is not None}  # fmt: skip
    predictor = find_predictor(device, **settings, attention=None)
    return Pricer(FamilySpace(source), [predictor], batch=batch, scope=scope, names=[_NAME])


@functools.lru_cache(maxsize=64)
def known_device(name: str) -> None:
    """Raise where ``name`` is no device of this machine's folders, a path above all."""
    from predictor.device import load_device

    load_device(name, paths=False)
