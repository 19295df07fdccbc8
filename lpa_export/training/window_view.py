"""The hard windows of every LPA layer on one recording, as numbers: `window_pictures` draws them.

Windows are in frames, start <= s < end, as inference computes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE, Waveform
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.separator import Separator
from lpa_export.hosts import lpa_layers
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.layers import LPA
from lpa_export.layers.harden import count_by_family
from lpa_export.layers.windows import (
    aperiodic_windows,
    clip_windows,
    periodic_windows,
    positional_windows,
)
from lpa_export.training.batches import normalise
from lpa_export.training.frontend import HOP, WINDOW, log_mel

__all__ = ["LayerView", "Spans", "View", "view_separator", "view_windows"]


@dataclass(frozen=True)
class Spans:
    """Integer windows: starts and ends of one shape, int64."""

    starts: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class LayerView:
    """The windows of a layer's H heads; None where a family has no pulses.

    `moving`: aperiodic, of each of T frames, (T, H, K). `anchored`: aperiodic, of the utterance,
    (H, K). `teeth`: periodic, of each frame, (T, H, K). `bases`: positional, (H, K). `soft`:
    family -> share of its gates between 0.05 and 0.95 at the temperature of the checkpoint.
    """

    layer: int
    moving: Spans | None
    anchored: Spans | None
    teeth: Spans | None
    bases: Spans | None
    soft: Mapping[str, float]


@dataclass(frozen=True)
class View:
    """A recording of T frames through all layers, with its spectrogram."""

    layers: tuple[LayerView, ...]
    frames: int
    frame_seconds: float
    first_second: float
    log_mel: np.ndarray
    mel_seconds: tuple[float, float]
    """Where the spectrogram (bands, columns) begins and ends."""

    def seconds(self, frame: np.ndarray | float) -> np.ndarray:
        """The time at which a frame begins."""
        return self.first_second + np.asarray(frame) * self.frame_seconds


@torch.inference_mode()
def view_windows(checkpoint: Checkpoint, waveform: Waveform) -> View:
    """Run a recording (samples,) through the hard model; LpaError where no layer is an LPA."""
    replaced = lpa_layers(checkpoint.model)
    if not replaced:
        raise LpaError(f"{checkpoint.name}: has no LPA layer, so there are no windows to draw")
    views: dict[int, LayerView] = {}
    frames = 0

    def look(index: int) -> Any:
        def hook(lpa: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            nonlocal frames
            frames = inputs[0].shape[1]
            views[index] = _look(index, lpa, inputs[0])

        return hook

    handles = [lpa.register_forward_hook(look(index)) for index, lpa in replaced.items()]
    samples = normalise(waveform) if checkpoint.do_normalize else waveform
    try:
        checkpoint.model(torch.from_numpy(samples.astype(np.float32))[None])
    finally:
        for handle in handles:
            handle.remove()
    config = checkpoint.model.config
    # Of the front end alone: what lies behind the encoder may make fewer frames.
    front = FrameArithmetic(tuple(config.conv_kernel), tuple(config.conv_stride))
    mel, span = _spectrogram(waveform)
    return View(
        layers=tuple(views[index] for index in sorted(views)),
        frames=frames,
        frame_seconds=front.hop / SAMPLE_RATE,
        first_second=(front.receptive_field - front.hop) / 2 / SAMPLE_RATE,
        log_mel=mel,
        mel_seconds=span,
    )


@torch.inference_mode()
def view_separator(separator: Separator, waveform: Waveform, heard: Waveform) -> tuple[View, ...]:
    """The same of a separator: layers within chunks, on the loudest chunk of the recording whose
    time counts from its beginning; then layers across chunks, at the middle of each.

    `waveform` (samples,) at the model's rate, `heard` the same at 16 kHz, for the spectrogram.
    LpaError where no layer is an LPA.
    """
    model = separator.model
    config, replaced = model.config, lpa_layers(model)
    if not replaced:
        raise LpaError(f"{separator.name}: has no LPA layer, so there are no windows to draw")
    frame_seconds, half = config.stride / config.sampling_rate, config.chunk // 2
    loudest = _loudest(waveform, half * config.stride)
    sides: dict[bool, dict[int, LayerView]] = {False: {}, True: {}}
    frames = {False: 0, True: 0}

    def look(index: int) -> Any:
        across = index % (config.intra_layers + config.inter_layers) >= config.intra_layers

        def hook(lpa: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            row = half if across else loudest
            frames[across] = inputs[0].shape[1]
            sides[across][index] = _look(index, lpa, inputs[0][row : row + 1])

        return hook

    handles = [lpa.register_forward_hook(look(index)) for index, lpa in replaced.items()]
    try:
        model(torch.from_numpy(waveform.astype(np.float32))[None])
    finally:
        for handle in handles:
            handle.remove()
    mel, (begin, end) = _spectrogram(heard)
    # Chunk 0 begins half a chunk before the recording.
    first = (loudest - 1) * half * frame_seconds
    columns = np.round((np.array([first, first + 2 * half * frame_seconds]) - begin) / _COLUMN)
    low, high = np.clip(columns, 0, mel.shape[1]).astype(int)
    spans = {
        False: (frame_seconds, 0.0, mel[:, low:high], (0.0, 2 * half * frame_seconds)),
        True: (half * frame_seconds, -half * frame_seconds / 2, mel, (begin, end)),
    }
    return tuple(
        View(tuple(found[index] for index in sorted(found)), frames[across], *spans[across])
        for across, found in sides.items()
        if found
    )


def _loudest(waveform: Waveform, half: int) -> int:
    """The chunk of two halves (samples) that has the most power, of those that are whole."""
    count = max(1, len(waveform) // half - 1)
    powers = [
        float(np.square(waveform[start * half : (start + 2) * half], dtype=np.float64).sum())
        for start in range(count)
    ]
    return 1 + int(np.argmax(powers))


def _spectrogram(heard: Waveform) -> tuple[np.ndarray, tuple[float, float]]:
    """Log-mel bands (bands, columns) at 16 kHz, and the seconds where they begin and end."""
    mel = log_mel(torch.from_numpy(normalise(heard).astype(np.float32))).numpy()
    begin = (WINDOW - HOP) / 2 / SAMPLE_RATE
    return mel, (begin, begin + mel.shape[1] * _COLUMN)


_COLUMN = HOP / SAMPLE_RATE


def _look(index: int, lpa: LPA, hidden: Tensor) -> LayerView:
    """The windows of one layer for hidden (1, T, D)."""
    frames = hidden.shape[1]
    lengths = torch.tensor([frames], device=hidden.device)
    _, controls, _ = lpa.read(hidden, None)
    teeth, shares = lpa.fixed_windows()
    anchored = lpa.utterance_shares(hidden, lengths)
    moving = repeated = own = bases = None
    if lpa.config.moving:
        moving = _spans(*aperiodic_windows(controls.lower, controls.upper, lengths))
    if anchored is not None:
        edges = anchored.lower.double(), anchored.upper.double()
        own = _spans(*positional_windows(*edges, lengths))
    if teeth is not None:
        windows = periodic_windows(*teeth, frames=frames)
        repeated = _spans(*(edge[None] for edge in clip_windows(*windows, lengths)))
    if shares is not None:
        bases = _spans(*positional_windows(*shares, lengths))
    counts = count_by_family(lpa, hidden, None)
    soft = {family: part / total for family, (part, total) in counts.items()}
    return LayerView(index, moving, own, repeated, bases, soft)


def _spans(starts: Tensor, ends: Tensor) -> Spans:
    return Spans(starts[0].cpu().numpy(), ends[0].cpu().numpy())
