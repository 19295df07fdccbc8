"""What the replacement of a separator's attention is trained on and judged by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lpa_export.formats.mixing import Draw
from lpa_export.formats.separation_recipe import MixingSettings, SeparationReplace
from lpa_export.hosts import encoder_layers
from lpa_export.training.attention_profile import AttentionProfile
from lpa_export.training.records import Figure
from lpa_export.training.separation.evaluate import IMPROVEMENT, improvements
from lpa_export.training.separation.heard import mixture_profiles
from lpa_export.training.separation.losses import separation_loss
from lpa_export.training.separation.mixtures import MixtureBatches, Mixtures, Sounds

__all__ = ["Separation"]


@dataclass(frozen=True)
class Separation:
    """The sources by SI-SNR, the teacher's hidden states; judged by SI-SNRi. See `Objective`."""

    train: Sounds
    dev: Sounds
    draws: Sequence[Draw]
    mixing: MixingSettings
    settings: SeparationReplace
    level_weight: float
    figure: Figure = field(default=IMPROVEMENT, init=False)
    augments: bool = field(default=False, init=False)

    def batches(self, seed: int) -> MixtureBatches:
        """See `Objective`."""
        settings = self.settings
        return MixtureBatches(
            self.train, self.mixing, settings.clips_per_epoch, settings.batch_clips, seed
        )

    def loss(
        self, teacher: Any, student: Any, batch: Mixtures, compared: Sequence[int]
    ) -> dict[str, Tensor]:
        """SI-SNR of the best assignment, and normalised MSE behind the `compared` layers."""
        with torch.no_grad(), _outputs(teacher, compared) as goals:
            teacher(batch.waveforms)
        with _outputs(student, compared) as found:
            terms = separation_loss(student, batch, self.level_weight)
        hidden = torch.stack(
            [(found[i] - goals[i]).square().mean() / goals[i].var() for i in compared]
        ).mean()
        total = terms["loss"] + self.settings.hidden_weight * hidden
        return terms | {"loss": total, "hidden": hidden.detach()}

    def value(self, model: Any) -> float:
        """SI-SNRi in dB."""
        return float(improvements(model, self.dev, self.draws).mean())

    def profile(self, teacher: Any, layer: int, reach: int) -> AttentionProfile:
        """See `Objective`."""
        return mixture_profiles(teacher, [layer], self.dev, self.draws, reach)[layer]

    def augment(self, student: Any, on: bool) -> None:
        """Mixtures are other ones every time as it is."""

    def joint_parts(self, student: Any) -> Sequence[nn.Module]:
        """The masker and the decoder."""
        return [student.masknet, student.decoder]


@contextmanager
def _outputs(model: Any, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """While the block runs, the dictionary holds what each layer gave in the last forward pass."""
    found: dict[int, Tensor] = {}

    def keep(index: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            found[index] = output

        return hook

    every = encoder_layers(model)
    handles = [every[index].register_forward_hook(keep(index)) for index in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
