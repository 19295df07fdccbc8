"""A start for a convolutional front end that small data cannot teach: filterbank and log-mel.

The first convolution begins as a bank of quadrature Gabor filters spaced on the mel scale, and
the front end is then fitted, for a few hundred steps and without any transcript, to the log-mel
spectrogram of the same speech (a linear read-out that is thrown away afterwards). CTC training
starts from features that already carry the spectrum; from random filters it spends most of an
hour on two cores finding them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.hosts import host_of
from lpa_export.training.batches import Batch, Members, SpeechSet, normalise, pad
from lpa_export.training.loop import Conduct, Settings, optimise
from lpa_export.training.records import read_steps

__all__ = ["fit_log_mel", "gabor_filters", "log_mel", "mel_matrix"]

LOW_HZ, HIGH_HZ = 60.0, 7600.0
WINDOW, HOP, BANDS = 400, 160, 40
CROPS, CROP_SECONDS = 16, 1.5


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


def log_mel(waveforms: torch.Tensor) -> torch.Tensor:
    """(..., BANDS, columns) log-mel spectrogram of normalised speech, a column every 10 ms."""
    window = torch.hann_window(WINDOW, device=waveforms.device)
    spectrum = torch.stft(waveforms, WINDOW, HOP, window=window, center=False, return_complex=True)
    return torch.log(mel_matrix().to(waveforms.device) @ spectrum.abs().square() + 1e-3)


def fit_log_mel(
    model: Any,
    speech: SpeechSet,
    folder: Path,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    conduct: Conduct | None = None,
) -> float:
    """Initialise and fit the front end in place; returns the last tenth's mean squared error.

    The target per frame are the two 10 ms log-mel frames nearest to it, each band scaled to zero
    mean and unit variance over the batch, so 1.0 is the error of knowing nothing. The fit is a run
    in `folder`: one that was killed continues.
    """
    torch.manual_seed(seed)
    body = host_of(model).body(model)
    first: Any = body.feature_extractor.conv_layers[0].conv
    with torch.no_grad():
        first.weight.copy_(gabor_filters(first.out_channels, first.kernel_size[0]))
    read_out = nn.Linear(model.config.hidden_size, 2 * BANDS)
    fitted = nn.ModuleList([body.feature_extractor, body.feature_projection, read_out])

    def loss(batch: Batch, share: float) -> dict[str, torch.Tensor]:
        features = body.feature_extractor(batch.waveforms).transpose(1, 2)
        predicted = read_out(body.feature_projection(features)[0])
        target = _target(batch.waveforms)[:, : predicted.shape[1]]
        return {"loss": nn.functional.mse_loss(predicted[:, : target.shape[1]], target)}

    settings = Settings(
        epochs=1,
        learning_rate=learning_rate,
        seed=seed,
        warmup_share=0.3,
        final_share=0.0,
        rate_key="teacher.frontend_learning_rate",
    )
    optimise(fitted, loss, _Crops(speech, steps, seed), settings, folder, conduct=conduct)
    losses = [row["loss"] for row in read_steps(folder)]
    return float(np.mean(losses[-max(1, steps // 10) :]))


@dataclass(frozen=True)
class _Crops:
    """Random pieces of normalised speech, `CROPS` of them in each of `steps` batches."""

    speech: SpeechSet
    steps: int
    seed: int

    def plan(self, epoch: int) -> list[list[tuple[int, int]]]:
        return [
            [(int(index), 0) for index in self._drawn(number)[1]] for number in range(self.steps)
        ]

    def batch(self, epoch: int, number: int, members: Members) -> Batch:
        """Shorter clips are repeated."""
        rng, _ = self._drawn(number)
        samples = int(CROP_SECONDS * SAMPLE_RATE)
        pieces = []
        for index, speed in members:
            clip = normalise(self.speech.clips[index][speed])
            clip = np.tile(clip, math.ceil(samples / len(clip)))
            start = rng.integers(len(clip) - samples + 1)
            pieces.append(clip[start : start + samples].astype(np.float32))
        return pad(pieces, [[] for _ in pieces])

    def names(self, members: Members) -> str:
        return self.speech.names(members)

    def in_worker(self, workers: int) -> None:
        """Nothing is kept that has to be shared out."""

    def _drawn(self, number: int) -> tuple[np.random.Generator, np.ndarray]:
        """The generator of a batch, and the utterances that it gave first."""
        rng = np.random.default_rng((self.seed, number))
        return rng, rng.integers(len(self.speech), size=CROPS)


def _mel_spaced(count: int) -> np.ndarray:
    """`count` frequencies in Hz, equally spaced in mel (2595 log10(1 + f / 700))."""
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (LOW_HZ, HIGH_HZ))
    return 700 * (10 ** (np.linspace(low, high, count) / 2595) - 1)


def _target(waveforms: torch.Tensor) -> torch.Tensor:
    """(B, frames, 2 BANDS) scaled log-mel frames, two for each 20 ms frame of the model."""
    columns = log_mel(waveforms)
    even, odd = columns[..., 0:-1:2], columns[..., 1::2]
    pairs = torch.cat([even, odd], dim=1).transpose(1, 2)
    return (pairs - pairs.mean((0, 1))) / pairs.std((0, 1))
