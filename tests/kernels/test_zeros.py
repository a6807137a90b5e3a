"""What becomes of edges that multiply by zero, in cells whose published times show it."""

import pytest

from predictor.frontends.families import family_graph
from predictor.kernels.fusion import fuse

CELLS = 15


def edges(rules, *operations):
    """How many 1x1 and 3x3 convolutions and poolings each cell runs."""
    full = {"n": "none", "s": "skip_connect", "1": "nor_conv_1x1", "3": "nor_conv_3x3",
            "p": "avg_pool_3x3"}  # fmt: skip
    words = iter(full[letter] for letter in operations)
    key = "+".join("|" + "|".join(f"{next(words)}~{s}" for s in range(n)) + "|" for n in (1, 2, 3))
    found = {"1": 0, "3": 0, "p": 0}
    for kernel in fuse(family_graph(f"nasbench201:{key}"), rules):
        op = kernel.ops[kernel.anchor]
        if ".edges." not in op.name:
            continue
        if op.kind == "conv":
            found["1" if op.attrs["kernel"] == (1, 1) else "3"] += 1
        elif op.kind == "pool":
            found["p"] += 1
    return {letter: count // CELLS for letter, count in found.items() if count}


# Edges in the order 0->1, 0->2, 1->2, 0->3, 1->3, 2->3.
@pytest.mark.parametrize(
    ("cell", "eager", "fold", "absorb"),
    [
        ("3ss3ss", {"3": 2}, {"3": 2}, {"3": 2}),
        # Node 2 leads nowhere. As a sum it is dropped; as one convolution it absorbs the zero.
        ("1113nn", {"1": 3, "3": 1}, {"3": 1}, {"3": 1}),
        ("3n13nn", {"1": 1, "3": 2}, {"3": 1}, {"1": 1, "3": 2}),
        # ... but not where it only goes into a node that is zero as well.
        ("3sn3nn", {"3": 2}, {"3": 1}, {"3": 1}),
        ("3nn3nn", {"3": 2}, {"3": 1}, {"3": 2}),
        # Pooling has no weights to take the zero into.
        ("nps3nn", {"p": 1, "3": 1}, {"3": 1}, {"3": 1}),
        # Node 1 is zero: what reads it is a constant, or runs on zeros.
        ("nns331", {"3": 2, "1": 1}, {"3": 1}, {"3": 2, "1": 1}),
    ],
)
def test_edges_that_run(cell, eager, fold, absorb):
    assert edges("eager", *cell) == eager
    assert edges("tflite", *cell) == fold
    assert edges("tflite-1", *cell) == absorb
    assert edges("simulated", *cell) == eager


def test_a_network_that_ignores_its_input_folds_away():
    assert edges("tflite", *"nnnnnn") == {}
    key = "nasbench201:|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    assert len(fuse(family_graph(key), "tflite")) < 5


def test_graphs_without_zeros_stay_as_they_are():
    graph = family_graph("fbnet:" + "-".join(["3"] * 22))
    assert len(fuse(graph, "tflite")) == len(fuse(graph, "tflite-1"))
