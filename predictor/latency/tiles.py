"""How a GPU's libraries cut a kernel into tiles: the physics under the learned kernel model.

A matrix product is computed in output tiles, one block of threads each; blocks run in waves over
the device's units, so a product takes as long as its tiles rounded up to whole waves. Which tile a
library takes differs by generation. A 3x3 convolution runs as an implicit product, or in Winograd's
or Fourier's domain, whichever the library thinks fastest. All that is not a product moves bytes.

:class:`Tiling` gives a kernel's seconds by these rules (no launch, no efficiencies: those are
learned), and the quantities that the learned part sees beside those of the roofline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from predictor.graph import Kernel
from predictor.kernels.features import Features, Floats
from predictor.latency.physical import Hardware

SMOOTH = 3.0
"""Exponent of the smooth maximum of compute and memory time."""
WARM_UP_K = 16.0
"""A tile's prologue and epilogue cost about as much as this much of the contracted length."""
MENU = tuple(
    (m, n, efficiency, parts)
    for m, n, efficiency, splits in (
        (128, 128, 0.95, (1, 2, 4, 8)), (128, 64, 0.85, (1, 2, 4, 8)),
        (64, 128, 0.85, (1, 2, 4, 8)), (64, 64, 0.7, (1, 4)), (128, 32, 0.6, (1,)),
        (32, 128, 0.6, (1,)), (32, 32, 0.4, (1,)),
    )
    for parts in splits
)  # fmt: skip
"""Tiles that a library chooses from where it may choose: sides, share of peak that the inner loop
reaches (smaller tiles reuse less), and into how many parts the contracted length is split."""
SPLIT_SECONDS = 2e-6
"""Adding up the parts of a split product is a kernel of its own."""
USUAL_TILE = (128.0, 128.0)
USUAL_WATTS = 250.0
"""A data-centre card on PCIe, where a profile states no limit."""


@dataclass(frozen=True, slots=True)
class Board:
    """What the tiling needs of a device beside :class:`Hardware`.

    ``watts`` is the power limit; ``tile_m`` and ``tile_n`` the tile of batched products, which
    the library does not choose by shape.
    """

    watts: float = USUAL_WATTS
    tile_m: float = USUAL_TILE[0]
    tile_n: float = USUAL_TILE[1]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Sizes that :class:`Features` does not keep, one entry a kernel.

    ``side`` is the geometric mean of a convolution's output sides, ``images`` its batch; ``row``
    the length that a softmax or layer norm runs over; ``plain`` 1 where an operator of the class
    is of the kind that was measured (layer norm, not batch norm).
    """

    side: Floats
    images: Floats
    row: Floats
    plain: Floats

    @staticmethod
    def none(count: int) -> Shapes:
        """Ones: nothing is known."""
        return Shapes(*(np.ones(count) for _ in range(4)))


def shapes_of(kernels: Sequence[Kernel]) -> Shapes:
    """The sizes of ``kernels``, in order."""
    rows = [_shape(kernel) for kernel in kernels]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 4)
    return Shapes(*(table[:, i] for i in range(4)))


def _shape(kernel: Kernel) -> tuple[float, float, float, float]:
    op = kernel.ops[kernel.anchor]
    if op.kind == "conv" and op.outputs:
        spatial = op.outputs[0].shape[2:]
        return math.prod(spatial) ** (1 / max(1, len(spatial))), op.outputs[0].shape[0], 1.0, 1.0
    if op.kind == "norm":
        row = op.weights[0].numel if op.weights else op.outputs[0].shape[-1]
        return 1.0, 1.0, float(max(1, row)), float(op.attrs.get("type") == "layer")
    if op.kind == "softmax" and op.inputs and op.inputs[0].shape:
        return 1.0, 1.0, float(max(1, op.inputs[0].shape[-1])), 1.0
    return 1.0, 1.0, 1.0, 1.0


class Tiling:
    """Kernels cut into tiles on a device; one pass, shared by times and columns."""

    def __init__(self, f: Features, hw: Hardware, shapes: Shapes, board: Board) -> None:
        self.f, self.hw, self.shapes, self.board = f, hw, shapes, board
        self.unit_flops = hw.peak_flops / hw.units
        self.memory = np.maximum(f.bytes, 1.0) / hw.bandwidth
        self.product = f.macs > 0
        self.ideal = 2 * f.macs / hw.peak_flops
        self.menu = np.where(self.product, self._menu(), 0.0)
        own, self.own_blocks = self._product(
            f.groups, f.m, f.n, f.k, board.tile_m, board.tile_n
        )  # fmt: skip
        self.own = np.where(self.product, own, 0.0)
        self.conv = self._convolutions()

    def _product(
        self, batch: Floats | float, m: Floats, n: Floats, k: Floats, tile_m: float, tile_n: float
    ) -> tuple[Floats, Floats]:
        """Seconds of a batch of products in one tile, and blocks a unit."""
        blocks = batch * np.ceil(m / tile_m) * np.ceil(n / tile_n) / self.hw.units
        tile = 2 * tile_m * tile_n * (k + WARM_UP_K) / self.unit_flops
        return np.ceil(blocks) * tile, blocks

    def _menu(self) -> Floats:
        """The fastest tile and split, by these rules."""
        f = self.f
        m, n, rate, parts = np.array(MENU, dtype=float).T[:, :, None]
        blocks = f.groups * np.ceil(f.m / m) * np.ceil(f.n / n) * parts / self.hw.units
        k = np.ceil(f.k / parts) + 2 * WARM_UP_K
        seconds = np.ceil(blocks) * 2 * m * n * k / (self.unit_flops * rate)
        join = (parts + 1) * f.outputs * 4 / self.hw.bandwidth + SPLIT_SECONDS
        best: Floats = (seconds + np.where(parts > 1, join, 0.0)).min(axis=0)
        return best

    def _convolutions(self) -> dict[str, Floats]:
        """Seconds of a stride-1 3x3 convolution by each algorithm.

        Winograd F(2x2, 3x3) takes 16 products an output tile of 4, F(4x4, 3x3) 36 of 16 and moves
        its transforms through memory; Fourier tiles are 32 wide, 544 complex products each.
        """
        f, width = self.f, self.hw.bandwidth / 4  # floats a second
        channels, outs = np.maximum(f.k / f.taps, 1.0), f.n
        side, images = self.shapes.side, self.shapes.images
        two, four = (images * np.ceil(side / s) ** 2 for s in (2, 4))
        waves = np.ceil(images * np.ceil((side + 2) / 30) ** 2)
        small, blocks_2 = self._product(1.0, two, outs, channels, 32, 64)
        gemm, blocks_4 = self._product(36.0, four, outs, channels, 64, 128)
        moves = (
            2 * f.m * channels + 72 * four * (channels + outs) + f.m * outs + 81 * channels * outs
        ) / width
        fourier = 4 * self._product(544.0, waves, outs, channels, 32, 64)[0]
        fourier += (3072 * waves * (channels + outs) + 2176 * channels * outs) / width
        sizes = {"i128_64": (128, 64), "i128": (128, 128), "i64": (64, 64), "i32": (32, 32)}
        implicit = {k: self._product(1.0, f.m, outs, f.k, *s) for k, s in sizes.items()}
        times = {k: seconds for k, (seconds, _) in implicit.items()}
        best = np.minimum.reduce([
            times["i128_64"], 0.95 * times["i128"], 1.1 * times["i64"], 1.5 * times["i32"],
            1.2 * 16 * small, 1.1 * (gemm + moves), 1.2 * fourier,
        ])  # fmt: skip
        return {
            **times, "w2": 16 * small, "w4": gemm + moves, "w4_gemm": gemm, "w4_moves": moves,
            "fft": fourier, "best": self._with_memory(best), "blocks_w2": blocks_2,
            "blocks_w4": blocks_4, "blocks_i": implicit["i128_64"][1], "channels": channels,
        }  # fmt: skip

    def _with_memory(self, compute: Floats, share: float = 1.0) -> Floats:
        seconds: Floats = (compute**SMOOTH + (self.memory / share) ** SMOOTH) ** (1 / SMOOTH)
        return seconds

    def seconds(self, batched: Floats, convolution: Floats) -> Floats:
        """Seconds a kernel, before what is learned.

        Args:
            batched: 1 for batched products, which take the board's tile.
            convolution: 1 for convolutions that Winograd's algorithm can run.
        """
        product = np.where(batched > 0, self._with_memory(self.own, 0.8),
                           self._with_memory(self.menu))  # fmt: skip
        return np.where(convolution > 0, self.conv["best"], product)

    def columns(self, seconds: Floats) -> Mapping[str, Floats]:
        """Named quantities for the learned part: ratios, and a few absolute sizes."""
        f, hw, conv = self.f, self.hw, self.conv

        def log(x: Floats) -> Floats:
            return np.log10(np.maximum(x, 1e-30))

        def pad(size: Floats, tile: float) -> Floats:
            return np.ceil(size / tile) * tile / size

        def excess(m: float, n: float) -> Floats:
            blocks = f.groups * np.ceil(f.m / m) * np.ceil(f.n / n) / hw.units
            return log(np.ceil(blocks) * hw.units * m * n / (f.groups * f.m * f.n))

        def blocks(side: float) -> Floats:
            return log(f.groups * np.ceil(f.m / side) * np.ceil(f.n / side) / hw.units)

        found = {
            "log_groups": log(f.groups), "pad_128": excess(128, 128), "pad_64": excess(64, 64),
            "pad_32": excess(32, 32), "pad_128_64": excess(128, 64),
            "log_blocks_64": blocks(64), "log_blocks_128": blocks(128),
            "log_tile_excess": log(self.menu / np.maximum(self.ideal, 1e-30)).clip(-3, 6),
            "log_ideal_share": log(self.ideal / self.memory).clip(-6, 6),
            "log_tile_share": log(self.menu / self.memory).clip(-6, 6),
            "log_l2": log(f.bytes / hw.l2_bytes),
            "log_a_l2": log(f.groups * f.m * f.k * 4 / hw.l2_bytes),
            "log_b_l2": log(f.groups * f.n * f.k * 4 / hw.l2_bytes),
            "log_watts": np.full(len(f), math.log10(self.board.watts)),
            "log_seconds": log(seconds),
            "log_own_blocks": log(self.own_blocks),
            "own_quantum": log(np.ceil(self.own_blocks) / np.maximum(self.own_blocks, 1e-30)),
            "own_pad_m": log(pad(f.m, self.board.tile_m)),
            "own_pad_n": log(pad(f.n, self.board.tile_n)),
            "log_own_share": log(self.own / self.memory).clip(-6, 6),
            "side": self.shapes.side, "images": self.shapes.images,
            "log_row": log(self.shapes.row),
            "log_rows_a_unit": log(f.outputs / self.shapes.row / hw.units),
            "flops_an_output": log((f.elementwise_flops + 1) / np.maximum(f.outputs, 1)),
            "log_channels": log(conv["channels"]),
            "log_conv_share": log(conv["best"] / self.memory),
        }  # fmt: skip
        for name in ("i128_64", "i128", "i64", "i32", "w2", "w4", "w4_gemm", "w4_moves", "fft"):
            found[f"conv_{name}"] = log(conv[name] / conv["best"])
        for name in ("blocks_w2", "blocks_w4", "blocks_i"):
            found[f"log_{name}"] = log(conv[name])
        return found
