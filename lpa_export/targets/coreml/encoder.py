"""The encoder of one bucket: projected features and a mask in, logits and stages out."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.hosts import LPAAttention
from lpa_export.targets.coreml.attention import ChannelsFirstAttention, key_bias
from lpa_export.targets.coreml.channels_first import ChannelNorm, FeedForward, pointwise
from lpa_export.targets.coreml.convolutions import PositionalEmbedding
from lpa_export.targets.coreml.lpa import BandLPA, frames_left

__all__ = ["Encoder", "Padding"]


class Padding(NamedTuple):
    """What the layers know of padding, each (1, 1, 1, T); computed once for all of them."""

    mask: Tensor
    """1 at valid frames, else 0."""
    bias: Tensor
    """Added to attention scores."""
    left: Tensor
    """n - t."""

    @classmethod
    def of(cls, mask: Tensor, encoder: Encoder) -> Padding:
        """All three from the mask."""
        return cls(mask, key_bias(mask), frames_left(mask, encoder.ones, encoder.ramp))


class Encoder(nn.Module):
    """Positional convolution, layers and CTC head of a checkpoint for exactly `frames` frames.

    Weights are copied, the caller's model stays as it is. `frames`: a multiple of `limits.BLOCK`.
    """

    ones: Tensor
    ramp: Tensor

    def __init__(self, checkpoint: Checkpoint, frames: int) -> None:
        super().__init__()
        host = checkpoint.model
        encoder = host.wav2vec2.encoder
        self.norm_first = bool(host.config.do_stable_layer_norm)
        self.positional = PositionalEmbedding(encoder.pos_conv_embed)
        self.norm = ChannelNorm(encoder.layer_norm)
        self.layers = nn.ModuleList(
            EncoderLayer(layer, frames, norm_first=self.norm_first) for layer in encoder.layers
        )
        self.head = pointwise(host.lm_head)
        self.register_buffer("ones", torch.ones(frames, 1))
        self.register_buffer("ramp", torch.arange(frames, dtype=torch.float32).view(1, 1, 1, -1))
        self.eval().requires_grad_(False)

    def forward(self, projected: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """projected (1, D, 1, T), finite at padding; mask (1, 1, 1, T), 1 or 0.

        Returns logits (1, V, 1, T), the embedded input and each layer's output (1, D, 1, T).
        Nothing at padding means anything.
        """
        padding = Padding.of(mask, self)
        hidden = self.embed(projected, mask)
        stages = [hidden]
        for layer in self.layers:
            hidden = layer(hidden, padding)
            stages.append(hidden)
        return self.decode(hidden), *stages

    def embed(self, projected: Tensor, mask: Tensor) -> Tensor:
        """Position embedding added: the input of the first layer, (1, D, 1, T)."""
        # The positional convolution looks past the end: there must be nothing.
        hidden = projected * mask
        hidden = hidden + self.positional(hidden)
        return hidden if self.norm_first else self.norm(hidden)

    def decode(self, hidden: Tensor) -> Tensor:
        """Output of the last layer -> logits (1, V, 1, T)."""
        logits: Tensor = self.head(self.norm(hidden) if self.norm_first else hidden)
        return logits


class EncoderLayer(nn.Module):
    """One layer, norms before (`norm_first`) or after its two halves."""

    def __init__(self, layer: Any, frames: int, *, norm_first: bool) -> None:
        super().__init__()
        attention = layer.attention
        replaced = isinstance(attention, LPAAttention)
        self.lpa = BandLPA(attention.lpa, frames) if replaced else None
        self.attention = None if replaced else ChannelsFirstAttention(attention)
        self.norm_first = norm_first
        self.norm = ChannelNorm(layer.layer_norm)
        self.feed_forward = FeedForward(layer.feed_forward)
        self.final_norm = ChannelNorm(layer.final_layer_norm)

    def forward(self, hidden: Tensor, padding: Padding) -> Tensor:
        """(1, D, 1, T) -> (1, D, 1, T)."""
        if self.norm_first:
            hidden = hidden + self._mix(self.norm(hidden), padding)
            return hidden + self.feed_forward(self.final_norm(hidden))
        hidden = self.norm(hidden + self._mix(hidden, padding))
        return self.final_norm(hidden + self.feed_forward(hidden))

    def _mix(self, hidden: Tensor, padding: Padding) -> Tensor:
        """What takes the place of attention: LPA over valid frames, or attention itself."""
        if self.lpa is not None:
            return self.lpa(hidden, padding.mask, padding.left)
        assert self.attention is not None
        return self.attention(hidden, padding.bias)
