"""Write what NeuSight's tables teach: a bundle and a forest a device, and for any other GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from predictor.device import load_device
from predictor.kernels.features import Floats
from predictor.latency.bundle import Bundle, write_bundle, write_checked
from predictor.latency.intervals import conformal_quantile
from predictor.latency.physical import to_parameters
from scripts.figures import summary
from scripts.folds import final_fit
from scripts.neusight_data import PRECISION, RULES, Operators
from scripts.neusight_train import TREES, Trained
from scripts.operator_figures import operator_figures
from scripts.public_rows import neusight_rows

if TYPE_CHECKING:
    from scripts.neusight_fit import Outcome

TARGET = f"eager-{PRECISION}"
FOREST = f"{TARGET}-kernels.npz"
SHARED = f"gpu-{TARGET}"
SOFTWARE = "PyTorch 2.1.0, CUDA 12.1, TF32 off"
CITATION = "NeuSight operator tables, Lee et al., ASPLOS 2025 (MIT)"
CLASSES_KNOWN = (*TREES, "copy")
CALL_US = 10.0
"""A call's constant where the first kernel's own wait is not known, microseconds."""
SOURCE = "neusight"


def ship_all(
    profiles: Path, public: Path, trained: Trained, rows: Operators, outcomes: Sequence[Outcome],
    known: Mapping[str, Floats],
) -> None:  # fmt: skip
    """All bundles; operators that no tree answers for stand on the physical fit."""
    fit = final_fit(operator_figures(neusight_rows(public)))
    pooled = np.concatenate(list(known.values()))
    generation = {o.device: load_device(o.device).generation for o in outcomes}
    for outcome in outcomes:
        device = outcome.device
        theta = fit.theta((f"gen:ops-{generation[device]}", f"board:ops-{device}"))
        siblings = [d for d, g in generation.items() if g == generation[device] and d != device]
        count = len(rows.where(devices=[device]))
        bundle = Bundle(
            TARGET, RULES, _parameters(theta), _quantiles(outcomes, pooled), CLASSES_KNOWN,
            f"fitted on {count:,} published times of single operators (neusight), trees shared "
            "with five other GPUs; whole networks were not among them",
            (CITATION,), software=SOFTWARE, learned=FOREST,
            card={"n": count, "protocols": _card([outcome], known[device])},
        )  # fmt: skip
        forest = trained.of(device, siblings)
        write_checked(profiles / device, FOREST, forest.to_bytes())
        write_bundle(profiles / device, f"{TARGET}.json", bundle)
    shared = Bundle(
        TARGET, RULES, _parameters(fit.common), _quantiles(outcomes, pooled), CLASSES_KNOWN,
        "learned from six other GPUs' published operator times (neusight); clocks, units, caches "
        "and bandwidth its own",
        (CITATION,), siblings_only=True, software=SOFTWARE, learned=f"{SHARED}-kernels.npz",
        card={"n": 0, "protocols": {"board": _board(outcomes)}},
    )  # fmt: skip
    folder = profiles / "shared"
    folder.mkdir(exist_ok=True)
    write_checked(folder, f"{SHARED}-kernels.npz", trained.forest.to_bytes())
    write_bundle(folder, f"{SHARED}.json", shared)


def _parameters(theta: Floats) -> dict[str, float]:
    return {k: round(v, 8) for k, v in to_parameters(theta).items()} | {"call_us": CALL_US}


def _quantiles(outcomes: Sequence[Outcome], known: Floats) -> dict[str, float]:
    """90 % log errors: networks on devices left out, networks on known ones, single kernels."""
    networks = np.concatenate([o.networks for o in outcomes])
    kernels = np.concatenate([e for o in outcomes for e in o.operators.values()])
    found = {"board": networks, "family": known, "kernel": kernels}
    return {name: round(conformal_quantile(list(errors)), 4) for name, errors in found.items()}


def _card(outcomes: Sequence[Outcome], known: Floats) -> dict[str, Any]:
    protocols = {"board": _board(outcomes)}
    if len(known) >= 3:
        plain = np.concatenate([o.network_roofline for o in outcomes])
        flops = np.concatenate([o.network_flops for o in outcomes])
        protocols["family"] = {**summary(known), "sources": [SOURCE], "folds": {},
                               "baselines": _baselines(flops, plain)}  # fmt: skip
    return protocols


def _board(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Operators of devices left out, by operator."""
    kinds = list(dict.fromkeys(k for o in outcomes for k in o.operators))
    folds = {
        kind: np.concatenate([o.operators[kind] for o in outcomes if kind in o.operators])
        for kind in kinds
    }
    plain = np.concatenate([e for o in outcomes for e in o.roofline.values()])
    flops = np.concatenate([e for o in outcomes for e in o.flops.values()])
    return {
        **summary(np.concatenate(list(folds.values()))), "sources": [SOURCE],
        "folds": {kind: dict(summary(errors)) for kind, errors in folds.items()},
        "baselines": _baselines(flops, plain),
    }  # fmt: skip


def _baselines(flops: Floats, roofline: Floats) -> dict[str, Any]:
    """Constants times FLOPs (bytes, of what has none) and times the roofline."""
    return {"flops": dict(summary(flops)), "roofline": dict(summary(roofline))}
