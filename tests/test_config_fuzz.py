"""Mutated configurations end in a configuration, a graph or a message; never in a traceback.

The seeds hold every key and every layer type. Mutations are of structure (keys deleted, doubled,
renamed, given to another; values swapped, nested, made extreme) and of bytes. All is seeded: a
failure names the seed that repeats it.
"""

from __future__ import annotations

import copy
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_seeds import SEEDS

from predictor.config import LayerList, parse_config
from predictor.errors import PredictorError
from predictor.frontends.layer_list import graph_of

LONGEST_S = 5
SHORT, LONG = 300, 5000
NAMES = sorted(SEEDS)
DATA: dict[str, Any] = {name: yaml.safe_load(text) for name, text in SEEDS.items()}
EXTREME: list[Any] = [
    0, -1, 1, 2, 7, 2**31, 2**53, 2**53 + 1, 10**30, -(10**30), 0.5, -0.5, 1e-300, 1e300,
    float("nan"), float("inf"), float("-inf"), True, False, None, "", " ", "x", "1e-3", "1:30",
    "0x10", "017", "1_000", "yes", "no", "previous", "block_input", "input", "depthwise", "same",
    "600M", [], {}, [[]], [1, 2], [0, -1], [1] * 9, {"a": 1}, "\u00e9\u4e2d", "a" * 3000,
    "python:x:y", "../../etc/passwd", [2**40, 2**40], "${HOME}", "!!python/object:os.system",
]  # fmt: skip
Place = tuple[Any, Any]


def places(data: Any) -> Iterator[Place]:
    """Every (container, key) in ``data``."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in list(items):
        yield data, key
        if isinstance(value, (dict, list)):
            yield from places(value)


def delete(rng: random.Random, data: Any) -> None:
    box, key = rng.choice(list(places(data)))
    del box[key]


def swap(rng: random.Random, data: Any) -> None:
    (a, i), (b, j) = rng.choices(list(places(data)), k=2)
    a[i], b[j] = copy.deepcopy(b[j]), copy.deepcopy(a[i])


def rename(rng: random.Random, data: Any) -> None:
    tables = [(box, key) for box, key in places(data) if isinstance(box, dict)]
    box, key = rng.choice(tables)
    other = rng.choice(tables)[1]
    word = rng.choice([other, f"{key}s", str(key).upper(), str(key)[:-1], "type", "from", "share"])
    box[word] = box.pop(key)


def extreme(rng: random.Random, data: Any) -> None:
    box, key = rng.choice(list(places(data)))
    box[key] = copy.deepcopy(rng.choice(EXTREME))


def number(rng: random.Random, data: Any) -> None:
    spots = [(b, k) for b, k in places(data) if isinstance(b[k], (int, float))]
    if spots:
        box, key = rng.choice(spots)
        box[key] = rng.choice([box[key] - 1, box[key] * 2, box[key] * 10**6, -box[key], 3, 64])


def double(rng: random.Random, data: Any) -> None:
    lists = [box[key] for box, key in places(data) if isinstance(box[key], list) and box[key]]
    if lists:
        chosen = rng.choice(lists)
        chosen.insert(rng.randrange(len(chosen) + 1), copy.deepcopy(rng.choice(chosen)))


def graft(rng: random.Random, data: Any) -> None:
    other = copy.deepcopy(DATA[rng.choice(NAMES)])
    source, key = rng.choice(list(places(other)))
    box, spot = rng.choice(list(places(data)))
    if isinstance(box, dict) and rng.random() < 0.5:
        spot = key if isinstance(key, str) else spot
    box[spot] = source[key]


def nest(rng: random.Random, data: Any) -> None:
    box, key = rng.choice(list(places(data)))
    for _ in range(rng.choice([1, 1, 2, 60])):
        box[key] = rng.choice([[box[key]], {"layers": box[key]}, {"type": box[key]}])


STRUCTURE: list[Callable[[random.Random, Any], None]] = [
    delete, swap, rename, extreme, extreme, number, number, double, graft, nest,
]  # fmt: skip
TOKENS = ["\t", ":", "- ", "{", "}", "[", "]", "'", '"', "&a ", "*a", "!!int ", "---\n", "#", "|", ">",
          "\x00", "\ufeff", "\ud800", "\n", "  ", "? ", "%", "@", "`", "<<: ", "...\n", "\u2028",
          "\x85", "1e9", ",", "~"]  # fmt: skip


def mangled(rng: random.Random, text: str) -> str:
    """``text`` with a few characters deleted, inserted, doubled or cut."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice([1, 1, 2, 10, 200]))
        how = rng.randrange(5)
        if how == 0:
            text = text[:at] + text[end:]
        elif how == 1:
            text = text[:at] + rng.choice(TOKENS) + text[at:]
        elif how == 2:
            text = text[:end] + text[at:]
        elif how == 3:
            text = (
                text[:at]
                + chr(rng.choice([rng.randrange(128), rng.randrange(0x3000)]))
                + text[end:]
            )
        else:
            text = text[:at]
    return text


def mutant(seed: int) -> str:
    """The text of mutant number ``seed``."""
    rng = random.Random(seed)
    name = rng.choice(NAMES)
    if rng.random() < 0.4:
        return mangled(rng, SEEDS[name])
    data = copy.deepcopy(DATA[name])
    for _ in range(rng.choice([1, 1, 2])):
        try:
            rng.choice(STRUCTURE)(rng, data)
        except (IndexError, KeyError, TypeError):
            continue  # an earlier mutation left nothing to change here
    try:
        return yaml.safe_dump(data, default_flow_style=rng.choice([True, False, None]))
    except RecursionError:
        return "[" * 500


def outcome(text: str) -> str:
    """``config``, ``graph`` or the message."""
    try:
        config = parse_config(text, "config.yaml")
        if not isinstance(config.model, LayerList):
            return "config"
        graph = graph_of(config)
        graph.to_dict()
        assert graph.macs >= 0
        assert graph.peak_activation_bytes >= 0
        return "graph"
    except PredictorError as error:
        said = str(error)
        assert said.startswith("config.yaml"), said
        assert len(said) < 20_000
        return said


def run(seeds: range) -> dict[str, int]:
    """Outcomes of all mutants, each under the time limit."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"more than {LONGEST_S} s")

    counts = {"config": 0, "graph": 0, "refused": 0}
    before = signal.signal(signal.SIGALRM, too_long)
    try:
        for seed in seeds:
            text = mutant(seed)
            signal.alarm(LONGEST_S)
            try:
                found = outcome(text)
            except Exception as error:
                pytest.fail(f"mutant({seed}): {type(error).__name__}: {error}\n{text[:2000]}")
            finally:
                signal.alarm(0)
            counts[found if found in counts else "refused"] += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    return counts


def test_there_are_enough_seeds() -> None:
    assert len(SEEDS) >= 20


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the time limit needs SIGALRM")
def test_mutants_end_in_a_message_or_a_graph() -> None:
    counts = run(range(SHORT))
    assert counts["refused"] > SHORT // 2
    assert counts["graph"] + counts["config"] > SHORT // 20


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the time limit needs SIGALRM")
def test_many_mutants_end_in_a_message_or_a_graph() -> None:
    counts = run(range(SHORT, SHORT + LONG))
    print(counts)
    assert sum(counts.values()) == LONG


# -- mutants that must be refused -----------------------------------------------------------------


def must_refuse() -> Iterator[tuple[str, str]]:
    """(what was done, text): each renamed key, each number made negative, each key doubled."""
    for name in NAMES:
        base = DATA[name]
        for index, (box, key) in enumerate(places(base)):
            where = f"{name}#{index}:{key}"
            if isinstance(box, dict) and box is not base.get("inputs") and not _free(base, box):
                data = copy.deepcopy(base)
                spot, word = list(places(data))[index]
                spot[f"{word}_x"] = spot.pop(word)
                yield f"{where} renamed", _dump(data)
            value = box[key]
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and value > 0 and not _free(base, box) and not _signed(key, box, base):
                for bad in (-value, float("nan"), float("inf"), 2**53 + 1, "abc", None, {}):
                    data = copy.deepcopy(base)
                    spot, word = list(places(data))[index]
                    spot[word] = bad
                    yield f"{where} = {bad}", _dump(data)


def _dump(data: Any) -> str:
    return yaml.safe_dump(data, default_flow_style=True, sort_keys=False)


def _free(base: Any, box: Any) -> bool:
    model = base["model"]
    args = model.get("args") if isinstance(model, dict) else None
    return args is not None and any(box is b for b, _ in places({"args": args}) if b is not None)


def _signed(key: Any, box: Any, base: Any) -> bool:
    """Axes and positions may be negative."""
    if key in ("axis", "axes", "index", "start", "stop", "end"):
        return True
    return isinstance(box, list) and any(
        b[k] is box and k in ("axes", "order", "shape") and k != "inputs" and b is not base
        for b, k in places(base)
    )


CASES = list(must_refuse())


def test_mutants_that_must_be_refused_are() -> None:
    """One at a time from a seed that loads, so that the one change is what is refused."""
    assert len(CASES) > 1000
    rng = random.Random(0)
    for what, text in rng.sample(CASES, 400):
        assert outcome(text) not in ("config", "graph"), f"{what}\n{text}"


@pytest.mark.exhaustive
def test_all_mutants_that_must_be_refused_are() -> None:
    for what, text in CASES:
        assert outcome(text) not in ("config", "graph"), f"{what}\n{text}"


def test_seeds_themselves_are_not_refused() -> None:
    for name, text in SEEDS.items():
        assert outcome(text) in ("config", "graph"), name
        assert outcome(_dump(DATA[name])) in ("config", "graph"), name


@pytest.mark.parametrize("path", ["config", "mobilenet_v2", "gpt2"])
def test_every_cut_of_an_example_ends_well(path: str) -> None:
    """Truncation at any of 60 places: a transfer that broke off."""
    text = (Path(__file__).resolve().parent.parent / "examples" / f"{path}.yaml").read_text()
    for cut in range(0, len(text), max(1, len(text) // 60)):
        outcome(text[:cut])
