"""What a replacement is trained on and judged by: all of it that depends on the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from lpa_export.formats.recipe import ReplaceSettings
from lpa_export.hosts import host_of
from lpa_export.training.attention_profile import AttentionProfile, attention_profiles
from lpa_export.training.batches import Source, SpeechBatches, SpeechSet
from lpa_export.training.evaluate import word_error_rate
from lpa_export.training.losses import distillation_loss
from lpa_export.training.records import WER, Figure

__all__ = ["Objective", "Recognition"]


class Objective(Protocol):
    """Data, losses and the figure by which weights are chosen.

    `augments`: whether the joint phase runs in training mode, as the teacher was trained.
    """

    @property
    def figure(self) -> Figure: ...

    @property
    def augments(self) -> bool: ...

    def batches(self, seed: int) -> Source:
        """What a phase is trained on."""
        ...

    def loss(
        self, teacher: Any, student: Any, batch: Any, compared: Sequence[int]
    ) -> dict[str, Tensor]:
        """Terms by name, `loss` to be minimised; hidden states behind `compared` layers count."""
        ...

    def value(self, model: Any) -> float:
        """The figure of `model` on held-out data."""
        ...

    def profile(self, teacher: Any, layer: int, reach: int) -> AttentionProfile:
        """What the attention of `layer` looks at, up to `reach` frames."""
        ...

    def augment(self, student: Any, on: bool) -> None:
        """Mask the student's inputs, or leave them clean."""
        ...

    def joint_parts(self, student: Any) -> Sequence[nn.Module]:
        """What the joint phase trains, where the rest of the model learns along."""
        ...


@dataclass(frozen=True)
class Recognition:
    """Transcripts by CTC, the teacher's logits and hidden states; judged by the WER."""

    train: SpeechSet
    dev: SpeechSet
    settings: ReplaceSettings
    noise_share: float = 0.0
    figure: Figure = field(default=WER, init=False)

    @property
    def augments(self) -> bool:
        """Dropout and SpecAugment."""
        return self.settings.joint_augment

    def batches(self, seed: int) -> SpeechBatches:
        """See `Objective`."""
        return SpeechBatches(self.train, self.settings.batch_seconds, seed, self.noise_share)

    def loss(
        self, teacher: Any, student: Any, batch: Any, compared: Sequence[int]
    ) -> dict[str, Tensor]:
        """See `Objective`."""
        return distillation_loss(
            teacher,
            student,
            batch,
            compared,
            hidden_weight=self.settings.hidden_weight,
            logit_weight=self.settings.logit_weight,
        )

    def value(self, model: Any) -> float:
        """WER in percent."""
        return 100 * word_error_rate(model, self.dev)

    def profile(self, teacher: Any, layer: int, reach: int) -> AttentionProfile:
        """See `Objective`."""
        return attention_profiles(teacher, [layer], self.train, reach=reach)[layer]

    def augment(self, student: Any, on: bool) -> None:
        """SpecAugment."""
        student.config.apply_spec_augment = on

    def joint_parts(self, student: Any) -> Sequence[nn.Module]:
        """The encoder and the head."""
        return [host_of(student).body(student).encoder, student.lm_head]
