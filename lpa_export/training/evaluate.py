"""Greedy WER of a model in memory, while it trains."""

from __future__ import annotations

from typing import cast

import jiwer
import torch
from transformers import Wav2Vec2ForCTC

from lpa_export.ctc import greedy_text, normalise_text
from lpa_export.training.data import Batch, SpeechSet, normalise, pad

__all__ = ["frame_lengths", "transcribe", "word_error_rate"]


def frame_lengths(model: Wav2Vec2ForCTC, batch: Batch) -> torch.Tensor:
    """Valid output frames of each clip of a batch, (B,)."""
    samples = cast("torch.LongTensor", batch.mask.sum(-1))
    return cast(torch.Tensor, model._get_feat_extract_output_lengths(samples))


@torch.inference_mode()
def transcribe(model: Wav2Vec2ForCTC, speech: SpeechSet) -> list[str]:
    """Greedy transcripts, in the order of the set; the model's mode is put back afterwards."""
    training = model.training
    model.eval()
    order = sorted(range(len(speech)), key=lambda index: len(speech.clips[index][0]))
    texts = [""] * len(speech)
    for start in range(0, len(order), 16):
        members = order[start : start + 16]
        batch = pad(
            [normalise(speech.clips[index][0]) for index in members],
            [speech.labels[index] for index in members],
        )
        logits = model(batch.waveforms, attention_mask=batch.mask).logits
        frames = frame_lengths(model, batch)
        for row, index in enumerate(members):
            texts[index] = greedy_text(logits[row, : frames[row]].numpy(), speech.vocabulary)
    model.train(training)
    return texts


def word_error_rate(model: Wav2Vec2ForCTC, speech: SpeechSet) -> float:
    """WER over the whole set (errors over reference words, not a mean of utterances)."""
    references = [normalise_text(utterance.text) for utterance in speech.utterances]
    return float(jiwer.wer(references, transcribe(model, speech)))
