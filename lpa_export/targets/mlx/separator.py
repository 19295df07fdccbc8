"""A SepFormer in mlx and numpy: any length, from `model.safetensors` and `config.json` alone.

    from lpa_export.targets.mlx.separator import load

    model = load("build/quiet/mlx")
    sources = model(waveform)  # (B, samples) float32 -> (B, sources, samples) float32

Without torch. The order is that of `lpa_export.targets.separation.model`, which says what padding
means; norms over time are in float32 in every scheme.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from lpa_export.targets.mlx.layers import TYPES, EncoderLayers, weights_of
from lpa_export.targets.mlx.lpa import Frames, framed
from lpa_export.targets.mlx.model import CONFIG, WEIGHTS
from lpa_export.targets.mlx.operators import silenced, total

__all__ = ["SeparatorInMlx", "load"]

_EPSILON = 1e-8
"""Of the norms over time, as `lpa_export.hosts.sepformer.model` has it."""

_LONGEST_WAVE = 10_000.0
"""Of the sinusoids, over 2 pi."""


def load(folder: str | Path) -> SeparatorInMlx:
    """The model of a bundle. Raises OSError, ValueError or KeyError for files that are not its."""
    config = json.loads(Path(folder, CONFIG).read_text("utf-8"))
    arrays = mx.load(str(Path(folder, WEIGHTS)))
    assert isinstance(arrays, dict)
    return SeparatorInMlx(config, arrays)


class SeparatorInMlx:
    """See `load`. Called it is compiled, once for each shape."""

    def __init__(self, config: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> None:
        self.structure: Mapping[str, Any] = config["model"]
        self._type = TYPES[config["compute"]]
        self._weights = weights_of(config, arrays)
        self._layers = EncoderLayers(
            self._weights, self._type, sums=config["sums"], norm_first=True, fused=True
        )
        self._whole: Callable[[mx.array], mx.array] = mx.compile(self.sources)
        self._padded: Callable[[mx.array, mx.array], mx.array] = mx.compile(self.sources)

    def __call__(self, waveform: mx.array, lengths: mx.array | None = None) -> mx.array:
        """Sources (B, sources, samples) float32 of mixtures (B, samples) float32, zero at padding.

        lengths: (B,) int32, valid samples of each, None: all of them.
        """
        return self._whole(waveform) if lengths is None else self._padded(waveform, lengths)

    def sources(self, waveform: mx.array, lengths: mx.array | None = None) -> mx.array:
        """The same, not compiled."""
        return self.taps(waveform, lengths)["sources"]

    def taps(self, waveform: mx.array, lengths: mx.array | None = None) -> dict[str, mx.array]:
        """Every point at which the model is compared with its reference, the sources last."""
        structure, weights = self.structure, self._weights
        samples, chunk = waveform.shape[1], structure["chunk"]
        if lengths is None:
            lengths = mx.full(waveform.shape[0], samples, mx.int32)
        heard = framed(samples, lengths)
        waveform = silenced(waveform[..., None], heard.valid)
        encoded = mx.maximum(
            weights.convolution(waveform, "encoder", stride=structure["stride"]), 0.0
        )
        frames = framed(
            encoded.shape[1], (lengths - structure["kernel"]) // structure["stride"] + 1
        )
        found = {"encoder": encoded}
        hidden = weights.linear(self._global_norm(encoded, "norm", frames), "narrow")
        hidden = _segmented(silenced(hidden, frames.valid), chunk)
        assert frames.lengths is not None
        chunks = framed(hidden.shape[1], _chunk_count(frames.lengths, chunk))
        for number, block in enumerate(structure["blocks"]):
            place = f"blocks.{number}"
            within = self._within(hidden, f"{place}.intra", block["intra"])
            found[f"{place}.intra"] = within
            hidden = hidden + self._global_norm(within, f"{place}.intra_norm", chunks)
            across = self._across(hidden, f"{place}.inter", block["inter"], chunks)
            found[f"{place}.inter"] = across
            hidden = hidden + self._global_norm(across, f"{place}.inter_norm", chunks)
        masks = self._masks(hidden, frames)
        found["sources"] = self._waveforms(masks * encoded[:, None], heard)
        return found

    def _within(self, hidden: mx.array, place: str, stack: Mapping[str, Any]) -> mx.array:
        """(B, S, K, D) -> the same: every chunk by itself, all of its frames."""
        chunks = hidden.reshape(-1, *hidden.shape[2:])
        return self._stack(chunks, place, stack, framed(chunks.shape[1], None)).reshape(
            hidden.shape
        )

    def _across(
        self, hidden: mx.array, place: str, stack: Mapping[str, Any], chunks: Frames
    ) -> mx.array:
        """(B, S, K, D) -> the same: each place of a chunk over the chunks that are valid."""
        batch, count, size, width = hidden.shape
        rows = hidden.transpose(0, 2, 1, 3).reshape(batch * size, count, width)
        assert chunks.lengths is not None
        own = framed(count, mx.repeat(chunks.lengths, size))
        made = self._stack(rows, place, stack, own)
        return made.reshape(batch, size, count, width).transpose(0, 2, 1, 3)

    def _stack(
        self, hidden: mx.array, place: str, stack: Mapping[str, Any], frames: Frames
    ) -> mx.array:
        """(N, T, D) -> (N, T, D): sinusoids, layers, a norm."""
        hidden = hidden + mx.array(_sinusoids(*hidden.shape[1:])).astype(hidden.dtype)
        for index, layer in enumerate(stack["layers"]):
            hidden = self._layers(hidden, f"{place}.layers.{index}", layer, frames)
        return self._weights.norm(hidden, f"{place}.norm", stack["norm"]["epsilon"])

    def _global_norm(self, hidden: mx.array, place: str, frames: Frames) -> mx.array:
        """(B, T, ..., C) -> the same; means of means over valid rows."""
        wide = hidden.astype(mx.float32)
        assert frames.valid is not None
        share = frames.valid.astype(mx.float32)
        share = share / mx.maximum(share.sum(axis=1, keepdims=True), 1.0)
        centred = wide - _mean(wide, share)
        scale = mx.rsqrt(_mean(mx.square(centred), share) + _EPSILON)
        normed = centred * (scale * self._weights[f"{place}.weight"])
        return (normed + self._weights[f"{place}.bias"]).astype(self._type)

    def _masks(self, hidden: mx.array, frames: Frames) -> mx.array:
        """(B, S, K, D) -> (B, sources, L, filters), zero at padding."""
        weights = self._weights
        slope = weights["slope"].astype(hidden.dtype)
        split = weights.linear(mx.where(hidden > 0, hidden, slope * hidden), "split")
        masks = []
        for part in mx.split(split, self.structure["sources"], axis=-1):
            joined = _merged(part, frames.number)
            gated = mx.tanh(weights.linear(joined, "signal"))
            gated = gated * mx.sigmoid(weights.linear(joined, "gate"))
            mask = mx.maximum(weights.linear(gated, "widen"), 0.0)
            masks.append(silenced(mask, frames.valid))
        return mx.stack(masks, axis=1)

    def _waveforms(self, masked: mx.array, heard: Frames) -> mx.array:
        """(B, sources, L, filters) -> (B, sources, samples): both halves of frames, added up."""
        weight = self._weights["head.weight"]
        first, second = mx.split(masked.astype(weight.dtype) @ weight, 2, axis=-1)
        around = [(0, 0), (0, 0)]
        halves = mx.pad(first, [*around, (0, 1), (0, 0)]) + mx.pad(
            second, [*around, (1, 0), (0, 0)]
        )
        made = halves.reshape(*halves.shape[:2], -1)
        # The last samples are fewer than a stride: no frame covers them.
        made = mx.pad(made, [*around, (0, heard.number - made.shape[2])])
        assert heard.valid is not None
        return mx.where(heard.valid[:, None], made, 0.0)


def _mean(values: mx.array, share: mx.array) -> mx.array:
    """(B, T, ..., C), shares (B, T) -> (B, 1, ..., 1)."""
    shape = (-1, *[1] * (values.ndim - 1))
    while values.ndim > 2:
        values = values.mean(axis=-1)
    return total(values * share).reshape(shape)


def _chunk_count(frames: Any, chunk: int) -> Any:
    """As `lpa_export.hosts.sepformer.chunks` counts them, whose arithmetic of chunks this is."""
    return 2 * ((frames + chunk // 2) // chunk + 1)


def _segmented(frames: mx.array, chunk: int) -> mx.array:
    """(B, L, D) -> (B, S, K, D)."""
    batch, length, width = frames.shape
    half = chunk // 2
    behind = _chunk_count(length, chunk) // 2 * chunk - length
    padded = mx.pad(frames, [(0, 0), (half, behind), (0, 0)])
    first, second = (
        part.reshape(batch, -1, chunk, width)
        for part in (padded[:, : padded.shape[1] - half], padded[:, half:])
    )
    return mx.stack([first, second], axis=2).reshape(batch, -1, chunk, width)


def _merged(chunks: mx.array, frames: int) -> mx.array:
    """(B, S, K, D) -> (B, L, D): the sum of the two chunks that hold each frame."""
    batch, _, size, width = chunks.shape
    first, second = (chunks[:, which::2].reshape(batch, -1, width) for which in (0, 1))
    half = size // 2
    return first[:, half : half + frames] + second[:, :frames]


def _sinusoids(frames: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(frames, width): sines at even channels and cosines at odd ones, from wavelength 2 pi up."""
    position = np.arange(frames, dtype=np.float32)[:, None]
    falls = np.float32(-math.log(_LONGEST_WAVE) / width)
    angle = position * np.exp(np.arange(0, width, 2, dtype=np.float32) * falls)
    waves = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    return waves.reshape(frames, width).astype(np.float32)
