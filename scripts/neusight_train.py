"""Train the learned kernel model of eager GPUs: one forest over several devices.

A call of one operator takes wait + physics x exp(offset + trees). The wait is the host's (by class
and device); the offset is the device's own log factor by class, a random effect beside what the
trees share; the trees are fitted to log(call) through that sum, so that calls which only wait say
little of kernels. A device that was never measured takes the trained devices' mean offset, and the
wait that has the least mean percentage error over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from predictor.kernels.features import CLASS_INDEX, CLASSES, Features, Floats
from predictor.latency.boosted import COLUMNS, Forest, columns, from_lightgbm
from predictor.latency.physical import MEDIAN, kernel_times
from predictor.latency.tiles import USUAL_WATTS, Board, Shapes, Tiling
from scripts.neusight_data import Devices, Operators, plain_times

PRODUCT = ("log_m", "log_n", "log_k", "log_l2", "log_a_l2", "log_b_l2", "log_seconds")
MOVER = ("log_l2", "log_outputs_a_unit", "log_seconds")
CONV = (
    "log_n", "log_m", "side", "images", "log_channels", "log_conv_share", "conv_i128_64",
    "conv_i128", "conv_i64", "conv_i32", "conv_w2", "conv_w4", "conv_w4_gemm", "conv_w4_moves",
    "conv_fft", "log_blocks_w2", "log_blocks_w4", "log_blocks_i",
)  # fmt: skip
SEEN: Mapping[str, tuple[str, ...]] = {
    "matmul": (*PRODUCT, "log_groups", "log_own_blocks", "own_quantum", "own_pad_m", "own_pad_n",
               "log_own_share"),
    "linear": (*PRODUCT, "log_groups", "pad_128", "pad_64", "pad_32", "pad_128_64",
               "log_blocks_64", "log_tile_excess", "log_ideal_share", "log_tile_share",
               "log_outputs_a_unit"),
    "conv": CONV,
    "norm": (*MOVER, "log_row", "log_rows_a_unit"),
    "softmax": (*MOVER, "log_row", "log_rows_a_unit"),
    "elementwise": (*MOVER, "flops_an_output"),
}  # fmt: skip
"""Columns by class, chosen by leaving out one of the four older devices at a time. None of them
names the device; the power limit as a column was worse on left-out devices for every class."""
TREES = {"matmul": 150, "linear": 150, "conv": 200, "norm": 80, "softmax": 80, "elementwise": 100}
ROUNDS_FOR_OFFSETS, TREES_FOR_OFFSETS = 2, 60
ROWS_A_DEVICE = 4000
"""Rows of a device and class that a fit sees, drawn with a fixed seed."""
ROBUST = 0.15
"""Log errors beyond this count less (Huber)."""
SETTINGS: Mapping[str, Any] = {
    "num_leaves": 31, "learning_rate": 0.08, "min_data_in_leaf": 20, "lambda_l2": 1.0,
    "bagging_fraction": 0.8, "bagging_freq": 1, "feature_fraction": 0.7, "num_threads": 1,
    "seed": 0, "deterministic": True, "force_row_wise": True, "verbose": -1,
}  # fmt: skip
GENERATIONS = ("maxwell", "pascal", "volta", "turing", "ampere", "ada", "hopper", "blackwell")
"""Oldest first."""
SMALLEST, FASTEST = 60, 1.1
"""Calls that a wait is read from, and what it may be of the fastest call."""
TILE_SIDES = (32, 64, 128)
TILE_RATES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Trained:
    """A forest over several devices, and what each of them has of its own.

    ``forest`` is the model for a device that was never measured; ``waits`` (seconds) and
    ``offsets`` are by device and class.
    """

    forest: Forest
    waits: Mapping[tuple[str, str], float]
    offsets: Mapping[tuple[str, str], float]

    def of(self, device: str, siblings: Sequence[str] = ()) -> Forest:
        """The forest with a trained device's own waits and offsets; where it has none of a
        class, its siblings', else those of a new device."""
        offset, wait = self.forest.offset.copy(), self.forest.wait_us.copy()
        for cls, index in CLASS_INDEX.items():
            for name in (device, *siblings):
                if (name, cls) in self.waits:
                    wait[index] = 1e6 * self.waits[name, cls]
                    offset[index] = self.offsets[name, cls]
                    break
        return replace(self.forest, offset=offset, wait_us=wait)


def kernel_seconds(
    forest: Forest, device: str, features: Features, shapes: Shapes, devices: Devices
) -> Floats:
    """What a forest says of kernels on a device, seconds, waits apart."""
    about, hardware = devices(device)
    board = forest.board(about.power_limit_w, about.generation)
    return forest.seconds(features, hardware, plain_times(features, hardware), shapes, board)[0]


def call_seconds(forest: Forest, device: str, rows: Operators, devices: Devices) -> Floats:
    """What a forest says of calls timed alone, seconds."""
    kernels = kernel_seconds(forest, device, rows.features, rows.shapes, devices)
    return kernels + np.nan_to_num(forest.wait_us[rows.features.cls]) * 1e-6


def train(
    rows: Operators, names: Sequence[str], devices: Devices, *,
    seen: Mapping[str, tuple[str, ...]] = SEEN,
    tiles: Mapping[str, tuple[float, float]] | None = None, limit: int = ROWS_A_DEVICE,
) -> Trained:  # fmt: skip
    """The model of the devices ``names``; nothing of any other device is looked at.

    Args:
        tiles: tiles of batched products by generation; None finds them from the rows.
    """
    tiles = fitted_tiles(rows, names, devices) if tiles is None else tiles
    order = [g for g in GENERATIONS if g in tiles]
    empty = _empty(order, tiles)
    waits: dict[tuple[str, str], float] = {}
    offsets: dict[tuple[str, str], float] = {}
    trees: list[Forest] = []
    classes: list[str] = []
    for cls in TREES:
        parts = []
        for name in names:
            index = rows.where(devices=[name], cls=cls)
            if not len(index):
                continue
            base, matrix = physics(rows.take(index), name, empty, devices, seen[cls])
            waits[name, cls] = _wait(rows.seconds[index], base)
            pick = _draw(len(index), limit)
            parts.append((name, rows.seconds[index][pick], base[pick], matrix[pick]))
        if parts:
            forest, own = _train_class(cls, parts, waits, seen[cls])
            trees.append(forest)
            classes.append(cls)
            offsets.update({(name, cls): value for name, value in own.items()})
    watts = {name: devices(name)[0].power_limit_w or USUAL_WATTS for name in names}
    return Trained(_joined(trees, classes, empty, waits, offsets, watts), waits, offsets)


def physics(
    rows: Operators, name: str, forest: Forest, devices: Devices, names: Sequence[str]
) -> tuple[Floats, Floats]:
    """Seconds by the tiling and the matrix of the columns ``names``, for rows of one device."""
    about, hardware = devices(name)
    board = forest.board(about.power_limit_w, about.generation)
    times = kernel_times(rows.features, hardware, MEDIAN)
    base = _base(rows, name, board, devices)
    matrix = columns(rows.features, hardware, times, rows.shapes, board)
    return base, matrix[:, [COLUMNS.index(c) for c in names]]


def _base(rows: Operators, name: str, board: Board, devices: Devices) -> Floats:
    tiling = Tiling(rows.features, devices(name)[1], rows.shapes, board)
    return tiling.seconds((rows.features.cls == CLASS_INDEX["matmul"]).astype(float),
                          rows.features.winograd)  # fmt: skip


def fitted_tiles(
    rows: Operators, names: Sequence[str], devices: Devices
) -> dict[str, tuple[float, float]]:
    """The tile by generation under which batched products deviate least from one efficiency."""
    found: dict[str, list[tuple[float, tuple[float, float]]]] = {}
    for name in names:
        index = rows.where(devices=[name], cls="matmul")
        if not len(index):
            continue
        some = rows.take(index[_draw(len(index), ROWS_A_DEVICE)])
        about, hardware = devices(name)
        memory = some.features.bytes / hardware.bandwidth / 0.8
        wait = _wait(some.seconds, _base(some, name, Board(), devices))
        for m, n in product(TILE_SIDES, TILE_SIDES):
            own = _own_seconds(some, hardware, m, n)
            score = min(
                float(np.mean(np.abs(np.log(
                    (wait + ((own / rate) ** 3 + memory**3) ** (1 / 3)) / some.seconds
                ))))
                for rate in TILE_RATES
            )  # fmt: skip
            found.setdefault(about.generation, []).append((score, (float(m), float(n))))
    best = {}
    for generation, scores in found.items():
        tiles = {tile for _, tile in scores}
        best[generation] = min(
            sorted(tiles), key=lambda t: sum(s for s, tile in scores if tile == t)
        )  # fmt: skip
    return best


def _own_seconds(rows: Operators, hardware: Any, m: int, n: int) -> Floats:
    f = rows.features
    blocks = f.groups * np.ceil(f.m / m) * np.ceil(f.n / n) / hardware.units
    seconds: Floats = np.ceil(blocks) * 2 * m * n * (f.k + 16) * hardware.units
    return seconds / hardware.peak_flops


def _draw(count: int, limit: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.sort(generator.choice(count, min(count, limit), replace=False))


def _wait(seconds: Floats, base: Floats) -> float:
    """What the smallest calls take beyond their kernels.

    Where even those compute for a while (convolutions), the fastest calls bound it.
    """
    small = np.argsort(base, kind="stable")[:SMALLEST]
    usual = np.median(seconds[small] - base[small])
    return float(min(usual, FASTEST * np.quantile(seconds, 0.001)))


def usual_wait(waits: Sequence[float]) -> float:
    """The wait with the least mean percentage error over the devices: a weighted median."""
    ordered = np.sort(np.array(waits))
    weight = np.cumsum(1 / ordered)
    return float(ordered[int(np.searchsorted(weight, weight[-1] / 2))])


def _train_class(
    cls: str, parts: Sequence[tuple[str, Floats, Floats, Floats]],
    waits: Mapping[tuple[str, str], float], names: tuple[str, ...],
) -> tuple[Forest, dict[str, float]]:  # fmt: skip
    """Trees and offsets of one class, in turns."""
    seconds = np.concatenate([p[1] for p in parts])
    base = np.concatenate([p[2] for p in parts])
    matrix = np.concatenate([p[3] for p in parts])
    device = np.repeat(np.arange(len(parts)), [len(p[1]) for p in parts])
    wait = np.array([waits[p[0], cls] for p in parts])[device]
    offset = np.zeros(len(parts))
    for turn in range(ROUNDS_FOR_OFFSETS + 1):
        last = turn == ROUNDS_FOR_OFFSETS
        count = TREES[cls] if last else TREES_FOR_OFFSETS
        booster = _boost(matrix, seconds, wait, base * np.exp(offset[device]), count)
        kernel = base * np.exp(booster.predict(matrix))
        for i in range(len(parts)):
            mine = (device == i) & (kernel > wait)
            if mine.sum() > 20:
                rest = np.maximum(seconds[mine] - wait[mine], 1e-7)
                offset[i] = float(np.median(np.log(rest / kernel[mine])))
    return from_lightgbm(booster, names), {p[0]: offset[i] for i, p in enumerate(parts)}


def _boost(matrix: Floats, seconds: Floats, wait: Floats, base: Floats, count: int) -> Any:
    import lightgbm

    target = np.log(seconds)

    def objective(log_factor: Floats, _: Any) -> tuple[Floats, Floats]:
        kernel = base * np.exp(log_factor)
        residual = np.log(wait + kernel) - target
        share = kernel / (wait + kernel)
        weight = np.minimum(1.0, ROBUST / np.maximum(np.abs(residual), 1e-9))
        return weight * residual * share, weight * share + 1e-6

    data = lightgbm.Dataset(matrix, target, params={"verbose": -1})
    return lightgbm.train({**SETTINGS, "objective": objective}, data, num_boost_round=count)


def _empty(order: Sequence[str], tiles: Mapping[str, tuple[float, float]]) -> Forest:
    """No tree yet, but what is known of tiles."""
    none = np.zeros(0, np.int32)
    return Forest(
        none, np.zeros(0), none, none, np.zeros(0), none, generations=tuple(order),
        tiles=np.array([tiles[g] for g in order], dtype=float).ravel(),
    )  # fmt: skip


def _joined(
    trees: Sequence[Forest], classes: Sequence[str], empty: Forest,
    waits: Mapping[tuple[str, str], float], offsets: Mapping[tuple[str, str], float],
    watts: Mapping[str, float],
) -> Forest:  # fmt: skip
    """One forest of all classes, for a device that was never measured."""
    names = tuple(c for c in COLUMNS if any(c in forest.columns for forest in trees))
    parts: dict[str, list[Any]] = {
        n: [] for n in ("feature", "threshold", "left", "right", "value", "roots")
    }
    owner = []
    at = 0
    for forest, cls in zip(trees, classes, strict=True):
        place = np.array([names.index(c) for c in forest.columns], np.int32)
        inner = forest.feature >= 0
        parts["feature"].append(np.where(inner, place[np.maximum(forest.feature, 0)], -1))
        parts["threshold"].append(forest.threshold)
        parts["value"].append(forest.value)
        for name in ("left", "right", "roots"):
            parts[name].append(getattr(forest, name) + at)
        owner += [CLASS_INDEX[cls]] * len(forest.roots)
        at += len(forest.feature)
    wait = np.full(len(CLASSES), np.nan)
    for cls in classes:
        wait[CLASS_INDEX[cls]] = 1e6 * usual_wait([v for (_, c), v in waits.items() if c == cls])
    kin = np.full((len(watts), len(CLASSES)), np.nan)
    for (name, cls), value in offsets.items():
        kin[list(watts).index(name), CLASS_INDEX[cls]] = value
    whole = {n: np.concatenate(v) for n, v in parts.items()}
    for name in ("feature", "left", "right", "roots"):
        whole[name] = whole[name].astype(np.int32)
    return replace(
        empty,
        **whole,
        columns=names,
        root_class=np.array(owner, np.int32),
        wait_us=wait,
        offset=np.full(len(CLASSES), np.nan),
        kin_offset=kin.ravel(),
        kin_watts=np.array(list(watts.values()), dtype=float),
    )
