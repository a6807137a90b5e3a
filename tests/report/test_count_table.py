from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from golden_files import check
from report_fakes import network

from predictor import counting
from predictor.builder import GraphBuilder
from predictor.errors import ConfigError
from predictor.graph import Graph
from predictor.report import count_table


def tied() -> Graph:
    """A decoder whose head shares the embedding's weights."""
    b = GraphBuilder("tied")
    x = b.input((1, 8, 4))
    for name in ("first", "second"):
        (x,) = b.op("linear", [x], [x.shape], name=name, share="w", attrs={"k": 4},
                    weights=[("weight", (4, 4), "parameter")])  # fmt: skip
    return b.finish(x)


def counted(**settings: Any) -> counting.Count:
    """With fixed fused figures: what a runtime fuses is not this test's matter."""
    fused = {"eager": 228_840, "tensorrt": 114_088}
    return replace(counting.count(network(), **settings), fused_memory_access_bytes=fused)


def test_layers_as_seen() -> None:
    check("count_layers", str(counted()))


def test_modules_as_seen() -> None:
    check("count_modules", str(counted(by="module", depth=2)))


def test_sweep_as_seen() -> None:
    counts = [(counting.count(network(b, r)), r) for b in (1, 8) for r in (32, 64)]
    check("count_sweep", count_table.render_sweep(counts))


def test_hand_computed() -> None:
    c = counting.count(network())
    conv, dw, head = 16 * 16 * 16 * 27, 16 * 16 * 16 * 9, 160
    assert (c.macs, c.flops) == (conv + dw + head, 2 * (conv + dw + head))
    assert c.params == c.trainable_params == (16 * 27 + 16) + 32 + 16 * 9 + 170
    # The norm's running statistics are buffers: they are stored, but are no parameters.
    assert c.model_mb == pytest.approx({"fp32": 826 * 4e-6, "fp16": 826 * 2e-6, "int8": 826e-6})
    assert tuple(c) == (c.macs, c.params)
    assert c.memory_access_bytes == c.read_bytes + c.write_bytes
    assert c.fused_memory_access_bytes["tensorrt"] < c.memory_access_bytes


def test_rows_add_up() -> None:
    c = counting.count(network())
    for name in ("macs", "flops", "elementwise_flops", "params", "read_bytes", "write_bytes"):
        assert sum(getattr(row, name) for row in c.rows) == getattr(c, name), name
    assert sum(row.share for row in c.rows) == pytest.approx(1.0)


def test_modules_contain_their_children() -> None:
    rows = {row.name: row for row in counting.count(network(), by="module").rows}
    assert rows["block"].macs == rows["block.0"].macs == rows["block.0.dw"].macs == 36864
    assert rows["block.0"].ops == 2
    assert rows["stem"].ops == 3
    assert not rows["block"].known
    assert [r.name for r in counting.count(network(), by="module", depth=1).rows][:2] == [
        "stem", "block",
    ]  # fmt: skip


def test_tied_weights_count_once() -> None:
    c = counting.count(tied())
    assert c.params == 16
    assert [row.params for row in c.rows] == [16, 0]


def test_unknown_operators_are_named() -> None:
    c = counting.count(network())
    assert c.unknown == {"warp": 1}
    text = count_table.unknown_text(c)
    assert text
    assert "warp x1" in text
    assert "warp (?)" in str(c)
    assert count_table.unknown_text(counting.count(tied())) is None


def test_shares_without_macs_are_of_elementwise_work() -> None:
    b = GraphBuilder("adds")
    x = b.input((1, 8))
    c = counting.count(b.finish(b.activation(b.add(x, x, name="a"), "relu", name="r")))
    assert c.macs == 0
    assert sum(row.share for row in c.rows) == pytest.approx(1.0)


def test_round_trip() -> None:
    c = counting.count(network())
    data = json.loads(json.dumps(c.to_dict(), allow_nan=False))
    assert data["schema_version"] == 1
    assert counting.Count.from_dict(data) == c


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"by": "row"}, "by='row'"), ({"depth": 0}, "depth=0"), ({"batch": 2}, "fixed shapes")],
)
def test_wrong_settings_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        counting.count(network(), **settings)  # type: ignore[arg-type]


def test_a_module_needs_inputs() -> None:
    with pytest.raises(ConfigError, match="inputs="):
        counting.count(object())


def test_torch_module_counts_like_thop() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.ReLU())
    macs, params = counting.count(module, (1, 3, 10, 10))
    assert (macs, params) == (8 * 8 * 8 * 27, 216)
