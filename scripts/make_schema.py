"""Writes what is generated from the description of settings and layers.

``predictor/config.schema.json`` whole, and the reference in ``docs/layer-list.md`` between its
two markers. With ``--check`` nothing is written, and the exit code says whether all is current.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from predictor.config import json_schema
from predictor.kinds import Either, Int, List
from predictor.layer_types import LayerType, layer_types
from predictor.schema import Key

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "predictor" / "config.schema.json"
REFERENCE = ROOT / "docs" / "layer-list.md"
BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"
COMMON = ("name", "from", "share")


def schema_text() -> str:
    return json.dumps(json_schema(), indent=1) + "\n"


def reference_text() -> str:
    """The reference: types that share their keys stand together."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, kind in layer_types().items():
        identity = (*sorted((k, key.doc) for k, key in kind.keys.items()), kind.sources,
                    kind.weights)  # fmt: skip
        groups.setdefault(identity, []).append(name)
    return "\n".join(_section(names) for names in groups.values())


def _section(names: list[str]) -> str:
    types = [layer_types()[name] for name in names]
    heading = ", ".join(f"`{name}`" for name in names)
    docs = list(dict.fromkeys(kind.doc for kind in types))
    first = types[0]
    about = f"{docs[0]}." if len(docs) == 1 else f"{'; '.join(docs)}." if len(docs) < 4 else ""
    lines = [f"### {heading}", "", " ".join(filter(None, (about, _reads(first))))]
    if first.keys:
        lines += ["", "| key | value | default | |", "|---|---|---|---|"]
        lines += [_row(name, key) for name, key in first.keys.items()]
    return "\n".join(lines) + "\n"


def _reads(kind: LayerType) -> str:
    low, high = kind.sources
    notes = []
    if kind.sources != (1, 1):
        most = f" to {high}" if low < high <= 3 else " or more" if high > low else ""
        notes.append(f"Reads {low}{most} tensors.")
    if kind.weights:
        notes.append("Has weights.")
    if len(kind.one_of) > 1:
        notes.append(f"Exactly one of {' and '.join(f'`{key}`' for key in kind.one_of)}.")
    return " ".join(notes) or ("One tensor in, one out." if kind.keys == {} else "")


def _row(name: str, key: Key) -> str:
    default = "needed" if key.required else "" if key.default is None else json.dumps(key.default)
    words = key.kind.words()
    if isinstance(key.kind, Either) and isinstance(key.kind.kinds[0], Int):
        # The list repeats the rule of the number, for each side.
        words = ", or ".join("a list" if isinstance(k, List) else k.words() for k in key.kind.kinds)
    return f"| `{name}` | {words} | {default} | {key.doc} |"


def reference_page() -> str:
    head, _, rest = REFERENCE.read_text(encoding="utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n\n{reference_text()}\n{END}{tail}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    stale = 0
    for path, text in ((SCHEMA, schema_text()), (REFERENCE, reference_page())):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if not check:
            path.write_text(text, encoding="utf-8")
        print(f"{'stale' if check else 'wrote'}: {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
