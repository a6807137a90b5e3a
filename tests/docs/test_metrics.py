"""Every worked number of the metrics pages is what the code counts, in both languages.

A table whose first heading is ``layer`` counts a layer list, one whose first heading is ``kind``
an operator made directly. A cell may show its arithmetic: ``64 × 9 = 576``. Python blocks are
doctests.
"""

from __future__ import annotations

import ast
import doctest
import math
import operator
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from predictor.frontends.layer_list import build_layers
from predictor.graph import DTYPE_BYTES, Graph, Op, TensorSpec
from predictor.operators import KINDS, make_op
from predictor.operators.elementwise import ACTIVATION_FLOPS
from predictor.operators.memory_bound import RESIZE_FLOPS
from predictor.operators.norm import NORM_FLOPS
from predictor.operators.rnn import GATES, STEP_FLOPS

REPO = Path(__file__).parents[2]
PAGES = {"en": REPO / "docs" / "metrics.md", "zh": REPO / "docs" / "metrics.zh.md"}

HEADINGS: dict[str, Callable[[list[Op]], int]] = {
    "MACs": lambda ops: sum(op.macs for op in ops),
    "element-wise FLOPs": lambda ops: sum(op.elementwise_flops for op in ops),
    "params": lambda ops: sum(op.params for op in ops),
    "bytes read": lambda ops: sum(op.read_bytes for op in ops),
    "bytes written": lambda ops: sum(op.write_bytes for op in ops),
    "parallelism": lambda ops: max(op.parallelism for op in ops),
}
CHINESE = {
    "层": "layer", "输入": "input", "算子": "kind", "输出": "output", "权重": "weights",
    "属性": "attributes", "逐元素 FLOPs": "element-wise FLOPs", "参数量": "params",
    "读取字节数": "bytes read", "写入字节数": "bytes written", "并行度": "parallelism",
    "函数": "function", "每元素运算数": "operations", "类型": "type", "门数": "gates",
    "插值方式": "mode", "元素类型": "element type", "字节数": "bytes",
}  # fmt: skip

Table = tuple[list[str], list[list[str]]]


def tables(text: str) -> Iterator[Table]:
    """Headings (in English) and rows of every table."""
    lines = iter(text.splitlines())
    for line in lines:
        if not line.startswith("|"):
            continue
        headings = [CHINESE.get(cell, cell) for cell in _cells(line)]
        next(lines)
        rows = []
        for row in lines:
            if not row.startswith("|"):
                break
            rows.append(_cells(row))
        yield headings, rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def value(cell: str) -> int:
    """The number of a cell; arithmetic in front of it must give the same number."""
    *shown, number = cell.split("=")
    result = int(number.replace(",", ""))
    for expression in shown:
        worked = _work(ast.parse(expression.strip().replace("×", "*"), mode="eval").body)
        assert worked == result, f"{cell}: the arithmetic gives {worked}"
    return result


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def _work(node: ast.expr) -> Fraction:
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_work(node.left), _work(node.right))
    if isinstance(node, ast.Call):
        assert ast.unparse(node.func) == "log2"
        return Fraction(math.log2(_work(node.args[0])))
    assert isinstance(node, ast.Constant), ast.unparse(node)
    return Fraction(node.value)


def _code(cell: str) -> Any:
    return yaml.safe_load(cell.strip("`"))


def _layer_ops(row: dict[str, str]) -> list[Op]:
    layer, inputs = _code(row["layer"]), _code(row["input"])
    many = isinstance(inputs[0], list)
    if many:
        layer = {"type": layer} if isinstance(layer, str) else layer
        layer = {**layer, "from": [f"input_{i}" for i in range(len(inputs))]}
    elif layer == "embedding" or (isinstance(layer, dict) and layer["type"] == "embedding"):
        inputs = {"tokens": {"shape": inputs, "dtype": "int64"}}
    graph: Graph = build_layers([layer], inputs)
    return list(graph.ops)


def _kind_ops(row: dict[str, str]) -> list[Op]:
    inputs, weights = _specs(row["input"]), _specs(row.get("weights", ""))
    outputs = _specs(row["output"])
    attrs = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in (_code(row["attributes"]) or {}).items()
    }
    kind = row["kind"].strip("`")
    return [make_op("x", kind, kind, inputs, outputs, weights, attrs=attrs)]


def _specs(cell: str) -> tuple[TensorSpec, ...]:
    shapes = _code(cell) or []
    shapes = shapes if shapes and isinstance(shapes[0], list) else [shapes] if shapes else []
    return tuple(
        TensorSpec(tuple(s[:-1]), s[-1]) if isinstance(s[-1], str) else TensorSpec(tuple(s))
        for s in shapes
    )


def _worked(text: str) -> Iterator[tuple[str, dict[str, str], list[Op]]]:
    for headings, rows in tables(text):
        if headings[0] not in ("layer", "kind"):
            continue
        for cells in rows:
            row = dict(zip(headings, cells, strict=True))
            ops = _layer_ops(row) if headings[0] == "layer" else _kind_ops(row)
            yield cells[0], row, ops


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param].read_text(encoding="utf-8")


def test_every_worked_number_is_what_the_code_counts(page: str) -> None:
    checked, wrong = 0, []
    for label, row, ops in _worked(page):
        for heading, cell in row.items():
            if heading in HEADINGS:
                checked += 1
                if HEADINGS[heading](ops) != value(cell):
                    wrong.append(f"{label} {heading}: {cell}, counted {HEADINGS[heading](ops):,}")
    assert not wrong, "\n".join(wrong)
    assert checked >= 100


def test_every_operator_kind_has_a_worked_example(page: str) -> None:
    shown = {op.kind for _, _, ops in _worked(page) for op in ops}
    assert shown >= {kind for kind in KINDS if not kind.startswith("custom:")}


@pytest.mark.parametrize(
    ("heading", "column", "constants"),
    [
        ("function", "operations", ACTIVATION_FLOPS),
        ("mode", "operations", RESIZE_FLOPS),
        ("type", "operations", NORM_FLOPS),
        ("cell", "gates", GATES),
        ("cell", "operations", STEP_FLOPS),
        ("element type", "bytes", DTYPE_BYTES),
    ],
)
def test_constants_are_those_of_the_code(
    page: str, heading: str, column: str, constants: dict[str, float]
) -> None:
    found = {}
    for headings, rows in tables(page):
        if headings[0] == heading and column in headings:
            for row in rows:
                for name in re.findall(r"`(\w+)`", row[0]):
                    found[name] = float(row[headings.index(column)])
    assert found == constants


@pytest.mark.parametrize("language", PAGES)
def test_python_blocks_print_what_they_say(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    text = PAGES[language].read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    case = doctest.DocTestParser().get_doctest(blocks, {}, language, str(PAGES[language]), 0)
    assert len(case.examples) >= 10
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(case, out=said.append)
    assert result.failed == 0, "".join(said)


def test_both_languages_show_the_same_examples() -> None:
    shown = []
    for path in PAGES.values():
        text = path.read_text(encoding="utf-8")
        code = re.findall(r"^(?:>>>|\.\.\.) .*?(?=\s+#|$)", text, re.MULTILINE)
        worked = [sorted(row.items()) for _, row, _ in _worked(text)]
        shown.append((code, worked))
    assert shown[0] == shown[1]
