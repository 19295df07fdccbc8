"""What the sweep of a separator hears: new mixtures to fit on, the held-out ones for figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lpa_export.formats.mixing import Draw
from lpa_export.formats.separation_recipe import MixingSettings, SeparationSweep
from lpa_export.training.attention_profile import AttentionProfile, profiles_of
from lpa_export.training.batches import Members
from lpa_export.training.separation.mixtures import MixtureBatches, Mixtures, Sounds

__all__ = ["HeardMixtures", "mixture_profiles"]

PROFILED_CLIPS = 8


@dataclass(frozen=True)
class HeardMixtures:
    """See `lpa_export.training.sweep.Heard`."""

    train: Sounds
    dev: Sounds
    draws: Sequence[Draw]
    mixing: MixingSettings
    settings: SeparationSweep

    @property
    def fitted(self) -> MixtureBatches:
        """See `Heard`."""
        settings, every = self.settings, len(self.train.speech)
        return MixtureBatches(self.train, self.mixing, every, settings.batch_clips, settings.seed)

    @property
    def held_out(self) -> _Drawn:
        """See `Heard`."""
        return _Drawn(self.dev, self.draws, self.settings.batch_clips)

    def run(self, teacher: Any, batch: Mixtures) -> None:
        """See `Heard`."""
        teacher(batch.waveforms)

    def profiles(
        self, teacher: Any, layers: Sequence[int], reach: int
    ) -> dict[int, AttentionProfile]:
        """See `Heard`."""
        return mixture_profiles(teacher, layers, self.dev, self.draws, reach)


def mixture_profiles(
    teacher: Any, layers: Sequence[int], dev: Sounds, draws: Sequence[Draw], reach: int
) -> dict[int, AttentionProfile]:
    """Layer -> its profile over some held-out mixtures: chunks are many, and alike."""
    clips = (torch.from_numpy(dev.mix(draw)[0])[None] for draw in draws[:PROFILED_CLIPS])
    return profiles_of(teacher, layers, clips, reach=reach)


@dataclass(frozen=True)
class _Drawn:
    """The same mixtures in every epoch; see `lpa_export.training.batches.Source`."""

    sounds: Sounds
    draws: Sequence[Draw]
    batch_clips: int

    def plan(self, epoch: int) -> list[list[tuple[int, int]]]:
        every = [(number, 0) for number in range(len(self.draws))]
        return [every[i : i + self.batch_clips] for i in range(0, len(every), self.batch_clips)]

    def batch(self, epoch: int, number: int, members: Members) -> Mixtures:
        return self.sounds.batch(self.draws[index] for index, _ in members)

    def names(self, members: Members) -> str:
        return f"held-out mixtures {', '.join(str(index) for index, _ in members)}"

    def in_worker(self, workers: int) -> None:
        """They are made in the process itself."""
