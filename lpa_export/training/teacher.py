"""The attention teacher: CTC from scratch, with an auxiliary CTC loss half way up the encoder.

The auxiliary loss (Lee and Watanabe 2021, intermediate CTC) shares the model's own head; without
it a small encoder sits on the blank-only plateau for most of a short training.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import Wav2Vec2ForCTC

from lpa_export.training.data import Batch, SpeechSet
from lpa_export.training.evaluate import frame_lengths, word_error_rate
from lpa_export.training.loop import Progress, Settings, optimise

__all__ = ["ctc_loss", "train_teacher"]


def train_teacher(
    model: Wav2Vec2ForCTC,
    train: SpeechSet,
    dev: SpeechSet,
    settings: Settings,
    folder: Path,
    *,
    intermediate_weight: float,
) -> Progress:
    """Train `model` in place; the run's state and best weights lie in `folder`."""

    def loss(batch: Batch, share: float) -> dict[str, torch.Tensor]:
        return teacher_loss(model, batch, intermediate_weight)

    def evaluate() -> dict[str, float]:
        return {"wer": 100 * word_error_rate(model, dev)}

    return optimise(model, loss, train, settings, folder, evaluate=evaluate)


def teacher_loss(
    model: Wav2Vec2ForCTC, batch: Batch, intermediate_weight: float
) -> dict[str, torch.Tensor]:
    """CTC at the top, plus CTC of the middle layer through the same norm and head."""
    out = model(batch.waveforms, attention_mask=batch.mask, output_hidden_states=True)
    frames = frame_lengths(model, batch)
    top = ctc_loss(out.logits, frames, batch.labels)
    encoder = model.wav2vec2.encoder
    middle = out.hidden_states[len(encoder.layers) // 2]
    if model.config.do_stable_layer_norm:
        middle = encoder.layer_norm(middle)
    aside = ctc_loss(model.lm_head(middle), frames, batch.labels)
    total = (1 - intermediate_weight) * top + intermediate_weight * aside
    return {"loss": total, "ctc": top.detach(), "ctc_middle": aside.detach()}


def ctc_loss(logits: torch.Tensor, frames: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean CTC loss per label. logits (B, T, V), frames (B,), labels (B, L) padded by -1."""
    label_lengths = (labels >= 0).sum(-1)
    return nn.functional.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),
        labels.clamp(min=0),
        frames,
        label_lengths,
        zero_infinity=True,
    )
