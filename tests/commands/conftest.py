"""Fixtures of the commands' tests: a pipeline that answers at once, and the command line."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "report"))

from report_fakes import estimate, network

from predictor import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A pipeline that answers with a fixed estimate and remembers what it was asked."""
    asked: list[tuple[str, dict[str, Any]]] = []
    state = types.SimpleNamespace(asked=asked, answer=estimate(), error=None)

    def predict(model: Any, **settings: Any) -> Any:
        asked.append((model, settings))
        if state.error is not None:
            raise state.error
        return state.answer

    def load_graph(model: str, *, batch: Any = None, resolution: Any = None, **_: Any) -> Any:
        asked.append((model, {"batch": batch, "resolution": resolution}))
        if state.error is not None:
            raise state.error
        return network(batch or 1, resolution or 32)

    monkeypatch.setattr("predictor.pipeline.predict", predict)
    monkeypatch.setattr("predictor.frontends.load.load_graph", load_graph)
    return state


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("PREDICTOR_DEBUG", raising=False)

    def call(*args: str) -> tuple[int, str, str]:
        code = cli.run(args)
        out = capsys.readouterr()
        return code, out.out, out.err

    return call
