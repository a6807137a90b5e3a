"""Several processes on one file, and processes that are killed at any moment."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from search_worker import Worker, opened

optuna = pytest.importorskip("optuna")


def trials(storage: str) -> list[Any]:
    try:
        study = optuna.load_study(study_name="search", storage=opened(storage))
    except KeyError:
        return []  # killed before there was one
    found: list[Any] = study.get_trials(deepcopy=False)
    return found


def finished(storage: str) -> list[tuple[str, float]]:
    return [(json.loads(t.user_attrs["about"])["key"], t.values[0])
            for t in trials(storage) if t.state.name == "COMPLETE"]  # fmt: skip


def logged(folder: Path) -> list[tuple[str, float]]:
    """What the function has returned, as it says itself."""
    log = folder / "log"
    return (
        [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []
    )


def killed_again_and_again(folder: Path, storage: str, kills: int, count: int, seed: int) -> None:
    """Workers one after the other, each killed somewhere in its search but for the last."""
    chance, kept = random.Random(seed), []
    settings = {"storage": storage, "trials": count, "seed": seed}
    for _ in range(kills):
        worker = Worker(folder, 0.02, **settings)
        worker.ready()
        time.sleep(chance.uniform(0.0, 0.8))
        worker.kill()
        worker.communicate()
        found = finished(storage)
        assert found[: len(kept)] == kept
        kept = found
    ended = Worker(folder, 0.0, **settings).outcome(120)
    assert ended["notes"] == []
    found, said = finished(storage), logged(folder)
    assert found[: len(kept)] == kept
    assert len(found) == count == len(set(found))  # none is missing, none is there twice
    assert set(found) <= set(said)
    assert len(said) - count <= kills  # a killed one had returned, and had not told yet
    assert not [t for t in trials(storage) if t.state.name == "RUNNING"]
    lost = [json.loads(t.user_attrs["about"])["key"] for t in trials(storage)
            if t.state.name == "FAIL" and "about" in t.user_attrs]  # fmt: skip
    assert set(lost) <= {key for key, _ in found}  # they were tried again


def test_killed_six_times(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path, str(tmp_path / "journal.log"), kills=6, count=60, seed=1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(5))
def test_killed_fifty_times(tmp_path: Path, seed: int) -> None:
    killed_again_and_again(tmp_path, str(tmp_path / "journal.log"), kills=50, count=380, seed=seed)


def test_a_killed_search_is_that_of_one_that_lived(tmp_path: Path) -> None:
    """The trial in place of a lost one proposes what that one had proposed."""
    storage, whole = str(tmp_path / "journal.log"), str(tmp_path / "whole.log")
    worker = Worker(tmp_path, 0.05, storage=storage, trials=25, seed=9)
    worker.ready()
    while len(finished(storage)) < 8:
        time.sleep(0.02)
    worker.kill()
    worker.communicate()
    one, other = (Worker(tmp_path, 0.0, storage=s, trials=25, seed=9) for s in (storage, whole))
    assert one.outcome()["notes"] == other.outcome()["notes"] == []
    assert finished(storage) == finished(whole)


def test_four_workers_share_the_work(tmp_path: Path) -> None:
    """One of them is killed at the end, when the others have nothing left to begin."""
    storage, count = str(tmp_path / "journal.log"), 40
    workers = [Worker(tmp_path, 0.2, storage=storage, trials=count, sampler="evolution",
                      together=True) for _ in range(4)]  # fmt: skip
    for worker in workers:
        worker.ready()
    (tmp_path / "go").touch()
    while len(finished(storage)) < count - 6:
        time.sleep(0.05)
    workers[0].kill()
    workers[0].communicate()
    for worker in workers[1:]:
        assert worker.outcome()["notes"] == []
    found = finished(storage)
    assert count <= len(found) <= count + 3
    assert len(set(found)) >= len(found) - 2
    assert set(found) <= set(logged(tmp_path))
    by = [t.user_attrs["worker"] for t in trials(storage) if t.state.name == "COMPLETE"]
    assert len(set(by)) == 4
    assert min(by.count(worker) for worker in set(by)) >= 4
    assert not [t for t in trials(storage) if t.state.name == "RUNNING"]


@pytest.mark.exhaustive
def test_four_workers_do_three_times_as_much(tmp_path: Path) -> None:
    from scripts.search_workers import measured

    alone, together = measured(tmp_path, 1), measured(tmp_path, 4)
    assert together.a_second >= 3 * alone.a_second
    assert together.twice <= 3
