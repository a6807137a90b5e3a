"""``predict-latency train``: a device of your own from what ``profile`` measured."""

from __future__ import annotations

import functools
from collections.abc import Callable
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
    home = own_folder(name)
    for folder in measured_folders(name, runtime, precision):
        said = ["reading"]
        with progress(lambda: f"training {folder.name}: {said[0]}"):  # noqa: B023 - ends in this turn
            device, remarks = train_folder(
                folder, home, trials, not no_baselines, functools.partial(said.__setitem__, 0)
            )
        warn(remarks[:LISTED])
        if len(remarks) > LISTED:
            warn([f"and {len(remarks) - LISTED} more remarks of this kind"])
        _tell(device, folder.name)


def own_folder(name: str) -> Path:
    """Where the user's device of that name lies or will lie.

    Raises:
        ConfigError: a device of that name comes with this package.
    """
    from predictor.device import shipped_profiles, user_profiles
    from predictor.profiling.imported import device_name

    home = user_profiles() / device_name(name)
    if not home.exists() and (shipped_profiles() / home.name).exists():
        raise ConfigError(f"{home.name} is a device that comes with this package; profile yours "
                          "under another name")  # fmt: skip
    return home


def measured_folders(name: str, runtime: str | None, precision: str | None) -> list[Path]:
    """Folders of the targets that were measured under ``name``.

    Raises:
        MeasurementError: none was.
    """
    from predictor.profiling.imported import device_folder
    from predictor.profiling.session import PLAN, RESULTS

    found = [path for path in sorted(device_folder(name).glob("*"))
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


def train_folder(
    folder: Path, home: Path, trials: int, baselines: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Device, list[str]]:  # fmt: skip
    """Judge and fit what lies in ``folder``, and write it as a target of the device in ``home``.

    Returns the device as it loads, and remarks on the measurements.

    Raises:
        MeasurementError: the files are damaged, or too little was measured.
    """
    import numpy as np

    from predictor.profiling.records import read_measurements
    from predictor.profiling.session import PLAN, RESULTS
    from predictor.training.card import card_of
    from predictor.training.dataset import dataset_of
    from predictor.training.evaluate import evaluate
    from predictor.training.fit import fit
    from predictor.training.target import write_target

    measured = read_measurements(folder / PLAN, folder / RESULTS)
    data = dataset_of(measured)
    found = evaluate(data, trials=trials, baselines=baselines, say=say)
    say("the model that is kept")
    everything = np.ones(len(data.rows), bool), np.ones(len(data.networks), bool)
    trained = fit(data, *everything, trials)
    device = write_target(measured, data, trained, found, card_of(found, measured), home)
    return device, list(measured.remarks)


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
