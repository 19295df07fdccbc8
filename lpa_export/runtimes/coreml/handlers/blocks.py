"""Moves between the channel, batch and spatial axes, in square blocks (x is (N, C, H, W))."""

import torch.nn.functional as F
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _pixel_shuffle(call: Call) -> Tensor:
    """The position in the block is the fastest part of the channel."""
    return F.pixel_shuffle(call.tensor("x"), call.integer("upscale_factor"))


def _pixel_unshuffle(call: Call) -> Tensor:
    return F.pixel_unshuffle(call.tensor("x"), call.integer("downscale_factor"))


def _depth_to_space(call: Call) -> Tensor:
    """The position in the block is the slowest part of the channel, as in TensorFlow."""
    x, size = call.tensor("x"), call.integer("block_size")
    n, c, h, w = x.shape
    blocks = x.reshape(n, size, size, c // size**2, h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, c // size**2, h * size, w * size)


def _space_to_depth(call: Call) -> Tensor:
    x, size = call.tensor("x"), call.integer("block_size")
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // size, size, w // size, size)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, c * size**2, h // size, w // size)


def _space_to_batch(call: Call) -> Tensor:
    """The position in the block is the slowest part of the batch, as in TensorFlow."""
    rows, columns = call.integers("block_shape")
    top, bottom, left, right = call.integers("paddings")
    x = F.pad(call.tensor("x"), (left, right, top, bottom))
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // rows, rows, w // columns, columns)
    return blocks.permute(3, 5, 0, 1, 2, 4).reshape(-1, c, h // rows, w // columns)


def _batch_to_space(call: Call) -> Tensor:
    x = call.tensor("x")
    rows, columns = call.integers("block_shape")
    top, bottom, left, right = call.integers("crops")
    n, c, h, w = x.shape
    blocks = x.reshape(rows, columns, n // (rows * columns), c, h, w)
    whole = blocks.permute(2, 3, 4, 0, 5, 1).reshape(-1, c, h * rows, w * columns)
    return whole[:, :, top : h * rows - bottom, left : w * columns - right]


TABLE: dict[str, Handler] = {
    "batch_to_space": _batch_to_space,
    "depth_to_space": _depth_to_space,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "space_to_batch": _space_to_batch,
    "space_to_depth": _space_to_depth,
}
