"""The (B, C, 1, S) layout: linear maps as 1x1 convolutions, layer norms over the channel axis.

It is the layout that the Neural Engine computes in (apple/ml-ane-transformers, and Apple's
`neural_engine_rules.md`): time lies innermost, and no matrix product needs a transpose.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = [
    "ChannelNorm",
    "channel_norm",
    "pointwise",
    "sizes",
    "split_heads",
    "to_channels_first",
]


def to_channels_first(hidden: Tensor) -> Tensor:
    """(B, S, C) -> (B, C, 1, S)."""
    return hidden.transpose(1, 2)[:, :, None]


def pointwise(linear: nn.Linear) -> nn.Conv2d:
    """A copy of a linear map that works on (B, C, 1, S)."""
    conv = nn.Conv2d(
        linear.in_features,
        linear.out_features,
        1,
        bias=linear.bias is not None,
        dtype=linear.weight.dtype,
    )
    with torch.no_grad():
        conv.weight.copy_(linear.weight[:, :, None, None])
        if conv.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv.requires_grad_(False)


def sizes(tensor: Tensor) -> tuple[int, ...]:
    """The shape as plain numbers: a fixed-shape program must not compute it from its inputs."""
    return tuple(int(size) for size in tensor.shape)


def split_heads(hidden: Tensor, heads: int) -> Tensor:
    """(1, D, 1, S) -> (1, H, d, S)."""
    _, width, _, length = sizes(hidden)
    return hidden.reshape(1, heads, width // heads, length)


@torch.library.custom_op("lpa_export::channel_norm", mutates_args=())
def channel_norm(hidden: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Layer norm over axis 1 of (B, C, ...).

    An operator of its own, so that the converter makes one MIL `layer_norm` over axis 1 of it:
    torch's layer norm knows the last axes only, and two transposes would stand around it.
    """
    channels = (-1,) + (1,) * (hidden.dim() - 2)
    centred = hidden - hidden.mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1, keepdim=True)
    normalised = centred * torch.rsqrt(variance + epsilon)
    return normalised * weight.view(channels) + bias.view(channels)


class ChannelNorm(nn.Module):
    """A copy of a layer norm that works over the channels of (B, C, 1, S)."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.epsilon = norm.eps
        self.weight = nn.Parameter(norm.weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(norm.bias.detach().clone(), requires_grad=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, 1, S) -> (B, C, 1, S)."""
        return channel_norm(hidden, self.weight, self.bias, self.epsilon)
