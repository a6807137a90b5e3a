"""What boards of a generation have in common, from their shipped bundles.

    python -m scripts.share_generations

A board that nobody measured takes the geometric mean of its generation's parameters (in
``profiles/shared/``), else its kind's. Its interval is wide enough for all but a fifth of the
boards that made the mean, each by its own error when it was left out of the joint fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from predictor.device import devices, shipped_profiles
from predictor.hardware import Device, Target
from predictor.latency.bundle import Bundle, load_bundle, write_bundle
from predictor.latency.physical import to_parameters, to_vector
from predictor.latency.shared import FOLDER, names_for

SHARE = 0.8
FEWEST_FOR_KIND = 3
"""Boards that a fit for a whole kind of device must rest on."""
RUNTIMES = ("tensorrt", "ncnn", "qnn", "tflite")


def fitted() -> Iterator[tuple[Device, Target, Bundle]]:
    """Targets with figures of their own that were left out of a fit over boards."""
    for device in devices():
        for target in device.targets:
            bundle = load_bundle(device, target)
            plain = bundle is not None and not bundle.learned
            if bundle is None or not plain or bundle.siblings_only or bundle.blend:
                continue
            if target.runtime in RUNTIMES and "board" in bundle.log_error_90:
                yield device, target, bundle


def main() -> None:
    """Write one bundle a generation and one a kind of device."""
    groups: dict[str, list[tuple[Device, Target, Bundle]]] = {}
    for device, target, bundle in fitted():
        for name in names_for(device, target):
            groups.setdefault(name, []).append((device, target, bundle))
    special = {names_for(d, t)[0] for members in groups.values() for d, t, _ in members}
    for name, members in sorted(groups.items()):
        if name not in special and len(members) < FEWEST_FOR_KIND:
            continue
        write_bundle(shipped_profiles() / FOLDER, f"{name}.json", mean_bundle(members))
        print(f"{name}: {', '.join(device.name for device, _, _ in members)}")


def mean_bundle(members: Sequence[tuple[Device, Target, Bundle]]) -> Bundle:
    """The geometric mean of the members' parameters, with an interval for a board beside them."""
    target, bundles = members[0][1], [bundle for _, _, bundle in members]
    theta = np.mean([to_vector(bundle.parameters) for bundle in bundles], axis=0)
    errors = [bundle.log_error_90["board"] for bundle in bundles]
    rules = max({b.rules for b in bundles}, key=lambda r: sum(b.rules == r for b in bundles))
    names = ", ".join(device.name for device, _, _ in members[:4])
    more = f" and {len(members) - 4} more" if len(members) > 4 else ""
    return Bundle(
        target=target.name, rules=rules,
        parameters={k: round(v, 8) for k, v in to_parameters(theta).items()},
        log_error_90={"board": round(float(np.quantile(errors, SHARE, method="higher")), 4)},
        classes=tuple(sorted({c for b in bundles for c in b.classes})),
        basis=f"mean efficiencies of measured boards ({names}{more}); clocks, cores, caches and "
        "bandwidth its own",
        citations=tuple(sorted({c for b in bundles for c in b.citations})), siblings_only=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
