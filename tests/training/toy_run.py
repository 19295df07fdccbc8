"""A training run of seconds: two tones, two letters, some 2 k parameters."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lpa_export.formats.speech import load_utterances
from lpa_export.formats.text import Vocabulary
from lpa_export.training.batches import Batch, SpeechBatches, SpeechSet
from lpa_export.training.loop import Conduct, Progress, Settings, optimise

VOCABULARY = Vocabulary(("<pad>", "|", "A", "B"))
SETTINGS = Settings(epochs=3, learning_rate=2e-3, seed=5, evaluate_every=1, average_epochs=2)
SECONDS = 4.0
NOISE = 0.3
FIELD = 720
ALWAYS = Conduct(save_seconds=0.0)
"""The state is saved after every update."""

Loss = Callable[[Batch, float], dict[str, torch.Tensor]]


class Toy(nn.Module):
    """Two convolutions over the waveform and a linear map, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 12, 400, 160)
        self.second = nn.Conv1d(12, 16, 3, 2)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(16, len(VOCABULARY))

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, V) of waveforms (B, samples)."""
        hidden = self.first(waveforms[:, None].to(self.head.weight.dtype)).relu()
        return self.head(self.drop(self.second(hidden).relu()).transpose(1, 2))


def toy(seed: int = 0) -> Toy:
    torch.manual_seed(seed)
    return Toy()


def speech(manifest: Path, **options: Any) -> SpeechSet:
    return SpeechSet(load_utterances(manifest), VOCABULARY, receptive_field=FIELD, **options)


def source(data: SpeechSet) -> SpeechBatches:
    return SpeechBatches(data, SECONDS, SETTINGS.seed, NOISE)


def loss_of(model: Toy) -> Loss:
    def loss(batch: Batch, share: float) -> dict[str, torch.Tensor]:
        frames = ((batch.mask.sum(-1) - 400) // 160 + 1 - 3) // 2 + 1
        logits = model(batch.waveforms)
        label_lengths = (batch.labels >= 0).sum(-1)
        scores = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        labels = batch.labels.clamp(min=0)
        total = nn.functional.ctc_loss(scores.transpose(0, 1), labels, frames, label_lengths)
        return {"loss": total, "share": torch.tensor(share)}

    return loss


def train(
    model: Toy,
    data: SpeechSet,
    folder: Path,
    *,
    loss: Loss | None = None,
    conduct: Conduct | None = None,
    **changes: Any,
) -> Progress:
    """`optimise` on the toy; the figure `wer` is the loss on the set's first utterances."""
    members = [(index, 0) for index in range(8)]
    held_out = data.training_batch(members, seed=(9,), noise_share=0.0)

    def evaluate() -> dict[str, float]:
        model.eval()
        with torch.no_grad():
            return {"wer": float(loss_of(model)(held_out, 0.0)["loss"])}

    return optimise(
        model,
        loss or loss_of(model),
        source(data),
        replace(SETTINGS, **changes),
        folder,
        evaluate=evaluate,
        conduct=conduct,
    )
