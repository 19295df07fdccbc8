"""A SepFormer as targets trace it: its layers from the kit of padded batches, the rest here.

Where the audio has one length, an LPA takes its static form: stored masks and matrix products, no
gather. Elsewhere it is that of any length, within chunks too, whose length is always the same: a
chunk's masks are as large as the scores of attention, and sums and look-ups take less time on a
CPU. An utterance in a padded batch gives the numbers it gives alone:
norms over time are weighed by which frames and chunks are its own, and no chunk of another is
attended to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpa_export.hosts.frames import frames_after
from lpa_export.hosts.sepformer import SeparatorParts, sinusoids
from lpa_export.hosts.sepformer.chunks import chunk_count, merge, segment
from lpa_export.hosts.sepformer.model import GLOBAL_NORM_EPSILON, GlobalNorm
from lpa_export.hosts.sepformer.parts import Block, Stack
from lpa_export.targets.batched import BATCHED, Context, Preparation, valid_positions
from lpa_export.targets.bucketed import DenseLPA
from lpa_export.targets.skeleton import EncoderLayer, Kit

__all__ = ["DualPath", "Layers", "SeparatorModel", "SourcesAlone", "TapsAndSources"]

_SCALE = 256.0


class WeighedNorm(nn.Module):
    """A global norm whose statistics are means of means, over valid rows only.

    So no sum runs over more than one axis: in float32 over a minute of audio, and in float16 over
    a chunk, one over all would lose digits.
    """

    def __init__(self, norm: GlobalNorm) -> None:
        super().__init__()
        self.weight, self.bias = copy.deepcopy(norm.weight), copy.deepcopy(norm.bias)

    def forward(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """hidden (B, T, ..., C), valid (B, T) bool -> the same shape."""
        present = valid.to(hidden.dtype)
        share = present / present.sum(1, keepdim=True).clamp_min(1.0)
        centred = hidden - self.mean(hidden, share)
        variance = self.mean(centred.square(), share)
        # 1 / sqrt(variance + epsilon): runtimes take an addition of so little for none at all, and
        # silence would be divided by zero. A factor that is a power of four costs no digit.
        scaled = variance * _SCALE + GLOBAL_NORM_EPSILON * _SCALE
        return centred * (torch.rsqrt(scaled) * _SCALE**0.5 * self.weight) + self.bias

    def mean(self, values: Tensor, share: Tensor) -> Tensor:
        """(B, T, ..., C), shares (B, T) of the rows -> (B, 1, ..., 1)."""
        shape = (-1, *[1] * (values.dim() - 1))
        while values.dim() > 2:
            values = values.mean(-1)
        return (values * share).sum(1).view(shape)


class SeparatorModel(nn.Module):
    """waveform (B, samples) and lengths (B,) -> sources (B, sources, samples), then the taps.

    `samples`: the one length of the audio, None for any. `kit`: the parts of a layer, the LPA of
    one length excepted. `norm`: what stands for a global norm, called as `WeighedNorm`. Weights
    are copied.
    """

    def __init__(
        self,
        parts: SeparatorParts,
        samples: int | None = None,
        *,
        kit: Kit = BATCHED,
        norm: Callable[[GlobalNorm], nn.Module] = WeighedNorm,
    ) -> None:
        super().__init__()
        config = self.config = parts.config
        chunks = None
        if samples is not None:
            frames = (samples - config.kernel_size) // config.stride + 1
            chunks = chunk_count(frames, config.chunk)
        self.encoder = copy.deepcopy(parts.encoder)
        self.norm = norm(parts.norm)
        self.narrow = copy.deepcopy(parts.narrow)
        self.blocks = nn.ModuleList(
            DualPath(block, config.chunk, chunks, kit, norm) for block in parts.blocks
        )
        self.slope = nn.Parameter(parts.slope.detach().clone())
        self.split, self.signal = copy.deepcopy(parts.split), copy.deepcopy(parts.signal)
        self.gate, self.widen = copy.deepcopy(parts.gate), copy.deepcopy(parts.widen)
        # Behind it are no layers that forgive: as the head of a recogniser it stays in float.
        self.head = copy.deepcopy(parts.synthesis)
        self.eval().requires_grad_(False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """waveform (B, samples) float32, anything behind lengths (B,), valid samples.

        Returns sources (B, sources, samples), zero at padding; then encoded frames
        (B, L, filters), and of each stack (B, S, chunk, width).
        """
        config = self.config
        heard = valid_positions(waveform, lengths)
        encoded = self.encode(waveform, heard)
        frames = frames_after(lengths, config.kernel_size, config.stride)
        valid = valid_positions(encoded, frames)
        hidden = self.chunked(encoded, valid)
        chunks = valid_positions(hidden, chunk_count(frames, config.chunk))
        return self.masked(encoded, hidden, heard, valid, chunks)

    def encode(self, waveform: Tensor, heard: Tensor) -> Tensor:
        """waveform (B, samples), heard (B, samples) bool -> frames (B, L, filters)."""
        waveform = waveform.masked_fill(~heard, 0.0)
        frames: Tensor = self.encoder(waveform[:, None]).relu().transpose(1, 2)
        return frames

    def chunked(self, encoded: Tensor, valid: Tensor) -> Tensor:
        """Frames (B, L, filters), valid (B, L) bool -> (B, S, chunk, width)."""
        hidden = self.narrow(self.norm(encoded, valid)) * valid[..., None].to(encoded.dtype)
        return segment(hidden, self.config.chunk)

    def masked(
        self, encoded: Tensor, hidden: Tensor, heard: Tensor, valid: Tensor, chunks: Tensor
    ) -> tuple[Tensor, ...]:
        """What `forward` returns, from frames, their chunks, and which samples, frames and chunks
        are the utterance's own (bool)."""
        taps = [encoded]
        for block in self.blocks:
            hidden, within, across = block(hidden, chunks)
            taps += [within, across]
        present = valid[:, None, :, None].to(encoded.dtype)
        masks = self._masks(hidden, encoded.shape[1]) * present
        sources = self._waveforms(masks * encoded[:, None], heard.shape[1])
        return sources.masked_fill(~heard[:, None], 0.0), *taps

    def _masks(self, hidden: Tensor, frames: int) -> Tensor:
        """(B, S, K, D) -> (B, sources, L, filters)."""
        split = self.split(hidden.clamp_min(0.0) + self.slope * hidden.clamp_max(0.0))
        masks = []
        for part in split.chunk(self.config.sources, dim=-1):
            joined = merge(part, frames)
            gated = self.signal(joined).tanh() * self.gate(joined).sigmoid()
            masks.append(self.widen(gated).relu())
        return torch.stack(masks, dim=1)

    def _waveforms(self, masked: Tensor, samples: int) -> Tensor:
        """(B, sources, L, filters) -> (B, sources, samples): both halves of frames, added up."""
        first, second = self.head(masked).chunk(2, dim=-1)
        halves = functional.pad(first, (0, 0, 0, 1)) + functional.pad(second, (0, 0, 1, 0))
        # The last samples are fewer than a stride: no frame covers them.
        return functional.pad(halves.flatten(2), (0, samples - halves.shape[2] * halves.shape[3]))


class SourcesAlone(nn.Module):
    """What a runtime calls: the sources (B, sources, samples) of `SeparatorModel`."""

    def __init__(self, model: SeparatorModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """As `SeparatorModel`."""
        sources: Tensor = self.model(waveform, lengths)[0]
        return sources


class TapsAndSources(nn.Module):
    """The same model (the same weights): all taps in its order, of which the sources are last."""

    def __init__(self, model: SeparatorModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """As `SeparatorModel`."""
        sources, *others = self.model(waveform, lengths)
        return *others, sources


class DualPath(nn.Module):
    """Layers within each chunk, then across chunks."""

    def __init__(
        self,
        block: Block,
        chunk: int,
        chunks: int | None,
        kit: Kit,
        norm: Callable[[GlobalNorm], nn.Module],
    ) -> None:
        super().__init__()
        static = chunks is not None
        self.intra = Layers(block.intra, chunk, kit, static=static)
        self.intra_norm = norm(block.intra_norm)
        self.inter = Layers(block.inter, chunks, kit, static=static)
        self.inter_norm = norm(block.inter_norm)

    def forward(self, hidden: Tensor, chunks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S, K, D), chunks (B, S) bool -> the same, and what came out of both stacks."""
        batch, count, size, width = hidden.shape
        every = torch.ones_like(hidden[..., 0], dtype=torch.bool).flatten(0, 1)
        within = self.intra(hidden.flatten(0, 1), every).view(batch, count, size, width)
        hidden = hidden + self.intra_norm(within, chunks)
        across = hidden.transpose(1, 2).flatten(0, 1)
        valid = chunks[:, None].expand(batch, size, count).flatten(0, 1)
        across = self.inter(across, valid).view(batch, size, count, width).transpose(1, 2)
        return hidden + self.inter_norm(across, chunks), within, across


class Layers(nn.Module):
    """Sinusoids, layers of the kit, a norm.

    `length`: of the sequences, None for any. `static`: whether LPA is made for that length.
    """

    positions: Tensor | None

    def __init__(self, stack: Stack, length: int | None, kit: Kit, *, static: bool) -> None:
        super().__init__()
        if static:
            assert length is not None
            kit = replace(kit, lpa=partial(DenseLPA, frames=length))
        width = stack.norm.normalized_shape[0]
        stored = None if length is None else sinusoids(length, width)
        self.register_buffer("positions", stored)
        self.prepare = Preparation(stack, any_length=not static)
        self.layers = nn.ModuleList(
            EncoderLayer(layer, kit, norm_first=True) for layer in stack.layers
        )
        self.norm = kit.norm(stack.norm)

    def forward(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """hidden (N, T, D), valid (N, T) bool -> (N, T, D), anything at padding."""
        positions = self.positions
        if positions is None:
            positions = sinusoids(*hidden.shape[1:])
        hidden = hidden + positions
        context: Context = self.prepare(hidden, valid)
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, context.own(index))
        normed: Tensor = self.norm(hidden)
        return normed
