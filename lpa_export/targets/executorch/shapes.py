"""Images (1, D, 1, T), matrices (T, D) and the convolution of an image, as XNNPACK likes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["convolution", "to_image", "to_matrix"]


def to_image(hidden: Tensor) -> Tensor:
    """(T, D) -> (1, D, 1, T). Axes are added behind: XNNPACK adds them nowhere else."""
    return hidden[..., None, None].permute(2, 1, 3, 0)


def to_matrix(image: Tensor) -> Tensor:
    """(1, D, 1, T) -> (T, D)."""
    return image.permute(0, 2, 3, 1).view(-1, image.shape[1])


def convolution(source: nn.Conv1d) -> nn.Conv2d:
    """The same convolution over the last axis of an image one row high, without its padding."""
    made = nn.Conv2d(
        source.in_channels,
        source.out_channels,
        (1, source.kernel_size[0]),
        stride=(1, source.stride[0]),
        groups=source.groups,
        bias=source.bias is not None,
    )
    with torch.no_grad():
        made.weight.copy_(source.weight[:, :, None])
        if source.bias is not None and made.bias is not None:
            made.bias.copy_(source.bias)
    return made
