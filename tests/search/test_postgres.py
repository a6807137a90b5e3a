"""Searches in PostgreSQL: several workers, dead ones, a database that goes away."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from postgres import PASSWORD, Cluster, cluster, needs_postgres
from search_worker import Known, Worker, goodness, problem
from test_workers import finished, logged, trials

from predictor.errors import ConfigError, MeasurementError, MissingExtra
from predictor.search import storage as storages
from predictor.search.storage import open_storage
from predictor.search.study import Search

pytest.importorskip("optuna")
pytest.importorskip("pg8000")
pytestmark = needs_postgres

__all__ = ["cluster"]


def search(storage: str, trials: int = 6, happens: Any = None, **settings: Any) -> Search:
    made = {"sampler": "random", "problem": problem(), **settings}
    return Search(signal=Known(happens), trials=trials, storage=storage, **made)


def test_it_goes_on_and_optuna_reads_it(cluster: Cluster) -> None:
    url = cluster.database()
    assert len(search(url, 4, problem=problem(4e6)).run().trials) == 4
    went_on = search(url, 7, problem=problem(4e6))
    assert len(went_on.run().trials) == 7
    assert len(went_on.signal.asked) == 3  # type: ignore[attr-defined]
    for trial in trials(url):
        assert trial.values == [goodness(trial.params)]
        assert set(trial.constraints) == {"macs"}
        assert set(trial.user_attrs) == {"about", "worker"}
    with pytest.raises(ConfigError, match="its limits"):
        search(url, 7).run()
    assert len(search(url, 2, name="second").run().trials) == 2


def test_one_of_four_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    """They begin on an empty database at the same time."""
    url, count = cluster.database(), 30
    workers = [Worker(tmp_path, 0.3, storage=url, trials=count) for _ in range(4)]
    for worker in workers:
        worker.ready()
    while len(logged(tmp_path)) < 10:
        time.sleep(0.05)
    workers[0].kill_at_work()
    before = set(finished(url))
    for worker in workers[1:]:
        assert worker.outcome()["notes"] == []
    found = finished(url)
    assert before <= set(found) <= set(logged(tmp_path))
    assert count <= len(found) <= count + 3
    assert len(set(found)) >= len(found) - 2
    states = [t.state.name for t in trials(url)]
    assert states.count("FAIL") == 1
    assert "RUNNING" not in states


def test_a_worker_of_another_machine_falls_silent(cluster: Cluster, tmp_path: Path) -> None:
    """Its trial is the last: the one that waits for it has to find out."""
    url = cluster.database()
    far = Worker(tmp_path, 30, storage=url, trials=3, host="elsewhere")
    far.ready()
    while not [t for t in trials(url) if "about" in t.user_attrs]:
        time.sleep(0.05)
    near = Worker(tmp_path, 0.1, storage=url, trials=3, host="here")
    near.ready()
    while len(finished(url)) < 2:
        time.sleep(0.05)
    time.sleep(4)  # longer than the grace, and it lives
    assert [t.state.name for t in trials(url)].count("RUNNING") == 1
    far.kill()
    far.communicate()
    start = time.monotonic()
    outcome = near.outcome()
    assert 1 < time.monotonic() - start < 20
    assert "waiting for 1 trials of other workers" in outcome["said"]
    assert not any("gone" in text for text in outcome["said"])  # nobody knows its processes here
    assert len(set(finished(url))) == 3
    assert sorted(t.state.name for t in trials(url)) == ["COMPLETE"] * 3 + ["FAIL"]


def test_the_database_goes_away(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mid-trial, long enough that a sign of life is due."""
    monkeypatch.setattr(storages, "HEARTBEAT_S", 1)
    url = cluster.database()

    def happens(count: int, candidate: Any) -> None:
        if count == 4:
            cluster.stop()
            time.sleep(1.3)

    gone = search(url, 8, happens)
    try:
        with pytest.raises(MeasurementError) as caught:
            gone.run()
        with pytest.raises(MeasurementError, match="cannot be reached"):
            search(url, 8).run()
    finally:
        cluster.start()
    said = str(caught.value)
    assert caught.value.exit_code == 5
    assert f"@127.0.0.1:{cluster.port}/" in said
    assert "went away" in said
    assert "are kept there; the same command goes on" in said
    assert PASSWORD not in said
    assert "%3A" not in said
    assert capfd.readouterr().err == ""
    assert len(finished(url)) == 3
    went_on = search(url, 8)
    went_on.run()
    assert len(finished(url)) == 8
    assert went_on.signal.asked[0] == gone.signal.asked[3]  # type: ignore[attr-defined]


def test_workers_see_that_the_database_went_away(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.database()
    workers = [Worker(tmp_path, 0.2, storage=url, trials=200) for _ in range(2)]
    for worker in workers:
        worker.ready()
    while len(finished(url)) < 5:
        time.sleep(0.05)
    cluster.stop()
    try:
        outcomes = [worker.outcome() for worker in workers]
    finally:
        cluster.start()
    for outcome in outcomes:
        assert (outcome["kind"], outcome["exit"]) == ("MeasurementError", 5)
        assert "went away" in outcome["error"]
    found = finished(url)
    assert set(found) <= set(logged(tmp_path))
    assert Worker(tmp_path, storage=url, trials=len(found) + 2).outcome()["notes"] == []
    assert finished(url)[: len(found)] == found


def test_a_short_absence_loses_nothing(cluster: Cluster) -> None:
    url = cluster.database()

    def happens(count: int, candidate: Any) -> None:
        if count == 2:
            cluster.stop()
            cluster.start()

    found = search(url, 4, happens)
    found.run()
    assert [key for key, _ in finished(url)] == found.signal.asked  # type: ignore[attr-defined]


def test_wrong_addresses(cluster: Cluster) -> None:
    right = cluster.url("postgres")
    wrong = {
        right.replace("/postgres", "/nothing"): 'database "nothing" does not exist',
        cluster.url("postgres", "another"): "password authentication failed",
        right.replace(str(cluster.port), "1"): "Connection refused",
        right.replace("127.0.0.1", "no-such-host.invalid"): "not known|name resolution",
    }
    for url, says in wrong.items():
        with pytest.raises(
            MeasurementError, match=f"--storage postgresql://tester:.*{says}"
        ) as caught:
            search(url).run()
        assert "tester:***@" in str(caught.value)
    for url in ("postgresql://", right.replace(str(cluster.port), "port"),
                right.replace("postgresql", "postgresql+none")):  # fmt: skip
        with pytest.raises(ConfigError, match="cannot be used"):
            search(url).run()


def test_a_missing_driver(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pg8000", None)
    with pytest.raises(MissingExtra, match=r"pip install 'latency-predictor\[search\]'") as caught:
        open_storage(cluster.url("postgres"))
    assert "tester:***@" in str(caught.value)
