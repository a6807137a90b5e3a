"""Fit every shipped target that published figures cover, and write its bundle and accuracy card.

    python -m scripts.fit_profiles --public-data DIR [--cache DIR] [--only jetson]

Deterministic: no seeds are drawn but those of the row samples, which are fixed. Accuracy is on
whole groups that were left out, everything refitted inside each fold.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from predictor.device import load_device, shipped_profiles
from predictor.hardware import LAYOUTS
from predictor.kernels.features import CLASSES
from predictor.latency.bundle import Bundle, write_bundle, write_checked
from predictor.latency.fitting import Fit
from predictor.latency.intervals import conformal_quantile
from predictor.latency.physical import INDEX, to_parameters
from scripts.collection import Collection, Ship
from scripts.collections_of_targets import COLLECTIONS
from scripts.figures import Figure, Graphs, log_errors, summary
from scripts.folds import Outcome, card, final_fit, left_out


@dataclass(slots=True)
class Fitted:
    """A collection after fitting: what ships, and what was said of rows left out."""

    collection: Collection
    figures: list[Figure]
    layers: list[Figure]
    fit: Fit
    layer_errors: np.ndarray
    outcomes: dict[str, Outcome]


def fit_collection(collection: Collection, public: Path, graphs: Graphs) -> Fitted:
    """Fit all figures of a collection, and every left-out protocol that it asks for."""
    figures, layers, left = collection.load(public, graphs)
    print(f"{collection.name}: {len(figures)} figures, {len(layers)} layers", flush=True)
    for reason, count in sorted(left.items()):
        print(f"  left out {count}: {reason}")
    outcomes = {}
    for protocol in collection.protocols:
        outcomes[protocol] = left_out(figures, protocol, scored=collection.scored, layers=layers,
                                      key=collection.keys.get(protocol),
                                      fitter=collection.fit)  # fmt: skip
        print(f"  {protocol}: {dict(summary(np.array(outcomes[protocol].errors)))}", flush=True)
    # What totals alone say of single layers is what a kernel's interval must cover.
    blind = log_errors(final_fit(figures, fitter=collection.fit), layers) if layers else np.zeros(0)
    fit = final_fit(figures, layers, collection.fit)
    return Fitted(collection, figures, layers, fit, blind, outcomes)


def ship(fitted: Fitted, target: Ship, profiles: Path) -> dict[str, Any]:
    """Write the bundle of one target; returns its card."""
    collection = fitted.collection
    board = target.board or target.device
    own = [f for f in fitted.figures if f.board == board and collection.scored(f)]
    siblings_only = not own
    keep: Callable[[Figure], bool] = (
        (lambda f: f.board == board) if own else (lambda f: f.board in target.siblings)
    )
    protocols, quantiles = card(fitted.outcomes, keep)
    if len(fitted.layer_errors):
        quantiles["kernel"] = round(conformal_quantile(list(fitted.layer_errors)), 4)
    theta = fitted.fit.theta(target.levels)
    # Figures of one core, on a profile of the whole device.
    for name in ("all.compute", "wave"):
        theta[INDEX[name]] += np.log(target.units_share)
    theta[INDEX["vector"]] -= np.log(target.units_share)
    for name, value in target.overrides:
        theta[INDEX[name]] = np.log(value)
    # A class counts as covered where the generation has figures of it: boards share its shape.
    shared = target.levels[0] if target.levels else None
    used = [f for f in fitted.figures if shared is None or shared in f.fit.levels] or own
    classes = sorted({int(c) for f in used for c in f.fit.features.cls})
    if siblings_only:  # nothing else was ever predicted that says anything of this board
        protocols = {"board": protocols["board"]}
    contents: dict[str, Any] = {"protocols": protocols, "n": len(own)}
    bundle = Bundle(
        target=target.target, rules=target.rules,
        parameters={k: round(v, 8) for k, v in to_parameters(theta).items()},
        log_error_90=quantiles, classes=tuple(CLASSES[c] for c in classes),
        basis=_basis(target, own, siblings_only), citations=collection.citations,
        siblings_only=siblings_only, host_us=target.host_us, call_ms=target.call_ms,
        software=target.software, card=contents, smallest_batch=target.smallest_batch,
    )  # fmt: skip
    folder = profiles / target.device
    make_totals = getattr(fitted.fit, "totals", None)
    if make_totals is not None:
        name = f"{target.target}-totals.npz"
        write_checked(folder, name, make_totals(quantiles["family"]).to_bytes())
        bundle = replace(bundle, totals=name)
    write_bundle(folder, f"{target.target}.json", bundle)
    _point_at_bundle(folder / "device.yaml", target, "datasheet" if siblings_only else "calibrated")
    return contents


def _basis(target: Ship, own: Sequence[Figure], siblings_only: bool) -> str:
    if target.basis:
        return target.basis
    if siblings_only:
        names = ", ".join(target.siblings)
        return f"efficiencies fitted on its siblings ({names}), clocks and bandwidth its own"
    models = len({f.model for f in own})
    sources = ", ".join(sorted({f.source for f in own}))
    return f"fitted on {len(own)} published figures of {models} networks ({sources})"


def _point_at_bundle(path: Path, target: Ship, tier: str) -> None:
    """Rewrite the target's line of ``device.yaml``; the rest of the file stays as it is."""
    runtime, precision, *rest = target.target.split("-", 2)
    release = rest[0] if rest and rest[0] not in LAYOUTS else ""
    pattern = re.compile(
        rf"^(  - \{{runtime: {runtime}, precision: {precision}(?:, layout: \w+)?"
        r"(?:, release: \"[^\"]*\")?)[^}]*\}$", re.M
    )  # fmt: skip
    text = path.read_text(encoding="utf-8")
    wanted = f'release: "{release}"' if release else ""
    match = next((m for m in pattern.finditer(text)
                  if (wanted in m[1] if wanted else "release:" not in m[1])), None)  # fmt: skip
    if match is None:
        raise SystemExit(f"{path}: no line for target {target.target}")
    default = ", default: true" if "default: true" in match[0] else ""
    software = f', software: "{target.software}"' if target.software else ""
    line = f"{match[1]}{software}, tier: {tier}, bundle: {target.target}.json{default}}}"
    path.write_text(text[: match.start()] + line + text[match.end() :], encoding="utf-8")


def aggregates(fitted: Sequence[Fitted]) -> dict[str, Any]:
    """What ``docs/accuracy.md`` is written from: no single measured value."""
    result: dict[str, Any] = {}
    for item in fitted:
        boards = sorted({f.board for f in item.figures if item.collection.scored(f)})
        headline = set(item.collection.headline or boards)
        whole: Mapping[str, Any] = card(item.outcomes, lambda f, h=headline: f.board in h)[0]
        result[item.collection.name] = {
            "all": whole,
            "boards": {b: card(item.outcomes, lambda f, b=b: f.board == b)[0] for b in boards},
        }
    return result


def main() -> None:
    """Fit and write; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--public-data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder for traced networks")
    parser.add_argument("--profiles", type=Path, default=shipped_profiles())
    parser.add_argument("--only", action="append", help="a collection; several may be named")
    parser.add_argument("--aggregates", type=Path, default=Path("docs/accuracy.json"),
                        help="beside it, the other pages' files")  # fmt: skip
    arguments = parser.parse_args()
    cache = arguments.cache or Path(tempfile.gettempdir()) / "latency-predictor-graphs"
    graphs = Graphs(cache)
    for collection in COLLECTIONS:
        if arguments.only and collection.name not in arguments.only:
            continue
        fitted = fit_collection(collection, arguments.public_data, graphs)
        for target in collection.ships:
            load_device(target.device)
            ship(fitted, target, arguments.profiles)
        place = arguments.aggregates.with_stem(collection.page)
        known = json.loads(place.read_text()) if place.is_file() else {}
        known.update(aggregates([fitted]))
        place.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
