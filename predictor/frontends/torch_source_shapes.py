"""Operators that move, join, part and reduce tensors, in PyTorch; and what writing needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from predictor.errors import ModelError
from predictor.graph import Op


@dataclass(frozen=True, slots=True)
class Site:
    """An operator where it stands in ``forward``.

    ``args`` are the variables that it reads and ``layer`` the attribute that holds its weights;
    ``batch`` is the axis of the batch in its first input, None where that is not known; ``after``
    is the kind of the operator that made its first input, ``source`` the graph's.
    """

    op: Op
    args: tuple[str, ...]
    layer: str
    batch: int | None
    after: str
    source: str

    @property
    def x(self) -> str:
        """The variable of the first input."""
        return self.args[0]

    @property
    def old(self) -> tuple[int, ...]:
        """Shape of the first input."""
        return self.op.inputs[0].shape

    @property
    def new(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.op.outputs[0].shape

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute of the operator."""
        return self.op.attrs.get(key, default)

    def refuse(self, why: str, remedy: str) -> ModelError:
        """The error that this operator cannot be written."""
        return ModelError(f"{self.op.name}: {why}, so it cannot be written as PyTorch; {remedy}")


@dataclass(frozen=True, slots=True)
class Code:
    """``call`` is the expression in ``forward``; ``layer`` what ``__init__`` makes for it."""

    call: str
    layer: str = ""
    assumed: str = ""


def size(values: Sequence[int]) -> str:
    """``3`` for a square, ``(3, 5)`` else."""
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


def call(function: str, *args: object, **settings: object) -> str:
    """A call as text."""
    words = [str(arg) for arg in args]
    return f"{function}({', '.join(words + [f'{key}={value}' for key, value in settings.items()])})"


def _reshape(site: Site) -> Code:
    x, old, new, axis = site.x, site.old, site.new, site.batch
    if len(site.args) > 1:
        raise site.refuse("it joins a cache with what was written to it",
                          "leave the phase out: a whole forward pass has no cache")  # fmt: skip
    # Said as joining or parting axes behind the batch, it holds for other batches and lengths.
    joined, parted = _joined(old, new), _joined(new, old)
    if joined == (1, len(old) - 1):
        return Code(f"{x}.flatten(1)")
    if joined or parted:
        start, end = joined or parted or (0, 0)
        behind = len(old) - (len(new if parted else old) - 1 - end)
        made = [str(n) for n in (new[start : end + 1] if parted else new[start : start + 1])]
        before = f"{x}.shape[0]" if start == 1 else f"*{x}.shape[:{start}]"
        after = [f"*{x}.shape[{behind}:]"] if behind < len(old) else []
        return Code(f"{x}.reshape({', '.join([before, *made, *after])})")
    sizes = [str(n) for n in new]
    if axis is not None and new[: axis + 1] == old[: axis + 1]:
        sizes[axis] = f"{x}.shape[{axis}]"
    elif axis == 0 and new:
        sizes[0] = "-1"  # the batch, and what is folded into it
    return Code(f"{x}.reshape({', '.join(sizes)})")


def _joined(long: tuple[int, ...], short: tuple[int, ...]) -> tuple[int, int] | None:
    """The first and last of the axes of ``long`` that joined give ``short``; never the batch."""
    more = len(long) - len(short)
    for start in range(len(short) - 1, 0, -1) if more > 0 else ():
        end = start + more
        if short == (*long[:start], math.prod(long[start : end + 1]), *long[end + 1 :]):
            return start, end
    return None


def _transpose(site: Site) -> Code:
    order = site.get("order")
    if order is None:
        raise site.refuse("the graph does not say the order of its axes", "name it as 'order'")
    moved = [i for i, axis in enumerate(order) if i != axis]
    if len(moved) == 2:
        return Code(f"{site.x}.transpose({moved[0]}, {moved[1]})")
    return Code(f"{site.x}.permute({', '.join(map(str, order))})")


def _slice(site: Site) -> Code:
    x, old, new, op = site.x, site.old, site.new, site.op
    axis = site.get("axis", 1) % len(old)
    if len(op.outputs) > 1:
        sizes = [spec.shape[axis] for spec in op.outputs]
        if len(set(sizes)) == 1 and sizes[0] * len(sizes) == old[axis]:
            return Code(call(f"{x}.chunk", len(sizes), dim=axis))
        return Code(call(f"{x}.split", sizes, dim=axis))
    colons = ":, " * axis
    if len(new) < len(old):
        index = site.get("index")
        said = "" if index is not None else f"it takes position 0 of axis {axis}"
        return Code(f"{x}[{colons}{index or 0}]", assumed=said)
    start = site.get("start")
    said = "" if start is not None else f"it takes the first {new[axis]} positions of axis {axis}"
    stop = (start or 0) + new[axis]
    return Code(f"{x}[{colons}{start or ''}:{stop}]", assumed=said)


def _concat(site: Site) -> Code:
    axis = site.get("axis", 1)
    if not site.op.weights:
        return Code(f"torch.cat([{', '.join(site.args)}], dim={axis})")
    shape = site.op.weights[0].shape  # a class token, in front
    first = f"{site.layer}.expand({site.x}.shape[0], {', '.join(['-1'] * (len(shape) - 1))})"
    layer = f"nn.Parameter(0.02 * torch.randn({', '.join(map(str, shape))}))"
    return Code(f"torch.cat([{first}, {site.x}], dim={axis})", layer)


def _reduce(site: Site) -> Code:
    fn, old, new = site.get("fn"), site.old, site.new
    if len(new) == len(old):
        axes, sure = [i for i, (n, m) in enumerate(zip(old, new, strict=True)) if n != m], True
    else:
        axes, sure = _removed(old, new)
    if fn not in ("mean", "sum", "amax", "amin", "argmax", "argmin") or not axes:
        raise site.refuse(f"the graph does not say the axes of '{fn}'", "use mean, sum, amax or "
                          "amin over axes longer than 1")  # fmt: skip
    if fn.startswith("arg") and len(axes) > 1:
        raise site.refuse(f"'{fn}' reduces one axis, not {len(axes)}", "flatten them before")
    dim = axes[0] if len(axes) == 1 else tuple(axes)
    more: dict[str, object] = {"keepdim": True} if len(new) == len(old) else {}
    said = "" if sure else f"it reduces axis {dim} of {list(old)}"
    return Code(call(f"{site.x}.{fn}", dim=dim, **more), assumed=said)


def _removed(old: tuple[int, ...], new: tuple[int, ...]) -> tuple[list[int], bool]:
    """Axes that lead from ``old`` to ``new``, and whether no others would: the last ones if so."""
    found: list[list[int]] = []

    def walk(i: int, j: int, gone: list[int]) -> None:
        if len(found) > 1 or len(new) - j > len(old) - i:
            return
        if i == len(old):
            found.append(gone)
            return
        if j < len(new) and old[i] == new[j]:
            walk(i + 1, j + 1, gone)
        walk(i + 1, j, [*gone, i])

    walk(0, 0, [])
    return (found[0], len(found) == 1) if found else ([], False)


def _copy(site: Site) -> Code:
    fn, x, old, new = site.get("fn"), site.x, site.old, site.new
    if site.get("into") is not None:
        raise site.refuse("it writes into a cache", "leave the phase out: a whole forward pass "
                          "has no cache")  # fmt: skip
    if fn == "_to_copy":
        return Code(f"{x}.to(torch.{site.op.outputs[0].dtype})")
    if fn == "clone":
        return Code(f"{x}.{'contiguous' if site.after == 'transpose' else 'clone'}()")
    if fn == "constant_pad_nd":
        return _pad(site)
    if fn in ("pixel_shuffle", "pixel_unshuffle"):
        factor = max(new[2], old[2]) // min(new[2], old[2])
        return Code(f"F.{fn}({x}, {factor})")
    if fn == "channel_shuffle" and site.get("groups"):
        return Code(f"F.channel_shuffle({x}, {site.get('groups')})")
    longer = [i for i, (n, m) in enumerate(zip(old, new, strict=False)) if n != m]
    if fn is None and len(old) == len(new) and len(longer) == 1:
        (axis,) = longer
        return Code(call(f"{x}.repeat_interleave", new[axis] // old[axis], dim=axis))
    raise site.refuse(f"the graph does not say how '{fn or 'copy'}' moves its elements",
                      "write it as reshape, transpose and reshape")  # fmt: skip


def _pad(site: Site) -> Code:
    pads: list[int] = []
    for n, m in zip(reversed(site.old), reversed(site.new), strict=True):
        pads += [(m - n) // 2, m - n - (m - n) // 2]
    while len(pads) > 2 and not any(pads[-2:]):
        del pads[-2:]
    return Code(f"F.pad({site.x}, {tuple(pads)})", assumed="its border is the same at both ends")


def _expand(site: Site) -> Code:
    sizes = [str(n) for n in site.new]
    if site.batch == 0 and len(site.old) == len(site.new):
        sizes[0] = "-1"
    return Code(f"{site.x}.expand({', '.join(sizes)})")


MOVES: dict[str, Callable[[Site], Code]] = {
    "reshape": _reshape, "transpose": _transpose, "slice": _slice, "expand": _expand,
    "concat": _concat, "reduce": _reduce, "copy": _copy,
}  # fmt: skip
"""By kind of operator."""
