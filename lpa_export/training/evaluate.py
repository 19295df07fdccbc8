"""What a model in memory says to held-out speech: greedy transcripts, their WER, their file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import jiwer
import torch

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.speech import Utterance
from lpa_export.formats.text import greedy_text
from lpa_export.hosts.frames import frames_after
from lpa_export.training.batches import Batch, SpeechSet, normalise, pad
from lpa_export.training.files import read_json, write_json

__all__ = [
    "TRANSCRIPTS",
    "Transcript",
    "encoder_frames",
    "evaluation_batches",
    "frame_lengths",
    "read_transcripts",
    "require_usable",
    "transcribe",
    "word_error_rate",
    "write_transcripts",
]

TRANSCRIPTS = "transcripts.json"
BATCH_CLIPS = 16
BATCH_SECONDS = 160


def frame_lengths(model: Any, batch: Batch) -> torch.Tensor:
    """Valid output frames of each clip of a batch, (B,)."""
    return cast(torch.Tensor, model._get_feat_extract_output_lengths(batch.lengths))


def encoder_frames(model: Any, batch: Batch) -> torch.Tensor:
    """Valid frames inside the encoder, (B,): what lies behind it may make fewer (`add_adapter`)."""
    frames = batch.lengths
    for kernel, stride in zip(model.config.conv_kernel, model.config.conv_stride, strict=True):
        frames = frames_after(frames, kernel, stride)
    return frames


def require_usable(model: Any, speech: SpeechSet) -> None:
    """LpaError when no utterance has a frame for each letter (and a blank between equal ones).

    CTC gives such an utterance no gradient, so that a set of them would train without learning.
    """
    samples = torch.tensor([length[0] for length in speech.clips.lengths])
    frames = model._get_feat_extract_output_lengths(samples).tolist()
    needed = [len(ids) + sum(a == b for a, b in pairwise(ids)) for ids in speech.labels]
    if not any(has >= needs for has, needs in zip(frames, needed, strict=True)):
        raise LpaError(
            f"no utterance can be learnt from: {speech.utterances[0].id}, as all others, has fewer "
            f"frames ({frames[0]}) than its transcript needs ({needed[0]}); check the transcripts"
        )


def evaluation_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places in `lengths` (samples), shortest clips first, in batches that fit in memory."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        padded = (len(batch) + 1) * lengths[index]
        if batch and (len(batch) == BATCH_CLIPS or padded > BATCH_SECONDS * SAMPLE_RATE):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def transcribe(model: Any, speech: SpeechSet) -> list[str]:
    """Greedy transcripts, in the order of the set; the model's mode is put back afterwards."""
    training = model.training
    model.eval()
    texts = [""] * len(speech)
    for members in evaluation_batches([versions[0] for versions in speech.clips.lengths]):
        batch = pad(
            [normalise(speech.clips[index][0]) for index in members],
            [speech.labels[index] for index in members],
        ).to(model.device)
        logits = model(batch.waveforms, attention_mask=batch.mask).logits
        frames = frame_lengths(model, batch)
        for row, index in enumerate(members):
            texts[index] = greedy_text(logits[row, : frames[row]].cpu().numpy(), speech.vocabulary)
    model.train(training)
    return texts


def word_error_rate(model: Any, speech: SpeechSet) -> float:
    """WER over the whole set (errors over reference words, not a mean of utterances)."""
    normalise = speech.vocabulary.normalise
    references = [normalise(utterance.text) for utterance in speech.utterances]
    return float(jiwer.wer(references, transcribe(model, speech)))


@dataclass(frozen=True)
class Transcript:
    """One utterance and its greedy transcripts by the teacher, the soft and the hard model."""

    id: str
    speaker: str | None
    text: str
    teacher: str
    soft: str
    hard: str


def write_transcripts(
    folder: Path, utterances: Sequence[Utterance], said: Mapping[str, Sequence[str]]
) -> None:
    """Write `transcripts.json` into a run's folder; `said`: texts by `teacher`, `soft`, `hard`."""
    rows = [
        asdict(Transcript(item.id, item.speaker, item.text, **{who: said[who][i] for who in said}))
        for i, item in enumerate(utterances)
    ]
    write_json(folder / TRANSCRIPTS, rows)


def read_transcripts(folder: Path) -> tuple[Transcript, ...]:
    """Read what `write_transcripts` wrote; LpaError when it is not there or damaged."""
    return read_json(
        folder / TRANSCRIPTS,
        lambda rows: tuple(Transcript(**row) for row in rows),
        "the transcripts of a run",
    )
