"""Exported networks compute what the module computes, and carry no weights."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
from torch import nn  # noqa: E402

from predictor.errors import ModelError  # noqa: E402
from predictor.frontends.onnx_export import (  # noqa: E402
    ALIGNMENT,
    WEIGHTS_FILE,
    export_onnx,
    export_whole,
    move_outside,
)


class Net(nn.Module):
    """A folded and a lone batch norm, a GELU, layer norm, a table, two equal biases."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, bias=False)
        self.folded, self.lone = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        self.act, self.wise = nn.Hardswish(), nn.Conv2d(16, 16, 1)
        self.norm, self.gelu = nn.LayerNorm(16), nn.GELU()
        self.table = nn.Parameter(torch.rand(9, 16))
        self.register_buffer("index", torch.arange(36) % 9)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        nn.init.zeros_(self.wise.bias)
        nn.init.zeros_(self.down.bias)

    def forward(self, x):
        x = self.wise(self.lone(self.act(self.folded(self.conv(x)))))
        x = x.flatten(2).transpose(1, 2) + self.table[self.index]
        return x + self.down(self.gelu(self.up(self.norm(x))))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net()


def test_with_its_own_weights_put_back_it_computes_the_same(net, tmp_path):
    model = export_whole(net, (1, 3, 8, 8))
    places = move_outside(model)
    data = bytearray(max(offset + len(data) for offset, data in places))
    for offset, part in places:
        assert offset % ALIGNMENT == 0
        assert not any(data[offset : offset + len(part)])  # nobody else's place
        data[offset : offset + len(part)] = part
    (tmp_path / WEIGHTS_FILE).write_bytes(data)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    session = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    x = torch.rand(1, 3, 8, 8)
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(got, net.eval()(x).numpy(), rtol=1e-4, atol=1e-5)


def test_the_file_names_the_weights_and_their_size(net):
    exported = export_onnx(net, (1, 3, 8, 8))
    model = onnx.load_from_string(exported.model_bytes)
    outside = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    ends = []
    for tensor in outside:
        entry = {item.key: item.value for item in tensor.external_data}
        assert entry["location"] == WEIGHTS_FILE
        assert int(entry["length"]) == 4 * np.prod(tensor.dims)
        ends.append(int(entry["offset"]) + int(entry["length"]))
    assert max(ends) == exported.weights_bytes
    # conv, its folded bias, wise and its bias, lone norm without its variance, table, layer norm,
    # up and down with biases: equal tensors have places of their own.
    assert len(outside) == 2 + 2 + 3 + 1 + 2 + 4
    assert not any(node.op_type == "Identity" for node in model.graph.node)
    norm = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    assert norm.input[4] not in {tensor.name for tensor in outside}


def test_nodes_are_single_operators_named_after_what_they_make(net):
    graph = export_whole(net, (1, 3, 8, 8)).graph
    assert {"HardSwish", "LayerNormalization", "Gelu"} <= {node.op_type for node in graph.node}
    assert all(node.name == node.output[0] for node in graph.node)
    assert len({node.name for node in graph.node}) == len(graph.node)


def test_weights_do_not_travel():
    wide = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 512))
    exported = export_onnx(wide, (1, 1024))
    assert len(exported.model_bytes) < 2000
    assert exported.weights_bytes == 4 * (1024 * 1024 + 1024 + 1024 * 512 + 512)


def test_an_older_operator_set_for_an_older_runtime(net):
    model = export_whole(net, (1, 3, 8, 8), 15)
    assert [entry.version for entry in model.opset_import] == [15]
    assert "LayerNormalization" not in {node.op_type for node in model.graph.node}


def test_half_precision_is_stored_in_half():
    exported = export_onnx(nn.Sequential(nn.Linear(64, 64)).half(), (1, 64))
    assert exported.weights_bytes == 2 * (64 * 64 + 64)


def test_the_mode_of_every_part_is_left_as_it_was(net):
    net.train()
    net.lone.eval()
    export_onnx(net, (1, 3, 8, 8))
    assert net.training
    assert net.folded.training
    assert not net.lone.training
    assert float(net.folded.num_batches_tracked) == 0


def test_several_inputs_and_keywords():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 16)

        def forward(self, ids, scale=None):
            return self.embed(ids) * scale

    inputs = {"ids": {"shape": (1, 7), "dtype": "int64"}, "scale": (1, 7, 16)}
    model = onnx.load_from_string(export_onnx(Two(), inputs).model_bytes)
    assert [value.name for value in model.graph.input] == ["ids", "scale"]


def test_what_torch_cannot_export_is_said_in_its_words(capfd):
    class Odd(nn.Module):
        def forward(self, x):
            raise RuntimeError("no luck today")

    with pytest.raises(ModelError, match=r"Odd: torch cannot export it .*no luck today"):
        export_onnx(Odd(), (1, 3))
    assert capfd.readouterr() == ("", "")


def test_a_module_without_numbers_is_refused():
    with torch.device("meta"):
        module = nn.Linear(4, 4)
    with pytest.raises(ModelError, match="meta"):
        export_onnx(module, (1, 4))
