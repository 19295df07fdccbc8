"""What a student learns from: the transcript, the teacher's logits and its hidden states."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from transformers import Wav2Vec2ForCTC

from lpa_export.training.data import Batch
from lpa_export.training.evaluate import frame_lengths
from lpa_export.training.teacher import ctc_loss

__all__ = ["distillation_loss"]


def distillation_loss(
    teacher: Wav2Vec2ForCTC,
    student: Wav2Vec2ForCTC,
    batch: Batch,
    compared: Iterable[int],
    *,
    hidden_weight: float,
    logit_weight: float,
) -> dict[str, torch.Tensor]:
    """CTC, Kullback-Leibler of the logits, and normalised MSE after the `compared` layers.

    Hidden states count relative to the variance of the teacher's; padding never counts.
    """
    with torch.no_grad():
        goal = teacher(batch.waveforms, attention_mask=batch.mask, output_hidden_states=True)
    out = student(batch.waveforms, attention_mask=batch.mask, output_hidden_states=True)
    frames = frame_lengths(student, batch)
    valid = torch.arange(out.logits.shape[1], device=frames.device) < frames[:, None]
    ctc = ctc_loss(out.logits, frames, batch.labels)
    logit = nn.functional.kl_div(
        out.logits[valid].log_softmax(-1),
        goal.logits[valid].log_softmax(-1),
        log_target=True,
        reduction="batchmean",
    )
    hidden = torch.stack(
        [
            (out.hidden_states[i + 1][valid] - goal.hidden_states[i + 1][valid]).square().mean()
            / goal.hidden_states[i + 1][valid].var()
            for i in compared
        ]
    ).mean()
    total = ctc + logit_weight * logit + hidden_weight * hidden
    return {"loss": total, "ctc": ctc.detach(), "logit": logit.detach(), "hidden": hidden.detach()}
