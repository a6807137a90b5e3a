"""The spaces of residual networks, vision transformers and decoders: figures, keys, equal graphs."""

from __future__ import annotations

from random import Random

import pytest

from predictor.errors import ConfigError
from predictor.frontends.families import decoder as family
from predictor.language import Language
from predictor.search.spaces.decoder import DecoderOnly
from predictor.search.spaces.find import SPACES, load_space
from predictor.search.spaces.resnet import ResNet
from predictor.search.spaces.vit import VisionTransformer, dividing

SIZES = {
    "ofa": 7 * 2 * 3**5 * 3**20 * 3**20, "fbnet": 9**22, "nasbench201": 5**6,
    "resnet": 6 * 3 * 2 * 3 * 4 * 6 * 9 * 4 * 5**4, "vit": 5 * 3 * 12 * 11 * 11 * 5,
    "decoder": 11 * 11 * 8 * 8 * 5 * 3 * 5,
}  # fmt: skip


def test_sizes() -> None:
    assert {name: load_space(name).space.size for name in SPACES} == SIZES


# -- residual networks ----------------------------------------------------------------------------


def resnet(
    bottleneck: bool, *depths: int, resolution: int = 224, **more: float
) -> dict[str, object]:
    values = {"resolution": resolution, "stem": 64, "bottleneck": bottleneck, "expansion": 4}
    values |= {f"depth_{stage}": depth for stage, depth in enumerate(depths, 1)}
    return {**values, **{f"width_{stage}": 1.0 for stage in range(1, 5)}, **more}


@pytest.mark.parametrize(
    ("bottleneck", "depths", "params", "gmacs"),
    [
        (False, (2, 2, 2, 2), 11_689_512, 1.814),
        (False, (3, 4, 6, 3), 21_797_672, 3.664),
        (True, (3, 4, 6, 3), 25_557_032, 4.089),
        (True, (3, 4, 23, 3), 44_549_160, 7.801),
    ],
)
def test_published_residual_networks(
    bottleneck: bool, depths: tuple[int, ...], params: int, gmacs: float
) -> None:
    graph = ResNet().graph(resnet(bottleneck, *depths))
    assert graph.params == params
    assert round(graph.macs / 1e9, 3) == gmacs


def test_a_small_residual_network_by_hand() -> None:
    values = resnet(False, 1, 1, 1, 1, resolution=128, stem=32, width_1=0.5, width_2=0.5)
    wanted, channels = 32 * 3 * 49 + 2 * 32, 32
    for width in (32, 64, 256, 512):
        wanted += 9 * width * channels + 9 * width * width + 4 * width
        wanted += channels * width + 2 * width if channels != width else 0
        channels = width
    assert ResNet().graph(values).params == wanted + 513 * 1000


def test_basic_blocks_have_no_expansion() -> None:
    space = ResNet()
    narrow, wide = ({**resnet(False, 1, 1, 1, 1), "expansion": e} for e in (2, 4))
    assert space.key(narrow) == space.key(wide)
    assert space.graph(narrow).ops == space.graph(wide).ops
    assert space.key(resnet(True, 1, 1, 1, 1)) != space.key(
        {**resnet(True, 1, 1, 1, 1), "expansion": 2}
    )


def test_equal_blocks_are_one_part() -> None:
    parts = [one for _, one in ResNet().chain(resnet(True, 3, 4, 6, 3))]
    assert len(parts) == 2 + 16
    assert len(set(parts)) == 2 + 4 + 3  # one kind of block in the first stage, two in the others


# -- vision transformers --------------------------------------------------------------------------


def vit(patch: int, depth: int, width: int, heads: int, resolution: int = 224) -> dict[str, object]:
    return {"resolution": resolution, "patch": patch, "depth": depth, "width": width,
            "heads": heads, "mlp_ratio": 4.0}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "params"),
    [((16, 12, 768, 12), 86_567_656), ((32, 12, 768, 12), 88_224_232),
     ((16, 24, 1024, 16), 304_326_632)],
)  # fmt: skip
def test_published_vision_transformers(shape: tuple[int, ...], params: int) -> None:
    assert VisionTransformer().graph(vit(*shape)).params == params


def test_the_work_of_a_vision_transformer_by_hand() -> None:
    graph = VisionTransformer().graph(vit(16, 12, 768, 12))
    tokens, width = 197, 768
    layer = tokens * width * width * (4 + 8) + 2 * tokens * tokens * width
    assert graph.macs == 196 * width * 3 * 256 + 12 * layer + width * 1000


def test_heads_divide_the_width() -> None:
    space = VisionTransformer()
    assert space.canonical(vit(16, 2, 256, 7))["heads"] == 8
    assert space.canonical(vit(16, 2, 320, 7))["heads"] == 8
    assert space.canonical(vit(16, 2, 192, 5))["heads"] == 4
    assert space.key(vit(16, 2, 256, 7)) == space.key(vit(16, 2, 256, 8))
    assert space.values(space.key(vit(16, 2, 256, 7)))["heads"] == 8
    assert dividing(768, 11, (8, 16), even=True) == 8
    with pytest.raises(ConfigError, match="128 channels cannot be split into 5 or 7 heads"):
        space.narrowed({"width": [128], "heads": [5, 7]})
    assert space.narrowed({"width": [320], "heads": [5]}).size == 900


def test_equal_layers_are_one_part() -> None:
    parts = [one for _, one in VisionTransformer().chain(vit(16, 24, 768, 12))]
    assert (len(parts), len(set(parts))) == (26, 3)


# -- decoders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_the_family_s_graph(seed: int) -> None:
    space = DecoderOnly()
    values = space.random(Random(seed))
    config = space.config(values)
    for batch in (1, 3):
        wanted = family.named_graph(config["model"], batch=batch,
                                    language=Language(sequence=config["sequence"]))  # fmt: skip
        graph = space.graph(values, batch)
        assert graph.ops == wanted.ops
        assert graph == wanted


def test_a_published_decoder() -> None:
    values = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "ffn_ratio": 3.5,
              "vocab": 128256, "sequence": 128}  # fmt: skip
    graph = DecoderOnly().graph(values)
    assert graph.params == family.graph(family.parse("llama-3-8b")).params == 8_030_261_248
    assert graph.input_specs[0].dtype == DecoderOnly().input_dtype() == "int64"


def test_groups_divide_the_heads() -> None:
    space = DecoderOnly()
    values = {"layers": 2, "hidden": 384, "heads": 10, "kv_heads": 8, "ffn_ratio": 2.0,
              "vocab": 32000, "sequence": 128}  # fmt: skip
    own = space.canonical(values)
    assert (own["heads"], own["kv_heads"]) == (8, 8)
    own = space.canonical({**values, "heads": 6})
    assert (own["heads"], own["kv_heads"]) == (6, 6)
    with pytest.raises(ConfigError, match="cannot be split"):
        space.narrowed({"heads": [6], "kv_heads": [4, 8]})
