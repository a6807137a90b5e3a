"""Configurations: values, places, messages, limits, schema."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from config_seeds import SEEDS
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.config import Config, LayerList, ModelSource, json_schema, load_config, parse_config
from predictor.errors import ConfigError
from predictor.estimate import Budget
from predictor.frontends.layer_list import graph_of
from predictor.graph import TensorSpec
from predictor.layer_types import layer_types
from predictor.yamlmarks import MAX_BYTES, MAX_NODES, read, remedy, resolve

ROOT = Path(__file__).resolve().parent.parent
WRONG = ROOT / "tests" / "golden" / "config_errors"
EXAMPLES = [  # the folder also holds device files
    path for path in sorted((ROOT / "examples").glob("*.yaml"))
    if re.search("^model:", path.read_text(), re.MULTILINE)
]  # fmt: skip
TEXTS = {**SEEDS, **{path.stem: path.read_text() for path in EXAMPLES}}


def message_of(text: str) -> str:
    """What reading, and building where the model is layers, complains about."""
    with pytest.raises(ConfigError) as caught:
        graph_of(parse_config(text, "config.yaml"))
    return str(caught.value)


# -- values ---------------------------------------------------------------------------------------


def test_every_setting_is_typed() -> None:
    config = parse_config(SEEDS["name"])
    assert config.model == "torchvision:resnet18"
    assert config.inputs == ((1, 3, 224, 224),)
    assert config.resolution == (256, 256)
    assert config.batch == 4
    assert config.strict is True
    assert config.scope == "call"
    assert config.budget == Budget(20, 600_000_000, 1_200_000_000, 5000, 200, 12.5)
    assert type(config.budget.macs) is int


def test_inputs_in_their_three_forms() -> None:
    assert parse_config(SEEDS["shapes"]).inputs == ((1, 3, 8, 8), (1, 4))
    assert parse_config(SEEDS["named"]).inputs == {
        "input_ids": TensorSpec((1, 128), "int64"), "mask": TensorSpec((1, 128)),
    }  # fmt: skip


def test_keys_are_text_whatever_yaml_1_1_makes_of_them() -> None:
    config = parse_config("model: m\ninputs: {no: [1, 2], 5: [3], null: [4]}")
    assert config.inputs is not None
    assert list(config.inputs) == ["no", "5", "null"]


def test_factory_arguments_keep_their_types() -> None:
    model = parse_config(SEEDS["factory"]).model
    assert isinstance(model, ModelSource)
    assert model.args == {"width": 0.75, "name": "small", "deep": [1, 2, {"a": True}], "none": None}


@pytest.mark.parametrize("name", TEXTS)
def test_seeds_and_examples_load_and_survive_json(name: str) -> None:
    config = parse_config(TEXTS[name])
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    if isinstance(config.model, LayerList):
        assert graph_of(config).ops


def test_seeds_hold_every_key_and_every_layer_type() -> None:
    used: dict[str, set[str]] = {}
    top: set[str] = set()

    def visit(layers: Any) -> None:
        for layer in layers:
            layer = {"type": layer} if isinstance(layer, str) else layer
            used.setdefault(layer["type"], set()).update(layer)
            visit(layer["layers"] if layer["type"] == "repeat" else [])

    for text in SEEDS.values():
        data = yaml.safe_load(text)
        top |= set(data)
        if isinstance(data["model"], dict):
            visit(data["model"].get("layers", []))
    assert top == set(json_schema()["properties"])
    assert set(used) == {*layer_types(), "repeat"}
    for name, kind in layer_types().items():
        assert set(kind.keys) <= used[name], name


# -- places ---------------------------------------------------------------------------------------


def test_marks_point_at_keys_and_items() -> None:
    text = "model:\n  layers:\n  - relu\n  - {type: conv2d, out: 4,\n     kernel: 3}\ninputs: [1, 3, 8, 8]"
    config = parse_config(text, "net.yaml")
    assert config.marks["model"] == (1, 1)
    assert config.marks["model.layers[0]"] == (3, 5)
    assert config.marks["model.layers[1].out"] == (4, 20)
    assert config.marks["model.layers[1].kernel"] == (5, 6)
    assert config.marks["inputs[3]"] == (6, 19)
    assert str(config.error("model.layers[1].kernel", "too small")) == (
        "net.yaml:5:6: model.layers[1].kernel: too small"
    )
    # What has no place of its own stands at what is around it.
    assert str(config.error("model.layers[1].stride[0]", "x")).startswith("net.yaml:4:5: ")
    assert config.error("device", "x").line is None


@pytest.mark.parametrize("name", TEXTS)
def test_both_yaml_backends_give_the_same_nodes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = read(TEXTS[name], "f")
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert read(TEXTS[name], "f") == fast


@pytest.mark.parametrize("name", TEXTS)
def test_every_mark_is_where_its_key_is_written(name: str) -> None:
    lines = TEXTS[name].split("\n")
    marks = parse_config(TEXTS[name]).marks
    for path, (line, column) in marks.items():
        key = re.split(r"\.", path)[-1] if not path.endswith("]") else ""
        rest = lines[line - 1][column - 1 :]
        assert not key or rest.lstrip("\"'").startswith(key), path


@settings(max_examples=60)
@given(st.integers(0, 6), st.integers(1, 6), st.booleans())
def test_a_misspelt_key_is_found_at_its_column(blank: int, indent: int, quoted: bool) -> None:
    key = '"latency_m"' if quoted else "latency_m"
    text = "\n" * blank + f"model: x\nbudget:\n{' ' * indent}{key}: 3\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "c.yaml")
    assert (caught.value.line, caught.value.column) == (blank + 3, indent + 1)
    assert "Did you mean 'latency_ms'?" in str(caught.value)


# -- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(WRONG.glob("*.yaml")), ids=lambda path: path.stem)
def test_messages_are_exactly_these(path: Path) -> None:
    said = message_of(path.read_bytes().decode()) + "\n"
    golden = path.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(said)
    assert said == golden.read_text()


def test_there_are_enough_wrong_examples() -> None:
    assert len(list(WRONG.glob("*.yaml"))) >= 40


def test_all_mistakes_of_a_file_come_together() -> None:
    said = message_of("modl: x\ndevice: 5\nbatch: -1\n").split("\n")
    assert [line.split(": ")[0] for line in said] == [f"config.yaml:{i}:1" for i in (1, 2, 3)]
    many = message_of("model: x\n" + "".join(f"k{i}: 1\n" for i in range(50))).split("\n")
    assert many[-1] == "... and 30 more"


@pytest.mark.parametrize(
    ("raw", "write"),
    [("1e-3", "0.001"), ("1E3", "1000"), ("1.5e3", "1500"), ("-2e-1", "-0.2"), ("1e0", "1"),
     ("12.50e1", "125"), ("1e-05", "0.00001")],
)  # fmt: skip
def test_exponents_are_written_out(raw: str, write: str) -> None:
    assert remedy(raw) == f"'{raw}' is text in YAML; write {write}"


@settings(max_examples=200)
@given(st.floats(min_value=1e-9, max_value=1e9), st.sampled_from("eE"))
def test_the_number_advised_is_the_number_meant(value: float, letter: str) -> None:
    raw = f"{value:.6e}".replace("e", letter).replace("+", "")
    advice = remedy(raw)
    if isinstance(resolve(raw), str):
        assert advice is not None
        assert math.isclose(float(advice.split("write ")[1]), float(raw), rel_tol=1e-12)
    else:
        assert resolve(raw) == float(raw)


@settings(max_examples=300)
@given(st.text(alphabet="0123456789+-.eExXoO_:nyfrtaslu~ ", max_size=12))
def test_what_is_resolved_is_what_pyyaml_resolves(raw: str) -> None:
    value = resolve(raw.strip())
    if isinstance(value, str) or not raw.strip():
        return
    try:
        theirs = yaml.safe_load(raw.strip())
    except yaml.YAMLError:
        return
    assert theirs == value or (isinstance(value, float) and math.isnan(value))
    assert type(theirs) is type(value)


# -- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[" * 100_000, "nested deeper than 50 levels"),
        ("model: " + "{a: " * 60 + "1" + "}" * 60, "nested deeper than 50 levels"),
        ("a: &a [x]\nb: &b [*a, *a]\n", "anchor '&a' is not read"),
        ("model: [" + "1, " * (MAX_NODES + 5) + "]", "more than 100,000 values"),
        ("model: " + "x" * (MAX_BYTES + 1), "more than 10 MB"),
        ("model: x\nbatch: " + "9" * 5000, "beyond 2^53"),
        ("model: x\nbudget: {latency_ms: 1e" + "9" * 4000 + "}", "wants a number"),
        ("model: \ud800", "control character"),
        ("model: a\x00b", "control character U+0000"),
    ],
    ids=["brackets", "braces", "aliases", "nodes", "bytes", "digits", "exponent", "half", "zero"],
)
def test_bombs_end_in_a_message(text: str, part: str) -> None:
    start = time.process_time()
    assert part in message_of(text)
    assert time.process_time() - start < 5


def test_python_values_are_bounded_too() -> None:
    deep: Any = []
    deep.append(deep)
    with pytest.raises(ConfigError, match="nested deeper"):
        Config.from_dict({"model": {"source": "python:a:b", "args": {"x": deep}}})
    with pytest.raises(ConfigError, match="beyond 2\\^53"):
        Config.from_dict({"model": "x", "batch": 10**6000})
    with pytest.raises(ConfigError, match="set is no plain value"):
        Config.from_dict({"model": {1, 2}})


# -- files ----------------------------------------------------------------------------------------


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: x")
    with pytest.raises(ConfigError, match=r"no such file\. Did you mean 'config.yaml'\?"):
        load_config(tmp_path / "confg.yaml")
    with pytest.raises(ConfigError, match=r"this is a folder; name a file in it: config.yaml"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="Nor is there a folder"):
        load_config(tmp_path / "none" / "config.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config("a\0b")


def test_bytes_that_are_no_utf8_have_a_place(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"model: x\ndevice: \xe9t\xe9\n")
    with pytest.raises(ConfigError, match="byte 0xe9 is not UTF-8") as caught:
        load_config(path)
    assert (caught.value.line, caught.value.column) == (2, 9)
    path.write_bytes(b"\xef\xbb\xbfmodel: x\ndevic: y\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert (caught.value.line, caught.value.column) == (2, 1)


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"model: x\nbatch: 2")))
    assert load_config("-").batch == 2
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"modl: x")))
    with pytest.raises(ConfigError, match="<stdin>:1:1: modl: unknown key"):
        load_config("-")


# -- schema ---------------------------------------------------------------------------------------


def test_published_files_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_schema.py"), "--check"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def fits(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> bool:
    """The part of JSON Schema that the published schema uses."""
    if "$ref" in rule:
        return fits(value, root["$defs"][rule["$ref"].rsplit("/", 1)[1]], root)
    if "oneOf" in rule and sum(fits(value, one, root) for one in rule["oneOf"]) != 1:
        return False
    if "anyOf" in rule and not any(fits(value, one, root) for one in rule["anyOf"]):
        return False
    if "enum" in rule and value not in rule["enum"]:
        return False
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    types = {"object": isinstance(value, dict), "array": isinstance(value, list), "number": number,
             "string": isinstance(value, str), "boolean": isinstance(value, bool),
             "integer": number and value == int(value)}  # fmt: skip
    if "type" in rule and not types[rule["type"]]:
        return False
    if number:
        return (
            value >= rule.get("minimum", value) and value <= rule.get("maximum", value)
            and ("exclusiveMinimum" not in rule or value > rule["exclusiveMinimum"])
        )  # fmt: skip
    if isinstance(value, str):
        return re.search(rule.get("pattern", ""), value) is not None
    if isinstance(value, list):
        count = rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value))
        return count and all(fits(item, rule.get("items", {}), root) for item in value)
    if isinstance(value, dict):
        known, other = rule.get("properties", {}), rule.get("additionalProperties", {})
        if not set(rule.get("required", ())) <= set(value):
            return False
        if len(value) < rule.get("minProperties", 0):
            return False
        return all(
            fits(item, known[key], root) if key in known else other is not False
            and fits(item, other, root)
            for key, item in value.items()
        )  # fmt: skip
    return True


@pytest.mark.parametrize("name", TEXTS)
def test_what_loads_fits_the_schema(name: str) -> None:
    schema = json_schema()
    assert fits(json.loads(json.dumps(yaml.safe_load(TEXTS[name]))), schema, schema)


@pytest.mark.parametrize(
    "text",
    ["device: x", "model: x\ndevic: y", "model: x\nbatch: 0", "model: x\nprecision: fp17",
     "model: {layers: []}", "model: {layers: [conv2d]}", "model: {layers: [{type: linear}]}",
     "model: {layers: [{type: relu, out: 3}]}", "model: x\nbudget: {macs: 5X}", "model: x\ninputs: {}",
     "model: {layers: [{type: resize, size: 3, scale: 2}]}", "model: x\nresolution: [1, 2, 3]",
     "model: {source: torchvision:resnet18}", "model: x\nstrict: 1", "model: 4090"],
)  # fmt: skip
def test_schema_and_reader_refuse_the_same(text: str) -> None:
    schema = json_schema()
    assert not fits(yaml.safe_load(text), schema, schema)
    message_of(text)


def test_the_blocks_of_the_documentation_load() -> None:
    page = (ROOT / "docs" / "layer-list.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        assert graph_of(parse_config(block, "layer-list.md")).ops


# -- cost -----------------------------------------------------------------------------------------


def test_sixty_layers_are_read_in_a_moment() -> None:
    """Well under 30 ms; a generous factor for busy machines."""
    layer = "    - {type: conv2d, out: 64, kernel: 3, stride: 1, padding: same, name: n%d}\n"
    text = "model:\n  layers:\n" + "".join(layer % i for i in range(60)) + "inputs: [1, 3, 8, 8]\n"
    parse_config(text)
    times = []
    for _ in range(5):
        start = time.process_time()
        parse_config(text)
        times.append(time.process_time() - start)
    if not hasattr(yaml, "CSafeLoader"):
        pytest.skip("PyYAML without libyaml is several times slower")
    assert min(times) < 0.03


def test_reading_a_layer_list_imports_nothing_heavy() -> None:
    code = (
        "import sys; from predictor.config import load_config; "
        "from predictor.frontends.layer_list import graph_of; "
        "graph_of(load_config('examples/config.yaml')); "
        "heavy = {'torch', 'onnx', 'lightgbm', 'pandas', 'scipy', 'sklearn', 'pydantic'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout.strip() == "[]"
