"""One thread a process, and skips that may not happen where everything is installed."""

from __future__ import annotations

import os
import re
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # before any test imports numpy or torch

settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")  # how long an example took says nothing of what it found

NO_SKIPS = "PREDICTOR_NO_SKIPS"
"""Set to 1: a skipped test is a failed test, unless its reason is one of these."""

ALLOWED = {
    r"PREDICTOR_PUBLIC_DATA": "the measured tables of others are not part of the project",
    r"\bGPU\b|CUDA|accelerator": "continuous integration has a CPU only",
    r"operator torchvision::|torchvision's (own )?compiled": "a torchvision built for another torch",
    r"a server|a browser|docker|systemd|\bcurl\b|\badb\b|\bssh\b": "an installation beyond pip",
    r"PyYAML without libyaml": "PyYAML's wheel for the platform has no libyaml",
    r"^exhaustive\b": "hours; run by a script",
}
"""Reasons of skips that no package from pip can mend, and why they are accepted."""


def _refused(longrepr: object) -> str | None:
    """The reason of a skip that should not be, None where it is accepted."""
    if os.environ.get(NO_SKIPS, "0") in ("", "0"):
        return None
    reason = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
    if any(re.search(pattern, reason, re.IGNORECASE) for pattern in ALLOWED):
        return None
    return f"{NO_SKIPS} is set and a test was skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        refused = _refused(report.longrepr)
        if refused:
            report.outcome, report.longrepr = "failed", refused
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole file into a failure."""
    report = yield
    if report.outcome == "skipped":
        refused = _refused(report.longrepr)
        if refused:
            report.outcome, report.longrepr = "failed", refused
    return report
