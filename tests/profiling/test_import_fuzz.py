"""Damaged files of measurements: this package's errors or rows that the file still tells, in time.

The normal suite runs a short form with fixed seeds; ``IMPORT_FUZZ`` asks for so many mutations of
each fixture.
"""

import csv
import json
import math
import os
import random
import time
from pathlib import Path

import pytest

from predictor.errors import ConfigError
from predictor.latency.table import LookupTable
from predictor.profiling.import_networks import Target
from predictor.profiling.imported import NETWORK_COLUMNS, TABLE_COLUMNS
from predictor.profiling.importers import LONGEST_MS
from predictor.profiling.importing import READERS, import_files, read_file

FIXTURES = Path(__file__).parent / "fixtures"
SMALL = str(FIXTURES / "small.yaml")
JSONS = ("trtexec-times.json", "trtexec-times-7.json", "trtexec-profile.json",
         "trtexec-layers.json", "onnxruntime.json")  # fmt: skip
TEXTS = ("tflite.log", "tflite-profile.csv", "tflite-delegate.log", "plain.csv")
COUNT = int(os.environ.get("IMPORT_FUZZ", "60"))
SLOWEST_S = 5.0
"""For one file of a few kilobytes; the usual is a millisecond."""
VALUES = (None, True, 0, -1, 1, 1e-12, 1e15, 10**400, float("nan"), "", "1.0", "x", [], {}, [[]])


def cut(data, chance):
    return data[: chance.randrange(len(data))]


def flipped(data, chance):
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 3, 20))):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def swapped(data, chance):
    """A byte for another that means something in these formats."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 2, 5))):
        found[chance.randrange(len(found))] = chance.choice(b'0123456789.-+eE,:;[]{}"\n\t %nNi')
    return bytes(found)


def pieced(data, chance):
    """A piece twice, missing, or moved."""
    a, b = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return chance.choice((data[:a] + data[b:], data[:b] + data[a:],
                          data[b:] + data[:b], data[:a] + data[a:b][::-1] + data[b:]))  # fmt: skip


def lines(data, chance):
    """Lines twice, missing, or in another order."""
    found = data.split(b"\n")
    at = chance.randrange(len(found))
    step = chance.randrange(4)
    if step == 0:
        del found[at]
    elif step == 1:
        found.insert(at, found[chance.randrange(len(found))])
    elif step == 2:
        other = chance.randrange(len(found))
        found[at], found[other] = found[other], found[at]
    else:
        found[at] = found[at][: chance.randrange(len(found[at]) + 1)]
    return b"\n".join(found)


def keyed(data, chance):
    """A key of the JSON dropped, renamed, or with another value."""
    document = json.loads(data, strict=False)
    for _ in range(chance.choice((1, 1, 2, 8))):
        places = list(walk(document))
        if not places:
            break
        holder, key = chance.choice(places)
        step = chance.randrange(4)
        if step == 0:
            del holder[key]
        elif step == 1:
            holder[key] = chance.choice(VALUES)
        elif step == 2 and isinstance(holder[key], int | float):
            holder[key] = holder[key] * chance.choice((1000, 0.001, -1, 0))
        elif isinstance(holder, dict):
            holder[str(key) + "x"] = holder.pop(key)
    return json.dumps(document).encode()


def walk(value):
    """Every place of a JSON document, as its holder and key."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from walk(inner)


def sane(reading):
    """Whether everything that was read can be a measurement."""
    latencies = [reading.latency] if reading.latency else []
    latencies += [row.latency for row in reading.rows]
    for latency in latencies:
        told = (latency.latency_ms, latency.median_ms, latency.p10_ms, latency.p90_ms,
                latency.first_run_ms)  # fmt: skip
        for value in told:
            assert value is None or 0 < value <= LONGEST_MS
        assert latency.n >= 0
        if latency.p10_ms is not None and latency.p90_ms is not None:
            assert latency.p10_ms <= latency.p90_ms
    for layer in reading.layers:
        assert 0 <= layer.latency_ms <= LONGEST_MS * 1e3
        assert layer.repeats > 0
        assert layer.spread is None or 0 <= layer.spread < math.inf
        assert layer.name or layer.type
    assert reading.latency or reading.rows or reading.layers or reading.format == "trtexec"


def attempt(path, data, form="auto"):
    """Read the bytes; the reading, or None where they were refused with the file's name."""
    path.write_bytes(data)
    begin = time.process_time()
    found, refusal = None, ""
    try:
        found = read_file(path, form)
    except ConfigError as error:
        refusal = str(error)
    assert time.process_time() - begin < SLOWEST_S
    if found is None:
        assert refusal.startswith(str(path))
        assert len(refusal) < 2000
        return None
    sane(found)
    return found


@pytest.mark.parametrize("mutate", [cut, flipped, swapped, pieced, lines, keyed])
@pytest.mark.parametrize("name", [*JSONS, *TEXTS])
def test_damaged_files(tmp_path, name, mutate):
    if mutate is keyed and name in TEXTS:
        return  # a text has no keys
    data = (FIXTURES / name).read_bytes()
    whole = read_file(FIXTURES / name)
    chance = random.Random(f"{name}:{mutate.__name__}")
    refused = 0
    for _ in range(COUNT):
        found = attempt(tmp_path / name, mutate(data, chance))
        if found is None:
            refused += 1
        elif mutate is cut and name != "plain.csv":
            # what was cut off was not needed: all figures are those of the whole file
            assert found.layers in ((), whole.layers)
            assert found.latency in (None, whole.latency)
        elif mutate is cut:
            assert found.rows == whole.rows[: len(found.rows)]
    if mutate in (cut, pieced):
        assert refused > 0.3 * COUNT


@pytest.mark.parametrize("name", JSONS)
def test_one_flipped_bit_changes_at_most_what_it_touches(tmp_path, name):
    """A digit that became another may pass; then every other figure is as it was."""
    data = (FIXTURES / name).read_bytes()
    whole = read_file(FIXTURES / name)
    chance = random.Random(f"one:{name}")
    for _ in range(COUNT):
        found = bytearray(data)
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
        reading = attempt(tmp_path / name, bytes(found))
        if reading is None or not whole.layers:
            continue
        assert abs(len(reading.layers) - len(whole.layers)) <= 1
        before = {layer.name: layer.latency_ms for layer in whole.layers}
        other = [layer for layer in reading.layers
                 if before.get(layer.name) != layer.latency_ms]  # fmt: skip
        assert len(other) <= 2 or name == "onnxruntime.json"  # a run's borders move all its nodes


@pytest.mark.parametrize("form", READERS)
def test_files_of_one_format_given_as_another(tmp_path, form):
    for name in (*JSONS, *TEXTS):
        attempt(tmp_path / name, (FIXTURES / name).read_bytes(), form)


@pytest.mark.parametrize("form", ["auto", *READERS])
def test_noise(tmp_path, form):
    chance = random.Random(f"noise:{form}")
    for _ in range(COUNT):
        data = bytes(chance.randrange(256) for _ in range(chance.randrange(400)))
        assert attempt(tmp_path / "noise", data, form) is None
    for text in ("[" * 50_000, '{"a":' * 50_000, "[" + "0," * 50_000, '"' * 50_000, "{}", "[{}]",
                 "[null]", "=" * 100_000, "a," * 200_000, "1 " * 200_000, "1\t" * 3000 + "\n",
                 "============ Run Order ============\n" + "1 " * 100_000 + "\n",
                 "=" * 30 + " Run Order " + "=" * 30 + "\n[node type] [avg ms] [Name]\n"
                 + 50 * ("9 " * 5000 + "\n")):  # fmt: skip
        assert attempt(tmp_path / "noise", text.encode(), form) is None


def test_a_long_log_is_read_in_time(tmp_path):
    """Thousands of lines of other output around the table, and long names in it."""
    text = (FIXTURES / "tflite.log").read_text()
    padding = "".join(f"I tflite  : count {i} of {i} ======= {'x' * 200}\n" for i in range(20_000))
    long = text.replace("[StatefulPartitionedCall:1]", "[" + ", ".join(["name"] * 4000) + "]")
    found = attempt(tmp_path / "long.log", (padding + long + padding).encode())
    assert found is not None
    assert len(found.layers) == 14


@pytest.mark.parametrize("name", ["trtexec-profile.json", "onnxruntime.json", "tflite.log"])
def test_nothing_is_kept_of_what_was_refused(tmp_path, monkeypatch, name):
    """The whole way: what is refused leaves no file, what is taken leaves whole tables."""
    home = tmp_path / "home"
    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(home))
    chance = random.Random(f"kept:{name}")
    target = Target("board", precision="fp32", model=SMALL)
    data = (FIXTURES / name).read_bytes()
    mutations = (flipped, lines) if name in TEXTS else (keyed, flipped, lines)
    path = tmp_path / name
    taken = 0
    for _ in range(COUNT):
        path.write_bytes(chance.choice(mutations)(data, chance))
        before = sorted((p.name, p.read_bytes()) for p in home.rglob("*.csv"))
        try:
            found = import_files([path], target)
        except ConfigError:
            assert sorted((p.name, p.read_bytes()) for p in home.rglob("*.csv")) == before
            continue
        taken += found.new_kernels > 0
        for table in home.rglob("*.csv"):
            columns = TABLE_COLUMNS if table.name == "table.csv" else NETWORK_COLUMNS
            with table.open(newline="") as stream:
                rows = list(csv.reader(stream, strict=True))
            assert rows[0] == list(columns)
            assert {len(row) for row in rows} == {len(columns)}
        LookupTable.from_csv(next(home.rglob("table.csv")).read_text())
    assert taken
    assert not list(home.rglob("*.part"))
