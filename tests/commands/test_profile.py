"""``predict-latency profile``: plans, places, going on, what is printed and how it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "profiling"))

import stand_in

from predictor.errors import ConfigError
from predictor.profiling import session

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, and a board with a quick runtime that counts as eager's."""
    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(tmp_path / "home"))
    runtime = stand_in.RUNTIME.replace('"stand_in"', '"eager"')
    files = {**stand_in._files(), "predictor/profiling/runtimes/eager.py": runtime}
    monkeypatch.setattr("predictor.profiling.standalone.board_files", lambda: files)
    return tmp_path


def target(home: Path, name: str = "my-box") -> Path:
    return home / "home" / "measurements" / name / "eager-fp32"


def plan(home: Path, tasks: int = 4, **more: Any) -> str:
    stand_in.write_plan(home / "p.zip", tasks, runtime="eager", **more)
    return str(home / "p.zip")


HERE = ("--python", sys.executable)


def test_a_plan_is_measured_and_told(run: Run, home: Path) -> None:
    code, out, err = run("profile", "--name", "My Box", "--plan", plan(home, do={1: "fail"}), *HERE)
    assert (code, err) == (0, "")
    first, *rest = out.splitlines()
    assert first.startswith("My Box eager-fp32: 3 new in ")
    assert first.endswith("3 of 4 measured (1 network, 2 kernels)")
    assert "  net 1: ProgramError: this one cannot be loaded" in rest
    assert rest[-2:] == [f"Kept in {target(home)}", "Use it: predict-latency train My Box"]
    assert len(stand_in.tasks_of(stand_in.whole_lines(target(home) / session.RESULTS))) == 3


def test_the_same_command_goes_on(run: Run, home: Path) -> None:
    command = ("profile", "--name", "my-box", "--plan", plan(home, 12, sleep_s=0.3), *HERE)
    code, out, _ = run(*command, "--time", "2s", "--json")
    first = json.loads(out)
    assert (code, first["schema_version"], first["planned"]) == (0, 1, 12)
    assert first["new"] == first["measured"] > 0
    assert first["left"] == 12 - first["new"] > 0
    code, out, err = run("profile", "--name", "my-box", *HERE)  # the folder has the plan
    assert (code, err) == (0, "")
    assert f" {12 - first['new']} new in " in out
    assert "12 of 12 measured" in out
    assert "Left" not in out


def test_all_that_fails_is_an_error(run: Run, home: Path) -> None:
    path = plan(home, 2, do={0: "fail", 1: "fail"})
    code, out, err = run("profile", "--name", "my-box", "--plan", path, *HERE)
    assert (code, out) == (5, "")
    assert err == ("error: nothing could be measured: 2 of 2 failed, first net 0: ProgramError: "
                   "this one cannot be loaded\n")  # fmt: skip


def test_other_plans_and_restart(run: Run, home: Path) -> None:
    command = ("profile", "--name", "my-box", *HERE)
    assert run(*command, "--plan", plan(home, 2))[0] == 0
    code, _, err = run(*command, "--plan", plan(home, 3))
    assert code == 2
    assert "holds another plan" in err
    code, out, err = run(*command, "--plan", plan(home, 3), "--restart")
    assert code == 0
    assert "3 new" in out
    assert err.startswith(f"warning: what was measured before is in {target(home) / 'before-'}")
    (before,) = target(home).glob("before-*")
    assert len(stand_in.tasks_of(stand_in.whole_lines(before / session.RESULTS))) == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--runtime", "onnxruntime"), "--runtime: the plan {plan} is for eager"),
        (("--precision", "fp16"), "--precision: the plan {plan} is for fp32"),
        (("--threads", "4"), "--threads: the plan {plan} is for 1"),
        (("--cuda",), "--cuda: the plan {plan} is for cpu"),
        (("--network", "timm:resnet18"), "--network: the plan {plan} has other networks"),
    ],
)  # fmt: skip
def test_options_that_the_plan_contradicts(
    run: Run, home: Path, options: tuple[str, ...], text: str
) -> None:
    path = plan(home)
    code, _, err = run("profile", "--name", "my-box", "--plan", path, *HERE, *options)
    assert code == 2
    assert text.format(plan=path) in err
    assert not target(home).exists()


def test_options_that_the_plan_agrees_with(run: Run, home: Path) -> None:
    options = ("--runtime", "eager", "--precision", "fp32", "--threads", "1", "--network", "net 1",
               "--network", "net 3")  # fmt: skip
    assert run("profile", "--name", "my-box", "--plan", plan(home), *HERE, *options)[0] == 0
    assert run("profile", "--name", "my-box", *HERE, *options)[0] == 0


def test_by_hand(run: Run, home: Path) -> None:
    import subprocess

    code, out, _ = run("profile", "--standalone", str(home / "board.pyz"))
    assert (code, out) == (0, f"{home / 'board.pyz'}: run on the board: python3 board.pyz PLAN.zip "
                              "RESULTS.jsonl\n")  # fmt: skip
    path = plan(home)
    results = home / "results.jsonl"
    subprocess.run([sys.executable, str(home / "board.pyz"), path, str(results)], check=True,
                   capture_output=True)  # fmt: skip
    command = ("profile", "--name", "nano", "--plan", path, "--import-results", str(results))
    assert "4 new" in run(*command)[1]
    assert " 0 new" in run(*command)[1]
    assert (target(home, "nano") / session.RESULTS).read_bytes() == results.read_bytes()
    code, _, err = run(
        "profile", "--name", "nano", "--plan", path, "--import-results", str(home / "no")
    )
    assert code == 2
    assert "No such file" in err


def test_a_new_plan_is_made_once(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Draft:
        tasks = range(4)

    def make_plan(path: Path, **settings: Any) -> Draft:
        say = settings.pop("say")
        asked.append(settings)
        say("left out: net 9: too large")
        stand_in.write_plan(path, 4, runtime="eager")
        return Draft()

    monkeypatch.setattr("predictor.profiling.plan.make_plan", make_plan)
    code, out, err = run("profile", "--name", "My Box", *HERE)
    assert code == 0
    assert "4 of 4 measured" in out
    assert err == "warning: left out: net 9: too large\n"
    assert run("profile", "--name", "my-box", *HERE)[0] == 0
    only = str(home / "only.zip")
    options = ("--runtime", "onnxruntime", "--threads", "2", "--cuda", "--network", "timm:resnet18")
    code, out, _ = run("profile", "--name", "b", *options, "--plan-only", only)
    assert (code, out) == (0, f"{only}: 4 measurements\n")
    assert asked == [
        {"name": "my-box", "runtime": "eager", "precision": "fp32", "threads": 1, "device": "cpu",
         "networks": None},
        {"name": "b", "runtime": "onnxruntime", "precision": "fp32", "threads": 2,
         "device": "cuda", "networks": ("timm:resnet18",)},
    ]  # fmt: skip
    assert run("profile", "--name", "b", "--plan-only", str(home / "none" / "p.zip"))[0] == 2


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "Missing option '--name'"),
        (("--name", "x", "--time", "soon"), "'soon' is no time: use 90s, 20min or 2h"),
        (("--name", "x", "--time", "-5s"), "is no time"),
        (("--name", "x", "--host", "board"), "--host board: no such place; use ssh://"),
        (("--name", "x", "--ssh-option", "-v"), "--ssh-option goes with --host ssh://"),
        (("--name", "../x"), "--name '../x': use letters"),
        (("--name", "x", "--runtime", "torch"), "torch"),
        (("--name", "x", "import", "y"), "--name goes behind 'import'"),
        (("--name", "x", "--plan", "no-such.zip"), "no-such.zip: No such file"),
    ],
)  # fmt: skip
def test_mistakes(run: Run, home: Path, args: tuple[str, ...], text: str) -> None:
    if {"--host", "--ssh-option"} & set(args):  # these are read once there is a plan
        args = (*args, "--plan", plan(home))
    code, out, err = run("profile", *args)
    assert (code, out) == (2, "")
    assert text in err


def test_the_place_is_asked_for(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def find(place: str | None, folder: Path, **more: Any) -> Any:
        asked.append((place, folder, more))
        raise ConfigError("stop here")

    monkeypatch.setattr("predictor.profiling.hosts.find", find)
    options = ("--host", "ssh://nano", "--ssh-option", "-i key", "--ssh-option", "-v")
    assert run("profile", "--name", "my-box", "--plan", plan(home), *options)[0] == 2
    assert asked == [("ssh://nano", target(home) / "board",
                      {"python": None, "ssh_options": ("-i key", "-v")})]  # fmt: skip


def test_import_is_a_subcommand(run: Run) -> None:
    code, out, _ = run("profile", "import", "--help")
    assert code == 0
    assert "profile import" in out
    code, _, err = run("profile", "imports")
    assert code == 2
    assert "imports" in err
