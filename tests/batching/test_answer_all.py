"""Many tasks at once have the answers that each has alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from predictor.batching import Answer, Task, answer, answer_all, families
from predictor.search.spaces.find import load_space

SAME = 1e-9
TARGETS: list[tuple[str, dict[str, Any]]] = [
    ("jetson", {}),
    ("rtx-3090", {"batch": 8, "precision": "fp16"}),
    ("raspberry-pi-5", {"scope": "call"}),
    ("epyc-milan", {"runtime": "eager"}),
    ("epyc-milan", {"runtime": "onnxruntime", "batch": 2}),
]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No pricer is there, and two rows are worth one."""
    families.forget()
    monkeypatch.setattr(families, "WORTH", 2)
    yield
    families.forget()


def keys(family: str, count: int, seed: int = 5) -> list[str]:
    space, chance = load_space(family).space, Random(seed)
    return [f"{family}:{space.key(space.random(chance))}" for _ in range(count)]


def tasks(models: list[str], devices: tuple[str | None, ...], **settings: Any) -> list[Task]:
    return [Task(line, model, devices, settings) for line, model in enumerate(models, start=2)]


def agree(given: list[Task]) -> list[tuple[Answer, ...]]:
    """Both ways say the same; what they say."""
    wanted, found = list(map(answer, given)), answer_all(given)
    assert len(found) == len(wanted)
    for ones, others in zip(found, wanted, strict=True):
        assert [one.device for one in ones] == [other.device for other in others]
        for one, other in zip(ones, others, strict=True):
            assert (one.error, one.exit_code) == (other.error, other.exit_code)
            for name in ("latency_ms", "low_ms", "high_ms"):
                mine, theirs = getattr(one, name), getattr(other, name)
                assert (mine is None) == (theirs is None)
                assert mine is None or math.isclose(mine, theirs, rel_tol=SAME), (one, other)
    return found


@pytest.mark.parametrize("family", ["ofa", "nasbench201", "fbnet"])
@pytest.mark.parametrize(("device", "settings"), TARGETS, ids=[f"{d}-{i}" for i, (d, _) in
                                                               enumerate(TARGETS)])  # fmt: skip
def test_of_every_family_on_every_kind_of_target(
    family: str, device: str, settings: dict[str, Any]
) -> None:
    found = agree(tasks(keys(family, 3), (device,), **settings))
    assert not any(one.error for (one,) in found)


def test_keys_that_the_published_space_lacks() -> None:
    models = [key.rpartition(",r=")[0] for key in keys("ofa", 8)]
    sizes = (
        (32, 0.25),
        (33, 4),
        (100, 0.9),
        (204, 1.2),
        (511, 1.04),
        (1024, 1),
        (224, 2.5),
        (64, 1),
    )
    given = tasks([f"{one},r={r},w={w}" for one, (r, w) in zip(models, sizes, strict=True)],
                  ("jetson", "raspberry-pi-5"))  # fmt: skip
    assert not any(one.error for ones in agree(given) for one in ones)
    assert all(known.pricer for known in families._groups.values())


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (keys("ofa", 1)[0], {"resolution": 160}),
        (keys("ofa", 1)[0], {"resolution": (96, 96)}),
        (keys("ofa", 1)[0], {"resolution": (96, 128)}),
        (keys("ofa", 1)[0], {"resolution": 1}),
        (keys("nasbench201", 1)[0], {"resolution": 64}),
        (keys("nasbench201", 1)[0], {"resolution": 30}),
        (keys("fbnet", 1)[0], {"resolution": 17}),
        (keys("ofa", 1)[0], {"strict": True}),
        (keys("ofa", 1)[0], {"phase": "decode"}),
        (keys("ofa", 1)[0], {"attention": "eager"}),
        (keys("ofa", 1)[0], {"attention": "slow"}),
        (keys("ofa", 1)[0], {"batch": 0}),
        (keys("ofa", 1)[0], {"batch": 64}),
        (keys("ofa", 1)[0], {"scope": "all"}),
        (keys("ofa", 1)[0], {"precision": "fp17"}),
        (keys("ofa", 1)[0], {"power_mode": "15W", "layout": "nhwc"}),
        ("ofa:bad", {}),
        ("ofa:", {}),
        ("ofa", {}),
        ("decoder:gpt2", {"sequence": 16, "phase": "prefill"}),
        ("nope.onnx", {}),
    ],
    ids=lambda value: str(value)[:24],
)
def test_settings_and_errors_are_the_same(model: str, settings: dict[str, Any]) -> None:
    plain = keys("ofa", 1, seed=6)[0]
    agree(tasks([model, plain, model], ("jetson", "jetsen", None), **settings))


def test_rows_of_all_kinds_stand_beside_each_other() -> None:
    ofa, nas = keys("ofa", 12), keys("nasbench201", 4)
    given = [
        *tasks(ofa[:4], ("jetson", "t4")),
        *tasks([nas[0], "ofa:bad", ofa[4]], ("jetson", "jetson")),
        *tasks(ofa[5:8], ("t4",), batch=4),
        Task(9, ofa[8], ("jetson",), fault="no valid CSV"),
        *tasks(ofa[9:], ("jetson", None)),
    ]
    agree(given)


def test_few_rows_are_not_worth_a_pricer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "WORTH", 3)
    agree(tasks(keys("ofa", 2), ("jetson",)))
    assert not any(known.pricer for known in families._groups.values())
    agree(tasks(keys("ofa", 1), ("jetson",)))  # rows of chunks before count
    assert all(known.pricer for known in families._groups.values())


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "MOST_GROUPS", 3)
    monkeypatch.setattr(families, "MOST_PARTS", 30)
    for batch in range(1, 6):
        agree(tasks(keys("ofa", 3), ("jetson",), batch=batch))
    assert len(families._groups) == 3
    assert not any(known.pricer for known in families._groups.values())


def test_a_pricer_that_fails_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from predictor.search.pricing import Pricer

    asked = []

    def broken(self: Pricer, candidates: object) -> None:
        asked.append(candidates)
        raise ZeroDivisionError

    monkeypatch.setattr(Pricer, "price", broken)
    for _ in range(3):
        agree(tasks(keys("ofa", 3), ("jetson",)))
    assert len(asked) == 1


def test_names_from_the_network_open_no_files(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text("model: ofa:ks=3,e=3,d=2\n")
    ofa = keys("ofa", 3)
    models = ["net.yaml", str(tmp_path / "net.yaml"), "python:net.py:f", "timm:../x.json", *ofa]
    given = [Task(2, one, ("jetson", "./jetson", "profiles/x.yaml"), paths=False) for one in models]
    found = agree(given)
    for ones in found[:4]:
        assert all(one.error and one.exit_code == 2 for one in ones)
        assert "no such file" not in ones[0].error
    for ones in found[4:]:
        assert not ones[0].error
        assert "a path is not accepted here" in ones[1].error
        assert "a path is not accepted here" in ones[2].error
