"""Speech and noise, mixed on the fly: the same place of a run always gives the same mixture.

Every choice is drawn from a generator seeded by (seed, epoch, batch, clip), as in `batches`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lpa_export.formats.audio import Waveform
from lpa_export.formats.generated_noise import generated_noise, varied_noise
from lpa_export.formats.mixing import Draw, cut_out, mixed, rms
from lpa_export.formats.separation_recipe import MixingSettings
from lpa_export.training.batches import Members
from lpa_export.training.clips import Clips

__all__ = ["TEST_SNRS", "MixtureBatches", "Mixtures", "Sounds", "held_out"]

TEST_SNRS = (-5.0, 0.0, 5.0, 10.0, 15.0)
"""Signal-to-noise ratios in dB of held-out mixtures, in equal shares."""

# A cut that holds less than this share of its recording's power is a pause: another is drawn.
_PAUSE = 0.05
_CUTS = 8


@dataclass(frozen=True)
class Mixtures:
    """Mixtures (B, samples) and what is to come out of them, (B, sources, samples).

    `rate`: samples a second.
    """

    waveforms: torch.Tensor
    sources: torch.Tensor
    rate: int

    @property
    def seconds(self) -> float:
        """Audio in it."""
        return self.waveforms.numel() / self.rate

    @property
    def shape(self) -> tuple[int, float]:
        """Clips, and seconds of each."""
        clips, samples = self.waveforms.shape
        return clips, samples / self.rate

    def to(self, device: torch.device) -> Mixtures:
        """The same batch on `device`."""
        return Mixtures(self.waveforms.to(device), self.sources.to(device), self.rate)

    def pin_memory(self) -> Mixtures:
        """The same batch where a GPU can fetch it while the CPU goes on."""
        return Mixtures(self.waveforms.pin_memory(), self.sources.pin_memory(), self.rate)


@dataclass(frozen=True)
class Sounds:
    """Speech and noise of one part of the data, and how long a clip of it is.

    `rate`: samples a second, of all recordings.
    """

    speech: Clips
    noise: Clips
    samples: int
    rate: int

    def draw(
        self, speech: int, rng: np.random.Generator, mixing: MixingSettings, snr_db: float
    ) -> Draw:
        """A mixture of the recording `speech` with any noise, at places that are no pauses."""
        noise = int(rng.integers(len(self.noise)))
        return Draw(
            speech,
            self._cut(self.speech[speech][0], rng, wrapped=False),
            noise,
            self._cut(self.noise[noise][0], rng, wrapped=True),
            snr_db,
            float(rng.uniform(*mixing.level_dbfs)),
        )

    def mix(self, draw: Draw, noise: Waveform | None = None) -> tuple[Waveform, Waveform]:
        """The mixture and its speech, (samples,) each; quieter where the sum would clip.

        With `noise`, (samples,), in the place of the drawn recording.
        """
        if noise is None:
            noise = self.noise[draw.noise][0]
        else:
            draw = replace(draw, noise_start=0)
        return mixed(self.speech[draw.speech][0], noise, draw, self.samples)

    def batch(self, draws: Iterable[Draw]) -> Mixtures:
        """Mixtures of recordings as they were drawn."""
        return self.stacked([self.mix(draw) for draw in draws])

    def stacked(self, made: Sequence[tuple[Waveform, Waveform]]) -> Mixtures:
        """What `mix` gave, as one batch."""
        waveforms, speech = (torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True))
        return Mixtures(waveforms, speech[:, None], self.rate)

    def _cut(self, clip: Waveform, rng: np.random.Generator, *, wrapped: bool) -> int:
        """Where a cut begins that is no pause, or the loudest of those that were tried."""
        room = len(clip) - 1 if wrapped else len(clip) - self.samples
        low, high = min(0, room), max(0, room)
        powers: dict[int, float] = {}
        for _ in range(_CUTS):
            start = int(rng.integers(low, high + 1))
            powers[start] = rms(cut_out(clip, start, self.samples, wrapped)) ** 2
            if powers[start] > _PAUSE * rms(clip) ** 2:
                return start
        return max(powers, key=lambda start: powers[start])


@dataclass(frozen=True)
class MixtureBatches:
    """Epochs of `clips` utterances each, drawn without repetition, `batch_clips` a batch."""

    sounds: Sounds
    mixing: MixingSettings
    clips: int
    batch_clips: int
    seed: int

    def plan(self, epoch: int) -> list[list[tuple[int, int]]]:
        """See `Source`."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.sounds.speech))
        chosen = [(int(index), 0) for index in order[: self.clips]]
        return [chosen[i : i + self.batch_clips] for i in range(0, len(chosen), self.batch_clips)]

    def batch(self, epoch: int, number: int, members: Members) -> Mixtures:
        """See `Source`."""
        made = []
        for row, (index, _) in enumerate(members):
            rng = np.random.default_rng((self.seed, epoch, number, row))
            snr_db = float(rng.uniform(*self.mixing.snr_db))
            draw = self.sounds.draw(index, rng, self.mixing, snr_db)
            made.append(self.sounds.mix(draw, self._noise(draw, rng)))
        return self.sounds.stacked(made)

    def _noise(self, draw: Draw, rng: np.random.Generator) -> Waveform | None:
        """Noise for one clip in the shares that the recipe states; None: as it was recorded."""
        sounds = self.sounds
        if rng.random() < self.mixing.generated_share:
            return generated_noise(rng, sounds.samples, sounds.rate)
        if rng.random() < self.mixing.varied_share:
            noise = sounds.noise[draw.noise][0]
            return varied_noise(rng, noise, draw.noise_start, sounds.samples, sounds.rate)
        return None

    def names(self, members: Members) -> str:
        """See `Source`."""
        return f"recordings {', '.join(str(index) for index, _ in members)} of the training speech"

    def in_worker(self, workers: int) -> None:
        """Each process has memory of its own: together they hold what one was allowed to."""
        if not self.sounds.speech.in_memory:
            self.sounds.speech.recordings.memory_bytes //= workers


def held_out(sounds: Sounds, mixing: MixingSettings, count: int, seed: int) -> list[Draw]:
    """`count` mixtures, as many of each of `TEST_SNRS`, of recordings in turn."""
    rng = np.random.default_rng((seed, len(TEST_SNRS)))
    order = rng.permutation(len(sounds.speech))
    return [
        sounds.draw(
            int(order[number % len(order)]), rng, mixing, TEST_SNRS[number % len(TEST_SNRS)]
        )
        for number in range(count)
    ]
