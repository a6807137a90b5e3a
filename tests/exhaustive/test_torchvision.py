"""Every torchvision model against its published operation and parameter counts."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.exhaustive

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_zoo.py"


@pytest.fixture(scope="module")
def zoo():
    pytest.importorskip("torch", reason="tracing needs torch")
    spec = importlib.util.spec_from_file_location("check_zoo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_zoo"] = module
    spec.loader.exec_module(module)
    return module


def test_all_of_torchvision(zoo):
    rows = [zoo.check("torchvision", name) for name in zoo.torchvision_names()
            if zoo.published("torchvision", name)[0] != "detection"]  # fmt: skip
    assert len(rows) > 90
    assert [(r.name, zoo._why(r)) for r in rows if not r.ok] == []
    assert {target for row in rows for target in row.unknown} == set()


def test_timm(zoo):
    pytest.importorskip("timm.version", reason="timm models come from timm")
    names = zoo.timm_names()
    failed = [row.name for row in (zoo.check("timm", name) for name in names) if row.error]
    assert len(failed) <= 0.01 * len(names), failed
