"""Tracing: every kind of module and input, and the model left exactly as it was."""

import copy
import dataclasses
import random

import pytest

torch = pytest.importorskip("torch", reason="tracing needs torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import predictor  # noqa: E402
from predictor.errors import ModelError  # noqa: E402
from predictor.frontends.torch_module import rebatched  # noqa: E402
from predictor.graph import TensorSpec  # noqa: E402
from predictor.kernels.fusion import fuse  # noqa: E402
from predictor.operators import KINDS, aten_rules, onnx_rules  # noqa: E402


class Call(nn.Module):
    def __init__(self, function, **attributes):
        super().__init__()
        self.function = function
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


def small_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


# -- the model is left as it was ------------------------------------------------------------------


def photograph(model):
    tensors = {
        n: (id(t), t.device, t.dtype, t.requires_grad, t.clone() if not t.is_meta else None)
        for n, t in (*model.named_parameters(), *model.named_buffers())
    }
    attributes = [
        {
            k: (dict(v) if isinstance(v, dict) else list(v) if isinstance(v, list) else v)
            for k, v in m.__dict__.items()
        }
        for m in model.modules()
    ]
    return tensors, [m.training for m in model.modules()], attributes


def assert_same(before, after):
    tensors, flags, attributes = before
    now, now_flags, now_attributes = after
    assert flags == now_flags
    assert tensors.keys() == now.keys()
    for name, (identity, device, dtype, grad, values) in tensors.items():
        assert (identity, device, dtype, grad) == now[name][:4]
        assert values is None or torch.equal(values, now[name][4])
    for one, two in zip(attributes, now_attributes, strict=True):
        assert one.keys() == two.keys()
        for key, value in one.items():
            if isinstance(value, dict):
                assert {k: id(v) for k, v in value.items()} == {
                    k: id(v) for k, v in two[key].items()
                }
            elif isinstance(value, list):
                assert [id(v) for v in value] == [id(v) for v in two[key]]
            else:
                assert value is two[key]


class Caches(nn.Module):
    """Fills caches, counts calls and draws random numbers in its forward."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 4)
        self.bias_table = nn.Parameter(torch.randn(4, 3))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("big", torch.zeros(100, 100))
        self.bias_cache, self.names, self.kept = {}, [], set()
        self.calls, self.counter = 0, torch.zeros(3)

    def forward(self, x):
        key = str(x.device)
        if key not in self.bias_cache:
            self.bias_cache[key] = self.bias_table[:, torch.tensor([0, 1, 2, 0])]
        self.calls += 1
        self.names.append("call")
        self.kept.add(1)
        self.late = 3
        self.steps += 1
        self.counter[0] += 1
        self.big.mul_(2)
        self.f.extra = x
        torch.rand(3)
        random.random()
        return self.f(x) + self.bias_cache[key] + self.steps + self.counter.sum()


@pytest.mark.parametrize("training", [False, True])
def test_nothing_of_the_model_changes(training):
    model = Caches()
    model.f.eval()
    model.bias_table.requires_grad_(False)
    called = []
    model.register_forward_hook(lambda *_: called.append(1))
    before, states = photograph(model), (torch.get_rng_state(), random.getstate())
    counter = model.counter.clone()
    predictor.trace(model, (2, 4, 4), training=training)
    assert_same(before, photograph(model))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert torch.equal(model.counter, counter)
    assert not model.kept


def test_batch_norm_statistics_stay_in_training_mode():
    model = small_net().train()
    before = photograph(model)
    graph = predictor.trace(model, (2, 3, 8, 8), training=True)
    assert_same(before, photograph(model))
    assert any(op.attrs.get("fn") in ("dropout", "native_dropout", "bernoulli") for op in graph.ops)
    assert not any("dropout" in op.target for op in predictor.trace(model, (2, 3, 8, 8)).ops)


def test_a_cache_filled_on_the_first_forward_is_not_counted():
    graph = predictor.trace(Caches(), (2, 4, 4))
    assert not [op for op in graph.ops if op.kind == "gather"]


def test_everything_is_put_back_after_an_exception():
    def fail(m, x):
        m.flag = 1
        raise ValueError("no")

    model, call = Call(fail), nn.Module.__call__
    before, fast = photograph(model), torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(ModelError, match="ValueError: no"):
        predictor.trace(model, (1, 2))
    assert nn.Module.__call__ is call
    assert torch.backends.mha.get_fastpath_enabled() is fast
    assert_same(before, photograph(model))
    assert torch.is_grad_enabled()


def test_a_real_forward_puts_values_back():
    model = Call(
        lambda m, x: (m.buf.add_(1), m.w.mul_(2), x[x > 0.5])[-1],
        buf=None,
        w=nn.Parameter(torch.ones(5000)),
    )
    del model.buf
    model.register_buffer("buf", torch.zeros(5000))
    before = photograph(model)
    graph = predictor.trace(model, (4, 4))
    assert any("depend on data" in note for note in graph.notes)
    assert_same(before, photograph(model))


def test_parameters_are_never_allocated():
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(50_000, 50_000) for _ in range(20)))
    graph = predictor.trace(model, (1, 50_000))
    assert graph.params == 20 * (50_000**2 + 50_000)
    assert graph.macs == 20 * 50_000**2
    assert all(p.is_meta for p in model.parameters())


# -- kinds of modules -------------------------------------------------------------------------------


def totals(graph):
    return graph.macs, graph.elementwise_flops, graph.params, len(graph.ops)


def test_meta_real_and_compiled_modules_agree():
    with torch.device("meta"):
        meta = small_net()
    expected = totals(predictor.trace(meta, (1, 3, 8, 8)))
    real = small_net()
    assert totals(predictor.trace(real, (1, 3, 8, 8))) == expected
    assert totals(predictor.trace(torch.compile(real), (1, 3, 8, 8))) == expected
    assert totals(predictor.trace(copy.deepcopy(real), torch.zeros(1, 3, 8, 8))) == expected


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(dtype):
    model = small_net().to(getattr(torch, dtype))
    graph = predictor.trace(model, (1, 3, 8, 8))
    assert {w.spec.dtype for w in graph.weights if w.role == "parameter"} == {dtype}
    assert graph.input_specs[0].dtype == dtype
    plain = predictor.trace(small_net(), (1, 3, 8, 8))
    assert graph.macs == plain.macs
    factor = 2 if dtype == "float64" else 0.5
    activations = [op.write_bytes for op in graph.ops]
    assert activations == [factor * op.write_bytes for op in plain.ops]


def test_lazy_modules_are_refused_in_words():
    with pytest.raises(ModelError, match="lazy"):
        predictor.trace(nn.LazyLinear(3), (1, 2))


def test_something_else_is_refused():
    with pytest.raises(ModelError, match="load_graph"):
        predictor.trace("resnet50", (1, 3))


def test_weight_norm_counts_its_own_work():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    graph = predictor.trace(model, (2, 8))
    assert graph.macs == 2 * 8 * 4
    assert graph.params == sum(p.numel() for p in model.parameters())


def test_names_are_module_paths():
    graph = predictor.trace(small_net(), (1, 3, 8, 8), name="small")
    assert graph.name == "small"
    assert [op.name for op in graph.ops if op.kind in ("conv", "norm", "linear")] == ["0", "1", "6"]


# -- kinds of inputs and outputs --------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs",
    [
        (1, 3, 8, 8), [1, 3, 8, 8], torch.zeros(1, 3, 8, 8), TensorSpec((1, 3, 8, 8)),
        {"shape": [1, 3, 8, 8]}, {"input": (1, 3, 8, 8)}, [(1, 3, 8, 8)], (torch.zeros(1, 3, 8, 8),),
        {"input": torch.zeros(1, 3, 8, 8)},
    ],
)  # fmt: skip
def test_forms_of_one_input(inputs):
    graph = predictor.trace(small_net(), inputs)
    assert graph.input_specs == (TensorSpec((1, 3, 8, 8)),)
    assert graph.macs == 8 * 36 * 27 + 8 * 5


def test_keywords_tuples_integers_and_plain_values():
    def forward(m, ids, *, mask=None, scale=1.0, pair=None, flag=False, count=2):
        y = m.e(ids) * mask.unsqueeze(-1) * scale
        for _ in range(count):
            y = m.f(y)
        return y + pair[0] if pair is not None and flag else y

    model = Call(forward, e=nn.Embedding(10, 4), f=nn.Linear(4, 4))
    graph = predictor.trace(model, {
        "ids": {"shape": [2, 3], "dtype": "int64"}, "mask": (2, 3), "scale": 2.0,
        "pair": [(2, 3, 4)], "flag": True, "count": 3,
    })  # fmt: skip
    assert graph.macs == 3 * 6 * 16
    assert [spec.dtype for spec in graph.input_specs] == ["int64", "float32", "float32"]
    assert graph.batch == 2


def test_nested_dictionaries():
    model = Call(lambda m, batch: m.f(batch["x"]) + batch["y"], f=nn.Linear(4, 4))
    assert predictor.trace(model, {"batch": {"x": (2, 4), "y": (2, 4)}}).macs == 32


@dataclasses.dataclass
class Result:
    hidden: object
    extra: object = None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a, b: (a, b), lambda a, b: [a, [b]], lambda a, b: {"a": a, "b": b},
        lambda a, b: Result(a, b), lambda a, b: Result({"a": [a]}, (b, None, 3)),
    ],
)  # fmt: skip
def test_outputs_in_any_container(wrap):
    model = Call(lambda m, x: wrap(m.f(x), m.f(x).relu()), f=nn.Linear(4, 4))
    graph = predictor.trace(model, (1, 4))
    assert len(graph.output_ids) == 2


def test_an_output_that_holds_itself():
    def forward(m, x):
        result = Result(x + 1)
        result.extra = result
        return result

    assert len(predictor.trace(Call(forward), (1, 4)).output_ids) == 1


def test_rebatched():
    assert rebatched((1, 3, 8, 8), 4) == (4, 3, 8, 8)
    assert rebatched({"ids": {"shape": [1, 9], "dtype": "int64"}}, 4) == {
        "ids": {"shape": (4, 9), "dtype": "int64"}
    }
    assert rebatched(((1, 3), (1, 5)), 2) == ((2, 3), (2, 5))


# -- forwards that look at values -------------------------------------------------------------------


def test_constants_have_values():
    def forward(m, x):
        steps = torch.arange(3).sum().item()
        for _ in range(int(steps)):
            x = m.f(x)
        return x * float(torch.tensor([2.0]))

    graph = predictor.trace(Call(forward, f=nn.Linear(4, 4)), (1, 4))
    assert graph.macs == 3 * 16


def test_small_weights_of_a_real_module_have_values():
    model = Call(
        lambda m, x: x.repeat(int(m.times.item()), 1), times=nn.Parameter(torch.tensor(3.0))
    )
    graph = predictor.trace(model, (1, 4))
    assert graph.ops[-1].outputs[0].shape == (3, 4)


def test_shapes_that_depend_on_data_are_run_for_real_and_say_so():
    graph = predictor.trace(Call(lambda m, x: m.f(x[x.sum(-1) > -1]), f=nn.Linear(4, 2)), (5, 4))
    assert any("not representative" in note for note in graph.notes)
    assert graph.macs == 5 * 4 * 2
    with torch.device("meta"):
        meta = Call(lambda m, x: m.f(x[x.sum(-1) > -1]), f=nn.Linear(4, 2))
    assert predictor.trace(meta, (5, 4)).macs == 5 * 4 * 2


def test_failures_name_the_shapes():
    with pytest.raises(ModelError, match=r"7.*3|3.*7"):
        predictor.trace(small_net(), (1, 7, 8, 8))
    with pytest.raises(ModelError, match="4"):
        predictor.trace(nn.Linear(4, 4), (1, 5))
    with pytest.raises(ModelError, match="kernel"):
        predictor.trace(small_net(), (1, 3, 2, 2))


def test_a_failing_forward_is_not_run_for_real():
    calls = []

    def forward(m, x):
        calls.append(x.device.type)
        assert x.shape[-1] == 5, "Wrong width"
        return x

    with pytest.raises(ModelError, match="Wrong width"):
        predictor.trace(Call(forward), (1, 4))
    assert len(calls) == 2


# -- nothing is silently free -------------------------------------------------------------------------


@pytest.fixture
def library():
    made = torch.library.Library("latency_tests", "DEF")
    made.define("resize_twice(Tensor x) -> Tensor")
    made.define("set_all_(Tensor(a!) x) -> Tensor(a!)")
    torch.library.impl(made, "resize_twice", "CompositeExplicitAutograd")(lambda x: x.repeat(2, 1))
    torch.library.register_fake("latency_tests::resize_twice", lambda x: x.repeat(2, 1), lib=made)
    yield made
    made._destroy()


def test_unknown_operators_are_named(library):
    graph = predictor.trace(Call(lambda m, x: torch.ops.latency_tests.resize_twice(x) + 1), (3, 4))
    assert graph.unknown == ("latency_tests.resize_twice.default",)
    (op,) = [op for op in graph.ops if not op.known]
    assert (op.read_bytes, op.write_bytes) == (4 * 12, 4 * 24)
    assert op.kind == "unknown:latency_tests.resize_twice"


@pytest.fixture
def registered():
    before = dict(KINDS), dict(aten_rules), dict(onnx_rules)
    yield
    for table, old in zip((KINDS, aten_rules, onnx_rules), before, strict=True):
        table.clear()
        table.update(old)


class MyAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 4)

    def forward(self, x):
        return self.f(self.f(x)).relu()


def test_a_registered_class_counts_as_one_operator(registered):
    model = nn.Sequential(nn.Linear(4, 4), MyAttention(), nn.Linear(4, 4))
    assert len(predictor.trace(model, (2, 4)).ops) == 5
    predictor.register_custom("MyAttention", macs=lambda op: 7 * op.inputs[0].numel)
    graph = predictor.trace(model, (2, 4))
    assert [op.kind for op in graph.ops] == ["linear", "custom:MyAttention", "linear"]
    assert graph.macs == 2 * 32 + 7 * 8
    assert graph.ops[1].params == 20
    assert graph.params == 60
    assert graph.ops[1].read_bytes == 4 * (8 + 20)


def test_a_registered_operator_is_known(library, registered):
    from predictor.frontends import torch_recorder

    torch_recorder._KNOWN.clear()
    predictor.register_custom("latency_tests::resize_twice", elementwise_flops=lambda op: 5)
    graph = predictor.trace(Call(lambda m, x: torch.ops.latency_tests.resize_twice(x)), (3, 4))
    torch_recorder._KNOWN.clear()
    assert graph.unknown == ()
    assert graph.elementwise_flops == 5


# -- edges between operators --------------------------------------------------------------------------


def test_writes_through_views_are_seen_by_later_readers():
    """A canvas of zeros that the input is written into: nothing after it is constant."""

    def forward(m, x):
        canvas = torch.zeros(1, 3, 16, 16)
        canvas[:, :, :8, :8] = x
        canvas[:, 0].fill_(1)
        return m.conv(canvas)

    graph = predictor.trace(Call(forward, conv=nn.Conv2d(3, 8, 3)), (1, 3, 8, 8))
    for runtime in ("eager", "tensorrt", "torch_compile", "onnxruntime"):
        kernels = fuse(graph, runtime)
        assert sum(k.macs for k in kernels) == graph.macs == 8 * 14 * 14 * 27, runtime


def test_a_write_to_a_part_of_a_computed_tensor():
    def forward(m, x):
        y = m.conv(x)
        y[:, 0] = 0
        y[:, 1].add_(1)
        return m.conv(y)

    graph = predictor.trace(Call(forward, conv=nn.Conv2d(3, 3, 3)), (1, 3, 8, 8))
    for runtime in ("eager", "tensorrt", "torch_compile"):
        kernels = fuse(graph, runtime)
        assert sum(k.macs for k in kernels) == graph.macs, runtime


def test_in_place_views_end():
    graph = predictor.trace(Call(lambda m, x: x.unsqueeze_(0).add_(1).squeeze_(0).t_() * 2), (3, 4))
    assert graph.elementwise_flops == 24


def test_peak_activation_of_a_chain_a_residual_and_an_in_place_net():
    kb = 4 * 64 * 8 * 8
    conv = lambda: nn.Conv2d(64, 64, 3, padding=1, bias=False)  # noqa: E731
    chain = predictor.trace(nn.Sequential(conv(), conv(), conv()), (1, 64, 8, 8))
    assert chain.peak_activation_bytes == 2 * kb
    residual = Call(lambda m, x: m.b(m.a(x)) + x, a=conv(), b=conv())
    assert predictor.trace(residual, (1, 64, 8, 8)).peak_activation_bytes == 3 * kb
    out_of_place = nn.Sequential(conv(), nn.ReLU(), nn.ReLU())
    in_place = nn.Sequential(conv(), nn.ReLU(inplace=True), nn.ReLU(inplace=True))
    assert predictor.trace(out_of_place, (1, 64, 8, 8)).peak_activation_bytes == 2 * kb
    graph = predictor.trace(in_place, (1, 64, 8, 8))
    assert graph.peak_activation_bytes == 2 * kb  # the convolution and its input
    dense = Call(lambda m, x: torch.cat([x, m.a(x), m.b(x)], 1), a=conv(), b=conv())
    assert predictor.trace(dense, (1, 64, 8, 8)).peak_activation_bytes == 6 * kb


def test_fast_paths_are_not_taken_and_the_flag_is_restored():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        predictor.trace(layer, (1, 4, 16))
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    graph = predictor.trace(layer, (1, 4, 16))
    assert {"attention", "linear", "norm"} <= {op.kind for op in graph.ops}
    assert torch.backends.mha.get_fastpath_enabled()


def test_graphs_survive_json():
    import json

    graph = predictor.trace(small_net(), (1, 3, 8, 8))
    again = predictor.Graph.from_dict(json.loads(json.dumps(graph.to_dict())))
    assert again == graph
    assert again.to_dict() == graph.to_dict()


def test_other_threads_run_modules_undisturbed():
    import threading

    model, results, stop = small_net().eval(), [], threading.Event()

    def serve():
        while not stop.is_set():
            results.append(model(torch.zeros(1, 3, 8, 8)).device.type)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        counts = {totals(predictor.trace(small_net(), (1, 3, 8, 8))) for _ in range(5)}
    finally:
        stop.set()
        thread.join()
    assert len(counts) == 1
    assert set(results) <= {"cpu"}


def test_functional_conv_with_a_string_padding():
    graph = predictor.trace(
        Call(
            lambda m, x: F.conv2d(x, m.w, padding="same"), w=nn.Parameter(torch.zeros(4, 3, 3, 3))
        ),
        (1, 3, 8, 8),
    )
    assert graph.macs == 4 * 64 * 27


QUICK = {
    "same shape": (lambda x, y: x + y, (2, 3, 4), (2, 3, 4)),
    "broadcast": (lambda x, y: x * y, (2, 3, 4), (3, 1)),
    "the second is wider": (lambda x, y: x - y, (4,), (2, 3, 4)),
    "both grow": (lambda x, y: x / y, (2, 1, 4), (1, 3, 1)),
    "permuted": (lambda x, y: x.permute(0, 2, 1) + y.permute(0, 2, 1), (2, 3, 4), (2, 3, 4)),
    "permuted and plain": (lambda x, y: x.permute(2, 0, 1) + y, (3, 4, 2), (2, 3, 4)),
    "expanded": (lambda x, y: x.expand(2, 3, 4) * 2 + y, (1, 3, 1), (2, 3, 4)),
    "in place": (lambda x, y: x.add_(y).relu_(), (2, 3, 4), (4,)),
    "scalars": (lambda x, y: (x * 2 + 1.5).clamp(0, 6) / 6 + y, (2, 3, 4), (2, 3, 4)),
    "joined": (lambda x, y: torch.cat([x, y], -1), (2, 3, 4), (2, 3, 5)),
    "joined with an empty one": (lambda x, y: torch.cat([x, y]), (0,), (2, 3)),
    "joined, permuted": (lambda x, y: torch.cat([x.mT, y.mT], 1), (2, 3, 4), (2, 3, 4)),
    "normalised": (lambda x, y: F.layer_norm(x, (3, 4)) + y, (2, 3, 4), (2, 3, 4)),
    "batch norm": (lambda x, y: F.batch_norm(x, y, y.exp(), training=False), (2, 3, 4), (3,)),
    "types meet": (lambda x, y: x + y.double(), (2, 3), (2, 3)),
    "to whole numbers": (lambda x, y: (x.long() + y.long()) / 2, (2, 3), (2, 3)),
    "a number of another type": (lambda x, y: x + y.double().sum(), (2, 3), (2, 3)),
    "powers": (lambda x, y: (x**2 + y**0.5).sqrt().neg(), (2, 3), (2, 3)),
}


@pytest.mark.parametrize("name", QUICK)
def test_quick_shapes_are_those_of_torch(name):
    """Results that are worked out here have the shape, type and layout that torch gives them."""
    function, *shapes = QUICK[name]
    seen = []

    def forward(m, *tensors):
        out = function(*tensors)
        seen.append((tuple(out.shape), out.dtype, out.stride()))
        return out

    predictor.trace(Call(forward), tuple(shapes))
    real = Call(forward)(*(torch.rand(shape) for shape in shapes))
    assert seen[0] == seen[-1] == (tuple(real.shape), real.dtype, real.stride())


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x, y: x + y, ((2, 3), (2, 4))), (lambda x, y: x.add_(y), ((3,), (2, 3))),
        (lambda x, y: torch.cat([x, y]), ((2, 3), (2, 4))),
        (lambda x, y: F.layer_norm(x, (5,)), ((2, 3), (1,))),
        (lambda x, y: F.batch_norm(x, y, y), ((2, 3, 4), (5,))),
    ],
)  # fmt: skip
def test_quick_shapes_refuse_what_torch_refuses(function, shapes):
    with pytest.raises((RuntimeError, ValueError)):
        function(*(torch.rand(shape) for shape in shapes))
    with pytest.raises(ModelError):
        predictor.trace(Call(lambda m, *t: function(*t)), shapes)


def test_what_a_failed_attempt_cached_is_gone_before_the_next():
    """Detectors cache their anchors and then meet a shape that depends on data."""

    def forward(m, x):
        if m.anchors is None:
            m.anchors = torch.zeros(5000, device=x.device) + x.sum()
        keep = torch.nonzero(m.anchors == m.anchors)
        return m.f(x) + keep.shape[0]

    graph = predictor.trace(Call(forward, anchors=None, f=nn.Linear(4, 2)), (5, 4))
    assert graph.macs == 5 * 4 * 2
