"""SepFormer (Subakan et al. 2021, arXiv:2010.13154), computing what SpeechBrain's module computes.

    encoder  E = relu(conv(waveform)): (L, filters) frames, one every `stride` samples
    masker   norm, projection to `hidden_size`, chunks of K frames that overlap by half (S of them);
             blocks of transformer layers within each chunk (intra), then across chunks (inter);
             PReLU, one map per source, overlap-add, a gate, projection back, ReLU: masks
    decoder  transposed conv(mask * E): a waveform per source, zeros behind the last frame

The names of all modules, and so the keys of a state dict, are SpeechBrain's (`encoder`, `masknet`,
`decoder`). Tensors here have their channels last, and one-by-one convolutions are matrix products.

*Padding.* SpeechBrain's output moves when zeros are appended: its norms and its attention across
chunks count them. Here every utterance of a padded batch gives what it gives alone: frames and
chunks that it does not have alone are zeroed where they would enter a sum, norms count its own
only, and attention across chunks does not see the others. What it has alone *includes* the zeros
that fill its last chunk, as in SpeechBrain.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lpa_export.hosts.sepformer.chunks import chunk_count, merge, segment
from lpa_export.hosts.sepformer.config import SepFormerConfig

__all__ = ["Attention", "SepFormer", "TransformerLayer", "sinusoids"]

LAYER_NORM_EPSILON = 1e-6
GLOBAL_NORM_EPSILON = 1e-8


class SepFormer(nn.Module):
    """A mixture in, its sources out."""

    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config)
        self.masknet = _Masker(config)
        self.decoder = nn.ConvTranspose1d(
            config.filters, 1, config.kernel_size, stride=config.stride, bias=False
        )

    def forward(self, mixtures: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Mixtures (B, samples) -> (B, sources, samples).

        `lengths` (B,) int64, samples of each; None: all are valid. What lies behind a mixture's
        end changes nothing, and zeros come out there. Raises ValueError for mixtures that are
        shorter than the encoder's kernel.
        """
        config = self.config
        if mixtures.shape[1] < config.kernel_size:
            raise ValueError(
                f"expected {config.kernel_size} samples at least, found {mixtures.shape[1]}"
            )
        if lengths is not None:
            mixtures = mixtures.masked_fill(~_first(mixtures.shape[1], lengths), 0.0)
            lengths = (lengths - config.kernel_size) // config.stride + 1
        encoded = self.encoder(mixtures)
        masked = self.masknet(encoded, lengths) * encoded[:, None]
        if lengths is not None:
            valid = _first(encoded.shape[1], lengths)
            masked = masked.masked_fill(~valid[:, None, :, None], 0.0)
        sources = self.decoder(masked.flatten(0, 1).transpose(1, 2))
        sources = sources.view(*masked.shape[:2], -1)
        # The last samples are fewer than a stride: no frame covers them.
        return nn.functional.pad(sources, (0, mixtures.shape[1] - sources.shape[-1]))

    @property
    def layers(self) -> list[TransformerLayer]:
        """Every transformer layer in the order of computation, which is how they are counted."""
        blocks: Any = self.masknet.dual_mdl
        return [
            layer
            for block in blocks
            for stack in (block.intra_mdl, block.inter_mdl)
            for layer in stack.mdl.layers
        ]


class _Encoder(nn.Module):
    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        kernel, stride = config.kernel_size, config.stride
        self.conv1d = nn.Conv1d(1, config.filters, kernel, stride=stride, bias=False)

    def forward(self, mixtures: Tensor) -> Tensor:
        """(B, samples) -> (B, L, filters)."""
        frames: Tensor = self.conv1d(mixtures[:, None]).relu()
        return frames.transpose(1, 2)


class _Masker(nn.Module):
    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        width, filters = config.hidden_size, config.filters
        self.config = config
        self.norm = GlobalNorm(filters)
        self.conv1d = nn.Conv1d(filters, width, 1, bias=False)
        self.dual_mdl = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.conv2d = nn.Conv2d(width, width * config.sources, 1)
        self.end_conv1x1 = nn.Conv1d(width, filters, 1, bias=False)
        self.prelu = nn.PReLU()
        self.output = nn.Sequential(nn.Conv1d(width, width, 1), nn.Tanh())
        self.output_gate = nn.Sequential(nn.Conv1d(width, width, 1), nn.Sigmoid())

    def forward(self, encoded: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, L, filters), frames of each (B,) -> masks (B, sources, L, filters)."""
        config, frames = self.config, encoded.shape[1]
        valid = chunks = None
        if lengths is not None:
            valid = _first(frames, lengths)
            count = chunk_count(frames, config.chunk)
            chunks = _first(count, chunk_count(lengths, config.chunk))
        hidden = _pointwise(self.conv1d, self.norm(encoded, valid))
        # Under autocast too, what the layers add to and the norms sum up is float32.
        hidden = hidden.to(self.norm.weight.dtype)
        if valid is not None:
            # The norm's bias has left something there: alone, a clip is followed by zeros.
            hidden = hidden.masked_fill(~valid[..., None], 0.0)
        hidden = segment(hidden, config.chunk)
        for block in self.dual_mdl:
            hidden = block(hidden, chunks)
        split = _pointwise(self.conv2d, self.prelu(hidden)).unflatten(-1, (config.sources, -1))
        split = split.permute(0, 3, 1, 2, 4).flatten(0, 1)
        split = merge(split, frames)
        gated = torch.tanh(_pointwise(self.output[0], split))
        gated = gated * torch.sigmoid(_pointwise(self.output_gate[0], split))
        masks = _pointwise(self.end_conv1x1, gated).relu()
        return masks.unflatten(0, (-1, config.sources))


class _Block(nn.Module):
    """Transformer layers within each chunk, then across chunks, both with a norm and a skip."""

    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        self.intra_mdl = _Stack(config, config.intra_layers)
        self.inter_mdl = _Stack(config, config.inter_layers)
        self.intra_norm = GlobalNorm(config.hidden_size)
        self.inter_norm = GlobalNorm(config.hidden_size)

    def forward(self, hidden: Tensor, chunks: Tensor | None) -> Tensor:
        """(B, S, K, D) in and out; chunks (B, S), True where they are the utterance's."""
        batch, count, size, _ = hidden.shape
        within = self.intra_mdl(hidden.flatten(0, 1), None).unflatten(0, (batch, count))
        counted = None if chunks is None else chunks[..., None].expand(-1, -1, size)
        hidden = hidden + self.intra_norm(within, counted)
        across = hidden.transpose(1, 2).flatten(0, 1)
        valid = None if chunks is None else chunks.repeat_interleave(size, 0)
        across = self.inter_mdl(across, valid).unflatten(0, (batch, size)).transpose(1, 2)
        return hidden + self.inter_norm(across, counted)


class _Stack(nn.Module):
    """SpeechBrain's SBTransformerBlock: sinusoids, layers, a norm."""

    def __init__(self, config: SepFormerConfig, layers: int) -> None:
        super().__init__()
        self.mdl = _Encoding(config, layers)

    def forward(self, hidden: Tensor, valid: Tensor | None) -> Tensor:
        """(B, T, D) in and out; valid (B, T)."""
        positions = sinusoids(*hidden.shape[1:]).to(hidden)
        encoded: Tensor = self.mdl(hidden + positions, valid)
        return encoded


class _Encoding(nn.Module):
    def __init__(self, config: SepFormerConfig, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(layers))
        self.norm = _LayerNorm(config.hidden_size)

    def forward(self, hidden: Tensor, valid: Tensor | None) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden, valid)
        normed: Tensor = self.norm(hidden)
        return normed


class TransformerLayer(nn.Module):
    """One layer, norms first; `self_att` mixes the frames: attention, or what stands for it."""

    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.self_att: nn.Module = Attention(width, config.num_attention_heads)
        self.pos_ffn = _FeedForward(width, config.intermediate_size)
        self.norm1 = _LayerNorm(width)
        self.norm2 = _LayerNorm(width)

    def forward(self, hidden: Tensor, valid: Tensor | None) -> Tensor:
        """(B, T, D) in and out; valid (B, T) bool, None: all frames are."""
        hidden = hidden + self.self_att(self.norm1(hidden), attention_mask=valid)[0]
        fed: Tensor = self.pos_ffn(self.norm2(hidden))
        return hidden + fed


class _FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        # Dropout has no weights, but a place: the keys of the second map count it.
        self.ffn = nn.Sequential(
            nn.Linear(width, inner), nn.ReLU(), nn.Identity(), nn.Linear(inner, width)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        fed: Tensor = self.ffn(hidden)
        return fed


class _LayerNorm(nn.Module):
    """A layer norm one level down, as its keys have it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)

    def forward(self, hidden: Tensor) -> Tensor:
        normed: Tensor = self.norm(hidden)
        return normed


class Attention(nn.Module):
    """Self-attention one level down, with the signature that an LPA in its place has too.

    The projections are copies, (B, T, D) -> (B, T, D), by the names of transformers' attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.att = _SelfAttention(width, heads)
        self.num_heads = heads
        self.scaling = (width // heads) ** -0.5

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, None]:
        """(B, T, D) in and out; the mask (B, T) is True for valid keys."""
        return self.att(hidden, attention_mask), None

    @property
    def q_proj(self) -> nn.Linear:
        """Queries."""
        return self.att.projection(0)

    @property
    def k_proj(self) -> nn.Linear:
        """Keys."""
        return self.att.projection(1)

    @property
    def v_proj(self) -> nn.Linear:
        """Values."""
        return self.att.projection(2)

    @property
    def out_proj(self) -> nn.Linear:
        """What the heads, one behind the other, go through."""
        return self.att.out_proj


class _SelfAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v over valid keys; weights as in torch's MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, T, D) in and out; valid (B, T) bool."""
        projected = nn.functional.linear(hidden, self.in_proj_weight, self.in_proj_bias)
        query, key, value = projected.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if valid is None else valid[:, None, None]
        mixed = _attention(query, key, value, mask)
        output: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return output

    def projection(self, which: int) -> nn.Linear:
        """A copy of one of the three maps."""
        weight, bias = (
            tensor.detach().chunk(3)[which].clone()
            for tensor in (self.in_proj_weight, self.in_proj_bias)
        )
        linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        linear.load_state_dict({"weight": weight, "bias": bias}, assign=True)
        return linear


class GlobalNorm(nn.Module):
    """GroupNorm of one group with the channels last: statistics over all frames and channels.

    With a mask over the frames they count valid ones only.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, ..., C) in and out, valid (B, ...) bool."""
        hidden = hidden.to(self.weight.dtype)
        dims = tuple(range(1, hidden.dim()))
        if valid is None:
            mean = hidden.mean(dims, keepdim=True)
            variance = (hidden - mean).square().mean(dims, keepdim=True)
        else:
            present = valid[..., None].to(hidden.dtype)
            count = present.sum(dims, keepdim=True) * hidden.shape[-1]
            mean = (hidden * present).sum(dims, keepdim=True) / count
            variance = ((hidden - mean) * present).square().sum(dims, keepdim=True) / count
        normed = (hidden - mean) * torch.rsqrt(variance + GLOBAL_NORM_EPSILON)
        return normed * self.weight + self.bias


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """(B, heads, T, d) each; the mask (B, 1, 1, T) is True for valid keys.

    On a CPU in float32, under autocast too: torch's kernel goes back through bfloat16 at half the
    speed.
    """
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return _attention(query.float(), key.float(), value.float(), mask)
    return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def sinusoids(frames: int, width: int) -> Tensor:
    """(frames, width): sines at even channels and cosines at odd ones, from wavelength 2 pi up."""
    position = torch.arange(frames)[:, None].float()
    rate = torch.exp(torch.arange(0, width, 2).float() * -(math.log(10_000.0) / width))
    return torch.stack([torch.sin(position * rate), torch.cos(position * rate)], -1).flatten(1)


def _pointwise(conv: Any, hidden: Tensor) -> Tensor:
    """A convolution of one frame (..., channels), as the matrix product that it is."""
    return nn.functional.linear(hidden, conv.weight.flatten(1), conv.bias)


def _first(size: int, lengths: Tensor) -> Tensor:
    """(B, size) bool: the first `lengths` of each row."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
