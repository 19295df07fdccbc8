import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import Frames
from lpa_export.runtimes.pieces import cut_pieces, logits_in_pieces

FRAMES = Frames((400, 3, 3), (160, 2, 1), hop=320, receptive_field=1360)


def words(rng: np.random.Generator, *, word: int, pause: int, count: int) -> np.ndarray:
    """Noise of ``word`` samples and silence of ``pause`` in turn."""
    speech = rng.normal(0, 0.1, (count, word)).astype(np.float32)
    return np.concatenate([speech, np.zeros((count, pause), np.float32)], axis=1).ravel()


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1360, 200_000),
    longest=st.integers(36_000, 90_000),
    seed=st.integers(0, 9),
)
def test_every_frame_belongs_to_one_piece_that_hears_it(
    samples: int, longest: int, seed: int
) -> None:
    waveform = np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)
    found = cut_pieces(waveform, longest=longest, frames=FRAMES)
    assert found[0].frames[0] == 0
    assert found[-1].frames[1] == FRAMES.count(samples)
    for piece, following in itertools.pairwise(found):
        assert piece.frames[1] == following.frames[0]
    for piece in found:
        start, end = piece.samples
        assert 0 <= start < end <= samples
        assert end - start <= longest
        assert start % FRAMES.hop == 0
        first = start // FRAMES.hop
        heard = FRAMES.count(end - start)
        assert first <= piece.frames[0] < piece.frames[1] <= first + heard


def test_seams_lie_in_the_pauses() -> None:
    waveform = words(np.random.default_rng(1), word=24_000, pause=8_000, count=12)
    found = cut_pieces(waveform, longest=96_000, frames=FRAMES)
    assert len(found) > 2
    for piece in found[1:]:
        place = piece.frames[0] * FRAMES.hop % 32_000
        assert 24_000 <= place < 32_000


def test_a_piece_hears_beyond_what_it_speaks_for() -> None:
    waveform = np.random.default_rng(2).normal(0, 0.1, 160_000).astype(np.float32)
    first, second, *_ = cut_pieces(waveform, longest=64_000, frames=FRAMES, overlap=25)
    assert second.samples[0] == (second.frames[0] - 25) * FRAMES.hop
    assert first.samples[1] == (first.frames[1] + 24) * FRAMES.hop + FRAMES.receptive_field


def test_a_recording_that_fits_stays_whole() -> None:
    waveform = np.ones(50_000, np.float32)
    (piece,) = cut_pieces(waveform, longest=50_000, frames=FRAMES)
    assert piece.samples == (0, 50_000)


@pytest.mark.parametrize(
    ("samples", "longest", "what"), [(100, 90_000, "no frame"), (90_000, 20_000, "too short")]
)
def test_what_cannot_be_cut_is_refused(samples: int, longest: int, what: str) -> None:
    with pytest.raises(LpaError, match=what):
        cut_pieces(np.ones(samples, np.float32), longest=longest, frames=FRAMES)


def test_frames_of_all_pieces_are_those_of_one_pass_where_a_model_has_no_context() -> None:
    """A model whose frame is its own first sample: a seam shows nowhere."""
    waveform = np.random.default_rng(5).normal(0, 0.1, 150_000).astype(np.float32)

    def logits(heard: np.ndarray) -> np.ndarray:
        return heard[: FRAMES.count(len(heard)) * FRAMES.hop : FRAMES.hop, None]

    pieces = cut_pieces(waveform, longest=40_000, frames=FRAMES)
    found = logits_in_pieces(waveform, pieces, hop=FRAMES.hop, logits=logits)
    assert len(pieces) > 3
    np.testing.assert_array_equal(found, logits(waveform))


def test_a_model_that_gives_too_few_frames_is_found_out() -> None:
    waveform = np.zeros(100_000, np.float32)
    pieces = cut_pieces(waveform, longest=60_000, frames=FRAMES)
    with pytest.raises(LpaError, match=r"the model gave 3 frames for \d+ samples"):
        logits_in_pieces(waveform, pieces, hop=FRAMES.hop, logits=lambda _: np.zeros((3, 2)))
