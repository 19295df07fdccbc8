"""Synthetic speech: what is said, and that demo and training never share a text."""

import json
import shutil
from pathlib import Path

import pytest

from lpa_export.formats.audio import load_audio
from lpa_export.formats.speech import demo_manifest
from lpa_export.training.synthesis import (
    demo_utterances,
    sample,
    synthesise,
    training_utterances,
)
from lpa_export.training.teacher import CHARACTERS


def test_no_demo_text_is_in_training() -> None:
    demo = {utterance.text for utterance in demo_utterances()}
    assert demo.isdisjoint(utterance.text for utterance in training_utterances())


def test_the_same_seed_draws_the_same_utterances() -> None:
    assert list(sample(30, seed=5, prefix="x")) == list(sample(30, seed=5, prefix="x"))


def test_every_text_can_be_encoded() -> None:
    for utterance in training_utterances(300):
        assert CHARACTERS.decode(CHARACTERS.encode(utterance.text)) == utterance.text


def test_the_shipped_demo_set_is_what_the_script_draws() -> None:
    rows = [json.loads(line) for line in demo_manifest().read_text().splitlines()]
    drawn = demo_utterances()
    assert [(r["text"], r["speaker"]) for r in rows] == [(u.text, u.voice) for u in drawn]
    assert len(rows) >= 40
    size = sum(path.stat().st_size for path in demo_manifest().parent.iterdir())
    assert size <= 2_000_000


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_writes_16_khz_flac_and_a_manifest(tmp_path: Path) -> None:
    manifest = synthesise(list(sample(2, seed=9, prefix="u")), tmp_path / "set")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        waveform = load_audio(manifest.parent / row["audio_filepath"])
        assert len(waveform) / 16_000 == pytest.approx(row["duration"], abs=1e-3)
