"""Padding and cropping."""

from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _pad(call: Call) -> Tensor:
    """Pairs (before, after) for the last axes, the first pair for the first of them."""
    x, amounts = call.tensor("x"), call.integers("pad")
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    mode = call.text("mode", "constant")
    if mode == "constant":
        value = call.number("constant_val", 0.0)
        return F.pad(x, list(chain.from_iterable(reversed(pairs))), value=value)
    for axis, (before, after) in enumerate(pairs, x.dim() - len(pairs)):
        positions = torch.arange(-before, x.shape[axis] + after)
        x = x.index_select(axis, _SOURCES[mode](positions, x.shape[axis] - 1))
    return x


def _reflected(positions: Tensor, last: int) -> Tensor:
    """Mirrored at the edge element, which is not repeated."""
    return last - (last - positions.abs()).abs()


def _replicated(positions: Tensor, last: int) -> Tensor:
    return positions.clamp(0, last)


_SOURCES = {"reflect": _reflected, "replicate": _replicated}


def _crop(call: Call) -> Tensor:
    x = call.tensor("x")
    top, bottom = call.integers("crop_height")
    left, right = call.integers("crop_width")
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


TABLE: dict[str, Handler] = {"crop": _crop, "pad": _pad}
