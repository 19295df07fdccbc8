"""Slices of a tensor, read or written."""

from typing import Any

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _selected(call: Call, shape: torch.Size) -> list[range | int]:
    """What ``begin``, ``end``, ``stride`` and the masks select of each axis, as NumPy's slices do.

    A number where the axis is squeezed away.
    """
    rank = len(shape)
    begins, ends = call.integers("begin"), call.integers("end")
    strides = call.integers("stride", [1] * rank)
    begin_mask, end_mask, squeeze_mask = (
        call.integers(name, [0] * rank) for name in ("begin_mask", "end_mask", "squeeze_mask")
    )
    selected: list[range | int] = []
    for axis, size in enumerate(shape):
        begin = None if begin_mask[axis] else begins[axis]
        if squeeze_mask[axis]:
            selected.append(_inside(begin or 0, size))
            continue
        end = None if end_mask[axis] else ends[axis]
        selected.append(range(size)[begin : end : strides[axis]])
    return selected


def _inside(position: int, size: int) -> int:
    if not -size <= position < size:
        raise IndexError(f"index {position} is outside an axis of {size}")
    return position % size


def _slice_by_index(call: Call) -> Tensor:
    x = call.tensor("x")
    for axis, selected in reversed(list(enumerate(_selected(call, x.shape)))):
        if isinstance(selected, int):
            x = x.select(axis, selected)
        elif selected.step < 0:
            x = x.index_select(axis, torch.tensor(selected, dtype=torch.long))
        else:
            part = slice(selected.start, max(selected.start, selected.stop), selected.step)
            x = x[(slice(None),) * axis + (part,)]
    return x


def _slice_by_size(call: Call) -> Tensor:
    """A size of -1 takes all that follows ``begin``."""
    x = call.tensor("x")
    slices: list[Any] = []
    for size, begin, count in zip(
        x.shape, call.integers("begin"), call.integers("size"), strict=True
    ):
        start = begin + size if begin < 0 else begin
        slices.append(slice(start, size if count == -1 else start + count))
    return x[tuple(slices)]


def _slice_update(call: Call) -> Tensor:
    x = call.tensor("x").clone()
    places = [
        torch.tensor([one] if isinstance(one, int) else one, dtype=torch.long)
        for one in _selected(call, x.shape)
    ]
    grid = torch.meshgrid(places, indexing="ij")
    x[grid] = call.tensor("update").reshape(grid[0].shape)
    return x


TABLE: dict[str, Handler] = {
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
}
