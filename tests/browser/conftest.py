"""One browser and one service for all tests of the page; nothing may complain or call away."""

from __future__ import annotations

import signal

import pytest
from browser_driver import Service, new_browser, watched


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    for package in ("fastapi", "uvicorn", "httptools", "orjson", "jsonschema_rs", "python_multipart",
                    "prometheus_client"):  # fmt: skip
        pytest.importorskip(package, reason=f"the service needs {package}")
    started = Service(tmp_path_factory.mktemp("service"))
    yield started
    assert started.stop() in (0, -signal.SIGTERM)


@pytest.fixture(scope="session")
def browser():
    driver = new_browser()
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, service):
    """The page, not opened yet. Afterwards: an empty console, and requests to one origin only."""
    yield from watched(browser, service.url)
