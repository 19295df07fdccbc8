"""A set that does not fit in memory: the same batches, a bounded cache, mistakes named at once."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lpa_export.errors import LpaError
from lpa_export.formats.audio import write_flac
from lpa_export.formats.speech import load_utterances
from lpa_export.formats.text import Vocabulary
from lpa_export.training.batches import SpeechSet
from lpa_export.training.clips import Clips, Recordings

SPEEDS = (0.85, 0.9, 1.0, 1.1)
VOCABULARY = Vocabulary(("<pad>", "|", "A", "B"))
FIELD = 720


@pytest.fixture
def manifest(tone_manifest: Callable[..., Path]) -> Path:
    return tone_manifest("some", 12, seed=3)


def _speech(manifest: Path, memory_bytes: int = 2**30) -> SpeechSet:
    return SpeechSet(
        load_utterances(manifest),
        VOCABULARY,
        receptive_field=FIELD,
        speeds=SPEEDS,
        recordings=Recordings(memory_bytes),
    )


def test_a_set_too_large_for_memory_gives_the_batches_of_one_that_fits(manifest: Path) -> None:
    held, streamed = _speech(manifest), _speech(manifest, memory_bytes=300_000)
    assert held.clips.in_memory
    assert not streamed.clips.in_memory
    for epoch in range(3):
        plans = [one.plan(epoch, seed=2, batch_seconds=3.0) for one in (held, streamed)]
        assert plans[0] == plans[1]
        for number, members in enumerate(plans[0]):
            ours, theirs = (
                one.training_batch(members, seed=(2, epoch, number), noise_share=0.5)
                for one in (streamed, held)
            )
            assert torch.equal(ours.waveforms, theirs.waveforms)
            assert torch.equal(ours.labels, theirs.labels)


def test_clips_in_use_are_kept_and_memory_is_bounded(manifest: Path) -> None:
    """What is held is there though its file is gone; what was dropped has to be read again."""
    speech = _speech(manifest, memory_bytes=250_000)
    recordings = speech.clips.recordings
    first = manifest.parent / "0.flac"
    for index in (0, 1, 0, 2, 0):
        speech.clips[index][2]
    moved = first.rename(first.with_suffix(".away"))
    for index in (3, 0, 4, 0):
        speech.clips[index][2]
    for index in range(1, 12):
        speech.clips[index][2]
        assert 0 < recordings.held_bytes <= 250_000
    with pytest.raises(LpaError, match=r"0\.flac"):
        speech.clips[0][2]
    moved.rename(first)
    assert len(speech.clips[0][2]) == speech.clips.lengths[0][2]


def test_sets_of_one_run_decode_a_recording_once(manifest: Path) -> None:
    recordings = Recordings()
    files = sorted(manifest.parent.glob("*.flac"))
    one = Clips(files, (1.0, 1.1), receptive_field=FIELD, recordings=recordings)
    held = recordings.held_bytes
    other = Clips(files[:4], (1.1,), receptive_field=FIELD, recordings=recordings)
    assert recordings.held_bytes == held == 4 * sum(map(sum, one.lengths))
    assert other[2][0] is one[2][1]


def test_a_process_that_starts_afresh_decodes_for_itself(manifest: Path) -> None:
    speech = _speech(manifest)
    copied = pickle.loads(pickle.dumps(speech.clips))
    assert copied.recordings.held_bytes == 0 < speech.clips.recordings.held_bytes
    assert np.array_equal(copied[3][1], speech.clips[3][1])


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_the_header_tells_the_length_that_decoding_gives(rate: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(rate)
    speeds = (0.5, 0.85, 0.9, 0.95, 1.0, 1.05, 1.15, 2.0)
    paths = []
    for number, samples in enumerate(rng.integers(4_000, 60_000, size=12)):
        paths.append(tmp_path / f"{number}.flac")
        write_flac(paths[-1], rng.uniform(-0.5, 0.5, samples).astype(np.float32), sample_rate=rate)
    clips = Clips(paths, speeds, receptive_field=FIELD, recordings=Recordings(1))
    for versions, lengths in zip(clips, clips.lengths, strict=True):
        assert [len(version) for version in versions] == lengths


def test_a_recording_that_is_too_short_is_named_before_anything_is_decoded(
    manifest: Path,
) -> None:
    short = manifest.parent / "7.flac"
    write_flac(short, np.random.default_rng(0).uniform(-0.5, 0.5, 900).astype(np.float32))
    silent = manifest.parent / "6.flac"  # which decoding would refuse first
    soundfile.write(silent, np.zeros(8_000, np.float32), 16_000)
    with pytest.raises(LpaError, match=r"7\.flac: 692 samples .* the model takes 720"):
        Clips([silent, short], (1.0, 1.3), receptive_field=FIELD)


def test_a_file_that_is_no_audio_is_named(manifest: Path) -> None:
    (manifest.parent / "7.flac").write_bytes(b"no audio")
    with pytest.raises(LpaError, match=r"7\.flac: expected an audio file"):
        _speech(manifest, memory_bytes=1)


def test_silence_in_a_large_set_is_named_when_its_turn_comes(manifest: Path) -> None:
    soundfile.write(manifest.parent / "7.flac", np.zeros(8_000, np.float32), 16_000)
    speech = _speech(manifest, memory_bytes=1)
    with pytest.raises(LpaError, match=r"7\.flac: silent"):
        speech.training_batch([(7, 0)], seed=(0,), noise_share=0.0)


def test_a_set_without_utterances_is_refused() -> None:
    with pytest.raises(LpaError, match="found no utterance"):
        SpeechSet([], VOCABULARY, receptive_field=FIELD)


def test_places_outside_the_set_are_no_clips(manifest: Path) -> None:
    clips = _speech(manifest).clips
    assert len(clips) == 12
    assert np.array_equal(clips[-1][-1], clips[11][3])
    with pytest.raises(IndexError):
        clips[12]
    with pytest.raises(IndexError):
        clips[0][4]
