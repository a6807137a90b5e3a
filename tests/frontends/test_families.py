"""Networks that keys build: hand formulas, published figures, and equality with tracing."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.errors import ModelError
from predictor.frontends.families import (
    FAMILIES,
    default_resolution,
    family_graph,
    fbnet,
    is_family,
    nasbench201,
    ofa,
    parse_key,
)
from predictor.graph import VIEW_KINDS, Graph

SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
MIXED = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
SHUFFLED = "1-5-8-2-3-1-8-8-5-0-4-6-7-8-1-2-5-3-8-0-1-4"

cells = st.tuples(*[st.sampled_from(nasbench201.OPERATIONS)] * 6).map(
    lambda operations: f"nasbench201:{nasbench201.Cell(operations).key}"
)
subnets = st.builds(
    ofa.SubNet,
    st.tuples(*[st.sampled_from(ofa.KERNELS)] * 20),
    st.tuples(*[st.sampled_from(ofa.EXPANSIONS)] * 20),
    st.tuples(*[st.sampled_from(ofa.DEPTHS)] * 5),
    st.sampled_from([128, 164, 204, 224]),
    st.sampled_from([1.0, 1.2]),
).map(lambda net: f"ofa:{net.key}")
blocks = st.tuples(*[st.sampled_from(list(fbnet.CHOICES))] * 22).map(
    lambda choices: f"fbnet:{fbnet.Blocks(choices).key}"
)
names = st.one_of(cells, subnets, blocks)


# -- hand formulas ------------------------------------------------------------------------------


def nasbench201_macs(operations: tuple[str, ...]) -> int:
    """Stem, two residual blocks, linear; a convolution on an edge counts in 5 cells x 3 stages.

    Halving the side and doubling the channels leaves side^2 x channels^2 as it is: 32^2 x 16^2.
    """
    stem = 32 * 32 * 16 * 3 * 9
    residual = sum(
        side**2 * (c * 2 * c * 9 + 2 * c * 2 * c * 9 + c * 2 * c) for side, c in ((16, 16), (8, 32))
    )
    taps = sum({"nor_conv_1x1": 1, "nor_conv_3x3": 9}.get(op, 0) for op in operations)
    return stem + residual + 15 * taps * 32 * 32 * 16 * 16 + 64 * 10


@pytest.mark.parametrize("key", [SKIPS, MIXED, MIXED.replace("none", "nor_conv_3x3")])
def test_nasbench201_macs_are_the_hand_formula(key):
    cell = nasbench201.parse(key)
    assert family_graph(f"nasbench201:{key}").macs == nasbench201_macs(cell.operations)


def test_nasbench201_params_of_the_emptiest_cell():
    # stem, two residual blocks, the last norm, the classifier; the cells hold nothing
    residual = sum(c * 2 * c * 9 + 2 * c * 2 * c * 9 + c * 2 * c + 2 * 2 * 2 * c for c in (16, 32))
    assert family_graph(f"nasbench201:{SKIPS}").params == (
        (16 * 3 * 9 + 32) + residual + 2 * 64 + (64 * 10 + 10)
    )


def test_nasbench201_edges_that_lead_nowhere_are_executed():
    dead = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    graph = family_graph(f"nasbench201:{dead}")
    convolutions = [op for op in graph.ops if op.kind == "conv" and ".edges." in op.name]
    assert len(convolutions) == 15
    assert sum(op.attrs.get("fn") == "mul" for op in graph.ops) == 15 * 4


def test_fbnet_macs_of_one_choice_everywhere_are_the_hand_formula():
    side, width, macs = 32, 16, 32 * 32 * 16 * 3 * 9
    for count, out, stride in fbnet.STAGES:
        for index in range(count):
            mid, step = 3 * width, stride if index == 0 else 1
            macs += side**2 * width * mid
            side //= step
            macs += side**2 * mid * 25 + side**2 * mid * out
            width = out
    macs += side**2 * 352 * 1504 + 1504 * 100
    assert family_graph("fbnet:" + "-".join(["6"] * 22)).macs == macs


def test_fbnet_groups_halve_the_pointwise_convolutions_and_add_a_shuffle():
    plain, grouped = (family_graph("fbnet:" + "-".join([d] * 22)) for d in "01")
    pointwise = sum(op.macs for op in plain.ops if ".expand" in op.name or ".project" in op.name)
    assert plain.macs - grouped.macs == pointwise // 2
    assert sum(op.kind == "copy" for op in grouped.ops) == 22
    assert not any(op.kind == "copy" for op in plain.ops)


def test_fbnet_skip_is_a_convolution_only_where_the_shape_changes():
    graph = family_graph("fbnet:" + "-".join(["skip"] * 22))
    convolutions = [op for op in graph.ops if op.kind == "conv"]
    assert len(convolutions) == 2 + 6  # 16 -> 16 at the start changes nothing


# -- published figures --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "params_m", "flops_m"),
    [
        (
            "ks=5-3-3-3-5-5-3-3-3-3-5-3-3-5-7-3-3-3-5-5,"
            "e=3-3-3-3-4-3-3-3-4-4-4-4-4-3-4-3-6-3-3-3,d=2-2-3-3-4,r=152",
            4.6,
            105.4,
        ),
        (
            "ks=3-3-3-3-5-5-3-3-7-3-3-3-5-3-3-3-3-7-3-3,"
            "e=3-3-3-3-3-3-3-3-4-3-3-3-3-4-3-3-6-6-3-6,d=2,r=140",
            4.3,
            70.9,
        ),
    ],
    ids=["note8_lat@31ms", "note8_lat@22ms"],
)
def test_ofa_specialised_networks_have_the_published_figures(key, params_m, flops_m):
    """MMRazor's table of converted once-for-all networks.

    Its counter takes MACs, 2 operations an element of a batch norm, and 1 of a ReLU or a pool.
    """
    graph = family_graph(f"ofa:{key}")
    assert round(graph.params / 1e6, 1) == params_m
    extra = sum(
        {"norm": 2, "pool": 1}.get(op.kind, int(op.attrs.get("fn") == "relu")) * op.inputs[0].numel
        for op in graph.ops
        if op.kind in ("norm", "pool", "activation")
    )
    assert round((graph.macs + extra) / 1e6, 1) == flops_m


def test_ofa_widths_follow_the_multiplier():
    graph = family_graph("ofa:ks=3,e=3,d=2,w=1.2")
    by_name = {op.name: op for op in graph.ops}
    assert by_name["first_conv.conv"].outputs[0].shape == (1, 24, 112, 112)  # 19.2 rounds up
    assert by_name["final_expand_layer.conv"].outputs[0].shape[1] == 1152
    assert by_name["feature_mix_layer.conv"].outputs[0].shape == (1, 1536, 1, 1)


def test_ofa_squeeze_and_excitation_of_stages_2_4_5():
    graph = family_graph("ofa:ks=3,e=4,d=2")
    reduce = {op.name: op for op in graph.ops if op.name.endswith(".se.reduce")}
    assert sorted(reduce) == [f"blocks.{i}.se.reduce" for i in (10, 3, 4, 7, 8, 9)]
    assert reduce["blocks.3.se.reduce"].inputs[0].shape[1] == 24 * 4
    assert reduce["blocks.3.se.reduce"].outputs[0].shape[1] == 24


@pytest.fixture(scope="module")
def public_data() -> Path:
    folder = os.environ.get("PREDICTOR_PUBLIC_DATA")
    if not folder:
        pytest.skip("PREDICTOR_PUBLIC_DATA names no folder with the public tables")
    return Path(folder)


@pytest.mark.parametrize(
    ("file", "prefix", "key", "macs"),
    [
        ("help-nasbench201/nasbench201_latency.csv.gz", "nasbench201", "arch_str", "mmacs_all"),
        ("help-fbnet/fbnet_latency.csv.gz", "fbnet", "op_idx", "mmacs"),
    ],
)
def test_macs_of_the_public_tables(public_data, file, prefix, key, macs):
    pandas = pytest.importorskip("pandas", reason="reads the public tables")
    rows = pandas.read_csv(public_data / file, usecols=[key, macs]).sample(300, random_state=0)
    for text, expected in zip(rows[key], rows[macs], strict=True):
        found = family_graph(f"{prefix}:{text}").macs / 1e6
        assert float(f"{found:.5g}") == pytest.approx(expected, rel=1e-12)  # 5 digits are published


# -- keys ---------------------------------------------------------------------------------------


@given(names)
@settings(max_examples=100)
def test_keys_survive_a_round_trip(name):
    prefix = name.partition(":")[0]
    config = parse_key(name)
    assert FAMILIES[prefix].parse(config.key) == config
    assert f"{prefix}:{config.key}" == name


def test_short_and_long_forms_are_one_network():
    long = f"ofa:ks={'-'.join(['7'] * 20)},e={'-'.join(['6'] * 20)},d=4-4-4-4-4,r=224,w=1.0"
    assert parse_key("ofa:ks=7,e=6,d=4") == parse_key(long)
    assert parse_key("ofa: d=4, e=6 ,ks=7") == parse_key(long)
    words = " ".join(list(fbnet.CHOICES)[int(digit)] for digit in SHUFFLED.split("-"))
    assert parse_key(f"fbnet:{words}") == parse_key(f"fbnet:{SHUFFLED}")


def test_resolution_and_batch():
    assert [default_resolution(n) for n in (f"nasbench201:{SKIPS}", "ofa:ks=3,e=3,d=2,r=160")] == [
        32,
        160,
    ]
    small, large = (family_graph(f"nasbench201:{SKIPS}", batch=b) for b in (1, 3))
    classifier = 64 * 10
    assert large.macs == 3 * small.macs
    assert large.input_specs[0].shape == (3, 3, 32, 32)
    assert family_graph("ofa:ks=3,e=3,d=2,r=160", resolution=224).input_specs[0].shape[2:] == (
        224,
        224,
    )
    wide = family_graph(f"nasbench201:{SKIPS}", resolution=64)
    assert wide.macs - classifier == 4 * (small.macs - classifier)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "nasbench201:" + MIXED.replace("nor_conv_3x3", "nor_conv_3x33"),
            ["edge 0->1", "character 2", "Did you mean 'nor_conv_3x3'?"],
        ),
        ("nasbench201:" + MIXED.replace("skip_connect~1", "skip~1"), ["edge 1->2", "character 26"]),
        ("nasbench201:" + MIXED.replace("none~2", "none~1"), ["edge 2->3", "none~2"]),
        ("nasbench201:" + MIXED.rpartition("+")[0], ["2 nodes", "has 3"]),
        ("nasbench201:|none~0|+|none~0|+|none~0|none~1|none~2|", ["node 2", "1 edges"]),
        ("nasbench201:none~0+|none~0|none~1|+|none~0|none~1|none~2|", ["node 1", "start and end"]),
        ("nasbench201:", ["1 nodes"]),
        ("ofa:ks=7,e=5,d=4", ["e, value 1", "character 8", "3, 4, 6"]),
        ("ofa:ks=7-5,e=6,d=4", ["ks has 2 values", "20"]),
        ("ofa:ks=7,e=6", ["d= is missing"]),
        ("ofa:ks=7,e=6,d=4,d=3", ["'d' is set twice"]),
        ("ofa:kernel=7,e=6,d=4", ["'kernel=7' is no setting"]),
        ("ofa:k=7,e=6,d=4", ["Did you mean 'ks'?"]),
        ("ofa:ks=7,e=6,d=4,r=0", ["'0' is no number of pixels"]),
        ("ofa:ks=7,e=6,d=4,r=²", ["no number of pixels"]),
        ("ofa:ks=7,e=6,d=4,w=nan", ["'nan' is no width"]),
        ("ofa:ks=7,e=6,d=4,w=wide", ["'wide' is no width"]),
        ("ofa:", ["is no setting"]),
        ("fbnet:" + SHUFFLED.replace("8-2", "9-2"), ["block 3", "character 5", "8 skip"]),
        ("fbnet:k3_e7", ["Did you mean 'k3_e"]),
        ("fbnet:1-2-3", ["3 blocks", "22"]),
        ("fbnet:", ["0 blocks"]),
        ("nasbench:x", ["Did you mean 'nasbench201'?"]),
        ("fbnet", ["fbnet:KEY"]),
    ],
)
def test_wrong_keys_are_named(name, words):
    with pytest.raises(ModelError) as error:
        family_graph(name)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        (f"nasbench201:{SKIPS}", {"resolution": 30}),
        (f"nasbench201:{SKIPS}", {"batch": 0}),
        ("ofa:ks=3,e=3,d=2", {"resolution": 0}),
        (f"fbnet:{SHUFFLED}", {"batch": -1}),
    ],
)
def test_sizes_that_do_not_fit(name, sizes):
    with pytest.raises(ModelError, match=r"batch .*resolution"):
        family_graph(name, **sizes)


@given(st.sampled_from(list(FAMILIES)), st.text(max_size=80))
@settings(max_examples=200)
def test_no_key_is_a_traceback(prefix, text):
    with pytest.raises(ModelError):
        family_graph(f"{prefix}:{text}")


def test_is_family():
    assert is_family("ofa:x")
    assert not is_family("torchvision:resnet50")


# -- the graph is the module --------------------------------------------------------------------


def rows(graph: Graph) -> Counter[tuple[object, ...]]:
    """What is launched, by module path. In-place fills and views launch nothing.

    torch runs a global average pool as a mean over the map, so ``reduce`` stands for ``pool``
    there, and their formulas differ by one division a channel.
    """
    found: Counter[tuple[object, ...]] = Counter()
    for op in graph.ops:
        kind, flops = op.kind, op.elementwise_flops
        if kind in VIEW_KINDS or kind == "fill":
            continue
        if kind == "reduce" or (kind == "pool" and op.attrs.get("adaptive")):
            kind, flops = "global pool", 0
        shape = op.outputs[0].shape
        found[op.name, kind, op.macs, flops, op.params, op.read_bytes, shape] += 1
    return found


def check_tracing(name: str) -> None:
    import torch

    from predictor.frontends.families import family_module
    from predictor.frontends.torch_module import trace

    graph = family_graph(name)
    with torch.device("meta"):
        module = family_module(name).eval()
    traced = trace(module, graph.input_specs[0].shape)
    assert (graph.macs, graph.params) == (traced.macs, traced.params)
    assert rows(graph) == rows(traced)
    state = {key for key in module.state_dict() if not key.endswith("num_batches_tracked")}
    assert {weight.name for weight in graph.weights} == state


@pytest.mark.parametrize(
    "name", [f"nasbench201:{MIXED}", "ofa:ks=5,e=4,d=3,w=1.2", f"fbnet:{SHUFFLED}"]
)
def test_the_graph_equals_tracing_the_module(name):
    pytest.importorskip("torch", reason="traces a module")
    check_tracing(name)


@given(names)
@settings(max_examples=15)
def test_the_graph_equals_tracing_the_module_for_random_keys(name):
    pytest.importorskip("torch", reason="traces a module")
    check_tracing(name)


@pytest.mark.parametrize(
    "name", [f"nasbench201:{MIXED}", "ofa:ks=3,e=3,d=2,r=64", f"fbnet:{SHUFFLED}"]
)
def test_the_module_runs_and_trains(name):
    torch = pytest.importorskip("torch", reason="runs a module")
    from predictor.frontends.families import family_module

    module, size = family_module(name), default_resolution(name)
    logits = module(torch.randn(2, 3, size, size))
    logits.sum().backward()
    assert logits.shape[0] == 2
    assert torch.isfinite(logits).all()
    dead = [key for key, p in module.named_parameters() if p.grad is None]
    assert not dead or name.startswith("nasbench201")
