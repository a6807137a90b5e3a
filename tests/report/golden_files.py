"""Compare what people see with files under tests/golden/cli; GOLDEN_UPDATE=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "cli"


def check(name: str, text: str) -> None:
    path = FOLDER / f"{name}.txt"
    text = text.rstrip("\n") + "\n"
    if os.environ.get("GOLDEN_UPDATE") == "1":
        FOLDER.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, (
        f"{path.name} differs; GOLDEN_UPDATE=1 rewrites"
    )
