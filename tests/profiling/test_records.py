"""Journals as measurements: units, drift, whose time is whose."""

import json
import zipfile

import pytest

pytest.importorskip("torch", reason="plans hold traced networks")

from torch import nn

from predictor.errors import MeasurementError
from predictor.frontends.torch_module import trace_taped
from predictor.profiling import journal
from predictor.profiling.plan import Draft, extend
from predictor.profiling.planfile import read_plan, sha256_of
from predictor.profiling.programs import Program
from predictor.profiling.records import read_measurements, tape_owners


def program(label, module, shape, family="f", space="zoo"):
    graph, tape = trace_taped(module.eval(), shape, name=label)
    tape.pop("made")
    return Program(label, family, space, json.dumps(tape).encode(), ".json", graph)


def net(width):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 36, 5))


@pytest.fixture
def folder(tmp_path):
    """A network timed twice while the machine became slower by half, and one isolated kernel."""
    draft = Draft("box", "eager", "fp32", 1)
    whole = program("net", net(4), (1, 3, 8, 8))
    alone = program("relu", nn.ReLU(), (1, 4, 6, 6), space="isolated")
    draft.add(whole, "network")
    draft.add(alone, "kernel", detail=False)
    draft.add(whole, "network", turn=2, detail=False)
    draft.write(tmp_path / "plan.zip", whole)
    names = [f"{call[0]}:{call[1]}" for call in json.loads(whole.data)["calls"]]
    conv = next(i for i, name in enumerate(names) if "convolution" in name)
    times = [[700.0 if i == conv else 1.0 for i in range(len(names))] for _ in range(3)]
    first, kernel, second = (task["id"] for task in draft.tasks)
    with journal.Journal(str(tmp_path / "results.jsonl")) as book:
        book.append({"row": "run", "plan": "box", "plan_sha256": sha256_of(tmp_path / "plan.zip"),
                     "runtime": "eager", "precision": "fp32", "threads": 1, "device": "cpu",
                     "machine": {"matmul_gflops": 50.0}, "versions": {"torch": "2"}})  # fmt: skip
        book.append(row(first, 2000.0, 1000.0, detail_ops=names, detail_us=times,
                        detail_reference_us=[[1000.0, 1000.0]] * 3))  # fmt: skip
        book.append({"row": "task", "task": kernel, "seconds": 1.0, "hot_us": [10.0] * 4,
                     "flushed_us": [20.0] * 4, "reference_us": [[1000.0, 1000.0]] * 4})  # fmt: skip
        book.append(row(second, 3000.0, 1500.0))
    return tmp_path


def row(task, steady, reference, **more):
    return {"row": "task", "task": task, "seconds": 5.0, "first_run_us": 9000.0,
            "single_us": [1.1 * steady] * 6, "steady_us": [[steady, steady]] * 6,
            "reference_us": [[reference, reference]] * 6, "steady_ratio": steady / reference,
            "ratio_half_width": 0.01, "throughput_fps": 500.0, "settled": True, **more}  # fmt: skip


def test_latencies_are_milliseconds_at_the_usual_speed(folder):
    found = read_measurements(folder / "plan.zip", folder / "results.jsonl")
    assert found.reference_ms == pytest.approx(1.0)  # the median of 12, 8 and 12 references
    first, second = found.networks
    assert (first.turn, second.turn) == (1, 2)
    assert first.raw_ms == pytest.approx(2.0)
    assert second.raw_ms == pytest.approx(3.0)
    assert first.latency_ms == second.latency_ms == pytest.approx(2.0 * found.reference_ms)
    assert first.single_ms == pytest.approx(1.1 * first.latency_ms)
    assert first.first_run_ms == pytest.approx(9.0)


def test_kernels_get_the_time_of_their_calls(folder):
    found = read_measurements(folder / "plan.zip", folder / "results.jsonl")
    placed = {k.kernel.kind: k for k in found.kernels if k.where == "place"}
    assert set(placed) == {"conv", "activation", "linear"}  # flattening moves nothing
    assert placed["conv"].latency_ms == pytest.approx(0.7)
    assert placed["linear"].latency_ms == pytest.approx(0.001)
    assert placed["conv"].repeats == 3
    assert {k.where: k.latency_ms for k in found.kernels if not k.network} == {
        "hot": pytest.approx(0.01), "flushed": pytest.approx(0.02)}  # fmt: skip


def test_only_what_was_measured_in_time(folder):
    found = read_measurements(folder / "plan.zip", folder / "results.jsonl", seconds=5.5)
    assert len(found.networks) == 1
    assert all(k.where == "place" for k in found.kernels)


def test_results_of_another_plan_are_refused(folder, tmp_path):
    draft = Draft("box", "eager", "fp32", 1)
    other = program("other", net(6), (1, 3, 8, 8))
    draft.add(other, "network")
    draft.write(tmp_path / "other.zip", other)
    with pytest.raises(MeasurementError, match="another plan"):
        read_measurements(tmp_path / "other.zip", folder / "results.jsonl")


@pytest.mark.parametrize("name", ["missing.jsonl", "empty.jsonl"])
def test_nothing_measured_says_what_to_do(folder, name):
    if name.startswith("empty"):
        (folder / name).write_bytes(b"")
    with pytest.raises(MeasurementError):
        read_measurements(folder / "plan.zip", folder / name)


def test_a_plan_grows_and_what_was_measured_still_counts(folder):
    before = sha256_of(folder / "plan.zip")
    held = read_plan(folder / "plan.zip")["tasks"]
    more = program("medley-1-0", net(8), (1, 3, 8, 8), "medley", "perturbed")
    assert extend(folder / "plan.zip", [more]) == 1
    assert extend(folder / "plan.zip", [more]) == 0
    body = read_plan(folder / "plan.zip")
    assert body["tasks"][:3] == held
    assert body["tasks"][3]["label"] == "medley-1-0"
    assert body["grown_from"][0] == before
    with zipfile.ZipFile(folder / "plan.zip") as archive:
        assert {task["program"] for task in body["tasks"]} <= set(archive.namelist())
        assert body["reference"] in archive.namelist()
    found = read_measurements(folder / "plan.zip", folder / "results.jsonl")
    assert len(found.networks) == 2


def test_views_own_no_time():
    graph, tape = trace_taped(net(4).eval(), (1, 3, 8, 8))
    from predictor.kernels.lowering import prepare

    kernels = prepare(graph, "fp32", "eager").kernels
    names = [f"{call[0]}:{call[1]}" for call in tape["calls"]]
    owners = tape_owners(kernels, graph, names)
    assert sorted(o for o in owners if o is not None) == list(range(len(kernels)))
    assert owners[next(i for i, n in enumerate(names) if "view" in n or "flatten" in n)] is None
