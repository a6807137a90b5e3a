"""The measured targets that ship, rebuilt from the measurements in ``data/``.

    python -m scripts.measured_targets [--only NAME/TARGET] [--seconds 600]
    python -m scripts.measured_targets --take FOLDER --as NAME/TARGET

The first form trains every target under ``data/`` again and writes it into ``profiles/``; with
``--seconds`` it only says what a profile of so many seconds would have given, judged on the same
networks. The second packs what ``predict-latency profile`` measured (plan.zip and results.jsonl in
FOLDER) into ``data/``: raw repeats and graphs as one archive, kernels and networks as tables.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from predictor.commands.train import train_folder
from predictor.profiling.modules import split_name
from predictor.profiling.records import Measurements, NetworkTiming, read_measurements
from predictor.profiling.session import PLAN, RESULTS
from predictor.tables import csv_line
from predictor.training.dataset import Dataset, dataset_of
from predictor.training.evaluate import figures
from predictor.training.fit import fit
from predictor.training.folds import FOLDS, family_groups
from predictor.training.target import table_text
from predictor.training.trees import network_ms

ROOT = Path(__file__).resolve().parent.parent
DATA, PROFILES = ROOT / "data", ROOT / "profiles"
RAW, KERNELS, NETWORKS = "raw.tar.xz", "kernels.csv", "networks.csv"
TRIALS = 20


def targets(only: str | None) -> Iterator[Path]:
    """Folders ``data/<device>/<runtime>-<precision>`` that hold raw measurements."""
    for path in sorted(DATA.glob(f"*/*/{RAW}")):
        if only in (None, f"{path.parent.parent.name}/{path.parent.name}"):
            yield path.parent


def unpacked(folder: Path, into: Path) -> Path:
    """Plan (its graphs, without the programs) and journal, as training reads them."""
    into.mkdir(parents=True)
    with tarfile.open(folder / RAW) as archive, zipfile.ZipFile(into / PLAN, "w") as plan:
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            if member.name == RESULTS:
                (into / RESULTS).write_bytes(stream.read())
            else:
                plan.writestr(member.name, stream.read())
    return into


def take(source: Path, name: str) -> None:
    """Pack measurements into ``data/NAME``."""
    folder = DATA / name
    folder.mkdir(parents=True, exist_ok=True)
    measured = read_measurements(source / PLAN, source / RESULTS)
    with zipfile.ZipFile(source / PLAN) as plan, tarfile.open(folder / RAW, "w:xz") as archive:
        for entry in sorted(plan.namelist()):
            if not entry.startswith("programs/"):
                _put(archive, entry, plan.read(entry))
        _put(archive, RESULTS, (source / RESULTS).read_bytes())
    (folder / KERNELS).write_text(table_text(measured, dataset_of(measured)), encoding="utf-8")
    (folder / NETWORKS).write_text(networks_text(measured), encoding="utf-8")


def _put(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


COLUMNS = (
    "model", "batch", "precision", "resolution", "latency_ms", "family", "space", "turns",
    "apart_pct", "half_width_pct", "raw_ms", "single_ms", "first_run_ms", "throughput_fps",
)  # fmt: skip
"""Columns of networks.csv; data/README.md explains them."""


def networks_text(measured: Measurements) -> str:
    """One row a network: the mean of its turns, and how far they lie apart."""
    turns: dict[str, list[NetworkTiming]] = {}
    for timing in measured.networks:
        turns.setdefault(timing.label, []).append(timing)
    lines = [csv_line(COLUMNS)]
    for label, timings in turns.items():
        both = [timing.latency_ms for timing in timings]
        apart = 100 * (max(both) / min(both) - 1) if len(both) > 1 else None
        first = timings[0]
        model, side, _ = split_name(label)
        lines.append(csv_line([
            model, str(first.graph.batch), measured.precision, "" if side is None else str(side),
            f"{statistics.geometric_mean(both):.5g}", first.family, first.space,
            str(len(both)), "" if apart is None else f"{apart:.2f}",
            f"{100 * first.half_width:.2f}", f"{first.raw_ms:.5g}", f"{first.single_ms:.5g}",
            f"{first.first_run_ms:.5g}", f"{first.throughput_fps:.5g}",
        ]))  # fmt: skip
    return "".join(lines)


def shortened(source: Path, seconds: float, trials: int) -> dict[str, dict[str, float]]:
    """What a profile of the first ``seconds`` would predict of all networks, families left out.

    Only rows that were measured by then are fitted, scaled and tuned on; the labels to score
    against are those of the whole run. Both are multiples of the reference network, turned into
    milliseconds with its median over the run that they belong to: a machine that was slower
    after the first ``seconds`` than in them moves every label alike. So the error is given
    twice, in milliseconds and in multiples of the reference ("in units of the reference").
    """
    all_measured = read_measurements(source / PLAN, source / RESULTS)
    early_measured = read_measurements(source / PLAN, source / RESULTS, seconds=seconds)
    whole, early = dataset_of(all_measured), dataset_of(early_measured)
    drift = np.log(all_measured.reference_ms / early_measured.reference_ms)
    nets = whole.networks
    scored = nets.scored
    log_error = np.full(len(nets), np.nan)
    for group in family_groups(nets.family[scored], FOLDS, 0):
        names = {whole.families[number] for number in group}
        own = np.array(
            [i for i, name in enumerate(early.families) if name in names], dtype=np.int64
        )
        out_rows, out_networks = early.inside(own)
        fitted = fit(early, ~out_rows, ~out_networks, trials)
        held = whole.inside(group)[1] & scored
        log_error[held] = np.log(network_ms(fitted, whole, held)[held] / nets.label_ms[held])
    seen = {"networks": int(early.networks.scored.sum()), "rows": len(early.rows)}
    nas = np.array(nets.space) == "nas"
    in_units = log_error + drift
    return {
        "in milliseconds": _figures(whole, log_error, scored),
        "in units of the reference": _figures(whole, in_units, scored),
        "nas, in units of the reference": _figures(whole, in_units, nas),
        "seen": {**seen, "reference later / early": float(np.exp(drift))},
    }


def _figures(data: Dataset, log_error: np.ndarray, which: np.ndarray) -> dict[str, float]:
    return figures(log_error[which], data.networks.label_ms[which])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="one target, such as epyc-milan/eager-fp32")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--seconds", type=float, help="judge a shorter profile; write nothing")
    parser.add_argument("--take", type=Path, help="folder with plan.zip and results.jsonl")
    parser.add_argument("--as", dest="name", help="device/runtime-precision to pack it as")
    asked = parser.parse_args(arguments)
    if asked.take is not None:
        take(asked.take, asked.name)
        return
    with tempfile.TemporaryDirectory() as scratch:
        for folder in targets(asked.only):
            name = f"{folder.parent.name}/{folder.name}"
            source = unpacked(folder, Path(scratch) / folder.parent.name / folder.name)
            if asked.seconds is not None:
                print(name, json.dumps(shortened(source, asked.seconds, asked.trials)))
                continue
            train_folder(source, PROFILES / folder.parent.name, asked.trials,
                         say=lambda text, name=name: print(name, text, flush=True))  # fmt: skip


if __name__ == "__main__":
    main()
