"""``predict-latency train``: a device of your own from what ``profile`` measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from predictor.commands.options import complete_precision, complete_runtime, debug_option
from predictor.commands.output import emit, progress, terminal_style, warn
from predictor.errors import ConfigError, MeasurementError

if TYPE_CHECKING:
    from predictor.hardware import Device

LISTED = 10
"""Remarks on the measurements that are shown."""


@click.command("train")
@click.argument("name")
@click.option(
    "--runtime", metavar="NAME", shell_complete=complete_runtime,
    help="Only what this runtime measured. [default: all that was measured]",
)  # fmt: skip
@click.option(
    "--precision", metavar="NAME", shell_complete=complete_precision,
    help="Only what was measured in this precision.",
)  # fmt: skip
@click.option(
    "--trials", type=click.IntRange(0, 1000), default=20, show_default=True, metavar="N",
    help="Hyper-parameters that are tried, in each fold and for the model that is kept.",
)  # fmt: skip
@click.option(
    "--no-baselines", is_flag=True, help="Leave the baselines out of the card; faster.",
)  # fmt: skip
@debug_option
def command(
    name: str, runtime: str | None, precision: str | None, trials: int, no_baselines: bool
) -> None:
    """Learn a device's latencies from what 'predict-latency profile' measured.

    Each target is judged on families of networks that were left out, then fitted on all of them.
    The device is found by its name afterwards; 'predict-latency evaluate' shows the card.
    """
    from predictor.profiling.imported import device_name

    for folder in measured_folders(name, runtime, precision):
        device = train_folder(folder, device_name(name), trials, not no_baselines)
        _tell(device, folder.name)


def measured_folders(name: str, runtime: str | None, precision: str | None) -> list[Path]:
    """Folders of the targets that were measured under ``name``.

    Raises:
        MeasurementError: none was.
    """
    from predictor.device import user_profiles
    from predictor.profiling.imported import device_name
    from predictor.profiling.session import PLAN, RESULTS

    home = user_profiles().parent / "measurements" / device_name(name)
    found = [path for path in sorted(home.glob("*"))
             if (path / PLAN).is_file() and (path / RESULTS).is_file()]  # fmt: skip
    kept = [path for path in found
            if runtime in (None, path.name.partition("-")[0])
            and precision in (None, path.name.partition("-")[2])]  # fmt: skip
    if not kept:
        listed = f"; there is {', '.join(path.name for path in found)}" if found else ""
        raise MeasurementError(f"nothing was measured for {name}"
                               f"{f' {runtime or str()} {precision or str()}'.rstrip()}{listed}. "
                               f"Run: predict-latency profile --name {name}")  # fmt: skip
    return kept


def train_folder(folder: Path, name: str, trials: int, baselines: bool = True) -> Device:
    """Judge and fit what lies in ``folder``; the device as it is found by its name afterwards."""
    import numpy as np

    from predictor.device import shipped_profiles, user_profiles
    from predictor.profiling.records import read_measurements
    from predictor.profiling.session import PLAN, RESULTS
    from predictor.training.card import card_of
    from predictor.training.dataset import dataset_of
    from predictor.training.evaluate import evaluate
    from predictor.training.fit import fit
    from predictor.training.target import write_target

    home = user_profiles() / name
    if not home.exists() and (shipped_profiles() / name).exists():
        raise ConfigError(f"{name} is a device that comes with this package; profile yours under "
                          "another name")  # fmt: skip
    said = ["reading"]
    with progress(lambda: f"training {folder.name}: {said[0]}"):
        measured = read_measurements(folder / PLAN, folder / RESULTS)
        data = dataset_of(measured)

        def say(text: str) -> None:
            said[0] = text

        found = evaluate(data, trials=trials, baselines=baselines, say=say)
        said[0] = "the model that is kept"
        everything = np.ones(len(data.rows), bool), np.ones(len(data.networks), bool)
        trained = fit(data, *everything, trials)
        device = write_target(measured, data, trained, found, card_of(found, measured), home)
    warn(list(measured.remarks[:LISTED]))
    if len(measured.remarks) > LISTED:
        warn([f"and {len(measured.remarks) - LISTED} more remarks of this kind"])
    return device


def _tell(device: Device, stem: str) -> None:
    from predictor.latency.bundle import load_card
    from predictor.training.card import card_text

    target = next(t for t in device.targets if t.name == stem)
    card = load_card(device, target)
    assert card is not None
    lines = card_text(card, f"{device.name} {target.name}", terminal_style())
    emit("\n".join([*lines, "", f"Kept in {device.folder}",
                    f"Use it: predict-latency MODEL --device {device.name} "
                    f"--runtime {target.runtime}"]))  # fmt: skip
