"""The one file that a board runs: the same bytes always, Python 3.6, the standard library."""

from __future__ import annotations

import ast
import glob
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import stand_in

from predictor.errors import ConfigError
from predictor.profiling import journal, session, standalone

OLDEST = (3, 6)
FRAMEWORKS = {"torch", "numpy", "onnxruntime", "tensorrt"}
FILES = standalone.board_files()


def old_pythons() -> list[str]:
    """Interpreters of 3.6, 3.7 and 3.8 on this machine."""
    found = [shutil.which(f"python3.{minor}") for minor in (6, 7, 8)]
    found += sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.[678].*/bin/python")))
    works = []
    for path in filter(None, found):
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
        if done.stdout.strip() in ("3.6", "3.7", "3.8"):
            works.append(path)
    return works


OLD = old_pythons()
PYTHONS = [*OLD, sys.executable]


@pytest.fixture(
    params=PYTHONS, ids=lambda path: Path(path).resolve().name + "-" + path.split("/")[-3]
)
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return standalone.build(tmp_path / "board.pyz")


def execute(python: str, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run([python, *map(str, words)], capture_output=True, text=True, check=False,
                          env={**environment, **more}, timeout=120, stdin=subprocess.DEVNULL)  # fmt: skip


# The file.


def test_it_holds_what_a_board_needs_and_no_more(board: Path) -> None:
    names = zipfile.ZipFile(board).namelist()
    assert {"__main__.py", "predictor/profiling/agent.py"} <= set(names)
    assert {
        f"predictor/profiling/runtimes/{name}.py" for name in ("__init__", "eager", "onnxruntime")
    } <= set(names)
    assert not [name for name in names if "hosts" in name or "plan" in name or "session" in name]
    assert zipfile.ZipFile(board).read("predictor/__init__.py") == b""
    assert board.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert os.access(board, os.X_OK)


def test_the_same_bytes_always(tmp_path: Path, board: Path) -> None:
    code = ("from pathlib import Path; from predictor.profiling import standalone; "
            f"standalone.build(Path({str(tmp_path / 'second.pyz')!r}))")  # fmt: skip
    environment = dict(os.environ, PYTHONHASHSEED="7", TZ="Asia/Tokyo",
                       PYTHONPATH=str(Path(standalone.__file__).parents[2]))  # fmt: skip
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path, umask=0o077
    )
    assert (tmp_path / "second.pyz").read_bytes() == board.read_bytes()


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        standalone.build(tmp_path / "none" / "board.pyz")
    assert list(tmp_path.iterdir()) == []


# Python 3.6 and the standard library, by reading.


@pytest.mark.parametrize("name", sorted(FILES))
def test_it_is_python_3_6(name: str) -> None:
    tree = ast.parse(FILES[name], name, feature_version=OLDEST)
    for node in ast.walk(tree):
        assert not isinstance(node, ast.NamedExpr | ast.Match), f"{name}:{node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert node.module not in ("__future__", "dataclasses"), f"{name}:{node.lineno}"
        if isinstance(node, ast.arguments):
            assert not node.posonlyargs, name


def test_its_interfaces_are_those_of_python_3_6(tmp_path: Path) -> None:
    """Functions, methods and arguments of the standard library that came later are told."""
    pytest.importorskip("vermin", reason="vermin is not installed: pip install -e '.[ci]'")
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    check = [sys.executable, "-c", "from vermin.main import main; main()"]
    options = ["-t=3.6-", "--no-tips", "--violations", str(tmp_path)]
    done = subprocess.run([*check, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "late.py").write_text("import time\n\ntime.perf_counter_ns()\n")
    done = subprocess.run([*check, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "time.perf_counter_ns" in done.stdout


def imports(body: list[ast.stmt]) -> set[str]:
    """What statements import when they run, not inside functions; of predictor, whole names."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            assert node.module
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner if node.module == "predictor.profiling" else {node.module}
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody", "handlers"):
                names |= imports(getattr(node, part, []))
    return names


@pytest.mark.parametrize("name", sorted(FILES))
def test_it_imports_the_standard_library_only(name: str) -> None:
    tree = ast.parse(FILES[name])
    inside = {path[: -len(".py")].replace("/", ".").removesuffix(".__init__") for path in FILES}
    for module in imports(tree.body):
        if module.startswith("predictor"):
            assert module in inside, f"{name} imports {module}, which the file lacks"
        else:
            assert module.partition(".")[0] in sys.stdlib_module_names, f"{name} imports {module}"
    everything = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for module in everything:
        top = module.partition(".")[0]
        assert top in sys.stdlib_module_names | FRAMEWORKS | {"predictor"}, f"{name}: {module}"


# By running, with old interpreters where there are any.


def test_help(python: str, board: Path) -> None:
    done = execute(python, board, "--help")
    assert done.returncode == 0, done.stderr
    assert "PLAN" in done.stdout.upper()


def test_every_module_can_be_imported(python: str, board: Path) -> None:
    modules = [name[: -len(".py")].replace("/", ".").removesuffix(".__init__")
               for name in FILES if not name.startswith("__main__")]  # fmt: skip
    code = (
        f"import sys; sys.path.insert(0, {str(board)!r})\nfor name in {modules!r}: __import__(name)"
    )
    done = execute(python, "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("runtime", "code", "text"),
    [("eager", 5, "error: PyTorch cannot be imported here"), ("no_such", 5, "error: no runtime of the name"),
     ("../x", 5, "error: no runtime of the name")],
)  # fmt: skip
def test_a_runtime_that_is_missing(
    python: str, board: Path, tmp_path: Path, runtime: str, code: int, text: str
) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1, runtime=runtime)
    (tmp_path / "torch.py").write_text("raise ImportError('No module named torch')\n")
    done = execute(
        python, board, tmp_path / "p.zip", tmp_path / "r.jsonl", PYTHONPATH=str(tmp_path)
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_plan(python: str, board: Path, tmp_path: Path) -> None:
    (tmp_path / "p.zip").write_text("nothing")
    done = execute(python, board, tmp_path / "p.zip", tmp_path / "r.jsonl")
    assert done.returncode == 2
    assert "not a plan file" in done.stderr
    assert execute(python, board, tmp_path / "none", tmp_path / "r.jsonl").returncode == 2
    done = execute(python, board, tmp_path / "p.zip", tmp_path / "r.jsonl", "--time", "soon")
    assert done.returncode == 2
    assert "'soon' is no time; write 90s, 20min or 2h" in done.stderr


def test_a_whole_run_goes_on_and_is_taken_home(python: str, tmp_path: Path) -> None:
    ids = stand_in.write_plan(tmp_path / "p.zip", 5, do={2: "crash"})
    results = tmp_path / "r.jsonl"
    with stand_in.with_runtime:
        board = standalone.build(tmp_path / "board.pyz")
    done = execute(python, board, tmp_path / "p.zip", results)
    assert done.returncode == -9
    with results.open("ab") as handle:
        handle.write(b"0123abcd {half a ro")
    stand_in.write_plan(tmp_path / "p.zip", 5)  # whatever killed it is over
    done = execute(python, board, tmp_path / "p.zip", results, "--echo")
    assert done.returncode == 0, done.stderr
    assert "note: " in done.stderr
    assert re.findall(r"progress .*", done.stderr) == [
        "progress 0 3 net 2", "progress 1 3 net 3", "progress 2 3 net 4"
    ]  # fmt: skip
    assert done.stdout.encode() == results.read_bytes()
    assert stand_in.tasks_of(stand_in.whole_lines(results)) == ids
    head = journal.parse_line(results.read_bytes().splitlines()[0])
    assert head is not None
    version = subprocess.run(
        [python, "-V"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert head["machine"]["python"] == version.rstrip("+")


def test_results_are_taken_home(tmp_path: Path) -> None:
    ids = stand_in.write_plan(tmp_path / "p.zip", 3)
    with stand_in.with_runtime:
        board = standalone.build(tmp_path / "board.pyz")
    done = execute(PYTHONS[0], board, tmp_path / "p.zip", tmp_path / "r.jsonl")
    assert done.returncode == 0, done.stderr
    summary = session.take(tmp_path / "p.zip", tmp_path / "t", tmp_path / "r.jsonl")
    assert summary.measured == ids
    assert (tmp_path / "t" / session.RESULTS).read_bytes() == (tmp_path / "r.jsonl").read_bytes()
