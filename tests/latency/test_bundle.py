"""Bundles: round trip, and damage of every kind is refused in words."""

import dataclasses
import hashlib
import json
import random

import pytest

from predictor.device import load_device
from predictor.errors import ArtifactError
from predictor.latency.bundle import (
    MANIFEST,
    Bundle,
    load_bundle,
    load_card,
    read_checked,
    write_bundle,
    write_checked,
)
from predictor.latency.costing import Coster
from predictor.latency.physical import PRIOR

NAME = "tensorrt-fp16.json"


def bundle():
    return Bundle(
        target="tensorrt fp16",
        rules="tensorrt",
        parameters={name: median for name, (median, _) in PRIOR.items()},
        log_error_90={"family": 0.4, "model": 0.2, "board": 0.3, "kernel": 0.5},
        classes=("conv", "pointwise", "linear", "elementwise"),
        basis="fitted on 10 networks",
        citations=("A. Author, 2024",),
        call_ms=0.4,
        host_us=None,
        software="TensorRT 8.6",
        card={"n": 10, "model": {"median": 0.06, "rows": [1, 2]}},
    )


@pytest.fixture
def device(tmp_path):
    """A device of the test's own, with one target that has a bundle."""
    base = load_device("jetson-agx-orin")
    target = dataclasses.replace(base.targets[0], bundle=NAME)
    write_bundle(tmp_path, NAME, bundle())
    return dataclasses.replace(base, folder=str(tmp_path), targets=(target,))


def sign(folder, data):
    (folder / NAME).write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps({NAME: entry}))


def load(device):
    return load_bundle(device, device.targets[0])


def test_round_trip(device):
    assert load(device) == bundle()
    assert load_card(device, device.targets[0]) == bundle().card
    none = dataclasses.replace(device.targets[0], bundle=None)
    assert load_bundle(device, none) is None


def test_writing_leaves_no_parts_behind(device, tmp_path):
    write_checked(tmp_path, "other.csv", b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([NAME, MANIFEST, "other.csv"])
    assert read_checked(tmp_path, "other.csv") == b"x"
    assert load(device) == bundle()


def test_a_missing_file(device, tmp_path):
    (tmp_path / NAME).unlink()
    with pytest.raises(ArtifactError, match="reinstall"):
        load(device)


def test_truncated_and_altered(device, tmp_path):
    data = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(data[:-5])
    with pytest.raises(
        ArtifactError, match=f"{len(data) - 5:,} bytes, the manifest says {len(data):,}"
    ):
        load(device)
    position = next(i for i, c in enumerate(data) if chr(c).isdigit())
    flipped = bytes(
        [
            *data[:position],
            ord("9") if data[position] != ord("9") else ord("8"),
            *data[position + 1 :],
        ]
    )
    (tmp_path / NAME).write_bytes(flipped)
    with pytest.raises(ArtifactError, match="sha256"):
        load(device)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b"{", b"\xff\xfe", b"{}", b'{"tensorrt-fp16.json": 3}',
     b'{"tensorrt-fp16.json": {"bytes": "many"}}', b'{"tensorrt-fp16.json": {}}', b"[" * 100_000],
)  # fmt: skip
def test_wrong_manifests(device, tmp_path, manifest):
    (tmp_path / MANIFEST).write_bytes(manifest)
    with pytest.raises(ArtifactError):
        load(device)


def test_no_manifest(device, tmp_path):
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(ArtifactError):
        load(device)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2), ("format", None), ("extra", 1), ("parameters", []), ("parameters", None),
        ("parameters", {"k_half": -1}), ("parameters", {"k_half": 0}), ("parameters", {"k_half": "1"}),
        ("parameters", {"k_half": float("nan")}), ("parameters", {"k_half": float("inf")}),
        ("parameters", {"k_half": 10**400}), ("parameters", {"k_half": True}),
        ("parameters", {"no_such": 1.0}), ("log_error_90", {"family": 1e300}),
        ("classes", "conv"), ("classes", ["no_such"]), ("classes", [["conv"]]), ("classes", 3),
        ("citations", 5), ("basis", 5), ("target", None), ("rules", []), ("card", [1]),
        ("call_ms", "fast"), ("call_ms", -1.0), ("host_us", [1]), ("learned", 3), ("table", {}),
        ("siblings_only", "no"), ("software", 8),
    ],
)  # fmt: skip
def test_wrong_contents_that_the_manifest_vouches_for(device, tmp_path, key, value):
    body = json.loads((tmp_path / NAME).read_bytes())
    body[key] = value
    sign(tmp_path, json.dumps(body).encode())
    with pytest.raises(ArtifactError, match="tensorrt-fp16"):
        load(device)


@pytest.mark.parametrize(
    "key", ["target", "rules", "parameters", "log_error_90", "classes", "basis"]
)
def test_missing_keys(device, tmp_path, key):
    body = json.loads((tmp_path / NAME).read_bytes())
    del body[key]
    sign(tmp_path, json.dumps(body).encode())
    with pytest.raises(ArtifactError, match=key):
        load(device)


# -- fuzz -----------------------------------------------------------------------------------------


def _mutated_structure(rng, body):
    """One random change somewhere in the tree: another value, a key gone, a key more."""
    values = [None, True, -1, 0, 10**400, "x", "", [], {}, [1, [2]], 1e308, -0.0, float("nan"), "é"]
    place, key = body, rng.choice(list(body))
    while isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.7:
        place = place[key]
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
    action = rng.random()
    if action < 0.6:
        place[key] = rng.choice(values)
    elif action < 0.8:
        del place[key]
    elif isinstance(place, dict):
        place[rng.choice(["extra", "", "conv", "family"])] = rng.choice(values)
    else:
        place.append(rng.choice(values))


def _mutated_bytes(rng, data):
    mutant = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if rng.random() < 0.2:
            del mutant[rng.randrange(len(mutant)) :][: rng.randint(1, 40)]
        elif mutant:
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        if not mutant:
            mutant = bytearray(b"{")
    return bytes(mutant)


def _fuzz(device, folder, count):
    from kernels_for_tests import kernels

    original, rng = (folder / NAME).read_bytes(), random.Random(20)
    some, refused = kernels(), 0
    for number in range(count):
        body = json.loads(original)
        if number % 3 == 0:
            (folder / NAME).write_bytes(
                _mutated_bytes(rng, original)
            )  # the manifest is the old one
        elif number % 3 == 1:
            sign(folder, _mutated_bytes(rng, original))
        else:
            _mutated_structure(rng, body)
            sign(folder, json.dumps(body).encode())
        changed = (folder / NAME).read_bytes() != original
        try:
            coster = Coster(device, device.targets[0])
            total = sum(k.latency_ms for k in coster.cost(some).kernels)
            assert total > 0
            assert total < float("inf")
            assert number % 3 or not changed, "the hash must refuse every change"
        except ArtifactError as error:
            refused += NAME in str(error)  # it names the file
        write_bundle(folder, NAME, bundle())
        original = (folder / NAME).read_bytes()
    return refused


def test_fuzz(device, tmp_path):
    assert _fuzz(device, tmp_path, 60) > 35


@pytest.mark.exhaustive
def test_fuzz_500(device, tmp_path):
    assert _fuzz(device, tmp_path, 500) > 300
