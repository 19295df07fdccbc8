"""A start for a convolutional front end that small data cannot teach: filterbank and log-mel.

The first convolution begins as a bank of quadrature Gabor filters spaced on the mel scale, and
the front end is then fitted, for a few hundred steps and without any transcript, to the log-mel
spectrogram of the same speech (a linear read-out that is thrown away afterwards). CTC training
starts from features that already carry the spectrum; from random filters it spends most of an
hour on two cores finding them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import trange
from transformers import Wav2Vec2ForCTC

from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.training.data import SpeechSet, normalise

__all__ = ["fit_log_mel", "gabor_filters", "mel_matrix"]

LOW_HZ, HIGH_HZ = 60.0, 7600.0
WINDOW, HOP, BANDS = 400, 160, 40


def gabor_filters(count: int, taps: int) -> torch.Tensor:
    """(count, 1, taps) unit-norm filters: cosine and sine pairs, centres equal on the mel scale."""
    edges = _mel_spaced(count // 2 + 2)
    time = (np.arange(taps) - (taps - 1) / 2) / SAMPLE_RATE
    filters = []
    for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
        # The envelope's bandwidth follows the spacing, as far as the taps can hold it.
        spread = min(1 / (0.6 * math.pi * max(high - low, LOW_HZ)), taps / SAMPLE_RATE / 5)
        envelope = np.exp(-0.5 * (time / spread) ** 2)
        for phase in (0.0, math.pi / 2):
            tone = envelope * np.cos(2 * math.pi * centre * time + phase)
            tone -= tone.mean()
            filters.append(tone / np.linalg.norm(tone))
    return torch.tensor(np.array(filters), dtype=torch.float32)[:, None]


def mel_matrix() -> torch.Tensor:
    """(BANDS, WINDOW // 2 + 1) triangular filters over a power spectrum."""
    frequencies = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    edges = _mel_spaced(BANDS + 2)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    return torch.tensor(np.clip(np.minimum(rising, falling), 0, None), dtype=torch.float32)


def fit_log_mel(
    model: Wav2Vec2ForCTC, speech: SpeechSet, *, steps: int, learning_rate: float, seed: int
) -> float:
    """Initialise and fit the front end in place; returns the last tenth's mean squared error.

    The target per frame are the two 10 ms log-mel frames nearest to it, each band scaled to zero
    mean and unit variance over the batch, so 1.0 is the error of knowing nothing.
    """
    torch.manual_seed(seed)
    first: Any = model.wav2vec2.feature_extractor.conv_layers[
        0
    ].conv  # nn.Module says nothing of its parts
    with torch.no_grad():
        first.weight.copy_(gabor_filters(first.out_channels, first.kernel_size[0]))
    read_out = nn.Linear(model.config.hidden_size, 2 * BANDS)
    parts = [model.wav2vec2.feature_extractor, model.wav2vec2.feature_projection, read_out]
    parameters = [parameter for part in parts for parameter in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    losses = []
    model.train()
    for step in trange(steps, desc="front end", disable=None, leave=False):
        waveforms = _crops(speech, np.random.default_rng((seed, step)))
        features = model.wav2vec2.feature_extractor(waveforms).transpose(1, 2)
        predicted = read_out(model.wav2vec2.feature_projection(features)[0])
        target = _target(waveforms)[:, : predicted.shape[1]]
        loss = nn.functional.mse_loss(predicted[:, : target.shape[1]], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses[-max(1, steps // 10) :]))


def _mel_spaced(count: int) -> np.ndarray:
    """`count` frequencies in Hz, equally spaced in mel (2595 log10(1 + f / 700))."""
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (LOW_HZ, HIGH_HZ))
    return 700 * (10 ** (np.linspace(low, high, count) / 2595) - 1)


def _crops(speech: SpeechSet, rng: np.random.Generator, count: int = 16) -> torch.Tensor:
    """(count, 1.5 s) random pieces of normalised speech; shorter clips are repeated."""
    samples = int(1.5 * SAMPLE_RATE)
    pieces = []
    for index in rng.integers(len(speech), size=count):
        clip = normalise(speech.clips[index][0])
        clip = np.tile(clip, math.ceil(samples / len(clip)))
        start = rng.integers(len(clip) - samples + 1)
        pieces.append(clip[start : start + samples])
    return torch.from_numpy(np.stack(pieces).astype(np.float32))


def _target(waveforms: torch.Tensor) -> torch.Tensor:
    """(B, frames, 2 BANDS) scaled log-mel frames, two for each 20 ms frame of the model."""
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(waveforms, WINDOW, HOP, window=window, center=False, return_complex=True)
    log_mel = torch.log(mel_matrix() @ spectrum.abs().square() + 1e-3)
    even, odd = log_mel[..., 0:-1:2], log_mel[..., 1::2]
    pairs = torch.cat([even, odd], dim=1).transpose(1, 2)
    return (pairs - pairs.mean((0, 1))) / pairs.std((0, 1))
