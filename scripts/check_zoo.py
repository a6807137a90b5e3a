"""Trace every model of torchvision and timm, and compare torchvision's with its published figures.

    python scripts/check_zoo.py torchvision timm --write

prints a line a model and a summary a library; ``--write`` puts the summaries, and every model
that is off, into ``docs/counting-accuracy.md`` between the library's markers. Nothing is
downloaded. Models are traced at their own input size, batch 1, one thread.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from predictor.errors import MissingExtra, PredictorError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "counting-accuracy.md"
TOLERANCE = 0.01
"""Published operation counts are rounded to thousandths of a giga-operation."""


@dataclass(frozen=True)
class Row:
    """One model: what was counted, what is published (None where nothing is), CPU seconds."""

    name: str
    kind: str
    macs: int = 0
    params: int = 0
    published_macs: float | None = None
    published_params: int | None = None
    seconds: float = 0.0
    error: str = ""
    unknown: tuple[str, ...] = ()
    real: bool = False

    @property
    def off(self) -> float | None:
        """Relative difference of the MACs, rounding of the published figure taken off."""
        if not self.published_macs:
            return None
        apart = abs(self.macs - self.published_macs) - 0.5e6
        return max(0.0, apart) / self.published_macs

    @property
    def ok(self) -> bool:
        """Traced, and equal to what is published where something is."""
        same = self.published_params in (None, self.params)
        return not self.error and same and (self.off or 0.0) <= TOLERANCE


def torchvision_names() -> list[str]:
    """All torchvision models but quantised ones, whose float forms are in the list."""
    from predictor.frontends.zoo import build_named

    build_named("torchvision:alexnet")  # makes torchvision importable beside any torch
    models = importlib.import_module("torchvision.models")
    return [name for name in models.list_models() if not name.startswith("quantized_")]


def timm_names() -> list[str]:
    """Everything that ``timm.list_models()`` lists."""
    from predictor.frontends.zoo import build_named

    build_named("timm:resnet18")
    names: list[str] = importlib.import_module("timm").list_models()
    return names


def check(library: str, name: str) -> Row:
    """Build, trace, compare."""
    from predictor.frontends.torch_module import trace
    from predictor.frontends.zoo import build_named

    kind, macs, params = published(library, name)
    try:
        built = build_named(f"{library}:{name}")
        began = time.process_time()
        graph = trace(built.module, built.inputs, name=name)
        seconds = time.process_time() - began
    except MissingExtra:
        raise
    except PredictorError as error:
        return Row(name, kind, error=str(error), published_macs=macs, published_params=params)
    real = any("depend on data" in note for note in graph.notes)
    return Row(name, kind, graph.macs, graph.params, macs, params, seconds, "", graph.unknown, real)


def published(library: str, name: str) -> tuple[str, float | None, int | None]:
    """Kind, MACs and parameters by torchvision's metadata; timm publishes none that are alike."""
    if library != "torchvision":
        return "classification", None, None
    models = importlib.import_module("torchvision.models")
    kinds = ("segmentation", "detection", "video", "optical_flow")
    place = models.get_model_builder(name).__module__.split(".")
    kind = next((word for word in kinds if word in place), "classification")
    weights = models.get_model_weights(name)
    if not len(weights):
        return kind, None, None
    meta = weights.DEFAULT.meta
    macs = meta["_ops"] * 1e9 if meta.get("_ops") and kind != "detection" else None
    return kind, macs, meta["num_params"]


def summary(library: str, rows: list[Row]) -> str:
    """Aggregates as a Markdown section."""
    version = importlib.import_module(library).__version__
    torch = importlib.import_module("torch").__version__
    lines = [f"### {library} {version}, torch {torch}", "",
             "| kind | models | traced | MACs within 1 % | params exact | CPU s median | p95 |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for kind in dict.fromkeys(row.kind for row in rows):
        some = [row for row in rows if row.kind == kind]
        done = [row for row in some if not row.error]
        known = [row for row in done if row.published_macs]
        exact = [row for row in done if row.published_params is not None]
        times = sorted(row.seconds for row in done) or [0.0]
        lines.append(
            f"| {kind} | {len(some)} | {len(done)} ({len(done) / len(some):.1%}) | "
            f"{_of([(r.off or 0) <= TOLERANCE for r in known])} | "
            f"{_of([r.params == r.published_params for r in exact])} | "
            f"{statistics.median(times):.2f} | {times[int(0.95 * (len(times) - 1))]:.2f} |"
        )
    unknown = sorted({target for row in rows for target in row.unknown})
    real = [row.name for row in rows if row.real]
    lines += ["", f"Operators without a formula: {', '.join(unknown) or 'none'}."]
    if real:
        lines += [f"Counted from a real forward pass: {', '.join(real)}."]
    bad = [row for row in rows if not row.ok]
    if bad:
        lines += ["", "Not traced, or off:", ""]
        lines += [f"- `{row.name}`: {_why(row)}" for row in bad]
    return "\n".join(lines) + "\n"


def _of(flags: list[bool]) -> str:
    return f"{sum(flags)} of {len(flags)}" if flags else "none published"


def _why(row: Row) -> str:
    if row.error:
        return row.error[:200]
    parts = []
    if (row.off or 0) > TOLERANCE:
        parts.append(f"{row.macs / 1e9:.3f} G MACs, published {(row.published_macs or 0) / 1e9}")
    if row.published_params not in (None, row.params):
        parts.append(f"{row.params:,} parameters, published {row.published_params:,}")
    return "; ".join(parts)


def write(library: str, text: str) -> None:
    """Replace the library's section of the page; a new page or section is appended."""
    begin, end = f"<!-- {library}: begin -->", f"<!-- {library}: end -->"
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else HEAD
    section = f"{begin}\n{text}{end}"
    if begin in page:
        before, _, rest = page.partition(begin)
        page = before + section + rest.partition(end)[2]
    else:
        page = f"{page.rstrip()}\n\n{section}\n"
    PAGE.write_text(page, encoding="utf-8")


HEAD = """# How exact the counts are

MACs and parameters of whole model libraries, counted by `predictor.trace` without weights, beside
what the libraries publish. Rebuild with `python scripts/check_zoo.py torchvision timm --write`.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("libraries", nargs="+", choices=("torchvision", "timm"))
    parser.add_argument("--write", action="store_true", help=f"update {PAGE.name}")
    parser.add_argument("--match", default="", help="only names that contain this")
    parser.add_argument("--limit", type=int, default=None, help="only the first so many")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    bad = 0
    for library in options.libraries:
        names = torchvision_names() if library == "torchvision" else timm_names()
        names = [name for name in names if options.match in name][: options.limit]
        rows = []
        for name in names:
            row = check(library, name)
            rows.append(row)
            mark = "ok" if row.ok else "OFF"
            apart = "" if row.off is None else f" {row.off:.4f}"
            print(f"{mark} {row.name} {row.kind} {row.macs} {row.params}{apart} {row.seconds:.2f} "
                  f"{','.join(row.unknown)} {_why(row)}", flush=True)  # fmt: skip
        text = summary(library, rows)
        print(text)
        bad += sum(not row.ok for row in rows)
        if options.write:
            write(library, text)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
