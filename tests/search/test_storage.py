"""What a search keeps, refuses and finds again: one process, a file or memory."""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from search_worker import Known, goodness, keys, problem

from predictor.errors import ConfigError, MeasurementError
from predictor.front import State
from predictor.search import study as studies
from predictor.search.accuracy import find
from predictor.search.candidate import Pruned, SignalError
from predictor.search.samplers.proposer import ABOUT
from predictor.search.storage import WORKER, hidden, is_dead, open_storage, working
from predictor.search.study import Search

pytest.importorskip("optuna")
OWN = ("learned", "evolution", "random")


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "journal.log")


def search(storage: str | None, trials: int = 6, happens: Any = None, **settings: Any) -> Search:
    made = {"sampler": "random", "problem": problem(), **settings}
    return Search(signal=Known(happens), trials=trials, storage=storage, **made)


def complete(result: Any) -> list[tuple[str, float | None]]:
    return [(t.key, t.accuracy) for t in result.trials if t.state is State.COMPLETE]


@functools.cache
def whole(sampler: str) -> list[tuple[str, float | None]]:
    """A search that was never stopped."""
    return complete(search(None, 50, sampler=sampler, seed=5).run())


def interrupted(at: int) -> Any:
    def happens(count: int, candidate: Any) -> None:
        if count == at:
            raise KeyboardInterrupt

    return happens


def loaded(storage: str) -> Any:
    import optuna

    return optuna.load_study(study_name="search", storage=open_storage(storage))


# -- seeds and going on -------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", OWN)
def test_equal_seeds_propose_the_same(sampler: str, journal: str) -> None:
    first = whole(sampler)
    assert first == complete(search(journal, 50, sampler=sampler, seed=5).run())
    assert first[:5] != complete(search(None, 5, sampler=sampler, seed=4).run())
    assert len(set(first)) == 50


@pytest.mark.parametrize("sampler", OWN)
def test_a_search_that_goes_on_is_as_one_that_never_stopped(sampler: str, journal: str) -> None:
    """Stopped at an end of its own, and twice in mid-trial."""
    search(journal, 20, sampler=sampler, seed=5).run()
    for at in (21, 1):
        with pytest.raises(KeyboardInterrupt):
            search(journal, 50, interrupted(at), sampler=sampler, seed=5).run()
    went_on = search(journal, 50, sampler=sampler, seed=5).run()
    assert complete(went_on) == whole(sampler)
    assert [t.error for t in went_on.trials if t.state is State.FAILED] == [
        "its worker was ended"
    ] * 2


@pytest.mark.parametrize("sampler", ["learned", "evolution", "random"])
def test_it_may_stop_anywhere(sampler: str, journal: str) -> None:
    for until in (7, 31, 36):
        search(journal, until, sampler=sampler, seed=5).run()
    assert complete(search(journal, 50, sampler=sampler, seed=5).run()) == whole(sampler)


def test_enough_is_enough(journal: str) -> None:
    first = search(journal, 5).run()
    again = search(journal, 5)
    assert complete(again.run()) == complete(first)
    assert again.signal.asked == []  # type: ignore[attr-defined]


def test_what_is_over_budget_costs_no_evaluation(journal: str) -> None:
    found = search(journal, 8, problem=problem(2e6), sampler="tpe")
    result = found.run()
    asked = found.signal.asked  # type: ignore[attr-defined]
    assert len(asked) == 8 == len(set(asked))
    assert {key for key, _ in complete(result)} == set(asked)  # the strategy proposed some again
    assert any(t.state is State.OVER_BUDGET for t in result.trials)
    assert all(t.accuracy is None for t in result.trials if not t.feasible)


# -- what Optuna's own tools see ----------------------------------------------------------------


def test_optuna_reads_everything(journal: str) -> None:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    search(journal, 5, problem=problem(4e6), aim="front").run()
    import optuna

    study = optuna.load_study(
        study_name="search", storage=JournalStorage(JournalFileBackend(journal))
    )
    assert study.user_attrs["search"]["space"] == "two"
    assert len(study.trials) == 5
    for trial in study.trials:
        assert set(trial.params) == {"first", "second", "kernel", "act"}
        about = json.loads(trial.user_attrs[ABOUT])
        assert about["key"] == problem().space.key(trial.params)
        assert trial.constraints["macs"] == about["figures"]["macs"] / 4e6 - 1 <= 0
        assert trial.values == [
            goodness(trial.params),
            about["figures"]["latency_ms jetson-orin-nano"],
        ]
        assert trial.user_attrs[WORKER]
    assert study.best_trials


# -- another search, another file ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"problem": problem(3e6)}, "its limits"),
        ({"problem": problem(kernel=(1, 3))}, "its parameters"),
        ({"aim": "front"}, "its aim"),
    ],
)
def test_another_search_of_that_name_is_refused(journal: str, other: Any, says: str) -> None:
    search(journal, 2).run()
    with pytest.raises(ConfigError, match=f"'search'.*{says}.*--name"):
        search(journal, 2, **other).run()
    assert len(search(journal, 2, name="second", **other).run().trials) == 2
    assert len(search(journal, 3).run().trials) == 3


@pytest.mark.parametrize("url", ["sqlite:///x.db", "mysql://me:secret@host/x", "redis://host"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="give a file, or postgresql://") as caught:
        search(url).run()
    assert "secret" not in str(caught.value)


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    for content in ("first,second\n1,2\n", '{\n "not": "lines"\n}\n', '{"op_code": 77}\n{}\n'):
        (tmp_path / "file").write_text(content)
        with pytest.raises(ConfigError, match="is no journal of a search"):
            search(str(tmp_path / "file")).run()
        assert (tmp_path / "file").read_text() == content
    with pytest.raises(ConfigError, match="is a folder; give a file"):
        search(str(tmp_path)).run()
    with pytest.raises(ConfigError, match="no such folder"):
        search(str(tmp_path / "none" / "file")).run()


def test_relative_paths_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.log").symlink_to("below/journal.log")
    search("below/journal.log", 3).run()
    monkeypatch.chdir(tmp_path / "below")
    assert len(search("../link.log", 4).run().trials) == 4
    assert sorted(p.name for p in (tmp_path / "below").iterdir()) == ["journal.log"]


def test_addresses_are_shown_without_passwords() -> None:
    for url in ("postgresql://me:s3cret@host/x", "postgresql://me:s3c@s3cret@host/x",
                "postgresql+pg8000://me@host/x?a=1&password=s3cret&b=2"):  # fmt: skip
        assert "s3c" not in hidden(url)
        assert "me" in hidden(url)
        assert "host/x" in hidden(url)


# -- damage -------------------------------------------------------------------------------------


def test_a_line_that_was_cut_short_is_taken_away(journal: str) -> None:
    kept = complete(search(journal, 4).run())
    whole = Path(journal).read_bytes()
    for cut in (whole + b'{"op_code":4,"worker', whole[:-1], whole[:-30]):
        Path(journal).write_bytes(cut)
        found = complete(search(journal, 6).run())
        assert kept[:3] == found[:3]
        assert len(found) == 6 == len(set(found))
        assert all(json.loads(line) for line in Path(journal).read_text().splitlines())


def test_a_full_disk(journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fills(count: int, candidate: Any) -> None:
        if count == 3:
            monkeypatch.setattr(os, "fsync", _no_space)

    with pytest.raises(MeasurementError, match=r"went away: .*No space left.*are kept") as caught:
        search(journal, 6, fills).run()
    assert caught.value.exit_code == 5
    monkeypatch.undo()
    assert len(complete(search(journal, 6).run())) == 6


def _no_space(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_that_was_taken_away_is_not_begun_anew(journal: str) -> None:
    def removes(count: int, candidate: Any) -> None:
        if count == 2:
            Path(journal).unlink()

    with pytest.raises(MeasurementError, match=r"went away: .*No such file"):
        search(journal, 6, removes).run()
    assert not Path(journal).exists()


# -- workers that are gone ----------------------------------------------------------------------


def test_who_is_dead() -> None:
    with working() as own:
        assert not is_dead(own)
        host, pid, began, count = own.split(" ")
        assert is_dead(f"{host} {pid} {int(began) - 1} {count}")  # the number is another's now
        assert is_dead(f"{host} {2**22 + 1} 5 0")
        assert not is_dead(f"elsewhere {2**22 + 1} 5 0")
        assert not is_dead("what others write")
    assert is_dead(own)


def test_trials_name_their_worker_before_they_are_sampled(
    journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it chooses, a worker leaves a trial that can be told from a live one's."""
    from predictor.search.samplers.random import RandomChoice

    def dies(self: Any, *arguments: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(RandomChoice, "propose", dies)
        patch.setattr(studies, "leave", lambda study, worker: None)
        with pytest.raises(SystemExit):
            search(journal, 3).run()
    (trial,) = loaded(journal).trials
    assert trial.state.name == "RUNNING"
    assert is_dead(trial.user_attrs[WORKER])
    said: list[str] = []
    result = search(journal, 3, say=said.append).run()
    assert "1 trials of workers that are gone will be tried again" in said
    assert len(result.trials) == 3  # the one without an architecture is none


@pytest.mark.parametrize("aim", ["best", "front"])
def test_a_trial_that_was_given_up_by_others_keeps_its_outcome(aim: str, journal: str) -> None:
    """A machine that slept: the others have closed its trial, then it tells what it found."""
    from optuna.trial import TrialState

    def sleeps(count: int, candidate: Any) -> None:
        study = loaded(journal)
        study.tell(len(study.trials) - 1, state=TrialState.FAIL)

    said: list[str] = []
    found = search(
        journal, 3, lambda n, c: sleeps(n, c) if n == 2 else None, aim=aim, say=said.append
    )
    result = found.run()
    assert [t.state.value for t in result.trials] == ["complete", "failed", "complete", "complete"]
    assert "trial 1 was given up by another worker meanwhile" in said
    asked = found.signal.asked  # type: ignore[attr-defined]
    assert [key for key, _ in complete(result)] == asked
    assert len(set(asked)) == 3


# -- signals that fail --------------------------------------------------------------------------


def test_a_signal_that_raises_costs_one_candidate(journal: str) -> None:
    def happens(count: int, candidate: Any) -> float | None:
        if count == 2:
            raise SignalError("not this one")
        if count == 3:
            return float("nan")
        if count == 4:
            raise FileNotFoundError(2, "No such file", "labels.csv")
        if count == 5:
            raise Pruned("does not promise")
        return None

    result = search(journal, 8, happens).run()
    states = [t.state.value for t in result.trials]
    assert states == ["complete", "failed", "failed", "failed", "pruned", *["complete"] * 3]
    said = [t.error for t in result.trials]
    assert said[1] == "not this one"
    assert said[2].endswith("goodness gave nan, which is no accuracy")
    assert "goodness raised FileNotFoundError" in said[3]
    assert len(set(keys(result))) == 8  # what failed is not tried again
    assert complete(search(journal, 8).run()) == complete(result)


def test_ten_failures_in_a_row_end_a_search(journal: str) -> None:
    def happens(count: int, candidate: Any) -> None:
        if count > 3:
            raise SignalError("out of order")

    with pytest.raises(
        SignalError, match=r"failed 10 times in a row; .*out of order.* kept"
    ) as caught:
        search(journal, 50, happens).run()
    assert caught.value.exit_code == 1
    assert len(complete(search(journal, 13).run())) == 3  # 10 are known to fail
    assert len(complete(search(journal, 15).run())) == 5


def test_an_error_that_no_candidate_escapes_ends_it_at_once(journal: str) -> None:
    def happens(count: int, candidate: Any) -> None:
        if count == 3:
            raise ConfigError("the table is gone")

    found = search(journal, 9, happens)
    with pytest.raises(ConfigError, match="the table is gone"):
        found.run()
    assert len(found.signal.asked) == 3  # type: ignore[attr-defined]
    assert len(complete(search(journal, 4).run())) == 4


def test_a_function_that_hangs_raises_or_gives_no_number(
    tmp_path: Path, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text(
        "import time\n\ndef evaluate(candidate):\n    width = candidate.values['first']\n"
        "    if width == 8: raise ValueError('no eights')\n    if width == 16: time.sleep(60)\n"
        "    if width == 24: return float('nan')\n    return width\n"
    )
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    signal = find(f"{tmp_path / 'train.py'}:evaluate", seconds=3)
    try:
        result = Search(
            problem(first=(8, 16, 24, 32), second=(8,), kernel=(1,), act=("relu",)), signal,
            trials=4, sampler="random", storage=journal,
        ).run()  # fmt: skip
    finally:
        signal.close()
    said = {t.values["first"]: (t.state.value, t.error) for t in result.trials}
    assert said[32] == ("complete", "")
    assert said[8][0] == said[16][0] == said[24][0] == "failed"
    assert "raised ValueError: no eights" in said[8][1]
    assert "took longer than 3 s" in said[16][1]
    assert "returned nan" in said[24][1]


def test_an_interruption_leaves_what_was_finished(journal: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(journal, 9, interrupted(4)).run()
    states = [trial.state.name for trial in loaded(journal).trials]
    assert states == ["COMPLETE"] * 3 + ["FAIL"]
    assert len(complete(search(journal, 9).run())) == 9


def test_a_small_space_comes_to_its_end(journal: str) -> None:
    small = problem(first=(8, 16), second=(8,), kernel=(1,))
    result = search(journal, 10, problem=small).run()
    assert len({key for key, _ in complete(result)}) == 4
    assert "stopped with 6 trials left" in result.notes[0]


def test_time_is_up(journal: str) -> None:
    result = search(journal, 500, lambda n, c: time.sleep(0.2), seconds=1.0).run()
    assert 2 <= len(result.trials) < 20
    assert "stopped after 1 s" in result.notes[0]
