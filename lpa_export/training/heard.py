"""What the sweep of a recogniser hears: speech in padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lpa_export.formats.recipe import SweepSettings
from lpa_export.training.attention_profile import AttentionProfile, attention_profiles
from lpa_export.training.batches import Batch, SpeechBatches, SpeechSet

__all__ = ["HeardSpeech"]


@dataclass(frozen=True)
class HeardSpeech:
    """See `lpa_export.training.sweep.Heard`."""

    speech: SpeechSet
    others: SpeechSet
    settings: SweepSettings

    @property
    def fitted(self) -> SpeechBatches:
        """See `Heard`."""
        return SpeechBatches(self.speech, self.settings.batch_seconds, self.settings.seed)

    @property
    def held_out(self) -> SpeechBatches:
        """See `Heard`."""
        return SpeechBatches(self.others, self.settings.batch_seconds, self.settings.seed)

    def run(self, teacher: Any, batch: Batch) -> None:
        """See `Heard`."""
        teacher(batch.waveforms, attention_mask=batch.mask)

    def profiles(
        self, teacher: Any, layers: Sequence[int], reach: int
    ) -> dict[int, AttentionProfile]:
        """See `Heard`."""
        return attention_profiles(teacher, layers, self.speech, reach=reach)
