"""From teacher to LPA: layers replaced one after another, then the whole encoder jointly.

Each step of the way the frozen teacher sees the same clips: the replaced layer learns to give the
teacher's hidden states and the model its logits, beside CTC. The gates' temperature falls
geometrically, in frames, so that the windows are near-binary at the end and the hard model, the
only one that is evaluated for keeping, is the soft one's equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from transformers import Wav2Vec2ForCTC

from lpa_export.layers import LPAConfig
from lpa_export.surgery import encoder_layers, lpa_layers, replace_layers
from lpa_export.training.data import Batch, SpeechSet
from lpa_export.training.evaluate import frame_lengths, word_error_rate
from lpa_export.training.files import load_weights, save_weights
from lpa_export.training.loop import BEST, STATE, Settings, optimise
from lpa_export.training.teacher import ctc_loss

__all__ = ["Distillation", "distillation_loss", "replace_progressively"]


@dataclass(frozen=True)
class Distillation:
    """Weights of the losses beside CTC, and the temperatures (frames) of both phases."""

    hidden_weight: float
    logit_weight: float
    layer_temperature: tuple[float, float]
    joint_temperature: tuple[float, float]


def replace_progressively(
    teacher: Wav2Vec2ForCTC,
    student: Wav2Vec2ForCTC,
    layers: Iterable[int],
    config: LPAConfig,
    train: SpeechSet,
    dev: SpeechSet,
    *,
    layer_settings: Settings,
    joint_settings: Settings,
    distillation: Distillation,
    folder: Path,
) -> None:
    """Turn `student`, a copy of `teacher`, into the LPA model; every phase is resumable.

    A phase that is done leaves its weights in `folder`/<phase>/done.safetensors. At the end the
    student holds the joint phase's weights with the lowest hard WER on `dev`.
    """
    teacher.eval().requires_grad_(False)
    layers = tuple(layers)
    for position, layer in enumerate(layers):
        # Anew for each layer: a resumed run must draw what the killed one drew.
        torch.manual_seed(layer_settings.seed + position)
        replace_layers(student, [layer], config)
        _train_parts(student, [encoder_layers(student)[layer]])
        phase = folder / f"layer-{layer}"
        settings = replace(layer_settings, seed=layer_settings.seed + position)
        _phase(teacher, student, train, dev, settings, distillation, phase, joint=False)
    _train_parts(student, [student.wav2vec2.encoder, student.lm_head])
    _phase(teacher, student, train, dev, joint_settings, distillation, folder / "joint", joint=True)


def distillation_loss(
    teacher: Wav2Vec2ForCTC,
    student: Wav2Vec2ForCTC,
    batch: Batch,
    weights: Distillation,
    compared: Iterable[int],
) -> dict[str, torch.Tensor]:
    """CTC, Kullback-Leibler of the logits, and normalised MSE after the `compared` layers.

    Hidden states count relative to the variance of the teacher's; padding never counts.
    """
    with torch.no_grad():
        goal = teacher(batch.waveforms, attention_mask=batch.mask, output_hidden_states=True)
    out = student(batch.waveforms, attention_mask=batch.mask, output_hidden_states=True)
    frames = frame_lengths(student, batch)
    valid = torch.arange(out.logits.shape[1]) < frames[:, None]
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
    total = ctc + weights.logit_weight * logit + weights.hidden_weight * hidden
    return {"loss": total, "ctc": ctc.detach(), "logit": logit.detach(), "hidden": hidden.detach()}


def _phase(
    teacher: Wav2Vec2ForCTC,
    student: Wav2Vec2ForCTC,
    train: SpeechSet,
    dev: SpeechSet,
    settings: Settings,
    distillation: Distillation,
    folder: Path,
    *,
    joint: bool,
) -> None:
    """Train what requires gradients; leaves `student` with the phase's weights."""
    done = folder / "done.safetensors"
    if done.is_file():
        load_weights(done, student)
        return
    start, end = distillation.joint_temperature if joint else distillation.layer_temperature
    replaced = lpa_layers(student)
    # A layer alone learns from clean input; the joint phase is trained as the teacher was, with
    # dropout and SpecAugment.
    student.config.apply_spec_augment = joint

    def loss(batch: Batch, share: float) -> dict[str, torch.Tensor]:
        for lpa in replaced.values():
            lpa.hard, lpa.temperature = False, start * (end / start) ** share
        return distillation_loss(teacher, student, batch, distillation, replaced)

    def evaluate() -> dict[str, float]:
        figures = {}
        for hard, name in ((False, "soft_wer"), (True, "wer")):
            for lpa in replaced.values():
                lpa.hard = hard
            figures[name] = 100 * word_error_rate(student, dev)
        return figures

    optimise(student, loss, train, settings, folder, evaluate=evaluate, dropout=joint)
    if joint:
        load_weights(folder / BEST, student)
    save_weights(done, student)
    (folder / STATE).unlink(missing_ok=True)


def _train_parts(model: nn.Module, parts: Iterable[nn.Module]) -> None:
    model.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
