"""Winners: a configuration that is read again, source that runs, ONNX that gives its outputs."""

import subprocess
import sys

import pytest

from predictor.config import load_config
from predictor.errors import ConfigError, MissingExtra
from predictor.front import Limit, SearchResult, State, Trial
from predictor.frontends.families import FAMILIES, family_graph
from predictor.frontends.load import load_graph
from predictor.search import winners
from predictor.search.winners import slug, write_winners

CELL = "|{0}~0|+|none~0|{0}~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"
KEYS = {
    "nasbench201": (CELL.format("nor_conv_3x3"), CELL.format("nor_conv_1x1")),
    "ofa": ("ks=3,e=3,d=2,r=128,w=1", "ks=5,e=3,d=2,r=128,w=1"),
}


class FakeSpace:
    """Networks of a family by their keys."""

    def __init__(self, family="nasbench201"):
        self.name = family

    def graph(self, values):
        return family_graph(f"{self.name}:{values['key']}")

    def config(self, values):
        family = FAMILIES[self.name]
        side = family.resolution(family.parse(values["key"]))
        return {"model": f"{self.name}:{values['key']}", "inputs": [1, 3, side, side]}


def trial(number, key, accuracy, on_front=True, **more):
    figures = {"macs": 52_000_000.0, "params": 400_000.0, "latency_ms jetson": 2.5,
               "low_ms jetson": 2.0, "high_ms jetson": 3.25, "measured_ms jetson": 2.6}  # fmt: skip
    return Trial(number, key, {"key": key}, State.COMPLETE, accuracy, figures, on_front=on_front,
                 **more)  # fmt: skip


def result(family="nasbench201", trials=None, **more):
    keys = KEYS[family]
    trials = trials or (trial(0, keys[0], 70.25), trial(1, "unread", 60.0, False),
                        trial(2, keys[1], 72.5))  # fmt: skip
    given = {
        "space": family, "signal": "table", "sampler": "tpe", "seed": 3, "devices": ("jetson",),
        "limits": (Limit("latency_ms", 10, "jetson"), Limit("params", 1.5e6)),
        "objectives": ("accuracy", "latency_ms jetson"), "trials": tuple(trials), "unit": "%",
    }  # fmt: skip
    return SearchResult(**{**given, **more})


def test_the_best_come_first_and_only_those_of_the_front(tmp_path):
    folders = write_winners(result(), FakeSpace(), tmp_path / "new" / "winners", 5)
    assert [folder.name[:3] for folder in folders] == ["01-", "02-"]
    first = (folders[0] / "config.yaml").read_text()
    assert "accuracy, as scored by table: 72.50 %" in first
    assert write_winners(result(), FakeSpace(), tmp_path, 1)[0].name == folders[0].name
    assert write_winners(result(trials=[trial(0, "a", 1.0, False)]), FakeSpace(), tmp_path, 3) == []
    with pytest.raises(ConfigError, match="write 1 or more"):
        write_winners(result(), FakeSpace(), tmp_path, 0)


@pytest.mark.parametrize("family", KEYS)
def test_the_configuration_is_the_network_of_the_trial(family, tmp_path):
    folders = write_winners(result(family), FakeSpace(family), tmp_path, 2)
    for folder, key in zip(folders, reversed(KEYS[family]), strict=True):
        path = folder / "config.yaml"
        config = load_config(str(path))
        assert (config.device, config.budget.latency_ms, config.budget.params) == (
            "jetson",
            10,
            1.5e6,
        )
        assert load_graph(path).ops == family_graph(f"{family}:{key}").ops
        text = path.read_text()
        assert "# latency on jetson, predicted: 2.50 ms (90 % interval 2.00 ms to 3.25 ms)" in text
        assert "inputs: [1, 3, " in text


def test_what_a_configuration_cannot_say_is_a_comment(tmp_path):
    limits = (Limit("latency_ms", 10, "jetson", upper=True), Limit("latency_ms", 99, "rpi"),
              Limit("latency_ms", 12, "jetson"))  # fmt: skip
    (folder,) = write_winners(
        result(limits=limits, devices=("jetson", "rpi")), FakeSpace(), tmp_path, 1
    )
    text = (folder / "config.yaml").read_text()
    assert (
        "# another limit of the search: latency on jetson 10.0 ms (upper end of the 90 % interval)\n"
        in text
    )
    assert "# another limit of the search: latency on rpi 99.0 ms\n" in text
    assert "# another device of the search: rpi\n" in text
    assert load_config(str(folder / "config.yaml")).budget.latency_ms == 12


@pytest.mark.parametrize("family", KEYS)
def test_the_files_run(family, tmp_path):
    torch = pytest.importorskip("torch", reason="the source is PyTorch's")
    pytest.importorskip("onnx", reason="the networks are exported")
    runtime = pytest.importorskip("onnxruntime", reason="the files are run")
    from predictor.frontends.torch_source import module_of

    (folder,) = write_winners(result(family), FakeSpace(family), tmp_path, 1)
    assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "network.onnx", "network.py"]
    done = subprocess.run([sys.executable, "-I", "network.py"], cwd=folder, capture_output=True,
                          text=True, check=True, timeout=300)  # fmt: skip
    graph = family_graph(f"{family}:{KEYS[family][1]}")
    assert f"{graph.params:,} parameters" in done.stdout
    assert "latency on jetson, measured: 2.60 ms" in (folder / "network.py").read_text()

    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(folder / "network.onnx"), options)
    assert [x.name for x in session.get_inputs()] == ["input"]
    assert [x.name for x in session.get_outputs()] == ["output"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = module_of(graph).eval()
    x = torch.randn(graph.input_specs[0].shape)
    with torch.no_grad():
        expected = module(x)
    (got,) = session.run(None, {"input": x.numpy()})
    assert abs(got - expected.numpy()).max() < 1e-5 * max(1.0, float(expected.abs().max()))


def test_the_same_network_gives_the_same_files(tmp_path):
    pytest.importorskip("torch", reason="the networks are exported")
    pytest.importorskip("onnx", reason="the networks are exported")
    one, two = (write_winners(result(), FakeSpace(), tmp_path / name, 1)[0] for name in "ab")
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes(), path.name


def test_without_torch_the_configuration_is_there_and_a_note(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (folder,) = write_winners(result(), FakeSpace(), tmp_path, 1)
    assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "left-out.txt", "network.py"]
    note = (folder / "left-out.txt").read_text()
    assert note.startswith("network.onnx: exporting needs torch and onnx")
    assert "pip install 'latency-predictor[torch,onnx]'" in note
    with pytest.raises(MissingExtra):
        winners.onnx_of(family_graph(f"nasbench201:{KEYS['nasbench201'][0]}"))


def test_a_network_that_is_code_is_exported_from_its_own_module(tmp_path):
    torch = pytest.importorskip("torch", reason="the networks are modules")
    pytest.importorskip("onnx", reason="the networks are exported")
    import predictor

    class Code(FakeSpace):
        def module(self, values):
            return torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.LeakyReLU(0.3))

        def graph(self, values):
            return predictor.trace(self.module(values), (1, 8))

    (folder,) = write_winners(result(), Code(), tmp_path, 1)
    assert (folder / "network.onnx").stat().st_size > 100
    note = (folder / "left-out.txt").read_text()
    assert note.startswith("network.py: ")
    assert "use the module itself" in note
    assert "network.onnx" not in note


def test_hostile_keys_stay_in_their_folder_and_their_line(tmp_path):
    key = '../../x\n"""\nimport os\n\x1b[31m# device: a'

    class Hostile(FakeSpace):
        def graph(self, values):
            return family_graph(f"nasbench201:{KEYS['nasbench201'][0]}")

        def config(self, values):
            return {"model": f"nasbench201:{KEYS['nasbench201'][0]}", "inputs": [1, 3, 32, 32]}

    (folder,) = write_winners(result(trials=[trial(0, key, 1.0)]), Hostile(), tmp_path, 1)
    assert folder.parent == tmp_path
    assert load_config(str(folder / "config.yaml")).device == "jetson"
    compile((folder / "network.py").read_text(), "network.py", "exec")
    assert "\nimport os" not in (folder / "network.py").read_text()


def test_slugs_are_short_names_told_apart():
    assert slug("ks=7,e=6,d=4") == "ks-7-e-6-d-4"
    long = "-".join(["7"] * 60)
    assert len(slug(long)) <= winners.LONGEST_SLUG
    assert slug(long) != slug(long + "-7")
    for odd in ("", "..", "|||", "ü", "con/../x"):
        name = slug(odd)
        assert name
        assert not set(name) & set("/\\:|")
        assert not name.startswith(".")
        assert ".." not in name


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file.*cannot be written"):
        write_winners(result(), FakeSpace(), tmp_path / "file", 1)
