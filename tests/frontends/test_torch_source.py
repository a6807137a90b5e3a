"""Source of a graph: it runs alone, costs what the graph costs and computes what the family does."""

import ast
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import predictor
from predictor.builder import GraphBuilder
from predictor.errors import ModelError
from predictor.frontends.families import family_graph, family_module
from predictor.frontends.load import load_graph
from predictor.frontends.torch_source import _TAKEN, module_of, source_of
from predictor.graph import VIEW_KINDS
from predictor.language import Language
from predictor.profiling.sampling import random_key

torch = pytest.importorskip("torch", reason="the source is PyTorch's")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KEYS = [random_key(space, random.Random(seed))
        for space in ("nasbench201", "fbnet", "ofa") for seed in (3, 4)]  # fmt: skip
BATCH_NORMS = 0.005
"""The most that a latency differs where a table of measurements knows a traced batch norm, which
returns two empty tensors more than a built one."""


def rows(graph, ignored=()):
    """Every operator that is no view: kind, cost and parameters."""
    return Counter(
        (op.kind, op.outputs[0].numel, op.macs, op.read_bytes, op.write_bytes, op.params)
        for op in graph.ops
        if op.kind not in (*VIEW_KINDS, *ignored)
    )


def traced(graph):
    specs = tuple({"shape": list(s.shape), "dtype": s.dtype} for s in graph.input_specs)
    with torch.device("meta"):
        module = module_of(graph).eval()
    return predictor.trace(module, specs if len(specs) > 1 else specs[0])


def made(spec):
    return torch.randn(spec.shape) if spec.is_float else torch.randint(2, spec.shape)


def run(graph, batch=None):
    """Shapes of what the module returns, for a batch of its own where one is given."""
    inputs = [made(spec) for spec in graph.input_specs]
    if batch is not None:
        inputs = [torch.cat([x] * batch)[:batch] for x in inputs]
    with torch.no_grad():
        result = module_of(graph).eval()(*inputs)
    return [tuple(x.shape) for x in (result if isinstance(result, tuple) else (result,))]


# -- families -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_the_source_of_a_family_costs_what_its_graph_costs(key):
    graph = family_graph(key)
    again = traced(graph)
    assert rows(again) == rows(graph)
    assert (again.macs, again.params) == (graph.macs, graph.params)
    here, there = (predictor.predict(g, device="jetson") for g in (graph, again))
    assert there.latency_ms == pytest.approx(here.latency_ms, rel=1e-6)
    assert [(k.kind, k.flops, k.bytes) for k in here.kernels] == [
        (k.kind, k.flops, k.bytes) for k in there.kernels
    ]


@pytest.mark.parametrize("key", KEYS)
def test_eager_latency_is_the_same_but_for_batch_norms_in_the_table(key):
    graph = family_graph(key)
    here, there = (predictor.predict(g, device="epyc-milan", runtime="eager")
                   for g in (graph, traced(graph)))  # fmt: skip
    assert there.latency_ms == pytest.approx(here.latency_ms, rel=BATCH_NORMS)
    zero = {op.name for op in graph.ops if op.attrs.get("zero")}
    for one, other in zip(here.kernels, there.kernels, strict=True):
        assert (one.kind, one.flops, one.bytes) == (other.kind, other.flops, other.bytes)
        if one.kind != "norm" and one.name not in zero:
            assert other.latency_ms == pytest.approx(one.latency_ms, rel=1e-6), one.name


@pytest.mark.parametrize("key", KEYS)
def test_the_source_computes_what_the_family_computes(key):
    graph = family_graph(key)
    family, ours = family_module(key).eval(), module_of(graph).eval()
    weights, places = family.state_dict(), ours.state_dict()
    assert [w.shape for w in weights.values()] == [w.shape for w in places.values()]
    assert sum(p.numel() for p in ours.parameters()) == graph.params
    # Statistics that are not 0 and 1, so that a norm left out would show.
    drawn = [torch.rand_like(w) + 0.5 if w.is_floating_point() and w.dim() == 1 else w
             for w in weights.values()]  # fmt: skip
    family.load_state_dict(dict(zip(weights, drawn, strict=True)))
    ours.load_state_dict(dict(zip(places, drawn, strict=True)))
    x = torch.randn(3, *graph.input_specs[0].shape[1:])  # and another batch than the graph's
    with torch.no_grad():
        expected, got = family(x), ours(x)
    scale = float(expected.abs().max()) or 1.0
    assert torch.allclose(got / scale, expected / scale, atol=1e-5)


def test_it_trains():
    module = module_of(family_graph(KEYS[0])).train()
    loss = torch.nn.functional.cross_entropy(module(torch.randn(4, 3, 32, 32)), torch.arange(4))
    loss.backward()
    assert all(p.grad is not None for name, p in module.named_parameters() if "classifier" in name)


@pytest.mark.parametrize("key", KEYS[::2])
def test_the_file_runs_alone(key, tmp_path):
    graph = family_graph(key)
    path = tmp_path / "network.py"
    path.write_text(source_of(graph), encoding="utf-8")
    names = {
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
        )
    }
    assert {name.partition(".")[0] for name in names} == {"torch"}
    done = subprocess.run([sys.executable, "-I", path.name], cwd=tmp_path, capture_output=True,
                          text=True, check=True, timeout=300)  # fmt: skip
    classes = graph.ops[-1].outputs[0].shape[1]
    assert done.stdout.splitlines() == [
        f"output (1, {classes})", f"{graph.params:,} parameters",
    ]  # fmt: skip
    assert not done.stderr


@pytest.mark.parametrize(
    "key", [KEYS[0], "decoder:layers=1,hidden=8,heads=2,ffn=16,vocab=9,rotary=no"]
)
def test_the_text_is_formatted(key):
    pytest.importorskip("ruff", reason="ruff looks at the text")
    text = source_of(load_graph(key))
    for command in (["format", "--diff"], ["check", "--select", "E,F,W,I,B,UP"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", command[0], "--isolated", "--line-length", "100",
             *command[1:], "-"], input=text, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


# -- transformers, layer lists --------------------------------------------------------------------


def transformer(causal=True, kv_heads=2):
    b = GraphBuilder("tiny transformer")
    ids = b.input((1, 12), name="ids", dtype="int64")
    x = b.embedding(ids, 50, 32, name="words")
    for layer in range(2):
        y = b.layer_norm(x, name=f"layers.{layer}.norm_1")
        heads = []
        for word, count in (("q", 4), ("k", kv_heads), ("v", kv_heads)):
            z = b.linear(y, count * 8, name=f"layers.{layer}.attention.{word}")
            z = b.reshape(z, (1, 12, count, 8), name=f"layers.{layer}.attention.{word}")
            heads.append(b.transpose(z, (0, 2, 1, 3), name=f"layers.{layer}.attention.{word}"))
        y = b.attention(*heads, causal=causal, name=f"layers.{layer}.attention")
        y = b.transpose(y, (0, 2, 1, 3), name=f"layers.{layer}.attention")
        (y,) = b.op("copy", [y], [y.shape], name=f"layers.{layer}.join", attrs={"fn": "clone"})
        y = b.reshape(y, (1, 12, 32), name=f"layers.{layer}.join")
        x = b.add(x, b.linear(y, 32, name=f"layers.{layer}.out"), name=f"layers.{layer}.add_1")
        y = b.rms_norm(x, name=f"layers.{layer}.norm_2")
        y = b.activation(b.linear(y, 64, name=f"layers.{layer}.in"), "gelu")
        x = b.add(x, b.linear(y, 32, name=f"layers.{layer}.down"), name=f"layers.{layer}.add_2")
    return b.finish(b.softmax(b.linear(x, 50, name="head")))


@pytest.mark.parametrize(("causal", "kv_heads"), [(True, 4), (False, 2), (True, 1)])
def test_a_transformer_costs_what_its_graph_costs(causal, kv_heads):
    graph = transformer(causal, kv_heads)
    again = traced(graph)
    assert rows(again) == rows(graph)
    assert again.params == graph.params
    for device, runtime in (("jetson", None), ("epyc-milan", "eager")):
        one, other = (predictor.predict(g, device=device, runtime=runtime).latency_ms
                      for g in (graph, again))  # fmt: skip
        assert other == pytest.approx(one, rel=1e-6)
    assert run(graph, batch=3) == [(3, 12, 50)]
    assert "is_causal=True" in source_of(graph) or not causal
    assert ("enable_gqa=True" in source_of(graph)) == (kv_heads < 4)


@pytest.mark.parametrize("name", ["config", "mobilenet_v2", "branches"])
def test_layer_lists_cost_what_their_graphs_cost(name):
    graph = load_graph(EXAMPLES / f"{name}.yaml")
    assert "check it" not in source_of(graph)
    again = traced(graph)
    assert rows(again) == rows(graph)
    assert again.params == graph.params
    one, other = (predictor.predict(g, device="jetson").latency_ms for g in (graph, again))
    assert other == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize(("name", "blocks"), [("transformer", 12), ("two_inputs", 1)])
def test_attention_copies_where_heads_join(name, blocks):
    """Tracing sees the copy that a layer list leaves out, and nothing else differs."""
    graph = load_graph(EXAMPLES / f"{name}.yaml")
    again = traced(graph)
    assert rows(again, ["copy"]) == rows(graph)
    assert sum(op.kind == "copy" for op in again.ops) == blocks
    assert again.params == graph.params


def test_what_the_graph_does_not_say_is_said():
    text = source_of(load_graph(EXAMPLES / "transformer.yaml"))
    assert "check it:\n- select_7: it takes position 0 of axis 1" in text


def test_recurrent_layers_run():
    graph = load_graph(EXAMPLES / "lstm.yaml")
    again = traced(graph)
    assert (again.macs, again.params) == (graph.macs, graph.params)
    (spec,) = [op.outputs[0] for op in graph.ops if op.output_ids == graph.output_ids]
    assert run(graph, batch=2) == [(2, *spec.shape[1:])]


def test_a_decoder_with_learned_positions_and_a_tied_head():
    graph = load_graph("decoder:layers=2,hidden=16,heads=2,ffn=32,vocab=30,rotary=no,positions=512,"
                       "tied=yes,norm=layer,bias=all,gated=no,activation=gelu")  # fmt: skip
    module = module_of(graph).eval()
    assert module.head.weight is module.embedding.weight
    assert sum(p.numel() for p in module.parameters()) == graph.params
    assert (traced(graph).macs, traced(graph).params) == (graph.macs, graph.params)
    ids = torch.tensor([[3, 3, 3]])
    with torch.no_grad():
        first, second, _ = module(ids)[0]
    assert not torch.allclose(first, second)  # the same word elsewhere


def test_rotary_positions_only_tell_distances():
    """Attention scores of the same words, moved by one position, stay as they were."""
    graph = load_graph("decoder:layers=1,hidden=16,heads=2,kv_heads=1,ffn=32,vocab=30")
    text = source_of(graph)
    assert "its rotary base is 10,000" in text
    module = module_of(graph).eval()
    assert sum(p.numel() for p in module.parameters()) == graph.params
    scope: dict = {"__name__": "network"}
    exec(text, scope)
    q, k = torch.randn(2, 1, 1, 1, 8)
    q, k = q.expand(1, 1, 6, 8), k.expand(1, 1, 6, 8)
    cos, sin = scope["rotary_tables"](q)
    q, k = (torch.addcmul(x * cos, scope["quarter_turned"](x), sin) for x in (q, k))
    scores = (q @ k.transpose(-1, -2))[0, 0]
    assert torch.allclose(scores[1:, 1:], scores[:-1, :-1], atol=1e-5)
    assert not torch.allclose(scores[0], scores[1])
    with torch.no_grad():
        assert module(torch.tensor([[1, 2, 3], [4, 5, 6]])).shape == (2, 3, 30)


# -- one operator at a time -----------------------------------------------------------------------

IMAGE, LINE, VOLUME, STEPS = (2, 8, 12, 12), (2, 8, 15), (2, 8, 6, 6, 6), (2, 7, 16)
LAYERS = [
    (LINE, lambda b, x: b.conv(x, 6, 3, padding=1)),
    (IMAGE, lambda b, x: b.conv(x, 4, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2))),
    (VOLUME, lambda b, x: b.conv(x, 8, 3, groups=4, bias=False)),
    (IMAGE, lambda b, x: b.conv(x, 8, 3, groups=8, padding="same", stride=2)),
    (IMAGE, lambda b, x: b.conv(x, 4, 3, stride=2, padding=1, output_padding=1, transposed=True)),
    (LINE, lambda b, x: b.conv(x, 4, 4, stride=2, dilation=2, groups=2, transposed=True)),
    (VOLUME, lambda b, x: b.conv(x, 4, 2, stride=2, transposed=True)),
    (STEPS, lambda b, x: b.linear(x, 5, bias=False)),
    (STEPS, lambda b, x: b.matmul(x, b.transpose(x, (0, 2, 1)))),
    (STEPS, lambda b, x: b.rnn(x, 9, mode="gru", layers=2, bidirectional=True)),
    (STEPS, lambda b, x: b.rnn(x, 9, mode="rnn", bias=False, batch_first=False)),
    (LINE, lambda b, x: b.batch_norm(x)), (VOLUME, lambda b, x: b.batch_norm(x)),
    (STEPS, lambda b, x: b.layer_norm(x, axes=2)), (STEPS, lambda b, x: b.rms_norm(x)),
    (IMAGE, lambda b, x: b.group_norm(x, 4)), (IMAGE, lambda b, x: b.instance_norm(x)),
    (IMAGE, lambda b, x: b.pool(x, "max", 3, stride=2, padding=1)),
    (IMAGE, lambda b, x: b.pool(x, "max", 3, stride=2, ceil_mode=True)),
    (LINE, lambda b, x: b.pool(x, "avg", 4)), (VOLUME, lambda b, x: b.pool(x, "max", 2)),
    (IMAGE, lambda b, x: b.pool(x, "avg", (3, 2), stride=(1, 2), padding=(1, 0))),
    (IMAGE, lambda b, x: b.global_pool(x, flatten=True)),
    (VOLUME, lambda b, x: b.global_pool(x, "max")),
    (IMAGE, lambda b, x: b.op("pool", [x], [(2, 8, 3, 4)], attrs={"type": "avg", "adaptive": True})[0]),
    (IMAGE, lambda b, x: b.resize(x, (24, 6), "bilinear")), (LINE, lambda b, x: b.resize(x, (30,))),
    (IMAGE, lambda b, x: b.concat([x, b.pool(x, "max", 1), x], -1)),
    (IMAGE, lambda b, x: b.concat(b.split(x, [3, 5])[::-1])),
    (IMAGE, lambda b, x: b.add(*b.split(x, [4, 4]))),
    (IMAGE, lambda b, x: b.reshape(b.transpose(x, (0, 2, 3, 1)), (2, 144, 8))),
    (IMAGE, lambda b, x: b.linear(b.reshape(x, (2 * 8, 144)), 3)),
    (STEPS, lambda b, x: b.elementwise("div", x, b.elementwise("exp", x))),
    (STEPS, lambda b, x: b.elementwise("sub", x, b.elementwise("maximum", x, b.elementwise("neg", x)))),
    (STEPS, lambda b, x: b.op("elementwise", [x], [x.shape], attrs={"fn": "mul"},
                              weights=[("weight", (16,), "parameter")])[0]),
    (STEPS, lambda b, x: b.op("reduce", [x], [(2, 16)], attrs={"fn": "mean"})[0]),
    (STEPS, lambda b, x: b.op("reduce", [x], [(2, 1, 16)], attrs={"fn": "amax"})[0]),
    (STEPS, lambda b, x: b.op("reduce", [x], [(2, 7)], attrs={"fn": "argmax"}, dtype="int64")[0]),
    (IMAGE, lambda b, x: b.op("copy", [x], [(2, 2, 24, 24)], attrs={"fn": "pixel_shuffle"})[0]),
    (IMAGE, lambda b, x: b.op("copy", [x], [(2, 32, 6, 6)], attrs={"fn": "pixel_unshuffle"})[0]),
    (IMAGE, lambda b, x: b.op("copy", [x], [(2, 8, 14, 15)], attrs={"fn": "constant_pad_nd"})[0]),
    (IMAGE, lambda b, x: b.op("copy", [x], [x.shape], attrs={"fn": "_to_copy"}, dtype="float16")[0]),
    (STEPS, lambda b, x: b.op("slice", [x], [(2, 3, 16)], attrs={"axis": 1})[0]),
    (STEPS, lambda b, x: b.op("activation", [x], [(2, 7, 8)], attrs={"fn": "glu"})[0]),
    (IMAGE, lambda b, x: b.op("activation", [x], [x.shape], attrs={"fn": "prelu"},
                              weights=[("weight", (8,), "parameter")])[0]),
    *((STEPS, lambda b, x, fn=fn: b.activation(x, fn)) for fn in (
        "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "sigmoid", "silu", "gelu", "tanh",
        "hardtanh", "hardsigmoid", "hardswish", "mish", "softplus", "logsigmoid", "threshold",
        "hardshrink", "softshrink", "rrelu")),
]  # fmt: skip
BROKEN_UP = {"instance", "rnn", "logsigmoid", "rrelu"}
"""What torch makes several operators of (running statistics repeated, states filled with zeros), or
writes or reads a second tensor for."""


@pytest.mark.parametrize(("shape", "make"), LAYERS)
def test_one_operator(shape, make):
    b = GraphBuilder("g")
    end = make(b, b.input(shape))
    graph = b.finish(end)
    again = traced(graph)
    words = {
        word for op in graph.ops for word in (op.kind, op.attrs.get("type"), op.attrs.get("fn"))
    }
    if not words & BROKEN_UP:
        assert rows(again) == rows(graph)
    assert (again.macs, again.params) == (graph.macs, graph.params)
    assert run(graph) == [end.shape]
    batch_is_free = "mode" not in graph.ops[0].attrs and graph.ops[0].kind != "reduce"
    if batch_is_free and end.shape[0] == 2:
        assert run(graph, batch=1) == [(1, *end.shape[1:])]


def test_an_even_window_that_keeps_the_size_pads_behind():
    b = GraphBuilder("g")
    graph = b.finish(b.conv(b.input((1, 3, 9, 9)), 4, 2, padding="same", stride=2))
    assert run(graph) == [(1, 4, 5, 5)]
    assert "F.pad(x, (0, 1, 0, 1))" in source_of(graph)


def test_pools_of_nasbench201_average_inside_the_image():
    assert "count_include_pad=False" in source_of(family_graph("nasbench201:|avg_pool_3x3~0|+"
        "|none~0|none~1|+|none~0|none~1|none~2|"))  # fmt: skip
    b = GraphBuilder("g")
    assert "count_include" not in source_of(
        b.finish(b.pool(b.input((1, 3, 9, 9)), "avg", 3, stride=1, padding=1))
    )


def test_shared_weights_are_one_module():
    b = GraphBuilder("g")
    x = b.input((1, 8))
    x = b.linear(x, 8, share="s", name="first")
    x = b.linear(x, 8, share="s", name="second")
    text = source_of(b.finish(x))
    assert text.count("nn.Linear") == 1
    assert text.count("self.first(x)") == 2


def test_inputs_and_results_keep_their_names_and_order():
    b = GraphBuilder("g")
    one, two = b.input((2, 4), name="left"), b.input((2, 4), name="right side")
    graph = b.finish(b.add(one, two), two)
    text = source_of(graph)
    assert "def forward(" in text
    assert "left: torch.Tensor, right_side: torch.Tensor" in text
    assert run(graph) == [(2, 4), (2, 4)]


# -- what cannot be written -------------------------------------------------------------------------


def test_what_cannot_be_written_is_named():
    for name in ("two words", "class", "torch", "sum"):
        with pytest.raises(ModelError, match="no name of a Python class"):
            source_of(family_graph(KEYS[0]), name)
    b = GraphBuilder("g")
    x = b.input((1, 3))
    (y,) = b.op("elementwise", [x], [x.shape], name="layers.3.half", attrs={"fn": "mul"})
    with pytest.raises(ModelError, match=r"layers\.3\.half: the graph does not say what 'mul'"):
        source_of(b.finish(y))


def test_caches_are_refused():
    key = "decoder:layers=1,hidden=8,heads=2,ffn=16,vocab=9"
    with pytest.raises(ModelError, match="a whole forward pass has no cache"):
        source_of(load_graph(key, language=Language(phase="decode", context=4)))


def test_graphs_of_modules_and_unknown_operators_are_refused():
    with pytest.raises(ModelError, match="use the module itself"):
        source_of(predictor.trace(torch.nn.LeakyReLU(0.3), (1, 3)))
    b = GraphBuilder("g")
    (x,) = b.op("warp", [x := b.input((1, 3))], [x.shape], name="strange")
    with pytest.raises(ModelError, match="strange: 'warp'"):
        source_of(b.finish(x))


HOSTILE = 'a"""\n__import__("os").abort()\n"""\\ \x1b[31m'


def test_names_from_files_stay_text():
    b = GraphBuilder(HOSTILE)
    x = b.linear(b.input((1, 3), name="class"), 4, name=HOSTILE)
    x = b.linear(b.activation(x, name=f"{HOSTILE}.0.act"), 4, name=f"{HOSTILE}.0.fc")
    x = b.linear(x, 4, name="forward")
    graph = b.finish(b.linear(x, 4, name="1"))
    assert run(graph) == [(1, 4)]
    text = source_of(graph, about=[HOSTILE, HOSTILE + '"'])
    assert "\x1b" not in text
    calls = {
        ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)
    }
    assert "__import__" not in calls


def test_names_that_every_module_has_are_not_taken():
    public = {name for name in dir(torch.nn.Module()) if not name.startswith("_")}
    assert public <= _TAKEN
