"""``docs/add-an-operator.md``, followed to the letter by somebody who knows nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "add-an-operator.md").read_text(encoding="utf-8")
CALL, FILE, USE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
PRINTS = re.findall(r"^It prints\n\n    (.*)$", PAGE, re.MULTILINE)
NAME = re.findall(r"This one is `([\w/.]+)`", PAGE)[0]

ONNX = """
from onnx import TensorProto, helper, save
import predictor

points = helper.make_tensor_value_info("points", TensorProto.FLOAT, [1, 1024, 3])
index = helper.make_tensor_value_info("index", TensorProto.INT64, [1, 1024, 16])
node = helper.make_node("NearestNeighbours", ["points"], ["index"], domain="mine")
save(helper.make_model(helper.make_graph([node], "net", [points], [index])), "net.onnx")
graph = predictor.load_graph("net.onnx")
print(graph.macs, graph.unknown)
"""

BUILDER = """
from predictor.builder import GraphBuilder
from predictor.kernels.fusion import fuse
from predictor.operators import gemm_of

b = GraphBuilder("cloud")
x = b.input((2, 100, 3))
graph = b.finish(*b.op("knn", [x], [(2, 100, 16)]))
op = graph.ops[0]
print(op.macs, op.elementwise_flops, tuple(gemm_of(op)), len(fuse(graph, "tensorrt")), op.known)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout as a new user has it."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPO / "predictor", tmp_path / "predictor", ignore=ignored)
    shutil.copytree(REPO / "profiles", tmp_path / "profiles", ignore=ignored)
    return tmp_path


def say(code: str, checkout: Path) -> str:
    """What a script prints that is run in the checkout."""
    script = checkout / "script.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=checkout, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(checkout)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_one_call(checkout: Path) -> None:
    pytest.importorskip("torch", reason="the page's layer is a torch module")
    assert say(CALL, checkout) == PRINTS[0]


def test_one_file_and_the_operator_is_counted(checkout: Path) -> None:
    unknown = say(BUILDER.replace("tuple(gemm_of(op))", "gemm_of(op)"), checkout)
    assert unknown == "0 0 None 1 False"
    (checkout / NAME).write_text(FILE, encoding="utf-8")
    assert say(BUILDER, checkout) == "60000 20000 (2, 100, 100, 3) 1 True"


def test_one_file_and_torch_models_use_it(checkout: Path) -> None:
    pytest.importorskip("torch", reason="the page's operator is a torch operator")
    (checkout / NAME).write_text(FILE, encoding="utf-8")
    assert say(USE, checkout) == PRINTS[1]


def test_one_file_and_onnx_models_use_it(checkout: Path) -> None:
    pytest.importorskip("onnx", reason="reads an ONNX file")
    (checkout / NAME).write_text(FILE, encoding="utf-8")
    assert say(ONNX, checkout) == "3145728 ()"


def test_a_name_that_is_taken_is_refused(checkout: Path) -> None:
    (checkout / NAME).write_text(FILE.replace('Kind("knn"', 'Kind("conv"'), encoding="utf-8")
    code = """
        import predictor
        try:
            predictor.register_custom
        except predictor.PredictorError as error:
            print(error)
    """
    assert "'conv' is defined twice" in say(re.sub(r"^ {8}", "", code, flags=re.M), checkout)
