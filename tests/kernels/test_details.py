"""What operators' shapes tell a library: its routine, how far it runs, what it reduces."""

import numpy as np
import pytest

from predictor.builder import GraphBuilder
from predictor.kernels.details import (
    DILATED,
    LIBRARY,
    PRODUCT,
    UNFOLDED,
    UNKNOWN_WORD,
    WINDOW,
    WORDS,
    details_of,
)
from predictor.kernels.fusion import fuse
from predictor.kernels.lowering import prepare
from predictor.kernels.memo import KEPT, remembered


def of(build):
    b = GraphBuilder("one")
    graph = b.finish(build(b))
    return details_of(fuse(graph, "eager"))


def conv(shape, out, kernel, **settings):
    return of(lambda b: b.conv(b.input(shape), out, kernel, **settings))


PATHS = [
    (((1, 64, 56, 56), 64, 1), {}, PRODUCT), (((16, 64, 56, 56), 64, 1), {}, LIBRARY),
    (((1, 64, 56, 56), 64, 1), {"stride": 2}, LIBRARY), (((1, 64, 56, 56), 64, 3), {}, LIBRARY),
    (((1, 64, 7, 7), 64, 3), {}, UNFOLDED), (((2, 64, 7, 7), 64, 3), {}, LIBRARY),
    (((1, 64, 7, 7), 64, 5), {}, LIBRARY), (((1, 64, 7, 7), 64, 3), {"groups": 64}, LIBRARY),
    (((1, 64, 7, 7), 64, 3), {"stride": 2}, UNFOLDED),
    (((1, 64, 7, 7), 64, 3), {"dilation": 2}, DILATED),
    (((1, 64, 7, 7), 64, 1), {"groups": 2}, PRODUCT),
    (((1, 64, 7, 7), 64, (1, 7)), {}, UNFOLDED), (((1, 64, 56, 56), 64, (1, 7)), {}, LIBRARY),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "settings", "path"), PATHS)
def test_the_routine_is_pytorch_s(arguments, settings, path):
    assert conv(*arguments, **settings).path[0] == path
    torch = pytest.importorskip("torch")
    if not hasattr(torch._C, "_select_conv_backend") or not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch does not tell, or has no oneDNN")
    names = {LIBRARY: "Mkldnn", PRODUCT: "Slow2d", UNFOLDED: "Slow2d", DILATED: "SlowDilated2d"}
    shape, out, kernel = arguments
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    groups = settings.get("groups", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        said = torch._C._select_conv_backend(
            torch.zeros(shape), torch.zeros(out, shape[1] // groups, *sides), None,
            [settings.get("stride", 1)] * 2, [0, 0], [settings.get("dilation", 1)] * 2, False,
            [0, 0], groups, [out],
        )  # fmt: skip
    finally:
        torch.set_num_threads(before)
    assert str(said).endswith(names[path])


def test_several_threads_leave_plain_convolutions_to_the_library():
    assert conv((1, 64, 56, 56), 64, 1).path_threads[0] == LIBRARY
    assert conv((1, 64, 7, 7), 64, 1).path_threads[0] == PRODUCT  # few elements all the same


def test_how_far_an_operator_runs_before_memory_makes_it_step():
    def twice(a, b):
        return of(lambda g: g.add(g.input(a), g.input(b)))

    assert twice((2, 8, 4, 4), (2, 8, 4, 4)).run[0] == 256
    assert twice((2, 8, 4, 4), (1, 8, 1, 1)).run[0] == 16
    assert twice((2, 8, 4, 4), (4,)).run[0] == 4
    assert twice((2, 8, 4, 4), (1,)).run[0] == 256
    assert twice((2, 8, 4, 4), (2, 1, 4, 4)).run[0] == 16
    assert twice((2, 8, 4, 4), (1, 8, 1, 1)).smallest[0] == 8 / 256
    join = of(lambda g: g.concat([g.input((1, 3, 5, 5)), g.input((1, 2, 5, 5))], 1))
    assert join.run[0] == 50


def test_what_is_reduced():
    pool = of(lambda g: g.pool(g.input((1, 8, 12, 12)), "max", 3, stride=2))
    assert (pool.taps_high[0], pool.taps_wide[0], pool.width[0]) == (3, 3, 5)
    every = of(lambda g: g.global_pool(g.input((1, 8, 12, 12))))
    assert (every.row[0], every.run[0]) == (144, 144)
    norm = of(lambda g: g.layer_norm(g.input((4, 7, 96))))
    assert (norm.row[0], norm.run[0]) == (96, 96)
    soft = of(lambda g: g.softmax(g.input((4, 7, 33))))
    assert soft.row[0] == 33


def test_functions_have_codes_and_unknown_ones_share_one():
    assert len(set(WORDS)) == len(WORDS)
    relu = of(lambda g: g.activation(g.input((4, 4)), "relu"))
    gelu = of(lambda g: g.activation(g.input((4, 4)), "gelu"))
    assert WORDS[int(relu.function[0])] == "relu"
    assert WORDS[int(gelu.function[0])] == "gelu"
    odd = of(lambda g: g.elementwise("digamma", g.input((4, 4))))
    assert odd.function[0] == UNKNOWN_WORD


def test_what_went_through_the_caches_before():
    def chain(b):
        x = b.input((1, 8, 16, 16))
        for _ in range(WINDOW + 2):
            x = b.activation(b.conv(x, 8, 3, padding=1))
        return x

    b = GraphBuilder("chain")
    kernels = fuse(b.finish(chain(b)), "eager")
    found = details_of(kernels)
    moved = np.array([k.read_bytes + k.write_bytes for k in kernels])
    for i in range(len(kernels)):
        assert found.before[i] == moved[max(0, i - WINDOW) : i].sum()
        assert found.weights_before[i] == sum(
            k.weight_bytes for k in kernels[max(0, i - WINDOW) : i]
        )
    assert details_of(kernels[5:6]).before[0] == 0


def test_channels_last_and_copies_that_strides_force():
    b = GraphBuilder("swap")
    x = b.conv(b.input((1, 8, 16, 16)), 32, 1)
    y = b.layer_norm(b.transpose(x, (0, 2, 3, 1)))
    graph = b.finish(b.conv(b.transpose(y, (0, 3, 1, 2)), 32, 3, groups=32))
    kernels = prepare(graph, "fp32", "eager-cpu").kernels
    found = details_of(kernels)
    assert [k.kind for k in kernels] == ["conv", "norm", "conv"]
    assert found.channels_last.tolist() == [0, 0, 1]
    assert found.copy_run.tolist() == [0, 1, 0]  # each element of a channel stands alone
    assert [len(k.ops) for k in kernels] == [1, 2, 1]


def test_a_channels_last_tensor_added_to_a_plain_one_steps_at_every_element():
    b = GraphBuilder("mixed")
    x = b.input((1, 8, 16, 16))
    y = b.transpose(b.layer_norm(b.transpose(x, (0, 2, 3, 1))), (0, 3, 1, 2))
    kernels = prepare(b.finish(b.add(x, y)), "fp32", "eager-cpu").kernels
    assert details_of(kernels).run[-1] == 1
    b = GraphBuilder("alike")
    x = b.input((1, 8, 16, 16))
    kernels = prepare(b.finish(b.add(x, b.activation(x))), "fp32", "eager-cpu").kernels
    assert details_of(kernels).run[-1] == 8 * 256


def test_group_norm_keeps_channels_last_on_a_processor_only():
    def network():
        b = GraphBuilder("group")
        x = b.layer_norm(b.transpose(b.input((1, 8, 16, 16)), (0, 2, 3, 1)))
        return b.finish(b.pool(b.group_norm(b.transpose(x, (0, 3, 1, 2)), 2), "avg", 3))

    on_cpu = prepare(network(), "fp32", "eager-cpu").kernels
    assert details_of(on_cpu).channels_last[-1] == 1
    assert not any(op.attrs.get("forced") for op in on_cpu[1].ops)
    elsewhere = prepare(network(), "fp32", "eager-timed").kernels
    assert details_of(elsewhere).channels_last[-1] == 0
    assert any(op.attrs.get("forced") for op in elsewhere[1].ops)


def test_tuples_are_remembered_and_lists_are_not():
    asked = []

    @remembered
    def count(kernels):
        asked.append(len(kernels))
        return len(kernels)

    ours = fuse(GraphBuilder("none").finish(), "eager")
    one = (*ours, "a")
    assert count(one) == count(one) == 1
    assert asked == [1]
    changing = ["a"]
    count(changing)
    changing.append("b")
    assert count(changing) == 2
    for size in range(KEPT + 1):
        count(tuple("x" * (size + 2)))
    asked.clear()
    count(one)
    assert asked == [1]
