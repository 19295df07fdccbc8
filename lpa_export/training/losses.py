"""What the models learn from: transcripts by CTC, and a teacher's logits and hidden states."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from lpa_export.hosts import host_of
from lpa_export.training.batches import Batch
from lpa_export.training.evaluate import encoder_frames, frame_lengths

__all__ = ["ctc_loss", "distillation_loss", "teacher_loss"]


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


def teacher_loss(model: Any, batch: Batch, intermediate_weight: float) -> dict[str, torch.Tensor]:
    """CTC at the top, plus CTC of the middle layer through the same norm and head.

    Without the auxiliary loss (Lee and Watanabe 2021, intermediate CTC) a small encoder sits on
    the plateau where it says blanks only for most of a short training.
    """
    out = model(batch.waveforms, attention_mask=batch.mask, output_hidden_states=True)
    frames = frame_lengths(model, batch)
    top = ctc_loss(out.logits, frames, batch.labels)
    encoder = host_of(model).body(model).encoder
    middle = out.hidden_states[len(encoder.layers) // 2]
    if getattr(model.config, "do_stable_layer_norm", False):
        middle = encoder.layer_norm(middle)
    aside = ctc_loss(model.lm_head(middle), frames, batch.labels)
    total = (1 - intermediate_weight) * top + intermediate_weight * aside
    return {"loss": total, "ctc": top.detach(), "ctc_middle": aside.detach()}


def distillation_loss(
    teacher: Any,
    student: Any,
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
    valid = _valid(out.logits, frames)
    inside = _valid(out.hidden_states[0], encoder_frames(student, batch))
    ctc = ctc_loss(out.logits, frames, batch.labels)
    logit = nn.functional.kl_div(
        out.logits[valid].log_softmax(-1),
        goal.logits[valid].log_softmax(-1),
        log_target=True,
        reduction="batchmean",
    )
    hidden = torch.stack(
        [
            (out.hidden_states[i + 1][inside] - goal.hidden_states[i + 1][inside]).square().mean()
            / goal.hidden_states[i + 1][inside].var()
            for i in compared
        ]
    ).mean()
    total = ctc + logit_weight * logit + hidden_weight * hidden
    return {"loss": total, "ctc": ctc.detach(), "logit": logit.detach(), "hidden": hidden.detach()}


def _valid(frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(B, T) bool of frames (B, T, width): the first `lengths` of each."""
    return torch.arange(frames.shape[1], device=lengths.device) < lengths[:, None]
