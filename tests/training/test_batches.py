"""Batches: deterministic, of bounded size, and right to the sample."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lpa_export.errors import LpaError
from lpa_export.formats.speech import load_utterances
from lpa_export.training.batches import SpeechSet, normalise, pad
from lpa_export.training.teacher import CHARACTERS


@pytest.fixture
def speech(tone_manifest: Callable[..., Path]) -> SpeechSet:
    utterances = load_utterances(tone_manifest("some", 20, seed=3))
    return SpeechSet(utterances, CHARACTERS, receptive_field=720, speeds=(0.9, 1.0, 1.1))


def test_a_plan_holds_every_utterance_once_within_the_batch_length(speech: SpeechSet) -> None:
    plan = speech.plan(4, seed=1, batch_seconds=5.0)
    assert sorted(index for batch in plan for index, _ in batch) == list(range(20))
    for batch in plan:
        longest = max(len(speech.clips[index][speed]) for index, speed in batch)
        assert len(batch) == 1 or longest * len(batch) <= 5.0 * 16_000


def test_epochs_differ_and_the_same_epoch_does_not(speech: SpeechSet) -> None:
    plans = [speech.plan(epoch, seed=1, batch_seconds=5.0) for epoch in (0, 1, 0)]
    assert plans[0] == plans[2]
    assert plans[0] != plans[1]
    batches = [
        speech.training_batch(plans[0][0], seed=(1, 0, 0), noise_share=1.0) for _ in range(2)
    ]
    assert torch.equal(batches[0].waveforms, batches[1].waveforms)


def test_speed_changes_length_and_pitch_together(speech: SpeechSet) -> None:
    slow, normal, fast = speech.clips[0]
    assert len(slow) / len(normal) == pytest.approx(1 / 0.9, rel=1e-3)
    assert len(fast) / len(normal) == pytest.approx(1 / 1.1, rel=1e-3)

    def peak(clip: np.ndarray) -> float:
        spectrum = np.abs(np.fft.rfft(clip))
        return float(np.fft.rfftfreq(len(clip), 1 / 16_000)[spectrum.argmax()])

    assert peak(fast) / peak(slow) == pytest.approx(1.1 / 0.9, rel=0.03)


def test_padding_is_zero_and_masked() -> None:
    batch = pad([np.ones(5, np.float32), np.ones(3, np.float32)], [[4], [5, 6]])
    assert batch.waveforms.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch.mask.sum(-1).tolist() == [5, 3]
    assert batch.labels.tolist() == [[4, -1], [5, 6]]


def test_normalisation_is_the_feature_extractors() -> None:
    from transformers import Wav2Vec2FeatureExtractor

    waveform = np.random.default_rng(0).standard_normal(4_000).astype(np.float32) * 3 + 1
    theirs = Wav2Vec2FeatureExtractor()(waveform, sampling_rate=16_000).input_values[0]
    np.testing.assert_allclose(normalise(waveform), theirs, atol=1e-6)


def test_a_transcript_outside_the_vocabulary_names_utterance_and_character(
    tone_manifest: Callable[..., Path],
) -> None:
    manifest = tone_manifest("bad", 2, seed=0)
    manifest.write_text(manifest.read_text().replace('"text": "', '"text": "7', 1))
    with pytest.raises(LpaError, match=r"0: .*7"):
        SpeechSet(load_utterances(manifest), CHARACTERS, receptive_field=720)
