"""Results as JSON text."""

from __future__ import annotations

import json
from typing import Any

from predictor.estimate import Estimate


def dumps(data: Any) -> str:
    """``data`` as indented JSON. NaN and infinity, which JSON lacks, raise ValueError."""
    return json.dumps(data, indent=2, allow_nan=False)


def render(estimate: Estimate) -> str:
    """:meth:`Estimate.to_dict` as JSON text; ``schema_version`` says what the keys mean."""
    return dumps(estimate.to_dict())
