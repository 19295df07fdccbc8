"""Convolutions over time in forms the Neural Engine takes: short kernels, short rows. All exact."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpa_export.targets.coreml.channels_first import sizes

__all__ = ["MAX_TAPS", "FoldedConv", "ShortConvs"]

MAX_TAPS = 13
"""The widest kernel that every generation of the engine takes in float16 (ane-guide, chapter 4)."""


class ShortConvs(nn.Module):
    """A convolution over time (stride 1) as the sum of shifted ones of at most `MAX_TAPS` taps.

    `conv`: a Conv1d of odd kernel k and padding k // 2, or of even kernel, whose last output is
    dropped (as in wav2vec2's positional embedding): the length stays as it is.
    """

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        taps = conv.kernel_size[0]
        self.before, self.after = taps // 2, (taps - 1) // 2
        self.starts = tuple(range(0, taps, MAX_TAPS))
        self.pieces = nn.ModuleList()
        for start in self.starts:
            weight = conv.weight.detach()[:, :, None, start : start + MAX_TAPS]
            first = start == 0 and conv.bias is not None
            piece = nn.Conv2d(
                conv.in_channels,
                conv.out_channels,
                (1, weight.shape[3]),
                groups=conv.groups,
                bias=first,
                dtype=weight.dtype,
            )
            piece.load_state_dict({"weight": weight} | ({"bias": conv.bias} if first else {}))
            self.pieces.append(piece.requires_grad_(False))

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, 1, S), zero where nothing may be heard -> (B, C', 1, S)."""
        length = sizes(hidden)[-1]
        padded = functional.pad(hidden, (self.before, self.after))
        parts = []
        piece: Any
        for start, piece in zip(self.starts, self.pieces, strict=True):
            parts.append(piece(padded[..., start : start + length + piece.kernel_size[1] - 1]))
        return sum(parts[1:], parts[0])


class FoldedConv(nn.Module):
    """A convolution of one channel whose row is folded g times: g channels, a g-th of the length.

    g is the greatest common divisor of kernel and stride: kernel 10 and stride 5 become kernel 2
    and stride 1 on five channels. Rows of samples are longer than the engine's widest, folded
    ones are not for so long, and stride 5, which it has not, goes.
    """

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        taps, stride = conv.kernel_size[0], conv.stride[0]
        self.fold = math.gcd(taps, stride)
        weight = conv.weight.detach().view(conv.out_channels, taps // self.fold, self.fold)
        self.conv = nn.Conv2d(
            self.fold,
            conv.out_channels,
            (1, taps // self.fold),
            stride=(1, stride // self.fold),
            bias=conv.bias is not None,
            dtype=weight.dtype,
        )
        with torch.no_grad():
            self.conv.weight.copy_(weight.transpose(1, 2)[:, :, None])
            if conv.bias is not None and self.conv.bias is not None:
                self.conv.bias.copy_(conv.bias)
        self.requires_grad_(False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(1, 1, 1, N), N a multiple of g -> (1, C, 1, frames)."""
        length = sizes(waveform)[-1] // self.fold
        folded = waveform.reshape(1, length, 1, self.fold).transpose(1, 3)
        convolved: Tensor = self.conv(folded)
        return convolved
