"""Write ``docs/targets.md``: every shipped target with figures, from the cards in its bundle.

python -m scripts.write_targets [--check]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

from predictor.device import devices
from predictor.latency.bundle import load_bundle
from scripts.accuracy_tables import pair, table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "targets.md"
PROTOCOLS = ("model", "family", "board")
INTRO = """# Shipped targets

Every target that published figures were fitted for: median / mean error in percent on what was
left out of the fit (networks, families, devices), the half-width of the 90 % interval that it
starts from, and the mean error of FLOPs times a constant on the same left-out families. A dash:
the figures hold too little for that protocol. `predict-latency devices NAME` shows the whole card.

`python -m scripts.write_targets` makes this page from the bundles in `profiles/`.
"""


def main() -> None:
    """Write the page, or with ``--check`` say whether it is current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    text = page()
    if parser.parse_args().check:
        if PAGE.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{PAGE.name} is not current: run python -m scripts.write_targets")
        return
    PAGE.write_text(text, encoding="utf-8")


def page() -> str:
    """The whole page."""
    header = ("device", "target", "n", "networks out", "families out", "devices out", "90 %",
              "FLOPs only")  # fmt: skip
    return f"{INTRO}\n{table(header, rows())}\n"


def rows() -> Iterator[tuple[str, ...]]:
    """One row a target, by device."""
    for device in devices():
        for target in device.targets:
            bundle = load_bundle(device, target)
            if bundle is None or bundle.siblings_only:
                continue
            protocols = bundle.card.get("protocols", {})
            known = [bundle.log_error_90[p] for p in ("family", "source") if p in
                     bundle.log_error_90] or list(bundle.log_error_90.values())  # fmt: skip
            family = protocols.get("family") or {}
            flops = family.get("baselines", {}).get("flops", {}).get("mean_pct")
            yield (
                device.name, target.name, str(bundle.card.get("n", "–")),
                *(pair(protocols.get(p)) for p in PROTOCOLS),
                f"x {math.exp(max(known)):.2f}" if known else "–",
                "–" if flops is None else f"{flops:.0f}",
            )  # fmt: skip


if __name__ == "__main__":
    main()
