"""Spaces by name, from files and from classes; settings; what a class may be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from predictor.errors import ConfigError
from predictor.search.space import SearchSpace
from predictor.search.spaces.find import SPACES, load_space, parse_space
from predictor.search.spaces.ofa import OnceForAll

EXAMPLES = Path(__file__).parents[2] / "examples"
CLASS = """\
from predictor.search.space import SearchSpace
class Mine(SearchSpace):
    parameters = {"width": [16, 24], "act": ("relu", "gelu")}
    def input_shape(self, values):
        return (3, 8, 8)
    def module(self, values):
        raise RuntimeError("no weights")
class Other: pass
class Half(SearchSpace):
    parameters = {"width": (1, 2)}
class Empty(Mine):
    parameters = {}
class Hollow(Mine):
    parameters = {"width": ()}
class Words(Mine):
    parameters = {"act": "relu"}
class Odd(Mine):
    parameters = {"act": ("a,b",)}
class Broken(Mine):
    def __init__(self):
        self.x = 1 / 0
"""


@pytest.mark.parametrize("name", SPACES)
def test_known_names(name: str) -> None:
    loaded = load_space(name)
    assert loaded.space.name == name
    assert (dict(loaded.settings), loaded.file) == ({}, "")
    assert dataclasses.is_dataclass(loaded)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.file = "x"  # type: ignore[misc]


def test_a_file_narrows_and_says_what_is_searched() -> None:
    loaded = load_space(EXAMPLES / "space-ofa.yaml")
    assert isinstance(loaded.space, OnceForAll)
    assert loaded.space.parameters["resolution"] == (160, 192, 224)
    assert loaded.space.size == 3 * OnceForAll().size // 14
    assert dict(loaded.settings) == {
        "device": ("jetson", "raspberry-pi-4"), "budget": {"latency_ms": 40, "macs": 400_000_000},
        "trials": 100, "seed": 0,
    }  # fmt: skip
    error = loaded.error("device", "no such device")
    assert str(error) == f"{EXAMPLES / 'space-ofa.yaml'}:6:1: device: no such device"


def test_every_setting() -> None:
    loaded = parse_space(
        "space: fbnet\nruntime: tensorrt\nprecision: fp16\naccuracy: naswot\nsampler: random\n"
        "device: jetson\nbudget: {latency_ms: 1.5, params: 5M, memory_mb: 9, model_mb: 8, flops: 1G}\n"
    )
    assert loaded.settings["device"] == ("jetson",)
    assert loaded.settings["budget"] == {
        "latency_ms": 1.5, "params": 5_000_000, "memory_mb": 9, "model_mb": 8, "flops": 1_000_000_000,
    }  # fmt: skip
    assert [loaded.settings[k] for k in ("runtime", "precision", "accuracy", "sampler")] == [
        "tensorrt", "fp16", "naswot", "random"]  # fmt: skip
    blocks = load_space(str(EXAMPLES / "space-blocks.yaml"))
    assert (blocks.settings["trials"], blocks.space.name) == (50, "small_mobile")


def test_booleans_and_fractions_are_narrowed() -> None:
    space = parse_space(
        "space: resnet\nparameters: {bottleneck: [true], width_1: [1.0, 1.5]}\n"
    ).space
    assert space.parameters["bottleneck"] == (True,)
    assert space.parameters["width_1"] == (1.0, 1.5)
    one = parse_space("space: resnet\nparameters: {bottleneck: false}\n").space
    assert one.parameters["bottleneck"] == (False,)


def test_values_are_narrowed_together() -> None:
    space = parse_space("space: vit\nparameters:\n  heads: [5]\n  width: [320]\n").space
    assert space.size == 5 * 3 * 12 * 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(CLASS)
    return tmp_path


def test_a_class(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_space(f"python:{folder / 'mine.py'}:Mine")
    space = loaded.space
    assert isinstance(space, SearchSpace)
    assert (space.name, space.size, loaded.file) == ("mine", 4, str(folder / "mine.py"))
    assert space.parameters["width"] == (16, 24)
    assert space.values("width=16,act=gelu") == {"width": 16, "act": "gelu"}
    file = folder / "space.yaml"
    file.write_text("space: python:mine.py:Mine\nparameters: {act: [gelu]}\n")
    assert load_space(file).space.size == 2  # beside the file, wherever one stands
    monkeypatch.chdir(folder)
    assert load_space("python:mine.py:Mine").space.size == 4


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("Other", "{file}: 'Other' (Other) is no subclass of predictor.search.space.SearchSpace"),
        ("Half", "{file}: class Half lacks the method input_shape"),
        ("Empty", "{file}: the space is empty: class Empty has no parameters; write parameters = "
         '{{"width": (16, 24), ...}}'),
        ("Hollow", "{file}: the space is empty: parameter 'width' of class Hollow has no values; "
         "list at least one"),
        ("Words", "{file}: parameter 'act' of class Words is 'relu', not a tuple of values"),
        ("Odd", "{file}: parameter 'act' of class Odd: 'a,b' is no number, True, False or word "
         "without commas"),
        ("Broken", "{file}:21: Broken() raised ZeroDivisionError: division by zero"),
        ("Mien", "python:{file}:Mien: there is no 'Mien'. Did you mean 'Mine'?"),
    ],
)  # fmt: skip
def test_classes_that_are_no_space(word: str, wanted: str, folder: Path) -> None:
    file = folder / "mine.py"
    with pytest.raises(ConfigError) as caught:
        load_space(f"python:{file}:{word}")
    assert str(caught.value) == wanted.format(file=file)


def test_files_that_cannot_be_read(folder: Path) -> None:
    (folder / "broken.py").write_text("class Mine(:\n")
    (folder / "latin.yaml").write_bytes(b"space: ofa\n# caf\xe9\n")
    for spec, wanted in {
        "off": "unknown space 'off'. Did you mean 'ofa'? Known: ofa, fbnet, nasbench201, resnet, "
        "vit, decoder; or a YAML file, or python:FILE.py:CLASS",
        f"{folder}/latin.yml": f"{folder}/latin.yml: there is no such file. Did you mean 'latin.yaml'?",
        f"{folder}/latin.yaml": f"{folder}/latin.yaml:2: this is not UTF-8; save the file as UTF-8",
        f"{folder}/mine.py": f"{folder}/mine.py is a Python file; say which class: "
        f"python:{folder}/mine.py:CLASS",
        f"python:{folder}/mien.py:Mine": f"python:{folder}/mien.py:Mine: there is no file "
        f"{folder}/mien.py. Did you mean 'mine.py'?",
        "python:mine.py": "python:mine.py: write python:FILE.py:CLASS, as in python:space.py:MySpace",
    }.items():  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            load_space(spec)
        assert str(caught.value) == wanted
    with pytest.raises(ConfigError, match=r"broken\.py:1:\d+: SyntaxError"):
        load_space(f"python:{folder}/broken.py:Mine")


def test_the_page_names_what_there_is() -> None:
    page = (EXAMPLES.parent / "docs" / "search-space.md").read_text(encoding="utf-8")
    for name in SPACES:
        assert f"| `{name}` |" in page
    block = page.split("## Blocks in YAML")[1].split("```yaml\n")[1].split("```")[0]
    assert parse_space(block).space.size == 3456
    first = page.split("## A file")[1].split("```yaml\n")[1].split("```")[0]
    assert parse_space(first).settings["trials"] == 100
