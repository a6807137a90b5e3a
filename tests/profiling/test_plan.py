import hashlib
import importlib.util
import json
import random
import zipfile

import pytest

if any(importlib.util.find_spec(name) is None for name in ("torch", "timm", "torchvision")):
    pytest.skip("plans hold traced networks of timm", allow_module_level=True)

from predictor.errors import ConfigError, ModelError
from predictor.graph import Graph
from predictor.profiling import sampling
from predictor.profiling.modules import build, split_name
from predictor.profiling.plan import TURN_GAP, family_of, make_plan, zoo

NETWORKS = [
    "timm:mobilenetv3_small_050", "timm:lcnet_050@96",
    "nasbench201:|none~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|",
]  # fmt: skip


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.zip"
    draft = make_plan(path, name="box", runtime="eager", networks=NETWORKS, medley_count=2,
                      kernels=12, seed=5)  # fmt: skip
    return path, draft


def test_the_file_holds_what_its_tasks_name(plan):
    path, draft = plan
    with zipfile.ZipFile(path) as archive:
        body = json.loads(archive.read("plan.json"))
        names = set(archive.namelist())
        assert body["tasks"] == draft.tasks
        for task in body["tasks"]:
            assert task["program"] in names
            graph = Graph.from_dict(json.loads(archive.read(task["graph"])))
            tape = json.loads(archive.read(task["program"]))
            if task["kind"] == "network":
                assert len({call[0] for call in tape["calls"]} - {-1}) >= 0.9 * len(graph.ops)
            else:
                assert len(graph.ops) == len(tape["calls"]) == 1
        assert body["reference"] in names
    assert len({task["id"] for task in body["tasks"]}) == len(body["tasks"])


def test_the_same_arguments_give_the_same_bytes(plan, tmp_path):
    path, _ = plan
    again = tmp_path / "again.zip"
    make_plan(again, name="box", runtime="eager", networks=NETWORKS, medley_count=2, kernels=12,
              seed=5)  # fmt: skip
    digests = {hashlib.sha256(p.read_bytes()).hexdigest() for p in (path, again)}
    assert len(digests) == 1


def test_every_network_has_two_turns_and_kernels_come_behind_networks(plan):
    tasks = plan[1].tasks
    turns = {}
    for task in tasks:
        if task["kind"] == "network" and task["space"] == "zoo":
            turns.setdefault(task["label"], []).append(task["pass"])
    assert turns == {name: [1, 2] for name in NETWORKS}
    kinds = [task["kind"] for task in tasks if task["pass"] == 1]
    assert kinds == sorted(kinds, key=("network", "kernel").index)


def test_second_turns_are_apart_in_time_in_a_full_plan():
    from predictor.profiling.plan import Draft, _order
    from predictor.profiling.programs import Program

    draft = Draft("x", "eager", "fp32", 1)
    graph = Graph("g", ())
    whole = [Program(f"n{i}", "f", "zoo", str(i).encode(), ".json", graph) for i in range(80)]
    _order(draft, whole, [])
    at = {task["id"]: i for i, task in enumerate(draft.tasks)}
    again = [task for task in draft.tasks if task["pass"] == 2]
    assert len(again) >= 10
    for task in again:
        assert at[task["id"]] - at[task["id"].replace(".2", ".1")] >= TURN_GAP


def test_a_network_that_is_asked_for_and_cannot_be_built_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="no_such"):
        make_plan(tmp_path / "p.zip", name="x", runtime="eager", networks=["timm:no_such"])
    with pytest.raises(ConfigError, match="at least one network"):
        make_plan(tmp_path / "p.zip", name="x", runtime="eager", networks=[])
    assert not (tmp_path / "p.zip").exists()


def test_names_carry_size_and_batch():
    assert split_name("timm:resnet18@160*4") == ("timm:resnet18", 160, 4)
    assert split_name("ofa:ks=3,e=3,d=2,r=160,w=1.2") == (
        "ofa:ks=3,e=3,d=2,r=160,w=1.2",
        None,
        None,
    )
    module, shape = build("timm:lcnet_050@96*2")
    assert shape == (2, 3, 96, 96)
    assert sum(p.numel() for p in module.parameters()) > 1e6


def test_families_hold_each_network_once():
    names = [name for family in zoo().values() for name in family]
    assert len(names) == len(set(names)) >= 80
    assert family_of("timm:resnet18") == "resnet"
    assert family_of("ofa:ks=3,e=3,d=2") == "ofa"
    assert family_of("timm:resnet200d") == "resnet"


@pytest.mark.parametrize("space", ["ofa", "fbnet", "nasbench201"])
def test_random_subnetworks_are_valid_and_differ(space):
    from predictor.frontends.families import family_graph

    chance = random.Random(3)
    keys = {sampling.random_key(space, chance) for _ in range(20)}
    assert len(keys) == 20
    assert all(family_graph(key).macs > 0 for key in list(keys)[:5])


def test_medleys_run_and_stay_small():
    from predictor import trace
    from predictor.frontends.families import family_graph

    graphs = [trace(*build(name)) for name in ("timm:mobilenetv3_small_050", "timm:levit_128s")]
    graphs.append(family_graph("nasbench201:|avg_pool_3x3~0|+|none~0|none~1|+|none~0|none~1|"
                               "avg_pool_3x3~2|"))  # fmt: skip
    made = sampling.medleys(graphs, 12, random.Random(4))
    kinds = set()
    for layers in made:
        assert len(layers) == sampling.LAYERS_A_MEDLEY
        module, shapes = sampling.medley_module(layers)
        graph = trace(module, shapes)
        assert not graph.unknown
        assert max(op.macs for op in graph.ops) <= 1.1 * sampling.LARGEST_MACS
        kinds |= {layer["layer"] for layer in layers}
    assert {"conv", "linear", "add", "act", "matmul", "softmax"} <= kinds


def test_more_is_drawn_of_what_is_predicted_badly():
    from predictor import trace

    graphs = [trace(*build("timm:levit_128s"))]
    plain = sampling.medleys(graphs, 20, random.Random(1))
    asked = sampling.medleys(graphs, 20, random.Random(1), ["softmax"])
    count = [sum(layer["layer"] == "softmax" for layers in made for layer in layers)
             for made in (plain, asked)]  # fmt: skip
    assert count[1] > 1.5 * count[0]
