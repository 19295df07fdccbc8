"""A convolution over time as one over the last axis of an image one row high."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["row_convolution"]


def row_convolution(source: nn.Conv1d, *, padded: bool = False) -> nn.Conv2d:
    """A copy that works on (B, C, 1, T); its padding goes along where `padded`, else it has none.

    Accelerators take convolutions over images; time is the innermost axis there.
    """
    made = nn.Conv2d(
        source.in_channels,
        source.out_channels,
        (1, source.kernel_size[0]),
        stride=(1, source.stride[0]),
        padding=(0, int(source.padding[0]) if padded else 0),
        groups=source.groups,
        bias=source.bias is not None,
        dtype=source.weight.dtype,
    )
    with torch.no_grad():
        made.weight.copy_(source.weight[:, :, None])
        if source.bias is not None and made.bias is not None:
            made.bias.copy_(source.bias)
    return made.requires_grad_(False)
