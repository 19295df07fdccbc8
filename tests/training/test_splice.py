"""Alignment against every path there is; cuts in silence only; spliced speech of known words."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from lpa_export.errors import LpaError
from lpa_export.formats.audio import load_audio
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.formats.speech import Utterance, load_utterances
from lpa_export.training.align import Alignment, align, cuts
from lpa_export.training.splice import SHORTEST, splice

BLANK = 0


def collapse(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label != BLANK]


@pytest.mark.parametrize("labels", [[1], [1, 2], [1, 1], [2, 1, 2]])
def test_alignment_is_the_best_of_all_paths(labels: list[int]) -> None:
    log_probs = np.log(np.random.default_rng(len(labels)).dirichlet(np.ones(3), size=6))
    paths = [p for p in itertools.product(range(3), repeat=6) if collapse(p) == labels]
    scores = [sum(log_probs[time, label] for time, label in enumerate(path)) for path in paths]
    best = paths[int(np.argmax(scores))]
    found = align(log_probs, labels, blank=BLANK)
    assert found.score == pytest.approx(max(scores) / 6)
    for place, (first, last) in enumerate(found.frames):
        assert all(best[time] == labels[place] for time in range(first, last + 1))
    assert sum(last - first + 1 for first, last in found.frames) == 6 - best.count(BLANK)


def test_labels_that_do_not_fit_are_refused() -> None:
    log_probs = np.log(np.full((3, 3), 1 / 3))
    with pytest.raises(LpaError, match="do not fit"):
        align(log_probs, [1, 1, 1], blank=BLANK)


def test_a_cut_lies_in_silence_or_is_not_made() -> None:
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(16000).astype(np.float32)
    sound[5000:5600] *= 0.01
    frames = np.array([(10, 12), (14, 16), (19, 20), (30, 31), (33, 33), (36, 37)])
    labels = [2, 1, 3, 2, 1, 3]
    places = cuts(sound, Alignment(frames, 0.0), labels, delimiter=1, stride=320)
    assert places[0] == 0
    assert places[-1] == len(sound)
    assert places[1] is not None
    assert 5000 <= places[1] <= 5600
    assert places[2] is None


@pytest.fixture(scope="module")
def spoken() -> list[Utterance]:
    """Six demo utterances as if of one speaker."""
    utterances = [u for u in load_utterances(None) if len(u.text.split()) > 3][:6]
    return [Utterance(u.id, u.audio, u.text, "one", u.duration) for u in utterances]


def test_spliced_speech_is_made_of_the_pieces_of_its_speaker(
    tmp_path: Path, spoken: list[Utterance]
) -> None:
    model = load_checkpoint(None)
    made = [
        splice(model.model, model.vocabulary, spoken, tmp_path / name, count=8, seed=seed)
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    ]
    texts = [[json.loads(line)["text"] for line in path.read_text().splitlines()] for path in made]
    assert texts[0] == texts[1] != texts[2]
    words = {word for utterance in spoken for word in utterance.text.split()}
    utterances = load_utterances(made[0])
    assert {word for text in texts[0] for word in text.split()} <= words
    assert {utterance.speaker for utterance in utterances} == {"one"}
    assert not set(texts[0]) <= {utterance.text for utterance in spoken}
    for utterance, other in zip(utterances, load_utterances(made[1]), strict=True):
        waveform = load_audio(utterance.audio)
        assert len(waveform) >= SHORTEST
        assert np.array_equal(waveform, load_audio(other.audio))
        assert utterance.duration == pytest.approx(len(waveform) / 16000, abs=1e-3)


def test_speech_without_speakers_is_refused(tmp_path: Path, spoken: list[Utterance]) -> None:
    model = load_checkpoint(None)
    nobody = [Utterance(u.id, u.audio, u.text, None, u.duration) for u in spoken]
    with pytest.raises(LpaError, match="speaker"):
        splice(model.model, model.vocabulary, nobody, tmp_path / "out", count=1, seed=0)
    assert not list(tmp_path.iterdir())
