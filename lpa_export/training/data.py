"""Speech, augmented and batched: the same seed gives the same batches after a resume.

Every random choice is drawn from a generator seeded by (seed, epoch, utterance or batch), never
from a running one, so that a run killed in the middle of an epoch continues with the very batch
it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.speech import Utterance
from lpa_export.formats.text import Vocabulary
from lpa_export.training.clips import MEMORY_BYTES, Clips

__all__ = ["Batch", "SpeechSet", "normalise", "pad"]


@dataclass(frozen=True)
class Batch:
    """Padded clips: waveforms and 0/1 mask (B, samples), labels (B, L) padded by -1."""

    waveforms: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(self.waveforms.to(device), self.mask.to(device), self.labels.to(device))


def normalise(waveform: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance, as Hugging Face's Wav2Vec2FeatureExtractor does it."""
    return (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)


def pad(waveforms: Sequence[np.ndarray], labels: Sequence[Sequence[int]]) -> Batch:
    """Stack clips of any length, zeros behind the shorter ones."""
    lengths = [len(waveform) for waveform in waveforms]
    samples = torch.zeros(len(waveforms), max(lengths))
    mask = torch.zeros(samples.shape, dtype=torch.long)
    targets = torch.full((len(labels), max(1, *map(len, labels))), -1, dtype=torch.long)
    for row, (waveform, ids) in enumerate(zip(waveforms, labels, strict=True)):
        samples[row, : len(waveform)] = torch.from_numpy(waveform)
        mask[row, : len(waveform)] = 1
        targets[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    return Batch(samples, mask, targets)


class SpeechSet:
    """Utterances at several speeds, decoded as they are needed when they do not fit in memory."""

    def __init__(
        self,
        utterances: Iterable[Utterance],
        vocabulary: Vocabulary,
        *,
        receptive_field: int,
        speeds: Sequence[float] = (1.0,),
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Read every clip, or its header where all would take more than `memory_bytes`.

        LpaError without an utterance, and on audio or text the model cannot take.
        """
        self.vocabulary = vocabulary
        self.utterances = list(utterances)
        if not self.utterances:
            raise LpaError("expected speech, found no utterance; look at the data of the recipe")
        self.labels = [_labels(utterance, vocabulary) for utterance in self.utterances]
        self.clips = Clips(
            [utterance.audio for utterance in self.utterances],
            speeds,
            receptive_field=receptive_field,
            memory_bytes=memory_bytes,
        )

    def __len__(self) -> int:
        return len(self.utterances)

    def plan(self, epoch: int, *, seed: int, batch_seconds: float) -> list[list[tuple[int, int]]]:
        """Batches of (utterance, speed index): similar lengths together, order shuffled."""
        rng = np.random.default_rng((seed, epoch))
        speeds = rng.integers(len(self.clips[0]), size=len(self))
        # A jitter of a tenth keeps neighbours in length from meeting in every epoch.
        lengths = np.array([self.clips.lengths[i][s] for i, s in enumerate(speeds)])
        order = np.argsort(lengths * rng.uniform(0.9, 1.1, size=len(self)), kind="stable")
        batches: list[list[tuple[int, int]]] = [[]]
        for index in map(int, order):
            longest = max([lengths[index], *(lengths[i] for i, _ in batches[-1])])
            if batches[-1] and longest * (len(batches[-1]) + 1) > batch_seconds * SAMPLE_RATE:
                batches.append([])
            batches[-1].append((index, int(speeds[index])))
        return [batches[int(i)] for i in rng.permutation(len(batches))]

    def training_batch(
        self, members: Sequence[tuple[int, int]], *, seed: tuple[int, ...], noise_share: float
    ) -> Batch:
        """One batch of a plan; a share of the clips gets white or brown noise, 10 to 40 dB down."""
        rng = np.random.default_rng(seed)
        waveforms = []
        for index, speed in members:
            waveform = normalise(self.clips[index][speed])
            if rng.random() < noise_share:
                waveform = normalise(waveform + _noise(rng, len(waveform)))
            waveforms.append(waveform.astype(np.float32))
        return pad(waveforms, [self.labels[index] for index, _ in members])


def _labels(utterance: Utterance, vocabulary: Vocabulary) -> list[int]:
    try:
        return vocabulary.encode(utterance.text)
    except LpaError as error:
        raise LpaError(f"{utterance.id}: {error}") from error


def _noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """White or low-pass noise relative to speech of unit variance."""
    noise = rng.standard_normal(samples)
    if rng.random() < 0.5:
        noise = np.convolve(noise, np.ones(16) / 4, mode="same")
    return noise * 10 ** (-rng.uniform(10, 40) / 20)
