"""What to measure, as one file: networks, medleys of perturbed layers, isolated kernels.

The order is by worth, family by family, so that a run that is stopped early has seen something of
everything. Some networks come a second time, later: how far the two lie apart is the run's
repeatability. The file is a zip with ``plan.json``, the programs that a board runs and the graphs
that training reads; docs/profiling.md describes it.
"""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from predictor.errors import ConfigError, MeasurementError, ModelError
from predictor.files import write_whole
from predictor.profiling.agent import FORMAT
from predictor.profiling.planfile import BODY, sha256_of
from predictor.profiling.programs import (
    Program,
    medley_programs,
    program_of,
    reference_program,
    singles,
)
from predictor.profiling.sampling import medleys, random_key

SPACES = ("ofa", "fbnet", "nasbench201")
MEDLEYS, KERNELS, SUBNETS = 48, 1200, 14
"""Of a full plan: medleys, isolated kernels, random networks of each search space."""
TURN_GAP = 25
"""Tasks between the two turns of a network."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
Say = Callable[[str], None]


@dataclass(slots=True)
class Draft:
    """A plan in the making."""

    name: str
    runtime: str
    precision: str
    threads: int
    device: str = "cpu"
    settings: dict[str, Any] = field(default_factory=dict)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    programs: dict[str, Program] = field(default_factory=dict)

    def add(self, program: Program, kind: str, *, turn: int = 1, detail: bool = True) -> None:
        """Append a task."""
        self.programs[program.stem] = program
        self.tasks.append({
            "id": f"{program.stem}.{turn}", "kind": kind, "label": program.label,
            "program": f"programs/{program.stem}{program.suffix}",
            "graph": f"graphs/{program.stem}.json", "family": program.family,
            "space": program.space, "pass": turn, "detail": detail,
        })  # fmt: skip

    def write(self, path: Path, reference: Program) -> None:
        """Write the file in one step; the same draft gives the same bytes."""
        body = {
            "format": FORMAT, "name": self.name, "runtime": self.runtime,
            "precision": self.precision, "threads": self.threads, "device": self.device,
            "modules": True, "settings": self.settings,
            "reference": f"programs/reference{reference.suffix}",
            "weights_bytes": max([p.weights_bytes for p in self.programs.values()]
                                 + [reference.weights_bytes]),
            "tasks": self.tasks,
        }  # fmt: skip
        members = {str(body["reference"]): reference.data}
        for _, program in sorted(self.programs.items()):
            members.update(_members(program))
        _write(path, body, members)


def _members(program: Program) -> dict[str, bytes]:
    """The files of a program in a plan."""
    graph = json.dumps(program.graph.to_dict(), separators=(",", ":"))
    return {f"programs/{program.stem}{program.suffix}": program.data,
            f"graphs/{program.stem}.json": graph.encode()}  # fmt: skip


def _write(path: Path, body: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
    """Write a plan file in one step."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _put(archive, BODY, json.dumps(body, indent=1).encode())
        for name, data in members.items():
            _put(archive, name, data)
    write_whole(path, buffer.getvalue())


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    archive.writestr(info, data)


def make_plan(
    path: Path, *, name: str, runtime: str, precision: str = "fp32", threads: int = 1,
    device: str = "cpu", networks: Sequence[str] | None = None, seed: int = 0,
    subnets: int = SUBNETS, medley_count: int = MEDLEYS, kernels: int = KERNELS,
    say: Say = lambda text: None,
) -> Draft:  # fmt: skip
    """Write the plan of a target to ``path``.

    Args:
        networks: names to measure instead of the zoo and the search spaces.
        subnets, medley_count, kernels: how many of each a full plan has.
        say: told of each network that is left out, and why.

    Raises:
        ConfigError: the runtime cannot be planned for, or ``networks`` is empty.
        ModelError: a network of ``networks`` cannot be built.
    """
    chance = random.Random(f"{seed}:{runtime}")
    draft = Draft(name, runtime, precision, threads, device)
    whole: list[Program] = []
    for label, family, space in _wanted(networks, subnets, chance):
        try:
            whole.append(program_of(runtime, label, family, space))
        except (ModelError, MeasurementError) as error:
            if networks is not None:
                raise
            say(f"left out: {label}: {error}")
    if not whole:
        raise ConfigError("a plan needs at least one network")
    layers = medleys([program.graph for program in whole], medley_count, chance)
    mixed = medley_programs(runtime, layers, "medley", say)
    _order(draft, whole, mixed)
    for program in singles(runtime, whole, kernels, chance):
        draft.add(program, "kernel", detail=False)
    again = {task["id"] for task in draft.tasks}
    for program in whole:
        if f"{program.stem}.2" not in again:
            draft.add(program, "network", turn=2, detail=False)
    draft.write(path, reference_program(runtime))
    return draft


def extend(path: Path, programs: Sequence[Program]) -> int:
    """Add networks to a plan that has been measured; how many were new.

    What it held stays as it was, so what was measured by it still counts: the plan names those that
    it grew from.
    """
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    body = json.loads(held.pop(BODY))
    draft = Draft(body["name"], body["runtime"], body["precision"], body["threads"],
                  body["device"], tasks=body["tasks"])  # fmt: skip
    known = {task["id"] for task in draft.tasks}
    fresh = [program for program in programs if f"{program.stem}.1" not in known]
    for program in fresh:
        draft.add(program, "network")
        held.update(_members(program))
    body["grown_from"] = [*body.get("grown_from", ()), sha256_of(path)]
    body["weights_bytes"] = max([body["weights_bytes"], *(p.weights_bytes for p in fresh)])
    _write(path, body, held)
    return len(fresh)


def _wanted(
    networks: Sequence[str] | None, subnets: int, chance: random.Random
) -> Iterator[tuple[str, str, str]]:
    """(name, family, space) of the networks, the families taking turns."""
    if networks is not None:
        for name in networks:
            yield name, family_of(name), "zoo"
        return
    by_family = {family: [(name, "zoo") for name in names]
                 for family, names in zoo().items()}  # fmt: skip
    for space in SPACES:
        by_family[space] = [(random_key(space, chance), "nas") for _ in range(subnets)]
    longest = max(map(len, by_family.values()))
    for index in range(longest):
        for family, names in by_family.items():
            if index < len(names):
                yield names[index][0], family, names[index][1]


def zoo() -> Mapping[str, list[str]]:
    """The networks of a plan by family, from the file beside this one."""
    import yaml

    text = Path(__file__).with_name("networks.yaml").read_text(encoding="utf-8")
    data: Mapping[str, list[str]] = yaml.safe_load(text)
    return data


def family_of(name: str) -> str:
    """The family of a network in the file beside this one, else the first word of its name."""
    for family, names in zoo().items():
        if name in names:
            return family
    source, _, rest = name.partition(":")
    word = re.match(r"[A-Za-z]+", rest)
    return source if source in SPACES or word is None else word[0].lower()


def _order(draft: Draft, whole: Sequence[Program], mixed: Sequence[Program]) -> None:
    """Networks in turn with medleys; every fourth network once more after a while."""
    late: list[tuple[int, Program]] = []
    left = list(mixed)
    for index, program in enumerate(whole):
        draft.add(program, "network")
        if index % 4 == 0:
            late.append((len(draft.tasks) + TURN_GAP, program))
        if index % 2 and left:
            draft.add(left.pop(0), "network")
        while late and late[0][0] <= len(draft.tasks):
            draft.add(late.pop(0)[1], "network", turn=2, detail=False)
    for program in left:
        draft.add(program, "network")
