from __future__ import annotations

import sys
from pathlib import Path

import pytest
from service_driver import Service

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "frontends"))  # onnx_seeds


@pytest.fixture(scope="session")
def service():
    """A server that answers anybody on loopback; tests leave it as they found it."""
    made = Service(workers=2)
    yield made
    made.stop()


@pytest.fixture
def started():
    """Starts servers with settings of their own, and ends them."""
    running = []

    def start(**settings):
        running.append(Service(**settings))
        return running[-1]

    yield start
    for one in running:
        one.stop()
