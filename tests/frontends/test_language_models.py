"""Prefill and decode: described and traced decoders against formulas worked out by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import predictor
from predictor import cli
from predictor.config import parse_config
from predictor.errors import ConfigError, ModelError
from predictor.frontends.families.decoder import decoder_from, graph, parse, shapes
from predictor.frontends.load import load_graph
from predictor.kernels.fusion import fuse
from predictor.kernels.rules import load_rules
from predictor.language import CACHE, Decoder, Language

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = {
    "gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200, "opt-1.3b": 1_315_758_080, "opt-6.7b": 6_658_473_984,
    "llama-2-7b": 6_738_415_616, "llama-2-13b": 13_015_864_320, "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248, "llama-3-70b": 70_553_706_496, "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824, "mistral-7b": 7_241_732_096, "tinyllama-1.1b": 1_100_048_384,
    "qwen2-0.5b": 494_032_768, "qwen2-1.5b": 1_543_714_304, "qwen2-7b": 7_615_616_512,
}  # fmt: skip
"""Parameters that the published checkpoints hold."""

SMALL = Decoder(layers=2, hidden=256, heads=8, kv_heads=2, ffn=640, vocab=1000)
GROUPED = "decoder:" + "layers=2,hidden=256,heads=8,kv_heads=2,ffn=640,vocab=1000"


def macs(d: Decoder, batch: int, new: int, cached: int, scored: int) -> int:
    """By hand: every weight of a linear layer once a token, scores and values once a pair."""
    q = d.hidden * d.heads * d.width
    kv = 2 * d.hidden * d.groups * d.width
    ffn = (3 if d.gated else 2) * d.hidden * d.ffn
    linear = batch * new * d.layers * (2 * q + kv + ffn)
    attention = d.layers * batch * d.heads * new * (cached + new) * 2 * d.width
    return linear + attention + batch * scored * d.hidden * d.vocab


def cache_bytes(d: Decoder, batch: int, tokens: int, element: int) -> int:
    return 2 * d.layers * batch * d.groups * d.width * tokens * element


@pytest.mark.parametrize("name", sorted(shapes()))
def test_published_shapes_have_their_published_parameters(name: str) -> None:
    assert load_graph(f"decoder:{name}").params == PUBLISHED[name]


@pytest.mark.parametrize("name", ["gpt2", "llama-3-8b", "opt-1.3b", "qwen2-0.5b"])
@pytest.mark.parametrize("batch", [1, 3])
def test_macs_are_those_worked_out_by_hand(name: str, batch: int) -> None:
    d = parse(name)
    decode = Language("decode", context=500)
    assert graph(d, batch=batch, language=decode).macs == macs(d, batch, 1, 500, 1)
    prefill = Language("prefill", sequence=96)
    assert graph(d, batch=batch, language=prefill).macs == macs(d, batch, 96, 0, 1)
    continued = Language("prefill", sequence=32, context=64)
    assert graph(d, batch=batch, language=continued).macs == macs(d, batch, 32, 64, 1)
    plain = Language(sequence=96)  # no phase: scores of all tokens, no cache
    assert graph(d, batch=batch, language=plain).macs == macs(d, batch, 96, 0, 96)


def test_a_decode_step_in_round_numbers() -> None:
    """Llama-3-8B after 2,047 tokens: 7.5 G MACs of weights and 0.54 G of attention."""
    found = graph(parse("llama-3-8b"), language=Language("decode", context=2047)).macs
    block = 4096 * 4096 * 2 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    assert found == 32 * block + 4096 * 128256 + 32 * 32 * 2048 * 2 * 128 == 8_041_529_344


@pytest.mark.parametrize(("precision", "element"), [("fp32", 4), ("fp16", 2), ("bf16", 2)])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_cache_is_read_written_and_needed(precision: str, element: int, phase: str) -> None:
    d = parse("llama-3.2-1b")
    lengths = {"context": 1000} if phase == "decode" else {"sequence": 1001}
    estimate = predictor.predict("decoder:llama-3.2-1b", device="a100", precision=precision,
                                 batch=2, phase=phase, **lengths)  # fmt: skip
    cache = cache_bytes(d, 2, 1001, element)
    assert estimate.language["kv_cache_mb"] == cache / 1e6
    assert estimate.model_mb == pytest.approx(d_bytes("llama-3.2-1b", element) / 1e6)
    assert estimate.peak_activation_mb > cache / 1e6
    assert estimate.memory_needed_mb == estimate.model_mb + estimate.peak_activation_mb
    attention = [k for k in estimate.kernels if k.kind == "attention"]
    new = 1 if phase == "decode" else 1001
    q_and_out = 2 * 2 * d.heads * d.width * new * element
    assert [k.bytes for k in attention] == [cache // d.layers + q_and_out] * d.layers
    written = [k for k in estimate.kernels if "cache" in k.name]
    one = 2 * d.groups * d.width * new * element
    assert [k.bytes for k in written] == [2 * one] * 2 * d.layers


def d_bytes(name: str, element: int) -> int:
    return PUBLISHED[name] * element


def test_tokens_and_times() -> None:
    settings = {"device": "a100", "precision": "fp16", "batch": 4}
    first = predictor.predict("decoder:gpt2", phase="prefill", sequence=512, **settings)
    assert first.language["time_to_first_token_ms"] == first.latency_ms
    assert first.language["tokens_per_second"] == pytest.approx(4 * 512e3 / first.latency_ms)
    step = predictor.predict("decoder:gpt2", phase="decode", context=512, **settings)
    assert step.language["time_per_output_token_ms"] == step.latency_ms
    assert step.language["tokens_per_second"] == pytest.approx(4e3 / step.latency_ms)
    assert (step.language["new_tokens"], step.language["cached_tokens"]) == (1, 512)
    assert type(step).from_dict(json.loads(json.dumps(step.to_dict()))) == step
    assert not predictor.predict("decoder:gpt2", **settings).language
    longer = predictor.predict("decoder:llama-3-8b", phase="decode", context=65536, **settings)
    shorter = predictor.predict("decoder:llama-3-8b", phase="decode", context=1024, **settings)
    assert longer.latency_ms > 1.5 * shorter.latency_ms


def test_eager_attention_is_several_kernels_and_copies_grouped_heads() -> None:
    fused = load_graph(GROUPED, language=Language("decode", context=100))
    eager = load_graph(GROUPED, language=Language("decode", context=100, attention="eager"))
    assert eager.macs == fused.macs
    copies = [op for op in eager.ops if op.name.endswith(".repeat")]
    assert [op.outputs[0].shape for op in copies] == [(1, 8, 101, 32)] * 4
    assert not any(op.name.endswith(".repeat") for op in fused.ops)
    slow = predictor.predict(GROUPED, device="a100", precision="fp16", phase="decode",
                             context=4096, attention="eager")  # fmt: skip
    fast = predictor.predict(GROUPED, device="a100", precision="fp16", phase="decode",
                             context=4096, attention="fused")  # fmt: skip
    assert {"softmax", "matmul"} <= {k.kind for k in slow.kernels}
    assert not {"softmax", "matmul"} & {k.kind for k in fast.kernels}
    assert slow.latency_ms > fast.latency_ms
    # The choice holds for any model, and against the runtime's own rules.
    kinds = [k.kind for k in fuse(fused, load_rules("tensorrt-7"))]
    assert "attention" not in kinds
    vit = predictor.predict(
        "examples/transformer.yaml", device="a100", runtime="tensorrt", attention="eager"
    )
    assert not any(k.kind == "attention" for k in vit.kernels)


# --- traced --------------------------------------------------------------------------------------

TRACED = [
    ("gpt2", {"n_layer": 2}, "gpt2,layers=2"),
    ("llama", {"num_hidden_layers": 2}, "llama-2-7b,layers=2"),
    ("mistral", {"num_hidden_layers": 2, "sliding_window": None}, "mistral-7b,layers=2"),
    ("qwen2", {"num_hidden_layers": 2, "hidden_size": 896, "num_attention_heads": 14,
               "num_key_value_heads": 2, "intermediate_size": 4864, "tie_word_embeddings": True},
     "qwen2-0.5b,layers=2"),
    ("opt", {"num_hidden_layers": 2, "hidden_size": 2048, "num_attention_heads": 32, "ffn_dim": 8192,
             "word_embed_proj_dim": 2048}, "opt-1.3b,layers=2"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "args", "key"), TRACED, ids=[kind for kind, *_ in TRACED])
def test_what_is_traced_is_what_is_described(
    kind: str, args: dict[str, object], key: str, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    if kind not in transformers.CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {kind}")
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": kind, **args}))
    for language in (
        Language("decode", context=300, attention="fused"),
        Language("decode", context=300, attention="eager"),
        Language("prefill", sequence=40),
        Language("prefill", sequence=40, context=24),
    ):
        traced = load_graph(f"transformers:{file}", batch=2, language=language)
        described = graph(parse(key), batch=2, language=language)
        # Some versions work out rotary angles by a product of positions and frequencies.
        angles = sum(op.macs for op in traced.ops if "rotary" in op.name)
        assert traced.macs - angles == described.macs
        assert traced.params == described.params
        caches = [s for n, s in zip(traced.input_names, traced.input_specs, strict=True)
                  if n.startswith(CACHE)]  # fmt: skip
        ours = [s for n, s in zip(described.input_names, described.input_specs, strict=True)
                if n.startswith(CACHE)]  # fmt: skip
        assert caches == ours
        assert not traced.unknown
        if language.attention == "fused":
            assert sum(op.kind == "attention" for op in traced.ops) == 2
        if language.attention == "eager":
            assert not any(op.kind == "attention" for op in traced.ops)


def test_models_without_a_cache_say_so() -> None:
    pytest.importorskip("transformers")
    decode = Language("decode")
    with pytest.raises(ModelError, match="keeps no cache of keys and values"):
        load_graph("transformers:mamba", language=decode)
    with pytest.raises(ModelError, match="'vit' does not make text token by token"):
        load_graph("transformers:vit", language=decode)


def test_sequence_alone_is_the_length_of_a_text() -> None:
    pytest.importorskip("transformers")
    found = load_graph("transformers:bert", language=Language(sequence=64), batch=2)
    assert found.input_specs[0].shape == (2, 64)
    with pytest.raises(ModelError, match="sequence counts tokens, and this model reads pixel"):
        load_graph("transformers:vit", language=Language(sequence=64))
    with pytest.raises(ModelError, match="give one of them"):
        load_graph("transformers:bert", inputs=(1, 5), language=Language(sequence=64))


# --- files, keys, command line -------------------------------------------------------------------


def test_a_decoder_in_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
model:
  name: mine
  decoder: {layers: 2, hidden: 256, heads: 8, kv_heads: 2, ffn: 640, vocab: 1000}
device: a100
precision: bf16
batch: 2
phase: decode
context: 100
"""
    path = tmp_path / "net.yaml"
    path.write_text(text)
    config = parse_config(text)
    assert config.language == Language("decode", context=100)
    assert type(config).from_dict(config.to_dict()) == config
    assert cli.run([str(path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["model"], data["macs"]) == ("mine", macs(SMALL, 2, 1, 100, 1))
    # The command line wins; a length that its phase has no place for is left behind.
    assert cli.run([str(path), "--json", "--phase", "prefill", "--sequence", "9"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["macs"] == macs(SMALL, 2, 9, 100, 1)
    path.write_text(text.replace("phase: decode\ncontext: 100", "phase: prefill\nsequence: 50"))
    assert cli.run([str(path), "--json", "--phase", "decode", "--context", "7"]) == 0
    assert json.loads(capsys.readouterr().out)["macs"] == macs(SMALL, 2, 1, 7, 1)


def test_what_people_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["decoder:llama-3-8b", "-d", "a100", "--precision", "fp16", "--phase", "decode",
                    "--context", "2047"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    for words in ("decode, 1 new token, 2,047 in the cache before", "an output token, ",
                  "tokens/s", "KV cache", "268 MB after the pass", "sampling"):  # fmt: skip
        assert words in out
    assert "frames/s" not in out
    assert cli.run(["decoder:gpt2", "-d", "a100", "--phase", "prefill", "--sequence", "64"]) == 0
    assert "to the first token" in capsys.readouterr().out


def test_a_table_of_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.csv").write_text(
        "model,phase,sequence,context,attention\n"
        f'"{GROUPED}",decode,,100,eager\n"{GROUPED}",prefill,64,0,\n'
        f'"{GROUPED}",decode,64,,\n"{GROUPED}",dekode,,,\n'
    )
    assert cli.run(["batch", str(tmp_path / "m.csv"), "-d", "a100"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    eager = predictor.predict(GROUPED, device="a100", phase="decode", context=100,
                              attention="eager").latency_ms  # fmt: skip
    assert f",{eager:.7g}," in rows[0]
    assert rows[1].endswith(",")
    assert "decode makes one token" in rows[2]
    assert "Did you mean 'decode'?" in rows[3]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"phase": "decod"}, "Did you mean 'decode'?"),
        ({"phase": "decode", "sequence": 5}, "decode makes one token"),
        ({"context": 5}, "add phase: decode or prefill"),
        ({"phase": "decode", "context": -1}, "use a whole number from 0"),
        ({"phase": "prefill", "sequence": 0}, "use a whole number from 1"),
        ({"attention": "flash"}, "Known: eager, fused"),
        ({"phase": "decode", "context": 1024}, "1025 tokens, and the model has 1024 positions"),
    ],
)
def test_wrong_settings(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        predictor.predict("decoder:gpt2", device="a100", **settings)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("lama-3-8b", "Did you mean 'llama-3-8b'?"),
        ("layers=2", "hidden, heads, ffn, vocab: missing"),
        ("gpt2,layer=3", "'layer=3' is no setting. Did you mean 'layers'?"),
        ("gpt2,layers=x", "use a whole number"),
        ("gpt2,layers=0", "layers 0: use 1"),
        ("gpt2,layers=3,layers=4", "layers= stands twice"),
        ("gpt2,tied=maybe", "use yes or no"),
        ("gpt2,norm=batch", "unknown norm 'batch'"),
        ("gpt2,heads=7", "hidden 768 is no multiple of heads 7"),
        ("gpt2,kv_heads=5", "heads 12 is no multiple of kv_heads 5"),
        ("", "no decoder of the name ''"),
    ],
)
def test_wrong_keys(key: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_graph(f"decoder:{key}")
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"decoder:{key}: ")


def test_mistakes_in_a_config_have_their_place() -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml:4:1: phase: decode makes one token"):
        parse_config("model: decoder:gpt2\ndevice: a100\nsequence: 5\nphase: decode\n")
    with pytest.raises(ConfigError, match=r"hiden: unknown key\. Did you mean 'hidden'\?"):
        parse_config("model: {decoder: {hiden: 5}}\n")
    with pytest.raises(ConfigError, match="both layers and decoder"):
        parse_config("model: {decoder: {like: gpt2}, layers: [relu]}\ninputs: [1, 2]\n")
    config = parse_config("model: {decoder: {like: gpt3}}\n")
    with pytest.raises(ModelError, match=r"config\.yaml:1:9: model\.decoder: no decoder of the"):
        load_graph("x", config=config)


def test_phases_are_for_language_models() -> None:
    with pytest.raises(ModelError, match="are for language models"):
        load_graph("ofa:ks=3,e=3,d=2", language=Language("decode"))
    with pytest.raises(ModelError, match="are for language models"):
        predictor.predict(str(ROOT / "examples" / "config.yaml"), device="a100", phase="decode")
    with pytest.raises(ConfigError, match="names and files of language models"):
        predictor.predict(load_graph(GROUPED), device="a100", phase="decode")
    with pytest.raises(ModelError, match="give batch, sequence, context"):
        load_graph(GROUPED, resolution=224)


def test_like_and_changes() -> None:
    assert decoder_from({"like": "gpt2", "layers": 3}) == parse("gpt2,layers=3")
    assert parse("gpt2,tied=no").tied is False
    with pytest.raises(ModelError, match="unknown key 'depht'"):
        decoder_from({"like": "gpt2", "depht": 3})


def test_a_description_needs_no_torch() -> None:
    code = (
        "import sys, predictor; predictor.predict('decoder:llama-3-8b', device='a100', "
        "phase='decode', context=512)\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
