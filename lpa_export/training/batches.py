"""Speech, augmented and batched: the same seed gives the same batches after a resume.

Every random choice is drawn from a generator seeded by (seed, epoch, utterance or batch), never
from a running one, so that a run killed in the middle of an epoch continues with the very batch
it would have seen, whichever process makes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import torch

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.manifest import NORMALISATION_EPSILON
from lpa_export.formats.speech import Utterance
from lpa_export.formats.text import Vocabulary
from lpa_export.training.clips import Clips, Recordings

__all__ = [
    "AnyBatch",
    "Batch",
    "FirstBatches",
    "Members",
    "Source",
    "SpeechBatches",
    "SpeechSet",
    "normalise",
    "pad",
]

Members = Sequence[tuple[int, int]]
"""The clips of a batch: utterance and speed, both by number."""


@dataclass(frozen=True)
class Batch:
    """Padded clips: waveforms (B, samples), their lengths (B,), labels (B, L) padded by -1."""

    waveforms: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor

    @cached_property
    def mask(self) -> torch.Tensor:
        """1 where there is a clip and 0 behind it, int64 (B, samples)."""
        samples = torch.arange(self.waveforms.shape[1], device=self.lengths.device)
        return (samples < self.lengths[:, None]).long()

    @property
    def seconds(self) -> float:
        """Speech in it, without padding."""
        return float(self.lengths.sum()) / SAMPLE_RATE

    @property
    def shape(self) -> tuple[int, float]:
        """Clips, and seconds of each with its padding."""
        clips, samples = self.waveforms.shape
        return clips, samples / SAMPLE_RATE

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        parts = (self.waveforms, self.lengths, self.labels)
        return Batch(*(part.to(device, non_blocking=True) for part in parts))

    def pin_memory(self) -> Batch:
        """The same batch where a GPU can fetch it while the CPU goes on."""
        return Batch(*(p.pin_memory() for p in (self.waveforms, self.lengths, self.labels)))


class AnyBatch(Protocol):
    """What the loop asks of a batch, whatever the model is for."""

    @property
    def seconds(self) -> float:
        """Audio in it, without padding."""
        ...

    @property
    def shape(self) -> tuple[int, float]:
        """How many clips, of how many seconds each with their padding."""
        ...

    def to(self, device: torch.device) -> Self:
        """The same batch on `device`."""
        ...

    def pin_memory(self) -> Self:
        """The same batch where a GPU can fetch it while the CPU goes on."""
        ...


class Source(Protocol):
    """Where a run's batches come from. Each can be made anew from its place alone."""

    def plan(self, epoch: int) -> Sequence[Members]:
        """The batches of an epoch, in their order."""
        ...

    def batch(self, epoch: int, number: int, members: Members) -> AnyBatch:
        """Batch `number` of the plan."""
        ...

    def names(self, members: Members) -> str:
        """What is in a batch, for messages."""
        ...

    def in_worker(self, workers: int) -> None:
        """Called once in each of so many processes that make batches side by side."""
        ...


def normalise(waveform: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance, as Hugging Face's Wav2Vec2FeatureExtractor does it."""
    return (waveform - waveform.mean()) / np.sqrt(waveform.var() + NORMALISATION_EPSILON)


def pad(waveforms: Sequence[np.ndarray], labels: Sequence[Sequence[int]]) -> Batch:
    """Stack clips of any length, zeros behind the shorter ones."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    samples = torch.zeros(len(waveforms), int(lengths.max()))
    targets = torch.full((len(labels), max(1, *map(len, labels))), -1, dtype=torch.long)
    for row, (waveform, ids) in enumerate(zip(waveforms, labels, strict=True)):
        samples[row, : len(waveform)] = torch.from_numpy(waveform)
        targets[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    return Batch(samples, lengths, targets)


class SpeechSet:
    """Utterances at several speeds, decoded as they are needed when they do not fit in memory."""

    def __init__(
        self,
        utterances: Iterable[Utterance],
        vocabulary: Vocabulary,
        *,
        receptive_field: int,
        speeds: Sequence[float] = (1.0,),
        recordings: Recordings | None = None,
    ) -> None:
        """Read every clip, or its header where all would take more than `recordings` may hold.

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
            recordings=recordings,
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
        self, members: Members, *, seed: tuple[int, ...], noise_share: float
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

    def names(self, members: Members) -> str:
        """The first utterances of a batch by their ids."""
        names = [self.utterances[index].id for index, _ in members[:4]]
        more = f" and {len(members) - 4} more" if len(members) > 4 else ""
        return f"utterances {', '.join(names)}{more}"


@dataclass(frozen=True)
class SpeechBatches:
    """A set in epochs: every utterance once in each, in batches of `batch_seconds` at most."""

    speech: SpeechSet
    batch_seconds: float
    seed: int
    noise_share: float = 0.0

    def plan(self, epoch: int) -> list[list[tuple[int, int]]]:
        """See `Source`."""
        return self.speech.plan(epoch, seed=self.seed, batch_seconds=self.batch_seconds)

    def batch(self, epoch: int, number: int, members: Members) -> Batch:
        """See `Source`."""
        seed = (self.seed, epoch, number)
        return self.speech.training_batch(members, seed=seed, noise_share=self.noise_share)

    def names(self, members: Members) -> str:
        """See `Source`."""
        return self.speech.names(members)

    def in_worker(self, workers: int) -> None:
        """Each process has memory of its own: together they hold what one was allowed to."""
        recordings = self.speech.clips.recordings
        if not self.speech.clips.in_memory:
            recordings.memory_bytes //= workers


@dataclass(frozen=True)
class FirstBatches:
    """The first `count` batches of another source, however many epochs they take, as one epoch."""

    source: Source
    count: int

    @cached_property
    def _places(self) -> list[tuple[int, int, Members]]:
        return [place for place, _ in zip(self._endless(), range(self.count), strict=False)]

    def _endless(self) -> Iterator[tuple[int, int, Members]]:
        epoch = 0
        while True:
            for number, members in enumerate(self.source.plan(epoch)):
                yield epoch, number, members
            epoch += 1

    def plan(self, epoch: int) -> list[Members]:
        """See `Source`."""
        return [members for _, _, members in self._places]

    def batch(self, epoch: int, number: int, members: Members) -> AnyBatch:
        """See `Source`."""
        return self.source.batch(*self._places[number])

    def names(self, members: Members) -> str:
        """See `Source`."""
        return self.source.names(members)

    def in_worker(self, workers: int) -> None:
        """See `Source`."""
        self.source.in_worker(workers)


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
