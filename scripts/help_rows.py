"""The tables of HELP: which column is which target, and networks as keys of their families.

Lee et al., "HELP: Hardware-Adaptive Efficient Latency Prediction for NAS via Meta-Learning",
NeurIPS 2021; some columns are those of Li et al., "HW-NAS-Bench", ICLR 2021. Latencies are
milliseconds; nothing of the tables is kept.
"""

from __future__ import annotations

import csv
import gzip
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FILES = {
    "nasbench201": "help-nasbench201/nasbench201_latency.csv.gz",
    "fbnet": "help-fbnet/fbnet_latency.csv.gz",
    "ofa": "help-ofa/ofa_mbv3_latency.csv",
}
"""The table of each search space."""
DEVICES = {
    "titanx": "gtx-titan-x", "1080ti": "gtx-1080-ti", "titanxp": "titan-xp", "titan_xp": "titan-xp",
    "2080ti": "rtx-2080-ti", "titan_rtx": "titan-rtx", "silver_4114": "xeon-silver-4114",
    "silver_4210r": "xeon-silver-4210r", "gold_6226": "xeon-gold-6226",
    "gold_6240": "xeon-gold-6240", "pixel3": "pixel-3", "raspi4": "raspberry-pi-4",
    "samsung_s7": "galaxy-s7", "samsung_a50": "galaxy-a50", "essential_ph": "essential-phone",
    "eyeriss": "eyeriss", "fpga": "zc706",
}  # fmt: skip
"""What the columns call a device, and its profile."""
FOLDED = ("pixel-3", "raspberry-pi-4")
"""Devices whose runtime folds a network that ignores its input to a constant: no measurement."""
OFA_WIDTH = 1.2
"""Width multiplier of the once-for-all networks. Not stated; it fits slightly better than 1.0."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: latencies (ms) of a space's networks, ``usable`` where they mean anything."""

    space: str
    device: str
    batch: int
    latency_ms: np.ndarray
    usable: np.ndarray


@dataclass(frozen=True, slots=True)
class Table:
    """One search space: the keys of its networks, and every column measured on them."""

    space: str
    keys: tuple[str, ...]
    ignores_input: np.ndarray
    columns: tuple[Column, ...]


def read_table(public_data: Path, space: str) -> Table:
    """The table of ``space``: nasbench201, fbnet or ofa."""
    path = public_data / FILES[space]
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="", encoding="utf-8") as handle:
        records = list(csv.DictReader(handle))
    ignores = np.array([record.get("input_independent") == "1" for record in records])
    columns = []
    for name in records[0]:
        if not name.endswith("_ms"):
            continue
        device, batch = _split(name.removesuffix("_ms"))
        values = np.array([float(record[name] or "nan") for record in records])
        usable = np.isfinite(values) & (values > 0)
        if device in FOLDED:
            usable &= ~ignores
        columns.append(Column(space, device, batch, values, usable))
    keys = tuple(_key(space, record) for record in records)
    return Table(space, keys, ignores, tuple(columns))


def _split(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.+?)(?:_(1|32|64|256))?", name)
    assert match is not None
    return DEVICES[match[1]], int(match[2] or 1)


def _key(space: str, record: dict[str, str]) -> str:
    if space == "nasbench201":
        return f"nasbench201:{record['arch_str']}"
    if space == "fbnet":
        return f"fbnet:{record['op_idx'].strip()}"
    lists = (f"{name}={'-'.join(record[name].split())}" for name in ("ks", "e", "d"))
    return f"ofa:{','.join(lists)},r={record['r']},w={OFA_WIDTH}"
